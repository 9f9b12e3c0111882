"""The controller as shipped and the C reference, in turn, before one measuring peer: what `reaction` and `wire` share.

A trial of the one and a trial of the other always come together, the first of the two in turn, so that whatever the
host does meanwhile happens to both. Before its surge each side waits in its poll for the same random time.
"""

from __future__ import annotations

import contextlib
import os
import random
import select
import subprocess
import tempfile
import tty
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from edge import rundir
from edge.controller import realtime
from edge.ring import RingReader
from firmware_proto.keithley2400 import commands
from hil.bench.flight_profile import FlightProfile
from hil.bench.native import Native, Peer, Trial
from hil.bench.sparring import CUT, HARD_A, Sparring, is_cut, plan, quiet
from hil.broker import Broker
from hil.errors import BenchFaultError
from hil.processes.controlled import ControlledRig
from hil.processes.spec import TIPGUARD, RigSpec, config_of
from hil.processes.waiting import wait_for

RIG: Final = "bench"
THRESHOLD_A: Final = HARD_A / 10
"""Where the reference cuts: above every quiet reading, below every surge's that it gets."""
SURGE: Final = b"-3.000000E-01,-6.000000E-05,+2.048400E+04\r"
DRAIN_EVERY: Final = 50
MOST_BROKEN: Final = 3
_READY_S: Final = 5.0


@dataclass(slots=True)
class Round:
    """One round, trial by trial: what the peer saw of both sides. As many of the one as of the other."""

    ours: list[Trial] = field(default_factory=list)
    theirs: list[Trial] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Pace:
    """How trials are spaced: a random pause before each surge, ``gap_ns`` (least, most); ``byte_ns`` per byte."""

    gap_ns: tuple[int, int] = (500_000, 1_500_000)
    byte_ns: int = 0


class Reference:
    """The C reference on a line of its own, at the worker's priority."""

    def __init__(self, native: Native, *, delay_ns: int = 0) -> None:
        """Start it; ``delay_ns``: let it dawdle before every cut."""
        self._peer = native.peer
        self.master, self._slave = os.openpty()
        tty.setraw(self._slave)
        os.set_blocking(self.master, False)
        words = [os.ttyname(self._slave), f"{THRESHOLD_A:g}", str(realtime.WORKER_PRIORITY), str(delay_ns)]
        self._process = subprocess.Popen(
            [str(native.reference), *words], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True
        )
        self.says = self._process.stdout.readline().strip() if self._process.stdout is not None else ""
        if not self.says.startswith("ready"):
            self.close()
            raise BenchFaultError(f"the C reference said {self.says!r} instead of being ready")
        self._expect(commands.READ)

    def _expect(self, wanted: bytes) -> None:
        """Wait for exactly these bytes."""
        heard = b""
        poller = select.poll()
        poller.register(self.master, select.POLLIN)
        while len(heard) < len(wanted) and poller.poll(_READY_S * 1e3):
            heard += os.read(self.master, 4096)
        if heard != wanted:
            raise BenchFaultError(f"the C reference said {heard!r}, expected {wanted!r}")

    def trial(self, gap_ns: int, byte_ns: int) -> Trial:
        """Give it a quiet reading, then a surge."""
        quiet(self._peer, self.master)
        trial = self._peer.trial(self.master, SURGE, gap_ns=gap_ns, byte_ns=byte_ns)
        if not is_cut(trial):
            raise BenchFaultError(f"the C reference answered a surge with {trial.answer!r}")
        if left := (CUT + commands.READ)[len(trial.answer) :]:
            self._expect(left)
        return trial

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()
        os.close(self.master)
        os.close(self._slave)


class Duel:
    """Both sides, ready. ``rig``: keeper and worker as ``tipguard controller`` starts them."""

    def __init__(
        self, native: Native, rig: ControlledRig, sparring: Sparring, reference: Reference, *, drain: bool
    ) -> None:
        """``drain``: nobody else empties the ring."""
        self._peer: Peer = native.peer
        self.rig = rig
        self._sparring = sparring
        self.reference = reference
        self._reader = RingReader(rig.run_directory / rundir.RING_FILE) if drain else None
        self.profile = None if self._reader is None else FlightProfile(self._reader)
        """Where our microseconds went; None where an uplink empties the ring."""
        self._random = random.Random(1)
        self.broken_off = 0
        """Plans that did not end as planned; what was measured until then is kept."""

    def round(self, trials: int, pace: Pace) -> Round:
        """Measure ``trials`` of each, in one plan of as many cycles.

        A plan that was broken off, as by a deadline missed on a host that is too busy, is followed by another one;
        ``broken_off`` counts them. Raises BenchFaultError for the fourth in one round.
        """
        result = Round()
        broken = 0
        while len(result.ours) < trials:
            self._sparring.kind = "hard"
            self.rig.start_run("iv", **plan(trials - len(result.ours)))
            self._sparring.until(lambda: len(result.ours) >= trials, lambda reading: self._pair(reading, result, pace))
            with self._sparring.served():
                run = wait_for("the sweep to end", self._ended, _READY_S)
                if run["status"] == "completed":
                    continue
                broken += 1
                if broken > MOST_BROKEN:
                    raise BenchFaultError(f"{broken} sweeps of one round {run['status']}, the last: {run['reason']}")
                self.broken_off += 1
                self.rig.call("rearm")
        return result

    def _pair(self, reading: bytes, result: Round, pace: Pace) -> bytes:
        """Do a trial of each side, the first in turn, and return what the controller answered."""
        number = len(result.ours)
        if number % 2:
            self._theirs(result, pace)
        trial = self._peer.trial(
            self._sparring.master, reading, gap_ns=self._random.randint(*pace.gap_ns), byte_ns=pace.byte_ns
        )
        if not number % 2:
            self._theirs(result, pace)
        if is_cut(trial):
            result.ours.append(trial)
        else:
            del result.theirs[-1]
        # Both orders see both kinds.
        self._sparring.kind = "jump" if number // 2 % 2 else "hard"
        if self.profile is not None and number % DRAIN_EVERY == 0:
            self.profile.drain()
        return trial.answer

    def _theirs(self, result: Round, pace: Pace) -> None:
        result.theirs.append(self.reference.trial(self._random.randint(*pace.gap_ns), pace.byte_ns))

    def _ended(self) -> dict[str, Any] | None:
        status = self.rig.status()
        return None if status is None or status["run"]["status"] == "running" else dict(status["run"])

    def close(self) -> None:
        """Let go of the ring."""
        if self._reader is not None:
            self._reader.close()


class BenchController(ControlledRig):
    """The controller over a line of ours, with an uplink where there is a broker."""

    UPLINK: Final = "uplink"

    def start_uplink(self) -> None:
        """Start it, and wait until it drains the ring."""
        self._start(self.UPLINK, [*TIPGUARD, "uplink", str(self.config_path)])

    def _end_others(self) -> None:
        uplink = self._children.get(self.UPLINK)
        if uplink is not None:
            uplink.stop(_READY_S)


def _config(text: str) -> str:
    """Allow as many re-arms as there are trials; everything else is the template's."""
    old = "rearms_per_run = 100"
    if text.count(old) != 1:
        raise BenchFaultError(f"the configuration's template has no line {old!r}")
    return text.replace(old, "rearms_per_run = 100000")


@contextlib.contextmanager
def duel(native: Native, *, baud: int = 57600, broker: Broker | None = None, delay_ns: int = 0) -> Iterator[Duel]:
    """Start both sides; end them, the output first. ``broker``: an uplink publishes to it and empties the ring.

    ``baud``: what the controller is told of its line. ``delay_ns``: the reference dawdles so long before each cut.
    """
    with contextlib.ExitStack() as stack:
        state = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tipguard-bench-")))
        # The run directory is on tmpfs, as it is in earnest.
        tmpfs = "/dev/shm" if Path("/dev/shm").is_dir() else None  # noqa: S108 - the directory below is private
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tipguard-bench-", dir=tmpfs)))
        link = directory / "smu"
        sparring = Sparring(link)
        stack.callback(sparring.close)
        path = directory / "rig.toml"
        spec = RigSpec(rig=RIG, baud=baud, config_text=_config)
        path.write_text(config_of(spec, link, broker), encoding="utf-8")
        reference = Reference(native, delay_ns=delay_ns)
        stack.callback(reference.close)
        rig = BenchController(directory, path, RIG, interruption=None)
        rig.environment["STATE_DIRECTORY"] = str(state)
        stack.callback(_end, rig, sparring)
        with sparring.served():
            rig.start_controller()
            if broker is not None:
                rig.start_uplink()
        fight = Duel(native, rig, sparring, reference, drain=broker is None)
        stack.callback(fight.close)
        with at_worker_priority():
            yield fight


def _end(rig: ControlledRig, sparring: Sparring) -> None:
    with sparring.served():
        rig.close()


@contextlib.contextmanager
def at_worker_priority() -> Iterator[None]:
    """Let the peer run as the two sides do, where that is permitted; what it starts does not inherit it."""
    policy, param = os.sched_getscheduler(0), os.sched_getparam(0)
    realtime.set_fifo(realtime.WORKER_PRIORITY)
    try:
        yield
    finally:
        with contextlib.suppress(PermissionError):
            os.sched_setscheduler(0, policy, param)
