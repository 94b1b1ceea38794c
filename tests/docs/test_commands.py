"""Commands and Python blocks of README and docs: all are read as the command line reads them, the cheap ones run."""

import contextlib
import importlib.util
import io
import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from helpers.pages import PAGES, ROOT, blocks, commands, from_root
from PIL import Image

from common.config import load_config
from pipelines.cli import VERBS, main, parser
from pipelines.compare.config import CompareConfig
from pipelines.experiment import read_experiment

FEW = ["samples.count=10", "score.slow_count=1", "allow_failed=true"]
STEPS = [f"{section}.steps=2" for section in ("tokenizer", "classifier", "prior")]
RUN = (*VERBS, "run", "profile", "doctor")
QUICK = ("configs/digits.yaml", "configs/spoken_digits.yaml", "runs/digits")
"""What is small enough to run; of all else the command is read."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with the configs, the images that pages call my_images, and short runs of the quickstart."""
    root = tmp_path_factory.mktemp("pages")
    shutil.copytree(ROOT / "configs", root / "configs")
    pixels = np.random.default_rng(0)
    for label in ("cat", "dog"):
        (root / "my_images" / label).mkdir(parents=True)
        for i in range(12):
            image = pixels.integers(0, 256, (32, 32, 3), dtype=np.uint8)
            Image.fromarray(image).save(root / "my_images" / label / f"{i}.png")
    with contextlib.chdir(root):
        for recipe in ("digits", "spoken_digits"):
            few = [word for word in FEW if recipe != "digits" or "slow" not in word]
            main(["run", f"configs/{recipe}.yaml", *few, *STEPS])
        yield root


def read(words: list[str], target: str | None) -> None:
    """Reads the words of `simvq ...` without doing the work; `new` writes its recipe to `target`."""
    verb, *rest = words
    match verb:
        case "new":
            with contextlib.redirect_stdout(io.StringIO()) as said:
                main(words)
            if target:
                Path(target).write_text(said.getvalue())
        case "compare":
            load_config(CompareConfig, Path(rest[0]), rest[1:])
        case "doctor" | "import-official":
            parser().parse_args(words)
        case "profile":
            read_experiment(Path(rest[1]), rest[2:]).config(VERBS[rest[0]][0])
        case _ if "--help" in rest:
            with (
                contextlib.redirect_stdout(io.StringIO()) as said,
                pytest.raises(SystemExit) as end,
            ):
                main(words)
            assert end.value.code == 0 and said.getvalue()
        case "run":
            read_experiment(Path(rest[0]), rest[1:])
        case _:
            assert rest or verb in VERBS, verb
            if rest:
                read_experiment(Path(rest[0]), rest[1:]).config(VERBS[verb][0])


def check(line: str) -> None:
    """Fails for a command that names a file, a key, a module or a target that does not exist."""
    words = shlex.split(line, comments=True)
    target = words[words.index(">") + 1] if ">" in words else None
    words = words[: words.index(">")] if target else words
    match words:
        case ["simvq", "--version"]:
            pass
        case ["simvq", *rest]:
            read(rest, target)
        case ["make", *targets]:
            for name in [target for target in targets if "=" not in target]:
                assert re.search(rf"^{re.escape(name)}:", (ROOT / "Makefile").read_text(), re.M)
        case ["python", "-m", "pytest", *paths]:
            assert all((ROOT / path).exists() for path in paths)
        case ["python", "-m", module, *_]:
            assert importlib.util.find_spec(module)
        case ["python", script, *_]:
            assert (ROOT / script).is_file()
        case _:
            assert words[0] in ("ruff", "mypy", "pip")


@pytest.mark.parametrize("page", PAGES, ids=from_root)
def test_every_command_is_one_that_the_command_line_takes(page: Path, folder: Path) -> None:
    with contextlib.chdir(folder):
        for line in commands(page):
            try:
                check(line)
            except (ValueError, SystemExit) as error:
                raise AssertionError(f"{line}: {error}") from error


def quick_commands() -> list[list[str]]:
    """The words of every different command that is cheap enough to run, in the order of the pages."""
    lines = [
        line for page in PAGES for block in blocks(page, "bash") for line in block.splitlines()
    ]
    words = [shlex.split(line, comments=True)[1:] for line in lines if line.startswith("simvq ")]
    quick = [w for w in words if w[0] in RUN and any(word in QUICK for word in w)]
    return [list(w) for w in dict.fromkeys(map(tuple, quick))]


@pytest.mark.parametrize("words", quick_commands(), ids=" ".join)
def test_the_quickstarts_commands_run(words: list[str], folder: Path) -> None:
    """With few steps and few samples, which come before the command's own words where those should win."""
    (place,) = (i for i, word in enumerate(words) if word in QUICK)
    if words[0] == "doctor":
        changed = words
    else:
        few = [word for word in FEW if "spoken" in words[place] or "slow" not in word]
        changed = [*words[: place + 1], *few, *words[place + 1 :], *STEPS]
    with contextlib.chdir(folder):
        main(changed)
    for word in words:
        if word.startswith(("samples.out=", "run_dir=")):
            assert any((folder / word.partition("=")[2]).iterdir())


@pytest.mark.parametrize("page", [p for p in PAGES if blocks(p, "python")], ids=from_root)
def test_the_python_of_a_page_runs(page: Path, folder: Path) -> None:
    names: dict[str, object] = {}
    with contextlib.chdir(folder):
        for code in blocks(page, "python"):
            exec(code, names)
