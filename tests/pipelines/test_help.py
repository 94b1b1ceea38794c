"""--help: every key of a section in its own words, in less than a second, for it imports nothing heavy."""

import dataclasses
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import get_args, get_type_hints

import pytest

from common.config import build
from pipelines.arguments import VERBS
from pipelines.cli import main
from pipelines.experiment import CONFIGS, SECTIONS
from pipelines.help import section_help

ROOT = Path(__file__).parents[2]


def said(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    with pytest.raises(SystemExit) as caught:
        main(words)
    assert caught.value.code == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("modality", CONFIGS)
@pytest.mark.parametrize("section", SECTIONS)
def test_every_key_of_every_section_is_there(section: str, modality: str) -> None:
    """By the dataclasses themselves, of which help reads the source alone."""

    def keys(schema: type, at: str) -> list[str]:
        found = []
        for name, hint in get_type_hints(schema).items():
            inner = [part for part in (hint, *get_args(hint)) if dataclasses.is_dataclass(part)]
            found += keys(inner[0], f"{at}.{name}") if inner else [f"{at}.{name}"]
        return found

    lines = section_help(section, [f"modality={modality}"]).splitlines()
    told = [line.split()[0] for line in lines if line.startswith(f"  {section}.")]
    hidden = (f"{section}.modality", f"{section}.data.")
    wanted = [
        key for key in keys(CONFIGS[modality]()[section], section) if not key.startswith(hidden)
    ]
    assert sorted(told) == sorted(wanted) and len(lines) < 78


def test_defaults_are_those_of_the_dataclasses() -> None:
    config = build(CONFIGS["images"]()["prior"], {"run_dir": "r", "codes": "c", "tokenizer": "t"})
    text = section_help("prior", [])
    assert f"prior.optim.lr  float >= 0 = {config.optim.lr}" in text
    assert f"prior.size  1m | 3m | 10m | 30m | 85m | 300m | 700m = {config.size}" in text
    assert "prior.codes  Path = RUN_DIR/codes" in text


def test_the_keys_of_another_quantizer_and_modality_are_asked_for(
    capsys: pytest.CaptureFixture[str],
) -> None:
    text = said(capsys, "train-tokenizer", "--help", "tokenizer.model.quantizer.method=fsq")
    assert "tokenizer.model.quantizer.levels" in text and "quantizer.codebook_size" not in text
    text = said(capsys, "train-tokenizer", str(ROOT / "configs/fsdd.yaml"), "-h")
    assert "tokenizer.model.sample_rate" in text and "One of simvq, vq," in text
    with pytest.raises(SystemExit):
        main(["train-tokenizer", "--help", "tokenizer.model.quantizer.method=none"])
    assert "method=none is not one of simvq" in capsys.readouterr().err
    text = said(capsys, "train-tokenizer", "--help", "tokenizer.model.quantizer.method=mine.Mine")
    assert "wae, continuous, an import path" in text and "quantizer.code_dim" in text


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["train-tokenizer", "--help", "tokenizer.model.quantizer=fsq"], "quantizer='fsq' must be"),
        (["train-tokenizer", "--help", "tokenizer=3"], "tokenizer=3 must be a group of keys"),
        (["train-tokenizer", "--help", "tokenizer.model.quantizer.method=[fsq]"], "method="),
        (["run", "--help", "modality=[images]"], "is not one of images, speech"),
        (["encode", "smoke", "--processes", "0"], "--processes=0 must be at least 1"),
    ],
)
def test_mistakes_in_what_help_is_asked_about_are_a_line(
    words: list[str], named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(words)
    error = capsys.readouterr().err
    assert named in error and error.count("\n") == 1


def test_run_and_compare_have_keys_of_their_own(capsys: pytest.CaptureFixture[str]) -> None:
    text = said(capsys, "run", "--help")
    assert all(words in text for words in ("run_dir", "data.source", *SECTIONS, *VERBS))
    assert "tuning.factors" in said(capsys, "compare", "--help")
    assert all(verb in said(capsys, "--help") for verb in (*VERBS, "run", "compare", "new"))
    assert said(capsys, "--version").strip()[0].isdigit()


@pytest.mark.parametrize("words", [["--help"], ["train-tokenizer", "--help"], ["--version"]])
def test_help_imports_neither_torch_nor_transformers(words: list[str]) -> None:
    code = (
        "import sys, pipelines.cli\ntry:\n  pipelines.cli.main(sys.argv[1:])\nexcept SystemExit:\n  pass\n"
        "assert not {'torch', 'transformers', 'datasets'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", code, *words], cwd=ROOT, check=True, capture_output=True)


def test_ctrl_c_while_modules_are_imported_is_told_in_a_line(tmp_path: Path) -> None:
    code = "from pipelines.cli import main; print('begins', flush=True); main()"
    command = [sys.executable, "-c", code, "run", "configs/smoke.yaml", f"run_dir={tmp_path}"]
    pipe = subprocess.PIPE
    for seconds in (0.2, 0.6, 1.4):
        started = subprocess.Popen(command, cwd=ROOT, text=True, stdout=pipe, stderr=pipe)
        assert started.stdout.readline() == "begins\n"  # a busy machine takes its time until then
        time.sleep(seconds)
        started.send_signal(signal.SIGINT)
        told = started.communicate(timeout=60)[1]
        assert re.fullmatch(r"simvq( run)?: stopped; run the same command again to resume\n", told)
