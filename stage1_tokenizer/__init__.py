"""Stage 1: samples to codes and back."""

from stage1_tokenizer.image_tokenizer import ImageTokenizer, ImageTokenizerConfig
from stage1_tokenizer.speech_tokenizer import SpeechTokenizer, SpeechTokenizerConfig

__all__ = [
    "ImageTokenizer",
    "ImageTokenizerConfig",
    "SpeechTokenizer",
    "SpeechTokenizerConfig",
]
