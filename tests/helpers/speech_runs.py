"""Small data sets of sound, and a small training of a tokenizer on them."""

from pathlib import Path

import datasets
import numpy as np
import soundfile

from stage1_tokenizer import SpeechTokenizerConfig
from stage1_tokenizer.quantizers import SimVQConfig
from stage1_tokenizer.speech.data import SpeechAugmentConfig, SpeechDataConfig, load_clips
from stage1_tokenizer.speech.discriminator import SpeechDiscriminatorConfig
from stage1_tokenizer.speech.losses import SpeechLossConfig
from stage1_tokenizer.speech.training import TrainSpeechTokenizerConfig

RATE = 8000
MODEL = SpeechTokenizerConfig(
    sample_rate=RATE,
    ratios=(8, 5),
    width=2,
    lstm_layers=1,
    decoder_width=32,
    decoder_hidden=32,
    decoder_layers=1,
    n_fft=160,
    quantizer=SimVQConfig(codebook_size=32, code_dim=4),
)
LOSS = SpeechLossConfig(
    adversarial_start=2,
    discriminator=SpeechDiscriminatorConfig(
        periods=(2,),
        period_width=1,
        resolutions=(64,),
        resolution_width=2,
        bands=(64,),
        band_width=2,
    ),
)


def words(
    folder: Path, silent: tuple[int, ...] = (), broken: tuple[int, ...] = ()
) -> SpeechDataConfig:
    """Twelve tones of 0.05 to 0.6 seconds to train on and three held out, in Parquet files."""
    folder.mkdir(exist_ok=True)
    for split, count in (("train", 12), ("validation", 3)):
        rows = []
        for i in range(count):
            t = np.arange(400 + 401 * i) / RATE
            samples = 0.3 * np.sin(2 * np.pi * (150 + 40 * i) * t)
            path = folder / "some.wav"
            soundfile.write(path, samples * (i not in silent), RATE)
            content = b"not a clip" if i in broken else path.read_bytes()
            row = {"label": i % 3, "text": f"word {i}", "speaker": f"speaker {i % 2}"}
            rows.append({"audio": {"bytes": content, "path": f"{i}.wav"}, **row})
        datasets.Dataset.from_list(rows).to_parquet(str(folder / f"{split}.parquet"))
    return SpeechDataConfig(
        source="parquet",
        train=str(folder / "train.parquet"),
        validation=str(folder / "validation.parquet"),
    )


def run_config(run_dir: Path, data: SpeechDataConfig) -> TrainSpeechTokenizerConfig:
    return TrainSpeechTokenizerConfig(
        run_dir=run_dir,
        data=data,
        augment=SpeechAugmentConfig(crop_seconds=0.25),
        model=MODEL,
        loss=LOSS,
        steps=4,
        batch_size=4,
        workers=0,
        log_every=1,
        save_every=2,
        ema_decay=0.9,
    )


def few_digits(folder: Path, split: str, number: int) -> None:
    """Clips of `one` and `two` in folders of their names."""
    clips = load_clips(SpeechDataConfig(), split, sample_rate=RATE)
    for name in ("one", "two"):
        (folder / name).mkdir(parents=True)
        label = clips.classes.index(name)
        places = [i for i, own in enumerate(clips.rows["label"]) if own == label][:number]
        for i in places:
            waveform = clips.decode(clips[i]).numpy()
            soundfile.write(folder / name / f"{i}.wav", waveform, RATE, subtype="PCM_16")
