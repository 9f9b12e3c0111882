"""One rig of the demo: emulated 2400, controller and uplink as processes, in a folder of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from edge import rundir
from edge.control_client import ControlClient
from edge.errors import BusyError
from hil.broker import Broker
from hil.demo.children import Child, Interruption, environment_for
from hil.errors import BenchFaultError
from hil.processes import wait_for

SERIAL_NUMBER: Final = "1304207"
READY_S: Final = 20.0
STOP_S: Final = 8.0
"""Longer than the keeper takes to end a worker that hangs, cut and verify."""
FLUSH_S: Final = 5.0
SAFE_OFF_S: Final = 10.0
# -P: a folder named edge or hil where we were started is not ours.
PYTHON: Final = (sys.executable, "-P")

_CONFIG: Final = """\
# Written by tipguard demo; gone with it.
[rig]
id = {rig}
kind = "tip"
series_resistor_ohm = {series_ohm!r}

[ports.smu]
path = {link}
baud = {baud}

[smu]
serial_number = "{serial_number}"

[uplink]
host = {host}
port = {port}
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class RigSpec:
    """``site`` and ``seed`` as for ``tipguard hil smu``; ``series_ohm`` at the tip, ohm; ``baud`` 9600 to 57600."""

    rig: str
    seed: int
    site: str = "gb"
    series_ohm: float = 1000.0
    baud: int = 57600


@dataclass(frozen=True, slots=True)
class Ending:
    """How a rig ended. ``verified_off``: None when its controller never ran."""

    verified_off: bool | None
    report: str


class Rig:
    """Processes of one rig. Whatever happened, :meth:`close` ends them, the output first."""

    def __init__(self, spec: RigSpec, folder: Path, broker: Broker, interruption: Interruption) -> None:
        """Write the configuration; starts nothing."""
        self.spec = spec
        self.truth_path = folder / "truth.jsonl"
        self.ready: dict[str, Any] = {}
        """What the emulated instrument said when it was ready: link, pid, seed, u_median_v."""
        self._folder = folder
        self._run_directory = folder / "run"
        self._link = folder / "smu"
        self._config = folder / "rig.toml"
        self._environment = environment_for(self._run_directory)
        self._interruption = interruption
        self._children: dict[str, Child] = {}
        self._ending: Ending | None = None
        self._config.write_text(
            _CONFIG.format(
                rig=json.dumps(spec.rig),
                series_ohm=float(spec.series_ohm),
                link=json.dumps(str(self._link)),
                baud=spec.baud,
                serial_number=SERIAL_NUMBER,
                host=json.dumps(broker.host),
                port=broker.port,
            ),
            encoding="utf-8",
        )

    def start(self) -> None:
        """Start everything and return when the controller has verified that the output is off.

        Raises ChildDiedError or BenchFaultError saying what failed, KeyboardInterrupt when interrupted.
        """
        spec = self.spec
        self._start(
            "emulated 2400",
            *("-m", "hil", "smu", "--link", str(self._link), "--baud", str(spec.baud), "--site", spec.site),
            *("--series-ohm", repr(spec.series_ohm), "--seed", str(spec.seed), "--truth", str(self.truth_path)),
            *("--serial-number", SERIAL_NUMBER),
        )
        # It waits for the ring by itself, so it can take its time to start meanwhile.
        self._start("uplink", "-m", "edge.cli.main", "uplink", str(self._config))
        self.ready = wait_for("the emulated 2400", self._smu_ready, READY_S)
        self._start("controller", "-m", "edge.cli.main", "controller", str(self._config))
        wait_for("the controller", self._controller_ready, READY_S)

    def _start(self, name: str, *arguments: str) -> None:
        self._children[name] = Child(name, [*PYTHON, *arguments], self._folder, self._environment)

    def check(self) -> None:
        """Raise ChildDiedError if a process has ended, KeyboardInterrupt if a signal has come."""
        self._interruption.check()
        for child in self._children.values():
            child.check()

    def _smu_ready(self) -> dict[str, Any] | None:
        self.check()
        line, newline, _ = self._children["emulated 2400"].output().partition("\n")
        if not newline:
            return None
        try:
            ready = json.loads(line)
        except ValueError:
            ready = None
        if not isinstance(ready, dict) or ready.get("ready") is not True:
            raise BenchFaultError(f"the emulated 2400 said {line[:200]!r} instead of being ready")
        return ready

    def _controller_ready(self) -> bool:
        self.check()
        try:
            state = self.status()["state"]
        except BusyError:
            return False
        if state == "TRIPPED":
            raise BenchFaultError("the controller started TRIPPED on a rig that is new")
        return bool(state == "SAFE")

    def status(self) -> dict[str, Any]:
        """Ask the controller for its status; raise BusyError when it does not answer."""
        return self._call("status", {})

    def start_run(self, plan: str, parameters: Mapping[str, Any]) -> str:
        """Start a plan and return its uid (16 hex digits); raise BenchFaultError with the reason it was refused."""
        uid = self._call("run", {"plan": plan, "parameters": dict(parameters)})["uid"]
        return str(uid)

    def _call(self, verb: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
        with ControlClient(self._run_directory / self.spec.rig / rundir.CONTROL_SOCKET) as client:
            answer = client.call(verb, **arguments)
        data = answer.get("data")
        if not answer.get("ok") or not isinstance(data, dict):
            raise BenchFaultError(f"the controller refuses {verb!r}: {answer.get('error')}")
        return data

    # ---------------------------------------------------------------------------------------------------- the end

    def close(self) -> Ending:
        """Output verified off, then the rest: controller, uplink, instrument. A second call only reports."""
        if self._ending is None:
            self._ending = self._switch_off()
            for name in ("uplink", "emulated 2400"):
                if name in self._children:
                    self._children[name].stop(FLUSH_S)
        return self._ending

    def _switch_off(self) -> Ending:
        controller = self._children.get("controller")
        if controller is None:
            return Ending(None, "the controller never ran; nothing was switched on")
        if controller.stop(STOP_S) == 0:
            return Ending(True, "output verified off")
        # Its last word was not "verified off": cut without it, as a service manager would.
        done = subprocess.run(
            [*PYTHON, "-m", "edge.controller.safe_off", str(self._config)],
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=SAFE_OFF_S,
            check=False,
        )
        return Ending(done.returncode == 0, (done.stdout + done.stderr).strip())

    def controller_tail(self) -> str:
        """Return the controller's last lines."""
        return self._children["controller"].tail()

    @property
    def pids(self) -> dict[str, int]:
        """Process ids by name."""
        return {name: child.pid for name, child in self._children.items()}
