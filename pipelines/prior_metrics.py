"""What a prior says of the codes of held-out items, as metrics of the score's table."""

from pathlib import Path

from common.codes import code_files, read_codes, read_manifest
from common.processes import processes
from pipelines.evaluation.table import Metric, Metrics, Unavailable, metric
from stage2_prior.build import load_prior
from stage2_prior.evaluate import evaluate_prior

BITS = "bits per item"


def prior_metrics(prior_run: Path | None, codes: Path | None) -> dict[str, Metrics]:
    """Bits per item and label accuracy by the rows of the table they belong to; nothing where there is no prior or code.

    They are those of the codes' test split where there is one, else of the validation split, by which the prior's
    weights were chosen.
    """
    if prior_run is None or codes is None or not (prior_run / "pipeline" / "prior").is_dir():
        return {}
    read_manifest(codes)
    split = "test" if code_files(codes, "test") else "validation"
    prior = load_prior(prior_run / "pipeline" / "prior").to(processes().device)
    try:
        values = evaluate_prior(prior, read_codes(codes, "train"), read_codes(codes, split))
    except ValueError as error:  # items with a speaker or a character that training has not
        return {"samples": {BITS: Unavailable(f"{split} items: {error}")}}
    count = int(values["items"])

    def bits(key: str, what: str) -> Metric | Unavailable:
        return metric(values[key], count=count, note=f"of {split} items, by {what}")

    samples: Metrics = {BITS: bits("bits_per_item", "the prior, given their condition")}
    if "label_accuracy" in values:
        samples["label accuracy (the prior's own)"] = metric(
            values["label_accuracy"],
            unit="%",
            count=int(values["labelled"]),
            note=f"share of {split} items whose label y makes p(codes | y) largest",
        )
    return {
        "samples": samples,
        "i.i.d. codes": {BITS: bits("unigram_bits_per_item", "the training codes' frequencies")},
        "bigrams": {
            BITS: bits("bigram_bits_per_item", "a table of bigrams, smoothed with unigrams")
        },
        "held-out vs train": {
            BITS: bits("gzip_bits_per_item", "gzip, all in one file; it has seen no training items")
        },
    }
