"""How time and memory grow: the search, a training step of the prior, and encoding a data set.

Of each, one size changes while the others stay; the slope is that of the least-squares line through the
logarithms, 1 for what grows in proportion and 0 for what stays. Memory is what one run adds to a process
that has done a smaller one before, so that what libraries set up once does not count.
"""

import itertools
import math
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from io import BytesIO
from pathlib import Path
from statistics import linear_regression

import numpy as np
import pyarrow
import pyarrow.parquet as parquet
import torch
from matplotlib import pyplot
from PIL import Image

from benchmarks.side_by_side import DEVICE, OUT, Timing, alternate, report, weighed
from common.config import load_config
from common.figures import save_figure
from common.training import decay_groups
from stage1_tokenizer.encode import encode
from stage1_tokenizer.images.data import ImageDataConfig
from stage1_tokenizer.images.encode import EncodeImagesConfig
from stage1_tokenizer.images.tokenizer import ImageTokenizer, ImageTokenizerConfig
from stage1_tokenizer.quantizers import SimVQConfig
from stage1_tokenizer.quantizers.search import nearest
from stage2_prior import Prior, PriorConfig
from stage2_prior.decoding import Size

SIDE, STORED = 16, 96
"""Of an image, in pixels: as the tokenizer sees it, and in its file, of 28 kB."""
IMAGES_AT_ONCE = 64
"""Encoded together, in one shard, and in one group of rows of a file."""

Work = Callable[[], object]


@dataclass(frozen=True, kw_only=True)
class GrowthSizes:
    """The points of every curve, and what the other sizes are meanwhile."""

    vectors: tuple[int, ...] = (2048, 4096, 8192, 16_384)
    """N of the search, with the first of `codebook_sizes` and of `code_dims`."""
    codebook_sizes: tuple[int, ...] = (8192, 16_384, 32_768, 65_536)
    """K, with the first of `vectors` and of `code_dims`."""
    code_dims: tuple[int, ...] = (64, 128, 256, 512)
    """d, with the first of `vectors` and of `codebook_sizes`."""
    lengths: tuple[int, ...] = (128, 256, 512, 1024)
    """Codes of one sequence of the prior."""
    prior: Size = "3m"
    batch_size: int = 4
    """Sequences in a step of the prior."""
    images: tuple[int, ...] = (512, 1024, 2048, 4096)
    """Of the data set that is encoded."""
    rounds: int = 5


def search(vectors: int, size: int, dim: int) -> Work:
    """The search alone."""
    latents, codebook = (torch.randn(count, dim, device=DEVICE) for count in (vectors, size))
    nearest(latents[:64], codebook[:64])
    return partial(nearest, latents, codebook)


def prior_step(length: int, batch: int, size: Size) -> Work:
    """A training step of the prior, optimizer included."""
    prior = Prior(PriorConfig(codebook_size=1024, code_dim=8, length=length, size=size)).to(DEVICE)
    optimizer = torch.optim.AdamW(decay_groups(prior, 0.05), fused=True)
    conditions = prior.conditions(batch).to(DEVICE)
    codes = torch.randint(1024, (batch, length), device=DEVICE)

    def run(codes: torch.Tensor) -> None:
        prior(conditions, codes).backward()
        optimizer.step()
        optimizer.zero_grad()

    run(codes[:, :2])
    return partial(run, codes)


def encoding(images: int) -> Work:
    """Encodes a data set on disk, read as a stream, with a small untrained tokenizer."""
    folder = tempfile.TemporaryDirectory()
    root = Path(folder.name)
    random = np.random.default_rng(0)
    write_images(root / "few.parquet", IMAGES_AT_ONCE, random)
    write_images(root / "many.parquet", images, random)
    write_images(root / "held_out.parquet", IMAGES_AT_ONCE, random)
    quantizer = SimVQConfig(codebook_size=256, code_dim=16)
    architecture = ImageTokenizerConfig(
        image_size=SIDE, width=32, multipliers=(1, 2), blocks_per_level=1, quantizer=quantizer
    )
    ImageTokenizer(architecture).save_pretrained(root / "model")
    few, many, held_out = (str(root / f"{name}.parquet") for name in ("few", "many", "held_out"))
    data = ImageDataConfig(
        source="parquet", train=few, validation=held_out, label_column=None, streaming=True
    )
    config = EncodeImagesConfig(
        tokenizer=root / "model",
        out=root / "warm",
        data=data,
        batch_size=IMAGES_AT_ONCE,
        shard_items=IMAGES_AT_ONCE,
    )
    encode(config)
    config = replace(config, data=replace(data, train=many))
    indices = itertools.count()

    def run() -> None:
        assert root == Path(folder.name)  # the folder is there as long as this function
        encode(replace(config, out=root / f"codes-{next(indices)}"))

    return run


def write_images(path: Path, count: int, random: np.random.Generator) -> None:
    """Writes a Parquet file of noise, a group of rows at a time: what is held here would hide what is read."""
    struct = pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])
    schema = pyarrow.schema([("image", struct)])
    with parquet.ParquetWriter(path, schema) as writer:
        for first in range(0, count, IMAGES_AT_ONCE):
            indices = range(first, min(first + IMAGES_AT_ONCE, count))
            stored = [{"bytes": noise(random), "path": f"{index}.png"} for index in indices]
            writer.write_table(pyarrow.table({"image": stored}, schema=schema))


def noise(random: np.random.Generator) -> bytes:
    """An image in which nothing can be compressed, as PNG."""
    buffer = BytesIO()
    pixels = random.integers(256, size=(STORED, STORED, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(buffer, format="PNG")
    return buffer.getvalue()


@dataclass(frozen=True, kw_only=True)
class Curve:
    """What was measured while one size changed."""

    work: str
    against: str
    sizes: list[int]
    seconds: list[Timing]
    memory: list[float]
    """GiB that one run adds."""

    @property
    def slopes(self) -> tuple[float, float]:
        """Of time and of memory."""
        medians = [timing.median for timing in self.seconds]
        return log_slope(self.sizes, medians), log_slope(self.sizes, self.memory)


def log_slope(sizes: list[int], values: list[float]) -> float:
    """The exponent of the power law that fits best."""
    pages = [max(value, 2**-18) for value in values]  # less than a page of memory can't be seen
    return linear_regression([math.log(x) for x in sizes], [math.log(y) for y in pages]).slope


def measured(
    work: str,
    against: str,
    points: dict[int, tuple[Callable[..., Work], tuple[object, ...]]],
    rounds: int,
) -> Curve:
    """Seconds and memory at every size: `points` has a maker and its arguments for each."""
    ways = {str(size): make(*args) for size, (make, args) in points.items()}
    seconds = alternate(ways, rounds, DEVICE)
    memory = [weighed(make, *args) for make, args in points.values()]
    return Curve(
        work=work, against=against, sizes=[*points], seconds=[*seconds.values()], memory=memory
    )


def compare(sizes: GrowthSizes) -> list[Curve]:
    """Every curve."""
    n, k, d = sizes.vectors, sizes.codebook_sizes, sizes.code_dims
    step = (sizes.batch_size, sizes.prior)
    return [
        measured("search", "vectors, N", {x: (search, (x, k[0], d[0])) for x in n}, sizes.rounds),
        measured("search", "codes, K", {x: (search, (n[0], x, d[0])) for x in k}, sizes.rounds),
        measured("search", "dimension, d", {x: (search, (n[0], k[0], x)) for x in d}, sizes.rounds),
        measured(
            "prior, a training step",
            "codes of a sequence",
            {x: (prior_step, (x, *step)) for x in sizes.lengths},
            sizes.rounds,
        ),
        measured("encode", "images", {x: (encoding, (x,)) for x in sizes.images}, sizes.rounds),
    ]


def line(curve: Curve) -> list[str]:
    """A row of the table: both ends of the curve, and its slopes."""
    ends = [(curve.sizes[i], curve.seconds[i].median, curve.memory[i]) for i in (0, -1)]
    sizes, seconds, memory = zip(*ends, strict=True)
    return [
        curve.work,
        curve.against,
        " - ".join(f"{size:,}" for size in sizes),
        " - ".join(f"{second:.3f}" for second in seconds),
        f"{curve.slopes[0]:.2f}",
        " - ".join(f"{1024 * gib:.0f}" for gib in memory),
        f"{curve.slopes[1]:.2f}",
    ]


def plot(curves: list[Curve]) -> pyplot.Figure:
    """Time and memory against size, each relative to its curve's first point."""
    figure, axes = pyplot.subplots(1, 2, figsize=(9, 5), layout="constrained", sharex=True)
    for curve in curves:
        steps = [size / curve.sizes[0] for size in curve.sizes]
        medians = [timing.median for timing in curve.seconds]
        for axis, values, slope in zip(axes, (medians, curve.memory), curve.slopes, strict=True):
            label = f"{curve.work}: {curve.against} ({slope:.2f})"
            axis.plot(steps, values, marker="o", label=label)
    for axis, name in zip(axes, ("seconds", "memory added, GiB"), strict=True):
        axis.set(yscale="log", xlabel="size / its first", ylabel=name)
        axis.set_xscale("log", base=2)
        axis.xaxis.set_major_formatter("{x:g}")
        axis.legend(loc="upper center", bbox_to_anchor=(0.5, -0.15), frameon=False)
    return figure


HEADER = ["work", "against", "sizes", "seconds", "slope", "memory added, MiB", "slope"]

if __name__ == "__main__":
    SIZES = load_config(GrowthSizes, None, sys.argv[1:])
    curves = compare(SIZES)
    report("growth", HEADER, [line(curve) for curve in curves], curves)
    save_figure(plot(curves), OUT / "growth.png")
