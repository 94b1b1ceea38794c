"""Commands and Python blocks of README and docs: all are read as the command line reads them, the cheap ones run."""

import argparse
import contextlib
import importlib.util
import io
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import soundfile
from accelerate.commands.launch import launch_command_parser
from helpers.pages import DOCS, PAGES, ROOT, blocks, commands, from_root
from helpers.pipelines import speech_pipeline
from PIL import Image
from torch.distributed.run import get_args_parser

import pipelines.new.steps
from common.config import load_config
from pipelines.arguments import VERBS, parser
from pipelines.cli import main
from pipelines.compare.config import CompareConfig
from pipelines.experiment import read_experiment
from pipelines.recipe_list import config_path

FEW = ["samples.count=10", "score.slow_count=1", "allow_failed=true"]
STEPS = [f"{section}.steps=2" for section in ("tokenizer", "classifier", "prior")]
MODULE = re.compile(r"`(\w+\.py)`:\n\n```python\n(.*?)^```", flags=re.DOTALL | re.MULTILINE)
"""A block that a sentence tells to write to a file."""
OTHERS = (
    "run",
    "new",
    "compare",
    "doctor",
    "profile",
    "recipes",
    "import-official",
    "push",
    "export",
    "demo",
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with the configs, the modules that pages tell to write, and the images that they call my_images."""
    root = tmp_path_factory.mktemp("pages")
    shutil.copytree(ROOT / "configs", root / "configs")
    for page in PAGES:
        for name, code in MODULE.findall(page.read_text()):
            (root / name).write_text(code)
    pixels = np.random.default_rng(0)
    for label in ("cat", "dog"):
        (root / "my_images" / label).mkdir(parents=True)
        for i in range(12):
            image = pixels.integers(0, 256, (32, 32, 3), dtype=np.uint8)
            Image.fromarray(image).save(root / "my_images" / label / f"{i}.png")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(root))
        patch.setattr(pipelines.new.steps, "MEASURED", 1)
        yield root


def short(words: list[str], place: int) -> list[str]:
    """A command with few samples, unless it says how many, and few steps in any case."""
    few = [word for word in FEW if "spoken" in words[place] or "slow" not in word]
    return [*words[: place + 1], *few, *words[place + 1 :], *STEPS]


@pytest.fixture(scope="module")
def digits(folder: Path) -> Path:
    """The same folder after a short run of the quickstart's first half."""
    with contextlib.chdir(folder):
        main(short(["run", "configs/digits.yaml"], 1))
        any_order = ["prior.order=random", "prior.run_dir=runs/digits/any-order"]
        main([*short(["train-prior", "configs/digits.yaml"], 1), *any_order])
        speech_pipeline(order="random").save_pretrained("runs/spoken_digits/any-order/pipeline")
        soundfile.write("clip.wav", np.sin(np.arange(800) / 3), 8000)
    return folder


@pytest.fixture(scope="module")
def spoken(folder: Path) -> Path:
    """The same folder after a short run of the quickstart's second half."""
    with contextlib.chdir(folder):
        main(short(["run", "configs/spoken_digits.yaml"], 1))
    return folder


def read(words: list[str], target: str | None) -> None:
    """Reads the words of `simvq ...` without doing the work; `new` writes its recipe to `target`."""
    assert {*words[:1]} <= {*VERBS, *OTHERS}, words
    if len(words) < 2:  # a sentence that names the verb
        return
    verb, *rest = words
    match verb:
        case "new":
            with contextlib.redirect_stdout(io.StringIO()) as said:
                main(words)
            if target:
                Path(target).write_text(said.getvalue())
        case "compare":
            load_config(CompareConfig, config_path(rest[0]), rest[1:])
        case "doctor" | "recipes" | "import-official" | "push" | "export" | "demo":
            parser().parse_args(words)
        case "profile":
            read_experiment(config_path(rest[1]), rest[2:]).config(VERBS[rest[0]][0])
        case _ if "--help" in rest:
            with (
                contextlib.redirect_stdout(io.StringIO()) as said,
                pytest.raises(SystemExit) as end,
            ):
                main(words)
            assert end.value.code == 0 and said.getvalue()
        case _:
            args = parser().parse_args(words)
            experiment = read_experiment(args.config, args.overrides)
            assert verb == "run" or experiment.config(VERBS[verb][0])


def read_launched(args: argparse.Namespace) -> None:
    """Reads the words of `python -m pipelines ...` that a launcher gets."""
    assert args.module and args.training_script == "pipelines"
    read(args.training_script_args, None)


def check(line: str) -> None:
    """Fails for a command that names a file, a key, a module or a target that does not exist."""
    words = shlex.split(line, comments=True)
    target = words[words.index(">") + 1] if ">" in words else None
    words = words[: words.index(">")] if target else words
    match words:
        case ["simvq", "--version"]:
            pass
        case ["simvq", *rest] | ["python", "-m", "pipelines", *rest]:
            read(rest, target)
        case ["torchrun", *rest]:
            read_launched(get_args_parser().parse_args(rest))
        case ["accelerate", "launch", *rest]:
            read_launched(launch_command_parser().parse_args(rest))
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


def test_the_slurm_script_is_valid_and_its_command_is_ours(folder: Path) -> None:
    (script,) = blocks(DOCS / "scale.md", "sh")
    subprocess.run(["bash", "-n"], input=script, text=True, check=True)
    (line,) = re.findall(r"^srun (.*)", script.replace("\\\n", ""), flags=re.MULTILINE)
    with contextlib.chdir(folder):
        check(line)


def quick_commands(recipe: str, pages: Sequence[Path] = PAGES) -> list[list[str]]:
    """The words of every different command on a recipe, in the order of the pages."""
    lines = [
        line for page in pages for block in blocks(page, "bash") for line in block.splitlines()
    ]
    lines = [line.replace("python -m pipelines", "simvq") for line in lines]
    words = [shlex.split(line, comments=True)[1:] for line in lines if line.startswith("simvq ")]
    places = (recipe, f"configs/{recipe}.yaml", f"runs/{recipe}")
    return [list(w) for w in dict.fromkeys(map(tuple, words)) if set(places) & set(w)]


def run(words: list[str]) -> None:
    """Runs a command with few steps, in the current folder."""
    if words[0] in ("doctor", "export"):
        return main(words)
    (place,) = (i for i, word in enumerate(words) if config_path(word).is_file())
    main(short(words, place))
    for key, _, value in (word.partition("=") for word in words):
        if key == "samples.count":
            (out,) = (word.partition("=")[2] for word in words if word.startswith("samples.out="))
            files = [path for path in Path(out).iterdir() if path.suffix in (".png", ".wav")]
            assert len(files) == int(value)
        elif key == "run_dir":
            assert any(Path(value).iterdir())


@pytest.mark.parametrize("words", quick_commands("digits"), ids=" ".join)
def test_the_commands_on_digits_run(words: list[str], digits: Path) -> None:
    with contextlib.chdir(digits):
        run(words)


@pytest.mark.slow
@pytest.mark.parametrize("words", quick_commands("spoken_digits"), ids=" ".join)
def test_the_commands_on_spoken_digits_run(words: list[str], spoken: Path) -> None:
    with contextlib.chdir(spoken):
        run(words)


@pytest.mark.slow
def test_the_report_of_speech_has_players(spoken: Path) -> None:
    """Of ten samples, and of ten originals and their reconstructions."""
    report = (spoken / "runs/spoken_digits/score/report.html").read_text()
    assert report.count("<audio controls") == 10 + 2 * 10


@pytest.mark.parametrize("page", [p for p in PAGES if blocks(p, "python")], ids=from_root)
def test_the_python_of_a_page_runs(page: Path, digits: Path) -> None:
    names: dict[str, object] = {}
    with contextlib.chdir(digits):
        for words in quick_commands("digits", [page]):
            if any("run_dir=" in word and not Path(word[8:]).exists() for word in words):
                run(words)
        for code in blocks(page, "python"):
            exec(code, names)
