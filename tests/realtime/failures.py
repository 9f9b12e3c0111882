"""What is done to a rig in the table of failures, which is test_failures.py; what must hold then: failure_looks.py.

A blow gets a rig on which current flows, strikes, and returns the moment in ns (CLOCK_MONOTONIC, as the twin's record)
from which the bound counts. Both forms of a rig get the same blows; where they differ, ``rig.form`` says so.
"""

from __future__ import annotations

import contextlib
import os
import resource
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any, Final

import msgpack
import pytest

from edge import rundir
from edge.cli.talk import cut as stop_verb
from edge.config import load
from edge.control_client import ControlClient
from edge.controller.preflight import refuse_or_pass
from edge.errors import PlanRefusedError
from edge.experiments.iv import IvPlan
from hil.datagram import ask
from hil.processes import Child, wait_for
from hil.processes.cable import Cable
from hil.processes.forms import FormRig
from hil.processes.spec import PYTHON

CUT_S: Final = 0.040
"""From the decision to the safe tip at 57600: abort, two lines, and up to 10 ms of the instrument's own time each."""
LIVE_A: Final = 1e-7
"""A hundred sigma of the range: the twin is certain to be live."""
READ_DEADLINE_S: Final = 0.150 + 0.020
"""The longest read deadline there is, and the tick that looks at it."""
CHECK_EVERY: Final = 16
TRIES: Final = 5
FROM_AFAR: Final = "afar"
FAULTS: Final = """
[[fault]]
kind = "mute"
name = "mute"
on_demand = true
duration_s = 1.0
[[fault]]
kind = "output_key"
name = "key-off"
on_demand = true
[[fault]]
kind = "panel_level"
name = "level"
value = 0.5
on_demand = true
[[fault]]
kind = "output_key"
name = "key-on"
force = true
on_demand = true
[[fault]]
kind = "panel_limit"
name = "limit"
value = 0.1
on_demand = true
[[fault]]
kind = "panel_range"
name = "range"
value = 1e-5
on_demand = true
[[fault]]
kind = "panel_off_mode"
name = "off-mode"
on_demand = true
"""
STAGE_FAULTS: Final = """
[[fault]]
kind = "stage_error"
name = "stage-error"
port = "stage"
error = 1024
on_demand = true
[[fault]]
kind = "stage_stall"
name = "stage-stall"
port = "stage"
axis = "3"
duration_s = 4.0
on_demand = true
[[fault]]
kind = "mute"
name = "deaf"
to = "device"
duration_s = 3.0
on_demand = true
[[fault]]
kind = "mute"
name = "mute-too"
to = "host"
duration_s = 3.0
on_demand = true
"""

Blow = Callable[[FormRig], int]


# ------------------------------------------------------------------------------------------------------ a live rig


def make_live(rig: FormRig) -> None:
    """Bring a rig to where current flows, with seconds of sweep to go, whatever the last row left."""
    if rig.controller.code is not None:
        rig.start_controller()
    state = rig.wait_state("SAFE", "TRIPPED")["state"]
    if state == "TRIPPED":
        rearm(rig)
    wait_for("the last run to end", lambda: not running(rig), 10)
    wait_for("an uplink", lambda: rig.uplink_pid, 10)
    if rig.spec.stage is not None:
        wait_for("the stage", lambda: (rig.status() or {})["stage"]["ready"], 10)
    # A stage's rig has a whole sample under the tip, and far less current.
    least_a = LIVE_A if rig.spec.stage is None else 0.0
    for _ in range(TRIES):
        began_ns = time.monotonic_ns()
        rig.start_run("iv", to_v=-1.0, step_v=0.005, dwell_s=0.025, back_scan=False)
        if wait_for("a current", partial(flows, rig, began_ns, least_a), 20) == "flows":
            assert live(rig)
            return
        # A host this busy may delay a reading past its deadline: a cut, and not what is looked at here.
        print(f"\ntripped before the blow: {(rig.status() or {}).get('verdict')}")
        rearm(rig)
    pytest.fail(f"tripped {TRIES} times before the blow")


def rearm(rig: FormRig) -> None:
    """Once its run has come to its end, which may still be diagnosing."""
    wait_for("the re-arm", lambda: rig.call("rearm")["ok"], 10)


def flows(rig: FormRig, began_ns: int, least_a: float) -> str | None:
    """Return "flows" by a reading of this run, at a bias that leaves no doubt; "tripped" if that came before."""
    status = rig.status() or {}
    sample = status.get("sample")
    if status.get("state") == "TRIPPED":
        return "tripped"
    if status.get("state") != "ENERGISED" or sample is None or sample["t_ns"] < began_ns:
        return None
    return "flows" if sample["bias_v"] <= -0.05 and abs(sample["current_a"]) >= least_a else None


def running(rig: FormRig) -> bool:
    run = (rig.status() or {}).get("run") or {}
    return run.get("status") == "running"


def live(rig: FormRig) -> bool:
    """By the twin's own record, there is a voltage at the tip now."""
    events = [e["event"] for e in rig.truth() if e["event"] in ("safe", "live")]
    return events[-1:] == ["live"]


def safe_after(rig: FormRig, t_ns: int) -> bool:
    return any(e["event"] == "safe" and e["t_ns"] >= t_ns for e in rig.truth())


def pause(seconds: float) -> None:
    """Let time pass where that is the point: nothing must happen meanwhile."""
    select.select([], [], [], seconds)


def signal_all(pids: tuple[int, ...], number: signal.Signals) -> int:
    struck_ns = time.monotonic_ns()
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
    return struck_ns


def inject(rig: FormRig, name: str) -> int:
    """Set a fault off; return when it took effect."""
    answer = ask(rig.directory / "control", {"inject": [name]})
    assert answer.get("ok"), answer

    def applied() -> int | None:
        for line in rig.smu.output().splitlines():
            if line.startswith(f'{{"applied": "{name}"'):
                return int(line.partition('"t_ns": ')[2].partition(",")[0])
        return None

    return wait_for(f"{name} to be applied", applied, 5)


def safe_off(rig: FormRig) -> subprocess.CompletedProcess[str]:
    """Run ``tipguard safe-off`` as a person or a supervisor does."""
    return subprocess.run(
        [sys.executable, "-P", "-m", "edge.cli.main", "safe-off", str(rig.config_path)],
        env=rig.environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=10,
    )


def tipguard(rig: FormRig, *words: str) -> subprocess.CompletedProcess[str]:
    """Run a verb as typed."""
    return subprocess.run(
        [sys.executable, "-P", "-m", "edge.cli.main", *words],
        env=rig.environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )


# ----------------------------------------------------------------------------------------------------------- blows


def kill_worker(rig: FormRig) -> int:
    return signal_all((rig.worker_pid(),), signal.SIGKILL)


def hang_worker(rig: FormRig) -> int:
    return signal_all((rig.worker_pid(),), signal.SIGSTOP)


def kill_keeper(rig: FormRig) -> int:
    return signal_all((rig.keeper_pid,), signal.SIGKILL)


def kill_both(rig: FormRig) -> int:
    # The keeper last: the worker must not hear of its death.
    return signal_all((rig.worker_pid(), rig.keeper_pid), signal.SIGKILL)


def freeze_all(rig: FormRig) -> int:
    return signal_all(rig.everybody(), signal.SIGSTOP)


def kill_serve(rig: FormRig) -> int:
    # Keeper, worker and uplink are looked for afterwards.
    rig.everybody()
    return signal_all((rig.controller.pid,), signal.SIGKILL)


def ctrl_c(rig: FormRig) -> int:
    """To the whole foreground group, as a terminal does it: that of ``serve``, or of ``tipguard controller``."""
    group = rig.controller.pid if rig.form == "serve" else rig.keeper_pid
    struck_ns = time.monotonic_ns()
    os.killpg(group, signal.SIGINT)
    return struck_ns


def sigterm(rig: FormRig) -> int:
    """To whoever is in charge, as a service manager asked to stop."""
    return signal_all((rig.controller.pid,), signal.SIGTERM)


def stop_typed(rig: FormRig) -> int:
    """What ``tipguard stop`` does once its interpreter is up."""
    with ControlClient(rig.run_directory / rundir.CONTROL_SOCKET) as client:
        struck_ns = time.monotonic_ns()
        data, _ = stop_verb(client)
    assert data["output_verified_off"]
    return struck_ns


def stop_remote(rig: FormRig) -> int:
    """As the uplink hands a command on: with a user, an epoch and a nonce, which a stop needs none of."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as client:
        client.settimeout(2.0)
        client.connect(str(rig.run_directory / rundir.CONTROL_SOCKET))
        message = {"v": 1, "verb": "stop", "args": {}, "user": FROM_AFAR, "epoch": "0", "nonce": "stale"}
        struck_ns = time.monotonic_ns()
        client.sendall(msgpack.packb(message))
        assert msgpack.unpackb(client.recv(65536))["ok"]
    return struck_ns


def fault(name: str) -> Blow:
    def blow(rig: FormRig) -> int:
        return inject(rig, name)

    blow.__name__ = f"fault_{name}"
    return blow


def uplink_killed(rig: FormRig) -> int:
    pid = rig.uplink_pid
    assert pid is not None
    return _unaffected(rig, lambda: signal_all((pid,), signal.SIGKILL))


def uplink_hung(rig: FormRig) -> int:
    pid = rig.uplink_pid
    assert pid is not None
    try:
        return _unaffected(rig, lambda: signal_all((pid,), signal.SIGSTOP))
    finally:
        os.kill(pid, signal.SIGCONT)


def disk_full(rig: FormRig) -> int:
    """No file of the uplink's can grow by a byte: what it sees of a full disk, log and flight record alike."""
    pid = rig.uplink_pid
    assert pid is not None
    _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)

    def fill() -> None:
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (0, hard))

    try:
        struck_ns = _unaffected(rig, fill)
        # Was it felt at all? What it would have written is not there.
        assert rig.uplink_pid == pid, "the uplink did not survive a full disk"
        return struck_ns
    finally:
        with contextlib.suppress(ProcessLookupError):
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (hard, hard))


def _unaffected(rig: FormRig, strike: Callable[[], object]) -> int:
    """Strike; the run must go on for a second; then stop it, and that is the moment from which safe counts."""
    before = rig.status() or {}
    strike()
    pause(1.0)
    after = rig.status() or {}
    assert after["state"] == "ENERGISED"
    assert after["alarm"] is None
    assert after["samples"] >= before["samples"] + 20
    assert live(rig)
    return stop_remote(rig)


def broker_gone(rig: FormRig) -> int:
    broker = rig.broker
    assert broker is not None
    try:
        return _unaffected(rig, broker.kill)
    finally:
        broker.start()


def ring_fills(rig: FormRig) -> int:
    """Nobody empties the ring: the run waits, the output off; then goes on by itself when there is room again."""
    put_to_rest(rig)
    wait_for("the run to end", lambda: not running(rig), 5)
    pid = rig.uplink_pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    try:
        rig.start_run("iv", to_v=-0.1, step_v=0.01, dwell_s=0.025, back_scan=False, cycles=200)
        waiting = wait_for("the run to wait", lambda: waits_for_ring(rig), 60)
        assert waiting["state"] == "SAFE"
        count = waiting["samples"]
        pause(0.5)
        assert (rig.status() or {})["samples"] == count
    finally:
        os.kill(pid, signal.SIGCONT)
    wait_for("the run to go on", lambda: (rig.status() or {})["samples"] > count + 10, 20)
    wait_for("a voltage", lambda: live(rig), 5)
    return stop_remote(rig)


def put_to_rest(rig: FormRig) -> None:
    assert rig.call("stop")["ok"]
    rig.wait_state("TRIPPED")
    rearm(rig)


def waits_for_ring(rig: FormRig) -> dict[str, Any] | None:
    status = rig.status()
    run = (status or {}).get("run") or {}
    assert run.get("status") == "running", run.get("reason")
    return status if "waiting: the ring" in str(run.get("text")) else None


def freeze_all_unprotected(rig: FormRig) -> int:
    """The host is gone, and nothing else is wired: the current flows on. That was said before, in three places."""
    told_before(rig)
    frozen_ns = freeze_all(rig)
    pause(1.0)
    assert not safe_after(rig, frozen_ns), "something cut although everybody was frozen"
    began_ns = time.monotonic_ns()
    done = safe_off(rig)
    assert done.returncode == 0, done.stdout
    assert "by the instrument's own reply" in done.stdout
    return began_ns


def told_before(rig: FormRig) -> None:
    """Check, status and the refusal of a long plan say that nothing protects against the loss of this host."""
    said = tipguard(rig, "check", str(rig.config_path)).stdout
    assert "NOT PROTECTED: HOST LOSS" in " ".join(said.split())
    assert any("NOT PROTECTED: HOST LOSS" in note for note in (rig.status() or {})["notes"])
    plan = IvPlan(to_v=-0.5, dwell_s=60.0)
    with pytest.raises(PlanRefusedError, match="NOT PROTECTED"):
        refuse_or_pass(plan, load(rig.config_path), emulated=True)


def on_while_safe(rig: FormRig) -> int:
    """Somebody sets 0.5 V and presses OUTPUT at the panel of a rig at rest."""
    put_to_rest(rig)
    inject(rig, "level")
    struck_ns = inject(rig, "key-on")
    wait_for("the voltage", lambda: any(e["event"] == "live" and e["t_ns"] >= struck_ns for e in rig.truth()), 2)
    return struck_ns


# -- the cable


def unplug(rig: FormRig) -> int:
    cable = cable_of(rig)
    struck_ns = time.monotonic_ns()
    cable.pull()
    return struck_ns


def unplug_replug(rig: FormRig) -> int:
    """Half a second without a port: the current flows on; then it is there under another name behind the same link."""
    cable = cable_of(rig)
    before = os.path.realpath(rig.directory / "cable")
    pulled_ns = unplug(rig)
    pause(0.5)
    assert not safe_after(rig, pulled_ns)
    cable.plug()
    back_ns = time.monotonic_ns()
    assert os.path.realpath(rig.directory / "cable") != before
    return back_ns


def another_instrument(rig: FormRig) -> int:
    """Another 2400 hangs on the cable now: one cut, ``*IDN?``, and not a byte after its answer. Then the right one."""
    cable = cable_of(rig)
    own = cable.instrument
    link = rig.directory / "other"
    command = [*PYTHON, "-m", "hil", "smu", "--link", str(link), "--serial-number", "999", "--load", "ohmic:1e6"]
    other = Child("other", command, rig.directory, rig.environment)
    try:
        wait_for("the other instrument", link.exists, 10)
        pulled_ns = unplug(rig)
        cable.instrument = os.path.realpath(link)
        cable.plug()
        status = rig.wait_state("TRIPPED")
        assert status["verdict"] == "LINK_LOST"
        assert status["stranger"] == "999"
        assert "NOT verified off" in status["alarm"]
        # For longer than the poll of a rig at rest, the rounds of a cut, or a restarted worker would take.
        pause(2.5)
        assert_nothing_after_identity(cable)
        assert not safe_after(rig, pulled_ns)
        for verb, args in (("rearm", {}), ("run", {"plan": "iv", "parameters": {"to_v": -0.1}})):
            answer = rig.call(verb, **args)
            assert "'999'" in answer["error"]["message"]
        assert_nothing_after_identity(cable)
    finally:
        cable.pull()
        other.stop(5)
    cable.instrument = own
    cable.plug()
    return time.monotonic_ns()


def assert_nothing_after_identity(cable: Cable) -> None:
    heard = list(cable.heard)
    # A reply comes in pieces.
    said, answered_ns = b"", 0
    for one in heard:
        said += one.data if one.to == "host" else b""
        if not answered_ns and b",999," in said and said.endswith((b"\r", b"\n")):
            answered_ns = one.t_ns
    assert answered_ns, "it was never asked who it is"
    sent = cable.to_instrument()
    # The cut first, then the question; and nothing else was ever asked or said.
    assert sent.startswith(b"\n:SOUR:VOLT 0\n:OUTP OFF\n*ESE "), sent
    assert sent.index(b":OUTP OFF") < sent.index(b"*IDN?")
    assert not [one for one in heard if one.to == "instrument" and one.t_ns > answered_ns], sent


def deaf_and_mute(rig: FormRig) -> int:
    """Both wires broken: nothing can be done, and that is said. When it hears again it is cut."""
    cable = cable_of(rig)
    broken_ns = time.monotonic_ns()
    cable.dead = True
    try:
        wait_for("the alarm", lambda: "CUT_UNVERIFIED" in str((rig.status() or {}).get("alarm")), 3)
        assert (rig.status() or {})["state"] == "CUTTING"
        pause(0.5)
        assert not safe_after(rig, broken_ns)
        # Neither a person nor a supervisor gets more than the truth.
        done = safe_off(rig)
        assert done.returncode == 1
        assert "NOT verified off" in done.stdout
    finally:
        cable.dead = False
    return time.monotonic_ns()


def cable_of(rig: FormRig) -> Cable:
    assert rig.cable is not None
    return rig.cable


# -- the stage


def stuck_tip(rig: FormRig) -> int:
    """z jams, then a person stops the run: the cut is as ever, the tip stays down."""
    inject(rig, "stage-stall")
    return stop_remote(rig)


def deaf_last_resort(rig: FormRig) -> int:
    """The 2400 neither hears nor answers; the rig's file allows to lift the tip out of an arc."""
    inject(rig, "mute-too")
    struck_ns = inject(rig, "deaf")
    wait_for("the lift", lambda: any(e["event"] == "lift" and e["t_ns"] > struck_ns for e in rig.truth()), 10)
    assert (rig.status() or {})["state"] == "CUTTING"
    return struck_ns
