"""The tape: what came into a worker and what left it, in order, so that the same code can live through it again.

A worker's decisions depend on the bytes its ports gave, on what it read from the clock, and on a few things from
outside (verbs, random numbers, faults of the host). All of it is an *entry*; :mod:`edge.instruments.recording` makes
them, :mod:`edge.controller.recorder` writes them into the ring, ``hil.replay`` plays them back.

In memory an entry is made as cheaply as Python can: the clock's reading is the integer itself, a turn of the loop is
its complement, everything else a tuple that begins with a :class:`Code`. On the ring and on disk a stretch of entries
is one msgpack array (docs/data.md, "The flight record"): its first element is a time in ns, each further one

* an integer d >= 0: the clock was read, d ns after the entry before;
* an integer d < 0: a turn of the loop began, -1 - d ns after the entry before;
* an array ``[code, ...]``; for codes below 16 its second element is the time since the entry before.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from typing import Any, Final

import msgpack

from edge.errors import FlightError

VERSION: Final = 1
UNTIMED: Final = 16


class Code(enum.IntEnum):
    """First element of an entry that is no number. Values are frozen. Below 16 the second element is a time."""

    IN = 0
    """(IN, t, port, bytes): what a read gave; t is behind it."""
    OUT = 1
    """(OUT, t, port, bytes) or (OUT, t, port, bytes, taken): what was written; t is behind it."""
    LOST_IN = 2
    """(LOST_IN, t, port, errno, text): a read found the link gone."""
    LOST_OUT = 3
    """(LOST_OUT, t, port, errno, text): a write found the link gone."""
    VERB = 4
    """(VERB, t, name, arguments): somebody asked for something."""
    GAP = 5
    """(GAP, t, entries, from_ns): so many entries from ``from_ns`` to t were not kept, the ring being needed."""
    DRAW = 16
    """(DRAW, what, value): a random number."""
    HOST = 17
    """(HOST, text): the host's watch found a fault."""
    RING = 18
    """(RING, used): share of the ring in use, where it was high enough to matter."""


IN: Final = int(Code.IN)
OUT: Final = int(Code.OUT)
LOST_IN: Final = int(Code.LOST_IN)
LOST_OUT: Final = int(Code.LOST_OUT)
VERB: Final = int(Code.VERB)
GAP: Final = int(Code.GAP)
DRAW: Final = int(Code.DRAW)
HOST: Final = int(Code.HOST)
RING: Final = int(Code.RING)

SMU: Final = 0
STAGE: Final = 1
FRONTEND: Final = 2
PORTS: Final = ("smu", "stage", "frontend")

Entry = int | tuple[Any, ...]
"""A clock's reading t, a turn's ~t, or a tuple that begins with a :class:`Code`."""


# What follows the code, and the time where there is one; an OUT may end with how much was taken.
_SHAPES: Final[dict[int, tuple[type | tuple[type, ...], ...]]] = {
    IN: (int, bytes),
    OUT: (int, bytes),
    LOST_IN: (int, (int, type(None)), str),
    LOST_OUT: (int, (int, type(None)), str),
    VERB: (str, dict),
    GAP: (int, int),
    DRAW: (str, int),
    HOST: (str,),
    RING: ((int, float),),
}


def _has_shape(code: int, rest: Sequence[object]) -> bool:
    """Tell whether what follows a code is what should; a code that a newer program wrote may be anything."""
    shape = _SHAPES.get(code)
    if shape is None:
        return True
    if code == OUT and len(rest) == len(shape) + 1:
        shape = (*shape, int)
    return len(rest) == len(shape) and all(isinstance(value, kind) for value, kind in zip(rest, shape, strict=True))


def time_of(entry: Entry) -> int | None:
    """Return an entry's time in ns; None for the few that have none."""
    if isinstance(entry, int):
        return entry if entry >= 0 else ~entry
    return int(entry[1]) if entry[0] < UNTIMED else None


def pack(entries: Sequence[Entry]) -> bytes:
    """Return a stretch of entries as one msgpack array."""
    first = next((t for entry in entries if (t := time_of(entry)) is not None), 0)
    before = first
    packed: list[Any] = [first]
    append = packed.append
    for entry in entries:
        if isinstance(entry, int):
            if entry >= 0:
                # A clock that went back (it never does) must not turn a reading into a turn.
                append(entry - before if entry >= before else 0)
                before = entry
            else:
                t_ns = ~entry
                append(~(t_ns - before) if t_ns >= before else -1)
                before = t_ns
        elif entry[0] < UNTIMED:
            code, t_ns, *rest = entry
            append((code, t_ns - before, *rest))
            before = t_ns
        else:
            append(entry)
    return bytes(msgpack.packb(packed))


def unpack(payload: bytes) -> list[Entry]:
    """Return the entries of a stretch. Raises :class:`FlightError` for what is none."""
    try:
        items = msgpack.unpackb(payload, use_list=False)
    except (ValueError, msgpack.UnpackException) as error:
        raise FlightError(f"a stretch of the tape is no msgpack array: {error}") from error
    if not isinstance(items, tuple) or not items or type(items[0]) is not int:
        raise FlightError("a stretch of the tape does not begin with a time")
    before, *rest = items
    entries: list[Entry] = []
    for item in rest:
        match item:
            case bool():
                raise FlightError(f"an entry of the tape is {item!r}")
            case int():
                before += item if item >= 0 else ~item
                entries.append(before if item >= 0 else ~before)
            case (int() as code, int() as since, *more) if code < UNTIMED and _has_shape(code, more):
                before += since
                entries.append((code, before, *more))
            case (int() as code, *more) if code >= UNTIMED and _has_shape(code, more):
                entries.append(item)
            case _:
                raise FlightError(f"an entry of the tape is {item!r:.60}")
    return entries
