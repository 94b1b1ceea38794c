"""Publishing: the model card, and the whole way to a stand-in of the Hub and back."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from helpers.hub import Hub, serving
from helpers.pages import ROOT
from helpers.saved import restored
from huggingface_hub import ModelCard
from PIL import Image

from common.files import sha256
from pipelines.generation.images import ImageGenerationPipeline
from pipelines.generation.load import find_pipeline, load_pipeline
from pipelines.model_card import model_card, save_examples
from pipelines.publish import push

METRICS = {
    "FD(digits-classifier) vs train": {
        "value": 12.345,
        "count": 40,
        "extractor": "digits-classifier",
    },
    "SSIM": {"value": None, "reason": "images are too small"},
    "label accuracy": {"value": 0.75, "unit": "%"},
}
SCORED: dict[str, Any] = {
    "rows": [
        {"name": "samples", "meaning": "what the prior makes", "metrics": METRICS},
        {"name": "scrambled", "meaning": "a control", "metrics": METRICS},
    ],
    "provenance": {
        "config": {"data": {"source": "user/cats", "test": "test"}},
        "sampling": {"guidance": 2.0},
    },
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run: a pipeline, samples and scores."""
    root = tmp_path_factory.mktemp("run")
    restored("images", root / "prior" / "pipeline")
    (root / "samples").mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (25, 8, 8, 3), dtype=np.uint8)
    np.savez(root / "samples" / "samples.npz", pixels)
    weights = root / "prior" / "pipeline" / "prior" / "model.safetensors"
    (root / "samples" / "sample.json").write_text(json.dumps({"prior_sha256": sha256(weights)}))
    (root / "score").mkdir()
    (root / "score" / "score.json").write_text(json.dumps(SCORED))
    return root


def test_the_card_has_the_hubs_metadata_and_the_scores(run: Path) -> None:
    card = model_card(
        load_pipeline(run / "prior" / "pipeline"), "me/cats", SCORED, ["samples.png"], "cc-by-4.0"
    )
    read: Any = ModelCard(str(card)).data
    assert (read.license, read.datasets, read.model_name) == ("cc-by-4.0", "user/cats", "cats")
    assert read.pipeline_tag == "unconditional-image-generation"
    results = {each.metric_name: each for each in read.eval_results}
    assert set(results) == {"FD(digits-classifier) vs train, samples", "label accuracy, samples"}
    first = results["FD(digits-classifier) vs train, samples"]
    assert (first.metric_value, first.metric_type) == (12.345, "fd-digits-classifier-vs-train")
    assert (first.dataset_type, first.dataset_split) == ("user/cats", "test")
    text = card.text
    assert "12.35" in text and "75.0 %" in text and "scrambled" not in text
    assert "![samples](samples.png)" in text and "guidance=2" in text and "FID" not in text


def test_a_pipeline_without_scores_or_a_licence_says_so(tmp_path: Path) -> None:
    folder, _ = restored("speech", tmp_path / "pipeline")
    (tmp_path / "samples").mkdir()
    for i in range(6):
        soundfile.write(tmp_path / "samples" / f"{i:06d}.wav", np.zeros(80), 8000)
    examples = save_examples(tmp_path / "samples", folder)
    assert examples == [f"samples/{i:06d}.wav" for i in range(4)]
    assert all((folder / path).is_file() for path in examples)
    card = model_card(load_pipeline(folder), "me/voice", {}, examples, None)
    read: Any = card.data
    assert read.eval_results is None and read.pipeline_tag == "text-to-audio"
    assert "It was not scored" in card.text and "No licence is stated" in card.text
    assert card.text.count("<audio controls") == 4 and "speakers=[0, 1, 0]" in card.text


def test_the_samples_of_a_run_become_one_figure(run: Path, tmp_path: Path) -> None:
    assert save_examples(run / "samples", tmp_path) == ["samples.png"]
    width, height = Image.open(tmp_path / "samples.png").size
    assert width > 4 * height  # two whole lines of ten
    assert save_examples(tmp_path / "none", tmp_path) == []


def test_what_is_no_pipeline_or_no_name_is_one_sentence(run: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not the folder of a pipeline"):
        push(tmp_path, "me/cats")
    for name in ("cats", "me/cats/more", "me/ca ts"):
        with pytest.raises(ValueError, match="is no name of a repository"):
            push(run, name)
    with pytest.raises(ValueError, match="there is no key 'licence'"):
        push(run, "me/cats", ["licence=mit"])
    with pytest.raises(ValueError, match="not a file: set score"):
        push(run, "me/cats", [f"score={tmp_path / 'score.json'}"])
    assert find_pipeline(run) == find_pipeline(run / "prior" / "pipeline")


def test_samples_and_scores_of_another_prior_are_not_published(run: Path, tmp_path: Path) -> None:
    (tmp_path / "sample.json").write_text(json.dumps({"prior_sha256": "another"}))
    with pytest.raises(ValueError, match=r"sample.json is of another prior than .*: sample and"):
        push(run, "me/cats", [f"samples={tmp_path}"])
    scored = SCORED | {"provenance": {"sampling": {"prior_sha256": "another"}}}
    (tmp_path / "score.json").write_text(json.dumps(scored))
    with pytest.raises(ValueError, match=r"score.json is of another prior than"):
        push(run, "me/cats", [f"score={tmp_path / 'score.json'}"])
    alone = SCORED | {"provenance": {"inputs": {"tokenizer": "another"}, "sampling": None}}
    (tmp_path / "score.json").write_text(json.dumps(alone))
    with pytest.raises(ValueError, match=r"score.json is of another tokenizer than"):
        push(run, "me/cats", [f"score={tmp_path / 'score.json'}"])
    with pytest.raises(ValueError, match=r"has no sample.json: set samples"):
        push(run, "me/cats", [f"samples={tmp_path / 'none'}"])


def test_a_card_names_no_place_of_this_machine(run: Path) -> None:
    data = {"source": "parquet", "train": "/home/me/train.parquet", "test": "/home/me/test.parquet"}
    scored = SCORED | {"provenance": {"config": {"data": data}}}
    card = model_card(load_pipeline(run / "prior" / "pipeline"), "me/cats", scored, [], None)
    assert (
        "/home/me" not in str(card)
        and "Trained on local data, scored on its split `test`" in card.text
    )
    assert "datasets" not in card.data.to_dict()


def command(hub: Hub, cache: Path, *words: str, token: str = "hf_test", cwd: Path = ROOT):  # type: ignore[no-untyped-def]
    """Runs Python with the stand-in in the Hub's place."""
    environment = os.environ | {
        "HF_ENDPOINT": hub.address,
        "HF_TOKEN": token,
        "HF_HOME": str(cache),
        "HF_HUB_DISABLE_XET": "1",
        "PYTHONPATH": str(ROOT),
    }
    environment.pop("HF_HUB_OFFLINE", None)
    return subprocess.run(
        [sys.executable, *words], cwd=cwd, env=environment, capture_output=True, text=True
    )


@pytest.mark.slow
def test_a_pushed_pipeline_comes_back_by_its_name_and_samples_the_same(
    run: Path, tmp_path: Path
) -> None:
    with serving() as hub:
        words = (
            "-m",
            "pipelines",
            "push",
            str(run),
            "me/cats",
            "license=cc-by-4.0",
            "private=true",
        )
        done = command(hub, tmp_path / "hub", *words)
        assert done.returncode == 0, done.stderr
        assert f"{hub.address}/me/cats" in done.stdout and hub.private == {"me/cats": True}
        files = hub.files["me/cats"]
        weights = {"tokenizer/model.safetensors", "prior/model.safetensors"}
        assert weights | {"README.md", "samples.png", "pipeline.json"} <= set(files)
        (code,) = re.findall(r"```python\n(.*?)```", files["README.md"].decode(), re.DOTALL)
        (tmp_path / "use.py").write_text(code)
        used = command(hub, tmp_path / "hub", "use.py", cwd=tmp_path)
        assert used.returncode == 0, used.stderr
        hub.private["me/cats"] = False
        public = command(hub, tmp_path / "hub", *words)
        assert public.returncode == 2 and "is there already, and public" in public.stderr
        hub.private["me/cats"] = True
        refused = command(hub, tmp_path / "hub", *words, token="hf_other")
        assert refused.returncode == 2 and "did not take me/cats" in refused.stderr
        assert len(refused.stderr.strip().splitlines()) == 1
    pipeline = ImageGenerationPipeline.from_pretrained(run / "prior" / "pipeline")
    expected = pipeline([0, 1, 2], seeds=[0, 1, 2], guidance=2.0).images
    for seed, image in enumerate(expected):
        assert np.array_equal(np.asarray(image), np.asarray(Image.open(tmp_path / f"{seed}.png")))
