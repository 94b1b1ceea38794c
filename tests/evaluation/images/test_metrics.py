"""SSIM and LPIPS of single images."""

from pathlib import Path

import pytest
import torch
from skimage.metrics import structural_similarity

from pipelines.evaluation.images.metrics import Lpips, ssim


def test_ssim_of_identical_images_is_one_and_each_image_has_its_own() -> None:
    images = torch.randint(0, 256, (3, 3, 16, 16), generator=torch.manual_seed(0)).byte()
    rebuilt = images.clone()
    rebuilt[1] = 255 - rebuilt[1]
    values = ssim(images, rebuilt)
    torch.testing.assert_close(values[[0, 2]], torch.ones(2))
    assert values[1] < 0


def test_ssim_is_scikit_images() -> None:
    random = torch.manual_seed(0)
    images = torch.randint(0, 256, (3, 3, 20, 20), generator=random).byte()
    rebuilt = (images.int() + torch.randint(-60, 60, images.shape, generator=random)).clamp(0, 255)
    theirs = [
        structural_similarity(
            a.numpy(),
            b.byte().numpy(),
            channel_axis=0,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
        )
        for a, b in zip(images, rebuilt, strict=True)
    ]
    assert ssim(images, rebuilt.byte()).tolist() == pytest.approx(theirs, abs=1e-5)


def test_lpips_says_why_it_can_not_be_had(no_weights: None) -> None:
    with pytest.raises(ValueError, match="8 pixels are smaller"):
        Lpips(8, allow_download=False)
    with pytest.raises(ValueError, match=r"alexnet-owt-7be5be79\.pth are not in .* allow_download"):
        Lpips(32, allow_download=False)
    wrong = Path(torch.hub.get_dir()) / "checkpoints" / "alexnet-owt-7be5be79.pth"
    wrong.parent.mkdir()
    torch.save({}, wrong)
    with pytest.raises(ValueError, match=r"promises 7be5be79"):
        Lpips(32, allow_download=False)
