"""Metrics in the table, and those that are missing."""

import json
from pathlib import Path

import pytest

from pipelines.evaluation.table import (
    Metric,
    ScoredSet,
    Unavailable,
    metric,
    read_scores,
    text_table,
    write_scores,
)


def test_a_number_that_is_not_finite_is_a_dash() -> None:
    perfect = metric(float("inf"), count=3)
    assert perfect == Unavailable("the value is inf, not a finite number") and perfect.text == "-"
    assert isinstance(metric(float("nan"), spread=float("nan")), Unavailable)
    assert metric(1.0, spread=float("nan")) == Metric(value=1.0)
    table = text_table(
        [ScoredSet("a", "", {"x": Metric(value=1.23456, spread=0.1)}), ScoredSet("b", "")]
    )
    assert table.splitlines()[1] == "x  1.235 ± 0.1"


def test_counts_stand_in_the_cells_of_a_line_where_they_differ() -> None:
    def row(name: str, count: int) -> ScoredSet:
        return ScoredSet(name, "", {"x": Metric(value=1.5, count=count)})

    assert text_table([row("a", 1000), row("b", 1000)]).splitlines()[1].split() == [
        "x",
        "1.5",
        "1.5",
    ]
    unequal = text_table([row("a", 1000), row("b", 360)]).splitlines()[1]
    assert unequal.split("  ")[1:] == ["1.5 (1,000)", "1.5 (360)"]


def test_what_is_unavailable_is_a_dash_with_its_reason_once() -> None:
    rows = [ScoredSet(name, "", {"x": Unavailable("no x")}) for name in ("a", "b")]
    rows[0].metrics["y"] = Metric(value=0.5, unit="%", note="a half")
    rows[1].metrics["y"] = Metric(value=1e-12)
    assert text_table(rows).splitlines() == [
        *("            a  b", "y  50.0 % [1]  0"),
        *("", "[1] a half", "", "not computed: x (no x)"),
    ]


@pytest.mark.parametrize("key", ["metrics", "numbers"])
def test_scores_are_read_as_they_were_written_also_by_the_key_s_first_name(
    key: str, tmp_path: Path
) -> None:
    rows = [ScoredSet("a", "an a", {"x": Metric(value=1.5, note="?"), "y": Unavailable("no y")})]
    write_scores(tmp_path, rows, {})
    path = tmp_path / "score.json"
    if key == "numbers":  # that version had no hash either
        older = json.loads(path.read_text().replace('"metrics"', f'"{key}"'))
        path.write_text(json.dumps({"rows": older["rows"]}))
    assert read_scores(tmp_path) == rows
