"""What a prior's course says against it."""

import pytest

from stage2_prior.findings import in_words, prior_findings, prior_summary


def course(*nats: float, pair: float = 3.0, single: float = 4.0) -> list[dict[str, float]]:
    last = {"optim/skipped": 0, "optim/clipped": 0.1, "optim/grad_norm": 1.0}
    return [
        {
            "step": 10 * i,
            "heldout/nats_per_code": value,
            "baseline/bigram_nats": pair,
            "baseline/unigram_nats": single,
        }
        | last
        for i, value in enumerate(nats, 1)
    ]


@pytest.mark.parametrize(
    ("lines", "names"),
    [
        (course(2.9, 2.5, 2.4, 2.39), []),
        (
            course(3.6, 3.4, 3.3, 3.29),
            ["the prior is no better than a bigram table"],
        ),
        (course(4.2, 4.1, 4.1, 4.1), ["the prior is no better than a unigram table"]),
        (course(2.9, single=2.8), ["the prior is no better than a unigram table"]),
        (course(2.0, 2.1, 2.2), ["the prior was best at its first evaluation"]),
        (course(2.9, 2.6, 2.3), ["the prior was still learning"]),
        (course(2.9), []),
    ],
)
def test_a_priors_course_gives_itself_away(lines: list[dict[str, float]], names: list[str]) -> None:
    findings = prior_findings(lines)
    assert [finding.name for finding in findings] == names
    assert [finding.failed for finding in findings] == ["unigram" in name for name in names]


@pytest.mark.parametrize(
    ("nats", "best", "words"),
    [
        (2.5, 2.5, "held-out 2.500 nats per code (bigrams 3.000), best 2.500"),
        (2.54, 2.5, "best 2.500"),
        (2.7, 2.5, "best 2.500; WARNING: the prior overfits"),
        (3.2, 3.2, "best 3.200; WARNING: the prior is no better than a bigram table"),
        (
            4.5,
            4.1,
            "best 4.100; WARNING: the prior is no better than a unigram table, the prior overfits",
        ),
    ],
)
def test_a_line_of_the_log_says_what_is_wrong(nats: float, best: float, words: str) -> None:
    (line,) = course(nats)
    assert in_words(line | {"heldout/best_nats_per_code": best}).endswith(words)


def test_a_run_that_has_only_begun_has_three_lines_too() -> None:
    first = {"step": 0, "heldout/nats_per_code": 5.0}
    assert any("no step was logged yet" in line for line in prior_summary([first]))
