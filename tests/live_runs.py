"""Runs of real processes on a host that others use, too: begun again where the host's lateness, and nothing else, cut.

At 57600 baud an exchange takes 13 ms and a reading is due after 40: a worker or an emulated instrument that waits 27 ms
for a core makes one STALE, and a front end's renewal that is as late lets the LEASE run out. Both are cut, as they
should be, and are not what these tests look at. Any other trip fails; each further try is said in the output.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar

import pytest

from hil.broker import Broker
from hil.processes import BenchRig, RigSpec, wait_for

T = TypeVar("T")
LATE: Final = frozenset({"STALE", "LEASE"})
"""Verdicts that an emulated bench gives for no other reason than a host that was late."""
TRIES: Final = 5
LEAST_A: Final = 1e-7
"""A hundred sigma of the range: the twin is certain to be live."""
FLOWS_S: Final = 20.0
REARM_S: Final = 10.0


class TooLateError(Exception):
    """The host's lateness ended a run that had to come to its end."""


class Rig(Protocol):
    """What is asked of a rig."""

    def status(self) -> dict[str, Any] | None: ...
    def call(self, verb: str, /) -> dict[str, Any]: ...
    def start_run(self, plan: str, **parameters: Any) -> str: ...  # noqa: ANN401 - the plan's own
    def wait_state(self, *states: str) -> dict[str, Any]: ...


def sweep(
    rig: Rig,
    *,
    to_v: float = -1.0,
    step_v: float = 0.01,
    dwell_s: float = 0.02,
    least_a: float = LEAST_A,
    tries: int = TRIES,
) -> str:
    """Start a sweep and return its uid once current flows."""
    begin = partial(rig.start_run, "iv", to_v=to_v, step_v=step_v, dwell_s=dwell_s, back_scan=False)
    return flowing(rig, begin, least_a=least_a, tries=tries)


def flowing(rig: Rig, begin: Callable[[], T], *, least_a: float = LEAST_A, tries: int = TRIES) -> T:
    """Have ``begin`` start a run on a SAFE rig; return what it returned once current flows."""
    for _ in range(tries):
        # Not by any sample: until the first reading of this run, a status has the last one of the run before.
        began_ns = time.monotonic_ns()
        begun = begin()
        if flows(rig, began_ns, least_a):
            return begun
        rearm_after_lateness(rig)
    pytest.fail(f"the host was late {tries} times before a current flowed")


def flows(rig: Rig, began_ns: int, least_a: float = LEAST_A) -> bool:
    """Wait for a current of at least ``least_a`` in a reading since ``began_ns``; False if the rig tripped before."""

    def look() -> dict[str, Any] | None:
        status = rig.status()
        if status is None or status["state"] == "TRIPPED":
            return status
        sample = status["sample"] if status["state"] == "ENERGISED" else None
        taken = sample is not None and sample["t_ns"] >= began_ns and abs(sample["current_a"]) >= least_a
        return status if taken else None

    return bool(wait_for(f"a current of {least_a:g} A", look, FLOWS_S)["state"] != "TRIPPED")


def rearm_after_lateness(rig: Rig) -> None:
    """Have a tripped rig SAFE again if it was the host that was late; fail for anything else."""
    verdict = rig.wait_state("TRIPPED")["verdict"]
    if verdict not in LATE:
        pytest.fail(f"tripped by {verdict}, which is not the host's lateness")
    print(f"\n{verdict}: the host was late; another try")
    # Refused until the run that tripped has ended.
    wait_for("the re-arm", lambda: rig.call("rearm")["ok"], REARM_S)


def ended(rig: Rig, uid: str, timeout_s: float) -> dict[str, Any]:
    """Return what a status says of the run ``uid`` once it has ended. TooLateError if the host's lateness ended it."""

    def look() -> dict[str, Any] | None:
        run = (rig.status() or {}).get("run")
        return run if run and run["uid"] == uid and run["status"] != "running" else None

    run = wait_for("the end of the run", look, timeout_s)
    check_lateness(rig.wait_state("SAFE", "TRIPPED"))
    return run


def check_lateness(status: dict[str, Any]) -> None:
    """Raise TooLateError if that is what tripped the rig."""
    if status["state"] == "TRIPPED" and status["verdict"] in LATE:
        raise TooLateError(status["verdict"])


def on_a_rig(
    directory: Path, spec: RigSpec, work: Callable[[BenchRig], T], *, broker: Broker | None = None, tries: int = TRIES
) -> T:
    """Return what ``work`` returns on a rig of its own; on a new one, with nothing behind it, where it was TooLate."""
    for number in range(tries):
        try:
            with BenchRig.running(directory / f"rig{number}", spec, broker=broker) as rig:
                return work(rig)
        except TooLateError as late:
            print(f"\n{late}: the host was late; another rig")
    pytest.fail(f"the host was late on each of {tries} rigs")
