"""The text of a recipe for a data set, but for its steps: what `simvq new` fills in."""

import json
import math
import os
import re
from pathlib import Path
from statistics import fmean, median, mode
from string import Template

import torch

from pipelines.data_facts import FEWEST, SHARE, Facts, ImageFacts, SpeechFacts

POSITIONS = 64
"""Positions of the training data for each code of the codebook, at least."""
LARGEST = {"cpu": 64, "cuda": 128}
"""Side of images, in pixels, that a recipe trains on; half of it in less than so many minutes:"""
SHORT = 20

HEAD = """# Written by `simvq new $place`. Start it with: simvq run THIS_FILE
run_dir: runs/$name
modality: $modality
allow_failed: true # a training that comes to nothing is told of in the summary, and samples and a report follow
data:
  source: $source
  subset: $subset
  train: $train # about $count items to train on$unreadable
  validation: $validation # $chosen_by; the weights are chosen by it
  test: $test # $scored; read by the scores alone
  label_column: $label_column # $labels
"""
TRAINING = """  batch_size: $batch_size
  ema_decay: 0.99 # short runs: the default 0.999 remembers a thousand steps
  workers: $workers # of $cores cores; 0 loads items in the process that trains
  log_every: 50
"""
PRIOR = """
prior:
  size: $size # $positions codes to train on
  dropout: 0.2 # against learning them by heart; what does best on held-out items is kept
$condition  steps: $$prior_steps # about a quarter of the time, or as often as the data bear
  optimizer: muon # fewer bits per item than AdamW in the same time
  optim: {lr: 8.0e-3, warmup_steps: $$prior_warmup, weight_decay: 0.1}
  save_every: $$prior_save
"""
LAST = """
samples:
  count: $count
  batch_size: 64
  guidance: $guidance # more than 1 is nearer to what is asked for, with less variety
$more
score:
  reference_count: $references # training items that samples are compared with; null for all
"""
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
SPEECH = """  audio_column: $column
  speaker_column: $speaker_column # $speakers
  text_column: $text_column

tokenizer:
  augment:
    crop_seconds: $crop # of one training item; clips have $shortest to $longest seconds
    silence_db: $silence # what is quieter is not trained on; one clip of ten has less than $quiet dB
  model:
    sample_rate: $rate # the files have $rates Hz and $channels
    ratios: $ratios # $hop samples per code: 80 codes per second
    width: 16 # small networks, for a short training
    lstm_layers: 1
    decoder_width: 192
    decoder_hidden: 576
    decoder_layers: 4
    n_fft: $n_fft
    quantizer: {codebook_size: $codes, code_dim: 8, weight: 15, beta: 0.1, gram_penalty: 1.0e-3} # $per_code
  loss: {adversarial_weight: 0} # discriminators take longer
  steps: $$tokenizer_steps # $$note
  optim: {lr: 2.0e-3, warmup_steps: $$tokenizer_warmup, grad_clip: 1000}
  quantizer_lr: 1.0e-2
  save_every: $$tokenizer_save
"""
CLASSIFIER = """
# scores compare its features, and say whether samples have their label
classifier: {$keys, steps: $$classifier_steps}
"""
NO_CLASSIFIER = "\n# no labels, so no classifier: $instead\n"


def recipe(facts: ImageFacts | SpeechFacts, minutes: float) -> str:
    """The recipe for so many minutes, in which `$tokenizer_steps`, `$prior_steps` and what goes with them are still to be filled in."""
    return images(facts, minutes) if isinstance(facts, ImageFacts) else speech(facts, minutes)


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
        column=json.dumps(facts.column),
        size=size,
        why=why,
        channels=channels,
        colours="those looked at are grey" if facts.grey else "colour; what is grey is made so",
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


def speech(facts: SpeechFacts, minutes: float) -> str:
    """A recipe for speech."""
    rate = 16000 if mode(facts.rates) >= 16000 else 8000
    hop = rate // 80
    positions = facts.count * fmean(facts.seconds) * 80
    text = fill(
        SPEECH,
        column=json.dumps(facts.column),
        speaker_column=json.dumps(facts.speaker_column),
        speakers=f"{facts.speakers} speakers" if facts.speakers else "not known, or one alone",
        text_column=json.dumps(facts.text_column),
        crop=1.0 if median(facts.seconds) >= 1.5 else 0.5,
        shortest=f"{min(facts.seconds):.1f}",
        longest=f"{max(facts.seconds):.1f}",
        silence=-40 if facts.quiet > -35 else -60,
        quiet=f"{facts.quiet:.0f}",
        rate=rate,
        rates=", ".join(map(str, sorted(set(facts.rates)))),
        channels="one channel" if facts.channels == 1 else "channels that are mixed down",
        ratios=[5, 5, 4] if rate == 8000 else [5, 5, 4, 2],
        hop=hop,
        n_fft=4 * hop,
        codes=codebook_size(positions),
        per_code=per_code(positions),
    )
    known = {"label": facts.label_column, "speaker": facts.speaker_column}
    condition = "+".join(name for name, column in known.items() if column) or "none"
    text_too = "; text would take hours of speech" if facts.text_column else ""
    parts = [
        head(facts, "speech") + text + training(8),
        "\ncodes:\n",
        classifier(facts, f"sample_rate: {rate}", "the scores have no label accuracy"),
        prior(positions, f"  condition: {condition} # what it is told{text_too}\n"),
        last(facts, min(128, int(10 * minutes)), "  temperature: 0.75\n"),
        f"  slow_count: {min(20, max(facts.count // 10, 1))} # clips that slow metrics are computed on\n",
    ]
    return "".join(parts)


def fill(template: str, **values: object) -> str:
    """The template with its values; a dollar sign of theirs is kept when the steps are filled in."""
    return Template(template).substitute({k: str(v).replace("$", "$$") for k, v in values.items()})


def codebook_size(positions: float) -> int:
    """The largest power of two that leaves enough positions for each code, from 64 to 16,384."""
    return 2 ** min(max(int(math.log2(max(positions / POSITIONS, 1))), 6), 14)


def per_code(positions: float) -> str:
    """What a recipe says of the size of its codebook."""
    each = positions / codebook_size(positions)
    return (
        f"{POSITIONS} or more positions for each code"
        if each >= POSITIONS
        else "the fewest, as there are few data"
    )


def held_out_in_words(where: str, facts: Facts) -> str:
    """What a recipe says of a split: one of its own, or a share."""
    if not where.endswith("%"):
        return "a split of its own"
    whose = "each label's" if facts.label_column else "the"
    few = f" ({FEWEST} of them, or a third)" if where != f"{SHARE:.0%}" else ""
    return f"no such split: this share of {whose} items{few} is held out, the same each time"


LEFT_OUT = (
    "folders and files whose names have train, test, valid or dev in them are taken for splits, and with a metadata.csv "
    "only what it lists is read"
)


def head(facts: Facts, modality: str) -> str:
    """The lines up to the columns that both modalities have."""
    place = facts.train if facts.source == "parquet" else facts.source
    path = Path(place).resolve()
    name = path.parent.name if path.stem.startswith("train") else path.stem or path.name
    return fill(
        HEAD,
        place=place,
        source=json.dumps(facts.source),
        name=re.sub(r"[^A-Za-z0-9_]+", "_", name).strip("_") or "mine",
        modality=modality,
        subset=json.dumps(facts.subset),
        train=json.dumps(facts.train),
        count=f"{facts.count:,}",
        unreadable=(f"; {facts.bad} of those looked at can't be opened" if facts.bad else "")
        + (f"; {facts.left_out} FILES ARE IN NO SPLIT: {LEFT_OUT}" if facts.left_out > 0 else ""),
        validation=json.dumps(facts.validation),
        chosen_by=held_out_in_words(facts.validation, facts),
        test=json.dumps(facts.test),
        scored=held_out_in_words(facts.test, facts),
        label_column=json.dumps(facts.label_column),
        labels=f"{facts.labels} labels" if facts.labels else "no labels, or one alone",
    )


def training(batch_size: int) -> str:
    """The keys of a training that both stages have."""
    cores = os.cpu_count() or 1
    return fill(TRAINING, batch_size=batch_size, cores=cores, workers=0 if cores < 4 else 2)


def classifier(facts: Facts, keys: str, instead: str) -> str:
    """The section of the classifier, where there are labels."""
    return fill(CLASSIFIER, keys=keys) if facts.labels else fill(NO_CLASSIFIER, instead=instead)


def prior(positions: float, condition: str = "") -> str:
    """The section of the prior; `condition` is a line of it."""
    size = "3m" if positions > 3e6 else "1m"
    text = fill(PRIOR, size=size, positions=f"{positions:,.0f}", condition=condition)
    return text + training(64)


def last(facts: Facts, most: int, more: str = "") -> str:
    """The sections of samples and scores."""
    asked = facts.labels or facts.speakers
    return fill(
        LAST,
        count=max(min(facts.count // 2, most), 16),
        guidance=2.0 if asked else 1.0,
        more=more,
        references=5000 if facts.count > 5000 else "null",
    )
