"""Reference statistics of other projects, and our own, as files."""

from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.features import features

from pipelines.evaluation.features import statistics
from pipelines.evaluation.fidelity import distance_to_file, frechet_distance
from pipelines.evaluation.images.extractors import ClassifierExtractor
from pipelines.evaluation.statistics_files import read_statistics, write_statistics

RANDOM = np.random.default_rng(0)
SET = RANDOM.normal(size=(50, 4))
MU, SIGMA = SET.mean(0), np.cov(SET, rowvar=False)


def test_what_is_written_is_read_back_to_the_same_distance(
    classifier: ClassifierExtractor, tmp_path: Path
) -> None:
    gaussian = {"mu": MU, "sigma": SIGMA}
    write_statistics(tmp_path / "real.npz", gaussian, classifier, 50)
    read = read_statistics(tmp_path / "real.npz")
    items = features(torch.randn(30, 4, generator=torch.manual_seed(0)))
    metric = distance_to_file(items, read, classifier)
    assert metric.value == frechet_distance(statistics(items), gaussian) > 0.1
    assert (metric.reference_count, metric.reference_sha256) == (50, read.sha256)
    assert read.fits(classifier, 4) and not read.fits(classifier, 5)
    classifier_of_others = np.load(tmp_path / "real.npz", allow_pickle=False)
    others = {**classifier_of_others, "extractor_sha256": np.array("0" * 64)}
    np.savez(tmp_path / "others.npz", **others)
    assert not read_statistics(tmp_path / "others.npz").fits(classifier, 4)


@pytest.mark.parametrize("form", ["adm", "clean-fid"])
def test_the_forms_of_other_projects_are_read(form: str, tmp_path: Path) -> None:
    path = tmp_path / "reference.npz"
    if form == "adm":  # guided-diffusion's batches hold the images and a second Gaussian too
        pixels = np.zeros((4, 8, 8, 3), np.uint8)
        np.savez(path, pixels, mu=MU, sigma=SIGMA, mu_s=MU, sigma_s=SIGMA)
    else:
        np.savez_compressed(path, mu=MU.astype(np.float32), sigma=SIGMA.astype(np.float32))
    read = read_statistics(path)
    np.testing.assert_allclose(read.mu, MU, rtol=1e-6)
    assert read.mu.dtype == read.sigma.dtype == np.float64
    assert frechet_distance(read.gaussian, {"mu": MU, "sigma": SIGMA}) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(
    ("arrays", "says"),
    [
        ({"mu": MU}, "mu and sigma"),
        ({"mu": MU[None], "sigma": SIGMA}, r"must be \(f,\)"),
        ({"mu": MU, "sigma": SIGMA[:3]}, r"must be \(f,\)"),
        ({"mu": MU * np.nan, "sigma": SIGMA}, "not finite"),
        ({"mu": MU, "sigma": SIGMA + np.eye(4, k=1)}, "not symmetric"),
        ({"mu": np.array([print], dtype=object), "sigma": SIGMA}, "mu and sigma"),
    ],
)
def test_a_file_of_something_else_is_one_sentence(
    arrays: dict[str, np.ndarray], says: str, tmp_path: Path
) -> None:
    np.savez(tmp_path / "wrong.npz", **arrays)
    with pytest.raises(ValueError, match=says):
        read_statistics(tmp_path / "wrong.npz")
    (tmp_path / "text.npz").write_text("no array")
    with pytest.raises(ValueError, match="mu and sigma"):
        read_statistics(tmp_path / "text.npz")
    with pytest.raises(ValueError, match="not a file"):
        read_statistics(tmp_path / "none.npz")
