"""An experiment's file: what its sections get without being told, and what is wrong with a file in words."""

from pathlib import Path

import pytest

from pipelines.experiment import read_experiment, saved_config
from stage1_tokenizer.images.training import TrainImageTokenizerConfig
from stage1_tokenizer.speech.training import TrainSpeechTokenizerConfig

ROOT = Path(__file__).parents[2]
WHOLE = """
run_dir: runs/a
data: {source: digits, streaming: false}
tokenizer: {steps: 3}
codes:
classifier:
prior: {optim: {lr: 0.1}}
samples: {count: 4}
score:
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "a.yaml"
    path.write_text(text)
    return path


def test_where_things_are_and_the_data_follow_from_the_experiment(tmp_path: Path) -> None:
    c = read_experiment(write(tmp_path, WHOLE)).configs
    assert list(c) == ["tokenizer", "codes", "classifier", "prior", "samples", "score"]
    run, model = Path("runs/a"), Path("runs/a/tokenizer/model")
    assert c["tokenizer"].run_dir == run / "tokenizer" and c["tokenizer"].steps == 3
    assert (c["codes"].tokenizer, c["codes"].out) == (model, run / "codes")
    assert (c["prior"].codes, c["prior"].tokenizer) == (run / "codes", model)
    assert (c["samples"].pipeline, c["samples"].out) == (run / "prior/pipeline", run / "samples")
    assert c["score"].out == run / "score" and c["score"].classifier == run / "classifier/model"
    assert c["score"].samples == run / "samples" and c["score"].prior_run == run / "prior"
    assert {c[name].data for name in ("tokenizer", "codes", "classifier", "score")} == {
        c["codes"].data
    }
    assert (
        c["prior"].optim.lr == 0.1 and c["prior"].optim.weight_decay == 0.05
    )  # the section's own default


def test_what_a_section_says_itself_comes_first_and_the_others_follow_it(tmp_path: Path) -> None:
    overrides = ["tokenizer.run_dir=runs/b", "codes.data.train=train[:10%]", "prior.run_dir=runs/p"]
    c = read_experiment(write(tmp_path, WHOLE), overrides).configs
    assert c["codes"].tokenizer == c["score"].tokenizer == Path("runs/b/model")
    assert c["codes"].data.train == "train[:10%]" and c["tokenizer"].data.train == "train"
    assert c["samples"].pipeline == Path("runs/p/pipeline") and c["score"].prior_run == Path(
        "runs/p"
    )


def test_overrides_are_of_the_whole_file(tmp_path: Path) -> None:
    overrides = ["run_dir=elsewhere", "data.label_column=null", "allow_failed=true"]
    c = read_experiment(write(tmp_path, WHOLE), overrides).configs
    assert c["score"].out == Path("elsewhere/score") and c["score"].data.label_column is None
    assert c["tokenizer"].allow_failed and c["prior"].allow_failed


def test_sections_that_are_not_there_are_not_scored(tmp_path: Path) -> None:
    experiment = read_experiment(write(tmp_path, "run_dir: r\ntokenizer:\nscore:\n"))
    score = experiment.config("score")
    assert score.tokenizer == Path("r/tokenizer/model") and score.tokenizer_run == Path(
        "r/tokenizer"
    )
    assert score.samples is score.codes is score.classifier is score.prior_run is None
    with pytest.raises(ValueError, match=r"a\.yaml has no section prior: it has tokenizer, score"):
        experiment.config("prior")


def test_the_modality_chooses_the_keys(tmp_path: Path) -> None:
    path = write(tmp_path, "run_dir: r\ntokenizer:\n")
    assert type(read_experiment(path).config("tokenizer")) is TrainImageTokenizerConfig
    speech = read_experiment(path, ["modality=speech"]).config("tokenizer")
    assert type(speech) is TrainSpeechTokenizerConfig


def test_a_run_that_shares_anothers_tokenizer_asks_for_the_very_same(tmp_path: Path) -> None:
    first, second = (
        read_experiment(ROOT / f"configs/{n}.yaml").configs for n in ("fsdd", "fsdd_text")
    )
    for shared in ("tokenizer", "codes", "classifier"):
        assert first[shared] == second[shared]
    assert first["prior"].run_dir != second["prior"].run_dir


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("tokenizer:\n", "run_dir=None must be a path: set run_dir"),
        ("run_dir: r\ntokenizer: [1]\n", "tokenizer=[1] must be a group of keys"),
        (
            "run_dir: r\nprior: {seed: 1.5}\n",
            "section prior: prior.seed=1.5 must be a whole number",
        ),
        ("run_dir: r\ndata: {train: [a]}\n", "data: data.train=['a'] must be text: set data.train"),
        (
            "run_dir: r\nsamples: {labels: [[3]]}\n",
            "samples.labels[0]=[3] must be a whole number or text",
        ),
        ("run_dir: r\nsamples: {count: 0}\n", "section samples: samples.count=0"),
        ("run_dir: r\nprior: {run_dir: [a]}\n", "prior.run_dir=['a'] must be a path"),
        ("run_dir: [\n", "a.yaml: while parsing"),
    ],
)
def test_mistakes_are_told_with_the_file_the_key_and_what_it_may_be(
    tmp_path: Path, text: str, words: str
) -> None:
    with pytest.raises(ValueError) as caught:
        read_experiment(write(tmp_path, text))
    assert words in str(caught.value) and str(caught.value).startswith(str(tmp_path / "a.yaml"))
    assert "\n" not in str(caught.value)


def test_a_folder_may_have_a_number_for_a_name(tmp_path: Path) -> None:
    configs = read_experiment(
        write(tmp_path, "run_dir: r\nprior: {run_dir: 7}\nsamples:\n")
    ).configs
    assert configs["prior"].run_dir == Path("7")
    assert configs["samples"].pipeline == Path("7/pipeline")


def test_a_runs_own_config_is_read_by_its_modality(tmp_path: Path) -> None:
    path = write(tmp_path, "run_dir: r\nmodality: speech\n")
    assert type(saved_config("tokenizer", path)) is TrainSpeechTokenizerConfig
