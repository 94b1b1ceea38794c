"""How a codebook begins."""

import pytest
import torch
from helpers.codebook_upkeep import vectors

from stage1_tokenizer.quantizers import EMA, LC, RQ, QINCo
from stage1_tokenizer.quantizers.codebook_init import k_means, sample_vectors


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


@pytest.mark.parametrize(
    "quantizer",
    [
        RQ(codebook_size=64, code_dim=4, levels=3, shared=False),
        QINCo(codebook_size=64, code_dim=4, levels=3),
    ],
    ids=lambda quantizer: quantizer.config.method,
)
def test_no_level_begins_with_the_zeros_that_codes_leave(quantizer: RQ | QINCo) -> None:
    latents = torch.randn(512, 4, generator=torch.manual_seed(0))
    quantizer.init_from(latents)
    tables = [table.codebook if isinstance(table, EMA) else table for table in quantizer.tables]
    assert [len(table.unique(dim=0)) for table in tables] == [64] * 3


def test_features_that_begin_anew_are_the_codebook() -> None:
    latents = vectors(300, 3)
    old, new = (LC(codebook_size=8, code_dim=3) for _ in range(2))
    torch.nn.init.constant_(old.projection.weight, 2.0)
    torch.nn.init.constant_(old.projection.bias, 1.0)
    for quantizer in (old, new):
        quantizer.init_from(latents)
    assert torch.equal(old.codebook, new.codebook)
