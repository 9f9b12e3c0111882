"""A rig as a test sees it: what every bench can do, and questions about what only some can."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from edge.config import Config, load
from edge.samples import Sample
from hil.errors import BenchFaultError
from hil.processes import ControlledRig, Ending, wait_for
from hil.suite.record import RingRecord

RUN_S: Final = 60.0
TAIL_LINES: Final = 40
AT_REST: Final = ("SAFE", "TRIPPED")


@dataclass(frozen=True, slots=True)
class Run:
    """A run that has ended: ``status`` and ``reason`` as in the controller's status document, and what it recorded.

    ``samples`` in the order they were taken; ``events`` since its start, ``documents`` its own, as they are published.
    """

    uid: str
    status: str
    reason: str | None
    results: Mapping[str, Any]
    samples: tuple[Sample, ...]
    events: tuple[dict[str, Any], ...]
    documents: tuple[dict[str, Any], ...]


class RigHandle:
    """One rig. ``samples()``, ``events()``, ``documents()`` and ``truth`` go back to the beginning of the test.

    Methods raise BenchFaultError when something takes too long or is refused, with the controller's reason, and
    ChildDiedError when a process of the rig has ended.
    """

    def __init__(
        self,
        controlled: ControlledRig,
        *,
        start: Callable[[], None],
        command: str,
        logs: Mapping[str, Path],
        capabilities: frozenset[str],
        load_ohm: float | None = None,
        truth: Callable[[], list[dict[str, Any]]] | None = None,
        may_rearm: bool = True,
    ) -> None:
        """Wrap a rig that is not started.

        ``start`` starts it and returns when its state is known. ``command``: what to type to have its instruments
        again. ``logs``: files by name, for reports. ``load_ohm``: what is known to be behind the series resistor.
        ``may_rearm``: whoever started the suite has said that it may.
        """
        self.controlled = controlled
        self.command = command
        self.capabilities = capabilities
        self.load_ohm = load_ohm
        self._start = start
        self._logs = dict(logs)
        self._truth = truth
        self._may_rearm = may_rearm
        self._record = RingRecord(controlled.run_directory / "ring")
        self._began_ns = 0
        self._marks = (0, 0, 0)
        self._events_before = 0

    # ---------------------------------------------------------------------------------------------- what it is

    @property
    def emulated(self) -> bool:
        """Whether nothing real can be damaged."""
        return "emulated" in self.capabilities

    @property
    def config(self) -> Config:
        """The rig's configuration."""
        return load(self.controlled.config_path)

    @property
    def series_ohm(self) -> float:
        """The series resistor that the configuration declares, in ohm."""
        return self.config.rig.series_resistor_ohm

    @property
    def truth(self) -> list[dict[str, Any]] | None:
        """The sample's own record since the test began, where the bench has one: on hardware there is none."""
        if self._truth is None:
            return None
        return [entry for entry in self._truth() if entry["t_ns"] >= self._began_ns]

    def log(self, name: str) -> str:
        """Return the last lines of a log, by its name in ``logs``."""
        path = self._logs[name]
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else []
        return "\n".join(lines[-TAIL_LINES:]) or "(it said nothing)"

    @property
    def logs(self) -> tuple[str, ...]:
        """Names of the logs."""
        return tuple(self._logs)

    # ------------------------------------------------------------------------------------------ what it can do

    def open(self) -> None:
        """Start it. Raises BenchFaultError where it cannot be used, with the reason."""
        self._start()
        if "stage" in self.capabilities:
            wait_for("the stage to be ready", self._stage_ready, 10.0)

    def _stage_ready(self) -> bool:
        self.controlled.check()
        stage = self.status()["stage"]
        return stage is not None and bool(stage["ready"])

    def begin(self) -> None:
        """Get ready for a test: nothing runs, the output is off and nothing is latched; the record begins here."""
        self.controlled.check()
        status = self.status()
        if status["run"] is not None and status["run"]["status"] == "running":
            self.stop()
        if self.controlled.wait_state(*AT_REST)["state"] == "TRIPPED":
            self.rearm()
        self._record.take()
        record = self._record
        self._began_ns = time.monotonic_ns()
        self._marks = (len(record.samples), len(record.events), len(record.documents))

    def status(self) -> dict[str, Any]:
        """Return the controller's status document."""
        status = self.controlled.status()
        if status is None:
            raise BenchFaultError("no controller answers")
        return status

    def start(self, plan: str, **parameters: Any) -> str:  # noqa: ANN401 - checked by the controller
        """Start a run and return its uid; whatever the controller refuses is raised with its reason."""
        self._record.take()
        self._events_before = len(self._record.events)
        return self.controlled.start_run(plan, **parameters)

    def wait(self, uid: str, timeout_s: float = RUN_S) -> Run:
        """Wait until a run has ended and everything is at rest; return it."""

        def ended() -> dict[str, Any] | None:
            self.controlled.check()
            # Read meanwhile: a long run must not fill the ring.
            self._record.take()
            status = self.controlled.status()
            run = None if status is None or status["state"] not in AT_REST else status["run"]
            return run if run is not None and run["uid"] == uid and run["status"] != "running" else None

        run = wait_for(f"run {uid} to end", ended, timeout_s)
        return Run(
            uid,
            run["status"],
            run.get("reason"),
            run.get("results") or {},
            tuple(self.samples(uid)),
            tuple(self._record.events[self._events_before :]),
            tuple(document for document in self.documents() if document["uid"] == uid),
        )

    def run(self, plan: str, *, timeout_s: float = RUN_S, **parameters: Any) -> Run:  # noqa: ANN401 - checked by the controller
        """Start a run and wait for its end."""
        return self.wait(self.start(plan, **parameters), timeout_s)

    def stop(self) -> dict[str, Any]:
        """Stop what runs and wait until the output is verified off; return that status."""
        answer = self.controlled.call("stop")
        if not answer.get("ok"):
            raise BenchFaultError(f"the controller refuses 'stop': {answer.get('error')}")
        return self.controlled.wait_state(*AT_REST)

    def rearm(self) -> dict[str, Any]:
        """Take a latched trip back, as a person would who has looked at the rig; return that status."""
        if not self._may_rearm:
            status = self.status()
            raise BenchFaultError(
                f"the rig is {status['state']} ({status['verdict']}): look at it, then start pytest with --rig-rearm"
            )
        answer = self.controlled.call("rearm")
        if not answer.get("ok"):
            raise BenchFaultError(f"the controller refuses 'rearm': {answer.get('error')}")
        return self.controlled.wait_state("SAFE")

    def wait_current(self, least_a: float, timeout_s: float = 20.0) -> bool:
        """Wait for a reading of at least ``least_a`` in magnitude while energised; False if the rig tripped first."""
        return self.controlled.wait_current(least_a, timeout_s)

    def wait_bias(self, least_v: float, timeout_s: float = 20.0) -> dict[str, Any]:
        """Wait for a reading at a bias of at least ``least_v`` in magnitude while energised; return that status."""

        def look() -> dict[str, Any] | None:
            self.controlled.check()
            status = self.status()
            sample = status["sample"] if status["state"] == "ENERGISED" else None
            return status if sample is not None and abs(sample["bias_v"]) >= least_v else None

        return wait_for(f"a bias of {least_v:g} V", look, timeout_s)

    def samples(self, uid: str | None = None) -> list[Sample]:
        """Return the samples since the test began, or those of one run."""
        self._record.take()
        wanted = None if uid is None else int(uid, 16)
        return [sample for run, sample in self._record.samples[self._marks[0] :] if wanted in {None, run}]

    def events(self) -> list[dict[str, Any]]:
        """Return the events since the test began."""
        self._record.take()
        return self._record.events[self._marks[1] :]

    def documents(self) -> list[dict[str, Any]]:
        """Return the run documents since the test began."""
        self._record.take()
        return self._record.documents[self._marks[2] :]

    def close(self) -> Ending:
        """End it, the output first; a second call only reports."""
        self._record.take()
        self._record.close()
        return self.controlled.close()
