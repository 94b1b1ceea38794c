"""A prior of which each process has a part: the training of whole ones, its checkpoints and its pipeline."""

import dataclasses
import json
import os
import shutil
import socket
from pathlib import Path

import pytest
import torch
import torch.multiprocessing
from datasets import Dataset
from helpers.code_runs import run_config, write_counting
from helpers.priors import LENGTH, K, image_prior
from helpers.processes import run_on_two, save_experiment
from safetensors.torch import load_file

from common.checkpoints import list_checkpoints
from common.processes import processes
from common.sharding import shard
from common.tracking import read_metrics
from common.training import OptimConfig
from pipelines.verbs import train_prior
from stage2_prior.data import CodeDataset, held_out_batches, lacks_a_batch
from stage2_prior.optimizers import new_optimizers
from stage2_prior.train_config import TrainPriorConfig

CHANGES = {"batch_size": 2, "keep_checkpoints": 3, "dropout": 0.0}
KEYS = ("loss/train", "optim/grad_norm", "heldout/nats_per_code")


def train_on_two(config: TrainPriorConfig) -> None:
    """`simvq train-prior` on two processes."""
    place = config.run_dir.parent
    save_experiment(place / f"{config.run_dir.name}.yaml", prior=config)
    run_on_two(place, "train-prior", f"{config.run_dir.name}.yaml")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs on two processes, `whole` and `parts`; one process has one held-out batch more."""
    root = write_counting(tmp_path_factory.mktemp("codes"), held_out=5)
    for name in ("whole", "parts"):
        train_on_two(run_config(root, name, shard=name == "parts", **CHANGES))
    return root


def assert_close(ours: Path, theirs: Path) -> None:
    """The same metrics but for rounding, and weights that are close under the same names."""
    for a, b in zip(read_metrics(ours), read_metrics(theirs), strict=True):
        for key in KEYS:
            assert a.get(key, 0) == pytest.approx(b.get(key, 0), rel=1e-5), (a["step"], key)
    one, other = (load_file(run / "best" / "model.safetensors") for run in (ours, theirs))
    assert one.keys() == other.keys()
    for name, weight in one.items():
        torch.testing.assert_close(weight, other[name], atol=1e-4, rtol=1e-4)


@pytest.mark.slow
def test_parts_on_two_processes_train_as_whole_ones(trained: Path) -> None:
    """With averaged weights and clipping; the files have the same tensors."""
    assert_close(trained / "parts", trained / "whole")
    parts, whole = (list_checkpoints(trained / name)[-1] for name in ("parts", "whole"))
    ours, theirs = (load_file(folder / "state.safetensors") for folder in (parts, whole))
    assert {k: v.shape for k, v in ours.items()} == {k: v.shape for k, v in theirs.items()}
    assert (trained / "parts" / "pipeline" / "pipeline.json").is_file()


@pytest.mark.slow
@pytest.mark.parametrize("source", ["parts", "whole"])
def test_a_run_goes_on_on_another_number_of_processes(trained: Path, source: str) -> None:
    """From two with parts to one, and from whole ones to two with parts."""
    run = trained / f"from-{source}"
    shutil.copytree(trained / source, run)
    for later in list_checkpoints(run)[1:]:
        shutil.rmtree(later)
    (run / "done.json").unlink()
    config = run_config(trained, run.name, shard=True, **CHANGES)
    if source == "parts":
        train_prior(config)
    else:
        train_on_two(config)
    assert [read_metrics(run)[0]["step"], read_metrics(run)[-1]["step"]] == [1, 12]
    assert_close(run, trained / "whole")


def hold_parts(rank: int, port: int, folder: Path) -> None:
    """What one of two processes runs: a step, and what it holds of weights, gradients and moments."""
    place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "MASTER_PORT": port}
    os.environ |= {name: str(value) for name, value in place.items()} | {"MASTER_ADDR": "localhost"}
    processes()
    prior = image_prior().train()
    shard(prior)
    (adamw,) = new_optimizers(prior, "adamw", OptimConfig())
    prior(prior.conditions(4), torch.randint(0, K, (4, LENGTH))).backward()
    adamw.step()
    weights = list(prior.parameters())
    moments = [adamw.state[weight]["exp_avg"] for weight in weights]
    kinds = (weights, [weight.grad for weight in weights], moments)
    held = [sum(tensor.to_local().numel() for tensor in kind) for kind in kinds]
    (folder / f"{rank}.json").write_text(json.dumps(held))
    processes().destroy_process_group()


@pytest.mark.slow
def test_each_process_holds_half_of_everything(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    torch.multiprocessing.spawn(hold_parts, (port, tmp_path), nprocs=2)
    first, second = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1))
    everything = sum(weight.numel() for weight in image_prior().parameters())
    for a, b in zip(first, second, strict=True):
        assert a + b == everything and abs(a - b) < 0.01 * everything


@pytest.mark.parametrize(("batch_size", "world"), [(1, 2), (2, 2), (2, 3), (3, 2), (4, 8)])
def test_a_process_that_lacks_a_held_out_batch_knows_it(batch_size: int, world: int) -> None:
    codes = Dataset.from_dict({"codes": [[0] * LENGTH] * 5, "label": [0] * 5})
    items = CodeDataset(codes, image_prior(), drop=0.0, seed=0)
    shares = [{"batch_size": batch_size, "rank": rank, "world": world} for rank in range(world)]
    counts = [sum(1 for _ in held_out_batches(items, **share)) for share in shares]
    lacking = [counts[0] - count for count in counts]
    assert lacking == [lacks_a_batch(items, **share) for share in shares]


@pytest.mark.parametrize("key", ["optimizer", "precision"])
def test_what_needs_whole_weights_is_refused(tmp_path: Path, key: str) -> None:
    config = run_config(tmp_path, "run", **{key: {"optimizer": "muon", "precision": "fp16"}[key]})
    with pytest.raises(ValueError, match=rf"^shard=True .*: set {key}.* or shard=false$"):
        dataclasses.replace(config, shard=True)
