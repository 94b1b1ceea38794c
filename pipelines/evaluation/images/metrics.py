"""How close single pictures are to their originals: PSNR, SSIM, LPIPS."""

from pathlib import Path
from pickle import UnpicklingError

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from torchmetrics.functional.image import structural_similarity_index_measure
from torchmetrics.image.lpip import LearnedPerceptualImagePatchSimilarity
from torchvision.models import AlexNet_Weights

from pipelines.evaluation.images.extractors import verified_sha256

SSIM = "SSIM (Gaussian 11 x 11, sigma 1.5)"
LPIPS = "LPIPS (AlexNet)"
SSIM_WINDOW = 11
LPIPS_SMALLEST = 32
"""Below, AlexNet's last feature maps are empty."""


def psnr(
    originals: UInt8[Tensor, "b c y x"], made: UInt8[Tensor, "b c y x"]
) -> Float[Tensor, " b"]:
    """Peak signal-to-noise ratio of each picture, in dB; infinite where it is exact."""
    error = (originals.float() - made.float()).square().mean((1, 2, 3))
    return 10 * torch.log10(255**2 / error)


def ssim(
    originals: UInt8[Tensor, "b c y x"], made: UInt8[Tensor, "b c y x"]
) -> Float[Tensor, " b"]:
    """Structural similarity of each picture of at least 11 x 11 pixels; Gaussian window, mean over channels."""
    values = structural_similarity_index_measure(
        made.float(), originals.float(), data_range=255.0, sigma=1.5, reduction="none"
    )
    assert isinstance(values, Tensor)
    return values.reshape(-1)


class Lpips(nn.Module):
    """LPIPS by AlexNet's features. Raises ValueError, with the reason, where it can't be had."""

    def __init__(self, size: int, allow_download: bool) -> None:
        super().__init__()
        url = AlexNet_Weights.IMAGENET1K_V1.url
        path = Path(torch.hub.get_dir()) / "checkpoints" / url.rsplit("/", 1)[-1]
        if size < LPIPS_SMALLEST:
            raise ValueError(
                f"pictures of {size} pixels are smaller than AlexNet's {LPIPS_SMALLEST}"
            )
        if not path.is_file() and not allow_download:
            raise ValueError(
                f"its weights {path.name} are not in torch.hub's folder: set allow_download=true"
            )
        try:
            if not path.is_file():
                path.parent.mkdir(parents=True, exist_ok=True)
                torch.hub.download_url_to_file(url, str(path), progress=False)
            self.sha256 = verified_sha256(path)
            torch.load(
                path, map_location="cpu", weights_only=True
            )  # refuses what torchvision would run
            self.network = LearnedPerceptualImagePatchSimilarity(net_type="alex").net
        except (OSError, RuntimeError, UnpicklingError) as error:
            reason = str(error).splitlines()[0]
            raise ValueError(f"its weights {path.name} can't be loaded ({reason})") from None

    @torch.no_grad()
    def forward(
        self, originals: UInt8[Tensor, "b c y x"], made: UInt8[Tensor, "b c y x"]
    ) -> Float[Tensor, " b"]:
        """The distance of each pair."""
        pair = [x.float().div(127.5).sub(1).expand(-1, 3, -1, -1) for x in (originals, made)]
        return self.network(*pair).reshape(-1)
