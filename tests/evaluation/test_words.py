"""The first paragraph of a report says what the table says."""

from pipelines.evaluation.table import Metric, ScoredSet, Unavailable
from pipelines.evaluation.words import score_words


def rows(samples: float, share: float | None = 0.8, count: int = 50) -> list[ScoredSet]:
    """A table in which real items are at 1, reconstructions at 3, and samples where it is said."""

    def distance(value: float, count: int = 50) -> Metric:
        return Metric(value=value, count=count)

    way = Unavailable("no codes") if share is None else Metric(value=share)
    return [
        ScoredSet(
            "reconstruction",
            "",
            {
                "codes used": Metric(value=0.5, unit="%", note="of 64 codes, over 100 positions"),
                "FD(net) vs train": distance(3.0),
                "label accuracy": Metric(value=0.9, unit="%"),
            },
        ),
        ScoredSet(
            "samples",
            "",
            {
                "FD(net) vs train": distance(samples, count),
                "label accuracy": Metric(value=0.7, unit="%"),
                "share of the way(net)": way,
            },
        ),
        ScoredSet("held-out vs train", "", {"FD(net) vs train": distance(1.0)}),
    ]


def test_it_says_how_well_it_went_and_against_what() -> None:
    text = score_words(rows(samples=4.0), "images", warned=False)
    assert text.startswith("The prior closes 80 % of the gap") and "features of net" in text
    assert "70.0 % of the samples, and in 90.0 % of the reconstructions." in text
    assert "Encoding uses 50.0 % of 64 codes" in text
    assert "FD(net) vs train is 1 for real held-out images, 3 for reconstructions and 4" in text


def test_the_next_step_is_the_stage_that_loses_more() -> None:
    assert "Next, work on the tokenizer" in score_words(rows(samples=4.0), "images", warned=False)
    assert "Next, work on the prior" in score_words(rows(samples=9.0), "images", warned=False)
    tokenizer_alone = score_words([*rows(samples=9.0)[::2]], "images", warned=False)
    assert "train a prior" in tokenizer_alone and "The prior" not in tokenizer_alone


def test_counts_are_told_where_they_differ() -> None:
    text = score_words(rows(samples=4.0, count=1000), "clips", warned=False)
    assert "4 (1,000 items) for samples" in text
    assert "items)" not in score_words(rows(samples=4.0), "clips", warned=False)


def test_no_stage_is_blamed_for_the_bias_of_fewer_items() -> None:
    """100 samples have a larger distance than 2,000 of the same distribution, and 2,000 a smaller one than 50."""
    for samples, count, said in (
        (9.0, 40, False),
        (9.0, 1000, True),
        (4.0, 40, True),
        (4.0, 1000, False),
    ):
        text = score_words(rows(samples, count=count), "clips", warned=False)
        assert ("Next, work on" in text) == said and ("set samples.count=50" in text) != said


def test_a_prior_worse_than_bigrams_and_missing_metrics() -> None:
    assert "further from real clips than" in score_words(rows(9.0, share=-0.1), "clips", False)
    assert score_words(rows(9.0, share=None), "clips", True).startswith("A classifier finds")
    assert score_words([ScoredSet("reconstruction", "", {})], "images", warned=False) == ""
