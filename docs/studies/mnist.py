"""MNIST's figure: `python docs/studies/mnist.py configs/mnist.yaml [key=value ...]`, after `simvq run` of the same."""

import sys
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from matplotlib import pyplot
from matplotlib.figure import Figure
from page import HERE
from torch import Tensor

from common.images import to_uint8
from pipelines import ImageGenerationPipeline
from pipelines.experiment import Experiment, read_experiment
from stage1_tokenizer.images.data import load_images

SAMPLES = 4
"""Of each label, with each guidance."""


def test_images(experiment: Experiment) -> Float[Tensor, "b c y x"]:
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


def sampled(pipe: ImageGenerationPipeline, guidance: float) -> list[UInt8[Tensor, "b y x"]]:
    """Lines of a sample of each label, with seeds from 0 on."""
    out = pipe(labels=[*range(10)] * SAMPLES, seeds=range(10 * SAMPLES), guidance=guidance)
    images = torch.stack([torch.from_numpy(np.array(image)) for image in out.images])
    return [*images.split(10)]


@torch.no_grad()
def write(experiment: Experiment) -> Figure:
    """Test images, their reconstructions, and samples by label without guidance and with more."""
    pipeline = experiment.config("prior").run_dir / "pipeline"
    pipe = ImageGenerationPipeline.from_pretrained(pipeline)
    images = test_images(experiment)
    decoded = pipe.tokenizer.decode(pipe.tokenizer.encode(images))
    lines = [to_uint8(part)[:, 0] for part in (images, decoded)]
    lines += sampled(pipe, 1.0) + sampled(pipe, 2.0)
    names = ["test images", "reconstructions", *["samples"] * SAMPLES]
    names += ["samples, guidance 2"] * SAMPLES
    grid = np.block([[np.pad(tile.numpy(), 1, constant_values=255) for tile in x] for x in lines])
    figure = pyplot.figure(figsize=(8, 7.2), layout="constrained")
    axis = figure.subplots()
    axis.imshow(grid, cmap="gray", vmin=0, vmax=255)
    tile = grid.shape[0] / len(lines)
    axis.set_yticks([tile * (line + 0.5) for line in range(len(lines))], names)
    axis.set_xticks([])
    for line in (2, 2 + SAMPLES):
        axis.axhline(line * tile - 0.5, color="C1", lw=2)
    axis.tick_params(length=0)
    axis.spines[:].set_visible(False)
    return figure


if __name__ == "__main__":
    write(read_experiment(Path(sys.argv[1]), sys.argv[2:])).savefig(
        HERE.parent / "mnist.png", dpi=80
    )
