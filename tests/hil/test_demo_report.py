"""The report: one file, valid, nothing fetched from anywhere, nothing in it that was not escaped."""

from __future__ import annotations

import base64
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from matplotlib.figure import Figure

from edge.analysis.plots import save_png
from hil.demo.report import MQTT_SOURCE, TRUTH_SOURCE, Report, Row, Section, page, write_report
from hil.errors import BenchFaultError

VOID = {"meta", "link", "img", "br", "hr", "input"}
NASTY = "<script>alert('&\"')</script>"


class Checker(HTMLParser):
    """Collects what is in a page, and holds every element to be closed where it was opened."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len({name for name, _ in attrs}) == len(attrs)
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.words.append(data.strip())

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture(scope="module")
def png(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pictures") / "dose.png"
    save_png(Figure(figsize=(0.4, 0.2), dpi=100), path)
    return path


def report(png: Path, *, text: str = "A & B") -> Report:
    row = Row(text, "3.8 µC", TRUTH_SOURCE)
    section = Section(heading=text, paragraphs=(text, "second"), picture=png, alt=f'a "dose" {text}', table=(row,))
    return Report(
        title=text,
        lead=(text,),
        key_numbers=(Row("frames missing", "0"),),
        sections=(section, Section(heading="words only", paragraphs=("no picture",), source=f"{text}, both")),
        summary={"trigger_map": {"gb": {"n": 8, "median_v": -0.12, "note": text}}},
        footer=text,
    )


def test_a_page_has_what_it_was_given_in_order(png: Path, tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    write_report(path, report(png))
    text = path.read_text(encoding="utf-8")
    assert text.startswith("<!DOCTYPE html>")
    seen = Checker(text)
    assert seen.all("html") == [{"lang": "en"}]
    assert {"charset": "utf-8"} in seen.all("meta")
    assert any(meta.get("name") == "viewport" for meta in seen.all("meta"))
    words = "\n".join(word for word in seen.words if word)
    assert [word for word in seen.words if word in ("A & B", "second", "words only", "no picture", "All numbers")] == [
        *("A & B",) * 5,
        "second",
        "A & B",
        "words only",
        "no picture",
        "All numbers",
        "A & B",
    ]
    for part in ("3.8 µC", TRUTH_SOURCE, f"Where it comes from: {MQTT_SOURCE}.", '"median_v": -0.12', "A & B, both."):
        assert part in words
    (picture,) = seen.all("img")
    assert picture["alt"] == 'a "dose" A & B'
    assert (picture["width"], picture["height"]) == ("40", "20")
    kind, _, data = str(picture["src"]).partition(",")
    assert kind == "data:image/png;base64"
    assert base64.b64decode(data) == png.read_bytes()


def test_nothing_is_fetched_and_no_program_is_in_it(png: Path) -> None:
    text = page(report(png))
    assert not re.search(
        r"https?:|//[a-z]|@import|url\(", text.replace(base64.b64encode(png.read_bytes()).decode(), "")
    )
    seen = Checker(text)
    for _, attributes in seen.tags:
        for name in ("src", "href"):
            assert (attributes.get(name) or "data:").startswith("data:")
        assert not any(name.startswith("on") for name in attributes)
    assert "script" not in [tag for tag, _ in seen.tags]
    (policy,) = (meta for meta in seen.all("meta") if meta.get("http-equiv") == "Content-Security-Policy")
    assert str(policy["content"]).startswith("default-src 'none'; img-src data:;")


def test_everything_is_escaped(png: Path) -> None:
    text = page(report(png, text=NASTY))
    assert "<script" not in text
    assert "alert('" not in text
    seen = Checker(text)
    # Title twice, lead, heading, paragraph, table, footer.
    assert seen.words.count(NASTY) == 7
    assert seen.all("img")[0]["alt"] == f'a "dose" {NASTY}'


def test_an_empty_report_is_a_page() -> None:
    assert Checker(page(Report(title="nothing"))).words.count("nothing") == 2


def test_a_picture_needs_words(png: Path) -> None:
    with pytest.raises(BenchFaultError, match=r"dose\.png: .*alt"):
        page(Report(title="t", sections=(Section(heading="h", picture=png, alt=" "),)))


def test_only_a_png_is_taken(tmp_path: Path) -> None:
    path = tmp_path / "picture.png"
    path.write_text("<svg/>")
    with pytest.raises(BenchFaultError, match="not a PNG"):
        page(Report(title="t", sections=(Section(heading="h", picture=path, alt="words"),)))


def test_a_missing_picture_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"gone\.png"):
        page(Report(title="t", sections=(Section(heading="h", picture=tmp_path / "gone.png", alt="words"),)))
