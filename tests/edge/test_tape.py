"""Entries there and back: what is read is what was recorded, whatever it was."""

from __future__ import annotations

from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.errors import FlightError
from edge.tape import Code, Entry, pack, time_of, unpack

STEP = st.integers(0, 10**12)


@st.composite
def tapes(draw: st.DrawFn) -> list[Entry]:
    """Draw entries whose times never go back, as a clock's do not."""
    t_ns = draw(st.integers(0, 10**17))
    entries: list[Entry] = []
    for _ in range(draw(st.integers(0, 30))):
        t_ns += draw(STEP)
        kind = draw(st.sampled_from(["reading", "turn", *Code]))
        data = draw(st.binary(max_size=20))
        made: dict[Any, Entry] = {
            "reading": t_ns,
            "turn": ~t_ns,
            Code.IN: (0, t_ns, draw(st.integers(0, 1)), data),
            Code.OUT: (1, t_ns, 0, data, len(data) // 2),
            Code.LOST_IN: (2, t_ns, 1, None, "gone"),
            Code.LOST_OUT: (3, t_ns, 0, 5, "gone"),
            Code.VERB: (4, t_ns, "run", {"by": "somebody", "parameters": {"to_v": -0.5, "points": (1, 2)}}),
            Code.GAP: (5, t_ns, 17, 3),
            Code.DRAW: (16, "tag", draw(st.integers(0, 2**64 - 1))),
            Code.HOST: (17, "slept"),
            Code.RING: (18, 0.75),
        }
        entries.append(made[kind])
    return entries


@given(tapes())
def test_what_is_read_is_what_was_recorded(entries: list[Entry]) -> None:
    assert unpack(pack(entries)) == entries


def test_anybody_with_msgpack_can_read_it() -> None:
    packed = msgpack.unpackb(pack([1000, ~1020, (0, 1050, 0, b"0\r"), 1051, (1, 1070, 0, b":READ?\n")]))
    assert packed == [1000, 0, -21, [0, 30, 0, b"0\r"], 1, [1, 19, 0, b":READ?\n"]]


def test_a_clock_that_went_back_makes_no_turn_of_a_reading() -> None:
    assert unpack(pack([1000, 900, ~800])) == [1000, 1000, ~1000]


def test_times() -> None:
    assert [time_of(entry) for entry in (5, ~5, (0, 6, 0, b""), (16, "tag", 3))] == [5, 5, 6, None]


@pytest.mark.parametrize(
    "payload",
    [b"", b"\xc1", b"\x93\x01", msgpack.packb({"a": 1}), msgpack.packb([]), msgpack.packb(["a"]), b"\x80" * 3]
    + [
        msgpack.packb([1, entry])
        for entry in (
            True,
            1.5,
            "x",
            [],
            ["a", 1],
            [0],
            [0, "t"],
            [0, 1, 0, "text"],
            [4, 1, "run"],
            [1, 1, 0, b"x", b"y"],
            [18],
        )
    ],
)
def test_what_is_no_tape_is_refused(payload: bytes) -> None:
    with pytest.raises(FlightError):
        unpack(payload)


@given(st.binary(max_size=200))
def test_garbage_is_refused_or_read_and_never_anything_else(payload: bytes) -> None:
    try:
        entries = unpack(payload)
    except FlightError:
        return
    assert isinstance(entries, list)
