"""What can be known before the first step is said before the first step, in one sentence with exit code 2."""

import os
from pathlib import Path

import pytest

from pipelines import cli
from pipelines.checks import check_before
from pipelines.cli import UnexpectedError, main, make, sentence
from pipelines.experiment import read_experiment
from stage1_tokenizer.images.data import ImageDataConfig, load_images

ROOT = Path(__file__).parents[2]


def said(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    with pytest.raises(SystemExit) as caught:
        main(["run", str(ROOT / "configs/smoke.yaml"), *words])
    sentences = [line for line in capsys.readouterr().err.splitlines() if "simvq run:" in line]
    assert caught.value.code == 2 and len(sentences) == 1
    return sentences[0]


def test_a_file_in_the_way_is_told_first(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    assert "file is a file, and" in said(capsys, f"run_dir={tmp_path / 'file'}")
    (tmp_path / "run" / "prior").mkdir(parents=True)
    (tmp_path / "run" / "prior" / "pipeline").write_text("")
    assert "pipeline is a file, and" in said(capsys, f"run_dir={tmp_path / 'run'}")
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["prior"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_can_not_be_written_is_told_first(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tmp_path.chmod(0o500)
    assert "can't be written: set run_dir" in said(capsys, f"run_dir={tmp_path / 'run'}")


def test_every_split_is_looked_at_first(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    load_images(ImageDataConfig(), "train", channels=1, size=8).rows.select(range(8)).to_parquet(
        str(tmp_path / "train.parquet")
    )
    data = [
        "data.source=parquet",
        f"data.train={tmp_path / 'train.parquet'}",
        "data.validation=25%",
    ]
    error = said(capsys, *data, "data.test=absent.parquet", f"run_dir={tmp_path / 'run'}")
    assert "data.test='absent.parquet' can't be read" in error and not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (
            "ten",
            "label 'ten' is no name of a label: There are 10: 0, 1, 2, 3, 4, 5, 6, 7, ...: set",
        ),
        ("[3,10]", "label 10: the data have 10 labels, counted from 0: set samples.labels"),
    ],
)
def test_a_label_to_sample_that_no_item_has_is_told_first(
    labels: str, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    error = said(capsys, f"samples.labels={labels}", f"run_dir={tmp_path / 'run'}")
    assert words in error and not (tmp_path / "run").exists()


def test_a_speaker_to_sample_that_no_clip_has_is_told_first() -> None:
    experiment = read_experiment(
        ROOT / "configs/spoken_digits.yaml", ["samples.speakers=[0,nobody]"]
    )
    with pytest.raises(ValueError, match=r"speaker 'nobody' is no name.*: set samples.speakers"):
        check_before(experiment.configs)


def test_the_system_s_errors_name_their_file() -> None:
    assert sentence(OSError(28, "No space left on device", "a/b")) == "a/b: no space left on device"
    assert sentence(ValueError("x: set y")) == "x: set y"


def test_the_traceback_of_an_unexpected_error_stays_in_the_run_s_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Config:
        run_dir = tmp_path / "run"

    def broken(section: str, config: object) -> str:
        raise KeyError("a defect")

    monkeypatch.setattr(cli, "made", broken)
    with pytest.raises(
        UnexpectedError, match=r"KeyError: 'a defect' \(the traceback is in .*error\.txt"
    ):
        make("tokenizer", Config())
    assert 'raise KeyError("a defect")' in (tmp_path / "run" / "error.txt").read_text()
