"""What scoring and the training of its classifiers read from an experiment's file."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from common.bounds import Count, Seed, Whole, Within
from common.training import OptimConfig
from stage1_tokenizer.images.data import ImageDataConfig
from stage1_tokenizer.speech.data import SpeechDataConfig

Voicing = Literal["pyin", "crepe", "none"]
ImageArchitecture = Literal["residual", "patches"]
SpeechArchitecture = Literal["convolutional", "recurrent"]


@dataclass(frozen=True, kw_only=True)
class ScoreConfig:
    """What scoring reads, whatever the items are."""

    tokenizer: Path
    """The tokenizer's folder `model`."""
    samples: Path | None = None
    """The folder that `simvq sample` has written; null scores the tokenizer alone."""
    classifier: Path | None = None
    """The folder `model` of `simvq train-classifier`: label accuracy, and features to compare sets by."""
    codes: Path | None = None
    """The folder of codes: training codes give the controls and the histogram, held-out codes the prior's bits per
    item."""
    tokenizer_run: Path | None = None
    """The tokenizer's run folder: its curves are plotted."""
    prior_run: Path | None = None
    """The prior's run folder: it adds the prior's curves, bits per item and own label accuracy to the report, and for
    speech its bits per second."""
    reference_count: Annotated[int, Within(4)] | None = None
    """Training items to compare with, chosen at random by the seed; null for all."""
    out: Path
    """Where score.json and report.html are written."""
    cache: Path = Path("runs/.cache")
    """Where features of real items are kept."""
    seed: Seed = 0
    """Seed of random subsets in the metrics, of the training items chosen, and of the controls."""


@dataclass(frozen=True, kw_only=True)
class ScoreImagesConfig(ScoreConfig):
    """Scores a tokenizer's reconstructions and a prior's samples against real images."""

    modality: Literal["images"] = "images"
    data: ImageDataConfig = field(default_factory=ImageDataConfig)
    """The images that the tokenizer and the prior were trained on."""
    inception_weights: Path | None = None
    """torch-fidelity's file of Inception weights; null looks for it where torch-fidelity puts it."""
    allow_download: bool = False
    """Download the weights of Inception and LPIPS where they are missing."""
    extractors: tuple[str, ...] = ()
    """Further networks that sets are compared by: `dinov2-vit-l-14` for FDD, `clip-vit-l-14-336px` for CMMD, other
    names of torch-fidelity's CLIP and DINOv2, or the folder of such a model in safetensors."""
    statistics: Path | None = None
    """Published reference statistics to compare with too: an .npz with mu and sigma, as ADM and clean-fid have it."""
    save_statistics: bool = False
    """Write mu and sigma of samples, reconstructions and real images to the folder `statistics` beside score.json."""
    protocols: bool = False
    """Score the same images again by other protocols: JPEG, rounding, resizing, counts, references."""
    paper: float | None = None
    """A distance from a paper, for protocols=true to explain."""
    batch_size: Count = 64
    """Images at a time."""

    def __post_init__(self) -> None:
        if self.paper is not None and not self.protocols:
            raise ValueError(
                f"paper={self.paper} is explained by other protocols: set protocols=true"
            )


@dataclass(frozen=True, kw_only=True)
class ScoreSpeechConfig(ScoreConfig):
    """Scores a tokenizer's reconstructions and a prior's samples against real speech."""

    modality: Literal["speech"] = "speech"
    data: SpeechDataConfig = field(default_factory=SpeechDataConfig)
    """The clips that the tokenizer and the prior were trained on."""
    voicing: Voicing = "pyin"
    """The voicing detector: `pyin`, `none`, or `crepe`, whose thresholds differ from those of published V/UV F1."""
    slow_count: Count = 32
    """V/UV F1, opinions and word errors use at most so many clips of each set, spread evenly over it."""
    whisper: str | None = None
    """Folder or Hub name of a Whisper model in safetensors, for the word error rate of English speech."""
    utmos: Path | None = None
    """TorchScript file that maps waveforms (b, t) at 16 kHz to UTMOS's opinions (b,); the published
    checkpoints are pickles, which are never opened here."""

    trust: bool = False
    """Whether the file of utmos is trusted: TorchScript is a program, which can read and overwrite files."""

    def __post_init__(self) -> None:
        if self.utmos is not None and not self.trust:
            raise ValueError(
                f"utmos={self.utmos} is TorchScript, a program that can overwrite files of yours: set trust=true if you "
                "know where it is from"
            )


@dataclass(frozen=True, kw_only=True)
class ClassifierTrainingConfig:
    """What the training of a classifier reads, whatever the items are."""

    run_dir: Path
    """Where the run is written; the classifier is its folder `model`."""
    steps: Count = 500
    """Optimizer steps."""
    batch_size: Count = 64
    """Items per step."""
    optim: OptimConfig = field(
        default_factory=lambda: OptimConfig(
            lr=4e-3, betas=(0.9, 0.99), weight_decay=0.05, warmup_steps=50, final_lr_ratio=0.01
        )
    )
    """The optimizer."""
    seed: Seed = 0
    """Seed of the weights, the order and the augmentation."""
    workers: Whole = 0
    """Processes that load items, beside the main process: of use on a GPU."""
    log_every: Count = 50
    """Steps between two lines of metrics.jsonl."""


@dataclass(frozen=True, kw_only=True)
class TrainImageClassifierConfig(ClassifierTrainingConfig):
    """Trains a classifier of labelled images, whose features compare sets of them."""

    modality: Literal["images"] = "images"
    data: ImageDataConfig = field(default_factory=ImageDataConfig)
    """Labelled images."""
    image_size: Count = 8
    """Side of the square images, in pixels."""
    in_channels: Count = 1
    """3 for colour, 1 for grey."""
    width: Count = 16
    """Channels of the first of three stages; 32 for CIFAR-10."""
    architecture: ImageArchitecture = "residual"
    """The network; the second classifier, which checks the scores, has the other."""
    flip: bool = False
    """Mirror half of the images."""
    crop: bool = True
    """Shift images at random by up to an eighth of their side."""


@dataclass(frozen=True, kw_only=True)
class TrainSpeechClassifierConfig(ClassifierTrainingConfig):
    """Trains a classifier of labelled clips, whose features compare sets of them."""

    modality: Literal["speech"] = "speech"
    data: SpeechDataConfig = field(default_factory=SpeechDataConfig)
    """Labelled clips."""
    sample_rate: Count = 8000
    """Samples per second, the same as the tokenizer's whose speech is scored."""
    mels: Count = 40
    """Bands of the spectrogram."""
    width: Count = 64
    """Channels of every layer, and dimensions of the features."""
    architecture: SpeechArchitecture = "convolutional"
    """The network; the second classifier, which checks the scores, has the other."""
    steps: Count = 300
    """Optimizer steps."""
    batch_size: Count = 32
    """Clips per step."""

    def __post_init__(self) -> None:
        if self.width % 2:
            raise ValueError(
                f"width={self.width} must be even, as the recurrent classifier reads clips both ways: set width"
            )
