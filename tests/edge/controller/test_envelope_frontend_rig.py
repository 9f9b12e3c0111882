"""The front end's promise on a whole rig: the controller as shipped arms it, renews its lease, and cuts behind it.

What the firmware does alone is proven in test_envelope_frontend_proof; here is that nothing which the controller does
takes any of it away. Virtual time, 57600 baud, no series resistor, the guard at work as on every rig.
"""

from __future__ import annotations

import os
import random
import shutil
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from edge.controller.envelopes import for_plan, protection
from edge.controller.envelopes_frontend import told
from edge.experiments.iv import IvPlan
from edge.guard.envelope_frontend import FrontEndDevice
from edge.samples import Phase
from hil.frontend.lockstep import LockstepFrontend
from hil.rig import VirtualRig, config_for
from hil.twin.ohmic import OhmicLoad
from hil.twin.surge import SurgeLoad
from hil.virtual import VirtualClock, run_virtual
from tests.edge.controller.test_envelope_proof import Stand, unpack

LONG = os.environ.get("TIPGUARD_LONG") == "1"
SEEDS = 20 if LONG else 2
HELD = 1.05

pytestmark = [
    pytest.mark.timeout(900 if LONG else 120),
    *([pytest.mark.long] if LONG else []),
    pytest.mark.skipif(shutil.which("cc") is None and shutil.which("gcc") is None, reason="no C compiler"),
]


class Judged(NamedTuple):
    """One surge: what the twin knows, and what the controller made of it."""

    peak_a: float
    reached_a: float
    cut: dict[str, Any]
    status: str

    @property
    def held(self) -> bool:
        return self.peak_a < self.reached_a


def surge(directory: Path, sample_hz: int, seed: int, *, stuck: bool = False) -> Judged:
    """Let one surge as fast as promised come while a search stands at its largest bias."""
    config = config_for(series_ohm=0.0, limits={"allow_clamp": True}, frontend={"hard_a": 0.5e-3})
    device = FrontEndDevice(sample_hz=float(sample_hz), switch_open_s=300e-9, code_a=40e-9, lease_max_s=0.1)
    found = protection(config, device)
    assert found is not None
    row = next(row for row in found.rows if row.kind.phase is Phase.SEEK and row.kind.v_max_v == 10.0)
    assert row.front is not None
    promised = row.front.envelope
    load = SurgeLoad(HELD * promised.tau_min_s, start_s=1e-5 * promised.reached_a, limit_a=promised.reached_a)
    core = LockstepFrontend(sample_hz=sample_hz)
    onset_s = 0.2 + 0.1 * random.Random(seed).random()

    async def main(clock: VirtualClock) -> tuple[list[dict[str, Any]], str]:
        async with VirtualRig.running(clock, load, directory, config=config, seed=seed, frontend=core) as rig:
            rig.worker.runner.start(Stand(row.kind), by="test")
            while abs(load.v_tip) < 10.0 - 1e-6:
                assert rig.worker.runner.busy, rig.worker.runner.run
                await clock.sleep_until(clock.now_ns() + 1_000_000)
            await clock.sleep_until(clock.now_ns() + round(onset_s * 1e9))
            core.stick(stuck=stuck)
            load.begin(clock.now_ns())
            await rig.worker.runner.wait()
            run = rig.worker.runner.run
            assert run is not None
            rig.page.close()
            return [event for event in map(unpack, rig.records()) if event.get("kind") == "cut"], run["status"]

    cuts, status = run_virtual(main)
    return Judged(load.peak_current_a, promised.reached_a, cuts[0], status)


@pytest.mark.parametrize("sample_hz", [10_000, 100_000])
def test_a_surge_as_fast_as_promised_is_held_and_cut_as_planned(sample_hz: int, tmp_path: Path) -> None:
    found = Counter[str]()
    for seed in range(SEEDS):
        (tmp_path / str(seed)).mkdir()
        judged = surge(tmp_path / str(seed), sample_hz, seed)
        assert judged.held, judged
        assert (judged.cut["planned"], judged.cut["verified"], judged.status) == (True, True, "completed")
        found[judged.cut["verdict"]] += 1
        if judged.cut["verdict"] == "FRONTEND":
            assert judged.cut["frontend"]["reason"] == "HARD"
    # At 10 kS/s it grows for 3.5 ms, and one in six has a reading of the SMU's in that time, which then is the first.
    assert set(found) <= {"FRONTEND", "CONDUCTANCE", "SURGE_JUMP"}
    assert found["FRONTEND"] >= 0.7 * SEEDS


def test_a_run_is_promised_what_the_device_of_this_rig_declares(tmp_path: Path) -> None:
    # `run` asks the controller, which holds the port.
    config = config_for(frontend={"hard_a": 0.5e-3, "level_a": 20e-6})

    async def main(clock: VirtualClock) -> dict[str, Any]:
        options: dict[str, Any] = {"config": config, "frontend": LockstepFrontend(sample_hz=100_000)}
        async with VirtualRig.running(clock, OhmicLoad(1e6, 1000.0), tmp_path, **options) as rig:
            return rig.worker.status()

    device = told(run_virtual(main)["frontend"])
    assert device is not None
    assert (device.sample_hz, device.lease_max_s) == (100e3, 0.1)
    promised = for_plan("iv", IvPlan(to_v=-0.6).describe(), config, device)
    assert promised is not None
    assert promised["by"] == "front end"
    assert promised["tau_min_s"] < 30e-6


def test_with_a_switch_that_is_stuck_the_limit_is_reached(tmp_path: Path) -> None:
    # The removal test: what the guard and its line alone do about such a surge. They do end it.
    judged = surge(tmp_path, 100_000, 0, stuck=True)
    assert judged.peak_a >= judged.reached_a
    assert judged.cut["verified"]
