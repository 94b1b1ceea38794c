"""Several codes per position all the way: tokenizer, codes, prior, samples, scores; by their own commands."""

import dataclasses
import math
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
from helpers.code_runs import small_prior
from helpers.speech_runs import MODEL, RATE, words

from common.codes import read_codes, read_manifest
from common.images import from_uint8
from common.tracking import read_metrics
from common.training import OptimConfig
from pipelines import ImageGenerationPipeline
from pipelines.cli import main
from pipelines.evaluation.images.data import image_batches
from pipelines.evaluation.reconstruction import Reconstructor
from pipelines.generation.speech import SpeechGenerationPipeline
from pipelines.verbs import train_prior
from stage1_tokenizer import ImageTokenizer, SpeechTokenizer
from stage1_tokenizer.codebook_usage import code_counts
from stage1_tokenizer.encode import encode
from stage1_tokenizer.images.data import ImageDataConfig, load_images
from stage1_tokenizer.quantizers import RQConfig
from stage1_tokenizer.speech.data import load_clips
from stage1_tokenizer.speech.encode import EncodeSpeechConfig

ROOT = Path(__file__).parents[2]
QUANTIZERS = {
    "rq": ("{method: rq, code_dim: 8, codebook_size: 16, levels: 3}", (16, 16, 16)),
    "scvae": ("{method: scvae, code_dim: 8, atoms: 24, kept: 2, values: 5}", (24, 5, 24, 5)),
}
"""What stands in the place of the smoke config's quantizer, and how many codes each level has."""


@pytest.fixture(scope="module", params=QUANTIZERS)
def encoded(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, tuple[int, ...]]:
    """A folder in which a tokenizer was trained for two steps and the digits encoded; levels' sizes."""
    quantizer, sizes = QUANTIZERS[request.param]
    folder = tmp_path_factory.mktemp(request.param)
    text = (ROOT / "configs/smoke.yaml").read_text()
    file = folder / "smoke.yaml"
    file.write_text(text.replace("{codebook_size: 64, code_dim: 8}", quantizer))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        main(["train-tokenizer", str(file), "tokenizer.steps=2"])
        main(["encode", str(file), "codes.views=[centre]"])
    return folder, sizes


def test_codes_stand_position_by_position(encoded: tuple[Path, tuple[int, ...]]) -> None:
    folder, sizes = encoded
    codes = folder / "runs/smoke/codes"
    manifest = read_manifest(codes)
    assert (manifest["codebook_size"], manifest["levels"]) == (max(sizes), len(sizes))
    assert manifest["positions"] == 1293 * 16
    assert len(manifest["histogram"]) == sum(sizes)
    tokenizer = ImageTokenizer.from_pretrained(folder / "runs/smoke/tokenizer/model")
    rows = torch.tensor(read_codes(codes, "validation")["codes"][:])
    assert rows.shape == (144, 16 * len(sizes))
    training = torch.tensor(read_codes(codes, "train")["codes"][:])
    spec = tokenizer.quantizer.spec
    assert code_counts(training, spec).tolist() == manifest["histogram"]
    for level, size in enumerate(sizes):
        counts = training[:, level :: len(sizes)].flatten().bincount(minlength=size)
        first = sum(sizes[:level])
        assert manifest["histogram"][first : first + size] == counts.tolist()
    images = tokenizer.decode(rows[:2].reshape(2, 4, 4, len(sizes)))
    assert images.isfinite().all()


@pytest.mark.parametrize("levels_by", ["flattened", "depth"])
def test_a_prior_learns_the_codes_and_draws_pictures(
    encoded: tuple[Path, tuple[int, ...]], levels_by: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, sizes = encoded
    monkeypatch.chdir(folder)
    run, out = f"runs/{levels_by}", f"runs/samples-{levels_by}"
    keys = [f"prior.run_dir={run}", f"prior.levels_by={levels_by}", "prior.steps=2"]
    main(["train-prior", "smoke.yaml", *keys])
    last = [row for row in read_metrics(folder / run) if "baseline/chance_nats" in row][-1]
    bits = sum(map(math.log, sizes))
    assert last["baseline/chance_nats"] == pytest.approx(bits / len(sizes))
    assert 0 < last["baseline/unigram_nats"] < last["baseline/chance_nats"] + 0.01
    main(["sample", "smoke.yaml", *keys, f"samples.out={out}", "samples.count=3"])
    with np.load(folder / out / "samples.npz") as archive:
        images = archive["arr_0"]
    pipeline = ImageGenerationPipeline.from_pretrained(folder / run / "pipeline")
    again = pipeline([1], seeds=[1], guidance=3.0)
    assert again.codes.shape == (1, 4, 4, len(sizes))
    assert np.array_equal(np.asarray(again.images[0]), images[1, ..., 0])


def test_a_score_counts_each_level(encoded: tuple[Path, tuple[int, ...]]) -> None:
    folder, sizes = encoded
    tokenizer = ImageTokenizer.from_pretrained(folder / "runs/smoke/tokenizer/model")
    data = ImageDataConfig(source="digits", validation="10%", test="test")
    images = load_images(data, "test", channels=1, size=8)
    reconstructor = Reconstructor(tokenizer)
    batches = image_batches(images, 256)
    assert sum(len(reconstructor(from_uint8(batch.images))) for batch in batches) == 360
    metrics = reconstructor.metrics()
    assert metrics["bits per position"].value == pytest.approx(math.log2(math.prod(sizes)))
    assert metrics["codes used"].note == f"of {sum(sizes)} codes, over {360 * 16:,} positions"
    codes = torch.tensor(read_codes(folder / "runs/smoke/codes", "test")["codes"][:])
    assert torch.equal(reconstructor.histogram, code_counts(codes, tokenizer.quantizer.spec))


@pytest.mark.parametrize("levels_by", ["flattened", "depth"])
def test_speech_of_several_levels_is_encoded_learned_and_gone_on_with(
    levels_by: Literal["flattened", "depth"], tmp_path: Path
) -> None:
    torch.manual_seed(0)
    quantizer = RQConfig(codebook_size=8, code_dim=4, levels=2)
    tokenizer = SpeechTokenizer(dataclasses.replace(MODEL, quantizer=quantizer)).eval()
    tokenizer.save_pretrained(tmp_path / "tokenizer")
    data = words(tmp_path / "data")
    manifest = encode(
        EncodeSpeechConfig(tokenizer=tmp_path / "tokenizer", out=tmp_path / "codes", data=data)
    )
    rows = read_codes(tmp_path / "codes", "train")
    clips = load_clips(data, "train", sample_rate=RATE)
    waveform = clips.decode(clips[3])
    assert rows[3]["codes"] == tokenizer.encode(waveform[None])[0].flatten().tolist()
    assert 2 * manifest["positions"] == sum(map(len, rows["codes"]))
    config = small_prior(
        tmp_path / "prior",
        codes=tmp_path / "codes",
        tokenizer=tmp_path / "tokenizer",
        condition="none",
        levels_by=levels_by,
        optim=OptimConfig(lr=1e-3, warmup_steps=1),
        steps=2,
        batch_size=4,
    )
    assert "nats per code" in train_prior(config)
    last = read_metrics(tmp_path / "prior")[-1]
    held_out = read_codes(tmp_path / "codes", "validation")["codes"]
    codes = sum(map(len, held_out))
    per_code = last["heldout/bits_per_code"] * (codes + len(held_out)) / codes
    expected = per_code * 2 * RATE / MODEL.hop
    assert last["heldout/bits_per_second"] == pytest.approx(expected, rel=1e-5)
    pipeline = SpeechGenerationPipeline.from_pretrained(tmp_path / "prior" / "pipeline")
    drawn = pipeline(prompts=[waveform[: 3 * MODEL.hop], waveform[: MODEL.hop]], max_codes=20)
    for prompt, own, sound in zip((3, 1), drawn.codes, drawn.waveforms, strict=True):
        start = pipeline.encoded(waveform[: prompt * MODEL.hop])
        assert own.shape[1] == 2 and torch.equal(own[:prompt], start)
        assert len(sound) == len(own) * MODEL.hop and len(own) <= 10
    with pytest.raises(ValueError, match="max_codes=19 must be a multiple of the 2 codes"):
        train_prior(dataclasses.replace(config, run_dir=tmp_path / "odd", max_codes=19))
