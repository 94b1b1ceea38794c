"""Metrics of sets of clips."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from helpers.clips import RATE, clips_of, noises
from helpers.features import CPU, as_reference

from pipelines.evaluation.comparison import Comparison, label_accuracies
from pipelines.evaluation.extractors import NO_CLASSIFIER
from pipelines.evaluation.features import Features, References
from pipelines.evaluation.speech.data import Clips
from pipelines.evaluation.speech.extractors import Utmos, VoiceExtractor, classifiers
from pipelines.evaluation.speech.metrics import evenly_chosen
from pipelines.evaluation.speech.rows import (
    ClipSet,
    heldout_bits,
    speaker_means,
    to_speakers,
    utmos_opinion,
)
from pipelines.evaluation.table import Metric, Unavailable


def test_a_speaker_without_training_clips_has_no_mean() -> None:
    voices = torch.tensor([[1.0, 0.0], [0.0, 2.0], [0.0, 4.0]])
    none, speakers = torch.zeros(3).long(), torch.tensor([0, 1, 1])
    clips = Clips([], RATE, none, none, speakers, (), ("a", "b"))
    means = speaker_means(Features(voices, voices[:, :0], none, none), clips, 3)
    assert torch.equal(means, torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]]))


def test_bits_per_second_are_those_of_the_saved_prior(tmp_path: Path) -> None:
    def line(step: int, nats: float, bits: float) -> str:
        values = {"heldout/nats_per_code": nats, "heldout/bits_per_second": bits}
        return json.dumps({"step": step, **values, "heldout/clips": 3, "heldout/codes": 1500})

    nothing = heldout_bits(tmp_path)
    assert nothing.value is None and "no heldout/bits_per_second" in str(nothing.reason)
    lines = [
        line(5, float("nan"), 1.0),
        line(10, 3.0, 90.0),
        line(20, 2.0, 60.0),
        line(30, 2.5, 75.0),
    ]
    (tmp_path / "metrics.jsonl").write_text("\n".join([*lines, '{"step": 40, "loss/train": 1.0}']))
    bits = heldout_bits(tmp_path)
    assert bits.value == 60 and bits.count == 3
    assert "step 20" in str(bits.note) and "3 validation clips of 1,500 codes" in str(bits.note)
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "heldout/nats_per_code": 2.0}\n')
    assert heldout_bits(tmp_path).value is None
    assert "set prior_run" in str(heldout_bits(None).reason)


def test_networks_that_learned_nothing_find_no_labels() -> None:
    clips = clips_of(noises(3))
    compared = [
        Comparison(each.extract(clips), References(each, *[as_reference(torch.eye(3))] * 2))
        for each in classifiers(None, RATE, CPU)
    ]
    assert len(compared) == 2
    assert label_accuracies(compared, ("a", "b"), "accuracy") == {"accuracy": NO_CLASSIFIER}


class Loudness(torch.nn.Module):
    """A network of opinions with a known answer: 1, and the greatest sample."""

    def forward(self, waveforms: torch.Tensor) -> torch.Tensor:
        return 1 + waveforms.abs().amax(1)


def test_opinions_are_the_mean_over_slow_count_clips(tmp_path: Path) -> None:
    torch.jit.script(Loudness()).save(tmp_path / "loudness.pt")
    utmos = Utmos(tmp_path / "loudness.pt", torch.device("cpu"))
    waveforms = [torch.full((size,), size / 1000) for size in (100, 200, 300, 400)]
    opinion = utmos_opinion(utmos, clips_of(waveforms, 16_000), 2)
    assert isinstance(opinion, Metric)
    opinions = [1 + len(waveform) / 1000 for waveform in evenly_chosen(waveforms, 2)]
    assert opinion.value == pytest.approx(sum(opinions) / 2) and opinion.count == 2
    assert (opinion.extractor, opinion.extractor_sha256) == ("loudness.pt", utmos.sha256)


@pytest.mark.parametrize(("named", "known"), [(("a", "b"), True), (("b", "a"), False)])
def test_a_speaker_is_compared_with_training_clips_of_that_name_alone(
    named: tuple[str, ...], known: bool
) -> None:
    clips = replace(clips_of(noises(4)), speakers=torch.tensor([0, 1, 0, 1]), speaker_names=named)
    train = replace(clips, speaker_names=("a", "b", "c"))
    voices = VoiceExtractor.__new__(VoiceExtractor)  # by name alone: the features are given
    voices.sha256 = "0" * 64
    reference = as_reference(torch.eye(4))
    compared = Comparison(reference.features, References(voices, reference, reference))
    found = to_speakers(ClipSet(clips, (compared,)), train)
    assert isinstance(found, Metric if known else Unavailable)
