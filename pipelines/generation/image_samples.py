"""What is particular to images in sample: labels, PNG files, and all of them as one array."""

import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from common.files import replaced_file
from common.images import ROUNDING, save_pil
from pipelines.generation.images import ImageGenerationPipeline
from pipelines.generation.named import in_turn, written_numbers
from pipelines.sample_config import SampleImagesConfig


class ImageSamples:
    """The parts of sampling images that `sample` calls."""

    def __init__(self, config: SampleImagesConfig, pipeline: ImageGenerationPipeline) -> None:
        self.config, self.pipeline = config, pipeline
        self.labels = sample_labels(config, pipeline)

    @property
    def request(self) -> dict[str, Any]:
        """What decides the samples beside the config."""
        return {"labels": self.labels, "classes": list(self.pipeline.classes), "rounding": ROUNDING}

    def path(self, i: int) -> Path:
        """The file of sample i."""
        return self.config.out / f"{i:06d}.png"

    def generate(self, chosen: Sequence[int]) -> list[Image.Image]:
        """The samples of these indices."""
        config = self.config
        output = self.pipeline(
            [self.labels[i] for i in chosen] if self.labels else None,
            seeds=[config.seed + i for i in chosen],
            **config.options,
        )
        return output.images

    def save(self, i: int, image: Image.Image) -> None:
        """Writes the file of sample i."""
        save_pil(image, self.path(i))

    def finish(self) -> None:
        """Writes samples.npz, when all files are there."""
        count = self.config.count
        images = (np.asarray(Image.open(self.path(i))) for i in range(count))
        save_npz(images, count, self.config.out / "samples.npz")


def sample_labels(
    config: SampleImagesConfig, pipeline: ImageGenerationPipeline
) -> list[int] | None:
    """The label of each sample, or None for a prior without labels."""
    classes = len(pipeline.classes) if pipeline.prior.config.classes else 0
    chosen = written_numbers(config.labels, pipeline.classes, "label") or range(classes)
    return in_turn(chosen, range(config.count))


def save_npz(images: Iterator[np.ndarray[Any, Any]], count: int, path: Path) -> None:
    """Writes uint8 images as `arr_0` (n, y, x, c) of an .npz, one at a time, whole or not at all."""
    with (
        replaced_file(path) as partial,
        zipfile.ZipFile(partial, "w") as archive,
        archive.open("arr_0.npy", "w", force_zip64=True) as file,
    ):
        for i, image in enumerate(images):
            pixels = image[..., None] if image.ndim == 2 else image
            if i == 0:
                shape = (count, *pixels.shape)
                header = {"descr": "|u1", "fortran_order": False, "shape": shape}
                np.lib.format.write_array_header_1_0(file, header)
            file.write(np.ascontiguousarray(pixels).tobytes())
