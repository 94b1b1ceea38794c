"""Known codes in pipelines: they come back exactly, the rest is a function of seed and mask, mistakes are told in words."""

from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.image_runs import MODEL
from helpers.pipelines import SIDE, image_pipeline, speech_pipeline
from torch import Tensor

from pipelines import ImageGenerationPipeline
from stage1_tokenizer.quantizers import RQConfig

LEVELS = RQConfig(code_dim=4, codebook_size=16, levels=3)


def grids(pipe: ImageGenerationPipeline, count: int) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 16, (count, *pipe.tokenizer.codes_shape), generator=generator)


def rows(count: int) -> Tensor:
    """A mask that keeps the first rows."""
    return torch.arange(SIDE)[:, None].expand(SIDE, SIDE) < count


@pytest.mark.parametrize("levels_by", ["flattened", "depth"])
@pytest.mark.parametrize("quantizer", [MODEL.quantizer, LEVELS])
def test_rows_of_an_image_are_kept_by_any_prior(quantizer: Any, levels_by: str) -> None:
    pipe = image_pipeline(quantizer, levels_by=levels_by)
    known = grids(pipe, 3)
    out = pipe([0, 1, 2], known=known, mask=rows(2), seeds=[4, 5, 6])
    assert torch.equal(out.codes[:, :2], known[:, :2])
    assert not torch.equal(out.codes[:, 2:], known[:, 2:])
    alone = pipe([1], known=known[1:2], mask=rows(2), seeds=[5])
    assert torch.equal(alone.codes[0], out.codes[1])


@pytest.mark.parametrize("levels_by", ["flattened", "depth"])
@pytest.mark.parametrize("quantizer", [MODEL.quantizer, LEVELS])
def test_any_mask_is_kept_by_a_prior_of_random_order(quantizer: Any, levels_by: str) -> None:
    pipe = image_pipeline(quantizer, levels_by=levels_by, order="random")
    known = grids(pipe, 3)
    masks = torch.rand(3, SIDE, SIDE, generator=torch.Generator().manual_seed(2)) < 0.5
    out = pipe([0, 1, 2], known=known, mask=masks, seeds=[4, 5, 6], guidance=2.0)
    assert torch.equal(out.codes[masks], known[masks])
    for i in range(3):
        one = slice(i, i + 1)
        alone = pipe([i], known=known[one], mask=masks[one], seeds=[4 + i], guidance=2.0)
        assert torch.equal(alone.codes, out.codes[one])
    assert torch.equal(pipe([0], known=known[:1], mask=rows(0)).codes, pipe([0]).codes)


@pytest.mark.parametrize("order", ["raster", "random"])
def test_a_stream_ends_in_the_codes_of_the_call(order: str) -> None:
    pipe = image_pipeline(order=order)
    known, mask = grids(pipe, 2), rows(1)
    if order == "random":
        mask = mask.flip(0)
    steps = list(pipe.stream([0, 1], known=known, mask=mask))
    assert [int((step < 0).sum()) for step in steps] == [2 * n for n in range(11, -1, -1)]
    assert all(torch.equal(step[:, mask], known[:, mask]) for step in steps)
    assert torch.equal(steps[-1], pipe([0, 1], known=known, mask=mask).codes)


def test_an_order_is_saved_with_the_pipeline(tmp_path: Path) -> None:
    pipe = image_pipeline(order="random")
    pipe.save_pretrained(tmp_path / "pipeline")
    again = ImageGenerationPipeline.from_pretrained(tmp_path / "pipeline")
    known, mask = grids(pipe, 1), ~rows(2)
    first, second = (p([1], known=known, mask=mask).codes for p in (pipe, again))
    assert torch.equal(first, second)


def test_mistakes_with_images_are_told_in_words() -> None:
    pipe = image_pipeline()
    known = grids(pipe, 1)
    for given, words in [
        ({"known": known}, "known has 16 positions and mask no, for 1 and 0 of 1 samples: give"),
        ({"mask": rows(1)}, "known has no positions and mask 16"),
        (
            {"known": known[:, :2], "mask": rows(1)},
            r"shape \(2, 4\): those of this pipeline's images have \(4, 4\)",
        ),
        ({"known": known[0], "mask": rows(1)}, r"known has codes of the shape \(4,\): those of"),
        ({"known": known, "mask": rows(1).long()}, "mask must be a tensor of bool"),
        ({"known": known, "mask": rows(1).numpy()}, "mask must be a tensor of bool"),
        ({"known": known, "mask": rows(1), "seeds": [0, 1]}, "for 1 and 2 of 2 samples"),
        ({"known": known.float(), "mask": rows(1)}, "known must be tensors of whole numbers"),
        ({"known": known, "mask": ~rows(1)}, "keep only the first positions"),
        ({"known": known + 40, "mask": rows(1)}, "must lie in 0 to 31"),
        ({"known": known, "mask": rows(4)}, "keeps all 16 positions"),
    ]:
        with pytest.raises(ValueError, match=words) as caught:
            pipe(**given)
        assert "\n" not in str(caught.value)
    expected = pipe(known=known, mask=rows(1)).codes
    for same in (known.where(rows(1), -1), known.to(torch.uint8)):
        assert torch.equal(pipe(known=same, mask=rows(1)).codes, expected)


def test_one_label_is_for_all_that_is_known() -> None:
    pipe = image_pipeline()
    known, mask = grids(pipe, 3), rows(1)
    one, each = (pipe(labels, known=known, mask=mask).codes for labels in (1, [1, 1, 1]))
    assert len(one) == 3 and torch.equal(one, each)


def test_speech_between_two_prompts() -> None:
    """Two clips of different lengths, each with a gap of its own, in one batch and alone."""
    pipe = speech_pipeline(order="random")
    known = [torch.arange(size) % 8 for size in (12, 9)]
    masks = [torch.ones(size, dtype=torch.bool) for size in (12, 9)]
    masks[0][4:8], masks[1][:3] = False, False
    out = pipe([0, 1], known=known, mask=masks, seeds=[3, 4])
    for i, (codes, given, mask) in enumerate(zip(out.codes, known, masks, strict=True)):
        assert len(codes) == len(given) and torch.equal(codes[mask], given[mask])
        assert len(out.waveforms[i]) == len(given) * pipe.tokenizer.config.hop
        alone = pipe([i], known=known[i : i + 1], mask=masks[i : i + 1], seeds=[3 + i])
        assert torch.equal(alone.codes[0], codes)


def test_speech_from_left_to_right_goes_on_from_its_first_codes_alone() -> None:
    pipe = speech_pipeline()
    known, mask = [torch.arange(10) % 8], [torch.arange(10) < 4]
    out = pipe(known=known, mask=mask)
    assert torch.equal(out.codes[0][:4], known[0][:4]) and len(out.codes[0]) == 10
    with pytest.raises(ValueError, match="keep only the first positions"):
        pipe(known=known, mask=[~mask[0]])
    with pytest.raises(ValueError, match="leave prompts, min_codes and max_codes out"):
        pipe(known=known, mask=mask, max_codes=12)
    with pytest.raises(ValueError, match="mask must be tensors of bool"):
        pipe(known=known, mask=[mask[0].long()])
    with pytest.raises(ValueError, match="known must be tensors of whole numbers"):
        pipe(known=[[1, 2]], mask=mask)
    with pytest.raises(ValueError, match="at most 30 codes"):
        pipe(known=[known[0].repeat(4)], mask=[mask[0].repeat(4) & (torch.arange(40) < 4)])
