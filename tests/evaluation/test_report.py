"""The report is one page."""

import html
import html.parser
import re
from pathlib import Path

from pipelines.evaluation.report import AudioPlayers, render
from pipelines.evaluation.table import Metric, ScoredSet, Unavailable


def test_the_report_is_one_well_formed_page(report: Path) -> None:
    text = report.read_text()
    images = re.findall(r'src="([^"]{30})', text)
    assert len(images) == 7  # samples, reconstructions, neighbours, codes, loss, PSNR, nats
    assert all(image.startswith("data:image/png;base64,") for image in images)
    assert (
        "http" not in re.sub(r"<pre>.*</pre>", "", text, flags=re.DOTALL) and "<script" not in text
    )
    assert "training images nearest" in text and "In the training images" in text

    class Nesting(html.parser.HTMLParser):
        open_tags: list[str] = []  # noqa: RUF012

        def handle_starttag(self, tag: str, attrs: object) -> None:
            if tag not in ("meta", "img"):
                self.open_tags.append(tag)

        def handle_endtag(self, tag: str) -> None:
            assert self.open_tags.pop() == tag

    checker = Nesting()
    checker.feed(text)
    assert not checker.open_tags


def test_what_a_page_is_told_is_text_and_no_markup() -> None:
    metrics = {"x'": Unavailable('"<b>"'), "y": Metric(value=1.0, extractor="<j>", note="<k>")}
    rows = [ScoredSet("<a>", "a & b", metrics)]
    players = AudioPlayers("<c>", "<d>", {"<e>": b"wav"})
    page = render("<f>", "<l>", rows, [players], {"<g>": "<h>"}, ["<i>"])
    text = html.unescape(re.sub(r"<[^>]*>", "", page.split("</style>")[1]))
    for told in ("a & b", "x'", '"<b>"', *(f"<{letter}>" for letter in "acdefghijkl")):
        assert told in text
    assert "d2F2" in page


def test_what_could_not_be_computed_is_named_once_with_its_reason() -> None:
    missing = Unavailable("set whisper")
    rows = [ScoredSet(name, "", {"WER": missing, "PSNR": Metric(value=1.0)}) for name in "ab"]
    page = render("title", "words", rows, [], {})
    assert page.count("set whisper") == 1 and "what they need (1)" in page
