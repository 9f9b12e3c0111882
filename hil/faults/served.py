"""A fault plan on a bench that is served on pseudo-terminals: wired up, armed at power-on, told line by line."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from hil.devices.keithley2400 import Keithley2400
from hil.errors import BenchOptionError
from hil.faults.control import Control
from hil.faults.injector import Applied, Injector
from hil.faults.plan import load_plan
from hil.frontend.unit import FrontendUnit
from hil.line.pty import PtyLine
from hil.protocols import Load, StageDevice


@dataclass(frozen=True, slots=True)
class SmuPlug:
    """A 2400 with its load, and the key of its line."""

    key: str
    device: Keithley2400
    load: Load


@dataclass(frozen=True, slots=True)
class StagePlug:
    """A stage, and the key of its line."""

    key: str
    device: StageDevice


@dataclass(frozen=True, slots=True)
class FrontendPlug:
    """A front end, and the key of its line."""

    key: str
    device: FrontendUnit


class ServedFaults:
    """The faults of one server; a context manager around its run. Without a plan it does nothing at all."""

    def __init__(
        self,
        faults: Path | None,
        control: Path | None,
        *,
        smu: SmuPlug | None = None,
        stage: StagePlug | None = None,
        frontend: FrontendPlug | None = None,
    ) -> None:
        """Read the plan ``faults``; ``control`` is where a socket for faults on demand appears.

        Raises BenchOptionError.
        """
        if control is not None and faults is None:
            raise BenchOptionError(f"--control {control}: there is nothing to control; name a plan with --faults")
        self._injector = None if faults is None else Injector(load_plan(faults), _tell)
        self._path = control
        self._control: Control | None = None
        self._smu, self._stage, self._frontend = smu, stage, frontend
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Self:
        """Open the socket, if there is to be one."""
        if self._path is not None and self._injector is not None:
            self._control = self._stack.enter_context(Control(self._path, self._injector))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the socket."""
        self._stack.close()

    @property
    def also(self) -> tuple[Control, ...]:
        """What the server waits for beside its lines."""
        return () if self._control is None else (self._control,)

    def plug(self, lines: Mapping[str, PtyLine]) -> None:
        """Step into the lines."""
        if self._injector is None:
            return
        if self._smu is not None:
            self._injector.plug_smu(lines[self._smu.key], self._smu.device, self._smu.load)
        if self._stage is not None:
            self._injector.plug_stage(lines[self._stage.key], self._stage.device)
        if self._frontend is not None:
            self._injector.plug_frontend(lines[self._frontend.key], self._frontend.device)
        self._injector.check()

    def arm(self, t_ns: int) -> None:
        """Let the plan begin."""
        if self._injector is not None:
            self._injector.arm(t_ns)

    def verdict(self, verb: str) -> int:
        """Return 0, or 1 after naming the faults that were never applied on stderr."""
        missed = () if self._injector is None else self._injector.missed()
        for name in missed:
            print(f"tipguard hil {verb}: fault {name!r} was never applied", file=sys.stderr)
        return 1 if missed else 0


def _tell(applied: Applied) -> None:
    print(json.dumps(applied.document()), flush=True)
