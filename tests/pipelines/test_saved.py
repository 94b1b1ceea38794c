"""A tokenizer and a pipeline of each modality as an earlier version saved them: codes and samples stay the same.

The folders of `saved/` lack the weights alone, which are a function of their names; their hashes are in pipeline.json.
"""

from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.saved import filled, restored

from pipelines.generation.images import ImageGenerationPipeline
from pipelines.generation.speech import SpeechGenerationPipeline
from stage1_tokenizer import ImageTokenizer, SpeechTokenizer


@torch.no_grad()
def test_a_saved_image_tokenizer_encodes_and_decodes_as_before(tmp_path: Path) -> None:
    folder, expected = restored("images", tmp_path)
    tokenizer = ImageTokenizer.from_pretrained(folder / "tokenizer")
    codes = tokenizer.encode(filled("images", (2, 3, 8, 8)))
    assert codes.tolist() == expected["encoded"]
    images = tokenizer.decode(codes).flatten().tolist()
    assert images == pytest.approx(expected["decoded"], abs=1e-4)


@torch.no_grad()
def test_a_saved_speech_tokenizer_encodes_and_decodes_as_before(tmp_path: Path) -> None:
    folder, expected = restored("speech", tmp_path)
    tokenizer = SpeechTokenizer.from_pretrained(folder / "tokenizer")
    codes = tokenizer.encode(filled("waveforms", (2, 400)))
    assert codes.tolist() == expected["encoded"]
    waveforms = tokenizer.decode(codes).flatten().tolist()
    assert waveforms == pytest.approx(expected["decoded"], abs=1e-4)


def test_a_saved_image_pipeline_samples_as_before(tmp_path: Path) -> None:
    folder, expected = restored("images", tmp_path)
    pipeline = ImageGenerationPipeline.from_pretrained(folder)
    samples = pipeline([0, 2, 1], seeds=[4, 5, 0], guidance=2.0, top_k=20)
    assert pipeline.classes == ("a", "b", "c")
    assert samples.codes.tolist() == expected["sampled_codes"]
    images = np.stack([np.asarray(image, dtype=int) for image in samples.images])
    assert np.abs(images - np.array(expected["samples"])).max() <= 1


def test_a_saved_speech_pipeline_samples_as_before(tmp_path: Path) -> None:
    folder, expected = restored("speech", tmp_path)
    pipeline = SpeechGenerationPipeline.from_pretrained(folder)
    samples = pipeline(
        [0, 2, 1],
        [1, 0, 1],
        seeds=[4, 5, 0],
        guidance=2.0,
        top_k=20,
        prompts=[*filled("prompts", (3, 100))],
    )
    assert (pipeline.classes, pipeline.speakers) == (("a", "b", "c"), ("x", "y"))
    assert [codes.tolist() for codes in samples.codes] == expected["sampled_codes"]
    for waveform, values in zip(samples.waveforms, expected["samples"], strict=True):
        assert waveform.tolist() == pytest.approx(values, abs=1e-4)
