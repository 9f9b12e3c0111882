"""A scenario on processes: emulated 2400 on a pseudo-terminal, keeper and worker, in real time.

For what virtual time does not have: a worker that dies or hangs, a keeper that dies, a plug that is pulled. What the
instrument sends cannot be listened to here, so trust in samples is judged by the virtual benches only.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from pathlib import Path
from typing import Any, Final

import msgpack

from edge import rundir
from edge.ring import Kind, RingReader, unpack_sample
from hil.datagram import ask
from hil.errors import BenchFaultError
from hil.faults.injector import Applied
from hil.processes import BenchRig, FrontendSpec, RigSpec, wait_for
from hil.scenarios.evidence import Attempt, Evidence
from hil.scenarios.spec import Act, Scenario

LIVE_A: Final = 1e-7
"""A current that says the tip is live, in A."""
RUN_LIMIT_S: Final = 30.0
_SIGNALS: Final = {"kill-worker": signal.SIGKILL, "hang-worker": signal.SIGSTOP, "kill-keeper": signal.SIGKILL}


def gather(scenario: Scenario, directory: Path) -> Evidence:
    """Run a scenario of the bench "processes" in ``directory``, which must be empty; return the evidence."""
    seen = Evidence()
    faults = directory / "faults.toml"
    faults.write_text(_as_toml(scenario), encoding="utf-8")
    rig_spec = RigSpec(
        rig="scenario",
        seed=scenario.seed,
        load=scenario.rig.load or (None if scenario.rig.site else "ohmic:1e6"),
        site=scenario.rig.site,
        series_ohm=scenario.rig.series_ohm,
        baud=scenario.rig.baud,
        twin=scenario.rig.twin,
        frontend=FrontendSpec(settings=scenario.rig.config.get("frontend", {})) if scenario.rig.frontend else None,
        smu_words=("--faults", str(faults), "--control", str(directory / "control")) if scenario.plan.faults else (),
    )
    rig = BenchRig(directory / "rig", rig_spec)
    try:
        rig.start()
        seen.armed_ns = time.monotonic_ns()
        _first_run(scenario, rig, directory / "control", seen)
        _later_runs(scenario, rig, seen)
    finally:
        ending = rig.close()
    seen.output_off_at_end = ending.verified_off is True
    seen.truth = rig.truth()
    _from_ring(rig, seen)
    _from_emulator(rig, scenario, seen)
    return seen


def _first_run(scenario: Scenario, rig: BenchRig, control: Path, seen: Evidence) -> None:
    rig.start_run(scenario.run.plan, **scenario.run.parameters)
    uid = str(((rig.status() or {}).get("run") or {}).get("uid"))
    if scenario.act and not rig.wait_current(LIVE_A):
        raise BenchFaultError("the rig tripped before anything was done to it")
    for act in scenario.act:
        _do(act, rig, control, seen)
    status = rig.wait_state("SAFE", "TRIPPED", timeout_s=RUN_LIMIT_S) if scenario.act else None
    run = _ended_run(rig, uid)
    seen.run_ended_ns = seen.watched_until_ns = time.monotonic_ns()
    status = rig.status() or status or {}
    seen.state = str(status.get("state", ""))
    if run is None:
        # The worker that ran it is gone; what its successor says is the reason.
        seen.status, seen.reason = "tripped", str(status.get("verdict") or "")
    else:
        seen.status, seen.reason = str(run["status"]), str(run["reason"] or "")
    if status.get("alarm"):
        seen.alarms = {str(status["alarm"]).partition(":")[0]: str(status["alarm"])}


def _ended_run(rig: BenchRig, uid: str) -> dict[str, Any] | None:
    """Wait until the run has ended or its worker is gone; return its map, or None."""

    def look() -> dict[str, Any] | None:
        status = rig.status()
        if status is None:
            return None
        run = status.get("run")
        if not run or run["uid"] != uid:
            return {}
        return run if run["status"] != "running" else None

    return wait_for("the run to end", look, RUN_LIMIT_S) or None


def _do(act: Act, rig: BenchRig, control: Path, seen: Evidence) -> None:
    until = time.monotonic() + act.after_s
    wait_for("its time", lambda: time.monotonic() >= until or None, act.after_s + 5.0)
    if act.do == "demand":
        answer = ask(control, {"inject": [act.fault]})
        if not answer.get("ok"):
            raise BenchFaultError(f"fault {act.fault!r} on demand: {answer.get('error')}")
        return
    pid = rig.controller.pid if act.do == "kill-keeper" else rig.worker_pid()
    t_ns = time.monotonic_ns()
    os.kill(pid, _SIGNALS[act.do])
    seen.applied.append(
        Applied(
            name=act.do, kind="act", port="", t_ns=t_ns, byte=-1, frame=-1, sample=-1, phase="", detail=f"pid {pid}"
        )
    )
    if act.do == "kill-keeper":
        # Its worker cuts and goes too; another pair finds the rig.
        wait_for("the keeper's end", lambda: rig.controller.code is not None or None, 10.0)
        with contextlib.suppress(BenchFaultError):
            rig.wait_safe_after(t_ns)
        rig.start_controller()


def _later_runs(scenario: Scenario, rig: BenchRig, seen: Evidence) -> None:
    seen.next = _attempt(scenario, rig)
    if seen.next.how == "refused" and rig.call("rearm").get("ok"):
        seen.after_rearm = _attempt(scenario, rig)


def _attempt(scenario: Scenario, rig: BenchRig) -> Attempt:
    answer = rig.call("run", plan=scenario.run.plan, parameters=scenario.run.parameters)
    if not answer.get("ok"):
        return Attempt("refused", str(answer.get("error")))
    run = _ended_run(rig, str(answer["data"]["uid"]))
    if run is None:
        return Attempt("failed", "its worker went away")
    how = "clean" if run["status"] == "completed" else str(run["status"])
    return Attempt(how, str(run["reason"] or ""))


def _from_ring(rig: BenchRig, seen: Evidence) -> None:
    reader = RingReader(rig.run_directory / rundir.RING_FILE)
    while (record := reader.read()) is not None:
        if record.kind == Kind.SAMPLE:
            sample = unpack_sample(record.payload)[2]
            if sample.t_rx_ns <= seen.watched_until_ns:
                seen.samples.append(sample)
        elif record.kind == Kind.EVENT:
            event = msgpack.unpackb(record.payload)
            if int(event.get("t_ns") or event.get("decided_ns") or 0) <= seen.watched_until_ns:
                seen.events.append(event)


def _from_emulator(rig: BenchRig, scenario: Scenario, seen: Evidence) -> None:
    """Read what the emulator said it did."""
    told: set[str] = set()
    for line in rig.smu.output().splitlines():
        said: Any = None
        with contextlib.suppress(ValueError):
            said = json.loads(line)
        if isinstance(said, dict) and "applied" in said:
            told.add(str(said["applied"]))
            fields = {key: said[key] for key in ("kind", "port", "t_ns", "byte", "frame", "sample", "phase", "detail")}
            seen.applied.append(Applied(name=str(said["applied"]), **fields))
    seen.missed = tuple(fault.name for fault in scenario.plan.faults if fault.name not in told)


def _as_toml(scenario: Scenario) -> str:
    """Write the faults as a file of their own; JSON's strings, numbers and booleans are TOML's."""
    lines = [f"seed = {scenario.seed}"]
    for fault in scenario.fault:
        lines += ["", "[[fault]]", *(f"{key} = {json.dumps(value)}" for key, value in fault.items())]
    return "\n".join(lines) + "\n"
