"""Distances between sets of features: known answers, torch-fidelity's own, and who may be called FID."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch_fidelity import calculate_metrics
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

from common.hub import sha256
from pipelines.classifier import Classifier, ClassifierConfig
from pipelines.extractors import (
    INCEPTION_FILE,
    ClassifierExtractor,
    InceptionExtractor,
    choose_extractor,
)
from pipelines.fidelity import (
    Features,
    Reference,
    distance,
    frechet_distance,
    inception_score,
    kernel_distance,
    metric_name,
    nearest,
    precision_recall,
    reference,
    statistics,
)
from pipelines.images.batches import limited, picture_batches
from stage1_tokenizer.images.data import ImageDataConfig, load_images

CPU = torch.device("cpu")


class Unloaded(FeatureExtractorInceptionV3):
    """torch-fidelity's Inception as its constructor initialises it."""

    def load_state_dict(self, *args: object, **kwargs: object) -> None:  # type: ignore[override]
        """Nothing: the random weights stay."""


def features(values: Tensor) -> Features:
    return Features(values, values, torch.arange(len(values)), torch.zeros(len(values)).long())


def as_reference(values: Tensor) -> Reference:
    return Reference("real", features(values), statistics(features(values)), "0" * 64)


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> ClassifierExtractor:
    folder = tmp_path_factory.mktemp("classifier") / "model"
    torch.manual_seed(0)
    config = ClassifierConfig(name="digits-classifier", classes=("a", "b", "c"))
    Classifier(config).save_pretrained(folder)
    return ClassifierExtractor(folder, CPU)


@pytest.fixture(scope="module")
def inception_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of Inception's weights, but random ones."""
    path = tmp_path_factory.mktemp("inception") / "random.pth"
    torch.manual_seed(0)
    torch.save({}, path)
    network = Unloaded("inception", ["2048"], feature_extractor_weights_path=str(path))
    for layer in network.modules():
        if isinstance(
            layer, torch.nn.Conv2d
        ):  # the constructor's weights let all features fade to 0
            torch.nn.init.kaiming_normal_(layer.weight)
    torch.save(network.state_dict(), path)
    return path


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 6), st.integers(0, 999))
def test_frechet_distance_of_two_gaussians_has_a_closed_form(dimensions: int, seed: int) -> None:
    """For covariances that commute it is |mu - mu'|^2 + sum (s - s')^2 over the standard deviations."""
    random = np.random.default_rng(seed)
    axes = np.linalg.qr(random.normal(size=(dimensions, dimensions)))[0]
    mus, spreads = random.normal(size=(2, dimensions)), random.uniform(0.1, 2, (2, dimensions))
    a, b = (
        {"mu": m, "sigma": axes @ np.diag(s**2) @ axes.T} for m, s in zip(mus, spreads, strict=True)
    )
    expected = ((mus[0] - mus[1]) ** 2).sum() + ((spreads[0] - spreads[1]) ** 2).sum()
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-6, abs=1e-6)


def test_a_set_has_no_distance_to_itself(classifier: ClassifierExtractor) -> None:
    values = torch.randn(200, 8, generator=torch.manual_seed(0))
    real = as_reference(values)
    assert distance(real.features, real, classifier).value == pytest.approx(0, abs=1e-9)
    precision, recall = precision_recall(real.features, real, classifier, seed=0)
    assert (precision.value, recall.value) == (1, 1)
    assert nearest(real.features, real.features)[0].max() == 0


def test_the_layout_in_memory_changes_features_by_rounding_only(
    classifier: ClassifierExtractor,
) -> None:
    images = torch.randint(0, 256, (20, 1, 8, 8), dtype=torch.uint8)
    with torch.no_grad():
        expected = classifier.model.features(images.float() / 127.5 - 1)
    torch.testing.assert_close(classifier.extract(images)[0], expected, rtol=1e-5, atol=1e-6)


def test_mode_collapse_has_precision_without_recall(classifier: ClassifierExtractor) -> None:
    torch.manual_seed(0)
    real = as_reference(torch.randn(500, 8))
    collapsed = features(real.features.features[:2].repeat(200, 1))
    precision, recall = precision_recall(collapsed, real, classifier, seed=0)
    assert precision.value == 1 and recall.value is not None and recall.value < 0.01
    assert kernel_distance(collapsed, real, classifier, seed=0).value > 0.1  # type: ignore[operator]


def test_inception_score_of_known_predictions(classifier: ClassifierExtractor) -> None:
    """Sure and even over k classes gives k; the same prediction for all gives 1."""
    sure = torch.eye(4).repeat(30, 1) * 100
    assert inception_score(features(sure), classifier, 0).value == pytest.approx(4, rel=1e-4)
    same = torch.zeros(120, 4)
    assert inception_score(features(same), classifier, 0).value == pytest.approx(1)


def test_neighbours_are_those_by_brute_force() -> None:
    torch.manual_seed(0)
    made, real = torch.randn(300, 4), torch.randn(50, 4)
    distances, places = nearest(features(made), features(real), neighbours=3)
    brute = (made[:, None].double() - real.double()).norm(dim=-1).sort(dim=1)
    torch.testing.assert_close(distances.double(), brute.values[:, :3], atol=1e-6, rtol=1e-5)
    assert torch.equal(places, brute.indices[:, :3])


def test_only_the_published_inception_makes_fid(
    classifier: ClassifierExtractor, inception_file: Path
) -> None:
    assert metric_name("FID", classifier) == "FD(digits-classifier)"
    assert metric_name("KID", classifier) == "KID(digits-classifier)"
    random = InceptionExtractor(inception_file, CPU)
    assert metric_name("FID", random) == f"FD(inception-of-{sha256(inception_file)[:8]})"
    random.published = True
    assert metric_name("FID", random) == "FID"


def test_inception_of_a_file_is_torch_fidelity_s(inception_file: Path) -> None:
    """The same distance as calculate_metrics of the library on the same pictures; grey becomes colour."""

    class Listed(torch.utils.data.Dataset[Tensor]):
        def __init__(self, images: Tensor) -> None:
            self.images = images

        def __len__(self) -> int:
            return len(self.images)

        def __getitem__(self, index: int) -> Tensor:
            return self.images[index]

    random = InceptionExtractor(inception_file, CPU)
    generator = torch.manual_seed(0)
    grey = [torch.randint(0, high, (4, 1, 8, 8), generator=generator).byte() for high in (256, 99)]
    (made, _), (real, logits) = map(random.extract, grey)
    assert made.shape == (4, 2048) and logits.shape == (4, 1008)
    ours = distance(features(made), as_reference(real), random)
    colour = [Listed(images.repeat(1, 3, 1, 1)) for images in grey]
    theirs = calculate_metrics(
        input1=colour[0], input2=colour[1], fid=True, cuda=False, verbose=False, cache=False,
        save_cpu_ram=True, feature_extractor_weights_path=str(inception_file),
        feature_extractor="inception-v3-compat",
    )  # fmt: skip
    assert ours.value is not None and ours.value > 1
    assert ours.value == pytest.approx(theirs["frechet_inception_distance"], rel=1e-3, abs=1e-6)
    assert ours.note is not None and "biased upwards: 4 items" in ours.note


def test_a_file_that_is_not_inception_s_is_refused(inception_file: Path, tmp_path: Path) -> None:
    posing = tmp_path / INCEPTION_FILE
    posing.write_bytes(inception_file.read_bytes())
    with pytest.raises(ValueError, match=r"name promises 6726825d"):
        InceptionExtractor(posing, CPU)
    empty = tmp_path / "empty.pth"
    torch.save({}, empty)
    with pytest.raises(ValueError, match="not those of Inception v3"):
        InceptionExtractor(empty, CPU)
    harmful = tmp_path / "harmful.pth"
    torch.save({"weight": print}, harmful)
    with pytest.raises(ValueError, match="not those of Inception v3"):
        InceptionExtractor(harmful, CPU)


def test_the_choice_falls_back_and_says_how_to_get_features(
    classifier: ClassifierExtractor, inception_file: Path, tmp_path: Path
) -> None:
    before = torch.hub.get_dir()
    torch.hub.set_dir(tmp_path)
    try:
        assert choose_extractor(None, False, classifier, CPU) is classifier
        given_file = choose_extractor(inception_file, False, classifier, CPU)
        assert given_file.sha256 == sha256(inception_file)
        neither = choose_extractor(None, False, None, CPU)
        assert neither.name == "untrained-network"
        grey = torch.randint(256, (3, 1, 8, 8), dtype=torch.uint8)
        again = choose_extractor(None, False, None, CPU)
        assert neither.extract(grey)[0].shape == (3, 128) and again.sha256 == neither.sha256
        assert torch.equal(neither.extract(grey)[0], again.extract(grey)[0])
        with pytest.raises(ValueError, match="is not a file: set inception_weights"):
            choose_extractor(tmp_path / "absent.pth", False, classifier, CPU)
    finally:
        torch.hub.set_dir(before)
    with pytest.raises(ValueError, match="set classifier"):
        ClassifierExtractor(tmp_path, CPU)


def test_the_cache_is_of_one_extractor_split_and_count(
    classifier: ClassifierExtractor, tmp_path: Path
) -> None:
    pictures = load_images(ImageDataConfig(), "validation", channels=1, size=8)
    first = reference("held-out", pictures, classifier, 64, tmp_path)
    again = reference("held-out", pictures, classifier, 50, tmp_path)
    assert again.sha256 == first.sha256 and len(list(tmp_path.iterdir())) == 1
    assert torch.equal(again.features.features, first.features.features)
    fresh = reference("held-out", pictures, classifier, 64, tmp_path / "fresh")
    assert fresh.sha256 == first.sha256
    part = reference("held-out", limited(pictures, 9, seed=0), classifier, 64, tmp_path)
    assert len(part.features) == 9 and part.sha256 != first.sha256
    classifier.sha256, kept = "other", classifier.sha256
    reference("held-out", pictures, classifier, 64, tmp_path)
    classifier.sha256 = kept
    assert len([path for path in tmp_path.iterdir() if path.name != "fresh"]) == 3


def test_pictures_are_read_in_order_and_bad_ones_are_left_out() -> None:
    pictures = load_images(ImageDataConfig(), "validation", channels=1, size=8)
    rows = pictures.rows.select(range(7)).to_list()  # type: ignore[union-attr]
    rows[2]["image"]["bytes"] = b"no picture"
    damaged = type(pictures.rows).from_list(rows, features=pictures.rows.features)  # type: ignore[union-attr]
    batches = list(picture_batches(type(pictures)(damaged, pictures.config, 1, 8, (), ""), 4))
    assert [batch.indices.tolist() for batch in batches] == [[0, 1, 3], [4, 5, 6]]
    wanted = list(picture_batches(pictures, 4, wanted={5}))
    assert torch.equal(wanted[0].images[0], batches[1].images[1])
