"""Speech in stage 2: padded batches, ends, lengths, seeds, conditions, prompts, a run and its WAV files."""

import dataclasses
import json
import math
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets
import pytest
import soundfile
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

import stage2_prior.train
from common.hub import sha256
from common.manifest import write_manifest
from common.tracking import read_metrics
from common.training import OptimConfig
from pipelines.sample import SampleSpeechConfig, sample
from pipelines.speech_generation import SpeechGenerationPipeline
from pipelines.verbs import train_prior
from stage1_tokenizer import SpeechTokenizer, SpeechTokenizerConfig
from stage1_tokenizer.quantizers import SimVQConfig
from stage2_prior import SpeechPrior, SpeechPriorConfig
from stage2_prior.speech_rows import BucketSampler
from stage2_prior.speech_sampling import WINDOW, sample_until_end
from stage2_prior.train import TrainSpeechPriorConfig

K, LONGEST, HOP, RATE = 20, 12, 40, 8000
PARTS: dict[str, Any] = {
    "none": {},
    "label": {"classes": 3},
    "speaker": {"speakers": 2},
    "label+speaker": {"classes": 3, "speakers": 2},
    "text": {"characters": " ehnort", "text_length": 5},
}
GIVEN: dict[str, Any] = {
    "none": {},
    "label": {"labels": [0, 2, 1]},
    "speaker": {"speakers": [1, 0, 1]},
    "label+speaker": {"labels": [0, 2, 1], "speakers": [1, 0, 1]},
    "text": {"texts": ["three", "One", ""]},
}
"""Conditions of three samples."""


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """On parts as small as these a second thread makes the first wait."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def tiny(condition: str = "label+speaker", **options: Any) -> SpeechPrior:
    """A random prior, far enough from the near-uniform start that its choices are no ties."""
    torch.manual_seed(0)
    config = SpeechPriorConfig(
        codebook_size=K,
        code_dim=4,
        length=LONGEST,
        size="1m",
        condition=condition,  # type: ignore[arg-type]
        max_codes=18,
        **PARTS[condition],
        **options,
    )
    prior = SpeechPrior(config).eval()
    for parameter in prior.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.15)
    return prior


def with_end(prior: SpeechPrior, logit: float) -> SpeechPrior:
    """The prior with the same logit for the end everywhere, the rest as it was."""
    with torch.no_grad():
        prior.tables.end.weight.zero_()
        prior.tables.end.bias.fill_(logit)
    return prior


@pytest.mark.parametrize("style", ["llama", "gpt2"])
@pytest.mark.parametrize("condition", list(PARTS))
def test_the_loss_of_a_padded_batch_is_the_mean_over_its_items(condition: str, style: str) -> None:
    prior = tiny(condition, style=style)
    conditions = prior.conditions(3, **GIVEN[condition])
    items = [torch.randint(0, K, (size,)) for size in (5, 12, 1)]
    codes = torch.stack([F.pad(item, (0, 12 - len(item)), value=-1) for item in items])
    sums = [
        prior(conditions[i : i + 1], item[None]) * (len(item) + 1) for i, item in enumerate(items)
    ]
    torch.testing.assert_close(prior(conditions, codes), torch.stack(sums).sum() / (18 + 3))


def test_the_loss_is_the_cross_entropy_of_codes_and_end() -> None:
    prior = tiny("none")
    codes = torch.randint(0, K, (1, 6))
    logits = prior.tables.logits(prior.hidden(prior.conditions(1), codes))[0]
    assert logits.shape == (7, K + 1)
    expected = F.cross_entropy(logits, torch.cat([codes[0], torch.tensor([K])]))
    torch.testing.assert_close(prior(prior.conditions(1), codes), expected)


def test_an_end_stops_its_sample_alone() -> None:
    prior = tiny("none")
    drawn = sample_until_end(prior, prior.conditions(40), range(40))
    lengths = {len(row) for row in drawn}
    assert len(lengths) > 3 and max(lengths) <= 18
    assert all(0 <= int(row.min()) <= int(row.max()) < K for row in drawn)


def test_minimum_and_maximum_length_hold() -> None:
    torch.manual_seed(0)
    always = with_end(tiny("none", head="codebook", min_codes=4), 100.0)
    never = with_end(tiny("none", head="codebook", min_codes=4), -100.0)
    conditions = always.conditions(5)

    def lengths(prior: SpeechPrior, **options: int) -> set[int]:
        return {len(row) for row in sample_until_end(prior, conditions, range(5), **options)}

    assert lengths(always) == {4} and lengths(never) == {18}
    assert lengths(always, min_codes=7) == {7} and lengths(never, max_codes=9) == {9}
    for wrong in ({"min_codes": 0}, {"min_codes": 9, "max_codes": 8}, {"max_codes": 19}):
        with pytest.raises(ValueError, match="max_codes"):
            sample_until_end(never, conditions, range(5), **wrong)


@pytest.mark.parametrize(
    "options",
    [{}, {"guidance": 2.0, "top_k": 5}, {"repetitions": 0, "top_p": 0.5}, {"max_codes": 12}],
)
@pytest.mark.parametrize("condition", ["label+speaker", "text"])
def test_a_seed_gives_the_same_codes_in_any_batch(condition: str, options: dict) -> None:
    prior = tiny(condition)
    conditions = prior.conditions(3, **GIVEN[condition])
    together = sample_until_end(prior, conditions, [7, 8, 9], **options)
    for i, seed in enumerate((7, 8, 9)):
        (alone,) = sample_until_end(prior, conditions[i : i + 1], [seed], **options)
        assert torch.equal(together[i], alone)


def test_sampling_with_cache_equals_the_whole_sequence_anew() -> None:
    prior = tiny("text")
    conditions = prior.conditions(3, **GIVEN["text"])
    drawn = sample_until_end(prior, conditions, [0, 1, 2], temperature=0.0, guidance=2.0)
    none = torch.tensor([prior.config.no_condition])
    for i, codes in enumerate(drawn):
        c, u = (
            prior.tables.logits(prior.hidden(start, codes[None]))[0]
            for start in (conditions[i : i + 1], none)
        )
        logits = u + 2.0 * (c - u)
        logits[0, K] = -torch.inf
        likeliest = logits.argmax(1)
        assert torch.equal(likeliest[:-1], codes)
        assert likeliest[-1] == K or len(codes) == 18


def test_repetitions_are_drawn_again_from_the_whole_distribution() -> None:
    prior = with_end(tiny("none", head="codebook"), -100.0)
    with torch.no_grad():
        prior.tables.output_bias[5] = 4.0
    conditions = prior.conditions(20)

    def most(repetitions: int | None) -> int:
        drawn = sample_until_end(
            prior, conditions, range(20), top_k=1, repetitions=repetitions, max_codes=WINDOW
        )
        return sum(int(row.bincount().max()) for row in drawn)

    assert most(None) == 20 * WINDOW > most(0)


def test_a_prompt_begins_its_sample_whatever_stands_beside_it() -> None:
    prior = tiny("label")
    conditions = prior.conditions(2, labels=[0, 1])
    prompts = [torch.tensor([1, 2, 3]), torch.tensor([4, 5, 6, 7, 8])]
    together = sample_until_end(prior, conditions, [5, 6], prompts=prompts)
    for i, prompt in enumerate(prompts):
        assert torch.equal(together[i][: len(prompt)], prompt)
        one = conditions[i : i + 1]
        (alone,) = sample_until_end(prior, one, [5 + i], prompts=[prompt])
        assert torch.equal(together[i], alone)
    with pytest.raises(ValueError, match="18 codes leaves no room"):
        sample_until_end(prior, conditions[:1], [0], prompts=[torch.zeros(18, dtype=torch.int64)])


@pytest.mark.parametrize(
    ("condition", "given", "words"),
    [
        ("label", {"labels": [3]}, "label 3: this prior has 3 labels"),
        ("label+speaker", {"speakers": [-1]}, "speaker -1: this prior has 2 speakers"),
        ("label", {"speakers": [0]}, "this prior's condition is 'label'"),
        ("text", {"texts": ["two"]}, "has the character 'w'"),
        ("text", {"texts": ["three threes"]}, "has the character 's'"),
        ("text", {"texts": ["three three"]}, "trained on up to 5"),
        ("label", {"labels": [0, 1]}, "2 labels for 1 samples"),
    ],
)
def test_what_a_prior_does_not_know_is_told_in_words(
    condition: str, given: dict, words: str
) -> None:
    with pytest.raises(ValueError, match=words) as caught:
        tiny(condition).conditions(1, **given)
    assert "\n" not in str(caught.value)


def test_each_part_of_a_condition_has_a_table_with_a_row_for_none() -> None:
    prior = tiny("label+speaker")
    assert prior.condition_embedding.num_embeddings == (3 + 1) + (2 + 1)
    assert prior.conditions(1).tolist() == [[3, 6]]
    assert prior.conditions(1, labels=[2], speakers=[1]).tolist() == [[2, 5]]
    assert tiny("text").conditions(2, texts=["ten", "THREE"]).tolist() == [
        [7, 7, 6, 1, 3],
        [6, 2, 5, 1, 1],
    ]


def test_batches_hold_each_row_once_per_epoch_and_go_on_anywhere() -> None:
    lengths = torch.randint(1, 100, (64,), generator=torch.Generator().manual_seed(0))

    def keys(count: int, **options: int) -> list[tuple[int, int]]:
        options = {"start": 0, "rank": 0, "world": 1} | options
        stream = iter(BucketSampler(lengths, 4, seed=3, **options))
        return [next(stream) for _ in range(count)]

    whole = keys(192)
    assert [position for position, _ in whole] == list(range(192))
    for epoch in range(3):
        assert sorted(i for _, i in whole[64 * epoch : 64 * epoch + 64]) == list(range(64))
    assert keys(100, start=92) == whole[92:]
    assert keys(96, rank=1, world=2) == whole[1::2]
    spreads = [lengths[[i for _, i in whole[b : b + 4]]] for b in range(0, 192, 4)]
    assert sum(float(s.max() - s.min()) for s in spreads) / len(spreads) < 20


@pytest.fixture(scope="module")
def codes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a random tokenizer, and codes that go up by one from their label."""
    root = tmp_path_factory.mktemp("speech")
    torch.manual_seed(0)
    architecture = SpeechTokenizerConfig(
        sample_rate=RATE,
        ratios=(8, 5),
        width=2,
        lstm_layers=1,
        decoder_width=32,
        decoder_hidden=32,
        decoder_layers=1,
        n_fft=160,
        quantizer=SimVQConfig(codebook_size=K, code_dim=4),
    )
    SpeechTokenizer(architecture).save_pretrained(root / "tokenizer")
    for split, count in (("train", 24), ("validation", 6)):
        rows = [
            {
                "label": i % 3,
                "speaker": i % 2,
                "text": ("One", "ten", "three")[i % 3],
                "codes": [i % 3 + j for j in range(3 + i % 10)],
            }
            for i in range(count)
        ]
        (root / "codes" / split).mkdir(parents=True)
        datasets.Dataset.from_list(rows).to_parquet(
            str(root / "codes" / split / "shard-00000.parquet")
        )
    manifest = {
        "modality": "speech",
        "tokenizer_sha256": sha256(root / "tokenizer" / "model.safetensors"),
        "codebook_size": K,
        "sample_rate": RATE,
        "hop": HOP,
        "classes": ["one", "ten", "three"],
        "speakers": ["a", "b"],
        "histogram": [1] * K,
        "complete": True,
    }
    write_manifest(root / "codes" / "manifest.json", manifest)
    return root


def run_config(root: Path, run: str, **changes: Any) -> TrainSpeechPriorConfig:
    options: dict[str, Any] = {
        "codes": root / "codes",
        "condition": "label+speaker",
        "size": "1m",
        "dropout": 0.1,
        "optim": OptimConfig(lr=2e-3, warmup_steps=2),
        "steps": 12,
        "batch_size": 8,
        "ema_decay": 0.5,
        "workers": 0,
        "log_every": 1,
        "save_every": 4,
    }
    return TrainSpeechPriorConfig(
        run_dir=root / run,
        tokenizer=root / "tokenizer",
        **{**options, **changes},
    )


@pytest.fixture(scope="module")
def trained(codes: Path) -> Path:
    """The same folder with a finished run `prior`."""
    assert "nats per code" in train_prior(run_config(codes, "prior"))
    return codes


def without_times(run_dir: Path) -> list[dict[str, float]]:
    rows = read_metrics(run_dir)
    return [{k: v for k, v in r.items() if k != "time" and "per_second" not in k} for r in rows]


def test_a_run_cut_inside_a_step_goes_on_bit_for_bit(
    trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = run_config(trained, "cut")
    optimize = stage2_prior.train.optimize

    def dying(run: Any, loss: Any, step: int) -> Any:
        if step == 6:
            raise KeyboardInterrupt
        return optimize(run, loss, step)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(stage2_prior.train, "optimize", dying)
        train_prior(config)
    train_prior(config)
    assert without_times(config.run_dir) == without_times(trained / "prior")
    mine, theirs = (
        load_file(trained / run / "best" / "model.safetensors") for run in ("cut", "prior")
    )
    assert mine.keys() == theirs.keys() and all(torch.equal(mine[k], theirs[k]) for k in mine)


def test_every_epoch_tells_nats_per_code_and_bits_per_second(trained: Path) -> None:
    rows = [r for r in read_metrics(trained / "prior") if "heldout/nats_per_code" in r]
    assert [row["step"] for row in rows] == [3, 6, 9, 12]
    assert rows[-1]["heldout/nats_per_code"] < rows[0]["heldout/nats_per_code"]
    codes_alone = sum(3 + i for i in range(6))
    per_code = rows[-1]["heldout/bits_per_code"] * (codes_alone + 6) / codes_alone
    assert rows[-1]["heldout/bits_per_second"] == pytest.approx(per_code * RATE / HOP, rel=1e-5)


def test_a_prior_knows_the_longest_clip_and_the_characters(trained: Path) -> None:
    prior = SpeechPrior.from_pretrained(trained / "prior" / "best").config
    assert (prior.length, prior.min_codes, prior.max_codes) == (12, 1, 18)
    config = run_config(trained, "text", condition="text", steps=1, style="gpt2", max_codes=15)
    train_prior(config)
    pipeline = SpeechGenerationPipeline.from_pretrained(trained / "text" / "pipeline")
    prior = pipeline.prior.config
    assert (prior.characters, prior.text_length, prior.max_codes) == ("ehnort", 5, 15)
    (waveform,) = pipeline(texts=["Three"]).waveforms
    assert len(waveform) % HOP == 0


def test_samples_are_wav_files_of_the_right_length_and_rate(trained: Path) -> None:
    folder = trained / "prior" / "pipeline"
    config = SampleSpeechConfig(
        pipeline=folder, out=trained / "samples", count=8, batch_size=3, guidance=1.5
    )
    out = sample(config)
    about = json.loads((out / "sample.json").read_text())
    assert about["labels"] == [0, 1, 2, 0, 1, 2, 0, 1] and about["complete"]
    assert about["speakers"] == [0, 0, 0, 1, 1, 1, 0, 0] and about["modality"] == "speech"
    pipeline = SpeechGenerationPipeline.from_pretrained(folder)
    drawn = pipeline(about["labels"], about["speakers"], seeds=about["seeds"], guidance=1.5)
    assert drawn.sample_rate == RATE and drawn.seeds == list(range(8))
    for i, (waveform, row) in enumerate(zip(drawn.waveforms, drawn.codes, strict=True)):
        info = soundfile.info(out / f"{i:06d}.wav")
        assert (info.samplerate, info.channels, info.subtype) == (RATE, 1, "PCM_16")
        assert info.frames == len(waveform) == len(row) * HOP
        written = torch.from_numpy(soundfile.read(out / f"{i:06d}.wav", dtype="float32")[0])
        torch.testing.assert_close(written, waveform, atol=2**-14, rtol=0)
    with pytest.raises(ValueError, match="label 3: this prior has 3 labels"):
        sample(dataclasses.replace(config, labels=(3,), out=trained / "other"))
    assert not (trained / "other").exists()


def test_a_recording_is_gone_on_with(trained: Path) -> None:
    pipeline = SpeechGenerationPipeline.from_pretrained(trained / "prior" / "pipeline")
    recordings = [0.1 * torch.randn(3 * HOP + 7), 0.1 * torch.randn(HOP)]
    drawn = pipeline(prompts=recordings, seeds=[4, 5], min_codes=6)
    for recording, codes, waveform in zip(recordings, drawn.codes, drawn.waveforms, strict=True):
        start = pipeline.encoded(recording)
        assert len(start) == len(recording) // HOP and torch.equal(codes[: len(start)], start)
        assert len(waveform) == len(codes) * HOP >= 6 * HOP
    with pytest.raises(ValueError, match="shorter than one code, 40 samples"):
        pipeline(prompts=[torch.zeros(39)])


@pytest.mark.parametrize(
    ("manifest", "changes", "words"),
    [
        ({}, {"min_codes": 30}, "min_codes=30 and max_codes=18"),
        (
            {"speakers": []},
            {},
            "condition='label\\+speaker', but the recordings of .* have no speaker",
        ),
        ({"modality": "images"}, {}, "holds codes of images, but modality=speech"),
        ({"tokenizer_sha256": "0" * 64}, {}, "holds codes of tokenizer 0000000000000000"),
    ],
)
def test_what_does_not_fit_is_told_in_words(
    codes: Path, tmp_path: Path, manifest: dict, changes: dict, words: str
) -> None:
    shutil.copytree(codes / "codes", tmp_path / "codes")
    known = json.loads((codes / "codes" / "manifest.json").read_text())
    write_manifest(tmp_path / "codes" / "manifest.json", known | manifest)
    config = run_config(codes, "wrong", codes=tmp_path / "codes", **changes)
    with pytest.raises(ValueError, match=words):
        train_prior(config)


def test_a_start_is_about_as_good_as_guessing() -> None:
    torch.manual_seed(0)
    prior = SpeechPrior(tiny("none").config).eval()
    loss = prior(prior.conditions(2), torch.randint(0, K, (2, 9)))
    assert float(loss) == pytest.approx(math.log(K + 1), abs=0.2)
