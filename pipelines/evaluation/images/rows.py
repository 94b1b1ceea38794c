"""The rows of the score table: reconstructions, samples, and two checks of the metrics themselves."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from common.figures import from_uint8, to_uint8
from pipelines.evaluation.fidelity import (
    Features,
    Reference,
    distance,
    extract,
    inception_score,
    kernel_distance,
    metric_name,
    nearest_distance,
    precision_recall,
)
from pipelines.evaluation.images.data import Batch, picture_batches
from pipelines.evaluation.images.extractors import ClassifierExtractor, Extractor
from pipelines.evaluation.images.metrics import LPIPS, SSIM, SSIM_WINDOW, Lpips, psnr, ssim
from pipelines.evaluation.table import Number, Row, difference
from stage1_tokenizer import ImageTokenizer
from stage1_tokenizer.codebook_usage import code_counts, perplexity, used
from stage1_tokenizer.images.data import ImageDataset
from stage1_tokenizer.quantizers import CodeSpec

Batches = Callable[[], Iterator[Batch]]
SHOWN = 10
"""Originals and reconstructions in the report."""


@dataclass(frozen=True)
class Judge:
    """What pictures are scored with."""

    extractor: Extractor
    classifier: ClassifierExtractor | None
    train: Reference
    heldout: Reference
    seed: int

    def name(self, metric: str, against: str = "") -> str:
        """The name of a metric in the table."""
        return metric_name(metric, self.extractor) + (f" vs {against}" if against else "")


class Reconstructor:
    """Held-out pictures through integers and back; what is measured of them on the way."""

    def __init__(
        self, tokenizer: ImageTokenizer, pictures: ImageDataset, lpips: Lpips | str
    ) -> None:
        self.tokenizer, self.pictures, self.lpips = tokenizer, pictures, lpips
        device = tokenizer.codebook.device
        self.spec = tokenizer.quantizer.spec
        self.histogram = torch.zeros(sum(self.spec.sizes), dtype=torch.int64, device=device)
        self.values: dict[str, list[Tensor]] = {"PSNR (dB)": [], SSIM: [], LPIPS: []}
        self.shown: tuple[UInt8[Tensor, "b c y x"], UInt8[Tensor, "b c y x"]] | None = None

    def batches(self, batch_size: int) -> Iterator[Batch]:
        """The reconstructions, in bytes."""
        for batch in picture_batches(self.pictures, batch_size):
            made = to_uint8(self.rebuilt(from_uint8(batch.images).to(self.histogram.device)))
            self.measure(batch.images.to(made.device), made)
            if self.shown is None:
                self.shown = batch.images[:SHOWN], made[:SHOWN].cpu()
            yield replace(batch, images=made)

    def rebuilt(self, images: Float[Tensor, "b c y x"]) -> Float[Tensor, "b c y x"]:
        """The pictures through their codes, which are counted; without codes, through the networks."""
        if not self.spec.has_codes:
            return self.tokenizer.reconstruct(images)
        codes = self.tokenizer.encode(images)
        self.histogram += code_counts(codes, self.spec)
        return self.tokenizer.decode(codes)

    def measure(self, originals: UInt8[Tensor, "b c y x"], made: UInt8[Tensor, "b c y x"]) -> None:
        """Adds the values of each picture."""
        self.values["PSNR (dB)"].append(psnr(originals, made))
        if originals.shape[-1] >= SSIM_WINDOW:
            self.values[SSIM].append(ssim(originals, made))
        if isinstance(self.lpips, Lpips):
            self.values[LPIPS].append(self.lpips(originals, made))

    def numbers(self) -> dict[str, Number]:
        """Means over the pictures, and how many codes were chosen how evenly."""
        found = {}
        for name, parts in self.values.items():
            if parts:
                values = torch.cat(parts).cpu().double()
                found[name] = Number(
                    value=float(values.mean()), spread=float(values.std()), count=len(values),
                    note="mean ± standard deviation over the pictures",
                )  # fmt: skip
            else:
                small = f"pictures are smaller than the window of {SSIM_WINDOW} pixels"
                found[name] = Number(value=None, reason=small if name == SSIM else str(self.lpips))
        if isinstance(self.lpips, Lpips):
            found[LPIPS] = replace(
                found[LPIPS], extractor="AlexNet", extractor_sha256=self.lpips.sha256
            )
        use = code_use(self.histogram.cpu(), self.spec) if self.spec.has_codes else {}
        return found | use


def code_use(histogram: Int[Tensor, " k"], spec: CodeSpec) -> dict[str, Number]:
    """What a position can tell, the share of the codes that were chosen, and the perplexity of the choice."""
    positions = int(histogram.sum()) // spec.levels
    note = f"of {len(histogram):,} codes, over {positions:,} positions"
    sizes = " x ".join(f"{size:,}" for size in spec.sizes)
    return {
        "bits per position": Number(value=spec.bits, note=f"the logarithm of {sizes} codes"),
        "codes used": Number(value=used(histogram), note=note),
        "code perplexity": Number(value=perplexity(histogram), note=note),
    }


def reconstruction_row(judge: Judge, made: Features, reconstructor: Reconstructor) -> Row:
    """Held-out pictures after encode and decode."""
    precision, recall = precision_recall(made, judge.train, judge.extractor, judge.seed)
    return Row(
        "reconstruction",
        "held-out pictures, encoded to integers and decoded: what the tokenizer loses",
        {
            **reconstructor.numbers(),
            judge.name("FID", "held-out"): distance(made, judge.heldout, judge.extractor),
            judge.name("FID", "train"): distance(made, judge.train, judge.extractor),
            judge.name("KID", "train"): kernel_distance(
                made, judge.train, judge.extractor, judge.seed
            ),
            judge.name("precision"): precision,
            judge.name("recall"): recall,
        },
    )


def set_row(judge: Judge, name: str, meaning: str, made: Features, accuracy: Number) -> Row:
    """ImageDataset that are no copies of others, as a set, against the training pictures."""
    precision, recall = precision_recall(made, judge.train, judge.extractor, judge.seed)
    return Row(
        name,
        meaning,
        {
            judge.name("FID", "train"): distance(made, judge.train, judge.extractor),
            judge.name("KID", "train"): kernel_distance(
                made, judge.train, judge.extractor, judge.seed
            ),
            judge.name("precision"): precision,
            judge.name("recall"): recall,
            judge.name("IS"): inception_score(made, judge.extractor, judge.seed),
            "label accuracy": accuracy,
            judge.name("nearest train picture"): nearest_distance(
                made, judge.train, judge.extractor
            ),
        },
    )


def train_row(judge: Judge) -> Row:
    """The reference against itself."""
    real = judge.train
    return Row(
        "train vs train",
        "the training pictures against themselves: 0 but for rounding, or the metric is broken",
        {judge.name("FID", "train"): distance(real.features, real, judge.extractor)},
    )


def with_difference(judge: Judge, samples: Row, reconstruction: Row) -> Row:
    """The samples' row with what the prior adds to the tokenizer's distance."""
    name = judge.name("FID", "train")
    gap = difference(
        samples.numbers[name],
        reconstruction.numbers[name],
        "samples minus reconstruction: what the prior loses",
    )
    gap_name = judge.name("gFID - rFID", "train")
    return replace(samples, numbers=samples.numbers | {gap_name: gap})


def label_accuracy(
    judge: Judge, made: Features, batches: Batches, classes: tuple[str, ...], labelled: bool
) -> Number:
    """Share of the pictures that the classifier gives their label, or why it can't be said."""
    classifier = judge.classifier
    if classifier is None:
        return Number(
            value=None,
            reason="there is no classifier: run `simvq train-classifier`, set classifier=PATH",
        )
    if not labelled:
        return Number(value=None, reason="the pictures have no labels")
    if classes != classifier.model.config.classes:
        return Number(value=None, reason="the classifier was trained on other classes")
    judged = made if judge.extractor is classifier else extract(classifier, batches())
    right = judged.logits.argmax(1) == judged.labels
    return Number(
        value=float(right.double().mean()),
        count=len(right),
        extractor=classifier.name,
        extractor_sha256=classifier.sha256,
    )
