"""EMA: averages and resets, against closed forms and independent code."""

import copy

import pytest
import torch
import torch.nn.functional as F
import vector_quantize_pytorch as library
from helpers.codebook_upkeep import FAR, is_one_of, upkeep_step, vectors

from stage1_tokenizer.quantizers import CVQ, EMA, RQ, Affine, CVQConfig, EMAConfig, Quantizer


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
        codes = upkeep_step(ema, latents)
    counts = torch.tensor([2.0, 5.0, 9.0])
    sums = F.one_hot(codes, 3).float().T @ latents
    kept = 0.9**5
    n, m = kept + (1 - kept) * counts, kept * clusters + (1 - kept) * sums
    torch.testing.assert_close(ema.counts, n)
    torch.testing.assert_close(ema.table, m / n[:, None], atol=1e-4, rtol=1e-4)


def test_ema_codes_that_no_vector_chooses_stay_without_reset() -> None:
    ema = EMA(codebook_size=8, code_dim=4, start="normal")
    ema.table[3] = ema.sums[3] = FAR
    upkeep_step(ema, vectors(50))
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
    upkeep_step(ema, latents)
    n, m = 0.99 * counts + 0.01 * chosen.sum(0), 0.99 * sums + 0.01 * chosen.T @ latents
    threshold = 0.1 * 400 / 8
    dead = n < threshold
    assert dead[rare].all()
    assert is_one_of(ema.table[dead], latents).all()
    assert len(ema.table[dead].unique(dim=0)) == dead.sum(), "no vector twice"
    torch.testing.assert_close(ema.table[~dead], (m / n[:, None])[~dead], atol=1e-5, rtol=1e-4)
    if reset == "redraw":  # the averages go on as if nothing had happened
        torch.testing.assert_close(ema.counts, n)
        torch.testing.assert_close(ema.sums, m, atol=1e-4, rtol=1e-4)
    else:
        assert (ema.counts[dead] == threshold).all()
        assert torch.equal(ema.sums[dead], threshold * ema.table[dead])


def test_redraw_replaces_a_dead_code_in_every_step_and_state_keeps_one_that_is_chosen() -> None:
    latents = torch.cat([vectors(40), vectors(40) + 20])
    codes_after = {}
    for reset in ("redraw", "state"):
        torch.manual_seed(0)
        ema = EMA(codebook_size=4, code_dim=4, start="data", reset=reset, reset_share=0.05)
        ema.init_from(latents)
        ema.table[0], ema.sums[0], ema.counts[0] = FAR, FAR * 1e-6, 1e-6
        upkeep_step(ema, latents)
        codes_after[reset] = [ema.table[0].clone()]
        upkeep_step(ema, latents)
        codes_after[reset].append(ema.table[0].clone())
    first, second = codes_after["state"]
    assert is_one_of(first[None], latents).all()
    assert not is_one_of(second[None], latents).all(), "an average now"
    assert torch.equal(codes_after["redraw"][0], first)


@pytest.mark.parametrize("factor", [1, 10])
def test_the_threshold_grows_with_the_batch(factor: int) -> None:
    """The same vectors ten times over make the same codes rare."""
    ema = EMA(codebook_size=20, code_dim=4, reset="state", reset_share=0.5, decay=0.0)
    ema.init_from(vectors(100))
    latents = vectors(100)
    frequencies = ema.encode(latents).bincount(minlength=20) / 100
    upkeep_step(ema, latents.repeat(factor, 1))
    dead = ema.counts == 0.5 * 100 * factor / 20
    assert torch.equal(dead, frequencies < 0.5 / 20) and 0 < dead.sum() < 20


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


def test_mistakes_are_told_in_words() -> None:
    with pytest.raises(ValueError, match=r"model\.quantizer\.reset_share"):
        EMAConfig(reset_share=2.0)
    with pytest.raises(ValueError, match=r"model\.quantizer\.decay"):
        CVQConfig(decay=1.0)
    with pytest.raises(ValueError, match=r"replace_after=-1"):
        Affine(replace_after=-1)


@pytest.mark.parametrize("reset", ["none", "state"])
def test_training_goes_on_from_a_table_that_is_an_average_over_steps(reset: str) -> None:
    """A step whose vectors are the codes themselves leaves them where they are."""
    ema = EMA(codebook_size=8, code_dim=4, reset=reset, reset_share=1e-6)
    ema.init_from(vectors(50))
    upkeep_step(ema, vectors(50))
    averaged = ema.table + 0.5
    ema.table.copy_(averaged)
    ema.start_from_table()
    upkeep_step(ema, averaged)
    torch.testing.assert_close(ema.table, averaged)


@pytest.mark.parametrize("kind", [EMA, RQ, CVQ, Affine])
def test_an_initialisation_anew_forgets_what_was_before(kind: type[Quantizer]) -> None:
    """But for the steps, of which random choices are a function."""
    options = {} if kind is RQ else {"start": "data"}
    old, new = (kind(codebook_size=8, code_dim=4, **options) for _ in range(2))
    old.init_from(vectors(50) + 9)
    for seed in range(20):
        upkeep_step(old, vectors(50, seed=seed) + 9)
    for parameter in old.parameters():
        torch.nn.init.ones_(parameter)
    for quantizer in (old, new):
        quantizer.init_from(vectors(50))
    expected = new.state_dict()
    for name, value in old.state_dict().items():
        assert torch.equal(value, expected[name]) or name.endswith("steps"), name


@pytest.mark.parametrize("reset", ["redraw", "state"])
def test_codes_in_use_outlive_the_first_step_of_a_large_batch(reset: str) -> None:
    """With more than 1 / reset_share vectors for each code, a count of 1 would be below the threshold."""
    quantizer = EMA(codebook_size=8, code_dim=4, reset=reset)
    batch = vectors(2000)
    quantizer.init_from(batch)
    counts = quantizer.encode(batch).bincount(minlength=8)
    upkeep_step(quantizer, batch)
    used = counts >= quantizer.config.reset_share * 2000 / 8
    averages = quantizer.sums / quantizer.counts[:, None]
    assert used.sum() >= 6
    torch.testing.assert_close(quantizer.table[used], averages[used])


@pytest.mark.parametrize("kind", [EMA, RQ, CVQ])
def test_averages_follow_a_model_in_float64_and_refuse_half_precision(
    kind: type[Quantizer],
) -> None:
    torch.manual_seed(0)
    single = kind(codebook_size=8, code_dim=4)
    double, half = copy.deepcopy(single).double(), copy.deepcopy(single).bfloat16()
    for quantizer in (single, double):
        quantizer.init_from(vectors(50))
        upkeep_step(quantizer, vectors(50))
    torch.testing.assert_close(double.codebook, single.codebook)
    with pytest.raises(ValueError, match=r"a quantizer in torch\.bfloat16 would lose .* float32"):
        upkeep_step(half, vectors(50))
