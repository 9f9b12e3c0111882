"""What a service manager hears when a rig starts tripped, and while a cut is in vain."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge.controller.mirror import DIRTY, Latch, Mirror
from hil.processes import wait_for
from tests.deploy.fake_manager import WATCHDOG_S, Manager, service
from tests.live_runs import sweep

LONG = os.environ.get("TIPGUARD_LONG") == "1"
pytestmark = [pytest.mark.processes, pytest.mark.skipif(not LONG, reason="more of a service's words: TIPGUARD_LONG=1")]


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    with Manager(tmp_path / "notify") as found:
        yield found


def test_a_rig_that_starts_tripped_is_ready_too_and_says_so(tmp_path: Path, manager: Manager) -> None:
    with service(tmp_path, manager) as rig:
        rig.run_directory.mkdir(parents=True, mode=0o700)
        Mirror(rig.run_directory).write(Latch(DIRTY, epoch=1))
        rig.start_controller()
        wait_for("ready", lambda: manager.has("READY=1"), 20)
        assert manager.has("STATUS=TRIPPED: output verified off")


def test_a_keeper_that_cuts_in_vain_is_fed_and_says_what_to_do(tmp_path: Path, manager: Manager) -> None:
    """It must not be killed by a watchdog while it is the last that tries."""
    with service(tmp_path, manager) as rig:
        rig.start_controller()
        sweep(rig, dwell_s=0.03)
        worker = rig.worker_pid()
        rig.smu.send_signal(signal.SIGSTOP)
        os.kill(worker, signal.SIGKILL)
        try:
            wait_for("the alarm", lambda: manager.has("STATUS=CUT_UNVERIFIED"), 10)
            assert manager.fed_within(WATCHDOG_S) >= 2
        finally:
            rig.smu.send_signal(signal.SIGCONT)
        wait_for("the next worker's state", lambda: manager.has("STATUS=TRIPPED"), 20)
