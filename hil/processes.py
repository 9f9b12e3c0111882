"""A whole rig as processes on a pseudo-terminal: emulated 2400, keeper and worker; what the kill rounds work on.

Used by tests and scenarios. Everything it starts it ends, by process id.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from edge import rundir
from edge.config import Config, load, template
from edge.control_client import ControlClient
from edge.errors import TipguardError
from hil.errors import BenchFaultError

T = TypeVar("T")
READY_S = 20.0


def wait_for(what: str, look: Callable[[], T | None], timeout_s: float, *, step_s: float = 0.005) -> T:
    """Return what ``look`` first returns that is not None or False; raise BenchFaultError after ``timeout_s``."""
    end = time.monotonic() + timeout_s
    while time.monotonic() < end:
        found = look()
        if found is not None and found is not False:
            return found
        # A bounded wait on nothing: the things waited for (files, other processes) have no descriptor to wait on.
        select.select([], [], [], step_s)
    raise BenchFaultError(f"waited {timeout_s:g} s for {what}")


class BenchRig:
    """One rig in ``directory``; use :meth:`running`."""

    def __init__(
        self,
        directory: Path,
        *,
        load_option: Sequence[str] = ("--load", "ohmic:10000"),
        series_ohm: float = 1000.0,
        seed: int = 1,
        rig: str = "bench",
        baud: int = 57600,
        config_text: Callable[[str], str] = lambda text: text,
        pin_to: int | None = None,
        pin_smu_to: int | None = None,
    ) -> None:
        """Prepare; starts nothing. ``config_text`` edits the configuration; ``pin_to``: a core for the controller."""
        self.directory = directory
        self.link = directory / "smu"
        self.truth_path = directory / "truth.jsonl"
        self.config_path = directory / "rig.toml"
        self.environment = {**os.environ, "RUNTIME_DIRECTORY": str(directory / "run")}
        self._smu_command = [
            *(["taskset", "-c", str(pin_smu_to)] if pin_smu_to is not None else []),
            sys.executable, "-m", "hil", "smu", "--link", str(self.link), "--baud", str(baud),
            *load_option, "--series-ohm", f"{series_ohm:g}", "--seed", str(seed), "--truth", str(self.truth_path),
        ]  # fmt: skip
        text = template(path=str(self.link), serial_number="1304207", series_ohm=series_ohm)
        text = text.replace('id = "bench-1"', f'id = "{rig}"').replace("baud = 57600", f"baud = {baud or 57600}")
        self.config_path.write_text(config_text(text), encoding="utf-8")
        self.rig = rig
        self.smu: subprocess.Popen[str] | None = None
        self.controller: subprocess.Popen[bytes] | None = None
        self._pin_to = pin_to

    @property
    def config(self) -> Config:
        """The configuration in force."""
        return load(self.config_path)

    @property
    def run_directory(self) -> Path:
        """The rig's run directory."""
        return self.directory / "run" / self.rig

    @classmethod
    @contextlib.contextmanager
    def running(cls, directory: Path, **options: Any) -> Iterator[BenchRig]:  # noqa: ANN401 - the constructor's
        """Start the instrument and the controller; end both."""
        rig = cls(directory, **options)
        try:
            rig.start_smu()
            rig.start_controller()
            yield rig
        finally:
            rig.stop()

    def start_smu(self) -> None:
        """Start the emulated instrument and wait until it can be opened."""
        self.smu = subprocess.Popen(self._smu_command, stdout=subprocess.PIPE, text=True)
        assert self.smu.stdout is not None  # noqa: S101 - asked for above
        line = self.smu.stdout.readline()
        if not line or not json.loads(line).get("ready"):
            raise BenchFaultError(f"the emulated SMU did not start: {' '.join(self._smu_command)}")

    def start_controller(self, *, wait: bool = True) -> None:
        """Start keeper and worker; ``wait`` until the worker has left UNKNOWN."""
        command = [sys.executable, "-m", "edge.cli.main", "controller", str(self.config_path)]
        if self._pin_to is not None:
            command = ["taskset", "-c", str(self._pin_to), *command]
        # A group of its own, so that a test can do to it what a terminal does.
        self.controller = subprocess.Popen(command, env=self.environment, process_group=0)
        if wait:
            self.wait_state("SAFE", "TRIPPED")

    def client(self) -> ControlClient:
        """Connect to the worker."""
        return ControlClient(self.run_directory / rundir.CONTROL_SOCKET)

    def call(self, verb: str, **args: Any) -> dict[str, Any]:  # noqa: ANN401 - checked by the worker
        """Ask the worker; return its reply map."""
        with self.client() as client:
            return client.call(verb, **args)

    def status(self) -> dict[str, Any] | None:
        """Return the worker's status, or None while none answers."""
        with contextlib.suppress(TipguardError):
            data = self.call("status")["data"]
            return data if isinstance(data, dict) else None
        return None

    def wait_state(self, *states: str, timeout_s: float = READY_S) -> dict[str, Any]:
        """Wait until the state is one of ``states``; return that status."""

        def look() -> dict[str, Any] | None:
            if self.controller is not None and self.controller.poll() is not None:
                raise BenchFaultError(f"the controller ended with {self.controller.returncode}")
            status = self.status()
            return status if status is not None and status["state"] in states else None

        return wait_for(f"state {' or '.join(states)}", look, timeout_s)

    def start_iv(self, **parameters: Any) -> str:  # noqa: ANN401 - checked by the worker
        """Start an I-V plan; return its uid."""
        answer = self.call("run", plan="iv", parameters=parameters)
        if not answer["ok"]:
            raise BenchFaultError(f"run refused: {answer['error']}")
        return str(answer["data"]["uid"])

    def wait_current(self, least_a: float, timeout_s: float = READY_S) -> bool:
        """Wait until a reading of at least ``least_a`` in magnitude was taken while energised; False if it tripped."""

        def look() -> dict[str, Any] | None:
            status = self.status()
            if status is None or status["state"] == "TRIPPED":
                return status
            sample = status["sample"] if status["state"] == "ENERGISED" else None
            return status if sample is not None and abs(sample["current_a"]) >= least_a else None

        return bool(wait_for(f"a current of {least_a:g} A", look, timeout_s)["state"] != "TRIPPED")

    def worker_pid(self) -> int:
        """Return the worker's process id."""
        status = self.status()
        if status is None:
            raise BenchFaultError("no worker answers")
        return int(status["pid"])

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

        return wait_for("the twin to be safe", look, timeout_s)

    def stop(self) -> None:
        """End the controller, then the instrument."""
        for process in (self.controller, self.smu):
            if process is None or process.poll() is not None:
                continue
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(8)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        if self.smu is not None and self.smu.stdout is not None:
            self.smu.stdout.close()
