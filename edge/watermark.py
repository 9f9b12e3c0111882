"""What a store has committed, as it tells the rig: topic ``tipguard/<rig>/watermark/<store>``, JSON, retained.

::

    {"v": 1, "store": "lab", "generation": "<16 hex>", "rig": "rig-1", "t_utc": "...",
     "marks": [{"epoch": "<16 hex>", "stream": "samples", "contiguous": 123, "top": 200, "holes": [[130, 135]]}]}

Every frame below ``contiguous`` is committed; ``top`` is the highest that is, -1 when none; ``holes`` are the ranges
in between that are missing, both ends inclusive, ascending, at most 64: a store that has more cuts ``top`` to just
below the next one. ``generation`` is drawn when a store is made or restored: with a new one, what it said before is
void.
"""

from __future__ import annotations

import json
import re
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from edge.errors import RemoteError
from edge.frames import STREAM_OF_KIND, hex16

VERSION: Final = 1
MAX_BYTES: Final = 1 << 20
MAX_MARKS: Final = 256
MAX_HOLES: Final = 64
STREAMS: Final = frozenset(STREAM_OF_KIND.values())

_MAX_SEQ: Final = 2**63 - 1
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,31}")
_HEX16: Final = re.compile(r"[0-9a-f]{16}")
_MAX_TIME_TEXT: Final = 40


class WatermarkError(RemoteError, ValueError):
    """A store's document does not follow the schema; nothing of it may be used."""


@dataclass(frozen=True, slots=True)
class Mark:
    """What a store has of one stream of one epoch."""

    epoch: int
    stream: str
    contiguous: int
    """Every frame below it is committed."""
    top: int
    """The highest committed frame; -1: none."""
    holes: tuple[tuple[int, int], ...] = ()
    """Missing between ``contiguous`` and ``top``: (from, to), both inclusive."""

    def covers(self, seq: int) -> bool:
        """Return True when the frame is committed."""
        if seq < self.contiguous:
            return True
        if seq > self.top:
            return False
        at = bisect_right(self.holes, (seq, _MAX_SEQ))
        return at == 0 or seq > self.holes[at - 1][1]

    def covered(self) -> list[tuple[int, int]]:
        """Return the committed ranges, both ends inclusive, ascending."""
        ranges, begin = [], 0
        for first, last in self.holes:
            if first > begin:
                ranges.append((begin, first - 1))
            begin = last + 1
        end = max(self.top, self.contiguous - 1)
        if end >= begin:
            ranges.append((begin, end))
        return ranges


@dataclass(frozen=True, slots=True)
class Watermark:
    """One document: what one store says of one rig."""

    store: str
    generation: str
    rig: str
    marks: tuple[Mark, ...]


def topic(rig: str, store: str) -> str:
    """Return where a store publishes what it has of a rig."""
    return f"tipguard/{rig}/watermark/{store}"


def encode(watermark: Watermark, t_utc: str) -> bytes:
    """Return the document; ``t_utc``: ISO 8601, for people. Raises :class:`WatermarkError` for what no reader takes."""
    document = {
        "v": VERSION,
        "store": watermark.store,
        "generation": watermark.generation,
        "rig": watermark.rig,
        "t_utc": t_utc,
        "marks": [
            {
                "epoch": hex16(mark.epoch),
                "stream": mark.stream,
                "contiguous": mark.contiguous,
                "top": mark.top,
                "holes": [list(hole) for hole in mark.holes],
            }
            for mark in watermark.marks
        ],
    }
    _check(document)
    return json.dumps(document, separators=(",", ":"), allow_nan=False).encode()


def decode(payload: bytes) -> Watermark:
    """Decode and check one document. Raises :class:`WatermarkError`, and nothing else, saying what is wrong."""
    if len(payload) > MAX_BYTES:
        raise WatermarkError(f"watermark of {len(payload)} bytes, at most {MAX_BYTES}")
    try:
        document = json.loads(payload)
    except (ValueError, RecursionError) as error:
        raise WatermarkError(f"watermark is no JSON: {type(error).__name__}") from error
    if not isinstance(document, dict):
        raise WatermarkError(f"watermark: expected an object, found {type(document).__name__}")
    return _check(document)


def _check(document: Mapping[str, Any]) -> Watermark:
    if type(document.get("v")) is not int or document["v"] != VERSION:
        raise WatermarkError(f"watermark: v {str(document.get('v'))[:20]}, this program knows {VERSION}")
    time = document.get("t_utc")
    if not isinstance(time, str) or len(time) > _MAX_TIME_TEXT:
        raise WatermarkError("watermark: t_utc: expected a time as text")
    marks = document.get("marks")
    if not isinstance(marks, list) or len(marks) > MAX_MARKS:
        raise WatermarkError(f"watermark: marks: expected a list of at most {MAX_MARKS}")
    checked = tuple(_mark(mark) for mark in marks)
    if len({(mark.epoch, mark.stream) for mark in checked}) != len(checked):
        raise WatermarkError("watermark: marks: a stream of an epoch twice")
    return Watermark(
        store=_text(document, "store", _NAME),
        generation=_text(document, "generation", _HEX16),
        rig=_text(document, "rig", _NAME),
        marks=checked,
    )


def _text(fields: Mapping[str, Any], key: str, pattern: re.Pattern[str]) -> str:
    value = fields.get(key)
    if not isinstance(value, str) or not pattern.fullmatch(value):
        raise WatermarkError(f"watermark: {key}: {str(value)[:40]!r} does not match {pattern.pattern}")
    return value


def _number(value: object, what: str, low: int) -> int:
    # bool is an int to isinstance, and no number to us.
    if type(value) is not int or not low <= value <= _MAX_SEQ:
        raise WatermarkError(f"watermark: {what}: expected an integer from {low} to {_MAX_SEQ}")
    return value


def _mark(mark: object) -> Mark:
    if not isinstance(mark, dict):
        raise WatermarkError("watermark: marks: expected objects")
    stream, listed = mark.get("stream"), mark.get("holes")
    if not isinstance(stream, str) or stream not in STREAMS:
        raise WatermarkError(f"watermark: stream: {str(stream)[:40]!r}; one of {', '.join(sorted(STREAMS))}")
    contiguous = _number(mark.get("contiguous"), "contiguous", 0)
    top = _number(mark.get("top"), "top", -1)
    if top < contiguous - 1:
        raise WatermarkError(f"watermark: top {top} below contiguous {contiguous}")
    if not isinstance(listed, list) or len(listed) > MAX_HOLES:
        raise WatermarkError(f"watermark: holes: expected a list of at most {MAX_HOLES}")
    holes = []
    least = contiguous
    for hole in listed:
        if not isinstance(hole, list) or len(hole) != 2:
            raise WatermarkError("watermark: holes: expected pairs")
        first, last = _number(hole[0], "holes", least), _number(hole[1], "holes", least)
        if not first <= last < top:
            raise WatermarkError(f"watermark: hole {first}..{last} is none below top {top}")
        holes.append((first, last))
        # Two that touch are one: a gap between them is what makes them two.
        least = last + 2
    return Mark(int(_text(mark, "epoch", _HEX16), 16), stream, contiguous, top, tuple(holes))
