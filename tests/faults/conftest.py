"""What all faults share: whole runs to damage, and the count of how each case ended, printed after the last."""

import functools
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers.fault_runs import make_whole
from helpers.verdicts import VERDICTS, Tally

COUNTED: dict[tuple[str, str], str] = {}
"""The verdict of each case, by its kind and name."""


@pytest.fixture(scope="session")
def whole_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Of a modality the folder of a run that nothing happened to."""

    @functools.cache
    def make(modality: str) -> Path:
        return make_whole(tmp_path_factory.mktemp(modality), modality)

    return make


@pytest.fixture
def tally(request: pytest.FixtureRequest) -> Iterator[Tally]:
    """Takes the verdict of each case of a test; what is counted goes to the table."""
    taken = Tally()
    yield taken
    request.node.user_properties.append(("faults", taken.cases))


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Collects the cases of a test that has ended, also from another process."""
    if report.when == "teardown":
        properties: list[tuple[str, Any]] = report.user_properties
        for name, cases in properties:
            if name == "faults":
                COUNTED.update({(kind, case): verdict for kind, case, verdict in cases})


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """The table of counts."""
    counts = Counter((kind, verdict) for (kind, _), verdict in COUNTED.items())
    kinds = list(dict.fromkeys(kind for kind, _ in COUNTED))
    if not kinds:
        return
    lines = [["kind of fault", "cases", *VERDICTS]]
    for kind in sorted(kinds):
        row = [counts[kind, verdict] for verdict in VERDICTS]
        lines.append([kind, *map("{:,}".format, [sum(row), *row])])
    totals = [sum(counts[kind, verdict] for kind in kinds) for verdict in VERDICTS]
    lines.append(["all", *map("{:,}".format, [sum(totals), *totals])])
    lines.insert(1, ["---", *["---:"] * (len(lines[0]) - 1)])
    terminalreporter.section("faults")
    for line in lines:
        terminalreporter.line(f"| {' | '.join(line)} |")
