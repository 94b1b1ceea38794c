"""The paragraphs that reports begin with: how well it went, against what, and what to do next."""

from collections.abc import Mapping

from pipelines.evaluation.table import Line, Metric, ScoredSet, table_lines

SETS = {
    "samples": "the samples",
    "reconstruction": "the reconstructions",
    "held-out vs train": "the real held-out {items}",
    "ground truth": "the real held-out {items}",
}
"""What sets are called in sentences; the last two are the same items, of which a table has one label accuracy."""


def score_words(sets: list[ScoredSet], items: str, warned: bool) -> str:
    """The paragraph on a table of scores; `items` are images or clips, `warned` says that findings follow it."""
    table = {line[0]: computed_values(sets, line) for line in table_lines(sets)}
    sentences = [shares(table, items), labels(table, items), codes(table), next_step(table, items)]
    if warned:
        sentences.append("First look at the warnings below.")
    return " ".join(filter(None, sentences))


Values = Mapping[str, Metric]
"""By the names of sets, those of one metric's values that could be computed."""


def computed_values(sets: list[ScoredSet], line: Line) -> Values:
    """Of one metric, the values that could be computed."""
    return {
        each.name: metric
        for each, (metric, _) in zip(sets, line[1], strict=True)
        if isinstance(metric, Metric)
    }


def shares(table: Mapping[str, Values], items: str) -> str:
    """How far the samples come between a table of bigrams and the tokenizer."""
    found = {
        name.removeprefix("share of the way"): values["samples"].value
        for name, values in table.items()
        if name.startswith("share of the way") and "samples" in values
    }
    if not found:
        return ""
    network, share = next(iter(found.items()))
    by = f", by the features of {network.strip('()')}" if network else ""
    if share < 0:
        return f"The samples are further from real {items} than what a table of bigrams of the codes makes{by}."
    return (
        f"The prior closes {100 * share:.0f} % of the gap in Frechet distance between samples of a table of bigrams of "
        f"the codes and the tokenizer's reconstructions{by}."
    )


def labels(table: Mapping[str, Values], items: str) -> str:
    """In which share of each set a classifier finds the label."""
    name = next((name for name in table if name.startswith("label accuracy")), "")
    values = table.get(name, {})
    parts = {SETS[name].format(items=items): values[name].text for name in SETS if name in values}
    if not parts:
        return ""
    first, *others = (f"{text} of {what}" for what, text in parts.items())
    beside = f", and in {' and '.join(others)}" if others else ""
    return f"A classifier finds the label in {first}{beside}."


def codes(table: Mapping[str, Values]) -> str:
    """How many codes the held-out items use."""
    used = table.get("codes used", {}).get("reconstruction")
    if used is None:
        return ""
    return f"Encoding uses {used.text} {used.note}."


def next_step(table: Mapping[str, Values], items: str) -> str:
    """Which stage is further from the one before it, by the first distance to the training items."""
    for name, values in table.items():
        if name.startswith("F") and name.endswith("vs train") and "held-out vs train" in values:
            break
    else:
        return ""
    if "samples" not in values:
        return "There are no samples yet: next, train a prior and sample."
    if "reconstruction" not in values:
        return ""
    chosen = [values[name] for name in ("held-out vs train", "reconstruction", "samples")]
    counts = [metric.count or 0 for metric in chosen]
    real, rebuilt, samples = (metric.value for metric in chosen)
    texts = [
        f"{metric.text} ({metric.count:,} items)" if len({*counts}) > 1 else metric.text
        for metric in chosen
    ]
    order = f"{name} is {texts[0]} for real held-out {items}, {texts[1]} for reconstructions and {texts[2]} for samples"
    by_prior = samples - rebuilt > rebuilt - real
    fewer_of_the_larger = counts[2] < counts[1] if by_prior else counts[2] > counts[1]
    if fewer_of_the_larger:  # whose bias alone may make it the larger one
        return (
            f"{order}. Fewer items give a larger distance, so these values do not show which stage "
            f"loses more: set samples.count={counts[1]}."
        )
    if by_prior:
        return (
            f"{order}: more is lost by the prior than by the tokenizer. Next, work on the prior (prior.steps, "
            "prior.size) or on sampling (samples.guidance, samples.temperature)."
        )
    return (
        f"{order}: more is lost by the tokenizer than by the prior. Next, work on the tokenizer (tokenizer.steps, "
        "codebook_size, or more positions for each item)."
    )
