"""sample: new images or speech as files, each a function of its seed and condition."""

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from tqdm.auto import tqdm

from common.files import HASHES, damaged_files, read_json, seal, sha256
from common.hub import local_folder
from common.manifest import start_manifest, write_manifest
from common.processes import broadcast_from_first, processes
from common.runs import environment
from pipelines.generation.samples import Samples, new_samples, sampling_pipeline
from pipelines.guidance import guidance_distances
from pipelines.sample_config import SampleImagesConfig, SampleSpeechConfig


def sample(config: SampleImagesConfig | SampleSpeechConfig) -> Path:
    """Writes out/000000.png or .wav ..., and out/sample.json; returns `out`. Images also fill samples.npz."""
    state = processes()
    folder = local_folder(config.pipeline)
    pipeline = sampling_pipeline(config, folder).to(state.device)
    distances = None
    if isinstance(config.guidance, tuple):
        with state.main_process_first():
            distances = guidance_distances(config, folder, pipeline)
        config = replace(config, guidance=min(distances, key=distances.__getitem__))
    samples = new_samples(config, pipeline)
    request = request_of(config, folder, samples) | {"guidance_distances": distances}
    with state.main_process_first():
        manifest = start_manifest(
            config.out / "sample.json", request, samples.path(0).name.replace("000000", "*")
        )
        # by the first process alone: when others look, it may have made a sample again
        damaged = damaged_samples(config.out) if state.is_main_process else []
        for name in damaged:
            (config.out / name).unlink(missing_ok=True)
    done = torch.tensor(int(manifest["complete"] and not damaged), device=state.device)
    if broadcast_from_first(done):
        return config.out
    mine = range(state.process_index, config.count, state.num_processes)
    batches = [mine[i : i + config.batch_size] for i in range(0, len(mine), config.batch_size)]
    batches = [some for some in batches if not all(samples.path(i).exists() for i in some)]
    for chosen in tqdm(batches, desc="sample", disable=not state.is_main_process or None):
        # the whole batch: in another one sums are rounded otherwise
        items: list[Any] = [*samples.generate(chosen)]
        for i, item in zip(chosen, items, strict=True):
            if not samples.path(i).exists():
                samples.save(i, item)
    state.wait_for_everyone()
    if state.is_main_process:
        finish(config, samples, request)
    state.wait_for_everyone()
    return config.out


def finish(
    config: SampleImagesConfig | SampleSpeechConfig, samples: Samples, request: dict[str, Any]
) -> None:
    """Seals all samples, and completes sample.json."""
    samples.finish()
    files = [samples.path(i) for i in range(config.count)]
    seal(config.out, [*files, *config.out.glob("samples.npz")])
    versions = environment()["versions"]
    write_manifest(config.out / "sample.json", request | {"versions": versions, "complete": True})


def damaged_samples(out: Path) -> list[str]:
    """The files of finished samples that are missing or not as they were written; earlier versions had no hashes."""
    hashes = out / HASHES
    return list(damaged_files(out, read_json(hashes))) if hashes.exists() else []


def request_of(
    config: SampleImagesConfig | SampleSpeechConfig, folder: Path, samples: Samples
) -> dict[str, Any]:
    """Everything that decides the samples: the start of sample.json."""
    request = asdict(config)
    for key in ("pipeline", "out", "batch_size", "seed", "modality", "data", "classifier"):
        request.pop(key)
    return request | {
        "seeds": [config.seed + i for i in range(config.count)],
        "tokenizer_sha256": sha256(folder / "tokenizer" / "model.safetensors"),
        "prior_sha256": sha256(folder / "prior" / "model.safetensors"),
        **samples.request,
    }
