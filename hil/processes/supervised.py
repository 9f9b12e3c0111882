"""A rig as it runs in production: controller and uplink, each under a supervisor that does what systemd would.

``python -m hil.processes.supervised controller|uplink CONFIG`` is that supervisor, for machines and tests without one:
what the service units ask of systemd, in the same order. The process's end; SIGTERM, then SIGKILL, to what is left of
its session (a unit's control group); ``ExecStopPost=tipguard safe-off`` after a controller, however it ended; then
another start after ``RestartSec``, unless it ended well, was told to, or was started too often (``StartLimitBurst``).
What it does is told on stdout, one JSON line each. Pauses and limits are shorter than the units', so that a test ends.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from hil.processes.forms import FormRig, children_of
from hil.processes.rig import UPLINK
from hil.processes.spec import PYTHON, TIPGUARD

_PR_SET_CHILD_SUBREAPER: Final = 36
STOP_S: Final = 8.0
"""TimeoutStopSec: longer than the keeper takes to end a worker that hangs, cut and verify."""
EXIT_LIMIT: Final = 3
"""Of the supervisor, where it gave up restarting."""
WRONG_CONFIG: Final = 2
"""Exit code of a process that no restart helps (RestartPreventExitStatus)."""


@dataclass(frozen=True, slots=True)
class Unit:
    """What a service unit says. Times in s; at most ``burst`` starts within ``interval_s``."""

    verb: str
    safe_off: bool
    restart_s: float
    burst: int
    interval_s: float


UNITS: Final = {
    "controller": Unit("controller", safe_off=True, restart_s=0.5, burst=5, interval_s=60.0),
    "uplink": Unit("uplink", safe_off=False, restart_s=0.5, burst=20, interval_s=60.0),
}


class SupervisedRig(FormRig):
    """A rig whose controller and uplink are restarted when they die, and cut when the controller does."""

    form = "supervised"

    def start_controller(
        self, *, wait: bool = True, program: Sequence[str] = TIPGUARD, cwd: Path | None = None
    ) -> None:
        """Start the controller's supervisor, and that of the uplink where it does not run."""
        del program
        uplink = self._children.get(UPLINK)
        if uplink is None or uplink.code is not None:
            self.start_uplink()
        super().start_controller(wait=wait, program=(*PYTHON, "-m", "hil.processes.supervised"), cwd=cwd)

    def start_uplink(self) -> None:
        """Start the uplink's supervisor, the first time or again."""
        child = self._children.get(UPLINK)
        if child is None or child.code is not None:
            command = [*PYTHON, "-m", "hil.processes.supervised", "uplink", str(self.config_path)]
            self._start(UPLINK, command)

    @property
    def uplink_pid(self) -> int | None:
        """The uplink itself, not its supervisor; None while there is none."""
        return next(iter(children_of(self.uplink.pid)), None)

    @property
    def supervisor_pids(self) -> tuple[int, ...]:
        """Who would start, end or cut; the uplink's supervisor included."""
        return self.controller.pid, self.uplink.pid

    def told(self, event: str) -> list[dict[str, Any]]:
        """Return what the controller's supervisor told of one kind: started, ended, safe-off, limit."""
        lines = self.controller.output().splitlines()
        found = [json.loads(line) for line in lines if line.startswith('{"supervisor"')]
        return [one for one in found if one["supervisor"] == event]


# ------------------------------------------------------------------------------------------------- the supervisor


class Supervisor:
    """One unit. Its process is in a session of its own, so that nothing of it is lost."""

    def __init__(self, unit: Unit, config: Path) -> None:
        """Prepare; starts nothing."""
        self._unit = unit
        self._config = config
        self._stop = threading.Event()
        self._starts: list[float] = []
        self._wake_read, self._wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def run(self) -> int:
        """Keep it running; return 0 if it ended well or ``safe-off`` verified the output off, else 1 or EXIT_LIMIT."""
        # A worker whose keeper died is ours to see the end of, and not the zombie of some other process.
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._on_signal)
        signal.set_wakeup_fd(self._wake_write)
        while True:
            code, well = self._one_life()
            if self._stop.is_set() or code in (0, WRONG_CONFIG):
                return 0 if well else 1
            if not self._may_start():
                _tell("limit", starts=len(self._starts))
                return EXIT_LIMIT
            self._rest(self._unit.restart_s)
            if self._stop.is_set():
                return 0 if well else 1

    def _on_signal(self, _number: int, _frame: object) -> None:
        self._stop.set()

    def _may_start(self) -> bool:
        now_s = time.monotonic()
        self._starts = [at_s for at_s in self._starts if now_s - at_s < self._unit.interval_s]
        return len(self._starts) < self._unit.burst

    def _rest(self, at_most_s: float, fd: int = -1) -> bool:
        """Wait for ``fd`` or a signal; True if it was ``fd``."""
        watched = [self._wake_read] if fd < 0 else [self._wake_read, fd]
        ready = select.select(watched, [], [], at_most_s)[0]
        with contextlib.suppress(BlockingIOError):
            os.read(self._wake_read, 64)
        return fd in ready

    def _one_life(self) -> tuple[int, bool]:
        """Start it, wait for its end, clear up, cut; return its exit code, and whether all is well."""
        self._starts.append(time.monotonic())
        # If we are killed, as no service manager is, nobody must be left without one.
        setpriv = shutil.which("setpriv")
        begin = [setpriv, "--pdeathsig", "TERM"] if setpriv else []
        command = [*begin, *TIPGUARD, self._unit.verb, str(self._config)]
        process = subprocess.Popen(command, start_new_session=True)
        _tell("started", pid=process.pid)
        pidfd = os.pidfd_open(process.pid)
        asked_s = None
        try:
            while process.poll() is None:
                if self._stop.is_set() and asked_s is None:
                    asked_s = time.monotonic()
                    _end(process.pid)
                left_s = 3600.0 if asked_s is None else max(asked_s + STOP_S - time.monotonic(), 0.0)
                if not self._rest(left_s, pidfd) and asked_s is not None and time.monotonic() >= asked_s + STOP_S:
                    process.kill()
        finally:
            os.close(pidfd)
        code = process.wait()
        _tell("ended", pid=process.pid, code=code)
        self._clear_up(process.pid)
        return code, self._safe_off() if self._unit.safe_off else code == 0

    def _clear_up(self, session: int) -> None:
        """End what is left of the unit: SIGTERM, time to obey, SIGKILL."""
        for pid in in_session(session):
            _end(pid)
        end_s = time.monotonic() + STOP_S
        while left := in_session(session):
            if time.monotonic() > end_s:
                for pid in left:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
            self._rest(0.005)
            _reap()
        _reap()

    def _safe_off(self) -> bool:
        began_s = time.monotonic()
        done = subprocess.run(
            [*TIPGUARD, "safe-off", str(self._config)], capture_output=True, text=True, check=False, timeout=10
        )
        _tell("safe-off", code=done.returncode, took_s=time.monotonic() - began_s, said=done.stdout.strip())
        return done.returncode == 0


def in_session(session: int) -> list[int]:
    """Return the processes of a session that are not dead."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                fields = (entry / "stat").read_text(encoding="ascii", errors="replace").rsplit(")", 1)[1].split()
                if int(fields[3]) == session and fields[0] not in "ZX":
                    found.append(int(entry.name))
    return found


def _end(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)
        # As systemd does: one that is stopped would not hear it.
        os.kill(pid, signal.SIGCONT)


def _reap() -> None:
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _tell(event: str, **data: object) -> None:
    print(json.dumps({"supervisor": event, "t_ns": time.monotonic_ns(), **data}), flush=True)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one supervisor until its process ended for good."""
    parser = argparse.ArgumentParser(prog="python -m hil.processes.supervised", description=__doc__.partition("\n")[0])
    parser.add_argument("unit", choices=sorted(UNITS))
    parser.add_argument("config", type=Path)
    args = parser.parse_args(argv)
    return Supervisor(UNITS[args.unit], args.config).run()


if __name__ == "__main__":
    sys.exit(main())
