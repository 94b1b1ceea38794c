"""A third modality, vectors: all that is written for it is below, and one line in MODALITIES."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import datasets
import pytest
import torch
from accelerate import Accelerator
from datasets import Features, List, Value
from jaxtyping import Float, Int
from torch import Tensor, nn

from common.codes import code_dtype, read_codes
from common.tracking import read_metrics
from stage1_tokenizer.batches import Batch, Item, training_batches
from stage1_tokenizer.codebook_usage import quantization_error
from stage1_tokenizer.config import AdversarialLossConfig, EncodeConfig, TrainTokenizerConfig
from stage1_tokenizer.data import (
    BadItemError,
    DataConfig,
    ItemDataset,
    Row,
    fingerprint,
    held_out_items,
    load_rows,
)
from stage1_tokenizer.encode import encode
from stage1_tokenizer.labels import value_names
from stage1_tokenizer.modality import MODALITIES, Modality, ModalityEncoding, ModalityTraining
from stage1_tokenizer.quantizers import Quantized, SimVQConfig, build_quantizer
from stage1_tokenizer.tokenizer import Tokenizer
from stage1_tokenizer.train import train_tokenizer

ROOT = Path(__file__).parents[2]
SIZE = 8
"""Values of a vector, two of which are one position."""


@dataclass(frozen=True, kw_only=True)
class VectorTokenizerConfig:
    quantizer: SimVQConfig = field(
        default_factory=lambda: SimVQConfig(codebook_size=16, code_dim=4)
    )


class VectorTokenizer(Tokenizer):
    config_class = VectorTokenizerConfig

    def __init__(self, config: VectorTokenizerConfig) -> None:
        super().__init__(config)
        self.encoder = nn.Linear(2, 4)
        self.quantizer = build_quantizer(config.quantizer)
        self.decoder = nn.Linear(4, 2)

    def forward(self, vectors: Float[Tensor, "b t"]) -> tuple[Float[Tensor, "b t"], Quantized]:
        quantized = self.quantizer(self.latents(vectors))
        return self.decoder(quantized.latents).flatten(1), quantized

    def latents(self, vectors: Float[Tensor, "b t"]) -> Float[Tensor, "b n d"]:
        return self.encoder(vectors.unflatten(1, (-1, 2)))

    @torch.no_grad()
    def encode(self, vectors: Float[Tensor, "b t"]) -> Int[Tensor, "b n"]:
        return self.quantizer.encode(self.latents(vectors))


@dataclass(frozen=True)
class VectorDataset(ItemDataset):
    def decode(self, row: Row) -> Float[Tensor, " t"]:
        if row["vector"] is None:
            raise BadItemError("a vector without values")
        return torch.tensor(row["vector"])

    def training_item(self, row: Row, generator: torch.Generator) -> Item:
        return {"vectors": self.decode(row)}


def load_vectors(config: DataConfig, split: str) -> VectorDataset:
    def rows(name: str) -> datasets.Dataset:
        return load_rows(config, name, {}, lambda folder, where: datasets.Dataset.from_list([]))

    classes = value_names(rows(split), lambda: rows("train"), config, "label_column")
    return VectorDataset(
        rows(split), config, classes, fingerprint(rows(split), config, split, "stored")
    )


@dataclass(frozen=True, kw_only=True)
class TrainVectorTokenizerConfig(TrainTokenizerConfig):
    modality: str = "vectors"
    model: VectorTokenizerConfig = field(default_factory=VectorTokenizerConfig)
    loss: AdversarialLossConfig = field(default_factory=AdversarialLossConfig)


class VectorTraining:
    config_class = TrainVectorTokenizerConfig
    items = "vectors"

    def __init__(self, config: TrainVectorTokenizerConfig, device: torch.device) -> None:
        self.train_set = load_vectors(config.data, "train")
        held_out = load_vectors(config.data, "validation")
        self.held_out = torch.stack(held_out_items(held_out, 4, held_out.decode)).to(device)
        self.tokenizer = VectorTokenizer(config.model)
        self.discriminator: nn.Module | None = None

    def batches(self, accelerator: Accelerator, **settings: int) -> Iterator[Batch]:
        return training_batches(
            self.train_set, self.train_set.training_item, accelerator, **settings
        )

    def latents(self, batch: Batch) -> Float[Tensor, "n d"]:
        return self.tokenizer.latents(batch["vectors"]).flatten(0, 1)

    def generator_losses(
        self, model: nn.Module, batch: Batch, adversary: nn.Module | None
    ) -> tuple[dict[str, Tensor], Tensor, Quantized]:
        decoded, quantized = model(batch["vectors"])
        loss = nn.functional.mse_loss(decoded, batch["vectors"])
        return {"mse": loss, **quantized.losses}, decoded.detach(), quantized

    def discriminator_loss(self, discriminator: nn.Module, batch: Batch, fake: Tensor) -> Tensor:
        raise NotImplementedError

    @torch.no_grad()
    def evaluate(self) -> dict[str, float]:
        decoded, _ = self.tokenizer(self.held_out)
        latents = self.tokenizer.latents(self.held_out)
        return {
            "heldout/mse": float((decoded - self.held_out).square().mean()),
            "heldout/quantization_error": quantization_error(self.tokenizer.quantizer, latents),
        }

    def evaluate_constant(self) -> dict[str, float]:
        return {"constant/mse": float(self.held_out.var(0, correction=0).mean())}

    def describe(self) -> str:
        return f"{len(self.train_set)} vectors"

    def save_examples(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.with_suffix(".txt").write_text(str(self.held_out.tolist()))


@dataclass(frozen=True, kw_only=True)
class EncodeVectorsConfig(EncodeConfig):
    modality: str = "vectors"
    batch_size: int = 2


class VectorEncoding:
    config_class = EncodeVectorsConfig

    def __init__(self, config: EncodeVectorsConfig, device: torch.device) -> None:
        self.tokenizer = VectorTokenizer.from_pretrained(config.tokenizer).to(device)
        self.splits = {name: load_vectors(config.data, name) for name in ("train", "validation")}
        self.dtype = code_dtype(self.tokenizer.quantizer.spec.alphabet)
        self.columns = Features(
            codes=List(Value(self.dtype), length=SIZE // 2),
        )
        self.layout = {"modality": "vectors", "order": "raster"}

    def views(self, split: str) -> tuple[str, ...]:
        return ("whole",)

    def load(self, split: str, row: Row) -> Item:
        return {"vector": self.splits[split].decode(row)}

    def encode(self, split: str, items: list[Item]) -> dict[str, list[Any]]:
        codes = self.tokenizer.encode(torch.stack([item["vector"] for item in items]))
        return {"codes": list(codes.numpy().astype(self.dtype))}


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DataConfig:
    """A hundred vectors in a Parquet file, the validation part without all labels; the line is added."""
    monkeypatch.setitem(MODALITIES, "vectors", Modality(VectorTraining, VectorEncoding))
    values = torch.randn(120, SIZE, generator=torch.Generator().manual_seed(0)).tolist()
    rows = [{"vector": v, "label": "abc"[i % 3], "stored": None} for i, v in enumerate(values)]
    files = {name: str(tmp_path / f"{name}.parquet") for name in ("train", "validation")}
    datasets.Dataset.from_list(rows[:100]).to_parquet(files["train"])
    datasets.Dataset.from_list(rows[101::3]).to_parquet(files["validation"])
    return DataConfig(source="parquet", **files)


def test_a_third_modality_needs_its_classes_and_one_line(tmp_path: Path, data: DataConfig) -> None:
    config = TrainVectorTokenizerConfig(
        run_dir=tmp_path / "run", data=data, steps=2, batch_size=8, workers=0, log_every=1
    )
    model = train_tokenizer(config)
    last = read_metrics(config.run_dir)[-1]
    assert last["step"] == 2 and last["speed/vectors_per_second"] > 0 and last["data/bad"] == 0
    assert last["heldout/mse"] > 0 and last["constant/mse"] == pytest.approx(1, abs=0.5)
    assert (config.run_dir / "examples" / "step-00000002.txt").is_file()
    request = EncodeVectorsConfig(tokenizer=model, out=tmp_path / "codes", data=data)
    manifest = encode(request)
    assert manifest["classes"] == ["a", "b", "c"] and manifest["modality"] == "vectors"
    codes, train_set = read_codes(request.out, "train"), load_vectors(data, "train")
    tokenizer = VectorTokenizer.from_pretrained(model)
    expected = tokenizer.encode(torch.stack([train_set.decode(row) for row in train_set.rows]))
    assert codes["codes"] == expected.tolist()
    # labels of the validation split, all of one class, have the indices of the training split
    assert set(read_codes(request.out, "validation")["label"]) == {2}


@pytest.mark.parametrize("name", list(MODALITIES))
def test_modalities_have_all_that_is_asked_for(name: str) -> None:
    for part, protocol in zip(MODALITIES[name], (ModalityTraining, ModalityEncoding), strict=True):
        methods = {k for k, v in vars(protocol).items() if callable(v) and not k.startswith("_")}
        assert all(callable(getattr(part, method)) for method in methods)


@pytest.mark.parametrize(("folder", "other"), [("images", "speech"), ("speech", "images")])
def test_modalities_do_not_know_each_other_and_name_their_files_alike(
    folder: str, other: str
) -> None:
    files = sorted((ROOT / "stage1_tokenizer" / folder).glob("*.py"))
    alike = {"data", "net", "tokenizer", "losses", "discriminator", "training", "encode"}
    assert alike <= {path.stem for path in files}
    for path in files:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom):
                assert not (node.module or "").startswith(f"stage1_tokenizer.{other}"), path
