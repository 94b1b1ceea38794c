"""Images from every source, augmented by position; bad ones skipped, counted and at last refused."""

import io
import os
import random
import shutil
import subprocess
import sys
from dataclasses import replace
from functools import partial
from itertools import chain, islice
from pathlib import Path

import datasets
import numpy as np
import pyarrow
import pytest
import torch
from PIL import Image
from pyarrow.parquet import ParquetWriter, write_table

from common.seeding import generator_at
from stage1_tokenizer.batches import BadItems, bad_items_of, item_loader, streamed_rows
from stage1_tokenizer.data import BadItemError, held_out_items
from stage1_tokenizer.images.data import (
    ImageAugmentConfig,
    ImageDataConfig,
    ImageDataset,
    augmented,
    load_images,
    upright,
    view,
)
from stage1_tokenizer.parquet import parquet_rows


def png(value: int, size: tuple[int, int] = (12, 10)) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, (value, 0, 255 - value)).save(buffer, format="PNG")
    return buffer.getvalue()


def parquet(
    folder: Path, count: int = 40, bad: tuple[int, ...] = (), labels: bool = True
) -> ImageDataConfig:
    """A Parquet file of flat images, of which some are not decodable."""
    rows: dict[str, list] = {
        "picture": [
            {"bytes": b"broken" if i in bad else png(i * 5), "path": f"{i:03d}.png"}
            for i in range(count)
        ]
    }
    if labels:
        rows["kind"] = ["cat" if i % 2 else "dog" for i in range(count)]
    datasets.Dataset.from_dict(rows).to_parquet(folder / "data.parquet")
    return ImageDataConfig(
        source="parquet",
        train=str(folder / "data.parquet"),
        image_column="picture",
        label_column="kind" if labels else None,
    )


def load(config: ImageDataConfig, channels: int = 3, size: int = 8) -> ImageDataset:
    return load_images(config, "train", channels=channels, size=size)


def batches(images: ImageDataset, count: int = 6, **options: int) -> list[torch.Tensor]:
    augment = ImageAugmentConfig(crop=True, flip=True)
    load_item = partial(images.training_item, augment=augment)
    loader = item_loader(images, load_item, batch_size=8, seed=0, **options)
    return [batch["images"] for batch in islice(loader, count)]


def test_digits_are_embedded() -> None:
    train, held_out = (
        load_images(ImageDataConfig(), split, channels=1, size=8)
        for split in ("train", "validation")
    )
    assert (len(train), len(held_out)) == (1437, 360)
    assert train.classes == tuple("0123456789")
    image = train.view(train.decode(train[0]))
    assert image.shape == (1, 8, 8) and -1 <= image.min() < image.max() <= 1
    assert train.fingerprint != held_out.fingerprint
    assert (
        load_images(ImageDataConfig(), "train", channels=1, size=8).fingerprint == train.fingerprint
    )


def test_the_fingerprint_of_a_folder_is_of_its_images_and_labels_wherever_it_lies(
    tmp_path: Path,
) -> None:
    for index in range(4):
        folder = tmp_path / "here" / "train" / "ab"[index % 2]
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{index}.png").write_bytes(png(index))

    def fingerprint(place: str) -> str:
        config = ImageDataConfig(source=str(tmp_path / place), image_column="image")
        return load(config).fingerprint

    first = fingerprint("here")
    shutil.copytree(tmp_path / "here", tmp_path / "there")
    assert fingerprint("there") == first
    os.rename(tmp_path / "there/train/a/0.png", tmp_path / "there/train/b/0.png")
    relabelled = fingerprint("there")
    (tmp_path / "here/train/a/0.png").write_bytes(png(200))
    assert len({first, relabelled, fingerprint("here")}) == 3


def test_the_fingerprint_of_a_file_is_of_its_labels_too(tmp_path: Path) -> None:
    before = load(parquet(tmp_path)).fingerprint
    rows = datasets.Dataset.from_parquet(str(tmp_path / "data.parquet"))
    assert isinstance(rows, datasets.Dataset)
    swapped = rows.map(lambda row: {"kind": {"cat": "dog", "dog": "cat"}[row["kind"]]})
    (tmp_path / "swapped").mkdir()
    swapped.to_parquet(tmp_path / "swapped" / "data.parquet")
    file = str(tmp_path / "swapped" / "data.parquet")
    assert load(replace(parquet(tmp_path), train=file)).fingerprint != before


def test_parquet_files_may_be_sliced(tmp_path: Path) -> None:
    whole, file = load(parquet(tmp_path)), str(tmp_path / "data.parquet")
    config = replace(whole.config, train=f"{file}[10:30]")
    part = load(config)
    assert len(part) == 20 and part[0] == whole[10]
    assert part.fingerprint != whole.fingerprint
    assert len(load(replace(config, train=f"{file}[:25%]"))) == 10
    with pytest.raises(ValueError, match=r"set data.source and data.train"):
        load(replace(config, train=f"{file}[a:b]"))


def test_numbers_as_labels_that_leave_some_out_are_as_many_classes_as_there_are(
    tmp_path: Path,
) -> None:
    """Not a class for each number below the largest, which a prior would sample untrained."""
    files = {}
    for split, labels in (("train", [7, 3, 40, 3]), ("test", [40, 7])):
        rows = load_images(ImageDataConfig(), "train", channels=1, size=8).rows.select_columns(
            "image"
        )
        few = rows.select(range(len(labels)))
        files[split] = str(tmp_path / f"{split}.parquet")
        few.add_column("label", labels).to_parquet(files[split])
    config = ImageDataConfig(source="parquet", **files)
    for split, expected in (("train", [1, 0, 2, 0]), ("test", [2, 1])):
        images = load_images(config, split, channels=1, size=8)
        assert images.classes == ("3", "7", "40")
        assert [images.label(row) for row in images.spread(4)] == expected


def test_parquet_with_names_as_labels(tmp_path: Path) -> None:
    images = load(parquet(tmp_path))
    assert images.classes == ("cat", "dog")
    assert [images.label(images[i]) for i in range(4)] == [1, 0, 1, 0]
    assert load(parquet(tmp_path, labels=False)).classes == ()


def test_a_folder_of_images(tmp_path: Path) -> None:
    for kind in ("cat", "dog"):
        for split in ("train", "validation"):
            (tmp_path / split / kind).mkdir(parents=True)
            (tmp_path / split / kind / "a.png").write_bytes(png(9))
    images = load(ImageDataConfig(source=str(tmp_path)))
    assert images.classes == ("cat", "dog") and len(images) == 2
    assert images.view(images.decode(images[0])).shape == (3, 8, 8)


def test_what_is_not_there_is_told_with_what_is(tmp_path: Path) -> None:
    config = parquet(tmp_path)
    wrong = ImageDataConfig(source="parquet", train=config.train, image_column="img")
    with pytest.raises(ValueError, match=r"it has picture, kind; set data.image_column"):
        load(wrong)
    with pytest.raises(ValueError, match=r"set data.source and data.train"):
        load(ImageDataConfig(source="parquet", train=str(tmp_path / "absent.parquet")))
    with pytest.raises(ValueError, match=r"set data.source and data.train"):
        load(ImageDataConfig(source=str(tmp_path), train="practice"))
    with pytest.raises(ValueError, match=r"is no split of digits, which has train, validation"):
        load(ImageDataConfig(source="digits", train="train[:90%]"), channels=1)


def test_a_bad_image_is_skipped_and_counted(tmp_path: Path) -> None:
    images = load(parquet(tmp_path, bad=(3, 4)))
    with pytest.raises(BadItemError, match=r"003\.png"):
        images.decode(images[3])
    load_item = partial(images.training_item, augment=ImageAugmentConfig())
    loader = item_loader(images, load_item, batch_size=10, seed=0)
    names = [name for batch in islice(loader, 4) for name in chain(*batch["bad"].values())]
    assert sorted(set(names)) == ["003.png", "004.png"]


def test_over_one_percent_of_an_epoch_stops_the_run_with_the_first_name() -> None:
    bad = BadItems(1000)
    bad.count({0: ["x.png"] * 10}, epoch=0, items=64)
    bad.count({1: ["y.png"] * 10}, epoch=1, items=64)
    with pytest.raises(ValueError, match=r"11 items .* the first is x\.png"):
        bad.count({1: ["z.png"]}, epoch=1, items=64)


def test_a_bad_image_counts_once_in_each_epoch_also_where_a_batch_ends_one(tmp_path: Path) -> None:
    images = load(parquet(tmp_path, bad=(7,)))
    load_item = partial(images.training_item, augment=ImageAugmentConfig())
    for seed in range(5):
        counted, loader = (
            bad_items_of(images),
            item_loader(images, load_item, batch_size=24, seed=seed),
        )
        for batch in islice(loader, 12):
            counted.count(batch["bad"], batch["epoch"], 24)


def test_a_stream_goes_on_where_an_epoch_ends_with_a_bad_image(tmp_path: Path) -> None:
    config = parquet(tmp_path, bad=(7,), labels=False)
    images = load(ImageDataConfig(**{**vars(config), "streaming": True, "shuffle_buffer": 8}))
    load_item = partial(images.training_item, augment=ImageAugmentConfig())
    last = [
        rows[0] for _, epoch, rows in islice(streamed_rows(images, 0, 0, 1), 3000) if len(rows) == 1
    ]
    assert not last
    loader = item_loader(images, load_item, batch_size=20, seed=0)
    assert len([*islice(loader, 100)]) == 100


def test_an_empty_name_of_a_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"it names no file.*set data.source and data.train"):
        load(ImageDataConfig(source="parquet", train=""))


def test_batches_resume_and_are_shared_among_processes(tmp_path: Path) -> None:
    images = load(parquet(tmp_path))
    whole = batches(images)
    assert all(map(torch.equal, batches(images, 4, done=16), whole[2:]))
    assert all(map(torch.equal, batches(images, 6, workers=2), whole))
    shares = [batches(images, 3, rank=rank, world=2) for rank in range(2)]
    for step in range(3):
        merged = torch.stack([share[step] for share in shares], 1).flatten(0, 1)
        assert torch.equal(merged, whole[step])


def test_a_stream_gives_the_same_batches_resumed_and_shared(tmp_path: Path) -> None:
    config = parquet(tmp_path, bad=(7,), labels=False)
    images = load(ImageDataConfig(**{**vars(config), "streaming": True, "shuffle_buffer": 16}))
    whole = batches(images, 12)
    assert len({image.flatten()[0].item() for batch in whole[:5] for image in batch}) > 20
    assert all(map(torch.equal, batches(images, 6, done=48), whole[6:]))
    shares = [batches(images, 3, rank=rank, world=2) for rank in range(2)]
    for step in range(3):
        merged = torch.stack([share[step] for share in shares], 1).flatten(0, 1)
        assert torch.equal(merged, whole[step])


def test_held_out_images_are_spread_over_a_split_but_the_first_of_a_stream(tmp_path: Path) -> None:
    config = parquet(tmp_path, count=40, bad=(0,), labels=False)
    for streaming, places in ((False, [14, 28]), (True, [1, 2, 3])):
        images = load(replace(config, streaming=streaming))
        expected = [images.decode(row) for i, row in enumerate(images.rows) if i in places]
        chosen = held_out_items(
            images, 3, lambda row, images=images: images.view(images.decode(row))
        )
        assert torch.equal(torch.stack(chosen), torch.stack(list(map(images.view, expected))))


def test_a_stream_reads_all_files_of_a_pattern_and_says_what_it_can_not(tmp_path: Path) -> None:
    for name in ("b", "a"):
        table = pyarrow.table({"x": [f"{name}{i}" for i in range(100)]})
        write_table(table, tmp_path / f"{name}.parquet", row_group_size=70)
    rows = parquet_rows(f"{tmp_path}/*.parquet", streaming=True)
    assert [row["x"] for row in rows] == [f"{name}{i}" for name in "ab" for i in range(100)]
    for where, reason in (
        (f"{tmp_path}/c*", "no such file"),
        (f"{tmp_path}/a.parquet[:9]", "sliced"),
    ):
        data = ImageDataConfig(source="parquet", train=where, streaming=True)
        with pytest.raises(ValueError, match=rf"{reason}.*set data\.source and data\.train"):
            load(data)


STREAM = """
import sys, torch
from common.memory import peak_memory
from stage1_tokenizer.parquet import parquet_rows
rows = sum(1 for _ in parquet_rows(sys.argv[1], streaming=True))
print(rows, peak_memory(torch.device("cpu")))
"""


def test_a_streamed_file_is_not_in_memory_as_a_whole(tmp_path: Path) -> None:
    """80 and 320 row groups of a megabyte: less than a third of the difference is memory."""
    table = pyarrow.table({"image": [random.randbytes(2**17) for _ in range(8)]})
    peaks = []
    for groups in (80, 320):
        path = tmp_path / f"{groups}.parquet"
        with ParquetWriter(path, table.schema) as writer:
            for _ in range(groups):
                writer.write_table(table)
        command = [sys.executable, "-c", STREAM, str(path)]
        rows, peak = subprocess.run(command, capture_output=True, check=True).stdout.split()
        assert int(rows) == 8 * groups
        peaks.append(float(peak))
        path.unlink()
    assert peaks[1] - peaks[0] < 240 / 1024 / 3


def test_views_cut_where_they_say() -> None:
    ramp = Image.linear_gradient("L").resize((64, 64))
    top, bottom = view(ramp, 32, "top-left"), view(ramp, 32, "bottom-right")
    assert top.shape == bottom.shape == (1, 32, 32)
    assert top.mean() < view(ramp, 32, "centre").mean() < bottom.mean()
    side = ramp.rotate(90)
    assert torch.equal(view(side, 32, "centre-flip"), view(side, 32, "centre").flip(-1))


def test_augmentation_is_a_function_of_the_generator_alone() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (30, 40), dtype=np.uint8)
    image = Image.fromarray(noise)
    options = {"crop": True, "flip": True}
    seen = [augmented(image, 16, generator_at(0, i), **options) for i in range(8)]
    again = augmented(image, 16, generator_at(0, 5), **options)
    assert torch.equal(seen[5], again)
    assert len({image.sum().item() for image in seen}) > 4


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparent_pixels_are_white(mode: str) -> None:
    """What lies under full transparency is junk, often black."""
    image = Image.new("RGBA", (4, 4), (0, 0, 0, 0))
    image.putpixel((0, 0), (255, 0, 0, 255))
    if mode == "P":
        file = io.BytesIO()
        image.save(file, "GIF")
        image = Image.open(file)
    pixels = np.asarray(upright(image.convert(mode) if mode == "LA" else image, 3))
    assert (pixels[1:] == 255).all() and (pixels[0, 0] != 255).any()


def photograph(exif: bytes) -> io.BytesIO:
    """A JPEG of 4 x 2 pixels with such EXIF data."""
    file = io.BytesIO()
    Image.new("RGB", (4, 2), "red").save(file, "JPEG", exif=exif)
    return file


def test_exif_that_is_damaged_stops_no_image() -> None:
    """Turned where the orientation can be read, and else as it is stored."""
    exif = Image.Exif()
    exif[0x112], exif[0x11A] = 6, 1.5
    whole = exif.tobytes()
    cases = {
        whole: (2, 4),
        whole.replace(b"\x01\x1a", b"\x01\x00"): (2, 4),  # a width of 1.5, which can't be written
        whole.replace(b"MM\0*", b"XX\0*"): (4, 2),
    }
    for data, size in cases.items():
        assert upright(Image.open(photograph(data)), 3).size == size


@pytest.mark.parametrize("longer", range(8, 16))
def test_the_centre_of_training_is_that_which_is_encoded(longer: int) -> None:
    """Also where an odd number of pixels is left over."""
    noise = np.random.default_rng(0).integers(0, 256, (longer, 8), dtype=np.uint8)
    for image in (Image.fromarray(noise), Image.fromarray(noise.T.copy())):
        trained = augmented(image, 8, generator_at(0, 0), crop=False, flip=False)
        assert torch.equal(trained, view(image, 8, "centre"))
