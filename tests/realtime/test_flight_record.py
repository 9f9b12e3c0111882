"""The flight record of real processes: keeper and worker on pseudo-terminals, the uplink's file, replayed."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from edge.flight import Stretch, cut_out, read_flight, run_uids, stretches
from edge.ring import Kind
from hil.broker import Broker, available
from hil.processes import BenchRig, RigSpec, wait_for
from hil.replay import replay
from tests.live_runs import check_lateness, ended, on_a_rig

LONG = os.environ.get("TIPGUARD_LONG") == "1"
pytestmark = pytest.mark.processes


@pytest.mark.skipif(not available(), reason="no broker: Mosquitto, or the extra demo")
def test_a_run_of_real_processes_is_on_disk_and_replays_to_the_nanosecond(tmp_path: Path) -> None:
    def a_run(rig: BenchRig) -> tuple[Path, str]:
        uid = rig.start_run("iv", to_v=-0.6)
        run = ended(rig, uid, 30.0)
        assert run["status"] == "completed", run["reason"]
        segments = rig.directory / "state" / "flight" / "bench"
        # Not by the uplink's end: it is written within a second and a bit.
        wait_for("the run on disk", lambda: _on_disk(segments, uid), 10.0)
        return segments, uid

    # The stretch has this one run: a new rig where the host was late.
    with Broker() as broker:
        segments, uid = on_a_rig(tmp_path, RigSpec(site="gb", seed=4), a_run, broker=broker)
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
    def a_killed_run(rig: BenchRig) -> tuple[str, list[Stretch], list[str]]:
        uid = rig.start_run("iv", to_v=-0.5, step_v=0.002)
        wait_for("some readings", lambda: _has_read(rig, 40), 20.0)
        os.kill(rig.worker_pid(), signal.SIGKILL)
        check_lateness(rig.wait_state("TRIPPED"))
        # The ring outlives both: no uplink is there.
        return uid, *stretches(read_flight(rig.run_directory / "ring").records)

    uid, found, notes = on_a_rig(tmp_path, RigSpec(load="ohmic:1e6"), a_killed_run)
    assert notes == []
    first, second = found
    replayed = replay(cut_out(first, uid))
    assert replayed.difference is None, replayed.difference.line()
    assert len(replayed.samples) > 30
    assert replayed.state == "ENERGISED"
    # The next life finds what the keeper did.
    assert second.start["latch"]["keeper_cut"]["verified"] is True
    assert replay(second).documents(Kind.EVENT)[0]["kind"] == "restart"


def _has_read(rig: BenchRig, samples: int) -> bool:
    status = rig.status()
    if status is None:
        return False
    check_lateness(status)
    return int(status["samples"]) > samples


def _on_disk(segments: Path, uid: str) -> bool | None:
    if not segments.is_dir() or not list(segments.iterdir()):
        return None
    found, _ = stretches(read_flight(segments).records)
    documents = [document for stretch in found for document in stretch.documents(Kind.RUN)]
    return True if any(one["uid"] == uid and one["kind"] == "stop" for one in documents) else None
