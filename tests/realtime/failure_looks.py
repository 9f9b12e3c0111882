"""What must be so after a blow of the table of failures, once the tip was safe. See failures.py."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from edge import rundir
from edge.ring import Kind, unpack_sample
from hil.processes import wait_for
from hil.processes.forms import FormRig
from hil.processes.supervised import SupervisedRig
from hil.ring_whole import whole_ring
from tests.realtime.failures import CHECK_EVERY, READ_DEADLINE_S, cable_of, signal_all

Look = Callable[[FormRig, int], None]
"""Gets the rig, and when it was struck."""


def samples_between(rig: FormRig, from_ns: int, to_ns: int) -> int:
    """Return how many readings came in; from the ring, whatever the uplink has released of it."""
    return sum(
        record.kind == Kind.SAMPLE and from_ns < unpack_sample(record.payload)[2].t_rx_ns < to_ns
        for record in whole_ring(rig.run_directory / rundir.RING_FILE)
    )


def last_cut(rig: FormRig) -> dict[str, Any]:
    event = (rig.status() or {}).get("last_event")
    assert event is not None
    assert event["kind"] == "cut"
    return dict(event)


def tripped(verdict: str) -> Look:
    def look(rig: FormRig, _struck_ns: int) -> None:
        assert rig.wait_state("TRIPPED")["verdict"] == verdict
        # Nothing but a person leads on.
        assert not rig.call("run", plan="iv", parameters={"to_v": -0.1})["ok"]

    return look


def restarted_tripped(rig: FormRig, struck_ns: int) -> None:
    tripped("RESTART")(rig, struck_ns)
    assert (rig.status() or {})["keeper_cuts"] >= 1


def uplink_back(rig: FormRig, struck_ns: int) -> None:
    """Whoever is in charge starts another."""
    tripped("OPERATOR")(rig, struck_ns)
    wait_for("another uplink", lambda: rig.uplink_pid, 15)


def told_after(rig: SupervisedRig, event: str, t_ns: int) -> dict[str, Any] | None:
    return next((one for one in rig.told(event) if one["t_ns"] > t_ns), None)


def looked_after(rig: FormRig, struck_ns: int) -> None:
    """The controller ended without its last word: whoever is in charge had it, and that in time."""
    if isinstance(rig, SupervisedRig):
        done = wait_for("safe-off", lambda: told_after(rig, "safe-off", struck_ns), 10)
        ended = rig.told("ended")[-1]
        assert done["code"] == 0, done
        assert "verified off" in done["said"]
        assert done["took_s"] < 2.0
        assert done["t_ns"] > ended["t_ns"]
        # Restart=on-failure; it comes back latched.
        wait_for("another start", lambda: len(rig.told("started")) > len(rig.told("ended")), 10)
        rig.wait_state("TRIPPED")
    else:
        assert rig.controller.wait(12) == 1
        assert "output verified off" in rig.controller.output()
        rig.start_controller()
        assert rig.wait_state("SAFE", "TRIPPED")["state"] == "TRIPPED"


def ended_well(rig: FormRig, _struck_ns: int) -> None:
    """In order, with the keeper's own last word; the next one comes up latched with the reason, not with RESTART."""
    assert rig.controller.wait(12) == 0
    rig.start_controller()
    assert rig.wait_state("SAFE", "TRIPPED")["verdict"] == "SHUTDOWN"


def keeper_ended_too(rig: FormRig, _struck_ns: int) -> None:
    rig.controller.wait(10)
    wait_for("the keeper's end", lambda: not rundir.controller_runs(rig.run_directory), 10)
    # Nor does its uplink outlive it, to fight with the next one for the broker.
    wait_for("the uplink's end", lambda: not any(Path(f"/proc/{pid}").exists() for pid in rig.parts[2:]), 10)
    rig.start_controller()
    assert rig.wait_state("SAFE", "TRIPPED")["verdict"] == "SHUTDOWN"


def thawed(rig: FormRig, _struck_ns: int) -> None:
    signal_all(rig.parts, signal.SIGCONT)
    rig.wait_state("TRIPPED")


def within_read_deadline(rig: FormRig, struck_ns: int) -> None:
    """The panel made the tip safe by itself; the controller saw it and latched within the deadline of a reading."""
    status = rig.wait_state("TRIPPED")
    decided_ns = last_cut(rig)["decided_ns"]
    assert status["verdict"] in ("STALE", "OUTPUT_CHANGED", "UNPARSABLE")
    assert (decided_ns - struck_ns) / 1e9 <= READ_DEADLINE_S


def within_16_samples(verdict: str) -> Look:
    def look(rig: FormRig, struck_ns: int) -> None:
        tripped(verdict)(rig, struck_ns)
        seen = samples_between(rig, struck_ns, last_cut(rig)["decided_ns"])
        print(f"    {seen} samples between the change and the cut")
        # One more may have been on its way when the panel was touched.
        assert seen <= CHECK_EVERY + 1

    return look


def replugged(rig: FormRig, struck_ns: int) -> None:
    """Latched with the reason; what was sent on the new line is a cut, a question, and then what a start-up asks."""
    cable = cable_of(rig)
    if not (rig.directory / "cable").exists():
        cable.plug()
    status = rig.wait_state("TRIPPED")
    assert status["verdict"] == "LINK_LOST"
    assert status["stranger"] is None
    sent = cable.to_instrument()
    assert sent.startswith(b"\n:SOUR:VOLT 0\n:OUTP OFF\n*ESE "), sent
    first = min(sent.index(word) for word in (b"*IDN?", b":SYST", b":SENS", b"*CLS", b"\x03") if word in sent)
    assert sent[first:].startswith(b"*IDN?"), sent


def stage_tripped(rig: FormRig, struck_ns: int) -> None:
    tripped("STAGE_FAULT")(rig, struck_ns)
    wait_for("the lifted tip", lambda: (rig.status() or {})["stage"]["lifted"], 10)


def not_lifted(rig: FormRig, struck_ns: int) -> None:
    """It is said within one look at the stage after the move should have ended; and it goes up when it can."""
    tripped("OPERATOR")(rig, struck_ns)
    told = wait_for("the alarm", lambda: "TIP_NOT_LIFTED" in str((rig.status() or {}).get("alarm")), 5)
    assert told
    print(f"    said after {(time.monotonic_ns() - struck_ns) / 1e9:.2f} s")
    wait_for("the lifted tip", lambda: (rig.status() or {})["stage"]["lifted"], 15)
