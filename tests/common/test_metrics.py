"""PSNR."""

import pytest
import torch

from common.metrics import psnr


def test_psnr_is_of_each_image() -> None:
    """A constant error of e has 20 log10(255 / e) dB, whatever image stands beside it."""
    originals = torch.full((2, 3, 4, 4), 100, dtype=torch.uint8)
    made = originals + torch.tensor([10, 1], dtype=torch.uint8).reshape(2, 1, 1, 1)
    expected = torch.tensor([28.1308, 48.1308])
    torch.testing.assert_close(psnr(originals, made, data_range=255), expected, atol=1e-3, rtol=0)
    assert psnr(originals, originals, data_range=255).tolist() == pytest.approx(
        [106.02] * len(originals)
    )
