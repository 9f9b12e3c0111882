"""What a worker meets in a replay: a tape with a finger on it, and ports, clock, chance and host that read from it."""

from __future__ import annotations

import asyncio
import collections
from collections.abc import Callable, Sequence
from typing import Any, Final

from edge.clock import TimerHandle
from edge.controller.host_watch import HostWatch
from edge.errors import FlightError, LinkLostError
from edge.instruments.recording import StepClock
from edge.tape import DRAW, HOST, IN, LOST_IN, LOST_OUT, OUT, PORTS, RING, VERB, Entry, time_of
from hil.replay.compare import Difference

INPUTS: Final = frozenset({IN, LOST_IN, VERB})
"""What comes from outside by itself."""
_PATIENCE_NS: Final = 200_000_000
"""How far a write may be behind what the tape says before it counts as missing."""


def code_of(entry: Entry) -> int | None:
    """Return an entry's code; None for a reading of the clock or a turn."""
    return None if isinstance(entry, int) else int(entry[0])


class World:
    """The tape, and how far the replay has come on it.

    ``at`` is the next entry that was not met. Inputs move it; between two inputs the clock's readings are given out
    in their order. So code that reads the clock once more or less than it did gets times that are a few microseconds
    off, until the next input.
    """

    def __init__(self, entries: Sequence[Entry], *, turns: bool) -> None:
        """Begin before the first entry. ``turns``: the tape has marks; without, time stood still inside a callback."""
        self._turns = turns
        self.difference: Difference | None = None
        """The first write that was not as recorded; nothing behind it means anything."""
        self.exchanges = 0
        self.ended = False
        """Nothing is compared any more: the replay is being taken down."""
        self.now_ns = 0
        self.entries: Sequence[Entry] = ()
        self.at = 0
        self._outs: list[collections.deque[tuple[int, Any]]] = []
        self._draws: dict[str, collections.deque[int]] = {}
        self._final_at = -1
        self.load(entries)

    def load(self, entries: Sequence[Entry], *, t_ns: int = 0) -> None:
        """Go on with another tape, from ``t_ns`` on if it does not say earlier."""
        self.entries = entries
        self.at = 0
        times = [t for entry in entries if (t := time_of(entry)) is not None]
        self.now_ns = t_ns or min(times, default=0)
        self.last_ns = max(times, default=self.now_ns)
        self._outs = [collections.deque() for _ in PORTS]
        self._draws = {}
        self._final_at = max(
            (at for at, entry in enumerate(entries) if (entry < 0 if isinstance(entry, int) else entry[0] in INPUTS)),
            default=-1,
        )
        for at, entry in enumerate(entries):
            match entry:
                case (code, _, port, *_) if code in (IN, OUT, LOST_IN, LOST_OUT):
                    if type(port) is not int or not 0 <= port < len(PORTS):
                        raise FlightError(f"the tape names port {port!r:.20}; this program knows {', '.join(PORTS)}")
                    if code in (OUT, LOST_OUT):
                        self._outs[port].append((at, entry))
                case (code, what, value) if code == DRAW:
                    self._draws.setdefault(what, collections.deque()).append(value)

    # -- the clock

    def read_clock(self) -> int:
        """Return the clock's next reading, or the last one where no more was recorded before the next input."""
        entries = self.entries
        at = self.at
        while at < len(entries):
            entry = entries[at]
            if isinstance(entry, int):
                if entry < 0 or (not self._turns and entry > self.now_ns):
                    break
                self.at = at + 1
                self.now_ns = max(self.now_ns, entry)
                break
            if entry[0] not in (HOST, RING, DRAW):
                break
            at += 1
        return self.now_ns

    def go_to(self, at: int) -> None:
        """Put the finger behind the entry ``at``."""
        self.at = max(self.at, at + 1)
        t_ns = time_of(self.entries[at])
        if t_ns is not None:
            self.now_ns = max(self.now_ns, t_ns)

    def following(self, code: int) -> Any:  # noqa: ANN401 - an entry
        """Return the next entry and go behind it if it is of ``code``; None if it is not."""
        if self.at < len(self.entries):
            entry = self.entries[self.at]
            if not isinstance(entry, int) and entry[0] == code:
                self.at += 1
                return entry
        return None

    def draw(self, what: str) -> int | None:
        """Return the next number that was drawn for ``what``; None if no more was."""
        left = self._draws.get(what)
        return left.popleft() if left else None

    # -- what our side writes

    @property
    def _behind_the_end(self) -> bool:
        """Nothing that could set anything going is left on the tape."""
        return self.at > self._final_at and (self._turns or self.now_ns >= self.last_ns)

    def wrote(self, port: int, data: bytes) -> Any:  # noqa: ANN401 - an entry
        """Compare a write with the tape and return its entry; a difference is kept and ends the replay."""
        if self.ended:
            return None
        outs = self._outs[port]
        if not outs and self._behind_the_end:
            # A tick writes the tape in its middle: what it did behind that is on no tape.
            return None
        if not outs:
            self._differ(Difference("write", self.now_ns, PORTS[port], "nothing more", repr(data)))
            return None
        at, entry = outs[0]
        if entry[0] == OUT and entry[3] != data:
            self._differ(Difference("write", self.now_ns, PORTS[port], repr(entry[3]), repr(data)))
            return None
        outs.popleft()
        self.exchanges += 1
        if at >= self.at and all(code_of(one) not in INPUTS for one in self.entries[self.at : at]):
            self.go_to(at)
        return entry

    def check_missing(self, until: int, *, late: bool) -> None:
        """Look whether writes before the entry ``until`` were not made; with ``late``, only those long overdue."""
        for port, outs in enumerate(self._outs):
            if not outs:
                continue
            at, entry = outs[0]
            if at < until and (not late or self.now_ns - entry[1] > _PATIENCE_NS):
                self._differ(Difference("write", entry[1], PORTS[port], repr(entry[3]), "nothing"))
                return

    def _differ(self, difference: Difference) -> None:
        self.difference = self.difference or difference


class ReplayTransport:
    """A port as it was; implements :class:`edge.instruments.transport.Transport`."""

    def __init__(self, world: World, port: int, *, name: str, baud: int, emulated: bool) -> None:
        """``name``, ``baud``, ``emulated``: as recorded."""
        self._world = world
        self._port = port
        self.name = name
        self.baud = baud
        self.emulated = emulated
        self.callback: Callable[[], None] | None = None

    def read(self) -> bytes:
        """Return what the entry under the finger holds, if it is of this port; else nothing."""
        world = self._world
        if world.at < len(world.entries):
            entry = world.entries[world.at]
            if not isinstance(entry, int) and entry[0] in (IN, LOST_IN) and entry[2] == self._port:
                world.go_to(world.at)
                if entry[0] == IN:
                    return bytes(entry[3])
                raise _lost(entry)
        return b""

    def write(self, data: bytes) -> int:
        """Compare with what was written."""
        entry = self._world.wrote(self._port, data)
        if entry is None:
            return len(data)
        if entry[0] == LOST_OUT:
            raise _lost(entry)
        return int(entry[4]) if len(entry) > 4 else len(data)

    def unsent(self) -> int:
        """Nothing is under way."""
        return 0

    def on_readable(self, callback: Callable[[], None] | None) -> None:
        """See Transport."""
        self.callback = callback

    def close(self) -> None:
        """See Transport."""
        self.callback = None


def _lost(entry: tuple[Any, ...]) -> LinkLostError:
    number, text = entry[3], str(entry[4])
    return LinkLostError(text) if number is None else LinkLostError(number, text)


class ReplayClock(StepClock):
    """The clock as it was read; timers are the loop's."""

    def __init__(self, world: World) -> None:
        """Read from ``world``."""
        self._world = world

    def now_ns(self) -> int:
        """See Clock."""
        return self._world.read_clock()

    def call_at(self, t_ns: int, callback: Callable[[], None]) -> TimerHandle:
        """See Clock."""
        return asyncio.get_running_loop().call_at(t_ns / 1e9, callback)


class ReplayOutside:
    """Chance and ring as they were; implements :class:`edge.controller.recorder.Outside`."""

    def __init__(self, world: World, start: dict[str, Any], first_tag: int | None) -> None:
        """``start``: of the stretch. ``first_tag``: at a checkpoint, drawn long before."""
        self._world = world
        self._epoch = int(start["epoch"])
        self._first_tag = first_tag

    def new_id(self, what: str) -> int:
        """See Outside."""
        if what == "epoch":
            return self._epoch
        return self._world.draw(what) or 1

    def draw(self, what: str, below: int) -> int:
        """See Outside."""
        value = self._world.draw(what)
        if value is None:
            value, self._first_tag = self._first_tag or 0, None
        return value % below

    def ring_used(self) -> float:
        """See Outside."""
        entry = self._world.following(RING)
        return 0.0 if entry is None else float(entry[1])


class ReplayHost(HostWatch):
    """The host's faults as they were found."""

    def __init__(self, world: World) -> None:
        """Watch nothing but the tape."""
        self._world = world

    def fault(self, _now_ns: int) -> str | None:
        """See HostWatch."""
        entry = self._world.following(HOST)
        return None if entry is None else str(entry[1])
