"""Files of images of every kind, whole and broken, and what each must decode to."""

import io
import struct
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from PIL import Image

OddImage = tuple[str, bytes, "np.ndarray[Any, Any] | None"]
"""A name, a file's content, and the pixels (y, x, 3) that it must decode to if it does not have to be refused."""
MODES = {
    "PNG": ("1", "L", "LA", "P", "RGB", "RGBA", "I;16"),
    "JPEG": ("L", "RGB", "CMYK"),
    "GIF": ("1", "L", "P", "RGB"),
    "BMP": ("1", "L", "P", "RGB"),
    "TIFF": ("1", "L", "P", "RGB", "RGBA", "CMYK", "I;16"),
    "WEBP": ("RGB", "RGBA"),
    "PPM": ("1", "L", "RGB"),
    "TGA": ("L", "P", "RGB", "RGBA"),
    "PCX": ("L", "RGB"),
    "JPEG2000": ("L", "RGB", "RGBA"),
}
"""What Pillow writes: formats, and the modes of each."""


def smooth_image(width: int = 24, height: int = 18) -> Image.Image:
    """A smooth image without symmetry."""
    y, x = np.mgrid[:height, :width]
    planes = (255 * x / width, 255 * y / height, 255 * (x + y) / (width + height))
    return Image.fromarray(np.stack(planes, -1).astype(np.uint8))


def in_mode(mode: str) -> tuple[Image.Image, Image.Image]:
    """The image in a mode, and what it shows in it."""
    if mode == "I;16":
        grey = np.asarray(smooth_image().convert("L"))
        return Image.fromarray(grey.astype(np.uint16) * 256), Image.fromarray(grey)
    if mode == "LA":
        return smooth_image().convert("RGBA").convert("LA"), smooth_image().convert("L")
    return smooth_image().convert(mode), smooth_image().convert(mode)


def content(image: Image.Image, kind: str, **options: Any) -> bytes:
    """The file."""
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def pixels(image: Image.Image) -> np.ndarray[Any, Any]:
    """What is shown, in colour."""
    return np.asarray(image.convert("RGB")).astype(float)


def of_every_mode() -> Iterator[OddImage]:
    """Each format with each of its modes."""
    for kind, modes in MODES.items():
        for mode in modes:
            stored, shown = in_mode(mode)
            yield f"{kind} {mode}", content(stored, kind), pixels(shown)


def of_every_size() -> Iterator[OddImage]:
    """One pixel, strips and large ones; a strip would be enlarged to very many pixels."""
    for width, height in ((1, 1), (1, 2), (3, 5), (24, 1000), (2000, 1500), (5, 60)):
        image = smooth_image(width, height)
        yield f"{width} x {height}", content(image, "PNG"), pixels(image)
    for width, height in ((1, 60_000), (60_000, 1), (2, 30_000)):
        yield f"{width} x {height}", content(smooth_image(width, height), "PNG"), None
    header = struct.pack(">IIBBBBB", 50_000, 50_000, 8, 2, 0, 0, 0)
    checksum = struct.pack(">I", zlib.crc32(b"IHDR" + header))
    bomb = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + b"IHDR" + header + checksum
    yield "a bomb of 50,000 x 50,000", bomb + content(smooth_image(), "PNG")[33:], None


def turned() -> Iterator[OddImage]:
    """Every orientation that a camera may note."""
    for value in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = value
        way_back = (0, 3, 1, 5, 4, 6, 2)  # as Pillow numbers them, from the second value on
        turn = Image.Transpose(way_back[value - 2])
        upright = smooth_image() if value == 1 else smooth_image().transpose(turn)
        yield f"orientation {value}", content(smooth_image(), "PNG", exif=exif), pixels(upright)
    deep, shown = in_mode("I;16")
    exif[0x0112] = 6
    upright = shown.transpose(Image.Transpose.ROTATE_270)
    yield "orientation 6, 16 bits", content(deep, "PNG", exif=exif), pixels(upright)


def animated() -> Iterator[OddImage]:
    """The first frame is the image."""
    frames = [Image.new("RGB", (24, 18), colour) for colour in ("red", "blue")]
    for kind in ("GIF", "PNG", "WEBP", "TIFF"):
        options = {"save_all": True, "append_images": [frames[1]]}
        yield f"animated {kind}", content(smooth_image(), kind, **options), pixels(smooth_image())
    palette = smooth_image().convert("P")
    indices = np.asarray(palette)[..., None]
    for transparency, opacity in ((3, indices != 3), (bytes(range(256)), indices / 255)):
        stored = content(palette, "PNG", transparency=transparency)
        shown = pixels(palette) * opacity + 255 * (1 - opacity)  # on white
        yield f"palette, {type(transparency).__name__} transparent", stored, shown


def broken() -> Iterator[OddImage]:
    """Files that were cut off, or are no images."""
    for kind in ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM", "JPEG2000"):
        whole = content(smooth_image(64, 48), kind)
        for share in (0.1, 0.5, 0.9):
            yield f"{share:.0%} of a {kind}", whole[: int(share * len(whole))], None
    whole = content(smooth_image(), "PNG")
    for place in range(8, len(whole) - 20, len(whole) // 6):
        flipped = bytearray(whole)
        flipped[place] ^= 16
        yield f"PNG, bit of byte {place} flipped", bytes(flipped), pixels(smooth_image())
    for name, data in {
        "nothing": b"",
        "one byte": b"\x00",
        "text": b"not an image",
        "a page": b"<!DOCTYPE html><html></html>",
        "an SVG": b'<svg xmlns="http://www.w3.org/2000/svg"/>',
        "zeros": bytes(10_000),
        "a PNG's first bytes": b"\x89PNG\r\n\x1a\n",
        "a GIF's first bytes": b"GIF89a",
        "a ZIP": b"PK\x03\x04" + bytes(100),
        "an EPS": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n",
        "an image of floats": content(smooth_image().convert("F"), "TIFF"),
    }.items():
        yield name, data, None


def odd_images() -> list[OddImage]:
    """All of them."""
    makers = (of_every_mode, of_every_size, turned, animated, broken)
    return [one for make in makers for one in make()]
