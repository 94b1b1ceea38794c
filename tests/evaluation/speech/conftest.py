"""Held-out clips, and a Whisper of random weights."""

from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.clips import MARKS
from tokenizers.pre_tokenizers import ByteLevel
from transformers import (
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperForConditionalGeneration,
    WhisperProcessor,
    WhisperTokenizer,
)

from pipelines.evaluation.speech.data import Clips, read_clips
from stage1_tokenizer.speech.data import SpeechDataConfig, load_clips


@pytest.fixture(scope="session")
def heldout() -> Clips:
    clips = load_clips(SpeechDataConfig(), "validation", sample_rate=16_000)
    return read_clips(clips)


@pytest.fixture(scope="session")
def word(heldout: Clips) -> torch.Tensor:
    """A clip long enough for every metric: two words, one after the other."""
    return torch.cat(heldout.waveforms[:2])


@pytest.fixture(scope="session", params=[False, True], ids=["English alone", "many languages"])
def whisper_folder(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A Whisper of random weights that writes bytes."""
    letters = {letter: i for i, letter in enumerate(sorted(ByteLevel.alphabet()))}
    tokenizer = WhisperTokenizer(vocab=letters, merges=[])
    tokenizer.add_tokens(list(MARKS), special_tokens=True)
    end, start, english, transcribe, translate, untimed = tokenizer.convert_tokens_to_ids(
        list(MARKS)
    )
    sizes: dict[str, Any] = {
        f"{part}_{name}": value
        for part in ("encoder", "decoder")
        for name, value in (("layers", 1), ("attention_heads", 2), ("ffn_dim", 16))
    }
    torch.manual_seed(0)
    model = WhisperForConditionalGeneration(
        WhisperConfig(
            **sizes,
            vocab_size=len(tokenizer),
            d_model=16,
            num_mel_bins=80,
            max_target_positions=16,
            decoder_start_token_id=start,
            bos_token_id=end,
            eos_token_id=end,
            pad_token_id=end,
            suppress_tokens=[],
            begin_suppress_tokens=[],
        )
    )
    if request.param:
        model.generation_config.update(
            is_multilingual=True,
            lang_to_id={"<|en|>": english},
            task_to_id={"transcribe": transcribe, "translate": translate},
            no_timestamps_token_id=untimed,
        )
    folder = tmp_path_factory.mktemp("whisper")
    model.save_pretrained(folder)
    WhisperProcessor(WhisperFeatureExtractor(feature_size=80), tokenizer).save_pretrained(folder)
    return folder
