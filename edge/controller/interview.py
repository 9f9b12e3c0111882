"""Timing an instrument with its output off: how long it takes to answer, to set, and to come back from an abort.

Nothing here changes a setting: values are set that are in force already. Every time is from the write of a message to
the arrival of its reply's last byte, on the injected clock, less the time its bytes take on the wire.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from typing import Any, Final

from edge.clock import Clock
from edge.errors import InstrumentError, LinkLostError, ReplyTimeoutError
from edge.instruments.link import Link

TIMEOUT_S: Final = 1.0
RAW_S: Final = 0.1
"""How long to wait for the rest of a reply whose bytes are looked at one by one."""
TRIES: Final = 3
PAUSES_S: Final = (0.0, 0.002, 0.005, 0.010, 0.020)
"""Waits behind an abort that are tried, until what follows it is heard."""
TERMINATORS: Final = {b"\r": "CR", b"\n": "LF", b"\r\n": "CRLF", b"\n\r": "LFCR"}
_ASK: Final = b"*ESE?\n"
_SETS: Final = 4
_SET: Final = b"*ESE 0;" * _SETS + _ASK
_LEVEL: Final = b":SOUR:VOLT 0.0000;:SOUR:VOLT?\n"
_OFF: Final = b":OUTP OFF;:OUTP?\n"
_NEXT: Final = b"\n*ESE?\n"
"""A newline first, as in a cut: it ends whatever half a command stood there."""
SHORTEST_S: Final = 0.0005
"""An instrument that is busy behind an abort for less than its next command is on the wire, and this, is not busy."""


def summary(times_s: Sequence[float]) -> dict[str, float | int]:
    """Return ``{p50, p99, max, n}`` of at least one time, in s; quantiles by nearest rank, never below 0."""
    ordered = sorted(max(0.0, time_s) for time_s in times_s)
    if not ordered:
        raise InstrumentError("nothing was measured, so there is nothing to sum up")
    n = len(ordered)
    p50, p99 = (ordered[math.ceil(part * n) - 1] for part in (0.5, 0.99))
    return {"p50": p50, "p99": p99, "max": ordered[-1], "n": n}


async def hold(link: Link, abort: bytes, times: int, clock: Clock) -> dict[str, Any]:
    """Ask everything ``times`` times. The caller holds the line, the output is off, the source is a voltage.

    Returns ``terminator``; ``query_s``, ``set_s``, ``level_s``, ``output_s`` (processing of a query, a plain setting,
    a level, an output command) and ``abort_s`` (abort to the next command being executed), each as :func:`summary`;
    ``abort_pause_s``: how long bytes behind an abort are lost, as far as it shows. Raises ReplyTimeoutError,
    LinkLostError, or InstrumentError for a reply that is none.
    """
    talk = _Timed(link, clock)
    terminator = await _terminator(link)
    talk.end_bytes = len(terminator)
    asked = [await talk.time(_ASK) for _ in range(times)]
    query_s = summary(asked)
    base_s = float(query_s["p50"])
    sets = [(await talk.time(_SET) - base_s) / _SETS for _ in range(times)]
    levels = [await talk.time(_LEVEL) - base_s for _ in range(times)]
    offs = [await talk.time(_OFF) - base_s for _ in range(times)]
    pause_s, aborts = await _aborts(talk, abort, times, base_s)
    return {
        "terminator": TERMINATORS[terminator],
        "query_s": query_s,
        "set_s": summary(sets),
        "level_s": summary(levels),
        "output_s": summary(offs),
        "abort_s": summary(aborts),
        "abort_pause_s": pause_s,
    }


class _Timed:
    """Questions with their times; bytes on the wire are taken off."""

    def __init__(self, link: Link, clock: Clock) -> None:
        self.link = link
        self.clock = clock
        self.end_bytes = 1
        self.byte_s = 10 / link.transport.baud if link.transport.baud else 0.0

    async def time(self, message: bytes, timeout_s: float = TIMEOUT_S) -> float:
        """Return the processing time of a question in s."""
        _, took_s = await self.ask(message, timeout_s)
        return took_s

    async def ask(self, message: bytes, timeout_s: float = TIMEOUT_S) -> tuple[bytes, float]:
        """Return the reply and the processing time."""
        link, clock = self.link, self.clock
        if link.lost is not None:
            raise link.lost
        done: asyncio.Future[tuple[bytes, int]] = asyncio.get_running_loop().create_future()

        def answered(line: bytes, t_ns: int) -> None:
            if not done.done():
                done.set_result((line, t_ns))

        def late() -> None:
            if not done.done():
                done.set_exception(
                    ReplyTimeoutError(f"{link.transport.name}: no reply to {message!r} in {timeout_s:g} s")
                )

        begin_ns = clock.now_ns()
        deadline_ns = begin_ns + int(timeout_s * 1e9)
        timer = clock.call_at(deadline_ns, late)
        try:
            link.ask(message, answered, deadline_ns)
            line, end_ns = await done
        finally:
            timer.cancel()
            link.forget()
        on_wire_s = (len(message) + len(line) + self.end_bytes) * self.byte_s
        return line, (end_ns - begin_ns) * 1e-9 - on_wire_s


async def _terminator(link: Link) -> bytes:
    """Return the bytes behind a reply, which the link itself does not tell apart."""
    heard = bytearray()
    lost: list[LinkLostError] = []

    def raw() -> None:
        try:
            heard.extend(link.transport.read())
        except LinkLostError as error:
            lost.append(error)
            link.transport.on_readable(None)

    link.transport.on_readable(raw)
    try:
        link.write(_ASK)
        await link.clock.sleep_until(link.clock.now_ns() + int(RAW_S * 1e9))
    finally:
        link.transport.on_readable(link.readable)
    if lost:
        raise lost[0]
    end = bytes(heard).lstrip(b"\0").lstrip(b"0123456789+-.E")
    if end not in TERMINATORS:
        raise InstrumentError(
            f"{link.transport.name}: the reply to *ESE? is {bytes(heard)!r:.60}, expected a number and CR, LF or both"
        )
    return end


async def _aborts(talk: _Timed, abort: bytes, times: int, query_s: float) -> tuple[float, list[float]]:
    """Return how long to wait behind an abort, and ``times`` times from an abort to the next command."""
    name = talk.link.transport.name
    for pause_s in PAUSES_S:
        first = [await _abort(talk, abort, pause_s, 1 + number, query_s) for number in range(TRIES)]
        if all(time_s is not None for time_s in first):
            break
    else:
        raise InstrumentError(
            f"{name}: nothing is answered behind an abort ({abort!r}), not even {PAUSES_S[-1] * 1e3:g} ms later; see "
            "smu.abort in the rig's file"
        )
    found = [time_s for time_s in first if time_s is not None]
    for number in range(len(found), times):
        time_s = await _abort(talk, abort, pause_s, 1 + number % 200, query_s)
        if time_s is None:
            raise InstrumentError(f"{name}: an abort ({abort!r}) was not always followed by an answer; measure again")
        found.append(time_s)
    return pause_s, found


async def _abort(talk: _Timed, abort: bytes, pause_s: float, tag: int, query_s: float) -> float | None:
    """Return the time from an abort to the next command being executed; None: no answer, or another one's."""
    clock, byte_s = talk.clock, talk.byte_s
    await talk.ask(b"*ESE %d;*ESE?\n" % tag)
    begin_ns = clock.now_ns()
    talk.link.write(abort)
    if pause_s:
        await clock.sleep_until(begin_ns + int(pause_s * 1e9))
    waited_s = (clock.now_ns() - begin_ns) * 1e-9
    try:
        line, took_s = await talk.ask(_NEXT)
    except ReplyTimeoutError:
        line, took_s = b"", 0.0
    if line != b"%d" % tag:
        await talk.link.settle(RAW_S)
        return None
    # The abort's own byte was on the wire first; the next command's bytes are while the instrument may still be busy.
    next_s = len(_NEXT) * byte_s
    executed_s = waited_s + took_s + next_s - byte_s - query_s
    return executed_s if executed_s > waited_s + next_s + SHORTEST_S else waited_s
