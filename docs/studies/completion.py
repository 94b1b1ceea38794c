"""The figure and the table of docs/completion.md: `python docs/studies/completion.py runs/digits runs/digits/any-order`.

The first folder has the tokenizer and the codes, the second a prior that was trained with `order: random`.
"""

import sys
from pathlib import Path

import numpy as np
import torch
from matplotlib import pyplot
from page import HERE, markdown
from torch import Tensor

from common.codes import read_codes
from pipelines import ImageGenerationPipeline
from stage1_tokenizer.images.data import ImageDataConfig, load_images

MASKS = {
    "upper half": torch.arange(16).view(4, 4) < 8,
    "lower half": torch.arange(16).view(4, 4) >= 8,
    "left half": torch.arange(4).expand(4, 4) < 2,
    "border": torch.tensor([[1, 1, 1, 1], [1, 0, 0, 1], [1, 0, 0, 1], [1, 1, 1, 1]]) > 0,
}
"""What is known of 4 x 4 codes."""
ITEMS, SHOWN, GUIDANCE = 200, 4, 2.0


def first_digits(count: int) -> tuple[Tensor, list[int]]:
    """The first images of the test split, and their labels."""
    digits = load_images(ImageDataConfig(test="test"), "test", channels=1, size=8)
    rows = digits.rows.select(range(count))  # type: ignore[union-attr]
    images = torch.stack([digits.view(digits.decode(row)) for row in rows])
    return images, [digits.label(row) for row in rows]


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
    hidden = ~mask.repeat_interleave(factor, 0).repeat_interleave(factor, 1)
    return (pipe.tokenizer.decode(codes).clamp(-1, 1) - images)[:, 0, hidden].square().mean(1)


def training_codes(folder: Path) -> Tensor:
    """The grids of the training split."""
    items = read_codes(folder, "train").with_format("numpy")["codes"]
    return torch.from_numpy(np.stack([*items]).astype(np.int64)).view(-1, 4, 4)


def table(pipe: ImageGenerationPipeline, train: Tensor) -> str:
    """The errors of every way to fill in, under each mask."""
    images, labels = first_digits(ITEMS)
    codes = pipe.tokenizer.encode(images)
    columns = [
        {
            name: float(errors(pipe, images, filled, mask).mean())
            for name, filled in fillings(pipe, codes, labels, mask, train).items()
        }
        for mask in MASKS.values()
    ]
    lines = [[name, *(f"{column[name]:.3f}" for column in columns)] for name in columns[0]]
    return markdown(["filled in by", *(f"{name} known" for name in MASKS)], lines)


def figure(pipe: ImageGenerationPipeline) -> pyplot.Figure:
    """For each mask a digit, what is kept of it, and completions; last a digit whose label is changed."""
    images, labels = first_digits(len(MASKS) + 1)
    codes = pipe.tokenizer.encode(images)
    masks, asked = [*MASKS.values(), MASKS["left half"]], [*labels]
    asked[-1] = 8 if labels[-1] != 8 else 3
    drawing, axes = pyplot.subplots(len(masks), 2 + SHOWN, figsize=(6, 5.4), layout="constrained")
    names = [*MASKS, f"{labels[-1]} to {asked[-1]}"]
    for i, (line, mask) in enumerate(zip(axes, masks, strict=True)):
        known = codes[i : i + 1].expand(SHOWN, 4, 4)
        out = pipe([asked[i]] * SHOWN, known=known, mask=mask, guidance=GUIDANCE)
        assert torch.equal(out.codes[:, mask], known[:, mask])
        pixels = mask.repeat_interleave(2, 0).repeat_interleave(2, 1)
        kept = pipe.tokenizer.decode(known[:1])[0, 0].where(pixels, torch.nan)
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
    run, prior = map(Path, sys.argv[1:])
    pipe = ImageGenerationPipeline.from_pretrained(prior / "pipeline")
    print(table(pipe, training_codes(run / "codes")))
    figure(pipe).savefig(HERE.parent / "completion.png", dpi=75)
