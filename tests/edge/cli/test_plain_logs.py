"""The log as a person reads it in the terminal of ``tipguard serve``."""

from __future__ import annotations

import errno
import io
from typing import TextIO, cast

import pytest
import structlog

from edge.logs import MAX_VALUE, Forgiving, PlainRenderer, value_in_words


def line(*, colours: bool = False, **event: object) -> str:
    return PlainRenderer(colours=colours)(structlog.get_logger(), "info", {"timestamp": "16:30:01", **event})


def test_a_line_in_words() -> None:
    said = line(level="info", event="stopped", by="SIGTERM", output_verified_off=True, rig="bench-1", why=None)
    assert said == "16:30:01 stopped (by SIGTERM, output verified off yes)"


def test_what_is_bad_says_so() -> None:
    assert line(level="warning", event="link lost") == "16:30:01 warning: link lost"
    assert line(level="error", event="x", colours=True) == "16:30:01 \x1b[31merror\x1b[0m: x"


def test_a_map_is_no_dump() -> None:
    cut = {"decided_ns": 63117799357, "verified": True, "rounds": 1, "cause": "died (signal 9, Killed)"}
    said = line(
        level="info",
        event="started tripped",
        previous={"state": "tripped", "verdict": "OPERATOR", "epoch": 12100830359207885174, "keeper_cut": cut},
    )
    assert said == (
        "16:30:01 started tripped (previous (state tripped, verdict OPERATOR, "
        "keeper cut (verified yes, rounds 1, cause died (signal 9, Killed))))"
    )


def test_values() -> None:
    assert value_in_words(-0.0) == "0"
    assert value_in_words(1.25e-7) == "1.25e-07"
    assert value_in_words("two\nlines") == "two lines"
    assert len(value_in_words("x" * 500)) == MAX_VALUE


def test_a_traceback_stands_below() -> None:
    assert (
        line(level="error", event="broke", exception="Traceback\n  here") == "16:30:01 error: broke\nTraceback\n  here"
    )


class _FullDisk(io.StringIO):
    def write(self, text: str) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    def flush(self) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")


def test_a_log_that_cannot_be_written_ends_nothing() -> None:
    logger = structlog.PrintLoggerFactory(cast("TextIO", Forgiving(_FullDisk())))()
    logger.msg("nobody reads this")
    # The removal test: without the wrapper whoever logs gets the disk's error.
    with pytest.raises(OSError, match="No space left"):
        structlog.PrintLoggerFactory(_FullDisk())().msg("nobody reads this")


def test_what_can_be_written_is() -> None:
    stream = io.StringIO()
    structlog.PrintLoggerFactory(cast("TextIO", Forgiving(stream)))().msg("said")
    assert stream.getvalue() == "said\n"
