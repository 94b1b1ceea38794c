"""The page by clicks in a browser."""

import csv
import re
from pathlib import Path

import pytest
from helpers.browser import in_browser, opened, served, write_clip, write_image
from helpers.pipelines import image_pipeline, speech_pipeline

pytest.importorskip("gradio", reason="the page needs gradio, the extra [demo]")


@pytest.mark.slow
@in_browser
def test_images_by_clicks(tmp_path: Path) -> None:
    image_pipeline(order="random").save_pretrained(tmp_path / "pipeline")
    other = tmp_path / "pipeline" / "tokenizer"
    image = write_image(tmp_path / "image.png")
    (tmp_path / "wrong.png").write_text("no image")
    with (
        served(tmp_path, tmp_path / "pipeline", f"compare={other}") as address,
        opened(address) as page,
    ):
        page.click("#draw")
        page.wait_for_selector("#samples img")
        page.get_by_role("tab", name="Reconstruct").click()
        page.set_input_files("#upload input[type=file]", image)
        page.wait_for_selector("#reconstruction img")
        assert re.search(r"PSNR -?\d+\.\d\d dB from 16 codes", page.inner_text("#psnr"))
        page.get_by_role("tab", name="Keep and draw").click()
        page.click("#complete")
        page.wait_for_selector("text=there is no image yet: upload one, or draw one")
        page.click("#own")
        page.wait_for_selector("#kept img")
        before = page.get_attribute("#kept img", "src")
        page.click("#kept img", position={"x": 5, "y": 5})
        page.wait_for_function(
            "before => document.querySelector('#kept img').src !== before", arg=before
        )
        page.click("#complete")
        page.wait_for_selector("#completed img")
        page.get_by_role("tab", name="Compare").click()
        page.set_input_files("#compared input[type=file]", image)
        page.wait_for_selector("#gallery img >> nth=2")
        assert str(other) in page.inner_text("#gallery")


@pytest.mark.slow
@in_browser
def test_speech_by_clicks_on_a_phone(tmp_path: Path) -> None:
    speech_pipeline().save_pretrained(tmp_path / "pipeline")
    clip, other = write_clip(tmp_path / "clip.wav"), tmp_path / "pipeline" / "tokenizer"
    options = (f"compare={other}", f"results={tmp_path / 'results'}")
    with served(tmp_path, tmp_path / "pipeline", *options) as address, opened(address, 390) as page:
        page.click("#draw")
        page.wait_for_selector(
            "#sample audio, #sample canvas, #sample .waveform-container", state="attached"
        )
        assert page.evaluate("document.documentElement.scrollWidth") <= 390

        def tab(name: str) -> None:
            if not page.get_by_role("tab", name=name).is_visible():
                page.click(".overflow-menu > button")
                page.locator(".overflow-dropdown button", has_text=name).click()
            else:
                page.get_by_role("tab", name=name).click()

        tab("Reconstruct")
        page.click("#upload [aria-label='Record audio']")
        page.click("#upload .record-button")
        page.wait_for_timeout(1500)
        page.click("#upload .stop-button:visible")
        page.wait_for_selector("#rate:has-text('kbit/s')")
        tab("Listen blind")
        page.fill("#listener textarea, #listener input", "me")
        page.set_input_files("#clip input[type=file]", clip)
        page.click("#begin")
        page.get_by_label("number input for Rating of sound 1").wait_for()
        loaded = "[...document.querySelectorAll('audio')].filter(a => a.duration > 0.1).length >= 5"
        page.wait_for_function(loaded)  # the reference and four sounds
        page.get_by_label("number input for Rating of sound 2").fill("80")
        page.click("#save")
        page.wait_for_selector("#said:has-text('sound 4 was')")
    rows = list(csv.DictReader((tmp_path / "results/listening.csv").open()))
    assert len(rows) == 4 and {row["listener"] for row in rows} == {"me"}
    assert {row["system"] for row in rows} == {
        "hidden reference",
        "anchor 2000 Hz",
        "this pipeline's",
        str(other),
    }
    assert [row["rating"] for row in rows] == ["50", "80", "50", "50"]
