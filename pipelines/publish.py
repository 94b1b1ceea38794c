"""push: a pipeline on the Hub, with a model card that its scores write."""

import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi
from huggingface_hub.errors import HFValidationError, LocalTokenNotFoundError
from huggingface_hub.errors import HTTPError as HubError  # httpx's or httpx2's, by its version
from huggingface_hub.utils import validate_repo_id

from common.config import load_config
from common.files import read_json, sha256
from pipelines.generation.load import find_pipeline, load_pipeline
from pipelines.model_card import model_card, save_examples


@dataclass(frozen=True, kw_only=True)
class PushConfig:
    """What push reads beside the pipeline and its name."""

    license: str | None = None
    """Licence of the weights by its name on the Hub, such as cc-by-4.0; the data must allow it. Null states none."""
    private: bool = False
    """Make a new repository private; an existing one must be private already."""
    score: Path | None = None
    """The score.json that the card shows; null takes the one of the pipeline's run."""
    samples: Path | None = None
    """The folder whose first samples the card shows; null takes the one of the pipeline's run."""


def push(pipeline: Path, name: str, options: Sequence[str] = ()) -> str:
    """Puts a pipeline into the Hub's repository `name`, which is made if need be; returns its address.

    `options` are keys of PushConfig, such as license=cc-by-4.0. Raises ValueError for a folder that is no pipeline,
    for scores and samples of another, and with what the Hub says where it refuses.
    """
    config = load_config(PushConfig, None, options)
    folder = find_pipeline(pipeline)
    loaded = load_pipeline(folder)
    run = folder.parent.parent
    score, samples = config.score or run / "score" / "score.json", config.samples or run / "samples"
    if config.score is not None and not score.is_file():
        raise ValueError(f"score={score} is not a file: set score, or leave it out")
    sampling = samples / "sample.json"
    if config.samples is not None and not sampling.is_file():
        raise ValueError(
            f"samples={samples} has no sample.json: set samples to a folder of `simvq sample`"
        )
    scored = read_json(score) if score.is_file() else {}
    if scored:
        about = scored["provenance"]
        weights = {
            f"{part}_sha256": digest for part, digest in about.get("inputs", {}).items() if digest
        }
        check_own(folder, weights | (about.get("sampling") or {}), score)
    if sampling.is_file():
        check_own(folder, read_json(sampling), sampling)
    try:
        validate_repo_id(name)
        if name.count("/") != 1:
            raise HFValidationError("it must have the form user/name")
    except HFValidationError as error:
        raise ValueError(f"{name} is no name of a repository: {error}") from None
    with tempfile.TemporaryDirectory() as temporary:
        whole = Path(temporary) / "pipeline"
        shutil.copytree(folder, whole, ignore=shutil.ignore_patterns(".*"))
        examples = save_examples(samples, whole) if sampling.is_file() else []
        card = model_card(loaded, name, scored, examples, config.license)
        card.save(whole / "README.md")
        return uploaded(whole, name, config.private)


def check_own(folder: Path, sampling: dict[str, Any], file: Path) -> None:
    """Raises ValueError where samples, which `file` is of, are by other weights than the pipeline's."""
    for part in ("tokenizer", "prior"):
        own = sha256(folder / part / "model.safetensors")
        if sampling.get(f"{part}_sha256", own) != own:
            raise ValueError(
                f"{file} is of another {part} than {folder} has: sample and score again, or set samples and score"
            )


def uploaded(folder: Path, name: str, private: bool) -> str:
    """The address of a repository that now has the files of a folder. Raises ValueError as `push` does."""
    api = HfApi()
    try:
        address: Any = api.create_repo(name, private=private, exist_ok=True)
        if private and not api.repo_info(name).private:
            raise ValueError(
                f"{name} is there already, and public: make it private on the Hub, or give private=false"
            )
        api.upload_folder(repo_id=name, folder_path=folder, commit_message="A pipeline of SimVQ")
    except LocalTokenNotFoundError:
        raise ValueError(
            "there is no token of the Hub: run `hf auth login`, or set HF_TOKEN"
        ) from None
    except HubError as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"the Hub at {api.endpoint} did not take {name}: {reason}") from None
    return str(address)
