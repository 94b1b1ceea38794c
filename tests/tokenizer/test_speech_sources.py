"""What is no text, no label and no sample of a clip is told, or empty, and never trained on."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from datasets import ClassLabel, Dataset, Features, Value

from stage1_tokenizer.data import BadItemError
from stage1_tokenizer.speech.data import SpeechDataConfig, SpeechDataset, load_clips
from stage1_tokenizer.speech.preprocess import from_file

RATE = 8000
STORED = {"bytes": Value("binary"), "path": Value("string")}


def write(path: Path, amplitude: float = 0.5) -> Path:
    """A tenth of a second of sound, in floats."""
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = amplitude * np.sin(np.arange(RATE // 10))
    soundfile.write(path, samples, RATE, subtype="FLOAT")
    return path


def with_texts(folder: Path, kind: Any, texts: list[Any], column: str = "text") -> SpeechDataset:
    """Clips of a Parquet file, whose texts are of this kind."""
    audio = [{"bytes": write(folder / "a.wav").read_bytes(), "path": "a.wav"} for _ in texts]
    features = Features({"audio": STORED, "text": kind})
    file = str(folder / "train.parquet")
    Dataset.from_dict({"audio": audio, "text": texts}, features=features).to_parquet(file)
    none = {"label_column": None, "speaker_column": None}
    config = SpeechDataConfig(source="parquet", train=file, text_column=column, **none)  # type: ignore[arg-type]
    return load_clips(config, "train", sample_rate=RATE)


@pytest.mark.parametrize(
    ("kind", "given", "texts"),
    [
        (Value("string"), ["one", None], ["one", ""]),
        (Value("int64"), [7, None], ["7", ""]),
        (ClassLabel(names=["no", "yes"]), [1, None], ["yes", ""]),
    ],
)
def test_a_text_is_what_is_said_and_empty_where_that_is_not_known(
    kind: Any, given: list[Any], texts: list[str], tmp_path: Path
) -> None:
    clips = with_texts(tmp_path, kind, given)
    assert [clips.text(row) for row in clips.rows] == texts


def test_a_column_of_other_things_is_no_column_of_texts(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"text_column='audio' has values of the type \{'bytes'"):
        with_texts(tmp_path, Value("string"), ["one"], column="audio")
    with pytest.raises(ValueError, match=r"of the type Value\('binary'\): set data\.text_column"):
        with_texts(tmp_path, Value("binary"), [b"one"])


def test_floats_that_nobody_divided_are_refused_and_overshoot_is_not(tmp_path: Path) -> None:
    write(tmp_path / "a.wav", 20_000)
    write(tmp_path / "b.wav", 1.5)
    columns = {"label_column": None, "speaker_column": None, "text_column": None}
    clips = load_clips(
        SpeechDataConfig(source=str(tmp_path), **columns),  # type: ignore[arg-type]
        "train",
        sample_rate=RATE,
    )
    said = r"a\.wav.* \(a sample of .*, where full scale is 1\)"
    with pytest.raises(BadItemError, match=said):
        clips.decode(clips[0])
    with pytest.raises(ValueError, match=said):
        from_file(tmp_path / "a.wav", RATE)
    assert 1.4 < clips.decode(clips[1]).max() <= 1.5


def labelled(folder: Path) -> SpeechDataset:
    config = SpeechDataConfig(source=str(folder), speaker_column=None, text_column=None)
    return load_clips(config, "train", sample_rate=RATE)


def test_a_link_to_a_folder_of_clips_is_told_and_not_left_out(tmp_path: Path) -> None:
    write(tmp_path / "data/train/yes/a.wav")
    write(tmp_path / "elsewhere/b.wav")
    (tmp_path / "data/train/no").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ValueError, match=r"train/no is a link to a folder.*set data\.source"):
        labelled(tmp_path / "data")


def test_a_clip_beside_the_folders_that_are_labels_is_told(tmp_path: Path) -> None:
    write(tmp_path / "train/yes/a.wav")
    write(tmp_path / "train/no/b.wav")
    assert labelled(tmp_path).classes == ("no", "yes")
    write(tmp_path / "train/c.wav")
    with pytest.raises(ValueError, match=r"train/c\.wav is beside the folders .* the labels"):
        labelled(tmp_path)
    lines = "c.wav,maybe\nno/b.wav,no\nyes/a.wav,yes\n"
    (tmp_path / "train/metadata.csv").write_text(f"file_name,label\n{lines}")
    assert labelled(tmp_path).classes == ("maybe", "no", "yes")


def test_a_table_can_not_name_a_column_as_the_files_are(tmp_path: Path) -> None:
    write(tmp_path / "a.wav")
    (tmp_path / "metadata.csv").write_text("file_name,label,audio\na.wav,yes,a.wav\n")
    with pytest.raises(ValueError, match=r"metadata\.csv has a column audio.*rename it"):
        labelled(tmp_path)
