"""A small training of a tokenizer on scikit-learn's digits."""

from pathlib import Path

from common.training import OptimConfig
from stage1_tokenizer import ImageTokenizerConfig
from stage1_tokenizer.images.data import ImageAugmentConfig, ImageDataConfig, load_images
from stage1_tokenizer.images.losses import ImageLossConfig
from stage1_tokenizer.images.training import TrainImageTokenizerConfig
from stage1_tokenizer.quantizers import SimVQConfig

MODEL = ImageTokenizerConfig(
    image_size=8,
    in_channels=1,
    width=32,
    multipliers=(1, 1),
    blocks_per_level=1,
    quantizer=SimVQConfig(codebook_size=32, code_dim=4),
)


def tokenizer_config(run_dir: Path, **changes: object) -> TrainImageTokenizerConfig:
    """A tokenizer of digits with every part that has state: discriminator, averages, dropout-like flips."""
    options: dict[str, object] = {
        "model": MODEL,
        "loss": ImageLossConfig(
            perceptual_weight=0,
            adversarial_start=3,
            discriminator_width=8,
            discriminator_layers=1,
        ),
        "optim": OptimConfig(lr=1e-3, warmup_steps=2),
        "augment": ImageAugmentConfig(crop=True, flip=True),
        "steps": 8,
        "batch_size": 8,
        "workers": 0,
        "log_every": 1,
        "save_every": 4,
        "allow_failed": True,
    }
    return TrainImageTokenizerConfig(run_dir=run_dir, **{**options, **changes})  # type: ignore[arg-type]


def few_digits(folder: Path, **counts: int) -> ImageDataConfig:
    """The first digits of each split, in a Parquet file of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    files = {}
    for split, count in counts.items():
        where = "train" if split == "train" else "validation"  # whose items are those of test
        digits = load_images(ImageDataConfig(), where, channels=1, size=8)
        files[split] = str(folder / f"{split}.parquet")
        digits.rows.select(range(count)).to_parquet(files[split])
    return ImageDataConfig(source="parquet", **files)
