"""Images are read in order."""

from dataclasses import replace

import torch

from pipelines.evaluation.images.data import image_batches
from stage1_tokenizer.images.data import ImageDataConfig, load_images


def test_images_are_read_in_order_and_bad_ones_are_left_out() -> None:
    images = load_images(ImageDataConfig(), "validation", channels=1, size=8)
    rows = images.rows.select(range(7)).to_list()  # type: ignore[union-attr]
    rows[2]["image"]["bytes"] = b"no image"
    damaged = type(images.rows).from_list(rows, features=images.rows.features)  # type: ignore[union-attr]
    batches = list(image_batches(replace(images, rows=damaged), 4))
    assert [batch.indices.tolist() for batch in batches] == [[0, 1, 3], [4, 5, 6]]
    wanted = list(image_batches(images, 4, wanted={5}))
    assert torch.equal(wanted[0].images[0], batches[1].images[1])
