"""The classifier of clips."""

import torch

from pipelines.evaluation.speech.classifier import SpeechClassifier, SpeechClassifierConfig, padded


def test_a_padded_clip_is_classified_as_it_is_alone() -> None:
    torch.manual_seed(0)
    model = SpeechClassifier(SpeechClassifierConfig(classes=("a", "b"), width=8)).eval()
    clips = [0.1 * torch.randn(size) for size in (3001, 800, 5200)]
    device = torch.device("cpu")
    together = model(*padded(clips, device))
    alone = torch.cat([model(*padded([clip], device)) for clip in clips])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-4)
