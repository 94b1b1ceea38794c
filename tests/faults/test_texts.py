"""Files of YAML, JSON, CSV and Parquet that are broken or somebody else's: one sentence that names the file."""

import json
from collections.abc import Callable
from pathlib import Path

import datasets
import numpy as np
import pyarrow
import pytest
import soundfile
from helpers.verdicts import CHANGED, TOLD, TRACEBACK, WRONG, Tally
from pyarrow import parquet

from pipelines import cli
from stage1_tokenizer.images.data import ImageDataConfig, load_images
from stage1_tokenizer.speech.data import SpeechDataConfig, load_clips

ROOT = Path(__file__).parents[2]
SMOKE = (ROOT / "configs/smoke.yaml").read_text()
TEXTS: dict[str, bytes] = {
    "empty": b"",
    "blank": b"\n \n",
    "a comment": b"# nothing\n",
    "a number": b"3",
    "a word": b"word",
    "a list": b"- a\n- b\n",
    "null": b"null",
    "open bracket": b"run_dir: [a",
    "open brace": b"run_dir: {a",
    "open quote": b'run_dir: "a',
    "a tab": b"run_dir: x\ntokenizer:\n\tsteps: 3\n",
    "wrong indentation": b"run_dir: x\n  tokenizer:\n steps: 3\n",
    "a key twice": b"run_dir: x\ntokenizer: {steps: 3, steps: 4}\n",
    "a section twice": SMOKE.encode() + b"\nscore: {batch_size: 3}\n",
    "two documents": b"run_dir: x\n---\nrun_dir: y\n",
    "an unknown anchor": b"run_dir: *x\n",
    "itself": b"run_dir: x\ntokenizer: &a {model: *a}\n",
    "python's tag": b"run_dir: !!python/object/apply:os.system [ls]\n",
    "an unknown tag": b"run_dir: !mine x\n",
    "an open interpolation": b"run_dir: ${x\n",
    "an interpolation of nothing": b"run_dir: ${nosuch}\n",
    "an interpolation of itself": b"run_dir: ${run_dir}\n",
    "an unknown resolver": b"run_dir: ${nosuch:3}\n",
    "an absent variable": b"run_dir: ${oc.env:NO_SUCH_VARIABLE_HERE}\n",
    "question marks": b"run_dir: ???\n",
    "a number as key": SMOKE.encode() + b"\n3: 4\n",
    "null as key": SMOKE.encode() + b"\nnull: 4\n",
    "a list as key": SMOKE.encode() + b"\n[a, b]: 4\n",
    "a date": SMOKE.replace("seed", "x").encode() + b"\nmodality: 2020-01-01\n",
    "binary": bytes(range(256)),
    "latin-1": "run_dir: été\n".encode("latin-1"),
    "UTF-16": "run_dir: x\n".encode("utf-16"),
    "a NUL": b"run_dir: x\x00y\n",
    "deep nesting": b"run_dir: " + b"[" * 5000,
    "a number of 5,000 digits": b"run_dir: x\ntokenizer: {steps: " + b"9" * 5000 + b"}\n",
    "JSON that is cut off": b'{"run_dir": "x", "tokenizer": {',
    "JSON's list": b"[1, 2]",
    "no run_dir": SMOKE.replace("run_dir: runs/smoke", "").encode(),
    "run_dir is null": SMOKE.replace("run_dir: runs/smoke", "run_dir:").encode(),
    "run_dir is empty": SMOKE.replace("run_dir: runs/smoke", "run_dir: ''").encode(),
    "run_dir is a list": SMOKE.replace("run_dir: runs/smoke", "run_dir: [a]").encode(),
    "an unknown modality": SMOKE.replace("modality: images", "modality: video").encode(),
    "a modality that is a list": SMOKE.replace("modality: images", "modality: [images]").encode(),
    "a modality that is a group": SMOKE.replace("modality: images", "modality: {a: 1}").encode(),
    "a section that is a word": SMOKE.encode().replace(b"score: {batch_size: 256}", b"score: x"),
    "a section that is a list": SMOKE.encode().replace(b"score: {batch_size: 256}", b"score: [x]"),
    "an unknown section": SMOKE.encode() + b"\nscores: {}\n",
    "a page": b"<!DOCTYPE html><html></html>",
}
OVERRIDES = (
    *("tokenizer.steps", "=", "=3", ".=3", "..=3", "tokenizer=", "tokenizer=3", "tokenizer=[1]"),
    *("tokenizer.=3", ".tokenizer=3", "tokenizer.steps.x=3", "tokenizer.steps=[", "prior.steps={"),
    *("tokenizer.steps=${x}", "tokenizer.steps=${", "tokenizer.steps=???", "tokenizer.steps="),
    *("tokenizer.steps=3=4", "tokenizer[0]=3", "tokenizer.model=3", "tokenizer.model.quantizer=x"),
    *("tokenizer.model.quantizer.method=nosuch", "tokenizer.model.quantizer.method=no.such.Class"),
    *("tokenizer.model.quantizer.method=os.system", "tokenizer.model.quantizer.method=."),
    *(
        "run_dir=",
        "run_dir=[a]",
        "run_dir={a: 1}",
        "modality=",
        "modality=sound",
        "data=3",
        "data=",
    ),
    *("data.source=", "data.validation=0%", "data.validation=100%", "data.validation=test"),
    *("tokenizer.data=digits", "codes.data=[1]"),
    *("seed=3", "nosuch.key=1", "tokenizer.trackers=[nosuch]", "tokenizer.data.source=[1]"),
    *("samples.guidance=[]", "codes.views=[nosuch]", "codes.views=[]"),
    *(
        f"run_dir={'x' * 300}",
        "run_dir=a\0b",
        f"prior.run_dir={'x' * 300}",
        "score.out=/dev/null/x",
    ),
    *("tokenizer.model.multipliers=[]", "tokenizer.model.image_size=9", "tokenizer.model.width=33"),
)
"""None of which may be taken for the smoke test's file."""


def how(run: Callable[[], object], *named: str) -> str:
    """Of a command in this process."""
    try:
        run()
    except ValueError as error:
        return TOLD if all(name in cli.sentence(error) for name in named) else CHANGED
    except OSError as error:
        return TOLD if all(name in cli.sentence(error) for name in named) else CHANGED
    except BaseException:
        return TRACEBACK
    return WRONG


@pytest.mark.parametrize("verb", ["train-tokenizer", "run", "compare"])
def test_broken_files_of_keys_are_told(
    verb: str, tmp_path: Path, tally: Tally, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "file.yaml"
    for name, content in TEXTS.items():
        path.write_bytes(content)
        args = cli.parser().parse_args([verb, str(path)])
        tally.take(
            "config file", f"{verb} {name}", how(lambda args=args: cli.answer(args), str(path))
        )  # type: ignore[misc]
    assert [*tmp_path.iterdir()] == [path]
    tally.check()


def test_broken_overrides_are_told(
    tmp_path: Path, tally: Tally, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    file = str(ROOT / "configs/smoke.yaml")
    for override in OVERRIDES:
        args = cli.parser().parse_args(["run", file, override])
        tally.take("override", override, how(lambda args=args: cli.answer(args)))  # type: ignore[misc]
    tally.check()
    assert not [*tmp_path.iterdir()]


def png() -> bytes:
    import io

    from PIL import Image

    file = io.BytesIO()
    Image.new("L", (8, 8), 100).save(file, "PNG")
    return file.getvalue()


def table(**columns: object) -> pyarrow.Table:
    """Three images with these columns beside or over theirs."""
    own = {"image": [{"bytes": png(), "path": f"{i}.png"} for i in range(3)], "label": [0, 1, 0]}
    return pyarrow.table({name: values for name, values in (own | columns).items() if values})


PARQUETS: dict[str, Callable[[Path], object]] = {
    "no rows": lambda path: parquet.write_table(table().slice(0, 0), path),
    "no columns": lambda path: parquet.write_table(pyarrow.table({}), path),
    "no images": lambda path: parquet.write_table(table(image=None), path),
    "no labels": lambda path: parquet.write_table(table(label=None), path),
    "images of numbers": lambda path: parquet.write_table(table(image=[1, 2, 3]), path),
    "images of text": lambda path: parquet.write_table(table(image=["a", "b", "c"]), path),
    "images of lists": lambda path: parquet.write_table(table(image=[[1.0], [2.0], [3.0]]), path),
    "images of groups": lambda path: parquet.write_table(
        table(image=[{"array": [0.1], "sampling_rate": 8000}] * 3), path
    ),
    "null images": lambda path: parquet.write_table(table(image=[None] * 3), path),
    "null labels": lambda path: parquet.write_table(table(label=[0, None, 1]), path),
    "negative labels": lambda path: parquet.write_table(table(label=[0, -1, 1]), path),
    "labels of 2e9": lambda path: parquet.write_table(table(label=[0, 2_000_000_000, 1]), path),
    "labels of floats": lambda path: parquet.write_table(table(label=[0.5, 1.5, 0.5]), path),
    "labels of nan": lambda path: parquet.write_table(table(label=[np.nan, 1.0, 0.0]), path),
    "labels of lists": lambda path: parquet.write_table(table(label=[[0], [1], [0]]), path),
    "labels of groups": lambda path: parquet.write_table(table(label=[{"a": 1}] * 3), path),
    "empty file": lambda path: path.write_bytes(b""),
    "text": lambda path: path.write_text("not Parquet"),
    "CSV": lambda path: path.write_text("image,label\na,0\n"),
    "cut off": lambda path: (
        parquet.write_table(table(), path),
        path.write_bytes(path.read_bytes()[:-50]),
    ),
    "a folder": lambda path: path.mkdir(),
    "missing": lambda path: None,
}


@pytest.mark.parametrize("kind", ["images", "speech"])
@pytest.mark.parametrize("name", PARQUETS)
def test_parquet_files_that_hold_something_else_are_told(
    kind: str, name: str, tmp_path: Path, tally: Tally, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    path = tmp_path / "train.parquet"
    PARQUETS[name](path)
    splits = {"source": "parquet", "train": str(path), "validation": f"{path}[:100%]"}

    def images() -> None:
        config = ImageDataConfig(**splits)
        data = load_images(config, "train", channels=1, size=8)
        load_images(config, "validation", channels=1, size=8).decode(data[0])

    def speech() -> None:
        columns = {"audio_column": "image", "speaker_column": None, "text_column": None}
        config = SpeechDataConfig(**splits, **columns)  # type: ignore[arg-type]
        data = load_clips(config, "train", sample_rate=8000)
        load_clips(config, "validation", sample_rate=8000).decode(data[0])

    verdict = how(images if kind == "images" else speech)
    tally.take("Parquet file", f"{kind} {name}", verdict)
    tally.check()


CSVS = {
    "too many columns": "file_name,text\na.wav,one,two,three\n",
    "too few columns": "file_name,text,speaker\na.wav\n",
    "no file_name": "name,text\na.wav,one\n",
    "empty": "",
    "a header alone": "file_name,text\n",
    "another file": "file_name,text\nb.wav,one\n",
    "binary": "\x00\x01\x02",
    "a column twice": "file_name,text,text\na.wav,one,two\n",
    "an open quote": 'file_name,text\na.wav,"one\n',
}


@pytest.mark.parametrize("name", CSVS)
def test_tables_beside_clips_that_do_not_fit_are_told(
    name: str, tmp_path: Path, tally: Tally
) -> None:
    soundfile.write(tmp_path / "a.wav", np.zeros(800), 8000)
    (tmp_path / "metadata.csv").write_text(CSVS[name])
    config = SpeechDataConfig(
        source=str(tmp_path), validation="train[:50%]", label_column=None, speaker_column=None
    )
    tally.take(
        "CSV file", name, how(lambda: load_clips(config, "train", sample_rate=8000), "metadata.csv")
    )
    tally.check()


def test_json_of_others_is_told(tmp_path: Path, tally: Tally) -> None:
    from common.codes import read_manifest
    from pipelines import ImageGenerationPipeline
    from pipelines.evaluation.table import read_scores
    from stage1_tokenizer import ImageTokenizer

    texts = ("", "{", "[]", "3", "null", '"x"', "{}", '{"a": 1}', "\x00", json.dumps({"rows": 3}))
    readers: dict[str, Callable[[Path], object]] = {
        "manifest.json": read_manifest,
        "score.json": read_scores,
        "pipeline.json": ImageGenerationPipeline.from_pretrained,
        "config.json": ImageTokenizer.from_pretrained,
    }
    for name, read in readers.items():
        folder = tmp_path / name.split(".")[0]
        folder.mkdir()
        for text in texts:
            (folder / name).write_text(text)
            case = how(lambda read=read, folder=folder: read(folder), str(folder))  # type: ignore[misc]
            tally.take("JSON file", f"{name} {text!r}", case)
    tally.check()
