"""compare: rows through both stages, the table that comes of them, and its claims about differences."""

import csv
import shutil
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from statistics import median

import pytest
import torch

from common.config import load_config
from common.tracking import read_metrics
from pipelines.compare.config import CompareConfig, CompareRow
from pipelines.compare.figure import LABEL, apart, plot
from pipelines.compare.lines import lines_of
from pipelines.compare.metrics import Measured, first_score
from pipelines.compare.page import compare_page, compare_words
from pipelines.compare.runs import experiment_values
from pipelines.compare.study import classify, compare, prepare, refuse_shared_folders
from pipelines.compare.table import csv_text, holm, indistinguishable, markdown
from pipelines.evaluation.table import Metric
from pipelines.experiment import read_experiment
from pipelines.recipe_list import config_path
from stage1_tokenizer import ImageTokenizer

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> CompareConfig:
    """The smoke study, run to its end in a folder of its own."""
    folder = tmp_path_factory.mktemp("study")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("PYTHONPATH", str(ROOT))
        config = load_config(CompareConfig, config_path("compare/smoke"))
        compare(config)
    return load_config(
        CompareConfig, ROOT / "configs/compare/smoke.yaml", [f"out={folder / config.out}"]
    )


@pytest.mark.slow
def test_every_row_goes_through_both_stages(study: CompareConfig) -> None:
    rows = list(csv.DictReader((study.out / "compare.csv").open()))
    assert [row["row"] for row in rows] == ["SimVQ", "FSQ", "RQ", "continuous"]
    for row in rows[:3]:
        assert row["equal_bits"] == "True" and float(row["bits per item"]) == 16 * 6
        for column in ("used", "rFD", "PSNR (dB)", "gFD", "label accuracy", "step (ms)"):
            assert float(row[column]) >= 0, column
        assert 0 < float(row["prior's bits per item"]) < 200
    steps = read_metrics(study.out / "rows" / "simvq-k64-d8-s0" / "tokenizer")
    logged = [line["speed/step_ms"] for line in steps if "speed/step_ms" in line]
    assert float(rows[0]["step (ms)"]) == median(logged)
    ceiling = rows[3]
    assert (
        ceiling["gFD"] == ceiling["used"] == ceiling["bits per item"] == ""
        and float(ceiling["quantization error"]) == 0
    )
    assert float(ceiling["rFD"]) > 0
    table = (study.out / "compare.md").read_text()
    assert "**K = 64**" in table and "digits-classifier" in table and "one seed" in table
    assert (study.out / "compare.png").is_file() and (study.out / "compare.html").is_file()


@pytest.mark.slow
def test_the_rows_differ_in_the_quantizer_alone(study: CompareConfig) -> None:
    runs = sorted((study.out / "rows").iterdir())
    configs = [read_experiment(run / "experiment.yaml").config("tokenizer") for run in runs]
    model = replace(configs[0].model, quantizer=configs[0].model.quantizer)
    own = [config.model.quantizer for config in configs]
    same = [replace(c, run_dir=Path(), model=replace(model, quantizer=own[0])) for c in configs]
    assert same == [same[0]] * 4 and len(set(own)) == 4
    assert all(replace(c.model, quantizer=own[0]) == model for c in configs)
    first = ImageTokenizer.from_pretrained(study.out / "rows/fsq-k64-s0/tokenizer/model")
    assert first.config.quantizer.method == "fsq"
    assert first.decode(torch.zeros(1, 4, 4).long()).shape == (1, 1, 8, 8)


@pytest.mark.slow
def test_running_again_trains_nothing_and_a_row_that_fails_is_named(
    study: CompareConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "again"
    shutil.copytree(study.out.parents[2], folder, symlinks=True)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    config = load_config(CompareConfig, config_path("compare/smoke"))
    bad = CompareRow(name="bad", codebook_size=64, quantizer={"method": "fsq", "levels": [1]})
    before = {p: p.stat().st_mtime_ns for p in folder.rglob("state.safetensors")}
    with pytest.raises(ValueError, match="rows/bad-k64-s0 failed"):
        compare(replace(config, rows=(bad, config.rows[1])))
    assert before == {p: p.stat().st_mtime_ns for p in folder.rglob("state.safetensors")}
    assert "levels" in (config.out / "rows/bad-k64-s0/log.txt").read_text()
    (fsq,) = csv.DictReader((config.out / "compare.csv").open())
    assert fsq == list(csv.DictReader((study.out / "compare.csv").open()))[1]


@pytest.mark.parametrize("name", sorted(p.name for p in (ROOT / "configs/compare").iterdir()))
def test_every_row_of_every_study_makes_valid_configs(name: str, tmp_path: Path) -> None:
    config = load_config(CompareConfig, ROOT / "configs/compare" / name, [f"out={tmp_path}"])
    for row in config.rows:
        read_experiment(prepare(config, row, seed=0) / "experiment.yaml")


def test_a_tokenizer_from_elsewhere_is_a_row_too(tmp_path: Path) -> None:
    row = CompareRow(name="theirs", codebook_size=64, tokenizer=Path("official/model"))
    config = CompareConfig(experiment=ROOT / "configs/smoke.yaml", out=tmp_path, rows=(row,))
    folder = prepare(config, row, seed=3)
    configs = read_experiment(folder / "experiment.yaml").configs
    assert "tokenizer" not in configs and configs["prior"].seed == 3
    for section in ("codes", "prior", "score"):
        assert configs[section].tokenizer == Path("official/model")
    assert configs["score"].classifier == tmp_path / "classifier/model"


def test_a_classifier_from_elsewhere_takes_the_place_of_the_study_s(tmp_path: Path) -> None:
    """So that rows that were made on another machine are scored by the same network, bit for bit."""
    given = "settings.score.classifier=docs/comparison/classifier/model"
    path = ROOT / "configs/compare/digits.yaml"
    config = load_config(CompareConfig, path, [given, f"out={tmp_path}"])
    classify(config)
    assert not [*tmp_path.iterdir()]
    row = prepare(config, config.rows[0], seed=0)
    configs = read_experiment(row / "experiment.yaml").configs
    assert "classifier" not in configs
    assert configs["score"].classifier == Path("docs/comparison/classifier/model")
    assert configs["samples"].classifier == configs["score"].classifier


def test_a_guidance_may_be_chosen_from_a_list_by_the_classifier_of_all_rows(tmp_path: Path) -> None:
    row = CompareRow(name="a", codebook_size=512, quantizer={"codebook_size": 512, "code_dim": 8})
    config = CompareConfig(experiment=Path("mnist"), out=tmp_path, rows=(row,))
    samples = read_experiment(prepare(config, row, seed=0) / "experiment.yaml").config("samples")
    assert len(samples.guidance) > 1 and samples.classifier == tmp_path / "classifier/model"


def test_mistakes_are_told_in_a_sentence(tmp_path: Path) -> None:
    row = CompareRow(name="a", codebook_size=4, quantizer={"method": "vq"})
    with pytest.raises(ValueError, match="needs either quantizer or tokenizer"):
        CompareRow(name="a", codebook_size=4)
    with pytest.raises(ValueError, match="differ in name, codebook_size or code_dim"):
        CompareConfig(experiment=tmp_path, out=tmp_path, rows=(row, row))
    config = CompareConfig(experiment=tmp_path, out=tmp_path, rows=(row,))
    with pytest.raises(
        ValueError, match=r"is neither a file nor the name of a recipe: set experiment"
    ):
        experiment_values(config, {})
    (tmp_path / "a.yaml").write_text("tokenizer:\n")
    with pytest.raises(ValueError, match=r"has no section codes: set experiment"):
        experiment_values(replace(config, experiment=tmp_path / "a.yaml"), {})
    smoke = replace(config, experiment=Path("smoke"))
    with pytest.raises(ValueError, match=r"settings.score=None must be a group of keys"):
        experiment_values(smoke, {"score": None})
    with pytest.raises(ValueError, match=r"seeds=\(0, 0\) must have no value twice: set seeds"):
        replace(config, seeds=(0, 0))
    with pytest.raises(ValueError, match=r"row 'a': seeds=\(1, 1\) must have no value twice"):
        replace(row, seeds=(1, 1))
    with pytest.raises(ValueError, match="a trained tokenizer, which tune can't change"):
        CompareRow(name="a", codebook_size=4, tokenizer=tmp_path, tune={"weight": [1.0]})


def test_all_runs_are_in_the_folder_of_the_study(tmp_path: Path) -> None:
    """Also of a recipe that shares the folders of another."""
    row = CompareRow(name="a", codebook_size=64, quantizer={"method": "vq"})
    config = CompareConfig(experiment=Path("fsdd_text"), out=tmp_path, rows=(row,))
    values = experiment_values(config, {})
    folders = [
        values[section].get(key)
        for section in values
        if isinstance(values[section], dict)
        for key in ("run_dir", "out")
    ]
    assert not any(folders)


def measured(
    name: str,
    seed: int,
    used: float | None,
    error: float,
    codebook_size: int = 8,
    levels: int = 1,
) -> Measured:
    row = CompareRow(name=name, codebook_size=codebook_size, quantizer={"method": "vq"})
    metrics = {"used": used, "rFD": error, "gFD": None}
    return Measured(row, seed, metrics, name != "c", 4, levels, "x")


def test_what_the_seeds_do_not_set_apart_is_marked_alike() -> None:
    """Differences are paired: b is a little worse than a with every seed, d better with one and worse with two."""
    found = [measured("a", s, 0.5 + 0.01 * s, 3.0 + s) for s in range(3)]
    found += [measured("b", s, 0.9, 4.0 + s + 0.01 * s) for s in range(3)]
    found += [measured("c", s, 0.2, 40.0 + s) for s in range(3)]
    found += [measured("d", s, 0.2, 3.2 + s + (-1) ** s * 0.5) for s in range(3)]
    lines = lines_of(found)
    a, b, _, d = lines
    assert indistinguishable(lines, "used") == [b]  # more is better, and it has no spread
    assert indistinguishable(lines, "rFD") == [a, d]  # less is better; c has other bits
    assert indistinguishable(lines, "gFD") == []
    table = markdown(lines, "x")
    assert "| b | 4 | 3 | **90.0 ± 0.0 %** | 5.01 ± 1 | - |" in table
    assert "| c \\* | 4 | 3 | 20.0 ± 0.0 % | 41 ± 1 | - |" in table
    assert csv_text(found).count("\n") == 13


def test_a_value_that_is_not_finite_is_none() -> None:
    found = [measured("a", s, 0.5, float("nan") if s == 1 else 3.0 + s) for s in range(3)]
    [line] = lines_of(found)
    assert line.values["rFD"] == {0: 3.0, 2: 5.0}
    assert "(n = 2)" in markdown([line], "x")


def test_holm_is_that_of_the_textbook() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([]) == [] and holm([0.9, 0.8]) == [1.0, 1.0]


def test_a_prior_below_bigrams_has_no_distance() -> None:
    row = CompareRow(name="a", codebook_size=8, quantizer={"method": "vq"})
    shares = (-0.1, -0.3)
    found = [
        Measured(row, s, {"gFD": 9.0, "share of the way": share}, True, 4, 1, "x")
        for s, share in enumerate(shares)
    ]
    assert "| not learned | -0.2 ± 0.14 |" in markdown(lines_of(found), "x")
    other = replace(row, name="b")
    learned = [
        Measured(other, s, {"gFD": 20.0, "share of the way": 0.5}, True, 4, 1, "x") for s in (0, 1)
    ]
    lines = lines_of([*found, *learned])
    assert lines[0].mean("gFD") is None and indistinguishable(lines, "gFD") == []


def test_codes_of_several_levels_are_not_compared_with_those_of_one_codebook() -> None:
    found = [measured("a", s, 0.5, 3.0) for s in range(2)]
    found += [measured("b", s, 0.4, 4.0) for s in range(2)]
    found += [measured("rq", s, 1.0, 2.0, levels=2) for s in range(2)]
    a, _, rq = lines = lines_of(found)
    assert indistinguishable(lines, "used") == [a] and indistinguishable(lines, "rFD") == [rq]
    assert "count those of all levels as one list" in markdown(lines, "x")
    assert "as one list" not in markdown(lines[:2], "x")


def test_a_mean_of_fewer_seeds_than_the_row_has_says_so() -> None:
    found = [measured("a", 0, 0.5, 3.0), measured("a", 1, None, 3.0), measured("a", 2, 0.7, 3.0)]
    assert "| a | 4 | 3 | 60.0 ± 14.1 % (n = 2) |" in markdown(lines_of(found), "x")


def test_the_figure_names_curves_and_rows_where_they_stand() -> None:
    found = [measured("a", 0, 0.5, 3.0), measured("ceiling", 0, None, 2.0)]
    found += [measured("SimVQ", 0, 0.9, 4.0, size) for size in (8, 16)]
    figure = plot(lines_of(found))
    curves, rows = figure.axes[1], figure.axes[3]
    assert [text.get_text() for text in curves.texts] == ["SimVQ"] and not figure.legends
    labels = {text.get_text(): text.get_color() for text in rows.get_yticklabels()}
    assert list(labels) == ["SimVQ", "a", "ceiling"]  # the least rFD above
    assert labels["SimVQ"] != labels["a"] == labels["ceiling"]


@pytest.mark.parametrize("heights", [[0.5, 0.5, 0.51], [0.99, 1.0, 1.0], [0.1, 0.9]])
def test_names_do_not_overprint(heights: list[float]) -> None:
    moved = apart(heights)
    assert all(b - a > LABEL - 1e-9 for a, b in pairwise(moved)) and max(moved) <= 1.0


def test_the_page_says_what_is_best_and_how_sure_that_is() -> None:
    found = [measured("SimVQ", s, 0.5, 3.0 + s) for s in range(3)]
    found += [measured("<b>", s, 0.9, 4.0 + s + 0.01 * s) for s in range(3)]
    words = compare_words(lines_of(found))
    assert words.startswith(
        "2 rows have K = 8. Best by used is <b> with 90.0 ± 0.0 %; SimVQ has 50"
    )
    assert "Best by rFD is SimVQ with 4 ± 1." in words and "gFD" not in words
    assert "Next, set seeds" not in words and "Next, set seeds" in compare_words(
        lines_of(found[3:4])
    )
    page = compare_page(lines_of(found), "net", b"", {"out": "runs/x"})
    assert "&lt;b&gt;" in page and "<b>90.0 ± 0.0 %</b>" in page and "runs/x" in page


def test_metrics_are_chosen_by_their_patterns() -> None:
    stoi, distance, fid = (Metric(value=value) for value in (0.5, 2.0, 3.0))
    metrics = {"FD(fsdd-classifier) vs train": distance, "STOI": stoi}
    assert first_score(metrics, "F*D* vs train") is distance
    assert first_score(metrics, "STOI") is stoi
    assert first_score({"FID vs train": fid}, "F*D* vs train") is fid
    assert first_score(metrics, "F*D* vs held-out") is None


def test_without_its_classifier_a_study_stops_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = CompareRow(name="a", codebook_size=64, quantizer={"method": "continuous"})
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    config = CompareConfig(
        experiment=ROOT / "configs/smoke.yaml",
        out=tmp_path,
        rows=(row,),
        settings={"classifier": {"steps": "none"}},
    )
    with pytest.raises(
        ValueError, match=r"classifier that all rows share failed: .*classifier\.txt"
    ):
        compare(config)
    assert "steps" in (tmp_path / "classifier.txt").read_text()
    assert not (tmp_path / "rows").exists()


def test_rows_have_folders_of_their_own() -> None:
    def study(*names: str) -> CompareConfig:
        rows = tuple(
            CompareRow(name=name, codebook_size=8, quantizer={"method": "vq"}) for name in names
        )
        return CompareConfig(experiment=Path("x"), out=Path("out"), rows=rows)

    with pytest.raises(
        ValueError, match=r"rows 'VQ' and 'VQ \*' would both be in out/rows/vq-k8: rename one"
    ):
        refuse_shared_folders(study("VQ", "VQ *"))
    refuse_shared_folders(study("量子化", "编码", "VQ"))
