"""Without a network nothing waits for one, and what could not be reached is said."""

import time

import datasets
import pytest
from huggingface_hub import constants

from common.hub import local_folder
from stage1_tokenizer.images.data import ImageDataConfig, load_images


@pytest.fixture(autouse=True)
def unreachable(monkeypatch: pytest.MonkeyPatch) -> None:
    """A Hub whose name no network resolves."""
    monkeypatch.setattr(constants, "ENDPOINT", "https://hub.invalid")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


def test_a_model_that_can_not_be_reached_is_named_at_once() -> None:
    start = time.monotonic()
    with pytest.raises(ValueError, match="nobody/nothing is no folder here, and can't be had"):
        local_folder("nobody/nothing")
    assert time.monotonic() - start < 10


def test_a_data_set_that_can_not_be_reached_is_named_at_once() -> None:
    start = time.monotonic()
    config = ImageDataConfig(source="nobody/nothing")
    with pytest.raises(ValueError, match=r"data\.source='nobody/nothing'.* can't be read"):
        load_images(config, "train", channels=1, size=8)
    assert time.monotonic() - start < 10
