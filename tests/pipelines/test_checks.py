"""What can be known before the first step is said before the first step, in one sentence with exit code 2."""

import os
import re
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
from helpers.image_runs import few_digits, tokenizer_config

from common.config import save_config
from common.files import replaced_folder
from pipelines import cli
from pipelines.arguments import parser
from pipelines.checks import check_before, keeps_codes
from pipelines.cli import UnexpectedError, main, processes_last, run_section, sentence
from pipelines.doctor import doctor
from pipelines.evaluation.classifier import train_classifiers
from pipelines.evaluation.config import TrainImageClassifierConfig
from pipelines.experiment import read_experiment
from stage1_tokenizer.encode import encode
from stage1_tokenizer.images.data import ImageDataConfig, load_images
from stage1_tokenizer.images.encode import EncodeImagesConfig
from stage1_tokenizer.train import train_tokenizer

ROOT = Path(__file__).parents[2]


def said(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    with pytest.raises(SystemExit) as caught:
        main(["run", str(ROOT / "configs/smoke.yaml"), *words])
    sentences = [line for line in capsys.readouterr().err.splitlines() if "simvq run:" in line]
    assert caught.value.code == 2 and len(sentences) == 1
    return sentences[0]


def test_keys_may_stand_after_the_number_of_processes() -> None:
    for words in (["--processes", "2"], ["--processes=2"]):
        args = parser().parse_args(processes_last(["run", "smoke", *words, "prior.steps=1"]))
        assert (args.overrides, args.processes) == (["prior.steps=1"], 2)


def test_a_study_starts_its_own_processes(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["compare", "compare/smoke", "--processes", "2"])
    assert "unrecognized arguments: --processes" in capsys.readouterr().err


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
            "label 'ten' is no name of a label. There are 10: 0, 1, 2, 3, 4, 5, 6, 7, ...: set",
        ),
        ("[3,10]", "label '10' is no name of a label"),
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


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        (("prior.label_dropout=0",), "with prior.label_dropout=0 the prior never learns without"),
        (("prior.condition=none", "samples.labels=[1]"), "leave samples.labels out"),
        (("samples.texts=[one]",), "leave samples.texts out"),
        (("samples.prompts=absent",), "samples.prompts=absent is not a folder"),
        (("prior.max_codes=50", "samples.max_codes=60"), "samples.max_codes=60, but prior.max"),
    ],
)
def test_samples_that_the_prior_does_not_learn_are_told_first(
    keys: tuple[str, ...], words: str
) -> None:
    experiment = read_experiment(ROOT / "configs/spoken_digits.yaml", [*keys])
    with pytest.raises(ValueError, match=words):
        check_before(experiment.configs)


def test_fewer_samples_than_a_score_takes_are_told_first(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    error = said(capsys, "samples.count=3", f"run_dir={tmp_path / 'run'}")
    assert "a score takes at least 4 images: set samples.count" in error
    assert not (tmp_path / "run").exists()


def test_a_file_among_the_best_weights_is_told_first(tmp_path: Path) -> None:
    config = tokenizer_config(tmp_path / "run")
    with replaced_folder(tmp_path / "run" / "best") as partial:
        (partial / "model.safetensors").write_text("weights")
    check_before({"tokenizer": config})
    (tmp_path / "run" / "best" / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match=r"best holds notes.txt, which would be lost: move it"):
        check_before({"tokenizer": config})


def test_results_that_a_run_would_not_make_are_told_first(tmp_path: Path) -> None:
    """Those of another config, and codes of a tokenizer that would be trained on."""
    data = few_digits(tmp_path / "data", train=40, validation=10)
    config = tokenizer_config(tmp_path / "tokenizer", data=data, steps=2, save_every=2)
    train_tokenizer(config)
    codes = EncodeImagesConfig(
        tokenizer=tmp_path / "tokenizer/model", out=tmp_path / "codes", data=data
    )
    encode(codes)
    sections = {"tokenizer": config, "codes": codes}
    check_before(sections)
    with pytest.raises(ValueError, match=r"holds a run with seed=0, now it is 1: set run_dir"):
        check_before(sections | {"tokenizer": replace(config, seed=1)})
    longer = {"tokenizer": replace(config, steps=4)}
    with pytest.raises(
        ValueError, match=r"codes holds codes by the tokenizer as it is, and tokenizer.steps"
    ):
        check_before(sections | longer)
    check_before(longer)  # without codes it may go on
    frozen = replace(config, steps=4, init_from=Path("m"), freeze=("encoder", "codebook"))
    assert keeps_codes(frozen)
    save_config(frozen, config.run_dir / "config.yaml")
    check_before({"tokenizer": frozen, "codes": codes})  # whose codes stay as they are
    save_config(config, config.run_dir / "config.yaml")
    shutil.rmtree(tmp_path / "data")
    said = doctor(config.run_dir)  # which needs the data for some of what it says
    assert "without its data: data.source='parquet'" in said and "32 codes of 4 dim" in said
    few_digits(tmp_path / "data", train=40, validation=10)
    (config.run_dir / "model" / "model.safetensors").unlink()
    check_before(sections)  # it is made again as it was
    classifier = TrainImageClassifierConfig(run_dir=tmp_path / "classifier", steps=2, data=data)
    train_classifiers(classifier)
    check_before({"classifier": replace(classifier, log_every=1)})
    with pytest.raises(ValueError, match=r"classifier holds a run with flip=False, now it is True"):
        check_before({"classifier": replace(classifier, flip=True)})


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

    monkeypatch.setattr(cli, "call_verb", broken)
    with pytest.raises(
        UnexpectedError, match=r"KeyError: 'a defect' \(the traceback is in .*error\.txt"
    ):
        run_section("tokenizer", Config())
    assert 'raise KeyError("a defect")' in (tmp_path / "run" / "error.txt").read_text()


def test_an_unexpected_error_of_any_verb_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: object) -> str:
        raise KeyError("a defect")

    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(cli, "examine", broken)
    with pytest.raises(SystemExit) as caught:
        main(["doctor", str(tmp_path)])
    said = capsys.readouterr().err
    assert caught.value.code == 1 and said.count("\n") == 1
    assert said.startswith("simvq doctor: KeyError: 'a defect' (the traceback is in ")
    (kept,) = tmp_path.glob("simvq-*/error.txt")  # each user of a machine has a folder of his own
    assert 'raise KeyError("a defect")' in kept.read_text()


def test_run_names_the_verb_of_an_unexpected_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(section: str, config: object) -> str:
        raise KeyError("a defect")

    monkeypatch.setattr(cli, "call_verb", broken)
    with pytest.raises(SystemExit) as caught:
        main(["run", str(ROOT / "configs/smoke.yaml"), f"run_dir={tmp_path / 'run'}"])
    assert caught.value.code == 1
    last = capsys.readouterr().err.splitlines()[-1]
    assert (
        last.startswith("simvq run: train-tokenizer (") and "section tokenizer): KeyError" in last
    )


@pytest.mark.parametrize(
    ("recipe", "words", "said"),
    [
        ("digits", "classifier.image_size=16", "set classifier.image_size=8"),
        ("digits", "classifier.in_channels=3", "set classifier.in_channels=1"),
        ("digits", "data.label_column=null", "a classifier needs two: set data.label_column"),
        ("digits", "prior.condition=speaker", "the data have no speaker: set prior.condition"),
        ("digits", "prior.min_codes=5", "prior.min_codes=5 and prior.max_codes=None, but images"),
        ("digits", "score.statistics=absent.npz", "absent.npz"),
        ("digits", "prior.init_from=configs", "init_from=configs has no config.json"),
        ("digits", "tokenizer.init_from=configs", "init_from=configs has no config.json"),
        (
            "spoken_digits",
            "prior.condition=text data.text_column=null",
            "the data have no text: set prior.condition",
        ),
    ],
)
def test_sections_that_do_not_fit_each_other_are_told_first(
    recipe: str, words: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    path = ROOT / "configs" / f"{recipe}.yaml"
    experiment = read_experiment(path, [*words.split(), f"run_dir={tmp_path / 'run'}"])
    with pytest.raises(ValueError, match=re.escape(said)):
        check_before(experiment.configs)
    assert not (tmp_path / "run").exists()


def test_a_single_verb_looks_at_its_folders_first(tmp_path: Path) -> None:
    (tmp_path / "tokenizer").mkdir()
    (tmp_path / "tokenizer" / "model").write_text("")
    experiment = read_experiment(ROOT / "configs/smoke.yaml", [f"run_dir={tmp_path}"])
    with pytest.raises(ValueError, match="model is a file, and"):
        run_section("tokenizer", experiment.config("tokenizer"))
    assert [path.name for path in (tmp_path / "tokenizer").iterdir()] == ["model"]
