"""Networks that the user names: a tiny random Whisper, opinions of known answers, faults."""

from pathlib import Path

import pytest
import torch
from helpers.clips import MARKS, RATE, clips_of, noises
from helpers.features import CPU
from safetensors.torch import load_file, save_file

from pipelines.evaluation.speech.extractors import Utmos, Whisper, load_whisper
from pipelines.evaluation.speech.metrics import word_error_rate
from pipelines.evaluation.table import Unavailable


def test_case_marks_and_ways_to_write_numbers_are_no_errors(whisper_folder: Path) -> None:
    whisper = Whisper(str(whisper_folder), CPU)
    assert whisper.normalised("It's Twenty-One, Mr. Smith!") == "it is 21 mister smith"
    assert whisper.normalised("seven") == whisper.normalised(" 7.")


def test_clips_are_transcribed_alike_alone_and_together(whisper_folder: Path) -> None:
    whisper = Whisper(str(whisper_folder), CPU)
    clips = noises(3)
    together = whisper.transcribe(clips, RATE)
    assert together == [whisper.transcribe([clip], RATE)[0] for clip in clips]
    assert not any(mark in text for mark in MARKS for text in together)
    assert all(text for text in together)


def test_a_model_that_is_missing_or_broken_is_a_dash_that_names_the_key(
    whisper_folder: Path, tmp_path: Path
) -> None:
    lacking = tmp_path / "lacking"
    lacking.mkdir()
    for path in whisper_folder.iterdir():
        (lacking / path.name).write_bytes(path.read_bytes())
    weights = load_file(whisper_folder / "model.safetensors")
    weights.pop("model.encoder.conv1.weight")
    save_file(weights, lacking / "model.safetensors", metadata={"format": "pt"})
    cut = tmp_path / "cut"
    cut.mkdir()
    for path in whisper_folder.iterdir():
        (cut / path.name).write_bytes(path.read_bytes()[:1000])
    pickled = tmp_path / "pickled"
    pickled.mkdir()
    for path in whisper_folder.iterdir():
        name = path.name.replace("model.safetensors", "pytorch_model.bin")
        (pickled / name).write_bytes(path.read_bytes())
    for name in (None, str(tmp_path / "nowhere"), str(lacking), str(cut), str(pickled)):
        missing = load_whisper(name, CPU)
        assert isinstance(missing, Unavailable)
        assert "set whisper" in missing.reason and "\n" not in missing.reason
        assert word_error_rate(missing, clips_of(noises(1), texts=("one",)), 1) == missing


class NoOpinion(torch.nn.Module):
    """A network that answers with as many numbers as it is given."""

    def forward(self, waveforms: torch.Tensor) -> torch.Tensor:
        return waveforms


def test_a_network_of_opinions_that_is_none_is_told_in_words(tmp_path: Path) -> None:
    (tmp_path / "text.pt").write_text("not a network")
    torch.save({"weights": torch.zeros(2)}, tmp_path / "pickle.pt")
    for name in ("nowhere.pt", "text.pt", "pickle.pt"):
        with pytest.raises(ValueError, match="set utmos") as caught:
            Utmos(tmp_path / name, torch.device("cpu"))
        assert "\n" not in str(caught.value)
    torch.jit.script(NoOpinion()).save(tmp_path / "none.pt")
    torch.jit.script(torch.nn.Linear(3, 1)).save(tmp_path / "linear.pt")
    for name in ("none.pt", "linear.pt"):
        utmos = Utmos(tmp_path / name, torch.device("cpu"))
        with pytest.raises(ValueError, match="set utmos"):
            utmos.opinion(torch.zeros(50), 16_000)
