"""The demo's report: one HTML file that needs nothing else, readable on a phone and on paper.

Pictures are in it as data (:mod:`hil.html_page`).
"""

from __future__ import annotations

import base64
import html
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from hil.errors import BenchFaultError
from hil.html_page import shell

MQTT_SOURCE: Final = "received over MQTT"
TRUTH_SOURCE: Final = "twin's truth record, which no real rig has"
_PNG: Final = b"\x89PNG\r\n\x1a\n"

_CSS: Final = """
html { -webkit-text-size-adjust: 100%; }
body { margin: 0 auto; padding: 1rem; max-width: 62rem; font: 1rem/1.5 system-ui, sans-serif; color: #1a1a1a;
  background: #fff; }
h1 { font-size: 1.6rem; line-height: 1.2; margin: 0.5rem 0; }
h2 { font-size: 1.2rem; line-height: 1.3; margin: 0 0 0.4rem; }
p { margin: 0.4rem 0; max-width: 46rem; }
.lead { font-size: 1.1rem; }
section { margin: 2rem 0; padding-top: 1rem; border-top: 1px solid #d0d0d0; }
figure { margin: 0.8rem 0; }
.picture { overflow-x: auto; }
img { display: block; width: 100%; height: auto; }
figcaption, .source, footer { color: #595959; font-size: 0.875rem; }
.table { overflow-x: auto; }
table { border-collapse: collapse; margin: 0.8rem 0; }
th, td { padding: 0.3rem 1rem 0.3rem 0; text-align: left; vertical-align: top; border-bottom: 1px solid #e2e2e2; }
td.value { font-weight: 600; font-variant-numeric: tabular-nums; }
thead th { font-size: 0.875rem; color: #595959; font-weight: 600; }
tbody th { font-weight: 400; }
pre { overflow-x: auto; padding: 0.8rem; background: #f4f4f4; font-size: 0.8rem; line-height: 1.35; }
@media (max-width: 40rem) { .picture img { width: 45rem; max-width: none; } .hint { display: block; } }
@media (min-width: 40.01rem) { .hint { display: none; } }
@media print {
  body { max-width: none; padding: 0; font-size: 10pt; }
  section, figure, table { break-inside: avoid; }
  h2, thead { break-after: avoid; }
  .picture, .table, pre { overflow: visible; }
  .picture img { width: 100%; }
  pre { white-space: pre-wrap; }
  .hint { display: none; }
}
"""


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a table: what it is, its value with unit, and who says so."""

    label: str
    value: str
    source: str = MQTT_SOURCE


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """A heading, paragraphs, at most one picture, at most one table; all as plain text, escaped here.

    ``picture``: a PNG file; ``alt`` says in words what is on it and must not be empty then. ``source``: where what it
    shows comes from, below the picture (or the paragraphs).
    """

    heading: str
    paragraphs: tuple[str, ...] = ()
    picture: Path | None = None
    alt: str = ""
    source: str = MQTT_SOURCE
    table: tuple[Row, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What the page says, from top to bottom. ``summary``: as in ``summary.json``; ``footer``: how it was made."""

    title: str
    lead: tuple[str, ...] = ()
    key_numbers: tuple[Row, ...] = ()
    sections: tuple[Section, ...] = ()
    summary: Mapping[str, Any] = field(default_factory=dict)
    footer: str = ""


def write_report(path: Path, report: Report) -> None:
    """Write the page. Raises OSError when a picture cannot be read or the file not written; else as `page`."""
    path.write_text(page(report), encoding="utf-8")


def page(report: Report) -> str:
    """Return the page. Raises BenchFaultError for a picture that is no PNG or has no words; OSError if unreadable."""
    return shell(report.title, _CSS, "\n".join(_body(report)))


def _text(text: str) -> str:
    return html.escape(text, quote=True)


def _paragraphs(texts: Iterable[str], kind: str = "") -> list[str]:
    opening = f'<p class="{kind}">' if kind else "<p>"
    return [f"{opening}{_text(text)}</p>" for text in texts]


def _body(report: Report) -> list[str]:
    lines = ["<header>", f"<h1>{_text(report.title)}</h1>", *_paragraphs(report.lead, "lead"), "</header>", "<main>"]
    lines += _table(report.key_numbers)
    for section in report.sections:
        lines += _section(section)
    if report.summary:
        numbers = json.dumps(report.summary, indent=2, ensure_ascii=False, default=str)
        lines += ["<section>", "<h2>All numbers</h2>", "<p>As in summary.json; SI units.</p>"]
        lines += [f"<details><summary>Show them</summary><pre>{_text(numbers)}</pre></details>", "</section>"]
    lines.append("</main>")
    if report.footer:
        lines.append(f"<footer>{_text(report.footer)}</footer>")
    return lines


def _section(section: Section) -> list[str]:
    lines = ["<section>", f"<h2>{_text(section.heading)}</h2>", *_paragraphs(section.paragraphs)]
    if section.picture is not None:
        lines += _picture(section.picture, section.alt, section.source)
    lines += _table(section.table)
    if section.picture is None and section.source and not section.table:
        lines += _paragraphs([_where_from(section.source)], "source")
    return [*lines, "</section>"]


def _where_from(source: str) -> str:
    return f"Where it comes from: {source}."


def _picture(path: Path, alt: str, source: str) -> list[str]:
    if not alt.strip():
        raise BenchFaultError(f"{path}: the report needs words for those who cannot see the picture (alt)")
    data = path.read_bytes()
    if not data.startswith(_PNG) or len(data) < 24:
        raise BenchFaultError(f"{path}: not a PNG picture; the report takes no other")
    # The size in pixels is in the first chunk; with it the page does not jump while it loads.
    width, height = (int.from_bytes(data[at : at + 4], "big") for at in (16, 20))
    encoded = base64.b64encode(data).decode("ascii")
    lines = ["<figure>", '<div class="picture" tabindex="0">']
    lines.append(
        f'<img src="data:image/png;base64,{encoded}" alt="{_text(alt)}" width="{width}" height="{height}">',
    )
    lines.append("</div>")
    hint = '<span class="hint">Swipe sideways to see all of it.</span>'
    lines.append(f"<figcaption>{hint}{_text(_where_from(source)) if source else ''}</figcaption>")
    return [*lines, "</figure>"]


def _table(rows: tuple[Row, ...]) -> list[str]:
    if not rows:
        return []
    lines = ['<div class="table" tabindex="0">', "<table>"]
    lines.append(
        '<thead><tr><th scope="col">What</th><th scope="col">Value</th><th scope="col">Source</th></tr></thead>'
    )
    lines.append("<tbody>")
    for row in rows:
        cells = f'<td class="value">{_text(row.value)}</td><td>{_text(row.source)}</td>'
        lines.append(f'<tr><th scope="row">{_text(row.label)}</th>{cells}</tr>')
    return [*lines, "</tbody>", "</table>", "</div>"]
