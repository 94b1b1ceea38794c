"""The search's ways of computing the same scores, which a device or a switch chooses among, give the same codes."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from stage1_tokenizer.quantizers.search import COLUMNS, most_alike, nearest

pytestmark = pytest.mark.filterwarnings(
    "ignore:TF32 acceleration"
)  # of the switch, on its way back
ONEDNN = [True, False] if torch.backends.mkldnn.is_available() else [False]


def small_integers(rows: int, dim: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(-2, 3, (rows, dim), generator=generator).float()


def dense(latents: Tensor, codebook: Tensor) -> Tensor:
    """The paper's expression; in float64, integers and their halves have no rounding."""
    z, c = latents.double(), codebook.double()
    return (z.square().sum(1, keepdim=True) + c.square().sum(1) - 2 * z @ c.T).argmin(1)


@pytest.mark.parametrize("onednn", ONEDNN)
@settings(max_examples=25, deadline=None)
@given(
    n=st.integers(1, 60),
    k=st.integers(1, 1200),
    d=st.integers(1, 9),
    tile=st.sampled_from([None, 200, 3 * COLUMNS]),
    seed=st.integers(0, 10**6),
)
def test_of_many_equal_scores_the_lowest_code_wins(
    onednn: bool, n: int, k: int, d: int, tile: int | None, seed: int
) -> None:
    """Codes come with their opposites: their mean is zero, and every score is exact."""
    latents, half = small_integers(n, d, seed), small_integers(k, d, seed + 1)
    codebook = torch.cat([half, -half])
    with torch.backends.mkldnn.flags(enabled=onednn):
        assert torch.equal(nearest(latents, codebook, tile), dense(latents, codebook))
        wanted = (latents @ codebook.T).argmax(1)
        assert torch.equal(most_alike(latents, codebook, tile), wanted)


@pytest.mark.parametrize("dim", [8, 128, 512])
@pytest.mark.parametrize("size", [700, 6000])
def test_codes_are_those_of_one_dense_float32_product(dim: int, size: int) -> None:
    """Rounded sums, as in use: the scores in one piece and their first maximum, without tiles and oneDNN."""
    torch.manual_seed(0)
    latents, codebook = torch.randn(1500, dim), torch.randn(size, dim)
    centred = codebook - codebook.mean(0)
    half_norms = centred.square().sum(1) / 2
    with torch.backends.mkldnn.flags(enabled=False):
        wanted = torch.addmm(-half_norms, latents - codebook.mean(0), centred.T).argmax(1)
        assert torch.equal(nearest(latents, codebook), wanted)
    assert torch.equal(nearest(latents, codebook), wanted)
    assert torch.equal(nearest(latents.T.contiguous().T, codebook.double()), wanted)


@pytest.mark.parametrize("onednn", ONEDNN)
def test_codes_a_rounding_error_apart_are_told_by_what_float32_sees(onednn: bool) -> None:
    """The second half of the codes differs from the first by one unit in the last place of one coordinate."""
    torch.manual_seed(0)
    half = torch.randn(1500, 16)
    moved = half.clone()
    moved[:, 0] = torch.nextafter(moved[:, 0], torch.tensor(torch.inf))
    codebook = torch.cat([half, moved])
    latents = codebook[torch.randperm(3000)[:400]]
    with torch.backends.mkldnn.flags(enabled=onednn):
        found = nearest(latents, codebook)
    apart = (codebook[found].double() - latents.double()).norm(dim=1)
    assert apart.max() <= 1e-6


def test_no_vectors_have_no_codes() -> None:
    assert nearest(torch.empty(0, 4), torch.randn(9, 4)).shape == (0,)
