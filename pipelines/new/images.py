"""The recipe of images."""

import math
from statistics import median

import torch

from pipelines.new.facts import ImageFacts
from pipelines.new.parts import (
    classifier,
    codebook_size,
    fill,
    head,
    last,
    per_code,
    prior,
    quoted,
    training,
)

LARGEST = {"cpu": 64, "cuda": 128}
"""The largest side of images, in pixels, that a recipe trains on; half of it in fewer than SHORT minutes."""
SHORT = 20
IMAGES = """  image_column: $column

tokenizer:
  model:
    image_size: $size # $why
    in_channels: $channels # $colours
    width: $width # for $device
    multipliers: $multipliers # $side x $side codes per image
    blocks_per_level: 1
    quantizer: {codebook_size: $codes, code_dim: 16} # $per_code
  loss: {perceptual_weight: 0, adversarial_weight: 0} # LPIPS is a download, a discriminator takes longer
  steps: $$tokenizer_steps # $$note
  optim: {lr: 1.0e-3, warmup_steps: $$tokenizer_warmup}
  save_every: $$tokenizer_save
"""


def images(facts: ImageFacts, minutes: float) -> str:
    """A recipe for images."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    size, why = image_size(facts, LARGEST[device] // (2 if minutes < SHORT else 1))
    levels = halvings(size)
    side, channels = size // 2**levels, 1 if facts.grey else 3
    few = facts.count < 5000
    views = "[centre, top-left, top-right, bottom-left, bottom-right] # few images: the prior sees each in five places"
    text = fill(
        IMAGES,
        column=quoted(facts.column),
        size=size,
        why=why,
        channels=channels,
        colours="all looked at are grey" if facts.grey else "colour; grey ones are converted",
        width=128 if device == "cuda" else 32,
        device=device,
        multipliers=[1, 2, 4, 4, 4][: levels + 1],
        side=side,
        codes=codebook_size(facts.count * side**2),
        per_code=per_code(facts.count * side**2),
    )
    keys = f"image_size: {size}, in_channels: {channels}, width: 32"
    instead = "without Inception's weights the scores compare features of an untrained network"
    parts = [
        head(facts, "images") + text + training(64 if size <= 32 else 16),
        f"\ncodes:\n  views: {views if few else '[centre]'}\n",
        classifier(facts, keys, instead),
        prior(facts.count * side**2 * (5 if few else 1)),
        last(facts, min(1000, int(50 * minutes))),
    ]
    return "".join(parts)


def halvings(size: int) -> int:
    """How often a side is halved, so that grids are about 8 x 8."""
    return max(round(math.log2(size / 8)), 1)


def image_size(facts: ImageFacts, largest: int) -> tuple[int, str]:
    """The side of the images that are trained on, and why it is that one."""
    shorter = int(median(min(size) for size in facts.sizes))
    alike = {*facts.sizes} == {(shorter, shorter)}
    if alike and 8 <= shorter <= largest and shorter % 2 ** halvings(shorter) == 0:
        return shorter, f"all are {shorter} x {shorter}"
    size = max(2 ** int(math.log2(shorter)), 8)
    sides = f"sides of {min(map(min, facts.sizes))} to {max(map(max, facts.sizes))} pixels"
    if size > largest:
        return largest, f"{sides}, made smaller: what this machine trains in time"
    return size, f"{sides}: the power of two up to the median shorter side, and a square of it"
