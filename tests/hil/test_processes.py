"""Processes of the bench: what is kept of them, how they end, and that rigs beside each other stay apart."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from edge.config import load
from hil.broker import Broker, available
from hil.demo.subscriber import Subscriber
from hil.errors import BenchFaultError
from hil.processes import BenchRig, Child, ChildDiedError, Interruption, RigSpec, wait_for
from hil.processes.child import Children
from hil.processes.ending import switch_off
from hil.processes.spec import PYTHON, config_of, smu_command
from tests.live_runs import TRIES, TooLateError, check_lateness, ended, flows, sweep

BLOCK = "import signal; print('up', flush=True); signal.pause()"
DEAF = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); " + BLOCK
OHMIC = RigSpec(load="ohmic:1e6")


def python(folder: Path, code: str, name: str = "helper") -> Child:
    return Child(name, [*PYTHON, "-c", code], folder, os.environ)


def up(child: Child) -> None:
    wait_for(f"the {child.name}", lambda: "up" in child.output(), 10)


# -------------------------------------------------------------------------------------------------------- a child


def test_a_child_that_ends_on_its_own_is_told_with_its_last_lines(tmp_path: Path) -> None:
    child = python(tmp_path, "import sys; print('out'); sys.exit('the reason')")
    assert child.wait(10) == 1
    with pytest.raises(ChildDiedError, match=r"the helper ended \(exit 1\); its last lines:\n(  out\n)?  the reason"):
        child.check()


@pytest.mark.parametrize(
    ("number", "how"), [(signal.SIGKILL, "SIGKILL"), (signal.SIGRTMIN + 6, f"signal {signal.SIGRTMIN + 6}")]
)
def test_a_child_that_a_signal_ended_says_which(tmp_path: Path, number: int, how: str) -> None:
    child = python(tmp_path, "import signal; signal.pause()")
    os.kill(child.pid, number)
    assert child.wait(10) == -number
    with pytest.raises(ChildDiedError, match=rf"\({how}\); its last lines:\n\(it said nothing\)"):
        child.check()


def test_one_that_we_end_is_no_surprise(tmp_path: Path) -> None:
    stopped, killed = python(tmp_path, BLOCK, "stopped"), python(tmp_path, BLOCK, "killed")
    assert stopped.stop(10) == -signal.SIGTERM
    assert killed.kill() == -signal.SIGKILL
    assert (stopped.stop(10), killed.kill()) == (-signal.SIGTERM, -signal.SIGKILL)
    stopped.check()
    killed.check()


def test_one_that_is_deaf_is_killed(tmp_path: Path) -> None:
    child = python(tmp_path, DEAF)
    up(child)
    with pytest.raises(BenchFaultError, match=r"waited 0.01 s for the helper to end"):
        child.wait(0.01)
    assert child.stop(0.2) == -signal.SIGKILL


def test_one_that_is_halted_hears_that_it_has_to_end(tmp_path: Path) -> None:
    child = python(tmp_path, BLOCK)
    up(child)
    child.send_signal(signal.SIGSTOP)
    assert child.stop(10) == -signal.SIGTERM


def test_another_of_the_same_name_starts_with_no_words(tmp_path: Path) -> None:
    children = Children(tmp_path, os.environ, Interruption())
    with pytest.raises(BenchFaultError, match="the helper was never started"):
        children["helper"]
    children.start("helper", [*PYTHON, "-c", BLOCK])
    first = children["helper"]
    up(first)
    with pytest.raises(BenchFaultError, match=rf"the helper runs already \(process {first.pid}\)"):
        children.start("helper", [*PYTHON, "-c", "pass"])
    first.stop(10)
    children.start("helper", [*PYTHON, "-c", "print('again')"])
    assert children["helper"].wait(10) == 0
    assert children["helper"].output() == "again\n"
    assert children["helper"].log.read_text() == "up\nagain\n"


def test_a_child_has_a_process_group_of_its_own(tmp_path: Path) -> None:
    child = python(tmp_path, BLOCK)
    assert os.getpgid(child.pid) == child.pid
    child.stop(10)


# ---------------------------------------------------------------------------------------------------- interrupted


def test_a_signal_is_a_flag_while_watching_and_ends_waits(tmp_path: Path) -> None:
    interruption = Interruption()
    children = Children(tmp_path, os.environ, interruption)
    before = signal.getsignal(signal.SIGTERM)
    with interruption.watching():
        interruption.check()
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            children.wait("nothing", lambda: None, 10)
        with pytest.raises(KeyboardInterrupt):
            children.check()
    assert interruption.came
    assert signal.getsignal(signal.SIGTERM) is before


# --------------------------------------------------------------------------------------------------------- a spec


def test_the_configuration_is_the_spec(tmp_path: Path) -> None:
    spec = RigSpec(rig="left", series_ohm=1500.0, baud=9600)
    path = tmp_path / "rig.toml"
    link = tmp_path / 'a "folder" with spaces' / "smu"
    path.write_text(config_of(spec, link, None), encoding="utf-8")
    config = load(path)
    assert (config.rig.id, config.rig.series_resistor_ohm) == ("left", 1500.0)
    assert (config.ports.smu.path, config.ports.smu.baud) == (str(link), 9600)


def test_the_configuration_can_be_edited(tmp_path: Path) -> None:
    rig = BenchRig(tmp_path / "new" / "one", RigSpec(baud=0, config_text=lambda text: text.replace("0.5", "0.25")))
    config = load(rig.config_path)
    assert (config.event.pre_s, config.event.post_s) == (0.25, 0.25)
    # At no pace on the emulator's side; a port has a rate all the same.
    assert config.ports.smu.baud == 57600


def test_the_instruments_command_line_is_the_spec(tmp_path: Path) -> None:
    spec = RigSpec(site="gb:0.2", seed=7, series_ohm=1500, baud=0, pin_smu_to=1)
    words = smu_command(spec, tmp_path / "smu", tmp_path / "truth")
    assert words[:5] == ["taskset", "-c", "1", sys.executable, "-P"]
    options = dict(zip(words[8::2], words[9::2], strict=True))
    assert "--load" not in options
    assert (options["--site"], options["--seed"], options["--series-ohm"], options["--baud"]) == (
        "gb:0.2",
        "7",
        "1500.0",
        "0",
    )


# ---------------------------------------------------------------------------------------------------------- a rig


def test_a_rig_that_never_ran_ends_without_a_verdict(tmp_path: Path) -> None:
    rig = BenchRig(tmp_path)
    with pytest.raises(BenchFaultError, match="the controller was never started"):
        rig.controller.kill()
    assert rig.status() is None
    assert rig.close().verified_off is None
    with pytest.raises(BenchFaultError, match="its rig has ended"):
        rig.start_smu()


@pytest.mark.processes
def test_an_instrument_that_does_not_start_says_why(tmp_path: Path) -> None:
    rig = BenchRig(tmp_path, RigSpec(load="ohmic:1e6", site="gb"))
    try:
        with pytest.raises(BenchFaultError, match="only one sample fits"):
            rig.start_smu()
    finally:
        rig.close()


@pytest.mark.processes
def test_a_controller_killed_with_bias_on_leaves_the_last_word_to_safe_off(tmp_path: Path) -> None:
    with BenchRig.running(tmp_path, OHMIC) as rig:
        sweep(rig, dwell_s=0.03)
        rig.controller.kill()
        with pytest.raises(BenchFaultError, match="the controller ended with -9"):
            rig.wait_state("SAFE")
        ending = rig.close()
        assert ending.verified_off
        assert "verified off" in ending.report
        assert rig.close() is ending
        assert rig.smu.code == 0


def test_without_an_instrument_the_end_is_not_verified(tmp_path: Path) -> None:
    rig = BenchRig(tmp_path)
    child = python(tmp_path, "raise SystemExit(1)", "controller")
    child.wait(10)
    ending = switch_off(child, rig.config_path, rig.environment)
    assert ending.verified_off is False
    assert "NOT verified off" in ending.report


class Listener(Subscriber):
    """A subscriber to one rig that knows what it waits for."""

    def online(self) -> bool:
        return self.status.get("online") is True

    def stopped(self) -> list[str]:
        return [doc["uid"] for doc in self.documents("run") if doc["kind"] == "stop"]

    def has_stopped(self, runs: int) -> bool:
        return len(self.stopped()) >= runs


@pytest.mark.processes
@pytest.mark.skipif(not available(), reason="no broker is installed")
def test_two_rigs_at_the_same_time_know_nothing_of_each_other(tmp_path: Path) -> None:
    with contextlib.ExitStack() as stack:
        broker = stack.enter_context(Broker())
        rigs: list[BenchRig] = []
        listeners: list[Listener] = []
        for name in ("left", "right"):
            listener = Listener(broker.host, broker.port, name)
            listener.start()
            stack.callback(listener.stop)
            listeners.append(listener)
            spec = replace(OHMIC, rig=name)
            rigs.append(stack.enter_context(BenchRig.running(tmp_path / name, spec, broker=broker)))
        left, right = rigs
        assert not set(left.pids.values()) & set(right.pids.values())
        assert all(listener.wait(listener.online, 15) for listener in listeners)
        begun: dict[str, list[str]] = {"left": [], "right": []}
        for _ in range(TRIES):
            try:
                one_is_stopped(left, right, begun)
                break
            except TooLateError as late:
                print(f"\n{late}: the host was late; another try")
                for rig in rigs:
                    safe_again(rig)
        else:
            pytest.fail(f"the host was late {TRIES} times")
        for listener in listeners:
            assert listener.wait(partial(listener.has_stopped, len(begun[listener.rig])), 20)
            assert listener.stopped() == begun[listener.rig]
        assert all(rig.close().verified_off for rig in rigs)


def one_is_stopped(left: BenchRig, right: BenchRig, begun: dict[str, list[str]]) -> None:
    """Have both run, stop one, and see the other come to its end: what happens to one is not the other's."""
    began_ns = time.monotonic_ns()
    for rig in (left, right):
        begun[rig.spec.rig].append(rig.start_run("iv", to_v=-0.5, step_v=0.01, dwell_s=0.02))
    for rig in (left, right):
        if not flows(rig, began_ns):
            check_lateness(rig.wait_state("TRIPPED"))
            pytest.fail(f"{rig.spec.rig} tripped")
    left.uplink.kill()
    try:
        assert left.call("stop")["ok"]
        stopped = left.wait_state("TRIPPED")
        check_lateness(stopped)
        assert stopped["verdict"] == "OPERATOR"
        other = right.status() or {}
        check_lateness(other)
        assert other["state"] == "ENERGISED"
    finally:
        left.start_uplink()
    assert ended(right, begun["right"][-1], 20)["status"] == "completed"


def safe_again(rig: BenchRig) -> None:
    """Wait until its run is over, and re-arm a rig that is tripped."""
    status = wait_for("the end of the run", lambda: _over(rig), 20)
    if status["state"] == "TRIPPED":
        wait_for("the re-arm", lambda: rig.call("rearm")["ok"], 10)


def _over(rig: BenchRig) -> dict[str, Any] | None:
    status = rig.status()
    if status is None or status["state"] not in ("SAFE", "TRIPPED"):
        return None
    return status if status["run"]["status"] != "running" else None
