"""train-tokenizer and encode for speech: a run, its resumption, what is masked, and the shards."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from accelerate import Accelerator
from helpers.runs import PowerCut, assert_same_run, cut_in_step, without_times
from helpers.speech_runs import LOSS, MODEL, RATE, run_config, words

import stage1_tokenizer.train
from common.codes import code_files, read_codes
from common.files import read_json
from stage1_tokenizer import SpeechTokenizer
from stage1_tokenizer.batches import bad_items_of
from stage1_tokenizer.codebook_usage import CodebookUse, position_share, quantization_error
from stage1_tokenizer.encode import encode
from stage1_tokenizer.quantizers import CodeSpec
from stage1_tokenizer.speech.data import SpeechDataConfig, load_clips
from stage1_tokenizer.speech.encode import EncodeSpeechConfig, bounded
from stage1_tokenizer.speech.training import SpeechTraining
from stage1_tokenizer.train import train_tokenizer

WITHOUT_DISCRIMINATOR = dataclasses.replace(LOSS, adversarial_weight=0.0)
CONFIGS = Path(__file__).parents[2] / "configs"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> SpeechDataConfig:
    return words(tmp_path_factory.mktemp("words"))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, data: SpeechDataConfig) -> Path:
    """The run folder of a finished run."""
    config = run_config(tmp_path_factory.mktemp("whole") / "run", data)
    assert train_tokenizer(config) == config.run_dir / "model"
    return config.run_dir


def test_a_run_leaves_a_model_a_log_examples_and_sound(trained: Path) -> None:
    last = without_times(trained)[-1]
    assert last["step"] == 4 and last["optim/skipped"] == 0 and last["data/bad"] == 0
    for name in ("mel", "adversarial", "feature", "codebook", "commitment", "discriminator"):
        assert np.isfinite(last[f"loss/{name}"])
    assert "loss/adversarial" not in without_times(trained)[1]  # it starts at step 2
    examples = sorted(p.name for p in (trained / "examples").iterdir())
    assert examples[-2:] == ["step-00000004", "step-00000004.png"]
    sounds = sorted(p.name for p in (trained / "examples" / "step-00000004").iterdir())
    assert sounds == [
        f"{i}-{name}.wav" for i in range(3) for name in ("original", "reconstruction")
    ]
    files = [trained / "examples" / "step-00000004" / name for name in sounds[4:]]
    original, reconstruction = (soundfile.info(file) for file in files)
    assert original.frames == reconstruction.frames == 400 + 2 * 401 and original.samplerate == RATE
    model = SpeechTokenizer.from_pretrained(trained / "model")
    assert model.config == MODEL


def test_a_run_stopped_inside_a_step_resumes_bit_for_bit(
    trained: Path, tmp_path: Path, data: SpeechDataConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = run_config(tmp_path / "run", data)
    discriminator_loss, calls = SpeechTraining.discriminator_loss, []

    def stops_at_the_second_call(self: SpeechTraining, *args: object) -> torch.Tensor:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return discriminator_loss(self, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(SpeechTraining, "discriminator_loss", stops_at_the_second_call)
    with pytest.raises(KeyboardInterrupt):
        train_tokenizer(config)
    monkeypatch.undo()
    assert not (config.run_dir / "model").exists()
    train_tokenizer(config)
    state = "checkpoints/step-00000004/state.safetensors"
    assert_same_run(config.run_dir, trained, "model/model.safetensors", state)


def test_what_is_past_an_items_end_is_not_counted(trained: Path, data: SpeechDataConfig) -> None:
    clips = load_clips(data, "train", sample_rate=RATE)
    crops = [min(len(clips.decode(row)), RATE // 4) for row in clips.rows]
    codes_of_an_epoch = sum(-(-length // MODEL.hop) for length in crops)
    # steps of 4 items: three are an epoch of 12
    assert without_times(trained)[2]["codebook/positions"] == codes_of_an_epoch
    use = CodebookUse(CodeSpec((4,), "flat"), torch.device("cpu"))
    use.update(torch.tensor([[1, 2, -1], [1, -1, -1]]), 0)
    assert use.metrics()["codebook/positions"] == use.metrics()["codebook/positions_epoch"] == 3
    assert use.epoch_counts.tolist() == [0, 2, 1, 0] and use.metrics()["codebook/used"] == 0.5


def test_held_out_clips_pass_the_encoder_once(tmp_path: Path, data: SpeechDataConfig) -> None:
    modality = SpeechTraining(run_config(tmp_path, data), torch.device("cpu"))
    passes: list[int] = []
    modality.tokenizer.eval().encoder.register_forward_hook(lambda *_: passes.append(1))
    evaluated = modality.evaluate()
    assert len(passes) == 1
    waveforms, lengths = modality.held_out, modality.held_out_lengths
    with torch.no_grad():
        latents = modality.latents({"waveforms": waveforms, "lengths": lengths})[None]
        decoded = modality.tokenizer.decode(
            modality.tokenizer.encode(waveforms, lengths), modality.tokenizer.counts(lengths)
        )
    expected = torch.zeros_like(waveforms)
    for i, length in enumerate(lengths.tolist()):
        expected[i, :length] = decoded[i, :length]
    assert evaluated == pytest.approx(
        {
            "heldout/mel": float(modality.heldout_mel(expected, waveforms, lengths)),
            "heldout/quantization_error": quantization_error(modality.tokenizer.quantizer, latents),
            "latents/position_share": position_share(
                modality.tokenizer.latents(waveforms, lengths).mT,
                modality.tokenizer.counts(lengths),
            ),
        },
        rel=1e-5,
    )


def test_the_codebook_is_initialised_from_what_is_inside(
    tmp_path: Path, data: SpeechDataConfig
) -> None:
    torch.manual_seed(0)
    config = dataclasses.replace(run_config(tmp_path, data), loss=WITHOUT_DISCRIMINATOR)
    modality = SpeechTraining(config, torch.device("cpu"))
    waveforms, lengths = torch.randn(2, 400), torch.tensor([400, 90])
    with torch.no_grad():
        vectors = modality.latents({"waveforms": waveforms, "lengths": lengths})
        alone = [
            modality.tokenizer.latents(waveforms[i : i + 1, :n]) for i, n in enumerate((400, 90))
        ]
    assert modality.discriminator is None
    torch.testing.assert_close(vectors, torch.cat([z[0].mT for z in alone]), atol=1e-5, rtol=0)


def test_silent_clips_are_left_out_and_broken_ones_stop_the_run(tmp_path: Path) -> None:
    def epoch(name: str, **which: tuple[int, ...]) -> list[dict[str, Any]]:
        config = run_config(tmp_path, words(tmp_path / name, **which))
        modality = SpeechTraining(
            dataclasses.replace(config, loss=WITHOUT_DISCRIMINATOR), torch.device("cpu")
        )
        batches = modality.batches(Accelerator(), batch_size=4, seed=0, done=0, workers=0)
        bad, epoch = bad_items_of(modality.train_set), [next(batches) for _ in range(3)]
        for batch in epoch:
            bad.count(batch["bad"], batch["epoch"], 4)
        return epoch

    loud = torch.cat([batch["waveforms"] for batch in epoch("a", silent=(3, 4))])
    assert (loud.square().mean(1) > 0).all()
    epoch("b", broken=(3,))
    with pytest.raises(
        ValueError, match=r"[23] items of an epoch of 12 can't be decoded.* [34]\.wav"
    ):
        epoch("d", broken=(3, 4))
    with pytest.raises(ValueError, match=r"9 items tried .* set augment\.silence_db"):
        epoch("c", silent=tuple(range(12)))


def test_bad_and_silent_clips_are_counted_on_after_a_stop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two epochs of three steps, of which the second is cut."""
    data = words(tmp_path / "data", silent=(4, 8, 10), broken=(2,))
    whole, cut = (
        dataclasses.replace(run_config(tmp_path / name, data), steps=6, loss=WITHOUT_DISCRIMINATOR)
        for name in ("whole", "cut")
    )
    train_tokenizer(whole)
    with monkeypatch.context() as patch, pytest.raises(PowerCut):
        cut_in_step(patch, stage1_tokenizer.train, 5)
        train_tokenizer(cut)
    train_tokenizer(cut)
    assert_same_run(cut.run_dir, whole.run_dir, "model/model.safetensors")
    last = without_times(cut.run_dir)[-1]
    assert last["data/bad"] == 2 and last["data/unfit"] == 6


@pytest.mark.parametrize("kind", ["arrow", "parquet"])
def test_encode_writes_whole_clips_once(
    trained: Path, tmp_path: Path, data: SpeechDataConfig, kind: str
) -> None:
    config = EncodeSpeechConfig(
        tokenizer=trained / "model",
        out=tmp_path / "codes",
        data=data,
        shard_items=5,
        batch_size=2,
        format=kind,  # type: ignore[arg-type]
    )
    manifest = encode(config)
    files = code_files(config.out, "train")
    assert len(files) == 3 and manifest["rows"] == {"train": 12, "validation": 3}
    assert (manifest["modality"], manifest["sample_rate"], manifest["hop"]) == ("speech", RATE, 40)
    assert manifest["classes"] == ["0", "1", "2"]
    assert manifest["speakers"] == ["speaker 0", "speaker 1"]
    tokenizer = SpeechTokenizer.from_pretrained(trained / "model")
    clips = load_clips(data, "train", sample_rate=RATE)
    rows = read_codes(config.out, "train")
    assert manifest["positions"] == sum(map(len, rows["codes"])) == sum(manifest["histogram"])
    for i, row in enumerate(rows):
        waveform = clips.decode(clips[i])
        assert (row["item"], row["view"], row["label"], row["speaker"]) == (
            i,
            "whole",
            i % 3,
            i % 2,
        )
        assert row["text"] == f"word {i}" and row["samples"] == len(waveform)
        assert row["codes"] == tokenizer.encode(waveform[None])[0].tolist()
        decoded = tokenizer.decode(torch.tensor(row["codes"])[None])
        assert 0 <= decoded.shape[1] - len(waveform) < MODEL.hop
    # a shard that is missing is written again, and no other
    before = {file: (file.read_bytes(), file.stat().st_mtime_ns) for file in files}
    # also in a folder of the version whose data block held the crops
    older = {"data": manifest["data"] | {"crop_seconds": 0.25}, "complete": False}
    unfinished = read_json(config.out / "manifest.json") | older
    (config.out / "manifest.json").write_text(json.dumps(unfinished))
    files[1].unlink()
    assert encode(config) == manifest
    assert all(file.read_bytes() == content for file, (content, _) in before.items())
    kept = [file for file in files if file.stat().st_mtime_ns == before[file][1]]
    assert kept == [files[0], files[2]]
    with pytest.raises(ValueError, match="set out to another"):
        encode(dataclasses.replace(config, shard_items=6))


def test_a_long_clip_among_short_ones_is_encoded_by_itself() -> None:
    sizes = [3, 2, 50, 2, 3, 3]
    batches = [
        [len(w) for w in batch] for batch in bounded([torch.zeros(n) for n in sizes], most=9)
    ]
    assert batches == [[3, 2], [50], [2, 3, 3]]
