"""What the pipelines of all modalities share: a tokenizer and a prior on a device, and their folder."""

import json
from pathlib import Path
from typing import Any, ClassVar, Generic, Self, TypeVar

import torch

from common.files import hashed, read_json, replaced_folder, sha256, write_text
from common.hub import HubModel, local_folder
from stage1_tokenizer.tokenizer import encoding_sha256
from stage2_prior import Prior
from stage2_prior.build import load_prior

Tokenizer = TypeVar("Tokenizer", bound=HubModel)
PARTS = ("tokenizer", "prior")


class GenerationPipeline(Generic[Tokenizer]):
    """A tokenizer and a prior on one device."""

    tokenizer_class: ClassVar[type[Any]]
    names: ClassVar[tuple[str, ...]]
    """The lists of names that a pipeline is made with, in order, and that pipeline.json holds."""
    tokenizer: Tokenizer
    prior: Prior

    @classmethod
    def from_pretrained(cls, name_or_dir: str | Path, revision: str | None = None) -> Self:
        """The saved pipeline, on the CPU. Raises ValueError for a tokenizer that is not the prior's."""
        folder = local_folder(name_or_dir, revision)
        description = read_pipeline(folder)
        tokenizer = cls.tokenizer_class.from_pretrained(folder / "tokenizer")
        named = (description[name] for name in cls.names)
        return cls(tokenizer, load_prior(folder / "prior"), *named)  # type: ignore[call-arg]

    def save_pretrained(self, folder: str | Path) -> None:
        """Writes the folder whole or not at all."""
        about = {name: list(getattr(self, name)) for name in self.names}
        write_pipeline(folder, self.tokenizer, self.prior, about)

    def to(self, *where: torch.device | str | torch.dtype) -> Self:
        """The same pipeline on another device, or its prior in another precision: to("cuda", torch.bfloat16).

        The tokenizer stays in float32, so that codes mean the same everywhere.
        """
        self.prior.to(*where)  # type: ignore[call-overload]
        self.tokenizer.to(self.device)
        return self

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.prior.condition_embedding.weight.device


def read_pipeline(folder: Path) -> dict[str, Any]:
    """pipeline.json. Raises ValueError for a missing or damaged file, and for weights that the pipeline was not saved with.

    A tokenizer may have another decoder, trained further behind the same encoder and codebook.
    """
    if not (folder / "pipeline.json").is_file():
        raise ValueError(
            f"{folder} has no pipeline.json: give the folder of a pipeline, such as prior/pipeline of a run"
        )
    description: dict[str, Any] = read_json(folder / "pipeline.json")
    for part in PARTS:
        digest, saved = sha256(folder / part / "model.safetensors"), description[f"{part}_sha256"]
        if digest != saved and not (part == "tokenizer" and same_encoding(folder, description)):
            raise ValueError(
                f"{folder / part} is {digest[:16]}, but the pipeline was saved with "
                f"{saved[:16]}: restore that {part}, or save the pipeline again"
            )
    return description


def same_encoding(folder: Path, description: dict[str, Any]) -> bool:
    """Whether encoder and codebook are those the pipeline was saved with, which earlier versions did not say."""
    saved = description.get("encoding_sha256")
    return saved is not None and encoding_sha256(folder / "tokenizer") == saved


def write_pipeline(
    folder: str | Path, tokenizer: HubModel, prior: HubModel, about: dict[str, Any]
) -> None:
    """Writes the folder whole or not at all; `about` goes into pipeline.json."""
    with replaced_folder(Path(folder)) as partial:
        tokenizer.save_pretrained(partial / "tokenizer")
        prior.save_pretrained(partial / "prior")
        hashes = {f"{part}_sha256": sha256(partial / part / "model.safetensors") for part in PARTS}
        hashes["encoding_sha256"] = encoding_sha256(partial / "tokenizer")
        text = json.dumps(hashed({**about, **hashes}), indent=2)
        write_text(partial / "pipeline.json", text + "\n")
