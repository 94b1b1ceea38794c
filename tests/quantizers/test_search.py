"""The search: exact whatever the tiles, and the same codes in each way of computing the scores."""

import pytest
import torch
from helpers.quantizer_cases import seeded
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from stage1_tokenizer.quantizers.search import COLUMNS, max_inner_product, nearest

# of the switch, on its way back
pytestmark = pytest.mark.filterwarnings("ignore:TF32 acceleration")
ONEDNN = [True, False] if torch.backends.mkldnn.is_available() else [False]


def small_integers(count: int, dim: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(-2, 3, (count, dim), generator=generator).float()


def dense(latents: Tensor, codebook: Tensor) -> Tensor:
    """The paper's expression; in float64, integers and their halves have no rounding."""
    z, c = latents.double(), codebook.double()
    return (z.square().sum(1, keepdim=True) + c.square().sum(1) - 2 * z @ c.T).argmin(1)


@settings(max_examples=40, deadline=None)
@given(
    n=st.integers(1, 70),
    k=st.integers(1, 90),
    d=st.integers(1, 12),
    tile=st.integers(1, 4000),
    offset=st.sampled_from([0.0, 3.0, 100.0]),
    seed=st.integers(0, 10**6),
)
def test_nearest_is_brute_force_in_float64(
    n: int, k: int, d: int, tile: int, offset: float, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    z = torch.randn(n, d, generator=generator) + offset
    codebook = torch.randn(k, d, generator=generator) + offset
    distances = torch.cdist(
        z.double(), codebook.double(), compute_mode="donot_use_mm_for_euclid_dist"
    )
    chosen = distances.gather(1, nearest(z, codebook, tile)[:, None]).squeeze(1)
    torch.testing.assert_close(chosen, distances.min(1).values, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("centre", [100.0, 1000.0])
def test_vectors_far_from_zero_get_their_right_codes(centre: float) -> None:
    torch.manual_seed(0)
    z, codebook = (centre + 0.1 * torch.randn(size, 16) for size in (500, 300))
    distances = torch.cdist(
        z.double(), codebook.double(), compute_mode="donot_use_mm_for_euclid_dist"
    )
    assert torch.equal(nearest(z, codebook), distances.argmin(1))


def test_of_equal_codes_the_lowest_wins_in_any_tile() -> None:
    codebook = torch.tensor([[1.0, 0.0], [0.0, 1.0]]).repeat(8, 1)
    for tile in (1, 2, 3, 7, 100):
        assert nearest(torch.eye(2), codebook, tile).tolist() == [0, 1]


def test_search_holds_no_matrix_of_n_by_k() -> None:
    from torch.utils._python_dispatch import TorchDispatchMode

    class Largest(TorchDispatchMode):
        numel = 0

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            out = func(*args, **(kwargs or {}))
            for tensor in out if isinstance(out, tuple | list) else [out]:
                if isinstance(tensor, torch.Tensor):
                    self.numel = max(self.numel, tensor.numel())
            return out

    quantizer = seeded(codebook_size=16_384, code_dim=8)
    with Largest() as largest:
        quantizer(torch.randn(4, 1024, 8, requires_grad=True)).loss.backward()
    assert largest.numel < 4096 * 16_384 / 8


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
        assert torch.equal(max_inner_product(latents, codebook, tile), wanted)


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
        chosen = nearest(latents, codebook)
    apart = (codebook[chosen].double() - latents.double()).norm(dim=1)
    assert apart.max() <= 1e-6


def test_no_vectors_have_no_codes() -> None:
    assert nearest(torch.empty(0, 4), torch.randn(9, 4)).shape == (0,)


@pytest.mark.parametrize("precision", ["highest", "high", "medium"])
def test_lower_precision_of_products_is_off_within_the_search_and_as_it_was_after(
    precision: str,
) -> None:
    """TF32, which users allow for their networks, would change codes without a word."""
    seen: list[str] = []

    class Vectors(Tensor):
        @classmethod
        def __torch_function__(cls, function, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            if function is torch.nn.functional.linear:
                backends = torch.backends.cuda.matmul, torch.backends.mkldnn.matmul
                seen.extend(backend.fp32_precision for backend in backends)
            return super().__torch_function__(function, types, args, kwargs or {})

    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(precision)
    allowed = torch.backends.cuda.matmul.fp32_precision
    try:
        with torch.backends.mkldnn.flags(enabled=False):
            nearest(torch.randn(5, 4).as_subclass(Vectors), torch.randn(7, 4))
        assert set(seen) == {"ieee"}
        assert torch.get_float32_matmul_precision() == precision
        assert torch.backends.cuda.matmul.fp32_precision == allowed
    finally:
        torch.set_float32_matmul_precision(before)
