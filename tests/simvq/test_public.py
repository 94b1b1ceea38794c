"""`from simvq import ...`: every name, at no more than a tenth of torch's modules, typed."""

import subprocess
import sys

import pytest
from helpers.installed import PROJECT
from helpers.pages import ROOT

import simvq

COUNT = """
import sys, torch
before = set(sys.modules)
from simvq import SimVQ
print(len(before), *sorted(set(sys.modules) - before))
"""


@pytest.mark.parametrize("name", simvq.__all__)
def test_every_name_is_its_folders_own(name: str) -> None:
    public = getattr(simvq, name)
    assert public.__name__ == name and public.__doc__
    assert name in dir(simvq)


def test_an_unknown_name_is_no_attribute() -> None:
    with pytest.raises(AttributeError, match="module 'simvq' has no attribute 'SimVQQ'"):
        _ = simvq.SimVQQ


def test_a_quantizer_imports_a_tenth_of_torchs_modules_at_most() -> None:
    done = subprocess.run(
        [sys.executable, "-c", COUNT], cwd=ROOT, capture_output=True, text=True, check=True
    )
    of_torch, *ours = done.stdout.split()
    assert "stage1_tokenizer.quantizers.simvq" in ours
    assert len(ours) <= 0.1 * int(of_torch), ours


def test_all_packages_are_typed() -> None:
    for package in ("simvq", "common", "stage1_tokenizer", "stage2_prior", "pipelines"):
        assert (ROOT / package / "py.typed").exists()


def test_the_command_is_simvq() -> None:
    assert PROJECT["scripts"] == {"simvq": "pipelines.cli:main"}


@pytest.mark.slow
def test_type_checkers_know_the_keywords(tmp_path) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        "from simvq import FSQ, ResidualSimVQ, SimVQ\n"
        "SimVQ(codebook_size=8, code_dim=4)\n"
        "ResidualSimVQ(levels=3)\n"
        "SimVQ(codebok_size=8)\n"
        "FSQ(levels='8')\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--config-file=", "--ignore-missing-imports", str(program)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    errors = [line for line in done.stdout.splitlines() if ": error:" in line]
    assert len(errors) == 2, done.stdout
    assert ":4:" in errors[0] and 'did you mean "codebook_size"' in errors[0]
    assert ":5:" in errors[1] and "incompatible type" in errors[1]
