"""The screenshots of docs/demo.md: `python docs/studies/demo_screenshots.py PIPELINE OF-SPEECH CLIP.wav`, an image pipeline, one of speech, a clip.

Needs the extra [demo], playwright and Debian's Chromium. The pipelines of the screenshots were trained with `order: random`.
"""

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from page import HERE
from playwright.sync_api import Page, sync_playwright

from pipelines import ImageGenerationPipeline

OUT = HERE.parent / "demo"
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync"]
WIDTHS = {"desktop": (1280, 820), "phone": (390, 844)}


@contextmanager
def opened(pipeline: str, width: str, *options: str) -> Iterator[Page]:
    """The page of a pipeline in a window of a width."""
    command = [sys.executable, "-m", "pipelines", "demo", pipeline, *options]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    try:
        address = server.stdout.readline().split()[0]
        with sync_playwright() as driver:
            browser = driver.chromium.launch(executable_path="/usr/bin/chromium", args=FLAGS)
            x, y = WIDTHS[width]
            page = browser.new_page(viewport={"width": x, "height": y})
            page.set_default_timeout(120_000)
            page.goto(address)
            page.wait_for_selector("#draw")
            yield page
            browser.close()
    finally:
        server.terminate()
        server.wait()


def tab(page: Page, name: str) -> None:
    """Opens a tab, from the menu of those that don't fit where it is there."""
    found = page.get_by_role("tab", name=name)
    if found.count() and found.first.is_visible():
        found.first.click()
    else:
        page.click(".overflow-menu > button")
        page.locator(".overflow-dropdown button", has_text=name).click()


def save(page: Page, name: str) -> None:
    """Writes what the window shows."""
    page.mouse.move(0, 0)
    page.wait_for_timeout(1500)
    page.screenshot(path=OUT / f"{name}.png")


def images(pipeline: str, width: str, upload: str) -> None:
    """Samples, and an upload of which parts are kept."""
    with opened(pipeline, width) as page:
        page.click("#draw")
        page.wait_for_selector("#samples img")
        page.wait_for_timeout(8000)
        save(page, f"draw-{width}")
        tab(page, "Reconstruct")
        page.set_input_files("#upload input[type=file]", upload)
        page.wait_for_selector("#psnr:has-text('PSNR')")
        save(page, f"reconstruct-{width}")
        tab(page, "Keep and draw")
        page.click("#own")
        page.wait_for_selector("#kept img")
        page.click("#complete")
        page.wait_for_selector("#completed img")
        page.wait_for_timeout(8000)
        if width == "phone":
            page.locator("#kept").scroll_into_view_if_needed()
        save(page, f"keep-{width}")


def speech(pipeline: str, width: str, clip: str) -> None:
    """A sampled clip, and blind listening."""
    other = str(Path(pipeline) / "tokenizer")
    with (
        tempfile.TemporaryDirectory() as results,
        opened(pipeline, width, f"compare={other}", f"results={results}") as page,
    ):
        page.click("#draw")
        page.wait_for_selector("#sample .waveform-container, #sample audio", state="attached")
        page.wait_for_timeout(5000)
        page.evaluate("window.scrollTo(0, 0)")
        save(page, f"speech-{width}")
        tab(page, "Listen blind")
        page.fill("#listener textarea, #listener input", "me")
        page.set_input_files("#clip input[type=file]", clip)
        page.wait_for_timeout(2000)
        page.click("#begin")
        page.wait_for_timeout(5000)
        page.locator("#begin").evaluate("button => button.scrollIntoView()")
        save(page, f"listen-{width}")


if __name__ == "__main__":
    pipeline, of_speech, clip = sys.argv[1:]
    OUT.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        upload = str(Path(folder) / "upload.png")
        drawn = ImageGenerationPipeline.from_pretrained(pipeline)(seeds=[3])
        drawn.images[0].resize((64, 64)).save(upload)
        for width in WIDTHS:
            images(pipeline, width, upload)
            speech(of_speech, width, clip)
