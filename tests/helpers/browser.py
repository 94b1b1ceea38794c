"""`simvq demo`, and Chromium to click on its page; an image and a clip to upload."""

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from helpers.pages import ROOT
from PIL import Image

CHROMIUM = shutil.which("chromium")
in_browser = pytest.mark.skipif(
    CHROMIUM is None, reason="clicks need Chromium: apt-get install chromium"
)
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--use-fake-ui-for-media-stream",
    "--use-fake-device-for-media-stream",
]
"""The last two are a microphone that nobody has to speak into."""


def write_image(path: Path, side: int = 20) -> str:
    pixels = np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return str(path)


def write_clip(path: Path, seconds: float = 0.2, rate: int = 8000) -> str:
    times = np.arange(round(seconds * rate)) / rate
    soundfile.write(path, 0.5 * np.sin(2 * np.pi * 440 * times), rate)
    return str(path)


@contextmanager
def served(folder: Path, pipeline: Path, *options: str) -> Iterator[str]:
    """The address of a page that `simvq demo` serves; afterwards it has left nothing behind but in `results`."""
    home, temporary = folder / "home", folder / "tmp"
    home.mkdir()
    temporary.mkdir()
    env = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "TMPDIR": str(temporary),
        "HOME": str(home),
        "MPLCONFIGDIR": str(folder),
    }
    command = [sys.executable, "-m", "pipelines", "demo", str(pipeline), *options]
    server = subprocess.Popen(command, cwd=home, env=env, stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    try:
        address = re.match(
            r"(http://127\.0\.0\.1:\d+/) \(Ctrl-C stops it\)", server.stdout.readline()
        )
        assert address
        yield address[1]
        server.send_signal(signal.SIGINT)
        assert server.wait(120) == 0
    finally:
        server.kill()
    assert not [*home.iterdir()] and not [*temporary.iterdir()]


@contextmanager
def opened(address: str, width: int = 1280) -> Iterator[Any]:
    """The page in Chromium."""
    with pytest.importorskip("playwright.sync_api").sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = browser.new_page(viewport={"width": width, "height": 900})
        page.set_default_timeout(60_000)
        page.goto(address)
        yield page
        browser.close()
