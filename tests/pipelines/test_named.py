"""Pipelines take labels and speakers by name or number, one or many, and a prior in half precision."""

from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.saved import filled, restored
from torch import Tensor

from pipelines.generation.image_samples import sample_labels
from pipelines.generation.images import ImageGenerationPipeline
from pipelines.generation.named import numbers_of, written_numbers
from pipelines.generation.speech import SpeechGenerationPipeline
from pipelines.sample_config import SampleImagesConfig


@pytest.fixture
def images(tmp_path: Path) -> ImageGenerationPipeline:
    """With the labels a, b and c."""
    return ImageGenerationPipeline.from_pretrained(restored("images", tmp_path)[0])


@pytest.fixture
def speech(tmp_path: Path) -> SpeechGenerationPipeline:
    """With the labels a, b and c and the speakers x and y."""
    return SpeechGenerationPipeline.from_pretrained(restored("speech", tmp_path)[0])


def test_names_and_numbers_are_the_same(images: ImageGenerationPipeline) -> None:
    by_number = images([2, 0, 2]).codes
    for labels in (["c", "a", "c"], ("c", 0, "2"), np.array([2, 0, 2]), torch.tensor([2, 0, 2])):
        assert torch.equal(images(labels).codes, by_number)


def test_one_label_is_one_image(images: ImageGenerationPipeline) -> None:
    one = images([1])
    assert len(one.images) == 1
    assert torch.equal(images("b").codes, one.codes) and torch.equal(images(1).codes, one.codes)


def test_speakers_and_labels_by_name(speech: SpeechGenerationPipeline) -> None:
    def codes(*given: object) -> list[Tensor]:
        return speech(*given, prompts=[filled("waveforms", (3, 100))[0]]).codes  # type: ignore[arg-type]

    assert torch.equal(codes("c", "y")[0], codes([2], [1])[0])


def test_a_prompt_may_be_one_waveform_or_an_array(speech: SpeechGenerationPipeline) -> None:
    clip = filled("waveforms", (3, 100))[0]
    expected = speech(prompts=[clip]).codes[0]
    for prompts in (clip, clip.numpy(), [clip.numpy()]):
        assert torch.equal(speech(prompts=prompts).codes[0], expected)
    assert len(speech("a", "x", prompts=[clip, clip]).codes) == 2
    with pytest.raises(ValueError, match=r"a prompt of the shape \(1, 100\)"):
        speech(prompts=[clip[None]])
    with pytest.raises(ValueError, match=r"prompts='a.wav' are no waveforms: read the file first"):
        speech(prompts="a.wav")
    with pytest.raises(ValueError, match=r"texts=\[3\] must be strings"):
        speech(texts=3)


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        ("goldfish", "label 'goldfish' is no name of a label. There are 3: a, b, c"),
        (["a", "bb"], "label 'bb' is no name of a label, did you mean 'b'? There are 3"),
        ("7", "label 7: this prior has 3 labels, counted from 0"),
        ([1.9], "label 1.9 must be a name or a whole number"),
    ],
)
def test_what_is_no_label_is_one_sentence(
    images: ImageGenerationPipeline, labels: object, words: str
) -> None:
    with pytest.raises(ValueError) as caught:
        images(labels)  # type: ignore[arg-type]
    assert words in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("labels", [("c", "a"), (2, 0), None, "c"])
def test_sample_takes_names(images: ImageGenerationPipeline, labels: object) -> None:
    config = SampleImagesConfig(
        pipeline=Path("p"),
        out=Path("o"),
        count=4,
        labels=labels,  # type: ignore[arg-type]
    )
    expected = {"c": [2] * 4, None: [0, 1, 2, 0]}.get(labels, [2, 0, 2, 0])  # type: ignore[call-overload]
    assert sample_labels(config, images) == expected


def test_half_precision_is_the_priors_alone(images: ImageGenerationPipeline) -> None:
    pixels = filled("images", (2, 3, 8, 8))
    codes = images.tokenizer.encode(pixels)
    assert images.to("cpu", torch.bfloat16) is images
    assert images.prior.condition_embedding.weight.dtype == torch.bfloat16
    assert torch.equal(images.tokenizer.encode(pixels), codes)
    assert len(images(["a", "b"]).images) == 2
    assert images.to(torch.float32).prior.condition_embedding.weight.dtype == torch.float32
    assert images.device == torch.device("cpu")


def test_seeds_are_whole_numbers_of_any_kind_and_one_label_is_for_all(
    images: ImageGenerationPipeline,
) -> None:
    expected = images(labels=[1, 1], seeds=[3, 4]).codes
    for seeds in (np.arange(3, 5), torch.arange(3, 5), range(3, 5)):
        out = images(labels=1, seeds=seeds)
        assert torch.equal(out.codes, expected) and out.seeds == [3, 4]
    assert torch.equal(images(labels=1, seeds=4).codes, expected[1:])
    one = images(labels=np.int64(1), seeds=np.int64(4))
    assert torch.equal(one.codes, expected[1:]) and one.seeds == [4]
    for given in (torch.tensor(1), np.array(1)):
        assert torch.equal(images(labels=given, seeds=torch.tensor(4)).codes, expected[1:])
    for wrong in ([1.0], "3", [True], [-1], [2**32]):
        with pytest.raises(ValueError, match=r"seed .* must be a whole number"):
            images(labels=1, seeds=wrong)
    with pytest.raises(ValueError, match="label True must be a name or a whole number"):
        images(labels=[True])
    for empty in ({"labels": []}, {"labels": 1, "seeds": []}):
        with pytest.raises(ValueError, match="are empty: give one for each sample, or None"):
            images(**empty)


def test_where_all_names_are_digits_other_digits_are_no_label() -> None:
    assert numbers_of(["5", 2], ("3", "5", "8"), "label") == [1, 2]
    with pytest.raises(ValueError, match="label '0' is no name of a label"):
        numbers_of("0", ("3", "5", "8"), "label")


def test_in_a_recipe_a_number_that_is_a_name_is_that_name() -> None:
    folders, digits = ("1", "10", "2"), ("0", "1")
    assert written_numbers([1, "2", 10], folders, "label") == [0, 2, 1]
    assert written_numbers(1, digits, "label") == [1]
    assert written_numbers([1, 0], ("cat", "7"), "label") == [1, 0]
    assert written_numbers(7, ("cat", "7"), "label") == [1]
    with pytest.raises(ValueError, match="label 2: there are 2 labels, counted from 0"):
        written_numbers(2, ("cat", "dog"), "label")
    for wrong in (0, "0"):
        with pytest.raises(ValueError, match="label '0' is no name of a label"):
            written_numbers(wrong, folders, "label")


def test_every_label_in_turn_is_by_its_place_whatever_the_names(
    images: ImageGenerationPipeline,
) -> None:
    """Folders 1, 2 and 10 are in the order of text; what is resolved already is not asked for again."""
    images.classes = ("1", "10", "2")
    config = SampleImagesConfig(pipeline=Path("p"), out=Path("o"), count=3)
    labels = sample_labels(config, images)
    assert labels == [0, 1, 2]
    by_name = images(labels=["1", "10", "2"], seeds=range(3)).codes
    assert torch.equal(images(labels=labels, seeds=range(3)).codes, by_name)
