"""One rig: emulated 2400 on a pseudo-terminal, alone or with a stage; keeper and worker; an uplink with a broker."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final, Self

from edge import rundir
from edge.control_client import ControlClient
from edge.errors import TipguardError
from hil.broker import Broker
from hil.errors import BenchFaultError
from hil.processes.child import Child, Children
from hil.processes.ending import Ending, switch_off
from hil.processes.spec import TIPGUARD, RigSpec, config_of, pinned, smu_command, stage_link_of
from hil.processes.waiting import Interruption

SMU: Final = "emulated 2400"
SMU_AND_STAGE: Final = "emulated 2400 with its stage"
UPLINK: Final = "uplink"
CONTROLLER: Final = "controller"
READY_S: Final = 20.0
FLUSH_S: Final = 5.0


class BenchRig:
    """One rig in a directory that no other shares. Whatever happened, :meth:`close` ends it, the output first.

    Whatever waits raises BenchFaultError when it takes too long, and KeyboardInterrupt when the interruption comes.
    """

    def __init__(
        self,
        directory: Path,
        spec: RigSpec | None = None,
        *,
        broker: Broker | None = None,
        interruption: Interruption | None = None,
    ) -> None:
        """Write the configuration; starts nothing. ``broker``: where the uplink publishes; None: no uplink.

        The broker is the caller's, who starts and ends it and may give it to several rigs; so is the interruption.
        """
        self.spec = spec or RigSpec()
        self.directory = directory
        self.link = directory / "smu"
        self.stage_link = None if self.spec.stage is None else stage_link_of(self.link)
        """Where the stage's port is; None without one."""
        self.truth_path = directory / "truth.jsonl"
        self.config_path = directory / "rig.toml"
        self.run_directory = directory / "run" / self.spec.rig
        self.environment = {**os.environ, "RUNTIME_DIRECTORY": str(directory / "run")}
        """This process's, with a run directory of its own, so that no real rig's is met."""
        self.ready: dict[str, Any] = {}
        """What the emulator said when it was ready, as ``tipguard hil smu`` or ``tipguard hil rig`` does."""
        self._broker = broker
        self._smu_name = SMU if self.spec.stage is None else SMU_AND_STAGE
        self._smu_command = smu_command(self.spec, self.link, self.truth_path)
        self._children = Children(directory, self.environment, interruption or Interruption())
        self._ending: Ending | None = None
        directory.mkdir(parents=True, exist_ok=True)
        self.config_path.write_text(config_of(self.spec, self.link, broker), encoding="utf-8")

    @classmethod
    @contextlib.contextmanager
    def running(
        cls,
        directory: Path,
        spec: RigSpec | None = None,
        *,
        broker: Broker | None = None,
        interruption: Interruption | None = None,
    ) -> Iterator[Self]:
        """Start all of a rig; end it."""
        rig = cls(directory, spec, broker=broker, interruption=interruption)
        try:
            rig.start()
            yield rig
        finally:
            rig.close()

    # -------------------------------------------------------------------------------------------------- processes

    def start(self) -> None:
        """Start everything; return when the controller, which knows nothing of earlier, has verified the output off.

        Raises ChildDiedError or BenchFaultError saying what failed.
        """
        self._start(self._smu_name, self._smu_command)
        if self._broker is not None:
            # It waits for the ring by itself, so it can take its time to start meanwhile.
            self.start_uplink()
        self._wait_smu()
        self.start_controller(wait=False)
        if self.wait_state("SAFE", "TRIPPED")["state"] == "TRIPPED":
            raise BenchFaultError("the controller started TRIPPED on a rig that is new")

    def start_smu(self) -> None:
        """Start the emulator, the first time or again, and wait until it can be opened."""
        self._start(self._smu_name, self._smu_command)
        self._wait_smu()

    def start_uplink(self) -> None:
        """Start the uplink, the first time or again; when it is online the subscriber knows."""
        self._start(UPLINK, [*TIPGUARD, "uplink", str(self.config_path)])

    def start_controller(
        self, *, wait: bool = True, program: Sequence[str] = TIPGUARD, cwd: Path | None = None
    ) -> None:
        """Start keeper and worker, the first time or again; ``wait`` until the worker has left UNKNOWN.

        ``program`` stands for ``tipguard`` on the command line, ``cwd`` is where it is started.
        """
        command = [*pinned(self.spec.pin_to), *program, "controller", str(self.config_path)]
        self._start(CONTROLLER, command, cwd)
        if wait:
            self.wait_state("SAFE", "TRIPPED")

    def _start(self, name: str, command: Sequence[str], cwd: Path | None = None) -> None:
        if self._ending is not None:
            raise BenchFaultError(f"the {name} cannot start: its rig has ended; make another")
        self._children.start(name, command, cwd)

    def _wait_smu(self) -> None:
        self.ready = self._children.wait(f"the {self._smu_name}", self._smu_ready, READY_S)

    def _smu_ready(self) -> dict[str, Any] | None:
        self.check()
        line, newline, _ = self.smu.output().partition("\n")
        if not newline:
            return None
        ready = None
        with contextlib.suppress(ValueError):
            ready = json.loads(line)
        if not isinstance(ready, dict) or ready.get("ready") is not True:
            raise BenchFaultError(f"the {self._smu_name} said {line[:200]!r} instead of being ready")
        return ready

    @property
    def smu(self) -> Child:
        """The emulator, with or without a stage; as for the others, BenchFaultError if it was never started."""
        return self._children[self._smu_name]

    @property
    def uplink(self) -> Child:
        """The uplink."""
        return self._children[UPLINK]

    @property
    def controller(self) -> Child:
        """The keeper; the worker is its child."""
        return self._children[CONTROLLER]

    @property
    def pids(self) -> dict[str, int]:
        """Process ids by name."""
        return self._children.pids

    def check(self) -> None:
        """Raise ChildDiedError if a process ended on its own, KeyboardInterrupt if the interruption came."""
        self._children.check()

    def close(self) -> Ending:
        """Output verified off, then the rest: controller, uplink, instrument. A second call only reports."""
        if self._ending is None:
            try:
                self._ending = switch_off(self._children.get(CONTROLLER), self.config_path, self.environment)
            finally:
                for name in (UPLINK, self._smu_name):
                    child = self._children.get(name)
                    if child is not None:
                        child.stop(FLUSH_S)
        return self._ending

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

    # ----------------------------------------------------------------------------------------------- the twin

    def truth(self) -> list[dict[str, Any]]:
        """Return the twin's own record so far."""
        return [json.loads(line) for line in self.truth_path.read_text(encoding="utf-8").splitlines()]

    def wait_safe_after(self, t_ns: int, timeout_s: float = 5.0) -> int:
        """Wait until the twin's record says safe after ``t_ns``, and that it stayed so; return when, in ns."""

        def look() -> int | None:
            events = [e for e in self.truth() if e["event"] in ("safe", "live")]
            after = [e for e in events if e["t_ns"] >= t_ns]
            if not after or after[-1]["event"] != "safe":
                return None
            return int(after[-1]["t_ns"])

        return self._children.wait("the twin to be safe", look, timeout_s)
