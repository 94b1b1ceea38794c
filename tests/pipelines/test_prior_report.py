"""The report of a prior's training."""

import json
from pathlib import Path

from pipelines.prior_report import write_prior_report


def write_run(run_dir: Path, nats: list[float]) -> None:
    """A run folder with an evaluation at each step."""
    baselines = {"bigram": 2.0, "unigram": 2.5, "chance": 3.0}
    lines = [
        {"step": step, "heldout/nats_per_code": value}
        | {f"baseline/{name}_nats": baseline for name, baseline in baselines.items()}
        for step, value in enumerate(nats, start=1)
    ]
    (run_dir / "metrics.jsonl").write_text("\n".join(map(json.dumps, lines)))
    (run_dir / "environment.json").write_text('{"python": "3"}')
    (run_dir / "config.yaml").write_text("steps: 3\n")


def test_it_says_what_a_code_costs_beside_the_baselines(tmp_path: Path) -> None:
    write_run(tmp_path, [1.9, 1.2, 1.3])
    page = write_prior_report(tmp_path).read_text()
    assert "costs 1.200 nats (bigrams 2.000, unigrams 2.500, chance 3.000)" in page
    assert "at step 2 of 3" in page and "Nothing looks wrong" in page
    assert page.count("data:image/png") == 1


def test_it_begins_with_what_is_wrong(tmp_path: Path) -> None:
    write_run(tmp_path, [2.6, 2.7, 2.8])
    page = write_prior_report(tmp_path).read_text()
    assert "Not as it should be: the prior is no better than a unigram table. Next:" in page
    assert 'class="finding">FAILED' in page
