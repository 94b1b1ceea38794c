"""Features where there are neither labels to train a classifier with nor Inception's weights."""

import hashlib
import itertools

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from common.images import from_uint8

CHANNELS = (3, 32, 64, 128)


class UntrainedExtractor:
    """Three convolutions with random weights, a function of the seed: 128 features. Grey becomes three equal channels.

    Distances between such features tell sets of images apart, but not as people would.
    """

    published = False

    def __init__(self, device: torch.device, kernel: int = 3, seed: int = 0) -> None:
        self.name = "untrained-network" + (f"-{kernel}x{kernel}" if kernel != 3 else "")
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            layers = [
                nn.Sequential(nn.Conv2d(i, o, kernel, 2, padding=kernel // 2), nn.ReLU())
                for i, o in itertools.pairwise(CHANNELS)
            ]
        self.network = nn.Sequential(*layers).to(device)
        weights = torch.cat([p.detach().cpu().flatten() for p in self.network.parameters()])
        self.sha256 = hashlib.sha256(weights.numpy().tobytes()).hexdigest()
        self.device = device

    @torch.no_grad()
    def extract(
        self, images: UInt8[Tensor, "b c y x"]
    ) -> tuple[Float[Tensor, "b f"], Float[Tensor, "b f"]]:
        """The features twice: there are no classes."""
        colour = from_uint8(images).to(self.device).expand(-1, 3, -1, -1)
        features = self.network(colour).mean((2, 3))
        return features, features
