"""Clips read as a stream: batches, a run and its resumption, codes as without a stream, and what is refused."""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path

import datasets
import pytest
import torch
from datasets import Audio, ClassLabel
from helpers.runs import PowerCut, assert_same_run, cut_in_step
from helpers.speech_runs import RATE, run_config, words

import stage1_tokenizer.train
from common.codes import read_codes
from pipelines.evaluation.features import limited
from pipelines.evaluation.speech.data import read_clips
from stage1_tokenizer.batches import Batch, item_loader
from stage1_tokenizer.encode import encode
from stage1_tokenizer.speech.data import SpeechAugmentConfig, SpeechDataConfig, load_clips
from stage1_tokenizer.speech.encode import EncodeSpeechConfig
from stage1_tokenizer.train import train_tokenizer

WEIGHTS = "model/model.safetensors"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> SpeechDataConfig:
    """Fifteen tones in Parquet files, as the Hub has them: of the type Audio, with named labels and speakers."""
    folder = tmp_path_factory.mktemp("words")
    config = words(folder)
    for file in (config.train, config.validation):
        rows = datasets.Dataset.from_parquet(file)
        rows = rows.cast_column("speaker", ClassLabel(names=["speaker 0", "speaker 1"]))
        rows = rows.cast_column("label", ClassLabel(names=["0", "1", "2"]))
        rows = rows.cast_column("audio", Audio(decode=False))
        rows.to_parquet(str(folder / f"audio-{Path(file).name}"))
    files = {split: str(folder / f"audio-{split}.parquet") for split in ("train", "validation")}
    return SpeechDataConfig(source="parquet", streaming=True, shuffle_buffer=5, **files)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, data: SpeechDataConfig) -> Path:
    """The run folder of a finished run."""
    config = run_config(tmp_path_factory.mktemp("whole") / "run", data)
    train_tokenizer(config)
    return config.run_dir


def batches(data: SpeechDataConfig, count: int, **options: int) -> list[torch.Tensor]:
    clips, augment = load_clips(data, "train", sample_rate=RATE), SpeechAugmentConfig()
    load = partial(clips.training_item, augment=replace(augment, crop_seconds=0.25))
    loader: Iterator[Batch] = iter(item_loader(clips, load, batch_size=4, seed=0, **options))
    return [batch["waveforms"] for batch in islice(loader, count)]


def test_a_stream_gives_the_same_batches_resumed_and_shared(data: SpeechDataConfig) -> None:
    whole = batches(data, 8)
    first, second = (torch.cat(whole[start : start + 3]) for start in (0, 3))  # epochs of 12
    assert not torch.equal(first, second)
    assert all(map(torch.equal, batches(data, 4, done=16), whole[4:]))
    shares = [batches(data, 3, rank=rank, world=2) for rank in range(2)]
    for step in range(3):
        merged = torch.stack([share[step] for share in shares], 1).flatten(0, 1)
        assert torch.equal(merged, whole[step])


def test_a_run_on_a_stream_that_is_cut_goes_on_bit_for_bit(
    trained: Path, tmp_path: Path, data: SpeechDataConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = run_config(tmp_path / "run", data)
    with monkeypatch.context() as patch, pytest.raises(PowerCut):
        cut_in_step(patch, stage1_tokenizer.train, 3)
        train_tokenizer(config)
    train_tokenizer(config)
    assert_same_run(config.run_dir, trained, WEIGHTS)


def test_codes_of_a_stream_are_those_of_its_files(
    trained: Path, tmp_path: Path, data: SpeechDataConfig
) -> None:
    configs = [
        EncodeSpeechConfig(
            tokenizer=trained / "model",
            out=tmp_path / f"codes-{streaming}",
            data=replace(data, streaming=streaming),
            shard_items=5,
        )
        for streaming in (True, False)
    ]
    ours, theirs = map(encode, configs)
    for key in ("rows", "bad", "shards", "histogram", "classes", "speakers"):
        assert ours[key] == theirs[key]
    assert ours["speakers"] == ["speaker 0", "speaker 1"] and ours["rows"]["train"] == 12
    assert len(ours["shards"]) == 4
    tables = [read_codes(config.out, "train")[:] for config in configs]
    assert tables[0] == tables[1]
    for name in ours["shards"]:
        assert (configs[0].out / name).read_bytes() == (configs[1].out / name).read_bytes()


def test_what_is_scored_of_a_stream_is_its_clips(data: SpeechDataConfig) -> None:
    stream = load_clips(data, "validation", sample_rate=RATE)
    clips, whole = (
        read_clips(load_clips(config, "validation", sample_rate=RATE))
        for config in (data, replace(data, streaming=False))
    )
    assert all(map(torch.equal, clips.waveforms, whole.waveforms)) and len(clips) == 3
    assert clips.texts == whole.texts and torch.equal(clips.speakers, whole.speakers)
    assert stream.counted("clips") == "a stream of clips"
    assert len(read_clips(limited(stream, 2, seed=0))) == 2
    said = load_clips(data, "train", sample_rate=16_000).conversions()
    assert said == "parquet: clips at 8000 Hz are resampled to 16000 Hz"


def test_what_a_stream_can_not_do_is_told(tmp_path: Path, data: SpeechDataConfig) -> None:
    plain = replace(words(tmp_path), streaming=True)  # labels are numbers, speakers are names
    for config, told in (
        (plain, r"data\.label_column='label' .* set data\.streaming=false or data\.label_column"),
        (replace(plain, label_column=None), r"streaming=false or data\.speaker_column=null"),
        (replace(data, validation="10%"), r"a share of a stream: set data\.streaming=false"),
        (replace(data, train=f"{data.train}[:5]"), r"can't be sliced.*set data\.source and"),
    ):
        with pytest.raises(ValueError, match=told):
            load_clips(config, "train", sample_rate=RATE)
    alone = load_clips(
        replace(plain, label_column=None, speaker_column=None), "train", sample_rate=RATE
    )
    assert [alone.text(row) for row in alone.rows][:2] == ["word 0", "word 1"]
