"""ImageGenerationPipeline: labels and seeds to new images."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Int
from PIL import Image
from torch import Tensor

from common.images import to_pil, to_uint8
from pipelines.generation.known import Beginning, beginning, check_kinds
from pipelines.generation.named import Named, numbers_of, seeds_of
from pipelines.generation.pipeline_folder import GenerationPipeline
from stage1_tokenizer import ImageTokenizer
from stage2_prior import Prior
from stage2_prior.model import IGNORED
from stage2_prior.orders import in_raster
from stage2_prior.sampling import sample_codes, stream_codes
from stage2_prior.sampling_options import SamplingOptions, Schedule


@dataclass
class GenerationOutput:
    """What a call of the pipeline gives."""

    images: list[Image.Image]
    codes: Int[Tensor, "b h w *levels"]
    seeds: list[int]
    """`pipeline([labels[i]], seeds=[seeds[i]])` makes image i again."""


class ImageGenerationPipeline(GenerationPipeline[ImageTokenizer]):
    """A tokenizer and a prior that fit each other; both are put into eval mode.

    On disk, a folder or a Hub repository:

        pipeline.json     names of the classes, and the SHA-256 of both weights
        tokenizer/        ImageTokenizer.save_pretrained
        prior/            Prior.save_pretrained

    Labels are names or numbers:

        >>> pipe = ImageGenerationPipeline.from_pretrained("images_pipeline")
        >>> pipe.classes
        ('a', 'b', 'c')
        >>> out = pipe(labels=["a", "c"], seeds=[0, 1], guidance=2.0)
        >>> out.images[0].size, out.codes.shape
        ((8, 8), torch.Size([2, 4, 4]))
        >>> pipe.tokenizer.decode(out.codes).shape
        torch.Size([2, 3, 8, 8])
    """

    tokenizer_class = ImageTokenizer
    names = ("classes",)

    def __init__(self, tokenizer: ImageTokenizer, prior: Prior, classes: Sequence[str]) -> None:
        height, width = tokenizer.config.grid
        spec = tokenizer.quantizer.spec
        of_tokenizer = height * width * spec.levels, spec.sizes
        of_prior = prior.config.length, prior.config.level_sizes
        if of_tokenizer != of_prior:
            raise ValueError(
                f"the tokenizer makes {codes_of(*of_tokenizer)}, the prior was trained on {codes_of(*of_prior)}"
            )
        self.tokenizer, self.prior, self.classes = tokenizer.eval(), prior.eval(), tuple(classes)

    def __call__(
        self,
        labels: Named | Sequence[Named] | None = None,
        *,
        seeds: int | Sequence[int] | None = None,
        guidance: float = 1.0,
        schedule: Schedule = "constant",
        power: float = 2.0,
        temperature: float = 1.0,
        top_k: int = 0,
        top_p: float = 1.0,
        known: Int[Tensor, "b h w *levels"] | None = None,
        mask: Bool[Tensor, "*b h w"] | None = None,
    ) -> GenerationOutput:
        """Samples one image per label, a name or a number; a single label, or None for no condition, serves all seeds.

        The same label and seed give the same image in any batch. Seeds are 0, 1, 2, ... unless given. Where `mask`,
        one for each image or one for all, is True, the image keeps its `known` codes, and its other codes are sampled
        given these. Raises ValueError for a mask that this prior can't complete (see docs/completion.md).
        """
        options = SamplingOptions(
            guidance=guidance,
            schedule=schedule,
            power=power,
            temperature=temperature,
            top_k=top_k,
            top_p=top_p,
        )
        begin = self.begin(labels, seeds, known, mask)
        codes = sample_codes(
            self.prior, begin.conditions, begin.seeds, options, begin.prompts, begin.order
        )
        grids = codes.unflatten(1, self.tokenizer.codes_shape)
        pixels = to_uint8(self.tokenizer.decode(grids)).cpu()
        return GenerationOutput([to_pil(image) for image in pixels], grids.cpu(), begin.seeds)

    @torch.no_grad()
    def stream(
        self,
        labels: Named | Sequence[Named] | None = None,
        *,
        seeds: int | Sequence[int] | None = None,
        options: SamplingOptions | None = None,
        known: Int[Tensor, "b h w *levels"] | None = None,
        mask: Bool[Tensor, "*b h w"] | None = None,
    ) -> Iterator[Tensor]:
        """The codes of a call so far, (b, h, w) or (b, h, w, levels), after each that is sampled; -1 where there is none yet."""
        begin = self.begin(labels, seeds, known, mask)
        stream = stream_codes(
            self.prior, begin.conditions, begin.seeds, options, begin.prompts, begin.order
        )
        for codes in stream:
            missing = self.prior.config.length - codes.shape[1]
            whole = F.pad(codes, (0, missing), value=IGNORED)
            yield in_raster(whole, begin.order).unflatten(1, self.tokenizer.codes_shape).cpu()

    def begin(
        self,
        labels: Named | Sequence[Named] | None,
        seeds: int | Sequence[int] | None,
        known: Int[Tensor, "b h w *levels"] | None,
        mask: Bool[Tensor, "*b h w"] | None,
    ) -> Beginning:
        """What a call's codes are sampled from."""
        numbers = numbers_of(labels, self.classes, "label")
        grids = None if known is None else [*known]
        check_kinds(grids, None)
        every: tuple[Sequence[object] | None, ...] = (numbers, grids)
        per_sample = [len(given) for given in every if given is not None]
        seeds = seeds_of(seeds, max(per_sample, default=1))
        if numbers is not None and len(numbers) == 1:
            numbers *= len(seeds)
        for grid in grids or ():
            if grid.shape != self.tokenizer.codes_shape:
                raise ValueError(
                    f"known has codes of the shape {tuple(grid.shape)}: those of this pipeline's images have {self.tokenizer.codes_shape}"
                )
        if mask is not None and not (
            isinstance(mask, Tensor) and mask.dtype == torch.bool and mask.ndim in (2, 3)
        ):
            raise ValueError(
                "mask must be a tensor of bool, (h, w) or (b, h, w), True where codes are kept"
            )
        if mask is not None and mask.ndim == 2:
            mask = mask.expand(len(seeds), -1, -1)
        return beginning(
            self.tokenizer.quantizer.spec,
            self.prior,
            self.prior.conditions(len(seeds), labels=numbers),
            seeds,
            None if grids is None else [grid.flatten(0, 1) for grid in grids],
            None if mask is None else [*mask.flatten(1)],
        )


def codes_of(length: int, sizes: Sequence[int]) -> str:
    """How many codes an item has, and out of how many, in words."""
    return f"{length} codes of {' x '.join(map(str, sizes))}"
