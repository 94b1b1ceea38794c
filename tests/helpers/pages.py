"""README and the pages of docs/: their blocks, and the commands in them."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.rglob("*.md"))]
COMMAND = re.compile(r"`((?:simvq|python|make|pip) [^`]+)`")
PLACEHOLDER = re.compile(r"\b(VERB|CONFIG|FILE|FOLDER|NAME|PATH|RECIPE|EXPERIMENT|PYTHON)\b|\.\.\.")


def from_root(path: Path) -> str:
    """A path as pages write it."""
    return str(path.relative_to(ROOT))


def blocks(page: Path, language: str) -> list[str]:
    """The blocks of a language, in order."""
    return re.findall(
        rf"^```{language}\n(.*?)^```", page.read_text(), flags=re.DOTALL | re.MULTILINE
    )


def commands(page: Path) -> list[str]:
    """The lines of bash blocks in order, then the commands within sentences, each whole and without placeholders."""
    lines = [line for block in blocks(page, "bash") for line in block.splitlines() if line.strip()]
    prose = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    lines += [" ".join(inline.split()) for inline in COMMAND.findall(prose)]
    return [line for line in lines if not PLACEHOLDER.search(line)]
