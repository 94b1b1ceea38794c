"""Where a training's precision is slow, and that a run says so before its first step."""

from pathlib import Path

import pytest
import torch

from common.precision import is_slow
from pipelines.cli import main

ROOT = Path(__file__).parents[2]
CPU = torch.device("cpu")
NO_BFLOAT16 = torch.backends.mkldnn.is_available() and not torch.cpu._is_avx512_supported()


def test_float32_is_slow_nowhere_and_nothing_on_a_gpu() -> None:
    assert not is_slow("fp32", CPU)
    assert not any(is_slow(each, torch.device("cuda")) for each in ("fp32", "bf16", "fp16"))


@pytest.mark.skipif(not NO_BFLOAT16, reason="this processor has instructions for bfloat16")
def test_a_run_says_that_its_precision_is_slow_here(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = str(ROOT / "configs/smoke.yaml")
    for precision, warned in (("fp32", False), ("bf16", True)):
        with pytest.raises(SystemExit):  # there are no codes
            main(["train-prior", recipe, f"run_dir={tmp_path}", f"prior.precision={precision}"])
        assert ("set prior.precision=fp32" in capsys.readouterr().out) == warned
