"""How close single images are to their originals: PSNR, SSIM, LPIPS."""

from pathlib import Path
from pickle import UnpicklingError

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from torchmetrics.functional.image import structural_similarity_index_measure
from torchmetrics.image.lpip import LearnedPerceptualImagePatchSimilarity
from torchvision.models import AlexNet_Weights

from common.images import from_uint8
from common.metrics import psnr
from pipelines.evaluation.extractors import verified_sha256
from pipelines.evaluation.table import Metric, Metrics, Unavailable, metric

PSNR = "PSNR (dB)"
SSIM = "SSIM (Gaussian 11 x 11, sigma 1.5)"
LPIPS = "LPIPS (AlexNet)"
SSIM_WINDOW = 11
ALEXNET = AlexNet_Weights.IMAGENET1K_V1.url
LPIPS_SMALLEST = 32
"""Below, AlexNet's last feature maps are empty."""
SMALL = Unavailable(f"images are smaller than the window of {SSIM_WINDOW} pixels")


def ssim(
    originals: UInt8[Tensor, "b c y x"], rebuilt: UInt8[Tensor, "b c y x"]
) -> Float[Tensor, " b"]:
    """Structural similarity of each image of at least 11 x 11 pixels; Gaussian window, mean over channels.

    It is scikit-image's (Wang et al. 2004): the mean over the windows that lie inside the image.
    """
    _, windows = structural_similarity_index_measure(
        rebuilt.float(),
        originals.float(),
        data_range=255.0,
        sigma=1.5,
        reduction="none",
        return_full_image=True,
    )
    inside = slice(SSIM_WINDOW // 2, -(SSIM_WINDOW // 2))
    return windows[..., inside, inside].flatten(1).mean(1)


def standard_alexnet() -> Path:
    """Where torch.hub puts AlexNet's weights."""
    return Path(torch.hub.get_dir()) / "checkpoints" / ALEXNET.rsplit("/", 1)[-1]


class Lpips(nn.Module):
    """LPIPS by AlexNet's features. Raises ValueError, with the reason, where it can't be had."""

    def __init__(self, size: int, allow_download: bool) -> None:
        super().__init__()
        path = standard_alexnet()
        if size < LPIPS_SMALLEST:
            raise ValueError(f"images of {size} pixels are smaller than AlexNet's {LPIPS_SMALLEST}")
        if not path.is_file() and not allow_download:
            raise ValueError(
                f"its weights {path.name} are not in torch.hub's folder: set allow_download=true"
            )
        try:
            if not path.is_file():
                path.parent.mkdir(parents=True, exist_ok=True)
                torch.hub.download_url_to_file(ALEXNET, str(path), progress=False)
            self.sha256 = verified_sha256(path)
            # refuses what torchvision would run
            torch.load(path, map_location="cpu", weights_only=True)
            self.network = LearnedPerceptualImagePatchSimilarity(net_type="alex").net
        except (OSError, RuntimeError, UnpicklingError) as error:
            reason = str(error).splitlines()[0]
            raise ValueError(f"its weights {path.name} can't be loaded ({reason})") from None

    @torch.no_grad()
    def forward(
        self, originals: UInt8[Tensor, "b c y x"], rebuilt: UInt8[Tensor, "b c y x"]
    ) -> Float[Tensor, " b"]:
        """The distance of each pair."""
        pair = [from_uint8(x).expand(-1, 3, -1, -1) for x in (originals, rebuilt)]
        return self.network(*pair).reshape(-1)


def load_lpips(size: int, allow_download: bool, device: torch.device) -> Lpips | Unavailable:
    """LPIPS, or the reason why it can't be computed."""
    try:
        return Lpips(size, allow_download).to(device)
    except ValueError as error:
        return Unavailable(str(error))


class ReconstructionMetrics:
    """PSNR, SSIM and LPIPS over all images of a set, which come in batches."""

    def __init__(self, lpips: Lpips | Unavailable) -> None:
        self.lpips = lpips
        self.values: dict[str, list[Tensor]] = {PSNR: [], SSIM: [], LPIPS: []}

    def update(
        self, originals: UInt8[Tensor, "b c y x"], rebuilt: UInt8[Tensor, "b c y x"]
    ) -> None:
        """Adds the values of each image."""
        self.values[PSNR].append(psnr(originals, rebuilt, data_range=255))
        if originals.shape[-1] >= SSIM_WINDOW:
            self.values[SSIM].append(ssim(originals, rebuilt))
        if not isinstance(self.lpips, Unavailable):
            self.values[LPIPS].append(self.lpips(originals, rebuilt))

    def compute(self) -> Metrics:
        """The means over the images."""
        ssim = self.mean(SSIM) if self.values[SSIM] else SMALL
        if isinstance(self.lpips, Unavailable):
            return {PSNR: self.mean(PSNR), SSIM: ssim, LPIPS: self.lpips}
        return {PSNR: self.mean(PSNR), SSIM: ssim, LPIPS: self.mean(LPIPS, self.lpips.sha256)}

    def mean(self, name: str, alexnet_sha256: str | None = None) -> Metric | Unavailable:
        """The mean of one of them."""
        values = torch.cat(self.values[name]).cpu().double()
        return metric(
            value=float(values.mean()),
            spread=float(values.std()),
            count=len(values),
            note="mean ± standard deviation over the images",
            extractor=alexnet_sha256 and "AlexNet",
            extractor_sha256=alexnet_sha256,
        )
