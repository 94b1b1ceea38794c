"""A table of docs/completion.md, and with the name of a figure that, too:

    python docs/studies/completion.py runs/digits/any-order configs/digits.yaml completion.png

after `simvq run` of the recipe and a training of its prior with `order: random` in the first folder; `key=value` may
follow.
"""

import sys
from pathlib import Path

import numpy as np
import torch
from matplotlib import pyplot
from page import HERE, markdown
from torch import Tensor

from common.codes import read_codes
from common.images import enlarged
from pipelines import ImageGenerationPipeline
from pipelines.experiment import Experiment, read_experiment
from stage1_tokenizer.images.data import load_images

ITEMS, SHOWN, GUIDANCE = 200, 4, 2.0


def masks_of(height: int, width: int) -> dict[str, Tensor]:
    """What is known of a grid of codes: of an odd number of rows or columns the middle one is not."""
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    border = (y == 0) | (y == height - 1) | (x == 0) | (x == width - 1)
    return {
        "upper half": y < height // 2,
        "lower half": y >= height - height // 2,
        "left half": x < width // 2,
        "border": border,
    }


def first_images(experiment: Experiment, count: int) -> tuple[Tensor, list[int]]:
    """The first images of the test split, and their labels."""
    model = experiment.config("tokenizer").model
    data = experiment.config("score").data
    images = load_images(data, "test", channels=model.in_channels, size=model.image_size)
    rows = [images[i] for i in range(count)]
    views = torch.stack([images.view(images.decode(row)) for row in rows])
    return views, [images.label(row) for row in rows]


def fillings(
    pipe: ImageGenerationPipeline, codes: Tensor, labels: list[int], mask: Tensor, train: Tensor
) -> dict[str, Tensor]:
    """The codes with the unknown ones from the prior, and from what knows less."""
    count = len(codes)
    generator = torch.Generator().manual_seed(0)
    random_codes = torch.randint(
        0, pipe.tokenizer.quantizer.spec.alphabet, codes.shape, generator=generator
    )
    rows = torch.randint(0, len(train), (count, *mask.shape), generator=generator)
    y, x = torch.meshgrid(*map(torch.arange, mask.shape), indexing="ij")
    seeds = list(range(count))
    others = pipe(labels, seeds=[seed + count for seed in seeds], guidance=GUIDANCE).codes
    return {
        "the prior, label and known codes in view": pipe(
            labels, known=codes, mask=mask, seeds=seeds, guidance=GUIDANCE
        ).codes,
        "the prior, label alone": codes.where(mask, others),
        "each position's codes in training": codes.where(mask, train[rows, y, x]),
        "random codes": codes.where(mask, random_codes),
        "the true codes": codes,
    }


def errors(pipe: ImageGenerationPipeline, images: Tensor, codes: Tensor, mask: Tensor) -> Tensor:
    """The mean squared error of each image over the pixels that are not known, in [-1, 1]."""
    factor = images.shape[-1] // mask.shape[-1]
    hidden = ~enlarged(mask, factor)
    return (pipe.tokenizer.decode(codes).clamp(-1, 1) - images)[:, 0, hidden].square().mean(1)


def training_codes(folder: Path, grid: tuple[int, int]) -> Tensor:
    """The grids of the training split."""
    items = read_codes(folder, "train").with_format("numpy")["codes"]
    return torch.from_numpy(np.stack([*items]).astype(np.int64)).view(-1, *grid)


def table(experiment: Experiment, pipe: ImageGenerationPipeline) -> str:
    """The errors of every way to fill in, under each mask."""
    images, labels = first_images(experiment, ITEMS)
    codes, grid = pipe.tokenizer.encode(images), pipe.tokenizer.config.grid
    train = training_codes(experiment.config("codes").out, grid)
    masks = masks_of(*grid)
    columns = [
        {
            name: float(errors(pipe, images, filled, mask).mean())
            for name, filled in fillings(pipe, codes, labels, mask, train).items()
        }
        for mask in masks.values()
    ]
    lines = [[name, *(f"{column[name]:.3f}" for column in columns)] for name in columns[0]]
    return markdown(["filled in by", *(f"{name} known" for name in masks)], lines)


def figure(experiment: Experiment, pipe: ImageGenerationPipeline) -> pyplot.Figure:
    """For each mask a digit, what is kept of it, and completions; last a digit whose label is changed."""
    grid = pipe.tokenizer.config.grid
    named = masks_of(*grid)
    images, labels = first_images(experiment, len(named) + 1)
    codes, factor = pipe.tokenizer.encode(images), images.shape[-1] // grid[1]
    masks, asked = [*named.values(), named["left half"]], [*labels]
    asked[-1] = 8 if labels[-1] != 8 else 3
    drawing, axes = pyplot.subplots(len(masks), 2 + SHOWN, figsize=(6, 5.4), layout="constrained")
    names = [*named, f"{labels[-1]} to {asked[-1]}"]
    for i, (line, mask) in enumerate(zip(axes, masks, strict=True)):
        known = codes[i : i + 1].expand(SHOWN, *grid)
        out = pipe([asked[i]] * SHOWN, known=known, mask=mask, guidance=GUIDANCE)
        assert torch.equal(out.codes[:, mask], known[:, mask])
        kept = pipe.tokenizer.decode(known[:1])[0, 0].where(enlarged(mask, factor), torch.nan)
        shown = [
            images[i, 0],
            kept,
            *(torch.from_numpy(np.asarray(o) / 127.5 - 1) for o in out.images),
        ]
        for axis, image in zip(line, shown, strict=True):
            axis.imshow(image.detach().numpy(), cmap="gray", vmin=-1, vmax=1)
            axis.set(xticks=[], yticks=[], facecolor="#9ec3e6")
        line[0].set_ylabel(names[i], fontsize=8)
    for axis, title in zip(axes[0], ["digit", "known", "drawn", *[""] * 3], strict=True):
        axis.set_title(title, fontsize=8)
    return drawing


if __name__ == "__main__":
    prior, recipe, *rest = sys.argv[1:]
    settings = [word for word in rest if "=" in word]
    experiment = read_experiment(Path(recipe), settings)
    pipe = ImageGenerationPipeline.from_pretrained(Path(prior) / "pipeline")
    print(table(experiment, pipe))
    for name in (word for word in rest if "=" not in word):
        figure(experiment, pipe).savefig(HERE.parent / name, dpi=75)
