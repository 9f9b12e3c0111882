"""One rig: emulated 2400 on a pseudo-terminal, alone or with a stage; keeper and worker; an uplink with a broker."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, Self

from hil.broker import Broker
from hil.errors import BenchFaultError
from hil.processes.child import Child
from hil.processes.controlled import READY_S, ControlledRig
from hil.processes.spec import TIPGUARD, RigSpec, config_of, frontend_link_of, smu_command, stage_link_of
from hil.processes.waiting import Interruption

SMU: Final = "emulated 2400"
SMU_AND_STAGE: Final = "emulated 2400 with its stage"
UPLINK: Final = "uplink"
FLUSH_S: Final = 5.0


class BenchRig(ControlledRig):
    """One rig in a directory that no other shares. Whatever happened, :meth:`close` ends it, the output first."""

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
        super().__init__(
            directory, directory / "rig.toml", self.spec.rig, interruption=interruption, pin_to=self.spec.pin_to
        )
        self.link = directory / "smu"
        self.stage_link = None if self.spec.stage is None else stage_link_of(self.link)
        """Where the stage's port is; None without one."""
        self.frontend_link = None if self.spec.frontend is None else frontend_link_of(self.link)
        """Where the front end's port is; None without one."""
        self.truth_path = directory / "truth.jsonl"
        self.ready: dict[str, Any] = {}
        """What the emulator said when it was ready, as ``tipguard hil smu`` or ``tipguard hil rig`` does."""
        self._broker = broker
        self._smu_name = SMU if self.spec.stage is None else SMU_AND_STAGE
        self._smu_command = smu_command(self.spec, self.link, self.truth_path)
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
    def smu_log(self) -> Path:
        """Where what the emulator says is kept."""
        return self.directory / f"{self._smu_name}.log"

    @property
    def smu_command(self) -> list[str]:
        """How the emulator is started."""
        return list(self._smu_command)

    def _end_others(self) -> None:
        for name in (UPLINK, self._smu_name):
            child = self._children.get(name)
            if child is not None:
                child.stop(FLUSH_S)

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
