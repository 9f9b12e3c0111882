"""What the two forms of a whole rig have in common: ``tipguard serve`` at a desk, and supervised processes.

A form is asked for the process ids of its parts, whoever started them: what a test wants to strike.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from edge import rundir
from hil.broker import Broker
from hil.errors import BenchFaultError
from hil.processes.cable import Cable
from hil.processes.controlled import CONTROLLER
from hil.processes.ending import Ending
from hil.processes.rig import BenchRig
from hil.processes.spec import TIPGUARD


class FormRig(BenchRig):
    """A rig of which ``controller`` is whoever looks after keeper and worker, not the keeper."""

    form = ""
    parts: tuple[int, ...] = ()
    """Whom :meth:`everybody` named last; one that is frozen can no longer be asked."""
    cable: Cable | None = None
    """Between the controller's port and the instrument, after :meth:`start_cabled`."""

    def start_cabled(self) -> None:
        """As :meth:`start`, but with a cable that can be pulled. The controller's port is its end, and its name."""
        self.start_smu()
        end = self.directory / "cable"
        text = self.config_path.read_text(encoding="utf-8")
        old, new = f"path = {json.dumps(str(self.link))}", f"path = {json.dumps(str(end))}"
        if text.count(old) != 1:
            raise BenchFaultError(f"the configuration has not one line {old}")
        self.config_path.write_text(text.replace(old, new), encoding="utf-8")
        self.cable = Cable(end, os.path.realpath(self.link))
        self.cable.plug()
        self.start_controller()

    @property
    def broker(self) -> Broker | None:
        """Where the uplink publishes; the caller's."""
        return self._broker

    @property
    def keeper_pid(self) -> int:
        """The keeper, by the rig's lock, which holds its process id."""
        text = (self.run_directory / rundir.LOCK_FILE).read_text(encoding="ascii").strip()
        if not text.isdigit():
            raise BenchFaultError("no keeper holds the rig's lock")
        return int(text)

    @property
    def uplink_pid(self) -> int | None:
        """The uplink; None while there is none."""
        raise NotImplementedError

    @property
    def supervisor_pids(self) -> tuple[int, ...]:
        """Who would start, end or cut."""
        raise NotImplementedError

    def everybody(self) -> tuple[int, ...]:
        """Return every process of the rig on this host, but not the emulated instrument."""
        uplink = self.uplink_pid
        parts = (*self.supervisor_pids, self.keeper_pid, self.worker_pid())
        self.parts = parts if uplink is None else (*parts, uplink)
        return self.parts

    def close(self) -> Ending:
        """As for any rig; what was frozen is thawed first, or nobody could end it."""
        for pid in self.parts:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
        try:
            return super().close()
        finally:
            if self.cable is not None:
                self.cable.pull()


class ServedRig(FormRig):
    """A rig run by ``tipguard serve``."""

    form = "serve"

    def start_controller(
        self, *, wait: bool = True, program: Sequence[str] = TIPGUARD, cwd: Path | None = None
    ) -> None:
        """Start ``tipguard serve``, the first time or again."""
        self._start(CONTROLLER, [*program, "serve", str(self.config_path)], cwd)
        if wait:
            self.wait_state("SAFE", "TRIPPED")

    def start_uplink(self) -> None:
        """Nothing: ``serve`` starts it."""

    @property
    def uplink_pid(self) -> int | None:
        """The child of ``serve`` that is the uplink; None before it runs."""
        for pid in children_of(self.controller.pid):
            with contextlib.suppress(OSError):
                if b"uplink" in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0"):
                    return pid
        return None

    @property
    def supervisor_pids(self) -> tuple[int, ...]:
        """``serve`` itself."""
        return (self.controller.pid,)


_PARENT: Final = 1
"""Field of /proc/PID/stat behind the name's closing bracket."""


def children_of(parent: int) -> list[int]:
    """Return the living children of a process, oldest first."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                fields = (entry / "stat").read_text(encoding="ascii", errors="replace").rsplit(")", 1)[1].split()
                if int(fields[_PARENT]) == parent and fields[0] not in "ZX":
                    found.append(int(entry.name))
    return sorted(found)
