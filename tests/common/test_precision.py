"""Where a training's precision is slow, and that a run says so before its first step."""

import threading
from pathlib import Path

import pytest
import torch

from common.precision import BACKENDS, float32_products, is_slow
from pipelines.cli import main

ROOT = Path(__file__).parents[2]
CPU = torch.device("cpu")
NO_BFLOAT16 = torch.backends.mkldnn.is_available() and not torch.cpu._is_avx512_supported()


def test_float32_is_slow_nowhere_and_nothing_on_a_gpu() -> None:
    assert not is_slow("fp32", CPU)
    assert not any(is_slow(each, torch.device("cuda")) for each in ("fp32", "bf16", "fp16"))


def test_the_last_thread_that_leaves_brings_the_precision_back() -> None:
    before = [backend.fp32_precision for backend in BACKENDS]
    BACKENDS[0].fp32_precision = "tf32"
    try:
        outer, inner = float32_products(), float32_products()
        with outer:
            other = threading.Thread(target=inner.__enter__)
            other.start()
            other.join()
        assert BACKENDS[0].fp32_precision == "ieee"  # the other thread is inside still
        inner.__exit__(None, None, None)
        assert BACKENDS[0].fp32_precision == "tf32"
    finally:
        for backend, precision in zip(BACKENDS, before, strict=True):
            backend.fp32_precision = precision


def test_a_later_setting_for_all_still_reaches_every_operation() -> None:
    every, before = torch.backends, [backend.fp32_precision for backend in BACKENDS]
    for backend in BACKENDS:
        backend.fp32_precision = "none"
    try:
        every.fp32_precision = "tf32"  # type: ignore[attr-defined]
        with float32_products():
            pass
        assert {backend.fp32_precision for backend in BACKENDS} == {"tf32"}
        every.fp32_precision = "ieee"  # type: ignore[attr-defined]
        assert {backend.fp32_precision for backend in BACKENDS} == {"ieee"}
    finally:
        every.fp32_precision = "none"  # type: ignore[attr-defined]
        for backend, precision in zip(BACKENDS, before, strict=True):
            backend.fp32_precision = precision


@pytest.mark.skipif(not NO_BFLOAT16, reason="this processor has instructions for bfloat16")
def test_a_run_says_that_its_precision_is_slow_here(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = str(ROOT / "configs/smoke.yaml")
    for precision, warned in (("fp32", False), ("bf16", True)):
        with pytest.raises(SystemExit):  # there are no codes
            main(["train-prior", recipe, f"run_dir={tmp_path}", f"prior.precision={precision}"])
        assert ("set prior.precision=fp32" in capsys.readouterr().out) == warned
