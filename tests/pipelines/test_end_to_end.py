"""The commands, as a user types them: `simvq run` on a tiny config, and started again."""

import json
import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.processes import run_on_two
from PIL import Image

from pipelines import ImageGenerationPipeline
from pipelines.cli import main
from stage1_tokenizer import ImageTokenizer
from stage2_prior import Prior, PriorConfig

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def smoke(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which `simvq run configs/smoke.yaml` was killed once and then run to its end."""
    folder = tmp_path_factory.mktemp("smoke")
    (folder / "configs").symlink_to(ROOT / "configs")
    command = [sys.executable, "-m", "pipelines", "run", "configs/smoke.yaml"]
    environment = {
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
        "PATH": "/usr/bin:/bin",
        "HOME": str(folder),
    }
    killed = subprocess.Popen(command, cwd=folder, env=environment, stderr=subprocess.DEVNULL)
    checkpoint = folder / "runs" / "smoke" / "tokenizer" / "checkpoints" / "step-00000010"
    deadline = time.time() + 120
    while not checkpoint.exists() and killed.poll() is None and time.time() < deadline:
        time.sleep(0.05)
    killed.kill()
    killed.wait()
    assert checkpoint.exists()
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    (folder / "stdout").write_text(done.stdout)
    return folder


def test_run_does_everything_in_order_and_ends_with_a_table_and_a_report(smoke: Path) -> None:
    said = (smoke / "stdout").read_text()
    verbs = ("train-tokenizer", "encode", "train-classifier", "train-prior", "sample", "score")
    assert [line[3:] for line in said.splitlines() if line.startswith("== ")] == [
        *(f"{verb} configs/smoke.yaml" for verb in verbs),
        "summary",
    ]
    summary = said.split("== summary\n")[1].splitlines()
    lines = [line.split()[:3] for line in summary if not line.startswith(" ")]
    assert [line[:2] for line in lines] == [
        [stage, topic]
        for stage, second in (("tokenizer", "codes"), ("prior", "course"))
        for topic in ("output", second, "training")
    ]
    assert {line[2] for line in lines} <= {"ok", "WARNING"}
    assert "FD(digits-classifier) vs train" in said and "FID" not in said
    (told,) = [line for line in said.splitlines() if line.startswith("report: ")]
    report = smoke / told.removeprefix("report: ")
    assert report.read_text().startswith("<!DOCTYPE html>")
    runs = smoke / "runs" / "smoke"
    assert (runs / "tokenizer" / "report.html").is_file()
    assert sorted(path.name for path in (runs / "prior" / "pipeline").iterdir()) == [
        "pipeline.json",
        "prior",
        "sha256.json",
        "tokenizer",
    ]


def test_running_again_changes_nothing(smoke: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(smoke)
    kept = ("model/*", "state.safetensors", "best/*", "*.arrow", "*.png", "*.npz", "score.json")
    before = {p: p.stat().st_mtime_ns for kind in kept for p in (smoke / "runs").rglob(kind)}
    main(["run", "configs/smoke.yaml"])
    after = {p: p.stat().st_mtime_ns for kind in kept for p in (smoke / "runs").rglob(kind)}
    assert before == after


def test_doctor_tells_of_tokenizer_codes_and_prior(
    smoke: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(smoke)
    main(["doctor", "runs/smoke"])
    said = capsys.readouterr().out
    for words in (
        "tokenizer  output ",
        "% of 64, over ",
        "effective rank of the codes",
        "latents by position alone",
        "runs/smoke/codes: ",
        "over 103,440 positions",
        "prior      output ",
    ):
        assert words in said, said
    main(["doctor", "runs/smoke/tokenizer/model"])
    assert "64 codes of 8 dimensions, effective rank" in capsys.readouterr().out


def test_lines_reach_a_file_and_the_first_says_what_is_trained(smoke: Path) -> None:
    said = (smoke / "stdout").read_text()
    (start,) = [line for line in said.splitlines() if line.startswith("train-prior in ")]
    assert "6,465 sequences of 16 codes (96 bits each), 144 held out, 10 classes; " in start
    assert "cpu (1 thread)" in start and "of bigrams" in start
    assert re.search(r"^step 20 of 20: loss \d", said, flags=re.MULTILINE)
    assert re.search(r"ms per step, \d+ s to go$", said, flags=re.MULTILINE)


def test_samples_are_files_and_one_array_of_bytes(smoke: Path) -> None:
    samples = smoke / "runs" / "smoke" / "samples"
    about = json.loads((samples / "sample.json").read_text())
    with np.load(samples / "samples.npz") as archive:
        images = archive["arr_0"]
    assert images.shape == (40, 8, 8, 1) and images.dtype == np.uint8
    for i in (0, 39):
        assert np.array_equal(images[i, ..., 0], np.asarray(Image.open(samples / f"{i:06d}.png")))
    assert about["complete"] and about["labels"][:12] == [*range(10), 0, 1]
    pipeline = ImageGenerationPipeline.from_pretrained(
        smoke / "runs" / "smoke" / "prior" / "pipeline"
    )
    again = pipeline([7], seeds=[about["seeds"][7]], guidance=about["guidance"])
    assert np.array_equal(np.asarray(again.images[0]), images[7, ..., 0])


@pytest.mark.slow
def test_two_processes_draw_the_same_samples(smoke: Path) -> None:
    changes = ["samples.out=runs/two", "samples.count=15", "samples.batch_size=4"]
    run_on_two(smoke, "sample", "configs/smoke.yaml", *changes)
    with (
        np.load(smoke / "runs/two/samples.npz") as two,
        np.load(smoke / "runs/smoke/samples/samples.npz") as one,
    ):
        assert np.array_equal(two["arr_0"], one["arr_0"][:15])


def test_mistakes_are_answered_with_one_sentence(
    smoke: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(smoke)
    for arguments, words in [
        (
            ["sample", "configs/smoke.yaml", "samples.count=41"],
            "was made with count=40, now it is 41",
        ),
        (
            ["sample", "configs/smoke.yaml", "samples.labels=[11]", "samples.out=runs/new"],
            "is no name of a label",
        ),
        (["encode", "configs/smoke.yaml", "codes.views=[middle]"], "view 'middle' is not one of"),
        (["train-prior", "configs/smoke.yaml", "prior.dropuot=1"], "did you mean 'dropout'"),
        (
            ["run", "configs/smoke.yaml", "score.sede=1"],
            "configs/smoke.yaml, section score: there is no key 'score.sede'",
        ),
        (
            ["run", "configs/librispeech.yaml", "classifier.steps=1"],
            "configs/librispeech.yaml has no section classifier",
        ),
        (
            ["train-tokenizer", "configs/smoke.yaml", "tokenizer.steps=19"],
            "runs/smoke/tokenizer has done 20 steps, more than steps=19",
        ),
        (
            [
                *("train-tokenizer", "configs/smoke.yaml", "run_dir=runs/t"),
                "tokenizer.trackers=[tensorboard]",
            ],
            "trackers=['tensorboard'] needs a package that is not installed",
        ),
        (["doctor", "absent"], "absent is no run, model or folder of codes"),
        (["doctor", "--latents", "absent.npy"], "give a folder, or both"),
        (["run", "configs"], "configs is not a file"),
        (["train-tokenizer", "absent.yaml"], "absent.yaml is not a file"),
        (["import-official", "absent.ckpt", "out"], "absent.ckpt is not a file"),
    ]:
        with pytest.raises(SystemExit) as caught:
            main(arguments)
        said = capsys.readouterr().err
        assert caught.value.code == 2
        assert words in said and said.count("\n") == 1


def test_a_training_that_comes_to_nothing_ends_with_exit_code_1(
    smoke: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(smoke)
    words = ["train-tokenizer", "configs/smoke.yaml", "tokenizer.run_dir=runs/failed"]
    words += ["tokenizer.optim.lr=0", "tokenizer.quantizer_lr=0"]
    with pytest.raises(SystemExit) as caught:
        main([*words, "allow_failed=false"])
    assert caught.value.code == 1
    assert "FAILED: the reconstruction is no better than a constant" in capsys.readouterr().err
    main([*words, "allow_failed=true"])
    said = capsys.readouterr().out
    assert "FAILED: the reconstruction is no better than a constant: PSNR" in said
    page = (smoke / "runs/failed/report.html").read_text()
    assert "the reconstruction is no better than a constant" in page


def test_a_pipeline_refuses_parts_that_do_not_fit(smoke: Path, tmp_path: Path) -> None:
    folder = smoke / "runs" / "smoke" / "prior" / "pipeline"
    tokenizer = ImageTokenizer.from_pretrained(folder / "tokenizer")
    other = Prior(PriorConfig(codebook_size=64, code_dim=8, length=9, size="1m"))
    with pytest.raises(ValueError, match="16 codes of 64, the prior was trained on 9 codes of 64"):
        ImageGenerationPipeline(tokenizer, other, [])
    pipeline = ImageGenerationPipeline.from_pretrained(folder)
    pipeline.save_pretrained(tmp_path / "copy")
    torch.manual_seed(1)
    ImageTokenizer(tokenizer.config).save_pretrained(tmp_path / "copy" / "tokenizer")
    with pytest.raises(
        ValueError, match=r"is [0-9a-f]{16}, but the pipeline was saved with [0-9a-f]{16}"
    ):
        ImageGenerationPipeline.from_pretrained(tmp_path / "copy")
    with pytest.raises(ValueError, match="2 labels for 1 samples: give one for each"):
        pipeline([1, 2], seeds=[0])
    unconditional = pipeline(seeds=[3, 4])
    assert len(unconditional.images) == 2 and unconditional.codes.shape == (2, 4, 4)
