"""What `tipguard controller` and the uplink tell a service manager; the manager here is a socket."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge.notify import Notifier
from edge.uplink.progress import Progress
from hil.processes import wait_for
from hil.processes.child import Child
from tests.deploy.fake_manager import WATCHDOG_S, Manager, service

pytestmark = pytest.mark.processes


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    with Manager(tmp_path / "notify") as found:
        yield found


def test_the_keeper_is_ready_when_the_output_is_verified_off_and_fed_while_it_watches(
    tmp_path: Path, manager: Manager
) -> None:
    with service(tmp_path, manager) as rig:
        # The instrument does not answer yet: nothing is verified, and nothing may be called ready.
        rig.smu.send_signal(signal.SIGSTOP)
        rig.start_controller(wait=False)
        wait_for("a word of the keeper", lambda: manager.has("STATUS=starting"), 10)
        assert not manager.has("READY=1")
        rig.smu.send_signal(signal.SIGCONT)
        wait_for("ready", lambda: manager.has("READY=1"), 20)
        assert rig.wait_state("SAFE")["state"] == "SAFE"
        assert manager.has("STATUS=SAFE: output verified off")
        # The main process speaks, and nobody else: NotifyAccess=main.
        assert {pid for _, pid, _ in manager.heard} == {rig.controller.pid}
        assert_fed_while_it_runs(manager, rig.controller)
        wait_for("another sign of life", lambda: manager.has("WATCHDOG=1"), 5)
        rig.start_run("iv", to_v=-1.0, step_v=0.01, dwell_s=0.03, back_scan=False)
        wait_for("a status of the run", lambda: manager.has("STATUS=ENERGISED"), 10)
        rig.call("stop")
        wait_for("a status of the trip", lambda: manager.has("STATUS=TRIPPED"), 10)
        rig.controller.send_signal(signal.SIGTERM)
        assert rig.controller.wait(10) == 0
        assert manager.has("STOPPING=1\nSTATUS=stopping: SIGTERM")
        assert sum("READY=1" in said for _, _, said in manager.heard) <= 1


def assert_fed_while_it_runs(manager: Manager, process: Child) -> None:
    """The watchdog is fed, and not by anybody else: stopped, the process falls silent at once."""
    assert manager.fed_within(WATCHDOG_S) >= 2
    process.send_signal(signal.SIGSTOP)
    try:
        assert manager.fed_within(0.3 * WATCHDOG_S) <= 1
        assert manager.fed_within(WATCHDOG_S) == 0
    finally:
        process.send_signal(signal.SIGCONT)


def test_the_uplink_s_process_is_ready_and_fed(tmp_path: Path, manager: Manager) -> None:
    with service(tmp_path, manager) as rig:
        # No ring, no broker: both are waited for, and that is no fault.
        rig.start_uplink()
        wait_for("ready", lambda: manager.has("READY=1"), 20)
        assert manager.has("waiting for the broker")
        assert manager.has("no ring yet")
        assert {pid for _, pid, _ in manager.heard} == {rig.uplink.pid}
        assert_fed_while_it_runs(manager, rig.uplink)
        rig.uplink.send_signal(signal.SIGTERM)
        assert rig.uplink.wait(10) == 0
        assert manager.has("STOPPING=1")


class Turn:
    """One turn's facts, with what a stuck uplink has: records to read, a connection, nothing that moves."""

    def __init__(self, manager: Manager) -> None:
        self.notifier = Notifier(manager.address, watchdog_ns=4)
        self.progress = Progress(self.notifier)
        self.now_ns = 0

    def fed(self, manager: Manager, *, drained: bool = False, connected: bool = True, mark: int = 0) -> bool:
        manager.listen()
        manager.heard.clear()
        self.now_ns += 10
        self.progress.turned(self.now_ns, drained=drained, connected=connected, mark=mark, status="s")
        return manager.has("WATCHDOG=1")


def test_an_uplink_that_turns_without_moving_anything_is_not_fed(manager: Manager) -> None:
    turn = Turn(manager)
    assert turn.fed(manager)
    assert not turn.fed(manager)
    assert not turn.fed(manager)
    assert turn.fed(manager, drained=True)
    assert turn.fed(manager, mark=1)
    assert not turn.fed(manager, mark=1)
    assert turn.fed(manager, connected=False, mark=1)
    turn.notifier.close()
