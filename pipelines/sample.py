"""sample: new pictures as PNG files and as one array, each a function of its seed and label."""

import os
import zipfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from accelerate import PartialState
from PIL import Image
from tqdm.auto import tqdm

from common.hub import local_folder, sha256
from common.manifest import start_manifest, write_manifest
from common.pictures import ROUNDING, save_pil
from common.training import environment
from pipelines.image_generation import ImageGenerationPipeline
from stage2_prior.sampling import Schedule


@dataclass(frozen=True, kw_only=True)
class SampleConfig:
    """Draws new pictures: `simvq sample CONFIG [key=value ...]`."""

    pipeline: Path
    """The `pipeline/` folder of a prior's run, or its name on the Hub."""
    out: Path
    """The folder of the samples; running again goes on with those that are missing."""
    count: int = 1000
    labels: tuple[int, ...] | None = None
    """Sample i gets label i modulo their number; null for every label in turn, or none where there are none."""
    seed: int = 0
    """Sample i has the seed `seed + i`."""
    guidance: float = 1.0
    """Scale s of u + s (c - u), where c and u are the logits with and without the label; 1 is no guidance."""
    schedule: Schedule = "constant"
    """Of the guidance along the codes: `constant`, `linear` or `power-cosine`."""
    power: float = 2.0
    """The exponent of power-cosine."""
    temperature: float = 1.0
    top_k: int = 0
    """Keep the k likeliest codes; 0 keeps all, as FID wants it."""
    top_p: float = 1.0
    """Keep the fewest codes that reach this probability together."""
    batch_size: int = 64

    def __post_init__(self) -> None:
        if self.count < 1 or self.batch_size < 1:
            raise ValueError(
                f"count={self.count} and batch_size={self.batch_size} must be at least 1"
            )
        if not (self.temperature >= 0 and self.top_k >= 0 and 0 < self.top_p <= 1):
            raise ValueError(
                f"temperature={self.temperature} and top_k={self.top_k} must not be negative, and "
                f"top_p={self.top_p} must lie in (0, 1]"
            )


def sample(config: SampleConfig) -> Path:
    """Writes out/000000.png ..., out/samples.npz and out/sample.json; returns `out`."""
    state = PartialState()
    folder = local_folder(config.pipeline)
    pipeline = ImageGenerationPipeline.from_pretrained(folder).to(state.device)
    labels = sample_labels(config, len(pipeline.classes) if pipeline.prior.config.classes else 0)
    request = request_of(config, folder, pipeline, labels)
    with state.main_process_first():
        known = start_manifest(config.out / "sample.json", request)
    if known["complete"]:
        return config.out
    mine = [
        i
        for i in range(state.process_index, config.count, state.num_processes)
        if not picture_path(config.out, i).exists()
    ]
    starts = range(0, len(mine), config.batch_size)
    for start in tqdm(starts, desc="sample", disable=not state.is_main_process or None):
        chosen = mine[start : start + config.batch_size]
        drawn = pipeline(
            [labels[i] for i in chosen] if labels else None,
            seeds=[config.seed + i for i in chosen],
            guidance=config.guidance,
            schedule=config.schedule,
            power=config.power,
            temperature=config.temperature,
            top_k=config.top_k,
            top_p=config.top_p,
        )
        for i, image in zip(chosen, drawn.images, strict=True):
            save_pil(image, picture_path(config.out, i))
    state.wait_for_everyone()
    if state.is_main_process:
        pictures = (
            np.asarray(Image.open(picture_path(config.out, i))) for i in range(config.count)
        )
        save_npz(pictures, config.count, config.out / "samples.npz")
        versions = environment()["versions"]
        write_manifest(
            config.out / "sample.json", request | {"versions": versions, "complete": True}
        )
    state.wait_for_everyone()
    return config.out


def sample_labels(config: SampleConfig, classes: int) -> list[int] | None:
    """The label of each sample, or None for a prior without labels."""
    if not classes and config.labels is None:
        return None
    chosen = config.labels or tuple(range(classes))
    return [chosen[i % len(chosen)] for i in range(config.count)]


def request_of(
    config: SampleConfig, folder: Path, pipeline: ImageGenerationPipeline, labels: list[int] | None
) -> dict[str, Any]:
    """Everything that decides the samples: the start of sample.json."""
    kept = asdict(config)
    for key in ("pipeline", "out", "batch_size", "labels", "seed"):
        kept.pop(key)
    return kept | {
        "labels": labels,
        "seeds": [config.seed + i for i in range(config.count)],
        "classes": list(pipeline.classes),
        "tokenizer_sha256": sha256(folder / "tokenizer" / "model.safetensors"),
        "prior_sha256": sha256(folder / "prior" / "model.safetensors"),
        "rounding": ROUNDING,
    }


def picture_path(out: Path, i: int) -> Path:
    return out / f"{i:06d}.png"


def save_npz(pictures: Iterator[np.ndarray[Any, Any]], count: int, path: Path) -> None:
    """Writes uint8 pictures as `arr_0` (n, y, x, c) of an .npz, one at a time, whole or not at all."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with (
        zipfile.ZipFile(partial, "w") as archive,
        archive.open("arr_0.npy", "w", force_zip64=True) as file,
    ):
        for i, picture in enumerate(pictures):
            pixels = picture[..., None] if picture.ndim == 2 else picture
            if i == 0:
                shape = (count, *pixels.shape)
                header = {"descr": "|u1", "fortran_order": False, "shape": shape}
                np.lib.format.write_array_header_1_0(file, header)
            file.write(np.ascontiguousarray(pixels).tobytes())
    os.replace(partial, path)
