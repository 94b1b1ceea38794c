"""Measures of a codebook against brute force, and each known cause of collapse by an example that has it alone."""

import math
import re

import numpy as np
import pytest
import torch
from helpers.quantizer_cases import CASES
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.doctor import arrays_report, quantizer_health
from stage1_tokenizer.advice import UNUSED
from stage1_tokenizer.codebook_usage import CodebookHealth, codebook_health, position_share
from stage1_tokenizer.findings import (
    BEST_STEP,
    causes,
    rank_finding,
    result_line,
    training_findings,
)
from stage1_tokenizer.quantizers import METHODS, Continuous, Quantizer

FEW = "few codes are used"


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@settings(max_examples=20, deadline=None)
@given(st.integers(2, 12), st.integers(2, 30), st.integers(0, 99))
def test_latents_that_ignore_their_position_share_nothing_with_it(
    b: int, n: int, seed: int
) -> None:
    """Without the correction it would be 1 / b."""
    shares = [position_share(normal(b, n, 16, seed=seed * 100 + i)) for i in range(8)]
    assert float(np.mean(shares)) < 0.12


def test_the_share_of_position_is_that_of_the_variance() -> None:
    positions = normal(1, 40, 8)
    positions = ((positions - positions.mean(1)) / positions.std()).expand(200, -1, -1)
    assert position_share(positions) == pytest.approx(1.0)
    noise = normal(200, 40, 8, seed=1)
    assert position_share(positions + noise) == pytest.approx(0.5, abs=0.03)
    assert position_share(torch.ones(3, 4, 5)) == 1.0
    lengths = torch.full((200,), 10)
    padded = torch.where(torch.arange(40)[:, None] < 10, noise, 100.0)
    assert position_share(padded, lengths) < 0.05 < 0.9 < position_share(padded)


@settings(max_examples=20, deadline=None)
@given(st.integers(2, 60), st.integers(2, 40), st.integers(1, 6), st.integers(0, 99))
def test_measures_equal_brute_force(n: int, k: int, d: int, seed: int) -> None:
    latents, codebook = normal(n, d, seed=seed) + 3, normal(k, d, seed=seed + 1)
    health = codebook_health(latents, codebook)
    distances = torch.cdist(latents.double(), codebook.double())
    codes = distances.argmin(1)
    dead = sorted(set(range(k)) - set(codes.tolist()))
    scale = (latents - latents.mean(0)).square().sum(1).mean().sqrt().clamp_min(1e-20)
    assert health.used == pytest.approx(1 - len(dead) / k)
    error = distances.min(1).values.square().mean() / scale.double() ** 2
    assert health.error == pytest.approx(float(error), rel=1e-3)
    if dead:
        nearest = distances[:, dead].min(0).values.median() / scale
        assert health.dead_distance == pytest.approx(float(nearest), rel=1e-3)
    else:
        assert health.dead_distance is None
    assert health.duplicates == 0


def names(health: CodebookHealth) -> list[str]:
    return [finding.name for finding in causes(health)]


def test_a_healthy_codebook_has_no_cause_of_collapse() -> None:
    assert names(codebook_health(normal(4000, 8), normal(256, 8, seed=1), position=0.3)) == []


@pytest.mark.parametrize(
    ("latents", "codebook", "cause"),
    [
        (normal(4000, 8), 0.01 * normal(64, 8, seed=1), "codes and latents have other scales"),
        (normal(4000, 8), 100 * normal(64, 8, seed=1), "codes and latents have other scales"),
        (
            normal(4000, 8) + 9,
            normal(64, 8, seed=1),
            "the latents have drifted away from the codes",
        ),
        (torch.full((4000, 8), 0.5), normal(64, 8, seed=1), "latents are constant"),
        (normal(4000, 8), normal(8, 8, seed=1).repeat(8, 1), "codes are alike"),
        (
            normal(4000, 8),
            normal(64, 1, seed=1).repeat(1, 8),
            "the codebook has collapsed in dimension",
        ),
        (normal(100, 8), normal(64, 8, seed=1), "too few vectors to tell"),
        (
            normal(4000, 8),
            5.2 * torch.eye(8)[:1] + 1.5 * torch.cat([torch.eye(8)[1:3], -2 * torch.eye(8)[1:3]]),
            "the codes say less than one code at the mean",
        ),
    ],
)
def test_each_cause_is_named(latents: torch.Tensor, codebook: torch.Tensor, cause: str) -> None:
    assert any(name.startswith(cause) for name in names(codebook_health(latents, codebook)))


def test_codes_far_from_all_latents_are_told_from_codes_too_dense_among_them() -> None:
    codebook = torch.cat([normal(16, 8, seed=1), normal(48, 8, seed=2) + 4])
    health = codebook_health(normal(4000, 8), codebook)
    for method, words in UNUSED.items():
        (change,) = (f.change for f in causes(health, method=method) if f.name == FEW)
        assert change == words
    (change,) = (f.change for f in causes(health) if f.name == FEW)
    assert change.startswith("Where only codes that are chosen move")


def test_codes_too_dense_among_the_latents_are_told_in_many_dimensions() -> None:
    """There all vectors are far apart: these codes are no farther from the latents than those that are used."""
    centres = normal(40, 128)
    latents = centres.repeat(100, 1) + 0.5 * normal(4000, 128, seed=1)
    codebook = torch.cat([centres, centres.repeat(2, 1) + 0.7 * normal(80, 128, seed=2)])
    (change,) = (f.change for f in causes(codebook_health(latents, codebook)) if f.name == FEW)
    assert "too dense" in change


@pytest.mark.parametrize("method", METHODS)
def test_what_is_said_of_unused_codes_names_keys_that_the_method_has(
    method: type[Quantizer],
) -> None:
    config = method.config_class()
    if method is Continuous:
        return
    keys = re.findall(r"tokenizer\.model\.quantizer\.(\w+)", UNUSED[config.method])
    assert all(hasattr(config, key) for key in keys)


@pytest.mark.parametrize("name", ["fc", "sqvae-vmf", "lfq", "bsq", "fsq"])
@pytest.mark.parametrize("scale", [0.09, 3])
def test_the_scale_of_latents_says_nothing_where_they_are_normalised(
    name: str, scale: float
) -> None:
    torch.manual_seed(0)
    quantizer = CASES[name].make().eval()
    _, findings = quantizer_health(quantizer, scale * normal(8000, 6), None)
    told = {finding.name for finding in findings}
    assert not told & {
        "codes and latents have other scales",
        "the latents have drifted away from the codes",
        "the codes say less than one code at the mean would",
    }


def test_latents_by_position_come_first() -> None:
    assert names(codebook_health(normal(4000, 8), normal(64, 8, seed=1), position=0.99)) == [
        "latents hardly depend on the input"
    ]


def test_a_rank_is_told_only_far_below_d() -> None:
    assert rank_finding(2.1, 8, 64) is None and rank_finding(1.2, 2, 64) is None
    assert rank_finding(1.1, 8, 64) is not None and rank_finding(3.0, 128, 64) is not None
    assert rank_finding(6.9, 128, 8) is None, "8 codes span no more than 7 dimensions"


LINE = {
    "step": 100,
    "heldout/psnr": 24.0,
    "constant/psnr": 11.5,
    "latents/position_share": 0.3,
    "codebook/size": 64,
    "codebook/dim": 8,
    "codebook/used": 0.98,
    "codebook/perplexity": 50.0,
    "codebook/positions": 20_000,
    "codebook/effective_rank": 4.0,
    "optim/clipped": 0.2,
    "optim/skipped": 0,
    "optim/grad_norm": 1.0,
}


@pytest.mark.parametrize(
    ("changes", "name", "failed"),
    [
        ({"heldout/psnr": 12.0}, "the reconstruction is no better than a constant", True),
        ({"heldout/psnr": float("nan")}, "the reconstruction is no better than a constant", True),
        ({"codebook/used": 0.062}, "few codes are used", False),
        ({"latents/position_share": 0.9996}, "latents hardly depend on the input", False),
        ({"codebook/effective_rank": 1.01}, "the codebook has collapsed in dimension", False),
        ({"optim/clipped": 1.0}, "every step is clipped", False),
        ({"optim/skipped": 3}, "steps were skipped", False),
        ({"optim/skipped": 88}, "steps were skipped", True),
    ],
)
def test_a_line_of_metrics_gives_itself_away(
    changes: dict[str, float], name: str, failed: bool
) -> None:
    assert training_findings(LINE) == []
    (found,) = training_findings(LINE | changes)
    assert (found.name, found.failed) == (name, failed)
    assert "; usual is " in str(found) and str(found).endswith(".")


def test_what_has_diverged_is_not_told_to_train_longer_or_to_clip_less() -> None:
    diverged = {"heldout/psnr": math.nan, "optim/clipped": 1.0, "optim/grad_norm": math.nan}
    (found,) = training_findings(LINE | diverged)
    assert "Lower tokenizer.optim.lr" in str(found) and "Train longer" not in str(found)


def test_a_run_without_a_finite_evaluation_is_judged_by_its_last() -> None:
    lines = [{"step": step, "heldout/psnr": math.nan, BEST_STEP: 0} for step in (1, 2)]
    assert result_line(lines)["step"] == 2


def test_few_positions_say_nothing_of_use() -> None:
    assert training_findings(LINE | {"codebook/used": 0.1, "codebook/positions": 200}) == []


@pytest.mark.parametrize(("size", "levels", "positions"), [(65_536, 1, 65_536), (8192, 8, 8192)])
def test_collapse_is_told_of_codebooks_that_the_counted_choices_cannot_fill(
    size: int, levels: int, positions: int
) -> None:
    line = LINE | {
        "codebook/size": size,
        "codebook/levels": levels,
        "codebook/positions": positions,
    }
    (found,) = training_findings(line | {"codebook/used": 2 / size})
    assert found.name == "few codes are used"
    uniform = 1 - (1 - 1 / size) ** (positions * levels)
    assert training_findings(line | {"codebook/used": uniform}) == []


def test_few_codes_are_told_with_what_changes_them() -> None:
    few = LINE | {"codebook/used": 0.062}
    (of_fsq,) = training_findings(few, "fsq")
    assert of_fsq.change == f"{UNUSED['fsq']} `simvq doctor` looks for the cause."


def test_mel_distances_are_held_against_the_best_constant_sound() -> None:
    line = {k: v for k, v in LINE.items() if "psnr" not in k} | {"constant/mel": 4.57}
    assert training_findings(line | {"heldout/mel": 2.1}) == []
    (found,) = training_findings(line | {"heldout/mel": 4.57})
    assert found.failed and "mel distance 4.57, of the best constant 4.57" in found.measured


def test_doctor_reads_arrays_of_any_project(tmp_path) -> None:
    np.save(tmp_path / "z.npy", normal(50, 80, 8).numpy())
    np.save(tmp_path / "c.npy", 1e-3 * normal(64, 8, seed=1).numpy())
    said = arrays_report(tmp_path / "z.npy", tmp_path / "c.npy")
    assert "WARNING: codes and latents have other scales" in said
    assert "latents by position alone" in said and "over 4,000 vectors" in said
    np.save(tmp_path / "o.npy", np.array([object()], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match=r"o\.npy is not a \.npy file of numbers"):
        arrays_report(tmp_path / "z.npy", tmp_path / "o.npy")
    np.save(tmp_path / "empty.npy", np.zeros((0, 8)))
    for latents in ("c.npy", "empty.npy"):
        codebook = "z.npy" if latents == "c.npy" else "c.npy"
        with pytest.raises(ValueError, match=r"give \(n, d\).*neither of them empty"):
            arrays_report(tmp_path / latents, tmp_path / codebook)
    np.save(tmp_path / "constant.npy", np.ones((4000, 8)))
    said = arrays_report(tmp_path / "constant.npy", tmp_path / "c.npy")
    assert said.count("WARNING") == 1 and "latents are constant" in said
