"""sample: new images or speech as files, each a function of its seed and condition."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from common.files import sha256
from common.hub import local_folder
from common.manifest import start_manifest, write_manifest
from common.processes import processes
from common.runs import environment
from pipelines.generation.image_samples import ImageSamples
from pipelines.generation.speech_samples import SpeechSamples
from pipelines.sample_config import SampleImagesConfig, SampleSpeechConfig

Samples = ImageSamples | SpeechSamples
"""What is particular to a modality: the pipeline, the conditions, the files."""


def sample(config: SampleImagesConfig | SampleSpeechConfig) -> Path:
    """Writes out/000000.png or .wav ..., and out/sample.json; returns `out`. Images also fill samples.npz."""
    state = processes()
    folder = local_folder(config.pipeline)
    samples: Samples
    if isinstance(config, SampleSpeechConfig):
        samples = SpeechSamples(config, folder, state.device)
    else:
        samples = ImageSamples(config, folder, state.device)
    request = request_of(config, folder, samples)
    with state.main_process_first():
        manifest = start_manifest(config.out / "sample.json", request)
    if manifest["complete"]:
        return config.out
    mine = [
        i
        for i in range(state.process_index, config.count, state.num_processes)
        if not samples.path(i).exists()
    ]
    starts = range(0, len(mine), config.batch_size)
    for start in tqdm(starts, desc="sample", disable=not state.is_main_process or None):
        samples.generate(mine[start : start + config.batch_size])
    state.wait_for_everyone()
    if state.is_main_process:
        samples.finish()
        versions = environment()["versions"]
        write_manifest(
            config.out / "sample.json", request | {"versions": versions, "complete": True}
        )
    state.wait_for_everyone()
    return config.out


def request_of(
    config: SampleImagesConfig | SampleSpeechConfig, folder: Path, samples: Samples
) -> dict[str, Any]:
    """Everything that decides the samples: the start of sample.json."""
    request = asdict(config)
    for key in ("pipeline", "out", "batch_size", "seed", "modality"):
        request.pop(key)
    return request | {
        "seeds": [config.seed + i for i in range(config.count)],
        "tokenizer_sha256": sha256(folder / "tokenizer" / "model.safetensors"),
        "prior_sha256": sha256(folder / "prior" / "model.safetensors"),
        **samples.request,
    }
