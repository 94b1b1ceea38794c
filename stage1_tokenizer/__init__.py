"""Stage 1: samples to codes and back."""

from stage1_tokenizer.image_tokenizer import ImageTokenizer, ImageTokenizerConfig

__all__ = ["ImageTokenizer", "ImageTokenizerConfig"]
