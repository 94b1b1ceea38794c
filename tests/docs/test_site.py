"""README is short; links, paths and the site's navigation lead somewhere."""

import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import yaml
from helpers.pages import DOCS, PAGES, ROOT, from_root

PACKAGES = "configs|common|stage1_tokenizer|stage2_prior|pipelines|simvq|benchmarks|docs|tests"
TREE = re.compile(r"^( *)(\S+) {2,}\S")


def test_readme_is_read_in_three_minutes() -> None:
    assert (ROOT / "README.md").stat().st_size < 8000


@pytest.mark.parametrize("page", PAGES, ids=from_root)
def test_links_lead_to_files_and_headings(page: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if link.startswith("https://"):
            continue
        name, _, heading = link.partition("#")
        target = (page.parent / name) if name else page
        assert target.exists(), link
        if heading:
            headings = re.findall(r"^#+ (.*)$", target.read_text(), flags=re.MULTILINE)
            anchors = [re.sub(r"[^\w -]", "", text.lower()).replace(" ", "-") for text in headings]
            assert heading in anchors, link


@pytest.mark.parametrize("page", PAGES, ids=from_root)
def test_paths_in_a_page_are_there(page: Path) -> None:
    named = re.findall(rf"`((?:{PACKAGES})/[\w./]+)`", page.read_text())
    for name in [name for name in named if not re.search("[A-Z]{4}", name)]:
        assert (ROOT / name).exists(), name


def test_readmes_map_names_what_is_there() -> None:
    """The block under "What is where": folders, and under each its files."""
    _, _, rest = (ROOT / "README.md").read_text().partition("## What is where\n\n```\n")
    folder, count = ROOT, 0
    for line in rest.partition("```")[0].splitlines():
        indent, name = TREE.match(line).groups()  # type: ignore[union-attr]
        path = (folder if indent else ROOT) / name
        assert path.exists(), line
        folder, count = (folder if indent else path), count + 1
    assert count >= 15


def test_the_navigation_has_every_page_and_every_page_is_there() -> None:
    def leaves(entry: Any) -> list[str]:
        if isinstance(entry, str):
            return [entry]
        entries = entry.values() if isinstance(entry, dict) else entry
        return [leaf for inner in entries for leaf in leaves(inner)]

    nav = yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"]
    pages = [str(path.relative_to(DOCS)) for path in DOCS.rglob("*.md")]
    assert sorted(leaves(nav)) == sorted(pages)


@pytest.mark.skipif(find_spec("mkdocs") is None, reason="the extra docs is not installed")
def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "-d", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "SimVQ" in (tmp_path / "api" / "quantizers" / "index.html").read_text()
