"""What is said in clips."""

from dataclasses import replace

import torch
from helpers.clips import RATE, noises

from pipelines.evaluation.speech.data import Clips, words_said


def test_clips_know_what_is_said(heldout: Clips) -> None:
    assert heldout.texts == tuple(heldout.classes[label] for label in heldout.labels.tolist())


def test_what_is_said_is_the_text_or_else_the_label() -> None:
    labels = torch.tensor([1, 0])
    two = Clips(noises(2), RATE, labels, labels, labels, ("0", "left"), ())
    assert words_said(two) == ["left", "zero"]
    assert words_said(replace(two, texts=("Hi!", "you"))) == ["Hi!", "you"]
    assert words_said(replace(two, classes=())) == []
