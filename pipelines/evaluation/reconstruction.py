"""Items through integers and back, and how often each code is chosen on the way."""

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from pipelines.evaluation.table import Metrics, metric
from stage1_tokenizer import ImageTokenizer, SpeechTokenizer
from stage1_tokenizer.codebook_usage import code_counts, perplexity, used


class Reconstructor:
    """A tokenizer that encodes items, counts their codes and decodes these; without codes, its networks alone."""

    def __init__(self, tokenizer: ImageTokenizer | SpeechTokenizer) -> None:
        self.tokenizer: Any = tokenizer
        self.spec = tokenizer.quantizer.spec
        self.device = tokenizer.codebook.device
        size = sum(self.spec.sizes)
        self.histogram: Int[Tensor, " k"] = torch.zeros(size, dtype=torch.int64, device=self.device)

    def __call__(self, items: Float[Tensor, "b *shape"]) -> Float[Tensor, "b *rebuilt"]:
        """The reconstructions of images (b, c, y, x) or waveforms (b, t), on the tokenizer's device."""
        items = items.to(self.device)
        if not self.spec.has_codes:
            return self.tokenizer.reconstruct(items)
        codes = self.tokenizer.encode(items)
        self.histogram += code_counts(codes, self.spec)
        return self.tokenizer.decode(codes)

    def metrics(self) -> Metrics:
        """What a position can tell, the share of the codes that were chosen, and the perplexity of the choice."""
        if not self.spec.has_codes:
            return {}
        counts = self.histogram.cpu()
        positions = int(counts.sum()) // self.spec.levels
        note = f"of {len(counts):,} codes, over {positions:,} positions"
        sizes = " x ".join(f"{size:,}" for size in self.spec.sizes)
        return {
            "bits per position": metric(
                value=self.spec.bits, note=f"the logarithm of {sizes} codes"
            ),
            "codes used": metric(value=used(counts), unit="%", note=note),
            "code perplexity": metric(value=perplexity(counts), note=note),
        }
