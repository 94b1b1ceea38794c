"""compare's tuning: what is tried, on what budget, and that the rows get what did best."""

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from common.config import build, load_config, read_values
from common.tracking import read_metrics
from pipelines.compare.config import CompareConfig, CompareRow, CompareTuning
from pipelines.compare.lines import lines_of
from pipelines.compare.metrics import Measured
from pipelines.compare.page import compare_page
from pipelines.compare.study import prepare
from pipelines.compare.table import csv_text, markdown
from pipelines.compare.tuning import WEIGHTS, Candidate, Tried, best, candidates, leader, tune

ROOT = Path(__file__).parents[2]


def row(name: str, size: int, **options: Any) -> CompareRow:
    """A row of the smallest VQ at a size, or of the given quantizer."""
    vq = {"method": "vq", "codebook_size": size, "code_dim": 8}
    return CompareRow(
        name=name, codebook_size=size, quantizer=options.pop("quantizer", vq), **options
    )


def study(out: Path, rows: tuple[CompareRow, ...], **tuning: Any) -> CompareConfig:
    """Four steps for every candidate on the smoke experiment."""
    keys: dict[str, Any] = {"steps": 4, "factors": (0.3, 1.0)} | tuning
    return CompareConfig(
        experiment=ROOT / "configs/smoke.yaml",
        out=out,
        rows=rows,
        seeds=(5, 6),
        settings={"tokenizer": {"max_skipped_steps": 1}},
        tuning=CompareTuning(**keys),
    )


def scored(
    config: CompareConfig, row: CompareRow, chosen: dict[str, float], *scores: float
) -> None:
    """Writes the scores of a row's candidates, as if they had been trained."""
    for one, score in zip(candidates(config, row, chosen), scores, strict=True):
        saved = {"config": one.config, "measure": "heldout/psnr", "score": score}
        one.folder.mkdir(parents=True, exist_ok=True)
        (one.folder / "score.json").write_text(json.dumps(saved))


@pytest.mark.slow
def test_the_weight_that_does_best_reaches_all_rows_of_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    fsq = row("FSQ", 64, quantizer={"method": "fsq", "levels": [4, 4, 4]})
    # the second value is refused by the training's guard: that run fails, the other one counts
    rows = (row("VQ", 64), fsq, row("VQ", 16, tune={"weight": [0.5, float("inf")]}))
    config = study(tmp_path, rows, codebook_size=16)
    first, unchanged, second = tune(config)[0]
    assert unchanged == fsq
    assert first.quantizer == rows[0].quantizer | {"weight": 0.5} and first.tune == {
        "weight": [0.5]
    }
    assert second.quantizer["weight"] == 0.5 and second.quantizer["codebook_size"] == 16
    lines = list(csv.DictReader((tmp_path / "tuning.csv").open()))
    assert [(one["row"], one["codebook_size"], one["value"]) for one in lines] == [
        ("VQ", "16", "0.5"),
        ("VQ", "16", "inf"),
    ]
    assert [one["chosen"] for one in lines] == ["True", "False"] and lines[1]["score"] == ""
    run = tmp_path / "tuning/vq-k16-d8/4-steps/weight-0.5"
    told = read_metrics(run / "tokenizer")[-1]
    assert told["step"] == 4 and float(lines[0]["score"]) == told["heldout/psnr"]
    assert "seed: 5" in (run / "experiment.yaml").read_text()


def test_what_is_tuned_is_not_run_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = study(tmp_path, (row("VQ", 64),))
    scored(config, config.rows[0], {}, 20.0, 19.0)
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr("sys.executable", "nothing")
    rows, failed = tune(config)
    assert rows[0].quantizer["weight"] == 0.3 and failed == []
    longer = replace(config, tuning=replace(config.tuning, steps=5))
    folders = [
        {one.folder for one in candidates(each, config.rows[0], {})} for each in (config, longer)
    ]
    assert not set.intersection(*folders)  # trainings of 4 steps do not go on to 5
    with pytest.raises(FileNotFoundError):  # of another budget: they would run
        tune(longer)


def test_a_row_with_values_of_its_own_leads_itself(tmp_path: Path) -> None:
    rows = (row("VQ", 64), row("VQ", 128, tune={"weight": [7.0]}), row("VQ", 32))
    config = study(tmp_path, rows, codebook_size=64)
    assert [leader(config, each) for each in rows] == [rows[0], rows[1], rows[0]]
    trained = CompareRow(name="VQ", codebook_size=256, tokenizer=tmp_path / "model")
    config = study(tmp_path, (trained, *rows), codebook_size=256)
    assert [leader(config, each) for each in (trained, rows[0])] == [trained, rows[0]]


def test_whole_numbers_stay_whole(tmp_path: Path) -> None:
    values = {
        "experiment": str(ROOT / "configs/smoke.yaml"),
        "out": str(tmp_path),
        "tuning": {"steps": 4},
        "rows": [
            {
                "name": "VQ",
                "codebook_size": 64,
                "quantizer": {"method": "vq"},
                "tune": {"optim.warmup_steps": [1, 2], "weight": [0.5]},
            }
        ],
    }
    config = build(CompareConfig, values)
    tried = candidates(config, config.rows[0], {})
    steps = [each.config["tokenizer"]["optim"]["warmup_steps"] for each in tried]
    assert steps == [1, 2] and all(isinstance(each, int) for each in steps)


def test_every_weight_is_a_multiple_of_the_methods_own(tmp_path: Path) -> None:
    assert {"simvq", "vq", "ema", "rq", "lfq", "sqvae"} <= WEIGHTS.keys()
    assert not {"fsq", "continuous"} & WEIGHTS.keys()
    config = study(tmp_path, (row("VQ", 64),))

    def values(one: CompareRow) -> list[tuple[str, float]]:
        return [(candidate.key, candidate.value) for candidate in candidates(config, one, {})]

    def lc(**options: float) -> CompareRow:
        return row("LC", 64, quantizer={"method": "lc", **options})

    assert values(lc()) == [("weight", 0.0099), ("weight", 0.033)]
    assert values(lc(weight=10.0)) == [("weight", 3.0), ("weight", 10.0)]
    assert values(replace(lc(), tune={"beta": [0.1, 0.2, 0.4]}))[2] == ("beta", 0.4)
    assert values(row("FSQ", 64, quantizer={"method": "fsq", "levels": [4, 4]})) == []
    assert values(row("SimVQ", 64, quantizer={"codebook_size": 64})) == [
        ("weight", 0.3 * WEIGHTS["simvq"]),
        ("weight", WEIGHTS["simvq"]),
    ]
    assert values(CompareRow(name="theirs", codebook_size=64, tokenizer=Path("model"))) == []
    steps = {candidate.config["tokenizer"]["steps"] for candidate in candidates(config, lc(), {})}
    assert steps == {4}  # the same for all


def test_the_learning_rate_comes_after_the_weight_at_its_best(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = read_values(ROOT / "configs/smoke.yaml")["tokenizer"]["optim"]["lr"]
    levels = {"method": "fsq", "levels": [4, 4, 4]}
    rows = (row("VQ", 64), row("FSQ", 64, quantizer=levels), row("VQ", 16))
    rates = (0.5 * own, own, 2 * own)
    config = study(tmp_path, rows, factors=(0.1, 0.3, 1), learning_rates=rates, codebook_size=64)
    scored(config, rows[0], {}, 20.0, 22.0, 21.0)
    scored(config, rows[0], {"weight": 0.3}, 23.0, 22.0, 21.0)
    scored(config, rows[1], {}, 20.0, 24.0, 22.0)
    folders = [one.folder.name for one in candidates(config, rows[0], {"weight": 0.3})]
    # at the experiment's own rate it is the run that chose the weight
    assert folders[1] == "weight-0.3" and folders[0].startswith("weight-0.3-optim.lr-")
    monkeypatch.setattr("sys.executable", "nothing")
    (vq, fsq, smaller), failed = tune(config)
    assert failed == []
    assert vq.quantizer["weight"] == smaller.quantizer["weight"] == 0.3
    assert vq.settings == smaller.settings == {"tokenizer": {"optim": {"lr": 0.5 * own}}}
    assert vq.tune == {"weight": [0.3], "optim.lr": [0.5 * own]}
    assert fsq.quantizer == levels and fsq.settings == {"tokenizer": {"optim": {"lr": own}}}
    lines = list(csv.DictReader((tmp_path / "tuning.csv").open()))
    chosen = [(one["row"], one["key"], one["edge"]) for one in lines if one["chosen"] == "True"]
    assert sorted(chosen) == [
        ("FSQ", "optim.lr", "False"),
        ("VQ", "optim.lr", "True"),
        ("VQ", "weight", "False"),
    ]
    experiment = read_values(prepare(config, vq, 5) / "experiment.yaml")
    assert experiment["tokenizer"]["optim"]["lr"] == 0.5 * own
    assert experiment["tokenizer"]["optim"].keys() > {"lr"}


def test_more_psnr_and_less_mel_distance_are_better(tmp_path: Path) -> None:
    candidate = Candidate(row("VQ", 64), "weight", 1.0, tmp_path, {})
    psnr = [Tried(candidate, "heldout/psnr", score) for score in (20.0, 21.0)]
    mel = [Tried(candidate, "heldout/mel", score) for score in (0.4, 0.5)]
    failed = Tried(candidate, "", None)
    assert best([failed, *psnr]) is psnr[1] and best([*mel, failed]) is mel[0]
    assert best([failed]) is None


def test_a_row_whose_candidates_all_fail_is_named_and_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    rows, failed = tune(study(tmp_path, (row("VQ", 64, tune={"wieght": [1.0]}),)))
    assert rows == [] and failed == ["tuning/vq-k64-d8"]
    log = (tmp_path / "tuning/vq-k64-d8/4-steps/wieght-1/log.txt").read_text()
    assert "wieght" in log


def test_the_table_has_a_column_for_what_was_tuned() -> None:
    quantizers = ({"method": "vq", "weight": 0.3}, {"method": "fsq"})
    rows = [row("VQ", 64, quantizer=quantizers[0], tune={"weight": [0.3]}), row("FSQ", 64)]
    found = [Measured(one, seed, {"used": 0.5}, True, 8, 1, "x") for one in rows for seed in (0, 1)]
    table = markdown(lines_of(found), "x")
    assert "| quantizer | d | seeds | weight | used |" in table and "tuning.csv" in table
    assert "| VQ | 8 | 2 | 0.3 |" in table and "| FSQ | 8 | 2 | - |" in table
    lines = list(csv.DictReader(csv_text(found).splitlines()))
    assert [line["weight"] for line in lines] == ["0.3", "0.3", "", ""]
    assert "weight" not in markdown(lines_of(found[2:]), "x").splitlines()[2]
    page = compare_page(lines_of(found), "x", b"", {})
    assert "weight" in page and ">0.3<" in page.replace(" ", "").replace("\n", "")


def test_mistakes_are_told_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="must have at least one value for each key: set tune"):
        row("VQ", 64, tune={"weight": [1.0], "beta": []})
    with pytest.raises(ValueError, match=r"factors.* must be .*: set tuning.factors"):
        build(CompareTuning, {"steps": 4, "factors": [0.0]}, "tuning.")
    with pytest.raises(ValueError, match=r"at least one value: set tuning\.factors"):
        CompareTuning(steps=4, factors=())
    with pytest.raises(ValueError, match=r"while tuning\.steps=0: set tuning\.steps"):
        study(tmp_path, (row("VQ", 64, tune={"weight": [1.0]}),), steps=0)
    path = tmp_path / "study.yaml"
    path.write_text(
        "experiment: configs/smoke.yaml\nout: out\ntuning: {steps: 3, codebook_size: 64}\nrows:\n"
        "  - {name: a, codebook_size: 64, quantizer: {method: vq}, tune: {beta: [0.1, 1]}}\n"
    )
    config = load_config(CompareConfig, path)
    assert config.rows[0].tune == {"beta": [0.1, 1.0]} and config.tuning.factors == (0.3, 1.0, 3.0)
