"""The page: limits, images and ratings, without a browser."""

import csv
import io
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from helpers.browser import write_clip, write_image
from helpers.pipelines import image_pipeline, speech_pipeline

from pipelines.cli import main
from pipelines.demo.serve import demo_options

gradio = pytest.importorskip("gradio", reason="the page needs gradio, the extra [demo]")

from pipelines.demo import limits, listening  # noqa: E402
from pipelines.demo.figures import code_map, several  # noqa: E402
from pipelines.demo.images import ImageAnswers  # noqa: E402
from pipelines.demo.sounds import anchor  # noqa: E402
from pipelines.demo.speech import SpeechAnswers  # noqa: E402


def test_the_options_of_the_command() -> None:
    options = demo_options(["compare=a", "results=r", "compare=b", "port=8000"])
    assert (options.compare, options.results, options.port) == (("a", "b"), Path("r"), 8000)
    for wrong in ("compare", "port=0", "port=x", "share=true", "results="):
        with pytest.raises(ValueError, match="is no option: give compare=TOKENIZER"):
            demo_options([wrong])


def test_mistakes_on_the_command_line_are_sentences(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def said(*words: str) -> str:
        with pytest.raises(SystemExit) as end:
            main(["demo", *words])
        assert end.value.code == 2
        return capsys.readouterr().err

    assert "is not the folder of a pipeline: give the folder `prior/pipeline`" in said(
        str(tmp_path)
    )
    assert "is neither a folder nor the name of a Hub repository" in said("nowhere")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert "the page needs gradio: pip install 'simvq-pipeline[demo]'" in said(str(tmp_path))


def test_what_is_uploaded_has_limits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image, clip = write_image(tmp_path / "i.png"), write_clip(tmp_path / "c.wav")
    assert limits.read_image(image, 1, 8).shape == (1, 1, 8, 8)
    assert limits.read_clip(clip, 8000, 40).shape == (1600,)
    (tmp_path / "text.png").write_text("no image")
    for read, words in [
        (lambda: limits.read_image(None, 1, 8), "there is no image yet"),
        (
            lambda: limits.read_image(str(tmp_path / "text.png"), 1, 8),
            "can't be read as an image",
        ),
        (lambda: limits.read_clip(image, 8000, 40), "can't be read as sound"),
        (
            lambda: limits.read_clip(write_clip(tmp_path / "s.wav", 0.001), 8000, 40),
            "shorter than one code",
        ),
        (
            lambda: limits.read_clip(write_clip(tmp_path / "l.wav", 21), 8000, 40),
            "has 21.0 seconds, and at most 20",
        ),
    ]:
        with pytest.raises(ValueError, match=words):
            read()
    monkeypatch.setattr(limits, "MOST_PIXELS", 399)
    with pytest.raises(ValueError, match="has 20 x 20 pixels, and at most 399"):
        limits.read_image(image, 1, 8)
    monkeypatch.setattr(limits, "MOST_BYTES", 100)
    with pytest.raises(ValueError, match=r"the file has 0\.0 MiB"):
        limits.read_image(image, 1, 8)


def test_an_answer_that_takes_too_long_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "ANSWER_SECONDS", 0.0)
    pieces = limits.errors_shown_while_streaming(lambda: iter([1, 2, 3]))()
    assert next(pieces) == 1
    with pytest.raises(gradio.Error, match="stopped after 0 seconds"):
        next(pieces)


def test_no_more_images_are_drawn_than_allowed_and_they_fill_code_by_code() -> None:
    answers = ImageAnswers(image_pipeline())
    images = list(answers.samples("a", 1000, 0, 1.0, 1.0))
    assert len(images) == 17 and images[0].size == several(torch.zeros(16, 1, 8, 8)).size
    grey = [(np.asarray(image) == 191).mean() for image in images]
    assert grey[0] > 0.8 and grey[-1] < 0.1 and grey == sorted(grey, reverse=True)


def test_a_reconstruction_comes_with_psnr_and_a_map_of_its_codes(tmp_path: Path) -> None:
    answers = ImageAnswers(image_pipeline())
    original, again, codes, text = answers.reconstructed(write_image(tmp_path / "i.png"))
    assert original.size == again.size == codes.size == (256, 256)
    assert re.match(r"\*\*PSNR -?\d+\.\d\d dB\*\* from 16 codes, 80 bits: 6 times fewer", text)
    same = np.asarray(code_map(torch.tensor([[3, 5], [5, 3]])))
    assert (same[0, 0] == same[-1, -1]).all() and (same[0, 0] != same[0, -1]).any()


def test_what_is_kept_of_an_image_stays() -> None:
    answers = ImageAnswers(image_pipeline(order="random"))
    codes, mask, _ = answers.sampled("a", 1)
    place: Any = type("Place", (), {"index": [255, 0]})()
    codes, mask, _ = answers.clicked(codes, mask, place)
    assert not mask[0, 3] and mask[:2].sum() == 7
    last = list(answers.completed(codes, mask, "b", 2, 0, 1.0, 1.0))[-1]
    out = answers.pipeline([1, 1], known=codes.expand(2, 4, 4), mask=mask)
    assert last.tobytes() == several(answers.decoded(out.codes)).tobytes()
    raster = ImageAnswers(image_pipeline())
    _, mask, _ = raster.clicked(codes, mask, place)
    assert mask.flatten().tolist() == [True] * 3 + [False] * 13


def test_speech_is_sampled_continued_and_filled_in(tmp_path: Path) -> None:
    for order in ("raster", "random"):
        answers = SpeechAnswers(speech_pipeline(order=order))
        clip = write_clip(tmp_path / "clip.wav", 0.1)
        given = ("x", "any", "", 3, 1.0, 1.0)
        sound, _ = answers.prompted(clip, 0.05, *given)
        samples, rate = soundfile.read(io.BytesIO(sound))
        assert rate == 8000 and len(samples) > 0.05 * 8000
        *_, text = answers.reconstructed(clip)
        assert text.startswith("**1.00 kbit/s**: 20 codes for 0.10 seconds at 8,000 Hz")
        sound, _ = answers.completed(clip, 0.03, 0.06, *given)
        assert len(soundfile.read(io.BytesIO(sound))[0]) == 800


def test_blind_stimuli_have_a_hidden_reference_and_an_anchor(tmp_path: Path) -> None:
    pipe = speech_pipeline()
    clip = write_clip(tmp_path / "clip.wav")
    clips = listening.stimuli(clip, {"one": pipe.tokenizer}, 8000)
    assert [*clips] == ["hidden reference", "anchor 2000 Hz", "one"]
    assert {len(waveform) for waveform in clips.values()} == {1600}
    high = torch.sin(2 * torch.pi * 3000 * torch.arange(1600) / 8000)
    assert anchor(high, 8000)[200:-200].abs().max() < 0.01
    torch.testing.assert_close(
        clips["anchor 2000 Hz"][200:-200], clips["hidden reference"][200:-200], atol=0.01, rtol=0
    )
    orders = {listening.shuffled([*clips], f"listener {i}", "ab") for i in range(40)}
    assert len(orders) == 6
    assert listening.shuffled([*clips], "me", "ab") == listening.shuffled([*clips], "me", "ab")


def test_ratings_are_added_to_a_file(tmp_path: Path) -> None:
    for name in ("first", "second"):
        trial = listening.Trial(name, "clip.wav", "ab", ("b", "a"))
        path = listening.write_ratings(tmp_path / "results", trial, [100.4, 30])
    rows = list(csv.DictReader(path.open()))
    assert [row["listener"] for row in rows] == ["first", "first", "second", "second"]
    assert [(r["place"], r["system"], r["rating"]) for r in rows[:2]] == [
        ("1", "b", "100"),
        ("2", "a", "30"),
    ]
