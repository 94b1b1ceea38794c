"""Training from saved weights: step 0 is the source, frozen parts keep their codes, what does not fit is told."""

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.finetuning import finetuning, make_source, prior_config
from helpers.image_runs import MODEL, few_digits, tokenizer_config
from helpers.runs import PowerCut, assert_same_run, cut_in_step
from helpers.speech_runs import run_config as speech_config
from helpers.speech_runs import words
from safetensors.torch import load_file

import stage1_tokenizer.train
from common.codes import read_manifest
from common.files import write_text
from common.tracking import read_metrics
from common.training import OptimConfig
from pipelines.evaluation.training_report import write_training_report
from pipelines.generation.images import ImageGenerationPipeline
from stage1_tokenizer import ImageTokenizer, SpeechTokenizer
from stage1_tokenizer.encode import encode
from stage1_tokenizer.findings import result_line
from stage1_tokenizer.images.data import ImageDataConfig, load_images
from stage1_tokenizer.images.encode import EncodeImagesConfig
from stage1_tokenizer.images.losses import ImageLossConfig
from stage1_tokenizer.quantizers import EMAConfig, SimVQConfig, SQVAEConfig
from stage1_tokenizer.tokenizer import encoding_sha256
from stage1_tokenizer.train import begin, train_tokenizer
from stage2_prior import Prior
from stage2_prior.train import train_prior

FROZEN = ("encoder", "codebook")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> ImageDataConfig:
    return few_digits(tmp_path_factory.mktemp("digits"), train=120, validation=30)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory, data: ImageDataConfig) -> Path:
    return make_source(tmp_path_factory.mktemp("source"), data)


def some_images(size: int = 8) -> torch.Tensor:
    digits = load_images(ImageDataConfig(), "train", channels=1, size=size)
    return torch.stack([digits.view(digits.decode(digits[i])) for i in range(20)])


def test_step_0_is_the_source_and_its_discriminator(
    source: Path, data: ImageDataConfig, tmp_path: Path
) -> None:
    saved = ImageTokenizer.from_pretrained(source / "tokenizer/model")
    run, first, _ = begin(finetuning(source, tmp_path / "run", data, seed=7))
    images, own = some_images(), run.modality.tokenizer.eval()
    assert first == 0 and torch.equal(own.encode(images), saved.encode(images))
    assert torch.equal(own.reconstruct(images), saved.reconstruct(images))
    assert run.modality.discriminator is not None
    kept = load_file(source / "tokenizer/discriminator/model.safetensors")
    state = run.modality.discriminator.state_dict()
    assert kept.keys() == state.keys() and all(torch.equal(kept[k], state[k]) for k in kept)
    assert (source / "tokenizer/discriminator/sha256.json").is_file()


@pytest.mark.parametrize(
    "quantizer",
    [
        SimVQConfig(codebook_size=32, code_dim=4),
        EMAConfig(codebook_size=32, code_dim=4, reset="state"),
        SQVAEConfig(codebook_size=32, code_dim=4),
    ],
    ids=lambda quantizer: quantizer.method,
)
def test_with_encoder_and_codebook_frozen_codes_are_the_same_bits_after_20_steps(
    quantizer: Any, data: ImageDataConfig, tmp_path: Path
) -> None:
    model = dataclasses.replace(MODEL, quantizer=quantizer)
    first = tokenizer_config(tmp_path / "tokenizer", data=data, model=model, steps=2)
    train_tokenizer(first)
    config = finetuning(tmp_path, tmp_path / "run", data, model=model, freeze=FROZEN, steps=20)
    folders = first.run_dir / "model", train_tokenizer(config)
    before, after = (ImageTokenizer.from_pretrained(folder) for folder in folders)
    images = some_images()
    assert torch.equal(before.encode(images), after.encode(images))
    assert encoding_sha256(folders[0]) == encoding_sha256(folders[1])
    fixed = {"encoder", "quantizer"}
    for name, tensor in before.state_dict().items():
        if name.split(".")[0] in fixed:
            assert torch.equal(tensor, after.state_dict()[name]), name
    assert not torch.equal(before.reconstruct(images), after.reconstruct(images))


@pytest.mark.parametrize(("part", "name"), [("encoder", "encoder."), ("codebook", "quantizer.")])
def test_one_part_alone_may_be_frozen(
    source: Path, data: ImageDataConfig, tmp_path: Path, part: str, name: str
) -> None:
    model = train_tokenizer(finetuning(source, tmp_path / "run", data, freeze=(part,)))
    before, after = (
        load_file(folder / "model.safetensors") for folder in (source / "tokenizer/model", model)
    )
    # the basis of SimVQ never learns
    learned = [key for key in before if key != "quantizer.basis"]
    same = {key for key in learned if torch.equal(before[key], after[key])}
    assert same == {key for key in learned if key.startswith(name)}
    assert encoding_sha256(model) != encoding_sha256(source / "tokenizer/model")


def test_codes_and_pipelines_of_the_source_take_the_finetuned_decoder(
    source: Path, data: ImageDataConfig, tmp_path: Path
) -> None:
    """And refuse a tokenizer whose encoder learned on; a manifest of an earlier version takes the source alone."""
    frozen = train_tokenizer(finetuning(source, tmp_path / "frozen", data, freeze=FROZEN))
    whole = train_tokenizer(finetuning(source, tmp_path / "whole", data))
    shutil.copytree(source / "codes", tmp_path / "codes")
    again = EncodeImagesConfig(tokenizer=frozen, out=tmp_path / "codes", data=data)
    assert encode(again) == read_manifest(source / "codes")
    with pytest.raises(ValueError, match="was made of another tokenizer than"):
        encode(dataclasses.replace(again, tokenizer=whole))
    prior = prior_config(source, tmp_path / "prior", tokenizer=frozen)
    best = train_prior(prior)
    with pytest.raises(ValueError, match=r"holds codes of tokenizer .*: set tokenizer or codes"):
        train_prior(prior_config(source, tmp_path / "other", tokenizer=whole))

    old = json.loads((tmp_path / "codes/manifest.json").read_text())
    del old["encoding_sha256"], old["sha256"]
    write_text(tmp_path / "codes/manifest.json", json.dumps(old))
    encode(dataclasses.replace(again, tokenizer=source / "tokenizer/model"))
    with pytest.raises(ValueError, match="was made of another tokenizer than"):
        encode(again)

    tokenizer = ImageTokenizer.from_pretrained(source / "tokenizer/model")
    folder = tmp_path / "pipeline"
    ImageGenerationPipeline(tokenizer, Prior.from_pretrained(best), []).save_pretrained(folder)
    shutil.rmtree(folder / "tokenizer")
    shutil.copytree(frozen, folder / "tokenizer")
    pipeline = ImageGenerationPipeline.from_pretrained(folder)
    decoded = ImageTokenizer.from_pretrained(frozen).decode(pipeline(seeds=[3]).codes)
    assert torch.equal(pipeline.tokenizer.decode(pipeline(seeds=[3]).codes), decoded)
    shutil.rmtree(folder / "tokenizer")
    shutil.copytree(whole, folder / "tokenizer")
    with pytest.raises(ValueError, match="but the pipeline was saved with"):
        ImageGenerationPipeline.from_pretrained(folder)


def test_a_run_that_was_cut_goes_on_from_its_own_checkpoint_without_the_source(
    source: Path, data: ImageDataConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(source / "tokenizer", tmp_path / "tokenizer")
    whole, cut = (
        finetuning(tmp_path, tmp_path / name, data, freeze=FROZEN) for name in ("whole", "cut")
    )
    train_tokenizer(whole)
    with monkeypatch.context() as patch, pytest.raises(PowerCut):
        cut_in_step(patch, stage1_tokenizer.train, 6)
        train_tokenizer(cut)
    shutil.rmtree(tmp_path / "tokenizer")
    model = train_tokenizer(cut)
    state = "checkpoints/step-00000008/state.safetensors"
    assert_same_run(cut.run_dir, whole.run_dir, state, "model/model.safetensors")
    assert [line["step"] for line in read_metrics(cut.run_dir)] == [*range(9)]
    before = (model / "model.safetensors").stat().st_mtime_ns
    train_tokenizer(cut)
    assert (model / "model.safetensors").stat().st_mtime_ns == before


def test_another_image_size_starts_from_the_same_weights(
    source: Path, data: ImageDataConfig, tmp_path: Path
) -> None:
    model = dataclasses.replace(MODEL, image_size=12)
    folder = train_tokenizer(
        finetuning(source, tmp_path / "larger", data, model=model, freeze=FROZEN, steps=2)
    )
    larger = ImageTokenizer.from_pretrained(folder)
    saved = ImageTokenizer.from_pretrained(source / "tokenizer/model")
    images = some_images(12)
    assert larger.config.grid == (6, 6)
    assert torch.equal(larger.encode(images), saved.encode(images))
    with pytest.raises(ValueError, match=r"grids of \[4, 4\] codes, those of .* are \[6, 6\]"):
        train_prior(prior_config(source, tmp_path / "prior", tokenizer=folder))


@pytest.mark.slow
def test_speech_starts_from_speech_and_takes_other_clip_lengths(tmp_path: Path) -> None:
    config = speech_config(tmp_path / "tokenizer", words(tmp_path / "words"))
    model = train_tokenizer(config)
    augment = dataclasses.replace(config.augment, crop_seconds=0.1)
    finetuned = train_tokenizer(
        dataclasses.replace(
            config, run_dir=tmp_path / "run", init_from=model, freeze=FROZEN, augment=augment
        )
    )
    before, after = map(SpeechTokenizer.from_pretrained, (model, finetuned))
    waveforms = torch.rand(2, 900, generator=torch.Generator().manual_seed(0)) - 0.5
    assert torch.equal(before.encode(waveforms), after.encode(waveforms))
    assert not torch.equal(before.reconstruct(waveforms), after.reconstruct(waveforms))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {
                "model": dataclasses.replace(
                    MODEL, quantizer=SimVQConfig(codebook_size=64, code_dim=4)
                )
            },
            r"model has quantizer.codebook_size=32 \(here 64\): set the same here, or init_from",
        ),
        (
            {"model": dataclasses.replace(MODEL, width=64, multipliers=(1, 2))},
            r"has width=32 \(here 64\), multipliers=\[1, 1\] \(here \[1, 2\]\): set the same here",
        ),
        (
            {
                "loss": ImageLossConfig(
                    perceptual_weight=0, discriminator_width=16, discriminator_layers=1
                )
            },
            "discriminator is a discriminator of another architecture: set the keys loss.discrim",
        ),
        ({"init_from": Path("nowhere")}, "nowhere is neither a folder nor the name of a Hub"),
        ({"init_from": "codes"}, "codes has no config.json: set init_from to a saved model"),
        (
            {"init_from": "speech"},
            "no ImageTokenizer, for its config.json has the key 'sample_rate'",
        ),
    ],
    ids=["K", "width", "discriminator", "nowhere", "codes", "modality"],
)
def test_what_does_not_fit_is_one_sentence(
    source: Path, data: ImageDataConfig, tmp_path: Path, changes: dict[str, Any], words: str
) -> None:
    places = {"codes": source / "codes", "speech": tmp_path / "speech"}
    if changes.get("init_from") == "speech":
        from helpers.speech_runs import MODEL as SPEECH

        SpeechTokenizer(SPEECH).save_pretrained(tmp_path / "speech")
    if changes.get("init_from") in places:
        changes = {"init_from": places[changes["init_from"]]}
    with pytest.raises(ValueError, match=words) as caught:
        train_tokenizer(finetuning(source, tmp_path / "run", data, **changes))
    assert "\n" not in str(caught.value)


def test_freezing_what_was_never_trained_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="set init_from, or leave freeze out"):
        tokenizer_config(tmp_path, freeze=FROZEN)


def test_a_tokenizer_stops_early_and_keeps_its_best(data: ImageDataConfig, tmp_path: Path) -> None:
    """With this learning rate it gets worse soon. Killed or not, the same command comes to the same."""
    config = tokenizer_config(
        tmp_path / "run",
        data=data,
        optim=OptimConfig(lr=0.3, warmup_steps=4),
        ema_decay=0.0,
        steps=60,
        save_every=60,
        patience=3,
    )
    model = train_tokenizer(config)
    lines = read_metrics(config.run_dir)
    psnr = [line["heldout/psnr"] for line in lines]
    best = psnr.index(max(psnr))
    assert len(psnr) == best + 1 + 3 < 60
    assert json.loads((config.run_dir / "done.json").read_text())["steps"] == len(psnr)
    result = result_line(lines)  # what is said of the run is said of the model that it kept
    assert result["heldout/psnr"] == max(psnr) > psnr[-1] and result["step"] == len(psnr)
    assert result["codebook/effective_rank"] == lines[best]["codebook/effective_rank"]
    assert f"After {best + 1:,} steps" in write_training_report(config.run_dir).read_text()
    before = (model / "model.safetensors").read_bytes()
    assert before == (config.run_dir / "best/model.safetensors").read_bytes()
    (config.run_dir / "done.json").unlink()  # killed before the end: nothing more is trained
    weights = config.run_dir / "best" / "model.safetensors"
    weights.rename(tmp_path / "weights")
    with pytest.raises(ValueError, match="best is missing or damaged, and no checkpoint holds it"):
        train_tokenizer(config)
    (tmp_path / "weights").rename(weights)
    train_tokenizer(config)
    assert len(read_metrics(config.run_dir)) == len(lines)
    assert (model / "model.safetensors").read_bytes() == before
    train_tokenizer(dataclasses.replace(config, patience=4))
    assert len(read_metrics(config.run_dir)) > len(lines)
