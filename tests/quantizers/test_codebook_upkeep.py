"""EMA and Affine: averages and resets, against closed forms and independent code."""

import pytest
import torch
import torch.nn.functional as F
import vector_quantize_pytorch as library
from helpers.codebook_upkeep import FAR, noted, vectors
from helpers.quantizer_cases import LargestTensor
from torch import Tensor

from stage1_tokenizer.quantizers import CVQ, EMA, Affine, CVQConfig, EMAConfig, Quantizer
from stage1_tokenizer.quantizers.assignments import Assignments
from stage1_tokenizer.quantizers.codebook_init import k_means, sample_vectors


def rows_of(table: Tensor, among: Tensor) -> Tensor:
    """Whether each row of `table` is exactly one of `among`."""
    return (table[:, None] == among[None]).all(2).any(1)


def test_ema_is_the_library_of_others_after_ten_steps() -> None:
    torch.manual_seed(0)
    ours = EMA(codebook_size=12, code_dim=4, start="normal")
    theirs = library.VectorQuantize(
        4, 12, decay=0.99, eps=1e-5, rotation_trick=False, commitment_weight=0.25
    )
    theirs._codebook.embed.data.copy_(ours.table[None])
    theirs._codebook.embed_avg.data.copy_(ours.table[None])
    theirs._codebook.cluster_size.data.fill_(1.0)
    for seed in range(10):
        latents = vectors(60, seed=seed)[None]
        out = ours(latents)
        quantized, codes, loss = theirs(latents)
        assert torch.equal(out.codes, codes)
        torch.testing.assert_close(out.latents, quantized)
        torch.testing.assert_close(out.loss, loss.squeeze())
        ours.accumulate(out.inputs, out.codes.flatten())
        ours.after_step()
        torch.testing.assert_close(ours.table, theirs._codebook.embed[0], atol=1e-5, rtol=1e-4)


def test_ema_is_its_closed_form_after_five_equal_steps() -> None:
    """With well separated clusters assignments stay, and N = g^t + (1 - g^t) n, M alike."""
    clusters = torch.eye(3) * 50
    latents = clusters.repeat_interleave(torch.tensor([2, 5, 9]), 0) + vectors(16, 3)
    ema = EMA(codebook_size=3, code_dim=3, start="normal", decay=0.9)
    ema.table.copy_(clusters)
    ema.sums.copy_(clusters)
    for _ in range(5):
        codes = noted(ema, latents)
    counts = torch.tensor([2.0, 5.0, 9.0])
    sums = F.one_hot(codes, 3).float().T @ latents
    kept = 0.9**5
    n, m = kept + (1 - kept) * counts, kept * clusters + (1 - kept) * sums
    torch.testing.assert_close(ema.counts, n)
    torch.testing.assert_close(ema.table, m / n[:, None], atol=1e-4, rtol=1e-4)


def test_ema_codes_that_no_vector_chooses_stay_without_reset() -> None:
    ema = EMA(codebook_size=8, code_dim=4, start="normal")
    ema.table[3] = ema.sums[3] = FAR
    noted(ema, vectors(50))
    torch.testing.assert_close(ema.table[3], torch.full((4,), FAR), rtol=1e-4, atol=0)


@pytest.mark.parametrize("reset", ["redraw", "state"])
def test_rare_codes_become_vectors_of_the_batch_and_the_others_stay_averages(reset: str) -> None:
    ema = EMA(codebook_size=8, code_dim=4, start="normal", reset=reset, reset_share=0.1)
    rare = torch.tensor([False, True, False, False, True, True, False, False])
    ema.table[rare] = FAR
    ema.sums.copy_(ema.table)
    ema.counts[rare] = 0.01
    counts, sums = ema.counts.clone(), ema.sums.clone()
    latents = vectors(400)
    codes = ema.encode(latents)
    chosen = F.one_hot(codes, 8).float()
    noted(ema, latents)
    n, m = 0.99 * counts + 0.01 * chosen.sum(0), 0.99 * sums + 0.01 * chosen.T @ latents
    threshold = 0.1 * 400 / 8
    dead = n < threshold
    assert dead[rare].all()
    assert rows_of(ema.table[dead], latents).all()
    assert len(ema.table[dead].unique(dim=0)) == dead.sum(), "no vector twice"
    torch.testing.assert_close(ema.table[~dead], (m / n[:, None])[~dead], atol=1e-5, rtol=1e-4)
    if reset == "redraw":  # the averages go on as if nothing had happened
        torch.testing.assert_close(ema.counts, n)
        torch.testing.assert_close(ema.sums, m, atol=1e-4, rtol=1e-4)
    else:
        assert (ema.counts[dead] == threshold).all()
        assert torch.equal(ema.sums[dead], threshold * ema.table[dead])


def test_redraw_draws_a_dead_code_anew_in_every_step_and_state_keeps_one_that_is_chosen() -> None:
    latents = torch.cat([vectors(40), vectors(40) + 20])
    tables = {}
    for reset in ("redraw", "state"):
        torch.manual_seed(0)
        ema = EMA(codebook_size=4, code_dim=4, start="data", reset=reset, reset_share=0.05)
        ema.init_from(latents)
        ema.table[0], ema.sums[0], ema.counts[0] = FAR, FAR * 1e-6, 1e-6
        noted(ema, latents)
        tables[reset] = [ema.table[0].clone()]
        noted(ema, latents)
        tables[reset].append(ema.table[0].clone())
    first, second = tables["state"]
    assert rows_of(first[None], latents).all()
    assert not rows_of(second[None], latents).all(), "an average now"
    assert torch.equal(tables["redraw"][0], first)


@pytest.mark.parametrize("factor", [1, 10])
def test_the_threshold_grows_with_the_batch(factor: int) -> None:
    """The same vectors ten times over make the same codes rare."""
    ema = EMA(codebook_size=20, code_dim=4, reset="state", reset_share=0.5, decay=0.0)
    ema.init_from(vectors(100))
    latents = vectors(100)
    shares = ema.encode(latents).bincount(minlength=20) / 100
    noted(ema, latents.repeat(factor, 1))
    dead = ema.counts == 0.5 * 100 * factor / 20
    assert torch.equal(dead, shares < 0.5 / 20) and 0 < dead.sum() < 20


def test_a_vector_that_is_not_finite_leaves_the_averages_alone() -> None:
    clean, dirty = EMA(codebook_size=4, code_dim=4), EMA(codebook_size=4, code_dim=4)
    dirty.load_state_dict(clean.state_dict())
    latents = vectors(20)
    codes = clean.encode(latents)
    clean.accumulate(latents, codes)
    dirty.accumulate(
        torch.cat([latents, torch.full((1, 4), torch.inf)]), torch.cat([codes, codes[:1]])
    )
    clean.after_step()
    dirty.after_step()
    assert torch.equal(clean.table, dirty.table)


@pytest.mark.parametrize(("rows", "count"), [(100, 100), (1000, 7), (101, 100), (150, 100)])
def test_candidates_are_rows_none_twice(rows: int, count: int) -> None:
    assignments = Assignments()
    latents = vectors(rows)
    for part in latents.split(37):
        assignments.add(part, torch.zeros(len(part), dtype=torch.int64))
    drawn = [assignments.sample(count, step) for step in range(3)]
    for candidates in drawn:
        assert rows_of(candidates, latents).all()
        assert len(candidates.unique(dim=0)) == count
    assert not torch.equal(drawn[0], drawn[1]) and torch.equal(
        drawn[0], assignments.sample(count, 0)
    )


def test_fewer_vectors_than_candidates_come_several_times_a_little_apart() -> None:
    assignments = Assignments()
    latents = vectors(10)
    assignments.add(latents, torch.zeros(10, dtype=torch.int64))
    candidates = assignments.sample(100, 0)
    assert len(candidates.unique(dim=0)) == 100
    distances = torch.cdist(candidates, latents)
    assert distances.min(1).values.max() < 0.1
    assert (distances.argmin(1).bincount(minlength=10) == 10).all()


def test_affine_inner_steps_are_gradient_descent_on_the_codebook_pull() -> None:
    torch.manual_seed(0)
    affine = Affine(
        codebook_size=6, code_dim=4, inner_steps=4, inner_rate=1.5, replace_after=0, start="normal"
    )
    affine.scale.data.uniform_(-0.2, 0.2)
    affine.shift.data.normal_()
    latents = vectors(50)
    codes = affine.encode(latents)
    table = affine.table.detach().clone().requires_grad_()
    descent = torch.optim.SGD([table], lr=1.5)
    for _ in range(4):
        descent.zero_grad()
        codebook = (1 + 2 * affine.scale.detach()) * table + 2 * affine.shift.detach()
        F.mse_loss(codebook[codes], latents).backward()
        descent.step()
    noted(affine, latents)
    torch.testing.assert_close(affine.table, table, atol=1e-5, rtol=1e-4)


def test_affine_inner_steps_end_at_the_means() -> None:
    affine = Affine(codebook_size=3, code_dim=4, inner_steps=1, inner_rate=1e6, start="normal")
    latents = vectors(50)
    codes = noted(affine, latents)
    for code in codes.unique():
        mean = latents[codes == code].mean(0)
        torch.testing.assert_close(affine.codebook[code], mean, atol=1e-5, rtol=1e-4)


def test_affine_replaces_a_code_after_so_many_idle_steps_in_effect_by_a_vector() -> None:
    torch.manual_seed(0)
    affine = Affine(codebook_size=5, code_dim=4, replace_after=3, start="normal")
    affine.scale.data.uniform_(-0.2, 0.2)
    affine.shift.data.normal_()
    affine.table.data[2] = FAR
    alive = torch.tensor([0, 1, 3, 4])
    latents = affine.codebook.detach()[alive].repeat(10, 1) + 0.01 * vectors(40)
    before = affine.table.detach().clone()
    for _ in range(2):
        noted(affine, latents)
        assert torch.equal(affine.table, before)
    noted(affine, latents)
    assert torch.equal(affine.table[alive], before[alive])
    assert torch.cdist(affine.codebook[2:3], latents).min() < 1e-5
    assert affine.idle.tolist() == [0, 0, 0, 0, 0]


def test_affine_moves_all_codes_by_two_shared_vectors() -> None:
    torch.manual_seed(0)
    affine = Affine(codebook_size=9, code_dim=4, affine_rate=3.0, start="normal")
    affine.scale.data.copy_(vectors(4, 1)[:, 0])
    affine.shift.data.copy_(vectors(4, 1, seed=2)[:, 0])
    expected = affine.table + 3 * affine.table * affine.scale + 3 * affine.shift
    torch.testing.assert_close(affine.codebook, expected)
    affine(vectors(1)[None]).loss.backward()
    assert affine.scale.grad.abs().sum() > 0 and affine.shift.grad.abs().sum() > 0


def test_k_means_is_scikit_learns_from_the_same_start() -> None:
    cluster = pytest.importorskip("sklearn.cluster")
    latents = vectors(300, 3)
    theirs = cluster.KMeans(
        5, init=sample_vectors(latents, 5).numpy(), n_init=1, max_iter=200, tol=0
    ).fit(latents.numpy())
    ours = k_means(latents, 5, rounds=200)
    torch.testing.assert_close(
        ours, torch.from_numpy(theirs.cluster_centers_).float(), atol=1e-4, rtol=1e-4
    )


def test_mistakes_are_told_in_words() -> None:
    with pytest.raises(ValueError, match=r"model\.quantizer\.reset_share"):
        EMAConfig(reset_share=2.0)
    with pytest.raises(ValueError, match=r"model\.quantizer\.decay"):
        CVQConfig(decay=1.0)
    with pytest.raises(ValueError, match=r"replace_after=-1"):
        Affine(replace_after=-1)


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (EMA, {"reset": "state"}),
        (CVQ, {"anchor": "closest"}),
        (CVQ, {"anchor": "random"}),
        (CVQ, {"anchor": "probrandom"}),
        (Affine, {"inner_steps": 2, "replace_after": 1}),
    ],
)
def test_upkeep_makes_no_matrix_of_n_by_k(
    kind: type[Quantizer], options: dict[str, object]
) -> None:
    n, k = 2048, 8192
    quantizer = kind(codebook_size=k, code_dim=4, start="normal", **options)
    latents = vectors(n)
    with LargestTensor() as watched:
        noted(quantizer, latents)
    assert watched.elements < n * k / 4
