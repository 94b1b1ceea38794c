"""report.html: the scores and the pictures behind them in one file that needs no other."""

import base64
import json
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from html import escape
from pathlib import Path
from typing import Any

from common.config import write_text
from pipelines.evaluation.table import Row, footnotes, metric_names

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
caption { text-align: left; padding-bottom: .5rem; }
th, td { padding: .25rem .75rem; border-bottom: 1px solid #ccc; text-align: right; white-space: nowrap; }
tbody th { text-align: left; font-weight: normal; }
figure { margin: 1rem 0; }
figcaption { margin-bottom: .5rem; }
figure audio { display: block; margin-bottom: .5rem; }
figure img { max-width: 100%; image-rendering: pixelated; }
pre { background: #f4f4f4; padding: 1rem; overflow-x: auto; }
"""


@dataclass(frozen=True)
class Figure:
    """A picture of the report."""

    title: str
    caption: str
    png: bytes


def figure(title: str, caption: str, draw: Callable[[Path], None]) -> Figure:
    """The picture that `draw` writes to the path it is given."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "figure.png"
        draw(path)
        return Figure(title, caption, path.read_bytes())


@dataclass(frozen=True)
class Sounds:
    """SpeechDataset of the report, as WAV, to be played."""

    title: str
    caption: str
    players: dict[str, bytes]
    """What stands beside each."""


def render(
    title: str,
    rows: list[Row],
    figures: Sequence[Figure | Sounds],
    provenance: dict[str, Any],
    findings: Sequence[str] = (),
) -> str:
    """The whole page; `findings` are lines that stand first."""
    parts = [
        f"<h1>{escape(title)}</h1>",
        *(f"<p>{escape(finding)}</p>" for finding in findings),
        *([table_html(rows)] if rows else []),
        *(sounds_html(f) if isinstance(f, Sounds) else figure_html(f) for f in figures),
        "<h2>Provenance</h2>",
        f"<pre>{escape(json.dumps(provenance, indent=2, ensure_ascii=False))}</pre>",
    ]
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
        + "\n".join(parts)
        + "\n</body>\n</html>\n"
    )


def table_html(rows: list[Row]) -> str:
    """The table, what its columns are, and its notes."""
    head = "".join(f'<th scope="col">{escape(row.name)}</th>' for row in rows)
    lines = []
    for name in metric_names(rows):
        cells = []
        for row in rows:
            number = row.numbers.get(name)
            about = "" if number is None else escape(describe(number.__dict__), quote=True)
            text = "" if number is None else escape(number.text)
            cells.append(f'<td title="{about}">{text}</td>')
        lines.append(f'<tr><th scope="row">{escape(name)}</th>{"".join(cells)}</tr>')
    meanings = "".join(f"<li><b>{escape(row.name)}</b>: {escape(row.meaning)}</li>" for row in rows)
    notes = "".join(
        f"<li>{escape('; '.join(places))}: {escape(note)}</li>"
        for note, places in footnotes(rows).items()
    )
    return (
        '<div class="wide"><table>\n<caption>A dash is a metric that could not be computed, with its reason '
        "below; an empty cell one that is not defined there. A cell's tooltip says what it was computed "
        f'from.</caption>\n<thead><tr><th scope="col">metric</th>{head}</tr></thead>\n<tbody>\n'
        + "\n".join(lines)
        + f"\n</tbody>\n</table></div>\n<ul>{meanings}</ul>\n<ul>{notes}</ul>"
    )


def describe(values: dict[str, Any]) -> str:
    """The fields that are set, as one line."""
    return ", ".join(f"{key}={value}" for key, value in values.items() if value is not None)


def figure_html(shown: Figure) -> str:
    """A heading, the picture inline, its caption."""
    data = base64.b64encode(shown.png).decode()
    return (
        f"<h2>{escape(shown.title)}</h2>\n<figure>"
        f'<img src="data:image/png;base64,{data}" alt="{escape(shown.title, quote=True)}">'
        f"<figcaption>{escape(shown.caption)}</figcaption></figure>"
    )


def sounds_html(shown: Sounds) -> str:
    """A heading, the caption, and a player with its sound inline for each recording."""
    players = "".join(
        f'<label>{escape(name)}<audio controls preload="none" '
        f'src="data:audio/wav;base64,{base64.b64encode(wav).decode()}"></audio></label>\n'
        for name, wav in shown.players.items()
    )
    return (
        f"<h2>{escape(shown.title)}</h2>\n<figure><figcaption>{escape(shown.caption)}</figcaption>\n"
        f"{players}</figure>"
    )


def compact(numbers: list[int]) -> str | list[int]:
    """`first..last` for consecutive numbers, else the numbers."""
    whole = numbers == list(range(numbers[0], numbers[0] + len(numbers)))
    return f"{numbers[0]}..{numbers[-1]}" if whole else numbers


def write_scores(folder: Path, rows: Sequence[Row], provenance: dict[str, Any]) -> None:
    """score.json: every number with what it depends on."""
    document = {"rows": [asdict(row) for row in rows], "provenance": provenance}
    write_text(folder / "score.json", json.dumps(document, indent=2) + "\n")
