"""The rows of the table where nothing may happen: the clock is stepped, and processes die a hundred times in a row."""

from __future__ import annotations

import contextlib
import mmap
import os
import random
import shutil
import signal
import struct
import subprocess
import time
from functools import partial
from pathlib import Path
from typing import Any

import msgpack
import pytest

from edge import rundir
from edge.ring import Kind
from hil.errors import BenchFaultError
from hil.processes import wait_for
from hil.processes.forms import FormRig, ServedRig, children_of
from hil.processes.supervised import EXIT_LIMIT, SupervisedRig
from hil.ring_whole import whole_ring
from tests.realtime.failure_benches import OHMIC
from tests.realtime.failures import live, make_live, pause, signal_all, tipguard

LONG = os.environ.get("TIPGUARD_LONG") == "1"
FORMS = [ServedRig, SupervisedRig]
HOURS_S = 3600
DEATHS = 100 if LONG else 6

pytestmark = [pytest.mark.processes, pytest.mark.timeout(300)]


# ------------------------------------------------------------------------------------------------------- the clock


@pytest.fixture(scope="module")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler (cc): nothing that shifts CLOCK_REALTIME can be made")
    made = tmp_path_factory.mktemp("clock") / "clock_shift.so"
    source = Path(__file__).with_name("clock_shift.c")
    subprocess.run([compiler, "-O2", "-shared", "-fPIC", "-Wall", "-Werror", "-o", made, source, "-ldl"], check=True)
    return made


class WallClock:
    """The shift, in s, that every process with the shim sees from its next look at the clock on."""

    def __init__(self, path: Path) -> None:
        path.write_bytes(bytes(8))
        self.path = path
        with path.open("r+b") as file:
            self._page = mmap.mmap(file.fileno(), 8)

    def step(self, seconds: int) -> None:
        self._page[:8] = struct.pack("q", seconds)


def run_documents(rig: FormRig) -> dict[str, dict[str, Any]]:
    """Return the start and stop documents of the one run there was."""
    found = {}
    for record in whole_ring(rig.run_directory / rundir.RING_FILE):
        if record.kind == Kind.RUN:
            document = msgpack.unpackb(record.payload)
            found[document["kind"]] = document
    return found


@pytest.mark.skipif(not LONG, reason="the clock stepped under a run: TIPGUARD_LONG=1")
@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.form)
def test_the_system_clock_stepped_by_hours_changes_nothing(tmp_path: Path, shim: Path, form: type[FormRig]) -> None:
    clock = WallClock(tmp_path / "shift")
    rig = form(tmp_path / "rig", OHMIC)
    rig.environment |= {"LD_PRELOAD": str(shim), "TIPGUARD_CLOCK_SHIFT": str(clock.path)}
    try:
        rig.start()
        wait_for("an uplink", lambda: rig.uplink_pid, 10)
        rig.start_run("iv", to_v=-0.5, step_v=0.01, dwell_s=0.025, back_scan=False)
        wait_for("a voltage", lambda: live(rig), 5)
        for hours in (6, -12, 7):
            clock.step(hours * HOURS_S)
            pause(0.4)
            status = rig.status() or {}
            assert status["state"] == "ENERGISED", status["verdict"]
        done = wait_for("the stop document", lambda: run_documents(rig).get("stop"), 20)
        began = run_documents(rig)["start"]
        assert done["status"] == "completed", done["reason"]
        # The step was there, and the time that counts did not see it.
        assert (done["utc_ns"] - began["utc_ns"]) / 1e9 > 6 * HOURS_S
        assert 2.0 < (done["t_ns"] - began["t_ns"]) / 1e9 < 60
        status = rig.wait_state("SAFE")
        assert status["alarm"] is None
        assert status["cuts"]["protective"] == status["keeper_cuts"] == status["restarts"] == 0
        assert rig.uplink_pid is not None
        assert status["samples_lost"] == 0
    finally:
        rig.close()


# -------------------------------------------------------------------------------------------------- the crash loop


class Reaper:
    """Kills a worker, or now and then a keeper, as often as it is told, and starts the rig anew where it gave up."""

    def __init__(self, rig: FormRig, seed: int) -> None:
        self._rig = rig
        self._rng = random.Random(seed)
        self._killed: set[int] = set()
        self.gave_up = 0
        self.limits = 0

    def _victim(self, *, keeper: bool) -> int | None:
        rig = self._rig
        code = rig.controller.code
        if code is not None:
            # As a person would, or `systemctl start`.
            self.gave_up += "giving up, output verified off" in rig.controller.output()
            self.limits += code == EXIT_LIMIT
            assert code != 0
            rig.start_controller(wait=False)
            return None
        if not rundir.controller_runs(rig.run_directory):
            return None
        # Between the lock and its holder's id in it there is a moment.
        with contextlib.suppress(BenchFaultError):
            pids = [rig.keeper_pid] if keeper else children_of(rig.keeper_pid)
            return next((pid for pid in pids if pid not in self._killed), None)
        return None

    def kill(self, times: int) -> None:
        for number in range(times):
            keeper = number % 10 == 9
            pid = wait_for("somebody to kill", partial(self._victim, keeper=keeper), 30)
            # At any moment of its start-up.
            pause(self._rng.uniform(0, 0.15) if LONG else 0.0)
            signal_all((pid,), signal.SIGKILL)
            self._killed.add(pid)


@pytest.mark.parametrize("form", FORMS if LONG else FORMS[:1], ids=lambda form: form.form)
def test_a_crash_loop_never_energises(tmp_path: Path, form: type[FormRig]) -> None:
    with form.running(tmp_path, OHMIC) as rig:
        make_live(rig)
        struck_ns = signal_all((rig.worker_pid(),), signal.SIGKILL)
        safe_ns = rig.wait_safe_after(struck_ns)
        reaper = Reaper(rig, seed=1)
        reaper.kill(DEATHS)
        print(f"\n{form.form}: {DEATHS} deaths, given up {reaper.gave_up} times, start limit {reaper.limits} times")
        assert not [e for e in rig.truth() if e["event"] == "live" and e["t_ns"] > safe_ns]
        assert reaper.gave_up >= 1, "a keeper never gave up"
        if LONG and form is SupervisedRig:
            assert reaper.limits >= 1, "the supervisor never gave up"
        # It comes back latched, and it takes a person to go on.
        if rig.controller.code is not None:
            rig.start_controller(wait=False)
        status = wait_for("a worker", lambda: tripped(rig), 60)
        assert status["verdict"] == "RESTART"
        assert not rig.call("run", plan="iv", parameters={"to_v": -0.1})["ok"]
        assert tipguard(rig, "rearm", str(rig.config_path)).returncode == 0
        make_live(rig)
        assert time.monotonic_ns() > safe_ns


def tripped(rig: FormRig) -> dict[str, Any] | None:
    """Return the status once it is TRIPPED; the controller may be given another start meanwhile."""
    if rig.controller.code is not None:
        rig.start_controller(wait=False)
    status = rig.status()
    return status if status is not None and status["state"] == "TRIPPED" else None
