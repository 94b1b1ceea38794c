"""`simvq new`: a recipe for many kinds of data that runs to samples and a report without an edit."""

import io
import json
import shutil
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow
import pytest
import soundfile
from PIL import Image
from pyarrow import parquet

import pipelines.new.steps
from pipelines.cli import main
from pipelines.experiment import read_experiment
from pipelines.new.command import new, recipe_template
from pipelines.new.facts import ImageFacts, SpeechFacts, look
from pipelines.new.parts import codebook_size
from pipelines.new.steps import filled
from stage1_tokenizer.images.data import ImageDataConfig, load_images
from stage1_tokenizer.speech.data import SpeechDataConfig, load_clips

RATE = 44_100
SHORT = [
    *(f"{section}.steps=2" for section in ("tokenizer", "prior")),
    *("tokenizer.batch_size=4", "prior.batch_size=4", "samples.count=5"),
]


def save_images(
    folder: Path, count: int, mode: str = "RGB", size: tuple[int, int] = (32, 32)
) -> None:
    folder.mkdir(parents=True)
    for i in range(count):
        pixels = np.random.default_rng(i).integers(0, 255, (*size[::-1], 3), dtype=np.uint8)
        Image.fromarray(pixels).convert(mode).save(folder / f"{i}.png")


def save_clips(folder: Path, count: int, rate: int = RATE, channels: int = 2) -> None:
    folder.mkdir(parents=True)
    for i in range(count):
        t = np.arange(int(rate * (0.3 + 0.05 * (i % 4)))) / rate
        tone = 0.3 * np.sin(2 * np.pi * (150 + 30 * i) * t)
        soundfile.write(folder / f"{i}.wav", np.stack([tone] * channels, 1), rate)


def labelled_folder(folder: Path) -> str:
    for label in ("cat", "dog"):
        save_images(folder / label, 10)
    return str(folder)


def split_folder(folder: Path) -> str:
    for label in ("cat", "dog"):
        save_images(folder / "train" / label, 8)
        save_images(folder / "test" / label, 3)
    return str(folder)


def flat_folder(folder: Path) -> str:
    save_images(folder, 12, size=(16, 16))
    return str(folder)


def mixed_folder(folder: Path) -> str:
    """Grey, colour and palette images of several sizes, and one that is broken."""
    for i, mode in enumerate(("L", "RGB", "P", "RGBA")):
        save_images(folder / f"class {i % 2}" / mode, 5, mode, (20 + 9 * i, 40 - 5 * i))
    for path in (folder / "class 0").rglob("*.png"):
        path.rename(folder / "class 0" / f"{path.parent.name}-{path.name}")
    for path in (folder / "class 1").rglob("*.png"):
        path.rename(folder / "class 1" / f"{path.parent.name}-{path.name}")
    return str(folder)


def parquet_file(folder: Path) -> str:
    source = datasets.load_dataset("imagefolder", data_dir=labelled_folder(folder / "images"))
    source["train"].to_parquet(str(folder / "train.parquet"))
    return str(folder / "train.parquet")


def hub_name(folder: Path) -> str:
    """A data set of the Hub that was loaded before: with its own column names, and a split `test`."""
    data = datasets.load_dataset("imagefolder", data_dir=split_folder(folder / "images"))
    for split, items in data.items():
        items.rename_column("image", "img").to_parquet(str(folder / "own" / f"{split}.parquet"))
    files = {split: str(folder / "own" / f"{split}.parquet") for split in data}
    built = datasets.load_dataset("parquet", data_files=files, cache_dir=str(folder / "cache"))
    place = Path(built["train"].cache_files[0]["filename"]).parent
    home = Path(datasets.config.HF_DATASETS_CACHE)
    shutil.copytree(place, home / "someone___small" / "default" / "0.0.0" / place.name)
    for file in (home / "someone___small").rglob("parquet-*.arrow"):
        file.rename(file.with_name(file.name.replace("parquet-", "small-")))
    return "someone/small"


def metadata_csv(folder: Path) -> str:
    """44.1 kHz stereo with text and speaker, and no label."""
    save_clips(folder, 12)
    lines = [f"{i}.wav,the words number {i},speaker {i % 2}" for i in range(12)]
    (folder / "metadata.csv").write_text("\n".join(["file_name,text,speaker", *lines]) + "\n")
    return str(folder)


def folders_of_sound(folder: Path) -> str:
    for label in ("yes", "no"):
        save_clips(folder / label, 6, rate=8000, channels=1)
    return str(folder)


def flat_sound(folder: Path) -> str:
    save_clips(folder, 10, rate=16_000, channels=1)
    return str(folder)


QUICK = ("flat", "csv")
KINDS: dict[str, tuple[Any, dict[str, Any]]] = {
    "labelled": (labelled_folder, {"labels": 2, "validation": "33%", "test": "33%"}),
    "split": (split_folder, {"labels": 2, "validation": "33%", "test": "test"}),
    "flat": (flat_folder, {"labels": 0, "validation": "33%", "test": "33%"}),
    "mixed": (mixed_folder, {"labels": 2, "grey": False}),
    "parquet": (parquet_file, {"labels": 2, "column": "image"}),
    "hub": (hub_name, {"labels": 2, "column": "img", "validation": "33%", "test": "test"}),
    "csv": (metadata_csv, {"labels": 0, "speakers": 2, "text_column": "text", "channels": 2}),
    "sound": (folders_of_sound, {"labels": 2, "speakers": 0}),
    "flat sound": (flat_sound, {"labels": 0, "speakers": 0}),
}


@pytest.mark.parametrize(
    "kind",
    [kind if kind in QUICK else pytest.param(kind, marks=pytest.mark.slow) for kind in KINDS],
)
def test_new_and_run_end_with_samples_and_a_report_without_an_edit(
    kind: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(pipelines.new.steps, "MEASURED", 1)
    make, expected = KINDS[kind]
    data = make(tmp_path / "data")
    facts = look(data)
    assert {key: getattr(facts, key) for key in expected} == expected
    capsys.readouterr()
    main(["new", data, "minutes=1"])
    recipe = tmp_path / "mine.yaml"
    recipe.write_text(capsys.readouterr().out)
    assert recipe.read_text().startswith("# Written by")
    configs = read_experiment(recipe).configs
    assert ("classifier" in configs) == bool(facts.labels)
    short = ["classifier.steps=2"] if facts.labels else []
    main(["run", "mine.yaml", "run_dir=run", *SHORT, *short])
    assert json.loads((tmp_path / "run/samples/sample.json").read_text())["complete"]
    score = json.loads((tmp_path / "run/score/score.json").read_text())
    assert [part["name"] for part in score["rows"]][:1] and (
        tmp_path / "run/score/report.html"
    ).is_file()


def test_a_recipe_fits_the_data(tmp_path: Path) -> None:
    facts = look(mixed_folder(tmp_path / "mixed"))
    text = recipe_template(facts, 30)
    assert "run_dir: runs/mixed\n" in text
    assert "image_size: 16 # sides of 20 to 47 pixels" in text and "multipliers: [1, 2]" in text
    assert [codebook_size(n) for n in (10, 64 * 64, 64 * 1000, 10**9)] == [64, 64, 512, 16384]


def test_mistakes_are_told_in_a_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "phone").mkdir()
    (tmp_path / "phone" / "a.m4a").write_bytes(b"AAC")
    (tmp_path / "text.parquet").write_bytes(b"no Parquet")
    table = pyarrow.table({"image": pyarrow.array([], pyarrow.binary())})
    parquet.write_table(table, tmp_path / "none.parquet")
    (tmp_path / "unlike").mkdir()
    for name, columns in (("a", {"x": [1]}), ("b", {"x": [1], "y": [2]})):
        parquet.write_table(pyarrow.table(columns), tmp_path / "unlike" / f"train-{name}.parquet")
    for words, said in (
        ([str(tmp_path / "empty")], "is no folder with images or sound"),
        ([str(tmp_path / "phone")], r"its files are .m4a; of sound, .wav, .flac"),
        ([str(tmp_path / "text.parquet")], "text.parquet"),
        ([str(tmp_path / "none.parquet")], "none.parquet"),
        ([str(tmp_path / "unlike")], "unlike"),
        ([str(tmp_path / "unlike" / "train-*.parquet")], "can't be read as a Parquet file"),
        ([str(tmp_path), "hours=3"], "there is no key 'hours'"),
    ):
        with pytest.raises(SystemExit) as caught:
            main(["new", *words])
        error = capsys.readouterr().err.splitlines()[-1]
        assert caught.value.code == 2 and said in error


@pytest.mark.parametrize(("side", "size"), [(52, 32), (56, 56), (60, 32), (64, 64), (28, 28)])
def test_sides_of_square_images_can_be_halved_as_often_as_the_recipe_does(
    side: int, size: int, tmp_path: Path
) -> None:
    save_images(tmp_path / "square", 40, size=(side, side))
    recipe = tmp_path / "square.yaml"
    text = recipe_template(look(str(tmp_path / "square")), 30)
    recipe.write_text(filled(text, 100, 100, 100, ""))
    assert read_experiment(recipe).config("tokenizer").model.image_size == size


def test_parquet_files_in_parts_in_a_folder_and_by_a_pattern(tmp_path: Path) -> None:
    items = datasets.load_dataset("imagefolder", data_dir=labelled_folder(tmp_path / "images"))
    (tmp_path / "data" / "inner").mkdir(parents=True)
    for name in ("train-00000-of-00002", "train-00001-of-00002", "test-00000-of-00001"):
        items["train"].to_parquet(str(tmp_path / "data" / "inner" / f"{name}.parquet"))
    inner = tmp_path / "data" / "inner"
    for data, train, test in (
        (inner / "train-00000-of-00002.parquet", f"{inner}/train-*", f"{inner}/test-*"),
        (inner / "train-*.parquet", f"{inner}/train-*", f"{inner}/test-*"),
    ):
        facts = look(str(data))
        assert (facts.train, facts.test) == (f"{train}.parquet", f"{test}.parquet")
        assert facts.count == round(40 * (1 - 0.33)) and facts.source == "parquet"
        config = ImageDataConfig(source="parquet", train=facts.train, test=facts.test)
        assert len(load_images(config, "train", channels=3, size=8)) == 40
    hashed = inner / "train-00000-of-00002-0a1b.parquet"
    shutil.copy(inner / "train-00000-of-00002.parquet", hashed)
    assert look(str(hashed)).train == f"{inner}/train-*.parquet"


@pytest.mark.parametrize(
    "names",
    [
        ("train-00000-of-00002", "train-00001-of-00002", "test-00000-of-00001"),
        ("train/0", "train/1", "test/0"),
        ("default/train/0", "default/train/1", "default/test/0"),
        ("pets-train-0", "pets-train-1", "pets-test"),
        ("0", "1"),
        ("Train", "Test"),
    ],
)
def test_a_folder_of_parquet_files_has_the_splits_of_their_names(
    names: tuple[str, ...], tmp_path: Path
) -> None:
    items = datasets.load_dataset("imagefolder", data_dir=labelled_folder(tmp_path / "images"))
    for name in names:
        (tmp_path / "data" / name).parent.mkdir(parents=True, exist_ok=True)
        items["train"].to_parquet(str(tmp_path / "data" / f"{name}.parquet"))
    data = f"{tmp_path}/data/"
    if names[0] == "Train":
        with pytest.raises(ValueError, match="has Test, Train: rename them in lower case"):
            look(data)
        return
    facts = look(data)
    assert (facts.source, facts.train) == (data, "train")
    assert facts.test == ("test" if len(names) == 3 else "33%") and facts.labels == 2
    config = ImageDataConfig(source=data, train=facts.train, test=facts.test, validation="25%")
    parts = [len(load_images(config, split, channels=3, size=8)) for split in config.splits]
    assert sum(parts) == 20 * len(names) and parts[2] == (20 if len(names) == 3 else 14)


def test_names_with_signs_that_mean_something_elsewhere(tmp_path: Path) -> None:
    folder, tables = tmp_path / "dol$lar", tmp_path / "some [1]"
    tables.mkdir()
    items = datasets.load_dataset("imagefolder", data_dir=labelled_folder(folder / "images"))
    renamed = items["train"].rename_columns({"image": "img #1", "label": "class"})
    with_nothing = [
        {"img #1": None, "class": 0},
        *renamed.cast_column("img #1", datasets.Image(decode=False)),
    ]
    features = renamed.features
    datasets.Dataset.from_list(with_nothing, features=features).to_parquet(tables / "train.parquet")
    smile = tmp_path / "my 🙂 images"
    shutil.copytree(folder / "images", smile)
    for data, column in (
        *((folder / "images", "image"), (smile, "image")),
        (tables / "train.parquet", "img #1"),
    ):
        recipe = tmp_path / "recipe.yaml"
        text = recipe_template(look(str(data)), 30)
        recipe.write_text(filled(text, 100, 100, 100, ""))
        config = read_experiment(recipe).config("tokenizer").data
        assert config.image_column == column
        assert len(load_images(config, "train", channels=3, size=8)) > 5


def test_folders_of_sound_whose_splits_have_other_names(tmp_path: Path) -> None:
    for split, count in (("training", 6), ("testing", 2), ("eval", 3), ("extra", 4)):
        save_clips(tmp_path / "some" / split / "a", count)
    save_clips(tmp_path / "some" / "training" / ".trash", 2)
    facts = look(str(tmp_path / "some"))
    assert (facts.train, facts.validation, facts.test) == ("training", "eval", "testing")
    assert (facts.count, facts.left_out) == (6, 4)
    shutil.rmtree(tmp_path / "some" / "training")
    with pytest.raises(ValueError, match="none of training clips: name it train"):
        look(str(tmp_path / "some"))


def test_what_is_no_image_of_ours_is_counted_or_told(tmp_path: Path) -> None:
    """Of floats, larger than Pillow opens, hidden by macOS, behind a link."""
    save_images(tmp_path / "some" / "a", 10)
    (tmp_path / "some" / "a" / "._1.png").write_bytes(b"no image")
    Image.fromarray(np.zeros((9, 9), np.float32)).save(tmp_path / "some" / "a" / "float.tif")
    Image.new("1", (20_000, 20_000)).save(tmp_path / "some" / "a" / "large.png")
    facts = look(str(tmp_path / "some"))
    assert facts.bad == 2 and facts.left_out == 0
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked" / "a").symlink_to(tmp_path / "some" / "a")
    with pytest.raises(ValueError, match="linked/a is a link to a folder, and is not followed"):
        look(str(tmp_path / "linked"))


def test_one_bad_item_does_not_decide_what_a_column_holds(tmp_path: Path) -> None:
    file = io.BytesIO()
    Image.new("L", (9, 9)).save(file, "PNG")
    good = {"bytes": file.getvalue(), "path": "a.png"}
    for bad in ({"bytes": b"broken", "path": "b.png"}, {"bytes": None, "path": None}):
        table = pyarrow.Table.from_pylist([{"image": one} for one in (bad, *[good] * 10)])
        parquet.write_table(table, tmp_path / "data.parquet")
        facts = look(str(tmp_path / "data.parquet"))
        assert isinstance(facts, ImageFacts) and facts.bad == 1


def test_grey_images_of_16_bits_are_grey(tmp_path: Path) -> None:
    (tmp_path / "deep" / "a").mkdir(parents=True)
    for i in range(4):
        pixels = np.full((9, 9), 5000 + i, np.uint16)
        Image.fromarray(pixels).save(tmp_path / "deep" / "a" / f"{i}.pgm")
    facts = look(str(tmp_path / "deep"))
    assert isinstance(facts, ImageFacts) and facts.grey


def test_clips_without_a_sample_are_counted_as_bad(tmp_path: Path) -> None:
    save_clips(tmp_path / "some" / "a", 6)
    soundfile.write(tmp_path / "some" / "a" / "empty.wav", np.zeros(0), 8000)
    facts = look(str(tmp_path / "some"))
    assert isinstance(facts, SpeechFacts) and facts.bad == 1 and min(facts.seconds) > 0


def test_sound_that_macos_hides_is_not_read(tmp_path: Path) -> None:
    data = flat_sound(tmp_path / "data")
    (tmp_path / "data" / "._1.wav").write_bytes(b"no sound")
    facts = look(data)
    assert facts.bad == 0
    config = SpeechDataConfig(source=data, label_column=None, speaker_column=None, text_column=None)
    assert len(load_clips(config, "train", sample_rate=8000)) == 10


def test_files_in_no_split_and_a_test_split_alone_are_told(tmp_path: Path) -> None:
    """`imagefolder` takes names with train and test in them for splits."""
    save_images(tmp_path / "named", 40)
    for i in range(10):
        (tmp_path / "named" / f"{i}.png").rename(tmp_path / "named" / f"test_{i}.png")
    facts = look(str(tmp_path / "named"))
    assert facts.train == "test" and facts.test.endswith("%") and facts.left_out == 30
    assert "30 FILES ARE IN NO SPLIT" in new(str(tmp_path / "named"), ["minutes=1"])


def test_folders_of_splits_in_capitals_are_no_labels(tmp_path: Path) -> None:
    for split in ("Train", "Test"):
        save_images(tmp_path / split / "a", 2)
    with pytest.raises(ValueError, match="has Test, Train: rename them in lower case"):
        look(str(tmp_path))
