"""report.html: how well it went in words, the scores, and the figures behind them, in one file that needs no other."""

import base64
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from jinja2 import Environment, PackageLoader, StrictUndefined

from pipelines.evaluation.table import Metric, ScoredSet, noted_table, table_lines

Look = Literal["images", "plot", "curve"]
"""`images` keep their pixels, a `plot` has the whole width, two `curve`s stand side by side."""
ELSEWHERE = ("value", "spread", "unit", "note")
"""Fields of a metric that the table and its notes show."""


@dataclass(frozen=True)
class Figure:
    """A figure of the report, as PNG."""

    title: str
    caption: str
    png: bytes
    look: Look = "plot"


@dataclass(frozen=True)
class AudioPlayers:
    """Clips of the report, as WAV, to be played."""

    title: str
    caption: str
    clips: dict[str, bytes]
    """By what stands beside each player."""


def render(
    title: str,
    words: str,
    sets: list[ScoredSet],
    figures: Sequence[Figure | AudioPlayers],
    provenance: dict[str, Any],
    findings: Sequence[str] = (),
) -> str:
    """The whole page: it begins with `words`, a paragraph, and `findings`, a line each."""
    return page(
        "report.html",
        title=title,
        words=words,
        findings=findings,
        sets=sets,
        table=noted_table(sets),
        origins=origins(sets),
        figures=figures,
        provenance=json.dumps(provenance, indent=2, ensure_ascii=False),
    )


def page(template: str, **values: Any) -> str:
    """A page of this folder's templates, in which all that it is told is text."""
    environment = Environment(
        loader=PackageLoader("pipelines.evaluation"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["base64"] = lambda content: base64.b64encode(content).decode()
    return environment.get_template(template).render(**values)


def origins(sets: list[ScoredSet]) -> dict[str, dict[str, list[str]]]:
    """By metric, what its values were computed from, each with the names of the sets it is true of."""
    found: dict[str, dict[str, list[str]]] = {}
    for name, cells in table_lines(sets):
        for each, (metric, _) in zip(sets, cells, strict=True):
            if isinstance(metric, Metric) and (source := origin(metric)):
                found.setdefault(name, {}).setdefault(source, []).append(each.name)
    return found


def origin(metric: Metric) -> str:
    """What a metric was computed from: its fields that are set, as one line."""
    fields = asdict(metric).items()
    return ", ".join(
        f"{name.replace('_', ' ')} {value}"
        for name, value in fields
        if value is not None and name not in ELSEWHERE
    )
