"""Orders other than raster: what is shuffled, what a prior knows of places, known codes, and training in both."""

from typing import Any

import pytest
import torch
from datasets import Dataset
from helpers.priors import image_prior, random_prior, speech_prior
from torch import Tensor

from stage2_prior import DepthPrior, Prior
from stage2_prior.data import CodeDataset, training_batches
from stage2_prior.logits import sample_from_logits
from stage2_prior.model import IGNORED
from stage2_prior.orders import as_prompts, known_first, random_order, random_share
from stage2_prior.sampling import sample_codes, uniforms
from stage2_prior.sampling_options import SamplingOptions

SIZES, POSITIONS = (11, 5, 7), 6
LENGTH = POSITIONS * len(SIZES)


def levels_prior(levels_by: str, **options: Any) -> Prior:
    """A prior of three codes per position that knows places."""
    return random_prior(
        codebook_size=11,
        code_dim=4,
        length=LENGTH,
        sizes=SIZES,
        levels_by=levels_by,
        order="random",
        **options,
    )


def shuffled(count: int, levels: int = 3, length: int = LENGTH) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.stack([random_order(length, levels, length, generator) for _ in range(count)])


def logits(prior: Prior, conditions: Tensor, codes: Tensor, order: Tensor) -> list[Tensor]:
    """Those of every code from all before it in the order, in one pass."""
    if isinstance(prior, DepthPrior):
        hidden = prior.hidden(conditions, codes, order).flatten(1, 2)
        return [prior.vocabulary.logits(hidden[:, i], i % 3) for i in range(LENGTH)]
    return list(prior.vocabulary.logits(prior.hidden(conditions, codes[:, :-1], order)).unbind(1))


def test_an_order_shuffles_positions_and_keeps_their_codes_together() -> None:
    order = random_order(12, 3, 18, torch.Generator().manual_seed(1))
    positions = order.view(6, 3)
    assert (positions % 3).tolist() == [[0, 1, 2]] * 6
    assert (
        sorted((positions[:4, 0] // 3).tolist()) == [0, 1, 2, 3] != (positions[:4, 0] // 3).tolist()
    )
    assert order[12:].tolist() == [12, 13, 14, 15, 16, 17]
    mask = torch.tensor([False, True, False, True])
    assert known_first(mask, 2, 10).tolist() == [2, 3, 6, 7, 0, 1, 4, 5, 8, 9]


def test_the_share_in_random_order_stays_or_falls_to_none() -> None:
    annealed = [random_share("annealed", done) for done in (0, 0.5, 0.625, 0.75, 1)]
    assert annealed == [1, 1, 0.5, 0, 0]
    assert random_share("random", 0.9) == 0.5 and random_share("raster", 0.0) == 0


@pytest.mark.parametrize("style", ["llama", "qwen3", "gpt2"])
@pytest.mark.parametrize("levels_by", ["flattened", "depth"])
def test_sampling_in_any_order_equals_the_whole_sequence_anew(levels_by: str, style: str) -> None:
    prior, order = levels_prior(levels_by, style=style, classes=2), shuffled(2)
    labels, random = torch.tensor([[1], [0]]), uniforms([5, 6], LENGTH)
    codes = sample_codes(prior, labels, [5, 6], SamplingOptions(guidance=2.0), order=order)
    sampled = codes.gather(1, order)
    conditional = logits(prior, labels, sampled, order)
    unconditional = logits(prior, torch.full_like(labels, 2), sampled, order)
    for i, (c, u) in enumerate(zip(conditional, unconditional, strict=True)):
        guided = (u + 2 * (c - u))[:, : SIZES[i % 3]]
        assert torch.equal(
            sample_from_logits(guided, random[:, i, 0], 1.0, 0, 1.0), sampled[:, i]
        ), i


@pytest.mark.parametrize("levels_by", ["flattened", "depth"])
def test_a_code_is_predicted_for_its_place(levels_by: str) -> None:
    """The state depends on the place of the next code, and on those of the codes before it, not on later ones."""
    prior, order = levels_prior(levels_by), shuffled(1)
    codes = torch.zeros(1, LENGTH, dtype=torch.int64)
    other = order.view(1, POSITIONS, 3)[:, [0, 1, 2, 4, 3, 5]].flatten(1)
    before, after = (logits(prior, prior.conditions(1), codes, o) for o in (order, other))
    for i in range(LENGTH):
        assert torch.allclose(before[i], after[i], atol=1e-5) == (i < 9), i


def test_no_order_is_raster_order() -> None:
    prior = image_prior(order="random")
    labels, codes = torch.tensor([[0], [2]]), torch.randint(0, 50, (2, 12))
    raster = torch.arange(12).expand(2, -1)
    assert torch.equal(prior(labels, codes), prior(labels, codes, raster))
    assert torch.equal(prior.nats(labels, codes), prior.nats(labels, codes, raster))
    sampled = [sample_codes(prior, labels, [1, 2], order=order) for order in (None, raster)]
    assert torch.equal(*sampled)


@pytest.mark.parametrize("levels_by", ["flattened", "depth"])
@pytest.mark.parametrize("options", [{}, {"top_k": 3, "guidance": 3.0, "schedule": "linear"}])
def test_known_codes_stay_and_a_seed_gives_the_same_rest_in_any_batch(
    levels_by: str, options: dict[str, Any]
) -> None:
    prior, labels, seeds = (
        levels_prior(levels_by, classes=3),
        torch.tensor([[0], [1], [2]]),
        [7, 8, 9],
    )
    known = [torch.randint(0, 5, (POSITIONS, 3)) for _ in seeds]
    masks = [
        torch.tensor(m, dtype=torch.bool) for m in ([0, 1, 0, 1, 1, 0], [0] * 6, [0] * 5 + [1])
    ]
    prompts, order = as_prompts(known, masks, "random", LENGTH)
    sampling = SamplingOptions(**options)
    together = sample_codes(prior, labels, seeds, sampling, prompts, order)
    for i, seed in enumerate(seeds):
        assert torch.equal(together[i].view(POSITIONS, 3)[masks[i]], known[i][masks[i]])
        one = slice(i, i + 1)
        alone = sample_codes(prior, labels[one], [seed], sampling, prompts[one], order[one])
        assert torch.equal(together[one], alone)


def test_what_a_prior_cannot_complete_is_told_in_words() -> None:
    known = [torch.zeros(4, 1, dtype=torch.int64)]
    first, last, all_ = (
        torch.tensor(m) for m in ([True, True, False, False], [False] * 3 + [True], [True] * 4)
    )
    prompts, order = as_prompts(known, [first], "raster", 4)
    assert order is None and len(prompts[0]) == 2
    for raster in ("raster", "annealed"):
        with pytest.raises(
            ValueError, match="keep only the first positions, or train a prior with"
        ) as caught:
            as_prompts(known, [last], raster, 4)  # type: ignore[arg-type]
        assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match="mask 0 keeps all 4 positions"):
        as_prompts(known, [all_], "random", 4)


def test_training_shuffles_half_of_the_items_by_position_in_any_batch() -> None:
    prior = image_prior(order="random")
    rows = Dataset.from_dict({"label": [0] * 64, "codes": [list(range(12))] * 64})
    items = CodeDataset(rows, prior, 0.1, 7, 640)

    def first(batch_size: int) -> list[tuple[Tensor, Tensor]]:
        batches = training_batches(items, batch_size=batch_size)
        return [
            pair for _ in range(64 // batch_size) for pair in zip(*next(batches)[1:], strict=True)
        ]

    pairs = first(8)
    for (codes, order), (again, places) in zip(pairs, first(32), strict=True):
        assert torch.equal(codes, again) and torch.equal(order, places)
        assert torch.equal(codes, order[:12])  # the codes say where they come from
    assert 20 < sum(codes.tolist() != list(range(12)) for codes, _ in pairs) < 44
    assert len(CodeDataset(rows, prior, 0.1, 7)[[(0, 0)]]) == 2  # held-out ones aren't


def test_sequences_that_end_are_shuffled_up_to_their_ends() -> None:
    prior = speech_prior("none", order="random")
    rows = Dataset.from_dict({"codes": [list(range(size)) for size in (3, 9, 12, 5)]})
    items = CodeDataset(rows, prior, 0.0, 1, 10**6)
    conditions, codes, order = items[[(i, i) for i in range(4)]]
    assert codes.shape == (4, 12) and order.shape == (4, 13)
    for row, places, size in zip(codes, order, (3, 9, 12, 5), strict=True):
        assert torch.equal(row[:size], places[:size]) and (row[size:] == IGNORED).all()
        assert places[size:].tolist() == list(range(size, 13))
    one = [prior.nats(conditions[i : i + 1], codes[i : i + 1], order[i : i + 1]) for i in range(4)]
    torch.testing.assert_close(prior.nats(conditions, codes, order), torch.cat(one))
    assert prior(conditions, codes, order).isfinite()


@pytest.mark.slow
@pytest.mark.parametrize("levels_by", ["flattened", "depth"])
def test_a_prior_of_random_order_learns_what_stands_where(levels_by: str) -> None:
    """Sequences in which each position has a code of its own: any position is filled in right from the others' places alone."""
    torch.manual_seed(0)
    prior = levels_prior(levels_by).train()
    sequence = torch.stack([torch.arange(6) % size for size in SIZES], 1).flatten()[None]
    rows = Dataset.from_dict({"codes": sequence.tolist() * 16})
    items = CodeDataset(rows, prior, 0.0, 0, 16 * 60)
    batches = training_batches(items, batch_size=16)
    optimizer = torch.optim.AdamW(prior.parameters(), lr=3e-3)
    for _ in range(60):
        optimizer.zero_grad()
        prior(*next(batches)).backward()
        optimizer.step()
    prior.eval()
    mask = torch.tensor([False, True, False, False, True, False])
    prompts, order = as_prompts([sequence.view(6, 3)], [mask], "random", LENGTH)
    filled = sample_codes(
        prior, prior.conditions(1), [0], SamplingOptions(temperature=0), prompts, order
    )
    assert torch.equal(filled, sequence)
