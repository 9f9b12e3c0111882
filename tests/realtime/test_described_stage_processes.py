"""A rig as processes whose stage speaks a command map: keeper, worker and emulator, each reading the map by itself."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from hil.processes import BenchRig, RigSpec, StageSpec, wait_for
from hil.processes.spec import TIPGUARD
from hil.twin.grains import Box
from tests.live_runs import ended, on_a_rig

pytestmark = [pytest.mark.processes, pytest.mark.timeout(120)]
UM = 1e-6
SEED = 3
ROOT = Path(__file__).resolve().parent.parent.parent
STAGE = StageSpec(
    axes=("x", "y", "z"),
    start_um=(50.0, 50.0, 49.97),
    settings={"lift_m": 50e-9, "settle_s": 0.05},
    command_map=ROOT / "deploy/examples/stage-scpi.toml",
)
SPEC = RigSpec(seed=SEED, series_ohm=10_000.0, stage=STAGE)


def test_a_point_of_a_map_under_the_keeper(tmp_path: Path) -> None:
    ((x, y),) = STAGE.sample(SEED).boundary_points(1, Box(45 * UM, 45 * UM, 55 * UM, 55 * UM))

    def one_point(rig: BenchRig) -> None:
        wait_for("the stage", lambda: (rig.status() or {})["stage"]["ready"], 10)
        status = rig.status()
        assert status is not None
        assert status["stage"]["model"] == "SPM-4"
        command = [*TIPGUARD, "check", str(rig.config_path)]
        said = subprocess.run(
            command, cwd=ROOT, env=rig.environment, capture_output=True, text=True, timeout=60, check=False
        )
        assert "SPM-4, held by the running controller" in said.stdout
        uid = rig.start_run("trigger-map", points=[[x, y, "gb", "B1"]], rate_v_s=0.5, zero=False)
        run = ended(rig, uid, 60)
        assert run["status"] == "completed", run["reason"]
        assert run["results"]["kinds"]["gb"]["triggered"] == 1
        assert len([e for e in rig.truth() if e["event"] == "landing"]) == 1
        assert rig.status()["alarm"] is None  # type: ignore[index]

    # Landings and triggers are those of one run: a new rig where the host was late.
    on_a_rig(tmp_path, SPEC, one_point)
