"""The benchmarks of stage 2 compare like with like: both sides have the same losses and choose the same likeliest codes."""

import pytest
import torch
from helpers.priors import randomized

from benchmarks import muon, prior_step, sampling
from benchmarks.stock import stock_model

STEP = prior_step.Sizes(
    sizes=("1m",),
    codebooks=(40,),
    precisions=("fp32", "bf16"),
    length=8,
    timed=(32,),
    weighed=0,
    code_dim=4,
    rounds=1,
)
SAMPLING = sampling.Sizes(
    size="1m", codebook_size=40, lengths=(4, 6), batches=(1, 2), most_codes=10, classes=3, rounds=1
)


@pytest.mark.parametrize(("precision", "digits"), [("fp32", 1e-5), ("bf16", 1e-2)])
def test_both_sides_start_from_the_same_loss_and_learn(precision: str, digits: float) -> None:
    case = prior_step.Case(
        size="1m",
        codebook_size=40,
        precision=precision,
        length=8,
        code_dim=4,  # type: ignore[arg-type]
    )
    plain = prior_step.plain_step(case, 32)
    learned = prior_step.our_step(case, 32, "learned")
    codebook = prior_step.our_step(case, 32, "codebook")
    first = plain()
    assert learned() == pytest.approx(first, rel=digits)
    losses = [codebook() for _ in range(3)]
    assert plain() < first and learned() < first and losses[-1] < losses[0]


def test_a_line_for_each_case_of_training() -> None:
    lines = prior_step.compare(STEP)
    rows = [prior_step.cells(line) for line in lines]
    assert [row[:4] for row in rows] == [["fp32", "1m", "40", "32"], ["bf16", "1m", "40", "32"]]
    assert all(len(row) == len(prior_step.HEADER) for row in rows)
    with pytest.raises(ValueError, match="one number for each of codebooks"):
        prior_step.compare(prior_step.Sizes(timed=(1, 2, 3)))


def test_both_muons_step_from_the_same_gradients() -> None:
    sizes = muon.Sizes(sizes=("1m",), batch=2, length=4, rounds=1)
    ways = muon.ways(sizes, "1m")
    optimizers = [ways[name].__self__ for name in ("torch", "ours")]  # type: ignore[attr-defined]
    theirs, ours = (optimizer.param_groups[0]["params"] for optimizer in optimizers)
    assert len(ours) == 35 and all(one is other for one, other in zip(theirs, ours, strict=True))
    assert all(matrix.grad.abs().max() > 0 for matrix in ours)
    assert len(muon.row("1m", muon.alternate(ways, 1, muon.DEVICE))) == 5


@pytest.mark.parametrize("cache", ["dynamic", "static"])
def test_both_sides_draw_the_same_likeliest_codes(cache: str) -> None:
    prior = randomized(sampling.new_prior(SAMPLING, 6))
    stock = stock_model(prior).eval()
    labels = torch.tensor([0, 2, 1])
    greedy = sampling.ours(prior, labels, 2.5, temperature=0.0)
    how = {"cache_implementation": "static"} if cache == "static" else {}
    codes = sampling.theirs(stock, labels, prior.config.classes, 6, 2.5, do_sample=False, **how)
    assert torch.equal(greedy, codes)


def test_a_line_for_each_cell_of_sampling_but_the_long_ones() -> None:
    cells = sampling.compare(SAMPLING)
    assert [(cell.length, cell.batch) for cell in cells] == [(4, 1), (4, 2), (6, 1)]
    assert all(len(sampling.line(cell)) == len(sampling.HEADER) for cell in cells)
    sampled = {name: way().shape for name, way in sampling.ways(SAMPLING, 4, 2).items()}
    assert sampled == dict.fromkeys(["ours", "dynamic", "static"], (2, 4))
