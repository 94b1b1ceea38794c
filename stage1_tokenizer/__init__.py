"""Stage 1: items to codes and back."""

from stage1_tokenizer.images.tokenizer import ImageTokenizer, ImageTokenizerConfig
from stage1_tokenizer.speech.tokenizer import SpeechTokenizer, SpeechTokenizerConfig
