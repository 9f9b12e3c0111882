"""One rig of the demo: its processes, who listens to it, and the run on it, by what was received."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, Final

from hil.broker import Broker
from hil.demo.plan import Part
from hil.demo.subscriber import Subscriber
from hil.errors import BenchFaultError
from hil.processes import BenchRig, Interruption

ONLINE_S: Final = 20.0
STAGE_S: Final = 10.0
GRACE_S: Final = 30.0
"""On top of what a plan takes, for a busy host."""
ARRIVAL_S: Final = 10.0


class ShownRig:
    """A rig and its subscriber. Nothing here asks the controller how a run goes: the subscriber knows."""

    def __init__(self, folder: Path, part: Part, broker: Broker, interruption: Interruption) -> None:
        """Prepare; starts nothing."""
        self.part = part
        self.subscriber = Subscriber(broker.host, broker.port, part.spec.rig)
        self.rig = BenchRig(folder / part.title, part.spec, broker=broker, interruption=interruption)
        self.uid = ""
        self._broker = broker
        self._longest_s = 0.0
        self._began = 0.0
        self._recorded = 0

    def listen(self) -> None:
        """Subscribe, before anything can be published."""
        try:
            self.subscriber.start()
        except OSError as error:
            raise BenchFaultError(f"{self._broker.kind} started but does not serve: {error}") from error

    def start(self) -> None:
        """Start the processes; return when the rig is SAFE, its stage has answered, and its status was received."""
        self.rig.start()
        self._wait("the uplink to reach the broker", lambda: self.subscriber.status.get("online") is True, ONLINE_S)
        if self.part.spec.stage is not None:
            self._wait("the stage to answer", self._stage_ready, STAGE_S)

    def _stage_ready(self) -> bool:
        status = self.rig.status()
        return bool(status and status.get("stage") and status["stage"]["ready"])

    def _wait(self, what: str, until: Any, timeout_s: float) -> None:  # noqa: ANN401 - a question
        deadline = time.monotonic() + timeout_s
        while not self.subscriber.wait(until, 0.05):
            self.rig.check()
            if time.monotonic() > deadline:
                raise BenchFaultError(f"{self.part.spec.rig}: waited {timeout_s:g} s for {what}")

    def run(self, parameters: dict[str, Any] | None = None) -> None:
        """Start the part's plan."""
        self.uid = self.rig.start_run(self.part.plan, **(parameters or self.part.parameters))
        self._began = time.monotonic()
        self._longest_s = 0.0

    def documents(self) -> list[dict[str, Any]]:
        """Return the run's documents received so far, in order."""
        return [doc for doc in self.subscriber.documents("run") if doc.get("uid") == self.uid]

    @property
    def ended(self) -> bool:
        """Whether the run's stop document has arrived."""
        return any(doc["kind"] == "stop" for doc in self.documents())

    def check(self) -> None:
        """Raise BenchFaultError saying what went wrong, or KeyboardInterrupt if the interruption came."""
        self.rig.check()
        if any(doc.get("kind") == "restart" for doc in self.subscriber.documents("event")):
            raise BenchFaultError(f"the worker ended during the run, and the keeper cut:\n{self.rig.controller.tail()}")
        if not self.subscriber.connected:
            raise BenchFaultError("the broker closed the connection to the subscriber")
        for doc in self.documents():
            if doc["kind"] == "start":
                self._longest_s = float(doc["parameters"]["duration_s"])
        if self.uid and time.monotonic() - self._began > self._longest_s + GRACE_S:
            raise BenchFaultError(
                f"the run on {self.part.spec.rig} did not end within {self._longest_s + GRACE_S:.0f} s; is this host "
                "very busy?"
            )

    def note_recorded(self) -> None:
        """Remember how many samples the controller has taken, for the balance."""
        status = self.rig.status()
        if status is None:
            raise BenchFaultError(f"{self.part.spec.rig}: the controller does not answer after the run")
        self._recorded = int(status["samples"])

    def balance(self) -> dict[str, int]:
        """Wait for what is on its way; return ``recorded``, ``received`` and ``missing`` samples."""

        def complete() -> bool:
            counts = self.subscriber.counts()
            return counts["missing"] == 0 and self.subscriber.n_samples() >= self._recorded

        self.subscriber.wait(complete, ARRIVAL_S)
        received = self.subscriber.n_samples()
        return {"recorded": self._recorded, "received": received, "missing": self._recorded - received}
