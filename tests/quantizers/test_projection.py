"""SimVQ's maps: from a full layer to none, and their moments."""

import pytest
import torch
from helpers.quantizer_cases import normal

from stage1_tokenizer.quantizers import SimVQ

MAPS = ("full", "diagonal", "scalar", "mlp", "none")


@pytest.mark.parametrize("kind", MAPS)
@pytest.mark.parametrize("bias", [True, False])
def test_every_map_starts_with_the_spread_of_the_latents(kind: str, bias: bool) -> None:
    torch.manual_seed(0)
    quantizer = SimVQ(codebook_size=3000, code_dim=8, map=kind, bias=bias)
    latents = 3 + 2.5 * normal(4000, 8)
    quantizer.init_from(latents)
    spread = quantizer.codebook.std(0).square().mean().sqrt()
    torch.testing.assert_close(spread, latents.std(0).square().mean().sqrt(), rtol=1e-4, atol=0)
    if bias or kind == "none":
        torch.testing.assert_close(
            quantizer.codebook.mean(0), latents.mean(0), atol=1e-4, rtol=1e-4
        )


def test_the_ladder_of_maps_has_the_parameters_it_says() -> None:
    count = {
        kind: sum(p.numel() for p in SimVQ(codebook_size=20, code_dim=6, map=kind).parameters())
        for kind in MAPS
    }
    assert count == {"full": 42, "diagonal": 12, "scalar": 7, "mlp": 84, "none": 0}


def test_maps_of_less_freedom_are_full_maps() -> None:
    full = SimVQ(codebook_size=20, code_dim=6)
    for kind in ("diagonal", "scalar"):
        less = SimVQ(codebook_size=20, code_dim=6, map=kind)
        less.projection.weight.data.uniform_(0.5, 2)
        less.projection.bias.data.normal_()
        full.basis.copy_(less.basis)
        full.projection.weight.data.copy_(torch.diag(less.projection.weight.expand(6)))
        full.projection.bias.data.copy_(less.projection.bias)
        torch.testing.assert_close(less.codebook, full.codebook)


def test_saved_weights_of_the_linear_layer_keep_their_names() -> None:
    names = set(SimVQ(codebook_size=20, code_dim=4).state_dict())
    assert names == {"basis", "projection.weight", "projection.bias"}
