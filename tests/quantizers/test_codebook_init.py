"""How a codebook begins."""

import pytest
import torch
from helpers.codebook_upkeep import vectors

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
