"""train-prior on codes that end: a run, its resumption, the pipeline, WAV files, continuation."""

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr
import torch
from helpers.code_runs import run_config, write_counting
from helpers.compiled import cut_and_resumed
from helpers.runs import PowerCut, assert_same_run, cut_in_step
from helpers.speech_runs import MODEL, RATE

import stage2_prior.train
from common.manifest import write_manifest
from common.tracking import read_metrics
from pipelines.generation.speech import SpeechGenerationPipeline
from pipelines.generation.speech_samples import SpeechSamples
from pipelines.sample import SampleSpeechConfig, sample
from pipelines.verbs import train_prior
from stage2_prior import Prior
from stage2_prior.build import load_prior

HOP = MODEL.hop


@pytest.fixture(scope="module")
def codes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a random tokenizer, and codes that go up by one from their label."""
    return write_counting(tmp_path_factory.mktemp("speech"))


@pytest.fixture(scope="module")
def trained(codes: Path) -> Path:
    """The same folder with a finished run `prior`."""
    assert "nats per code" in train_prior(run_config(codes, "prior"))
    return codes


def test_a_run_cut_inside_a_step_goes_on_bit_for_bit(
    trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = run_config(trained, "cut")
    with monkeypatch.context() as patch, pytest.raises(PowerCut):
        cut_in_step(patch, stage2_prior.train, 6)
        train_prior(config)
    train_prior(config)
    assert_same_run(config.run_dir, trained / "prior", "best/model.safetensors")


def test_parts_of_a_batch_make_the_step_of_the_whole(codes: Path) -> None:
    """Whatever their lengths: each part counts as its targets do."""
    runs = {name: run_config(codes, name, dropout=0.0, steps=6) for name in ("whole", "parts")}
    stage2_prior.train.train_prior(runs["whole"])
    stage2_prior.train.train_prior(dataclasses.replace(runs["parts"], accumulation=4))
    whole, parts = (read_metrics(config.run_dir) for config in runs.values())
    for a, b in zip(whole, parts, strict=True):
        for key in ("loss/train", "optim/grad_norm", "heldout/nats_per_code"):
            assert (key in a) == (key in b)
            assert a.get(key, 0) == pytest.approx(b.get(key, 0), rel=1e-4), (a["step"], key)


def test_a_run_in_random_order_goes_on_bit_for_bit(
    codes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its share of random orders falls with the step."""
    whole, cut = (run_config(codes, f"annealed-{name}", order="annealed") for name in ("a", "b"))
    train_prior(whole)
    with monkeypatch.context() as patch, pytest.raises(PowerCut):
        cut_in_step(patch, stage2_prior.train, 6)
        train_prior(cut)
    train_prior(cut)
    assert_same_run(cut.run_dir, whole.run_dir, "best/model.safetensors")
    assert load_prior(whole.run_dir / "best").config.order == "annealed"


@pytest.mark.slow
@pytest.mark.parametrize("checkpointing", [False, True])
def test_a_run_goes_on_compiled_bit_for_bit(trained: Path, checkpointing: bool) -> None:
    """Of sequences of unequal lengths."""
    name = f"compiled-{checkpointing}"
    config = run_config(trained, name, checkpointing=checkpointing)
    cut_and_resumed(stage2_prior.train, stage2_prior.train.train_prior, config, first=False)
    assert_same_run(config.run_dir, trained / "prior", "best/model.safetensors")


def test_every_epoch_tells_nats_per_code_and_bits_per_second(trained: Path) -> None:
    rows = [r for r in read_metrics(trained / "prior") if "heldout/nats_per_code" in r]
    assert [row["step"] for row in rows] == [3, 6, 9, 12]
    assert rows[-1]["heldout/nats_per_code"] < rows[0]["heldout/nats_per_code"]
    codes_alone = sum(3 + i for i in range(6))
    per_code = rows[-1]["heldout/bits_per_code"] * (codes_alone + 6) / codes_alone
    assert (rows[-1]["heldout/codes"], rows[-1]["heldout/clips"]) == (codes_alone, 6)
    assert rows[-1]["heldout/bits_per_second"] == pytest.approx(per_code * RATE / HOP, rel=1e-5)


def test_a_prior_knows_the_longest_clip_and_the_characters(trained: Path) -> None:
    prior = Prior.from_pretrained(trained / "prior" / "best").config
    assert (prior.length, prior.min_codes, prior.max_codes) == (12, 1, 18)
    config = run_config(trained, "text", condition="text", steps=1, style="gpt2", max_codes=15)
    train_prior(config)
    pipeline = SpeechGenerationPipeline.from_pretrained(trained / "text" / "pipeline")
    prior = pipeline.prior.config
    assert (prior.characters, prior.text_length, prior.max_codes) == ("ehnort", 5, 15)
    (waveform,) = pipeline(texts=["Three"]).waveforms
    assert len(waveform) % HOP == 0


def test_samples_are_wav_files_of_the_right_length_and_rate(trained: Path) -> None:
    folder = trained / "prior" / "pipeline"
    config = SampleSpeechConfig(
        pipeline=folder, out=trained / "samples", count=8, batch_size=3, guidance=1.5
    )
    out = sample(config)
    about = json.loads((out / "sample.json").read_text())
    assert about["labels"] == [0, 1, 2, 0, 1, 2, 0, 1] and about["complete"]
    assert about["speakers"] == [0, 0, 0, 1, 1, 1, 0, 0] and about["modality"] == "speech"
    pipeline = SpeechGenerationPipeline.from_pretrained(folder)
    output = pipeline(about["labels"], about["speakers"], seeds=about["seeds"], guidance=1.5)
    assert output.sample_rate == RATE and output.seeds == list(range(8))
    for i, (waveform, row) in enumerate(zip(output.waveforms, output.codes, strict=True)):
        info = soundfile.info(out / f"{i:06d}.wav")
        assert (info.samplerate, info.channels, info.subtype) == (RATE, 1, "PCM_16")
        assert info.frames == len(waveform) == len(row) * HOP
        written = torch.from_numpy(soundfile.read(out / f"{i:06d}.wav", dtype="float32")[0])
        torch.testing.assert_close(written, waveform, atol=2**-14, rtol=0)
    with pytest.raises(ValueError, match="label 3: there are 3 labels, counted from 0"):
        sample(dataclasses.replace(config, labels=(3,), out=trained / "other"))
    assert not (trained / "other").exists()


def test_a_clip_is_continued(trained: Path) -> None:
    pipeline = SpeechGenerationPipeline.from_pretrained(trained / "prior" / "pipeline")
    clips = [0.1 * torch.randn(3 * HOP + 7), 0.1 * torch.randn(HOP)]
    output = pipeline(prompts=clips, seeds=[4, 5], min_codes=6)
    for clip, codes, waveform in zip(clips, output.codes, output.waveforms, strict=True):
        start = pipeline.encoded(clip)
        assert len(start) == len(clip) // HOP and torch.equal(codes[: len(start)], start)
        assert len(waveform) == len(codes) * HOP >= 6 * HOP
    with pytest.raises(ValueError, match="shorter than one code, 40 samples"):
        pipeline(prompts=[torch.zeros(39)])


def test_samples_continue_the_clips_of_a_folder(trained: Path, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    (tmp_path / "notes.txt").write_text("not sound")
    for name, rate, channels in (("b.wav", RATE, 1), ("a.wav", 2 * RATE, 2)):
        samples = 0.1 * random.standard_normal((rate * 6 * HOP // RATE, channels))
        soundfile.write(tmp_path / name, samples, rate)
    config = SampleSpeechConfig(
        pipeline=trained / "prior" / "pipeline",
        out=tmp_path / "whole",
        count=5,
        batch_size=5,
        prompts=tmp_path,
    )
    out = sample(config)
    about = json.loads((out / "sample.json").read_text())
    assert about["prompts"] == ["a.wav", "b.wav"] and about["prompt_seconds"] is None
    alone = sample(dataclasses.replace(config, out=tmp_path / "alone", batch_size=1))
    pipeline = SpeechGenerationPipeline.from_pretrained(config.pipeline)
    starts = []
    for name in about["prompts"]:
        samples, rate = soundfile.read(tmp_path / name, dtype="float32", always_2d=True)
        mono = samples.mean(1) if rate == RATE else soxr.resample(samples.mean(1), rate, RATE)
        starts.append(torch.from_numpy(mono))
    output = pipeline(
        about["labels"],
        about["speakers"],
        prompts=[starts[i % 2] for i in range(5)],
        seeds=range(5),
    )
    for i, (codes, waveform) in enumerate(zip(output.codes, output.waveforms, strict=True)):
        assert torch.equal(codes[:6], pipeline.encoded(starts[i % 2])) and len(codes) >= 6
        for folder in (out, alone):  # in a batch of five and of one
            written, _ = soundfile.read(folder / f"{i:06d}.wav", dtype="float32")
            assert written == pytest.approx(waveform.numpy(), abs=2**-14)
    short = dataclasses.replace(config, out=tmp_path / "short", prompt_seconds=2 * HOP / RATE)
    prompts = SpeechSamples(short, pipeline).prompts
    assert prompts is not None and [len(part) for part in prompts.waveforms] == [2 * HOP, 2 * HOP]
    with pytest.raises(ValueError, match="was made with prompts"):
        (tmp_path / "c.wav").write_bytes((tmp_path / "b.wav").read_bytes())
        sample(config)


def test_prompts_that_can_not_be_continued_are_told_in_words(trained: Path, tmp_path: Path) -> None:
    config = SampleSpeechConfig(
        pipeline=trained / "prior" / "pipeline", out=tmp_path / "out", count=1, prompts=tmp_path
    )

    def told(config: SampleSpeechConfig) -> str:
        with pytest.raises(ValueError) as caught:
            sample(config)
        assert "\n" not in str(caught.value) and not config.out.exists()
        return str(caught.value)

    assert "has no audio files" in told(config)
    assert "has no audio files" in told(dataclasses.replace(config, prompts=tmp_path / "nowhere"))
    file = tmp_path / "a.wav"
    file.write_text("not sound")
    assert f"{file} can't be read as audio" in told(config)
    for size, codes in ((HOP - 1, 0), (18 * HOP, 18)):
        soundfile.write(file, np.zeros(size), RATE)
        assert f"gives {codes} whole codes" in told(config)
    soundfile.write(file, np.zeros(9 * HOP), RATE)
    assert "gives 0 whole codes" in told(dataclasses.replace(config, prompt_seconds=HOP / RATE / 2))
    for changes in ({"prompt_seconds": 0.0}, {"prompts": None, "prompt_seconds": 1.0}):
        with pytest.raises(ValueError, match="set prompts or prompt_seconds"):
            dataclasses.replace(config, **changes)


@pytest.mark.parametrize(
    ("manifest", "changes", "words"),
    [
        ({}, {"min_codes": 30}, "min_codes=30 and max_codes=18"),
        (
            {"speakers": []},
            {},
            "condition='label\\+speaker', but the items of .* have no speaker",
        ),
        (
            {"grid": [3, 4]},
            {"max_codes": 15},
            "holds grids of codes, .*: leave min_codes and max_codes",
        ),
        ({"tokenizer_sha256": "0" * 64}, {}, "holds codes of tokenizer 0000000000000000"),
    ],
)
def test_what_does_not_fit_is_told_in_words(
    codes: Path, tmp_path: Path, manifest: dict, changes: dict, words: str
) -> None:
    shutil.copytree(codes / "codes", tmp_path / "codes")
    own = json.loads((codes / "codes" / "manifest.json").read_text())
    write_manifest(tmp_path / "codes" / "manifest.json", own | manifest)
    config = run_config(codes, "wrong", codes=tmp_path / "codes", **changes)
    with pytest.raises(ValueError, match=words):
        train_prior(config)
