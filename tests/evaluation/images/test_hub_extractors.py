"""CLIP and DINOv2 from folders of safetensors: small ones, with random weights."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.features import CPU, as_reference, features
from PIL import Image
from transformers import (
    CLIPImageProcessor,
    CLIPVisionModelWithProjection,
    Dinov2Config,
    Dinov2Model,
)

from pipelines.evaluation.fidelity import clip_distance, metric_name
from pipelines.evaluation.images.hub_extractors import HubExtractor, bicubic

SMALL = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "patch_size": 14}
IMAGES = torch.randint(0, 256, (5, 3, 20, 20), generator=torch.manual_seed(0)).byte()


@pytest.fixture
def dino(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    Dinov2Model(Dinov2Config(image_size=28, **SMALL)).save_pretrained(tmp_path / "dino")
    return tmp_path / "dino"


def test_clip_gives_the_projected_embeddings_of_cmmds_preparation(clip: Path) -> None:
    extractor = HubExtractor(str(clip), False, CPU)
    own, _ = extractor.extract(IMAGES)
    resized = torch.nn.functional.interpolate(IMAGES / 255, 28, mode="bicubic")
    processor = CLIPImageProcessor(do_resize=False, do_center_crop=False, do_rescale=False)
    inputs = processor(
        list(resized.numpy()), return_tensors="pt", input_data_format="channels_first"
    )
    with torch.no_grad():
        expected = CLIPVisionModelWithProjection.from_pretrained(clip)(**inputs).image_embeds
    torch.testing.assert_close(own, expected, rtol=1e-4, atol=1e-5)
    grey = extractor.extract(IMAGES[:, :1])[0]
    torch.testing.assert_close(grey, extractor.extract(IMAGES[:, :1].repeat(1, 3, 1, 1))[0])
    assert extractor.name == f"clip-of-{extractor.sha256[:8]}"
    assert metric_name("CMMD", extractor) == f"CMMD({extractor.name})"
    value = clip_distance(features(own), as_reference(own), extractor, seed=0).value
    assert value == pytest.approx(0, abs=1e-6)


def test_dinov2_gives_the_class_token_of_images_resized_as_clean_fid_does_it(dino: Path) -> None:
    extractor = HubExtractor(str(dino), False, CPU)
    own, _ = extractor.extract(IMAGES)
    dull = IMAGES // 4 + 90  # nothing to be clipped between Pillow's two passes over bytes
    bytes_of_pillow = Image.fromarray(dull[0].permute(1, 2, 0).numpy())
    by_pillow = np.asarray(bytes_of_pillow.resize((224, 224), Image.Resampling.BICUBIC))
    assert np.abs(bicubic(dull, 224)[0].permute(1, 2, 0).numpy() - by_pillow).max() <= 1.5
    pixels = bicubic(IMAGES, 224)
    mean, std = (
        torch.tensor(v)[:, None, None] for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    )
    with torch.no_grad():
        states = Dinov2Model.from_pretrained(dino)(pixel_values=(pixels / 255 - mean) / std)
    torch.testing.assert_close(own, states.last_hidden_state[:, 0], rtol=1e-4, atol=1e-5)
    assert metric_name("FID", extractor) == f"FD(dinov2-of-{extractor.sha256[:8]})"


def test_only_weights_of_that_name_make_fdd_and_cmmd(dino: Path) -> None:
    extractor = HubExtractor(str(dino), False, CPU)
    extractor.name = "dinov2-vit-l-14"
    assert metric_name("FID", extractor) == "FDD"
    assert metric_name("KID", extractor) == "KID(dinov2-vit-l-14)"
    extractor.name = "clip-vit-l-14-336px"
    assert (metric_name("CMMD", extractor), metric_name("FID", extractor)) == (
        "CMMD",
        "FD(clip-vit-l-14-336px)",
    )


def test_a_folder_of_that_name_is_not_the_hubs_network(
    dino: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(dino, tmp_path / "dinov2-vit-l-14")
    monkeypatch.chdir(tmp_path)
    assert HubExtractor("dinov2-vit-l-14", False, CPU).name.startswith("dinov2-of-")


def test_weights_that_are_not_there_are_one_sentence(dino: Path, tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"extractors=resnet is neither a folder nor one of dinov2"
    ):
        HubExtractor("resnet", False, CPU)
    with pytest.raises(ValueError, match=r"extractors=dinov2-vit-l-14 can't be loaded"):
        HubExtractor("dinov2-vit-l-14", False, CPU)
    (dino / "model.safetensors").rename(dino / "other.safetensors")
    torch.save({"a": 1}, dino / "pytorch_model.bin")  # a pickle is not opened
    with pytest.raises(ValueError, match="can't be loaded"):
        HubExtractor(str(dino), False, CPU)
