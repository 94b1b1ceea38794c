"""Figures of samples by label: `python docs/studies/samples.py mnist.png 2 configs/mnist.yaml [key=value ...]`, where 2
is the guidance beside none, after `simvq run` of the same recipe. CIFAR-10's is `cifar10.png 3 configs/cifar10.yaml`."""

import sys
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from matplotlib import pyplot
from matplotlib.figure import Figure
from page import HERE, show_grid
from torch import Tensor
from torchvision.transforms.v2.functional import pil_to_tensor

from common.images import to_uint8
from pipelines import ImageGenerationPipeline
from pipelines.experiment import Experiment, read_experiment
from stage1_tokenizer.images.data import load_images

SAMPLES = 4
"""Of each label, with each guidance."""


def first_of_each_label(experiment: Experiment) -> Float[Tensor, "b c y x"]:
    """The first test image of each label."""
    model = experiment.config("tokenizer").model
    data = load_images(
        experiment.config("score").data,
        "test",
        channels=model.in_channels,
        size=model.image_size,
    )
    labels = [data.label(data[i]) for i in range(200)]
    first = [labels.index(label) for label in range(10)]
    return torch.stack([data.view(data.decode(data[i])) for i in first])


def tiles(images: UInt8[Tensor, "b c y x"]) -> list[UInt8[np.ndarray, "h w c"]]:
    """Each image with a white frame, its channels last."""
    return [np.pad(x.movedim(0, -1), ((1, 1), (1, 1), (0, 0)), constant_values=255) for x in images]


def sampled(pipe: ImageGenerationPipeline, guidance: float) -> list[UInt8[Tensor, "b c y x"]]:
    """Lines of a sample of each label, with seeds from 0 on."""
    out = pipe(labels=[*range(10)] * SAMPLES, seeds=range(10 * SAMPLES), guidance=guidance)
    return [*torch.stack([pil_to_tensor(image) for image in out.images]).split(10)]


@torch.no_grad()
def write(experiment: Experiment, guidance: float) -> Figure:
    """Test images, their reconstructions, and samples by label without guidance and with more."""
    pipeline = experiment.config("prior").run_dir / "pipeline"
    pipe = ImageGenerationPipeline.from_pretrained(pipeline)
    images = first_of_each_label(experiment)
    decoded = pipe.tokenizer.decode(pipe.tokenizer.encode(images))
    lines = [to_uint8(part) for part in (images, decoded)]
    lines += sampled(pipe, 1.0) + sampled(pipe, guidance)
    names = ["test images", "reconstructions", *["samples"] * SAMPLES]
    names += [f"samples, guidance {guidance:g}"] * SAMPLES
    rows = [np.concatenate(tiles(line), axis=1) for line in lines]
    figure = pyplot.figure(figsize=(8, 7.2), layout="constrained")
    axis = figure.subplots()
    show_grid(axis, rows, names, 255, (2, 2 + SAMPLES))
    axis.set_xticks([len(rows[0]) * (label + 0.5) for label in range(10)], pipe.classes, fontsize=8)
    return figure


if __name__ == "__main__":
    name, scale, recipe, *changes = sys.argv[1:]
    made = write(read_experiment(Path(recipe), changes), float(scale))
    made.savefig(HERE.parent / name, dpi=80)
