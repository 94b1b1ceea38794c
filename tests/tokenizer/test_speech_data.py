"""Clips: the embedded words, folders and Parquet, crops, faults and what is said of them."""

import hashlib
import io
import math
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import datasets
import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from common.config import build
from common.seeding import generator_at
from stage1_tokenizer.data import BadItemError, UnfitItemError
from stage1_tokenizer.speech.data import (
    SpeechAugmentConfig,
    SpeechDataConfig,
    SpeechDataset,
    decibels,
    load_clips,
)
from stage1_tokenizer.speech.spoken_digits import PITCHES, RATES, SPEAKERS, WORDS, spoken_digits

PLAIN = {"label_column": None, "speaker_column": None, "text_column": None}
FSDD = Path(__file__).parents[2].parent / "shared" / "data" / "fsdd"


def tone(seconds: float, rate: int, hertz: float = 200.0, amplitude: float = 0.5) -> np.ndarray:
    return amplitude * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)


def encoded(samples: np.ndarray, rate: int, kind: str = "WAV") -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate, format=kind)
    return buffer.getvalue()


def parquet(folder: Path, *contents: bytes, rate: int = 8000, **changes) -> SpeechDataset:
    """Clips in a Parquet file, named 0.wav, 1.wav and so on."""
    audio = [{"bytes": content, "path": f"{i}.wav"} for i, content in enumerate(contents)]
    file = str(folder / "data.parquet")
    datasets.Dataset.from_dict({"audio": audio}).to_parquet(file)
    config = SpeechDataConfig(source="parquet", train=file, **{**PLAIN, **changes})
    return load_clips(config, "train", sample_rate=rate)


def test_spoken_digits_hold_every_word_by_every_voice() -> None:
    config = SpeechDataConfig()
    parts = [load_clips(config, name, sample_rate=16_000) for name in ("train", "validation")]
    assert [len(part) for part in parts] == [1280, 256]
    pairs = {(word, speaker) for word in WORDS for speaker in SPEAKERS}
    for part in parts:
        assert part.classes == WORDS and part.speakers == tuple(sorted(SPEAKERS))
        assert set(zip(part.rows["text"], part.rows["speaker"], strict=True)) == pairs
    names = [parts[0].name(row) for part in parts for row in part.rows]
    assert len(set(names)) == len(pairs) * len(RATES) * len(PITCHES)
    row = parts[0][700]
    assert parts[0].classes[parts[0].label(row)] == parts[0].text(row) == row["text"]
    assert parts[0].speakers[parts[0].speaker(row)] == row["speaker"]
    waveform = parts[0].decode(row)
    assert 0.2 < len(waveform) / 16_000 < 1.1 and -40 < decibels(waveform) < -5
    assert parts[0].conversions() is None


DIGEST = (
    "import hashlib; from stage1_tokenizer.speech.spoken_digits import spoken_digits as s;"
    "print(hashlib.sha256(b''.join(a['bytes'] for a in s('validation')['audio'])).hexdigest())"
)


def test_spoken_digits_are_the_same_in_every_process() -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    other = subprocess.run(
        [sys.executable, "-c", DIGEST], env=environment, capture_output=True, text=True, check=True
    )
    contents = b"".join(audio["bytes"] for audio in spoken_digits("validation")["audio"])
    assert other.stdout.strip() == hashlib.sha256(contents).hexdigest()


@pytest.mark.parametrize("kind", ["WAV", "FLAC"])
def test_a_clip_is_what_was_written(tmp_path, kind: str) -> None:
    samples = tone(0.3, 8000)
    data = parquet(tmp_path, encoded(samples, 8000, kind))
    torch.testing.assert_close(
        data.decode(data[0]), torch.from_numpy(samples).float(), atol=1e-4, rtol=0
    )
    assert data.conversions() is None and data.label(data[0]) == 0 and data.text(data[0]) == ""


def test_stereo_at_another_rate_is_mixed_and_resampled_and_said(tmp_path) -> None:
    stereo = np.stack([tone(0.5, 22_050), tone(0.5, 22_050) / 2], axis=1)
    data = parquet(tmp_path, encoded(stereo, 22_050), encoded(tone(0.5, 8000), 8000))
    waveform = data.decode(data[0])
    expected = torch.from_numpy(0.75 * tone(0.5, 8000)).float()
    torch.testing.assert_close(waveform[200:-200], expected[200:-200], atol=2e-3, rtol=0)
    assert data.conversions() == (
        "parquet: 1 of 2 clips looked at are mixed down to one channel, "
        "clips at 22050 Hz are resampled to 8000 Hz"
    )


@settings(max_examples=20, deadline=None)
@given(st.floats(0.01, 3), st.sampled_from([8000, 11_025, 16_000, 44_100]), st.integers(0, 999))
def test_a_crop_has_its_length_and_says_where_padding_starts(
    tmp_path_factory, seconds: float, rate: int, position: int
) -> None:
    data = parquet(tmp_path_factory.mktemp("d"), encoded(tone(seconds, rate), rate))
    augment = SpeechAugmentConfig(crop_seconds=1.0)
    crop, length = data.crop(data[0], generator_at(0, position), augment)
    assert crop.shape == (8000,) and crop.dtype == torch.float32
    assert abs(length - min(8000, seconds * 8000)) <= 1
    assert not crop[length:].any()
    # A sine's peak is 3 dB above its root mean square; the gain is from -6 to -1 dB.
    if length > 400:
        level = decibels(crop[:length]) - 20 * math.log10(0.5) + 3.01
        assert -6.6 < level < -0.4


def test_a_crop_is_a_function_of_seed_and_position(tmp_path) -> None:
    noise = 0.1 * np.random.default_rng(0).standard_normal(40_000)
    data, augment = parquet(tmp_path, encoded(noise, 8000)), SpeechAugmentConfig(crop_seconds=0.5)
    crops = [data.crop(data[0], generator_at(7, position), augment)[0] for position in (3, 3, 4)]
    assert torch.equal(crops[0], crops[1]) and not torch.equal(crops[0], crops[2])


def test_without_gain_a_crop_is_a_part_of_the_clip(tmp_path) -> None:
    noise = 0.1 * np.random.default_rng(0).standard_normal(3000)
    data = parquet(tmp_path, encoded(noise, 8000))
    augment = SpeechAugmentConfig(crop_seconds=0.1, gain_db=(0.0, 0.0))
    whole = data.decode(data[0])
    starts = set()
    for position in range(20):
        crop, length = data.crop(data[0], generator_at(0, position), augment)
        found = (whole.unfold(0, 800, 1) == crop).all(1).nonzero()
        assert length == 800 and len(found) == 1
        starts.add(int(found))
    assert len(starts) == 20


def test_silent_parts_are_passed_over(tmp_path) -> None:
    half_silent = np.concatenate([np.zeros(8000), tone(1, 8000)])
    data = parquet(tmp_path, encoded(half_silent, 8000), encoded(np.zeros(8000), 8000))
    augment = SpeechAugmentConfig(crop_seconds=0.2)
    for position in range(20):
        crop, _ = data.crop(data[0], generator_at(0, position), augment)
        assert decibels(crop) > -47  # above -40 dB before the gain
    with pytest.raises(UnfitItemError, match=r"1\.wav \(silent: set augment\.silence_db\)"):
        data.crop(data[1], generator_at(0, 0), augment)
    assert not data.decode(data[1]).any()  # it can be scored all the same


@pytest.mark.parametrize(
    "content",
    [b"", b"no audio", encoded(tone(0.1, 8000), 8000)[:20], encoded(np.zeros(0), 8000)],
    ids=["empty", "text", "cut off", "no samples"],
)
def test_a_bad_file_is_named(tmp_path, content: bytes) -> None:
    data = parquet(tmp_path, encoded(tone(0.1, 8000), 8000), content)
    crop = partial(data.crop, generator=generator_at(0, 0), augment=SpeechAugmentConfig())
    for read in (data.decode, crop):
        with pytest.raises(BadItemError, match=r"^1\.wav$"):
            read(data[1])
    assert data.conversions() is None


def test_samples_that_are_not_finite_are_a_bad_item(tmp_path) -> None:
    buffer = io.BytesIO()
    soundfile.write(buffer, np.array([0.1, np.nan, 0.2]), 8000, format="WAV", subtype="FLOAT")
    data = parquet(tmp_path, buffer.getvalue())
    with pytest.raises(BadItemError, match=r"0\.wav"):
        data.decode(data[0])


def test_a_folder_with_subfolders_has_labels(tmp_path) -> None:
    for split, word, hertz in (
        ("train", "high", 400),
        ("train", "low", 100),
        ("validation", "low", 90),
    ):
        path = tmp_path / split / word / f"{hertz}.wav"
        path.parent.mkdir(parents=True)
        path.write_bytes(encoded(tone(0.1, 8000, hertz), 8000))
    config = SpeechDataConfig(source=str(tmp_path), speaker_column=None, text_column=None)
    train = load_clips(config, "train", sample_rate=8000)
    held_out = load_clips(config, "validation", sample_rate=8000)
    assert train.classes == held_out.classes == ("high", "low") and len(held_out) == 1
    assert held_out.label(held_out[0]) == 1 and len(train.decode(train[0])) == 800


def test_a_flat_folder_with_texts_can_be_split_by_share(tmp_path) -> None:
    for i in range(5):
        (tmp_path / f"{i}.flac").write_bytes(encoded(tone(0.1, 8000), 8000, "FLAC"))
    lines = "file_name,text,speaker\n" + "".join(f"{i}.flac,word {i},ann\n" for i in range(5))
    (tmp_path / "metadata.csv").write_text(lines)
    config = SpeechDataConfig(
        source=str(tmp_path), train="train[:80%]", validation="train[80%:]", label_column=None
    )
    train, held_out = (
        load_clips(config, split, sample_rate=8000) for split in ("train", "validation")
    )
    assert [train.text(row) for row in train.rows] == [f"word {i}" for i in range(4)]
    assert held_out.rows["text"] == ["word 4"] and held_out.speakers == ("ann",)
    for wrong, message in {
        lines.replace("3.flac", "three.flac"): r"has no line whose file_name is 3\.flac",
        lines
        + "gone.flac,word 5,ann\n": r"has a line for 'gone\.flac', which is no audio file there",
        lines + "3.flac,word 5,ann\n": r"has two lines whose file_name is '3\.flac'",
    }.items():
        (tmp_path / "metadata.csv").write_text(wrong)
        with pytest.raises(ValueError, match=message):
            load_clips(config, "train", sample_rate=8000)


def test_the_audio_feature_of_datasets_is_read_without_decoding_by_it(tmp_path) -> None:
    file = str(tmp_path / "a.parquet")
    audio = [{"bytes": encoded(tone(0.1, 8000), 8000), "path": "a.wav"}]
    rows = datasets.Dataset.from_dict({"audio": audio})
    rows.cast_column("audio", datasets.Audio()).to_parquet(file)
    config = SpeechDataConfig(source="parquet", train=file, **PLAIN)
    data = load_clips(config, "train", sample_rate=8000)
    assert len(data.decode(data[0])) == 800


def test_speakers_have_the_indices_of_the_training_split(tmp_path) -> None:
    audio = {"bytes": encoded(tone(0.1, 8000), 8000), "path": "a.wav"}
    files = {}
    for split, speakers in (("train", ["c", "b"]), ("validation", ["a", "c"])):
        files[split] = str(tmp_path / f"{split}.parquet")
        rows = {"audio": [audio, audio], "speaker": speakers}
        datasets.Dataset.from_dict(rows).to_parquet(files[split])
    config = SpeechDataConfig(source="parquet", label_column=None, text_column=None, **files)
    train, held_out = (load_clips(config, split, sample_rate=8000) for split in files)
    assert train.speakers == ("b", "c") and held_out.speakers == ("b", "c", "a")
    assert [held_out.speaker(row) for row in held_out.rows] == [2, 1]


def test_an_empty_folder_is_told(tmp_path) -> None:
    (tmp_path / "notes.txt").write_text("none")
    with pytest.raises(ValueError, match="has no audio files") as told:
        load_clips(SpeechDataConfig(source=str(tmp_path)), "train", sample_rate=8000)
    assert str(tmp_path) in str(told.value) and "set data.source" in str(told.value)
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "a.wav").write_bytes(encoded(tone(0.1, 8000), 8000))
    with pytest.raises(ValueError, match="has no audio files in a subfolder 'validation'"):
        load_clips(SpeechDataConfig(source=str(tmp_path)), "validation", sample_rate=8000)


def test_a_wrong_column_is_answered_with_the_columns_there_are() -> None:
    config = SpeechDataConfig(label_column="word")
    with pytest.raises(ValueError) as told:
        load_clips(config, "train", sample_rate=8000)
    assert str(told.value) == (
        "data.label_column='word' is not a column of spoken_digits: it has audio, label, text, "
        "speaker; set data.label_column, or null for none"
    )


def test_a_missing_file_is_told(tmp_path) -> None:
    config = SpeechDataConfig(source="parquet", train=str(tmp_path / "none.parquet"))
    with pytest.raises(ValueError, match=r"can't be read .* set data.source and data.train"):
        load_clips(config, "train", sample_rate=8000)


def test_wrong_crops_are_told() -> None:
    with pytest.raises(ValueError, match=r"crop_seconds=0.0 must be .*: set crop_seconds"):
        build(SpeechAugmentConfig, {"crop_seconds": 0.0})


@pytest.mark.skipif(not FSDD.is_dir(), reason=f"{FSDD} is absent")
def test_real_clips() -> None:
    config = SpeechDataConfig(
        source="parquet", train=str(FSDD / "train.parquet"), validation=str(FSDD / "test.parquet")
    )
    data = load_clips(config, "validation", sample_rate=16_000)
    assert len(data) == 300 and len(data.speakers) == 6 and data.classes == tuple("0123456789")
    assert data.conversions() == "parquet: clips at 8000 Hz are resampled to 16000 Hz"
    crop, length = data.crop(data[0], generator_at(0, 0), SpeechAugmentConfig())
    assert crop.shape == (48_000,) and length == len(data.decode(data[0]))


def test_a_table_with_a_byte_order_mark_is_read_and_one_of_another_form_is_told(
    tmp_path: Path,
) -> None:
    (tmp_path / "a.wav").write_bytes(encoded(tone(0.1, 8000), 8000))
    config = SpeechDataConfig(source=str(tmp_path), label_column=None, speaker_column=None)
    table = tmp_path / "metadata.csv"
    table.write_text("file_name,text\na.wav,one\n", encoding="utf-8-sig")
    assert load_clips(config, "train", sample_rate=8000).rows["text"] == ["one"]
    for text in ("file_name;text\na.wav;one\n", "a.wav|one\n"):
        table.write_text(text)
        with pytest.raises(ValueError, match="has no column file_name, its first line is"):
            load_clips(config, "train", sample_rate=8000)
