"""Sequence numbers as PostgreSQL's multiranges: text there, :class:`edge.store.contiguity.Coverage` here."""

from __future__ import annotations

import re
from typing import Final

from edge.store.backend import Key
from edge.store.contiguity import Coverage
from edge.watermark import MAX_HOLES, Mark

RANGES: Final = MAX_HOLES + 2
"""Ranges of a stream that a mark can make use of: one before the first hole, one behind each, one to cut at."""
_RANGE: Final = re.compile(r"\[(\d+),(\d+)\)")


def to_text(coverage: Coverage) -> str:
    """Return a coverage as the text of an int8multirange."""
    return "{" + ",".join(f"[{first},{last + 1})" for first, last in coverage) + "}"


def from_text(text: str) -> Coverage:
    """Return the ranges in a text of PostgreSQL's: a multirange, or an array of ranges."""
    return Coverage((int(first), int(end) - 1) for first, end in _RANGE.findall(text))


def row_mark(row: tuple[str, str, str, str]) -> tuple[Key, Mark]:
    """Return the key and mark in (rig, epoch, stream, ranges)."""
    key = Key(row[0], int(row[1], 16), row[2])
    return key, from_text(row[3]).mark(key)
