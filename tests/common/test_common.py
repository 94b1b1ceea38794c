"""The frame: configs, checkpoints, order, averages, the guard, images."""

import itertools
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from common.checkpoints import list_checkpoints, resume, save_checkpoint, step_of
from common.config import load_config, save_config
from common.files import replaced_folder
from common.images import from_uint8, save_grid, save_pil, to_pil, to_uint8
from common.runs import check_shares
from common.seeding import EndlessSampler, epoch_order, seed_step
from common.tracking import JSONLTracker, read_metrics
from common.training import (
    Average,
    OptimConfig,
    StepGuard,
    TrainingDivergedError,
    learning_rate,
)
from stage1_tokenizer.quantizers import EMA


@dataclass(frozen=True, kw_only=True)
class Inner:
    width: int = 8
    multipliers: tuple[int, ...] = (1, 2)

    def __post_init__(self) -> None:
        if self.width < 1:
            raise ValueError(f"width={self.width} must be positive: set inner.width")


@dataclass(frozen=True, kw_only=True)
class Outer:
    run_dir: Path
    inner: Inner = field(default_factory=Inner)
    maybe: Inner | None = None
    rate: float = 0.1


def test_a_config_round_trips_with_its_types(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("run_dir: runs/x\ninner: {multipliers: [1, 2, 4]}\nmaybe: {width: 3}\n")
    config = load_config(Outer, path, ["rate=1e-3", "inner.width=5"])
    wanted = Inner(width=5, multipliers=(1, 2, 4))
    assert config == Outer(run_dir=Path("runs/x"), inner=wanted, maybe=Inner(width=3), rate=1e-3)
    for name in ("again.yaml", "again.json"):
        save_config(config, tmp_path / name)
        assert load_config(Outer, tmp_path / name) == config
    at_home = load_config(Outer, path, ["run_dir=~/runs"])
    assert at_home.run_dir == Path.home() / "runs"


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("inner.widht=3", "did you mean 'width'"),
        ("inner.width=wide", "inner.width"),
        ("inner.width=0", "width=0 must be positive: set inner.width"),
        ("depth=1", "The keys there: run_dir, inner, maybe, rate"),
        ("rate", "must have the form key=value"),
    ],
)
def test_mistakes_in_a_config_are_told_in_words(tmp_path: Path, override: str, words: str) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("run_dir: x\n")
    with pytest.raises(ValueError) as caught:
        load_config(Outer, path, [override])
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_a_missing_file_and_a_missing_key_are_told_in_words(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is not a file"):
        load_config(Outer, tmp_path / "absent.yaml")
    (tmp_path / "empty.yaml").write_text("")
    with pytest.raises(ValueError, match="run_dir"):
        load_config(Outer, tmp_path / "empty.yaml")


@settings(max_examples=30, deadline=None)
@given(size=st.integers(1, 20), start=st.integers(0, 100), world=st.integers(1, 4))
def test_order_is_a_function_of_seed_and_position(size: int, start: int, world: int) -> None:
    def first(count: int, **where: int) -> list[tuple[int, int]]:
        sampler = iter(EndlessSampler(size, seed=3, **where))
        return [next(sampler) for _ in range(count)]

    whole = first(start + 40)
    assert first(40, start=start) == whole[start:]
    shares = [first(10, start=start, rank=rank, world=world) for rank in range(world)]
    merged = [shares[i % world][i // world] for i in range(10 * world)]
    assert merged == whole[start:][: 10 * world]
    epochs = [
        sorted(index for _, index in whole[i * size : (i + 1) * size]) for i in range(40 // size)
    ]
    assert all(epoch == list(range(size)) for epoch in epochs)
    assert sorted(epoch_order(size, 3, 7).tolist()) == list(range(size))


def test_a_checkpoint_brings_every_state_back_and_half_written_ones_are_ignored(
    tmp_path: Path,
) -> None:
    def parts() -> dict:
        torch.manual_seed(0)
        module = torch.nn.Linear(3, 2)
        return {
            "module": module,
            "optimizer": torch.optim.AdamW(module.parameters(), fused=True),
            "average": Average(module, 0.9),
        }

    trained = parts()
    for step in range(3):
        trained["module"](torch.ones(1, 3)).sum().backward()
        trained["optimizer"].step()
        trained["average"].update(step)
        save_checkpoint(tmp_path, step + 1, trained, keep=2)
    names = [path.name for path in list_checkpoints(tmp_path)]
    assert names == ["step-00000002", "step-00000003"]
    (tmp_path / "checkpoints" / ".step-00000004.tmp").mkdir()
    (tmp_path / "checkpoints" / "step-00000005.tmp").mkdir()
    fresh = parts()
    assert resume(tmp_path, fresh) == 3
    for name in trained:
        states = [
            repr(p[name].state_dict()).replace("(", "[").replace(")", "]") for p in (fresh, trained)
        ]
        assert states[0] == states[1]
    (tmp_path / "checkpoints" / "step-100000000").mkdir()
    assert [*map(step_of, list_checkpoints(tmp_path))] == [2, 3, 100_000_000]
    (tmp_path / "checkpoints" / "step-100000000").rmdir()
    files = [path.name for path in list_checkpoints(tmp_path)[-1].iterdir()]
    assert sorted(files) == ["sha256.json", "state.json", "state.safetensors"]


@pytest.mark.parametrize("left", [None, "", '{"step": 1}\n{"st', '{"step": 9}\n'])
def test_a_run_gets_back_the_metrics_that_its_checkpoint_kept(
    left: str | None, tmp_path: Path
) -> None:
    part = {"module": torch.nn.Linear(3, 2)}
    metrics = tmp_path / "metrics.jsonl"
    kept = '{"step": 1}\n{"step": 2}\n'
    metrics.write_text(kept)
    save_checkpoint(tmp_path, 2, part, keep=1)
    longer = kept + '{"step": 3}\n'
    metrics.write_text(longer)
    assert resume(tmp_path, part) == 2
    assert metrics.read_text() == longer
    metrics.unlink() if left is None else metrics.write_text(left)
    assert resume(tmp_path, part) == 2
    assert metrics.read_text() == kept


def test_a_folder_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    final = tmp_path / "model"
    with replaced_folder(final) as partial:
        (partial / "a").write_text("1")
    with pytest.raises(RuntimeError), replaced_folder(final) as partial:
        (partial / "a").write_text("2")
        raise RuntimeError
    assert (final / "a").read_text() == "1"


def test_the_average_is_the_closed_form_and_swaps_back() -> None:
    module = torch.nn.Linear(1, 1, bias=False)
    average = Average(module, 0.5)
    expected = module.weight.item()
    for step in range(20):
        with torch.no_grad():
            module.weight.fill_(float(step))
        average.update(step)
        decay = min(0.5, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * step
    with average.swapped_in():
        assert module.weight.item() == pytest.approx(expected, rel=1e-5)
    assert module.weight.item() == 19.0


def test_a_codebook_that_learns_without_a_gradient_is_averaged_too() -> None:
    module = torch.nn.Sequential(torch.nn.Linear(2, 2), EMA(codebook_size=4, code_dim=2))
    average, table = Average(module, 0.5), module[1].table
    first = table.clone()
    table.fill_(1.0)
    average.update(1000)
    with average.swapped_in():
        torch.testing.assert_close(module[1].table, 0.5 * first + 0.5)
    assert torch.equal(module[1].table, torch.ones(4, 2))


def test_a_step_that_is_not_finite_is_skipped_counted_and_at_last_refused() -> None:
    module = torch.nn.Linear(2, 1)
    optimizer = torch.optim.AdamW(module.parameters(), lr=0.1, fused=True)
    guard = StepGuard(torch.device("cpu"), limit=1, grad_clip=1.0)
    values = [torch.tensor(v) for v in (1.0, math.nan, 2.0, math.inf)]
    before = []
    for step, value in enumerate(values):
        before.append(module.weight.detach().clone())
        (module(torch.ones(1, 2)).sum() * value).backward()
        norm = torch.nn.utils.clip_grad_norm_(module.parameters(), 1.0)
        optimizer.found_inf = guard.inspect(  # type: ignore[attr-defined]
            step, {"l1": torch.tensor(1.0), "gan": value}, [norm], False
        )
        optimizer.step()
        optimizer.zero_grad()
    before.append(module.weight.detach().clone())
    moved = [not torch.equal(a, b) for a, b in itertools.pairwise(before)]
    assert moved == [True, False, True, False]
    with pytest.raises(TrainingDivergedError, match=r"2 steps .* step 2, where gan=nan broke"):
        guard.check()
    restored = StepGuard(torch.device("cpu"), limit=2, grad_clip=1.0)
    restored.load_state_dict(guard.state_dict())
    assert restored.check() == 2
    # norms of 2**0.5, nan, 8**0.5 and inf: all but the one that is no number are above 1
    assert restored.clipped_share() == 1.0 and restored.clipped_share() == 0.0


def test_the_learning_rate_warms_up_and_anneals() -> None:
    optim = OptimConfig(lr=1.0, warmup_steps=10, final_lr_ratio=0.1)
    rates = [learning_rate(step, 110, optim) for step in range(111)]
    assert rates[0] == pytest.approx(0.1) and rates[9] == pytest.approx(1.0)
    assert rates[60] == pytest.approx(0.55) and rates[110] == pytest.approx(0.1)


def test_metrics_of_a_resumed_run_are_read_once_and_a_torn_line_is_left_out(tmp_path: Path) -> None:
    tracker = JSONLTracker(tmp_path / "metrics.jsonl")
    for step, loss in [(1, 1.0), (2, 5.0), (2, 2.0), (3, 3.0)]:
        tracker.log({"loss": loss}, step=step)
    tracker.log({"heldout": 9.0}, step=2)
    with tracker.path.open("a") as file:
        file.write('{"step": 4, "lo')
    rows = read_metrics(tmp_path)
    assert [(row["step"], row["loss"]) for row in rows] == [(1, 1.0), (2, 2.0), (3, 3.0)]
    assert rows[1]["heldout"] == 9.0


def test_bytes_round_trip_and_are_rounded_not_truncated(tmp_path: Path) -> None:
    levels = torch.arange(256, dtype=torch.uint8).reshape(1, 16, 16)
    assert torch.equal(to_uint8(from_uint8(levels)), levels)
    assert to_uint8(torch.tensor([-3.0, -0.9999, 0.9999, 3.0]).reshape(1, 1, 4)).tolist() == [
        [[0, 0, 255, 255]]
    ]
    save_pil(to_pil(levels), tmp_path / "a.png")
    save_grid([torch.zeros(4, 3, 8, 8, dtype=torch.uint8)] * 2, tmp_path / "grid.png")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png", "grid.png"]


@dataclass(frozen=True, kw_only=True)
class First:
    method: Literal["first"] = "first"
    size: int = 1


@dataclass(frozen=True, kw_only=True)
class Second:
    method: Literal["second"] = "second"
    depth: int = 2


@dataclass(frozen=True, kw_only=True)
class Holder:
    one: First | Second = field(default_factory=lambda: First(size=7))


@dataclass(frozen=True, kw_only=True)
class Whole:
    holder: Holder = field(default_factory=Holder)


def test_method_says_which_of_several_dataclasses_a_field_is(tmp_path: Path) -> None:
    assert load_config(Whole, None) == Whole()
    assert load_config(Whole, None, ["holder.one.size=3"]).holder.one == First(size=3)
    chosen = load_config(Whole, None, ["holder.one.method=second", "holder.one.depth=5"])
    assert chosen == Whole(holder=Holder(one=Second(depth=5)))
    save_config(chosen, tmp_path / "config.yaml")
    assert load_config(Whole, tmp_path / "config.yaml") == chosen
    with pytest.raises(ValueError, match=r"holder.one.method='third' is not one of first, second"):
        load_config(Whole, None, ["holder.one.method=third"])
    with pytest.raises(ValueError, match=r"there is no key 'holder.one.size'.*depth"):
        load_config(Whole, None, ["holder.one.method=second", "holder.one.size=5"])


def test_a_batch_is_shared_evenly_or_refused() -> None:
    for batch_size, num_processes in ((75, 2), (64, 3)):
        with pytest.raises(ValueError, match=f"batch_size={batch_size} can't be shared by"):
            check_shares(batch_size, num_processes, 1)
    check_shares(75, 1, 3)
    check_shares(64, 4, 4)
    with pytest.raises(
        ValueError, match=r"accumulation=3 equal parts .* of the 32 items .* set accum"
    ):
        check_shares(64, 2, 3)


@pytest.mark.parametrize("seed", [0, 20_261_127, 2**32 - 1])
def test_any_seed_has_its_own_random_state(seed: int) -> None:
    drawn = []
    for step, rank in ((0, 0), (1, 0), (0, 1)):
        seed_step(seed, step, rank)
        drawn.append(float(torch.rand(())))
    assert len({*drawn}) == 3
