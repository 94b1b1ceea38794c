"""The page: limits, images and ratings by themselves, and all of it by clicks in a browser."""

import csv
import io
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from helpers.pages import ROOT
from helpers.pipelines import image_pipeline, speech_pipeline
from PIL import Image

from pipelines.cli import main
from pipelines.demo.serve import demo_options

gradio = pytest.importorskip("gradio", reason="the page needs gradio, the extra [demo]")

from pipelines.demo import limits, listening  # noqa: E402
from pipelines.demo.figures import code_map, several  # noqa: E402
from pipelines.demo.images import ImageAnswers  # noqa: E402
from pipelines.demo.sounds import anchor  # noqa: E402
from pipelines.demo.speech import SpeechAnswers  # noqa: E402

CHROMIUM = shutil.which("chromium")
in_browser = pytest.mark.skipif(
    CHROMIUM is None, reason="clicks need Chromium: apt-get install chromium"
)
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--use-fake-ui-for-media-stream",
    "--use-fake-device-for-media-stream",
]
"""The last two are a microphone that nobody has to speak into."""


def write_image(path: Path, side: int = 20) -> str:
    pixels = np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return str(path)


def write_clip(path: Path, seconds: float = 0.2, rate: int = 8000) -> str:
    times = np.arange(round(seconds * rate)) / rate
    soundfile.write(path, 0.5 * np.sin(2 * np.pi * 440 * times), rate)
    return str(path)


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

    assert "has no pipeline.json: give the folder `pipeline/`" in said(str(tmp_path))
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
    pieces = limits.told_along(lambda: iter([1, 2, 3]))()
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


@contextmanager
def served(folder: Path, pipeline: Path, *options: str) -> Iterator[str]:
    """The address of a page that `simvq demo` serves; afterwards it has left nothing behind but in `results`."""
    home, temporary = folder / "home", folder / "tmp"
    home.mkdir()
    temporary.mkdir()
    env = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "TMPDIR": str(temporary),
        "HOME": str(home),
        "MPLCONFIGDIR": str(folder),
    }
    command = [sys.executable, "-m", "pipelines", "demo", str(pipeline), *options]
    server = subprocess.Popen(command, cwd=home, env=env, stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    try:
        address = re.match(
            r"(http://127\.0\.0\.1:\d+/) \(Ctrl-C stops it\)", server.stdout.readline()
        )
        assert address
        yield address[1]
        server.send_signal(signal.SIGINT)
        assert server.wait(30) == 0
    finally:
        server.kill()
    assert not [*home.iterdir()] and not [*temporary.iterdir()]


@contextmanager
def opened(address: str, width: int = 1280) -> Iterator[Any]:
    """The page in Chromium."""
    with pytest.importorskip("playwright.sync_api").sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = browser.new_page(viewport={"width": width, "height": 900})
        page.set_default_timeout(60_000)
        page.goto(address)
        yield page
        browser.close()


@pytest.mark.slow
@in_browser
def test_images_by_clicks(tmp_path: Path) -> None:
    image_pipeline(order="random").save_pretrained(tmp_path / "pipeline")
    other = tmp_path / "pipeline" / "tokenizer"
    image = write_image(tmp_path / "image.png")
    (tmp_path / "wrong.png").write_text("no image")
    with (
        served(tmp_path, tmp_path / "pipeline", f"compare={other}") as address,
        opened(address) as page,
    ):
        page.click("#draw")
        page.wait_for_selector("#samples img")
        page.get_by_role("tab", name="Reconstruct").click()
        page.set_input_files("#upload input[type=file]", image)
        page.wait_for_selector("#reconstruction img")
        assert re.search(r"PSNR -?\d+\.\d\d dB from 16 codes", page.inner_text("#psnr"))
        page.get_by_role("tab", name="Keep and draw").click()
        page.click("#complete")
        page.wait_for_selector("text=there is no image yet: upload one, or draw one")
        page.click("#own")
        page.wait_for_selector("#kept img")
        before = page.get_attribute("#kept img", "src")
        page.click("#kept img", position={"x": 5, "y": 5})
        page.wait_for_function(
            "before => document.querySelector('#kept img').src !== before", arg=before
        )
        page.click("#complete")
        page.wait_for_selector("#completed img")
        page.get_by_role("tab", name="Compare").click()
        page.set_input_files("#compared input[type=file]", image)
        page.wait_for_selector("#gallery img >> nth=2")
        assert str(other) in page.inner_text("#gallery")


@pytest.mark.slow
@in_browser
def test_speech_by_clicks_on_a_phone(tmp_path: Path) -> None:
    speech_pipeline().save_pretrained(tmp_path / "pipeline")
    clip, other = write_clip(tmp_path / "clip.wav"), tmp_path / "pipeline" / "tokenizer"
    options = (f"compare={other}", f"results={tmp_path / 'results'}")
    with served(tmp_path, tmp_path / "pipeline", *options) as address, opened(address, 390) as page:
        page.click("#draw")
        page.wait_for_selector(
            "#sample audio, #sample canvas, #sample .waveform-container", state="attached"
        )
        assert page.evaluate("document.documentElement.scrollWidth") <= 390

        def tab(name: str) -> None:
            if not page.get_by_role("tab", name=name).is_visible():
                page.click(".overflow-menu > button")
                page.locator(".overflow-dropdown button", has_text=name).click()
            else:
                page.get_by_role("tab", name=name).click()

        tab("Reconstruct")
        page.click("#upload [aria-label='Record audio']")
        page.click("#upload .record-button")
        page.wait_for_timeout(1500)
        page.click("#upload .stop-button:visible")
        page.wait_for_selector("#rate:has-text('kbit/s')")
        tab("Listen blind")
        page.fill("#listener textarea, #listener input", "me")
        page.set_input_files("#clip input[type=file]", clip)
        page.click("#begin")
        page.get_by_label("number input for Rating of sound 1").wait_for()
        loaded = "[...document.querySelectorAll('audio')].filter(a => a.duration > 0.1).length >= 5"
        page.wait_for_function(loaded)  # the reference and four sounds
        page.get_by_label("number input for Rating of sound 2").fill("80")
        page.click("#save")
        page.wait_for_selector("#said:has-text('sound 4 was')")
    rows = list(csv.DictReader((tmp_path / "results/listening.csv").open()))
    assert len(rows) == 4 and {row["listener"] for row in rows} == {"me"}
    assert {row["system"] for row in rows} == {
        "hidden reference",
        "anchor 2000 Hz",
        "this pipeline's",
        str(other),
    }
    assert [row["rating"] for row in rows] == ["50", "80", "50", "50"]
