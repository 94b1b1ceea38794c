"""How far a prior's samples are on the way from a table of bigrams to reconstructions, by validation images."""

from collections.abc import Iterator
from pathlib import Path

import torch
from jaxtyping import Int
from torch import Tensor

from common.codes import read_codes
from common.images import to_uint8
from pipelines.evaluation.controls import code_tables, control_sequences, share_of_the_way
from pipelines.evaluation.features import Features, limited
from pipelines.evaluation.images.data import Batch
from pipelines.evaluation.images.extractors import ClassifierExtractor, extract, reference
from stage1_tokenizer import ImageTokenizer
from stage1_tokenizer.images.data import ImageDataConfig, load_images
from stage2_prior import Prior
from stage2_prior.decoding import StockBody
from stage2_prior.sampling import sample_codes

AT_ONCE, REFERENCE = 250, 10_000
"""Images that are sampled or decoded at a time; training images that all are compared with."""


class Shares:
    """Computes `share_of_the_way` of priors over the same codes, by `count` samples, bigrams and reconstructions each.

    Reconstructions are of validation images, features are a classifier's, distances are to training images.
    """

    def __init__(
        self,
        codes: Path,
        tokenizer: Path,
        classifier: Path,
        data: ImageDataConfig,
        count: int,
        cache: Path,
    ) -> None:
        device = torch.device("cpu")
        self.tokenizer = ImageTokenizer.from_pretrained(tokenizer).eval()
        self.extractor = ClassifierExtractor(classifier, device)
        config = self.tokenizer.config
        shape = {"channels": config.in_channels, "size": config.image_size}
        train = limited(load_images(data, "train", **shape), REFERENCE, seed=0)
        self.real = reference("train", train, self.extractor, 256, cache)
        rows = read_codes(codes, "validation")
        count = min(count, len(rows))
        kept = rows.select(range(count)).with_format("torch")
        controls = dict(
            control_sequences(
                code_tables(codes, self.tokenizer.quantizer.spec.levels), count, seed=0
            )
        )
        self.sets = {
            "reconstruction": self.features(kept["codes"][:]),
            "bigrams": self.features(torch.stack(controls["bigrams"])),
        }
        self.count = count

    @torch.no_grad()
    def features(self, codes: Int[Tensor, "b n"]) -> Features:
        """The classifier's features of the images that codes stand for."""

        def batches() -> Iterator[Batch]:
            for part in codes.split(AT_ONCE):
                images = to_uint8(
                    self.tokenizer.decode(part.unflatten(1, self.tokenizer.codes_shape))
                )
                none = torch.zeros(len(part), dtype=torch.int64)
                yield Batch(images, none, none)

        return extract([self.extractor], batches())[0]

    def share(self, prior: Prior) -> float:
        """The prior's share, by unguided samples, labels in turn, seeds from 0. StockBody runs changed networks too."""
        prior.cached_body = lambda batch_size: StockBody(prior.body)  # type: ignore[assignment, method-assign]
        parts = []
        for first in range(0, self.count, AT_ONCE):
            seeds = range(first, min(first + AT_ONCE, self.count))
            labels = [seed % prior.config.classes for seed in seeds]
            parts.append(sample_codes(prior, prior.conditions(len(labels), labels=labels), seeds))
        sets = self.sets | {"samples": self.features(torch.cat(parts))}
        return share_of_the_way(sets, self.real, self.extractor, seed=0).value  # type: ignore[return-value]
