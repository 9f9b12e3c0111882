"""The arms as things that can be given a trial: scripts in processes of their own, the controller as shipped."""

from __future__ import annotations

import dataclasses
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, Protocol

from hil.bench.dose import trials
from hil.bench.dose.talk import Desk, Resident
from hil.bench.dose.trials import DWELL_S, THRESHOLD_A, TO_V, Trial
from hil.broker import Broker
from hil.errors import BenchFaultError
from hil.processes import ControlledRig
from hil.processes.rig import UPLINK
from hil.processes.spec import PYTHON, TIPGUARD, RigSpec, config_of

READY_S: Final = 30.0
ANSWER_S: Final = 60.0
ASK_AFTER_S: Final = 5.0
"""A run whose site does not give way is asked after from then on; before, only once the tip is safe."""
HERE: Final = Path(__file__).parent
FLUSH_S: Final = 5.0


class Server:
    """The emulated instruments; see :mod:`hil.bench.dose.served`."""

    def __init__(self, desk: Desk, folder: Path, lines: list[str]) -> None:
        """Start it and wait until all lines can be opened."""
        self._desk = desk
        self._folder = folder
        self._asked = 0
        self._resident = desk.start("instruments", [*PYTHON, "-m", "hil.bench.dose.served", str(folder), *lines])
        self.safe: dict[str, int] = {}
        """Lines whose site was set and is safe again, with the time in ns; from :meth:`put` on."""
        ready = desk.wait("the emulated instruments", self._pop, READY_S)
        self.no_fifo: str | None = ready["no_fifo"]
        """Why the instruments run at ordinary priority; None where they do not."""

    def link(self, line: str) -> Path:
        """Return the path that leads to a line's pseudo-terminal."""
        return self._folder / line

    def _pop(self) -> dict[str, Any] | None:
        """Return the next answer; events are noted on the way."""
        while self._resident.inbox:
            said = self._resident.inbox.popleft()
            if "event" not in said:
                return said
            if said["event"] == "safe":
                self.safe[said["line"]] = said["t_ns"]
        return None

    def notice(self) -> None:
        """Note events; there must be no answer among them."""
        if (said := self._pop()) is not None:
            raise BenchFaultError(f"the instruments said {str(said)[:100]} unasked")

    def _ask(self, order: dict[str, Any]) -> dict[str, Any]:
        self._asked += 1
        self._resident.send({"id": self._asked, **order})
        answer = self._desk.wait("the instruments' answer", self._pop, READY_S)
        if answer["id"] != self._asked:
            raise BenchFaultError(f"the instruments answered {answer['id']}, asked was {self._asked}")
        return answer

    def put(self, line: str, trial: Trial) -> None:
        """Put the trial's site to a line's terminals."""
        self._ask({"do": "put", "line": line, "seed": trial.seed, "traced": trial.traced})
        self.safe.pop(line, None)

    def judge(self, line: str, arm: str) -> dict[str, Any]:
        """Return what the trial did to its site, once the output is off."""

        def ask() -> dict[str, Any] | None:
            answer = self._ask({"do": "judge", "line": line, "cut": trials.CUTS[arm]})
            return None if answer.get("busy") else answer

        # Each turn listens for 20 ms in between.
        return self._desk.wait(f"{line}: its output to be off", ask, READY_S)


class Arm(Protocol):
    """Somebody who sweeps."""

    line: str
    name: str

    def start(self, trial: Trial) -> None:
        """Begin a sweep."""

    def ended(self) -> dict[str, Any] | None:
        """Return what it says of its sweep when it has ended, else None."""


class ScriptArm:
    """A script, resident between sweeps."""

    def __init__(self, desk: Desk, name: str, line: str, link: Path, script: str, threshold_a: float | None) -> None:
        """Start it; :meth:`ready` when it has opened its port."""
        self.name, self.line = name, line
        self._threshold_a = threshold_a
        self._resident: Resident = desk.start(f"{line}-script", [sys.executable, str(HERE / script), str(link)])

    def ready(self) -> bool:
        """Whether it waits for its first sweep."""
        return bool(self._resident.inbox and self._resident.inbox.popleft()["ready"])

    def start(self, trial: Trial) -> None:
        """See Arm."""
        self._resident.send({"levels_v": list(trial.levels_v), "threshold_a": self._threshold_a})

    def ended(self) -> dict[str, Any] | None:
        """See Arm."""
        if not self._resident.inbox:
            return None
        return {"n_readings": len(self._resident.inbox.popleft()["readings"])}


class UplinkedRig(ControlledRig):
    """A controller with its uplink, on a port that somebody else serves."""

    def __init__(self, folder: Path, spec: RigSpec, link: Path, broker: Broker) -> None:
        """Write the configuration; starts nothing."""
        super().__init__(folder, folder / "rig.toml", spec.rig, interruption=None)
        self.config_path.write_text(config_of(spec, link, broker), encoding="utf-8")

    def start(self) -> None:
        """Start both; the controller has verified the output off when this returns."""
        self._start(UPLINK, [*TIPGUARD, "uplink", str(self.config_path)])
        self.start_controller()

    def _end_others(self) -> None:
        child = self._children.get(UPLINK)
        if child is not None:
            child.stop(FLUSH_S)


class ControllerArm:
    """The controller as shipped; its plan ``iv`` is given over control.sock."""

    def __init__(self, name: str, server: Server, folder: Path, broker: Broker, spec: RigSpec) -> None:
        """Prepare; :meth:`start_processes` starts it."""
        self.name = self.line = name
        self._server = server
        self.rig = UplinkedRig(folder / f"{name}-rig", dataclasses.replace(spec, rig=name), server.link(name), broker)
        self._began = 0.0

    def start(self, trial: Trial) -> None:
        """See Arm."""
        self.rig.start_run("iv", to_v=TO_V, step_v=trial.step_v, dwell_s=DWELL_S, back_scan=False)
        self._began = time.monotonic()

    def ended(self) -> dict[str, Any] | None:
        """See Arm. Asks the worker nothing before the tip is safe: it is measured."""
        if self.line not in self._server.safe and time.monotonic() < self._began + ASK_AFTER_S:
            return None
        status = self.rig.status()
        if status is None or status["run"]["status"] == "running":
            return None
        run = status["run"]
        said = {
            "status": run["status"],
            "verdict": (status["last_event"] or {}).get("verdict"),
            "reason": run["reason"],
        }
        if status["state"] == "TRIPPED":
            # Counted, told, and gone on from: a person would rearm.
            self.rig.call("rearm")
        return said


def scripts(desk: Desk, server: Server, clamps: list[str], usuals: list[str]) -> list[ScriptArm]:
    """Start the scripts on their lines, and return them when all wait for their first sweep."""
    # clamp: the competent script without its comparison, so that nobody cuts before the sweep's end.
    wanted: list[tuple[str, str, str, float | None]] = [
        (trials.COMPETENT, trials.COMPETENT, "competent_script.py", THRESHOLD_A),
        *((trials.CLAMP, line, "competent_script.py", None) for line in clamps),
        *((trials.USUAL, line, "usual_script.py", THRESHOLD_A) for line in usuals),
    ]
    arms = [ScriptArm(desk, name, line, server.link(line), file, limit) for name, line, file, limit in wanted]
    for arm in arms:
        desk.wait(f"the script on {arm.line}", arm.ready, READY_S)
    return arms


def run_together(
    desk: Desk, server: Server, given: Sequence[tuple[Arm, Trial]], check: Callable[[], None]
) -> list[dict[str, Any]]:
    """Run trials at the same time, one an arm; return one map per trial: site, arm, condition, what became of it."""
    for arm, trial in given:
        server.put(arm.line, trial)
        arm.start(trial)
    said: dict[str, dict[str, Any]] = {}

    def all_ended() -> bool:
        check()
        server.notice()
        for arm, _ in given:
            if arm.line not in said and (words := arm.ended()) is not None:
                said[arm.line] = words
        return len(said) == len(given)

    desk.wait(f"{', '.join(arm.line for arm, _ in given)} to end", all_ended, ANSWER_S)
    found = []
    for arm, trial in given:
        judged = server.judge(arm.line, trial.arm)
        head = {"site": trial.site, "seed": trial.seed, "arm": trial.arm, "condition": trial.condition}
        found.append({**head, "step_v": trial.step_v, "said": said[arm.line], **judged["found"]})
        found[-1]["at_onset"] = judged.get("at_onset")
    return found
