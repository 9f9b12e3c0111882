"""The other end of the controller's line in the benches `reaction` and `wire`: an emulated 2400, and the surge.

The emulated 2400 answers everything around a trial, its set-up, its read-backs, the proof of its cut, at once and in a
time of its own: what a real unit needs for that is no part of what is measured, and 20 000 cuts are wanted. When the
sweep asks for the reading in which the surge shall show, nothing is answered: that is the measuring peer's
(:mod:`hil.bench.native`), called from here.
"""

from __future__ import annotations

import os
import select
import threading
import tty
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Literal

from firmware_proto.keithley2400 import commands
from hil.bench.native import Peer, Trial
from hil.devices.keithley2400 import Keithley2400, Timing
from hil.errors import BenchFaultError
from hil.line.duplex import Duplex
from hil.line.pacing import NEVER
from hil.processes.spec import SERIAL_NUMBER
from hil.twin.ohmic import OhmicLoad

Kind = Literal["hard", "jump"]
"""HARD_LIMIT: one reading over the limit. SURGE_JUMP: the second of two that stand 0.95 decade over the first."""

STEP_V: Final = 0.1
TO_V: Final = -0.3
LOAD_OHM: Final = 1e6
"""-0.1 uA at -0.1 V: visible on 100 uA, and the baseline of the jump."""
HARD_A: Final = 60e-6
"""Above HARD_LIMIT, half of the 100 uA that a plan below 1 V is protected with."""
JUMP_S: Final = 9e-6
"""Below ``limits.conductance_s``, whose test would need no second reading."""
CUT: Final = commands.ZERO
QUIET_S: Final = 1.0
_READ: Final = 4096


def plan(cycles: int) -> dict[str, float | int | bool | str]:
    """Return the parameters of the plan `iv` that gives ``cycles`` trials: three levels and a surge at the last."""
    return {
        "to_v": TO_V,
        "step_v": STEP_V,
        "dwell_s": 0.001,
        "cycles": cycles,
        "on_trigger": "continue",
        "back_scan": False,
        # Nothing is behind this port that could be hurt.
        "accept_unprotected_host": True,
    }


class Sparring:
    """A pseudo-terminal with the emulated 2400 behind it, linked at ``link``.

    One thread at a time: :meth:`served` answers in the background while the controller starts and ends, :meth:`until`
    in the caller's.
    """

    def __init__(self, link: Path) -> None:
        """Open it. The load is a resistor; surges are said, not had."""
        self.master, self._slave = os.openpty()
        tty.setraw(self._slave)
        os.set_blocking(self.master, False)
        link.symlink_to(os.ttyname(self._slave))
        self._unit = Keithley2400(OhmicLoad(LOAD_OHM), serial_number=SERIAL_NUMBER, timing=Timing.zero(), seed=1)
        self._duplex = Duplex(self._unit, 0, "line", self._collect)
        self._out = bytearray()
        self._held = b""
        self._level = b""
        self._t_ns = 0
        self.kind: Kind = "hard"

    def close(self) -> None:
        """Hang up."""
        os.close(self.master)
        os.close(self._slave)

    def _collect(self, _t_ns: int, data: bytes) -> None:
        self._out += data

    def _answer(self, message: bytes) -> bytes:
        """Return what the unit sends for one message, however long it takes it."""
        duplex = self._duplex
        self._out.clear()
        duplex.write(self._t_ns, message)
        while (due_ns := duplex.next_ns()) != NEVER:
            self._t_ns = max(self._t_ns, due_ns)
            duplex.run_until(self._t_ns)
        return bytes(self._out)

    def hear(self, data: bytes) -> bytes | None:
        """Answer what the controller sent; return the surge's reading where that is what it asked for."""
        *messages, self._held = (self._held + data).split(b"\n")
        surge = None
        for body in messages:
            message = body + b"\n"
            reply = self._answer(message)
            point = self._level + message
            self._level = b"" if message.endswith(b"?\n") else message
            if point == _SURGE:
                current_a = -HARD_A if self.kind == "hard" else JUMP_S * TO_V
                surge = _with_current(reply, current_a)
            elif point == _BEFORE and self.kind == "jump":
                self._send(_with_current(reply, JUMP_S * (TO_V + STEP_V)))
            elif reply:
                self._send(reply)
        return surge

    def _send(self, data: bytes) -> None:
        if os.write(self.master, data) != len(data):
            raise BenchFaultError("the controller does not read what it asked for")

    def until(self, done: Callable[[], bool], strike: Callable[[bytes], bytes]) -> None:
        """Answer until ``done()``, or until the controller has said nothing for a second.

        ``strike(reading)`` has to send a surge's reading and return what it heard then.
        """
        poller = select.poll()
        poller.register(self.master, select.POLLIN)
        while not done():
            if not poller.poll(QUIET_S * 1e3):
                return
            surge = self.hear(os.read(self.master, _READ))
            while surge is not None:
                surge = self.hear(strike(surge))

    @contextmanager
    def served(self) -> Iterator[None]:
        """Answer in a thread meanwhile; no surge may come."""
        stop_read, stop_write = os.pipe()
        failed: list[BaseException] = []

        def serve() -> None:
            poller = select.poll()
            poller.register(self.master, select.POLLIN)
            poller.register(stop_read, select.POLLIN)
            try:
                while all(fd != stop_read for fd, _ in poller.poll()):
                    if self.hear(os.read(self.master, _READ)) is not None:
                        raise BenchFaultError("a sweep runs that nobody started")
            except (OSError, BenchFaultError) as error:
                failed.append(error)

        thread = threading.Thread(target=serve, name="emulated 2400")
        thread.start()
        try:
            yield
        finally:
            os.write(stop_write, b"x")
            thread.join()
            os.close(stop_read)
            os.close(stop_write)
        if failed:
            raise BenchFaultError(f"the emulated 2400 ended: {failed[0]}") from failed[0]


_SURGE: Final = commands.level_and_read(TO_V)
_BEFORE: Final = commands.level_and_read(TO_V + STEP_V)


def _with_current(reply: bytes, current_a: float) -> bytes:
    """Return a reading with another current in it."""
    level, _, status = reply.split(b",")
    return b"%s,%+.6E,%s" % (level, current_a, status)


def is_cut(trial: Trial) -> bool:
    """Tell whether a trial's answer begins with the planned cut."""
    return trial.answer.startswith(CUT)


def quiet(peer: Peer, fd: int) -> None:
    """Give the reference a reading that is no surge, and see it ask for the next one."""
    trial = peer.trial(fd, QUIET)
    if trial.answer != commands.READ:
        raise BenchFaultError(f"a quiet reading was answered with {trial.answer!r}")


QUIET: Final = b"-1.000000E-01,-1.000000E-07,+2.048400E+04\r"
