"""The flight record of real processes: keeper and worker on pseudo-terminals, the uplink's file, replayed."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from edge.flight import cut_out, read_flight, run_uids, stretches
from edge.ring import Kind
from hil.broker import Broker, available
from hil.processes import BenchRig, RigSpec, wait_for
from hil.replay import replay

LONG = os.environ.get("TIPGUARD_LONG") == "1"
pytestmark = pytest.mark.processes


@pytest.mark.skipif(not available(), reason="no broker: Mosquitto, or the extra demo")
def test_a_run_of_real_processes_is_on_disk_and_replays_to_the_nanosecond(tmp_path: Path) -> None:
    segments = tmp_path / "rig" / "state" / "flight" / "bench"
    with Broker() as broker, BenchRig.running(tmp_path / "rig", RigSpec(site="gb", seed=4), broker=broker) as rig:
        uid = rig.start_run("iv", to_v=-0.6)
        wait_for("the end of the run", lambda: _ended(rig), 30.0)
        # Not by the uplink's end: it is written within a second and a bit.
        wait_for("the run on disk", lambda: _on_disk(segments, uid), 10.0)
    found, notes = stretches(read_flight(segments).records)
    assert notes == []
    [stretch] = [one for one in found if uid in run_uids(one)]
    assert stretch.start["turns"] is True
    assert stretch.start["ports"]["smu"]["emulated"] is True
    replayed = replay(cut_out(stretch, uid))
    assert replayed.difference is None, replayed.difference.line()
    recorded = [record.payload for record in stretch.whole() if record.kind == Kind.SAMPLE]
    assert [record.payload for record in replayed.records if record.kind == Kind.SAMPLE] == recorded
    assert len(recorded) > 40
    [cut] = replayed.cuts
    assert (cut["planned"], cut["verified"]) == (True, True)
    # The whole of it, with the controller's orderly end.
    everything = replay(stretch)
    assert everything.difference is None, everything.difference.line()


@pytest.mark.skipif(not LONG, reason="long rounds: TIPGUARD_LONG=1")
def test_a_worker_that_is_killed_leaves_a_life_that_replays_up_to_its_last_tick(tmp_path: Path) -> None:
    with BenchRig.running(tmp_path / "rig", RigSpec(load="ohmic:1e6")) as rig:
        uid = rig.start_run("iv", to_v=-0.5, step_v=0.002)
        wait_for("some readings", lambda: (rig.status() or {}).get("samples", 0) > 40 or None, 20.0)
        os.kill(rig.worker_pid(), signal.SIGKILL)
        wait_for("the next worker", lambda: (rig.status() or {}).get("state") == "TRIPPED" or None, 20.0)
        # The ring outlives both: no uplink is there.
        found, notes = stretches(read_flight(rig.run_directory / "ring").records)
    assert notes == []
    first, second = found
    replayed = replay(cut_out(first, uid))
    assert replayed.difference is None, replayed.difference.line()
    assert len(replayed.samples) > 30
    assert replayed.state == "ENERGISED"
    # The next life finds what the keeper did.
    assert second.start["latch"]["keeper_cut"]["verified"] is True
    assert replay(second).documents(Kind.EVENT)[0]["kind"] == "restart"


def _ended(rig: BenchRig) -> bool | None:
    status = rig.status()
    return True if status is not None and status["run"] and status["run"]["status"] == "completed" else None


def _on_disk(segments: Path, uid: str) -> bool | None:
    if not segments.is_dir() or not list(segments.iterdir()):
        return None
    found, _ = stretches(read_flight(segments).records)
    documents = [document for stretch in found for document in stretch.documents(Kind.RUN)]
    return True if any(one["uid"] == uid and one["kind"] == "stop" for one in documents) else None
