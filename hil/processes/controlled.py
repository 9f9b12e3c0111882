"""A controller over a configuration, as processes: what an emulated rig and one of hardware have in common."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from edge import rundir
from edge.control_client import ControlClient
from edge.errors import TipguardError
from hil.errors import BenchFaultError
from hil.processes.child import Child, Children
from hil.processes.ending import Ending, switch_off
from hil.processes.spec import TIPGUARD, pinned
from hil.processes.waiting import Interruption

CONTROLLER: Final = "controller"
READY_S: Final = 20.0


class ControlledRig:
    """Keeper and worker over ``config_path``, with a run directory below ``directory``, which no other shares.

    Whatever waits raises BenchFaultError when it takes too long, and KeyboardInterrupt when the interruption comes.
    """

    def __init__(
        self,
        directory: Path,
        config_path: Path,
        rig: str,
        *,
        interruption: Interruption | None,
        pin_to: int | None = None,
    ) -> None:
        """Start nothing. ``rig``: the id that the configuration gives; ``pin_to``: the one core it may use."""
        self.directory = directory
        self.config_path = config_path
        self.run_directory = directory / "run" / rig
        self.environment = {
            **os.environ,
            "RUNTIME_DIRECTORY": str(directory / "run"),
            "STATE_DIRECTORY": str(directory / "state"),
        }
        """This process's, with a run directory of its own, so that no real rig's is met."""
        self._pin_to = pin_to
        self._ending: Ending | None = None
        directory.mkdir(parents=True, exist_ok=True)
        self._children = Children(directory, self.environment, interruption or Interruption())

    # -------------------------------------------------------------------------------------------------- processes

    def start_controller(
        self, *, wait: bool = True, program: Sequence[str] = TIPGUARD, cwd: Path | None = None
    ) -> None:
        """Start keeper and worker, the first time or again; ``wait`` until the worker has left UNKNOWN.

        ``program`` stands for ``tipguard`` on the command line, ``cwd`` is where it is started.
        """
        command = [*pinned(self._pin_to), *program, "controller", str(self.config_path)]
        self._start(CONTROLLER, command, cwd)
        if wait:
            self.wait_state("SAFE", "TRIPPED")

    def _start(self, name: str, command: Sequence[str], cwd: Path | None = None) -> None:
        if self._ending is not None:
            raise BenchFaultError(f"the {name} cannot start: its rig has ended; make another")
        self._children.start(name, command, cwd)

    @property
    def controller(self) -> Child:
        """The keeper; the worker is its child."""
        return self._children[CONTROLLER]

    @property
    def controller_log(self) -> Path:
        """Where what keeper and worker say is kept."""
        return self.directory / f"{CONTROLLER}.log"

    @property
    def pids(self) -> dict[str, int]:
        """Process ids by name."""
        return self._children.pids

    def check(self) -> None:
        """Raise ChildDiedError if a process ended on its own, KeyboardInterrupt if the interruption came."""
        self._children.check()

    def close(self) -> Ending:
        """Output verified off, then the rest. A second call only reports."""
        if self._ending is None:
            try:
                self._ending = switch_off(self._children.get(CONTROLLER), self.config_path, self.environment)
            finally:
                self._end_others()
        return self._ending

    def _end_others(self) -> None:
        """End what is not the controller; the output is off by then, or cannot be switched off any more."""

    # ------------------------------------------------------------------------------------------------- the worker

    def call(self, verb: str, **args: Any) -> dict[str, Any]:  # noqa: ANN401 - checked by the worker
        """Ask the worker; return its reply map. Raises BusyError when none answers."""
        with ControlClient(self.run_directory / rundir.CONTROL_SOCKET) as client:
            return client.call(verb, **args)

    def status(self) -> dict[str, Any] | None:
        """Return the worker's status, or None while none answers."""
        with contextlib.suppress(TipguardError):
            data = self.call("status")["data"]
            return data if isinstance(data, dict) else None
        return None

    def worker_pid(self) -> int:
        """Return the worker's process id."""
        status = self.status()
        if status is None:
            raise BenchFaultError("no worker answers")
        return int(status["pid"])

    def start_run(self, plan: str, **parameters: Any) -> str:  # noqa: ANN401 - checked by the worker
        """Start a plan; return its uid (16 hex digits). Raises BenchFaultError with the reason it was refused."""
        answer = self.call("run", plan=plan, parameters=parameters)
        if not answer.get("ok"):
            raise BenchFaultError(f"the controller refuses 'run': {answer.get('error')}")
        return str(answer["data"]["uid"])

    def wait_state(self, *states: str, timeout_s: float = READY_S) -> dict[str, Any]:
        """Wait until the state is one of ``states``; return that status. Raises ChildDiedError as :meth:`check`."""

        def look() -> dict[str, Any] | None:
            self.check()
            controller = self._children.get(CONTROLLER)
            if controller is not None and controller.code is not None:
                raise BenchFaultError(f"the controller ended with {controller.code}; it has no state")
            status = self.status()
            return status if status is not None and status["state"] in states else None

        return self._children.wait(f"state {' or '.join(states)}", look, timeout_s)

    def wait_current(self, least_a: float, timeout_s: float = READY_S) -> bool:
        """Wait until a reading of at least ``least_a`` in magnitude was taken while energised; False if it tripped."""

        def look() -> dict[str, Any] | None:
            status = self.status()
            if status is None or status["state"] == "TRIPPED":
                return status
            sample = status["sample"] if status["state"] == "ENERGISED" else None
            return status if sample is not None and abs(sample["current_a"]) >= least_a else None

        return bool(self._children.wait(f"a current of {least_a:g} A", look, timeout_s)["state"] != "TRIPPED")
