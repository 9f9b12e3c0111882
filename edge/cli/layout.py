"""Rows for a person: words stay whole, a number keeps its unit, and what is piped is never broken."""

from __future__ import annotations

import dataclasses
import re
import textwrap
from collections.abc import Sequence

from rich.console import Console
from rich.text import Text

GAP = 2
LEAST_TEXT = 24
"""Characters that the last column gets at least, however narrow the terminal."""
UNBROKEN = 10_000
_NO_BREAK = "\N{NO-BREAK SPACE}"
_IN_QUANTITY = re.compile(r"(?<=±) | (?=(?:±|[fpnuµmkMG]?(?:V|A|s|C|J|ohm|Ω)|min|h|%)(?![\w/]))")


@dataclasses.dataclass(frozen=True, slots=True)
class Row:
    """Cells of one line; ``styles`` belong to the first cells, the last cell may wrap."""

    cells: tuple[str, ...]
    styles: tuple[str, ...] = ()


def wrap(text: str, width: int) -> list[str]:
    """Return ``text`` in lines of at most ``width``; a path or a quantity is never divided, a line break is kept."""
    lines = []
    for paragraph in text.split("\n"):
        whole = _IN_QUANTITY.sub(_NO_BREAK, paragraph)
        indent = " " * (len(whole) - len(whole.lstrip(" ")))
        lines += textwrap.wrap(
            whole, width, subsequent_indent=indent * 2, break_long_words=False, break_on_hyphens=False
        ) or [""]
    return [line.replace(_NO_BREAK, " ") for line in lines]


def grid(rows: Sequence[Row], width: int) -> Text:
    """Return rows in columns, the last one wrapped under itself."""
    columns = max((len(row.cells) for row in rows), default=1)
    widths = [max(len(row.cells[i]) for row in rows) for i in range(columns - 1)]
    indent = sum(widths) + GAP * len(widths)
    result = Text()
    for number, row in enumerate(rows):
        styles = (*row.styles, *[""] * columns)
        result.append("\n" if number else "")
        for cell, style, cell_width in zip(row.cells, styles, widths, strict=False):
            result.append(cell, style).append(" " * (cell_width - len(cell) + GAP))
        lines = wrap(row.cells[-1], max(width - indent, LEAST_TEXT))
        result.append(("\n" + " " * indent).join(lines), styles[columns - 1])
    return result


def width_of(console: Console) -> int:
    """Return where to wrap: at a terminal's edge, and nowhere in a pipe or a file."""
    return console.width if console.is_terminal else UNBROKEN


def say(console: Console, text: str, style: str = "") -> None:
    """Print a sentence, wrapped between words on a terminal, one line elsewhere."""
    console.print(Text("\n".join(wrap(text, width_of(console))), style))
