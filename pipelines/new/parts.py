"""The parts that recipes of images and of speech share."""

import json
import math
import os
import re
from pathlib import Path
from string import Template

from pipelines.new.facts import FEWEST, SHARE, Facts

POSITIONS = 64
"""Positions of the training data for each code of the codebook, at least."""
HEAD = """# Written by `simvq new $place`. Start it with: simvq run THIS_FILE
run_dir: runs/$name
modality: $modality
allow_failed: true # after a training of no use, the summary says so, and samples and a report still follow
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
  dropout: 0.2 # against overfitting; the weights that do best on held-out items are kept
$condition  steps: $$prior_steps # about a quarter of the time, or less for a small data set
  optimizer: muon # fewer bits per item than AdamW in the same time
  optim: {lr: 8.0e-3, warmup_steps: $$prior_warmup, weight_decay: 0.1}
  save_every: $$prior_save
"""
LAST = """
samples:
  count: $count
  batch_size: 64
  guidance: $guidance # above 1, samples fit their condition better but vary less
$more
score:
  reference_count: $references # training items that samples are compared with; null for all
"""
CLASSIFIER = """
# scores compare its features, and say whether samples have their label
classifier: {$keys, steps: $$classifier_steps}
"""
NO_CLASSIFIER = "\n# no labels, so no classifier: $instead\n"
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
        source=quoted(facts.source),
        name=re.sub(r"[^A-Za-z0-9_]+", "_", name).strip("_") or "mine",
        modality=modality,
        subset=quoted(facts.subset),
        train=quoted(facts.train),
        count=f"{facts.count:,}",
        unreadable=(f"; {facts.bad} of those looked at can't be opened" if facts.bad else "")
        + (f"; {facts.left_out} FILES ARE IN NO SPLIT: {LEFT_OUT}" if facts.left_out > 0 else ""),
        validation=quoted(facts.validation),
        chosen_by=held_out_in_words(facts.validation, facts),
        test=quoted(facts.test),
        scored=held_out_in_words(facts.test, facts),
        label_column=quoted(facts.label_column),
        labels=f"{facts.labels} labels" if facts.labels else "no labels, or one alone",
    )


def held_out_in_words(where: str, facts: Facts) -> str:
    """What a recipe says of a split: one of its own, or a share."""
    if not where.endswith("%"):
        return "a split of its own"
    whose = "each label's" if facts.label_column else "the"
    few = f" ({FEWEST} of them, or a third)" if where != f"{SHARE:.0%}" else ""
    return f"no such split: this share of {whose} items{few} is held out, the same each time"


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


def codebook_size(positions: float) -> int:
    """The largest power of two that leaves enough positions for each code, from 64 to 16,384."""
    return 2 ** min(max(int(math.log2(max(positions / POSITIONS, 1))), 6), 14)


def per_code(positions: float) -> str:
    """What a recipe says of the size of its codebook."""
    each = positions / codebook_size(positions)
    return (
        f"{POSITIONS} or more positions for each code"
        if each >= POSITIONS
        else "the smallest size, as there are few data"
    )


def quoted(value: str | None) -> str:
    """A name as YAML reads it; signs beyond 16 bits, whose escapes YAML refuses, stay as they are."""
    return json.dumps(value, ensure_ascii=False)


def fill(template: str, **values: object) -> str:
    """The template with its values; a dollar sign of theirs is kept when the steps are filled in."""
    return Template(template).substitute({k: str(v).replace("$", "$$") for k, v in values.items()})
