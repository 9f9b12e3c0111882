"""``tipguard bench store`` measures both parts with both fleets, and its frames are what it says."""

from __future__ import annotations

import pytest

from hil import postgres
from hil.bench.options import BenchOptions
from hil.bench.store import made, store
from hil.broker import mosquitto_path

pytest.importorskip("psycopg", reason="needs the extra store: make setup")


def test_frames_are_4_kib_and_every_rig_counts_from_0() -> None:
    frames = made(6, 3)
    assert [(frame.rig, frame.seq) for frame in frames] == [(f"rig-{rig}", seq) for seq in (0, 1) for rig in range(3)]
    assert all(4000 <= len(frame.payload) <= 4200 for frame in frames)


@pytest.mark.skipif(postgres.programs() is None, reason="needs PostgreSQL: apt-get install postgresql")
@pytest.mark.skipif(mosquitto_path() is None, reason="needs Mosquitto: apt-get install mosquitto")
def test_both_parts_are_measured_with_both_fleets() -> None:
    report = store(BenchOptions(), rounds=1, frames=64)
    values = {result["name"]: result["value"] for result in report["results"]}
    for part in ("commit", "service"):
        for fleet in ("one_rig", "many_rigs"):
            assert values[f"{part}.{fleet}.frames_per_s"] > 0
            assert values[f"{part}.{fleet}.worker_cpu_s_per_frame"] > 0
    assert 2000 < values["commit.one_rig.frames_bytes_per_frame"] < 20_000
    assert values["commit.many_rigs.wal_bytes_per_frame"] > 2000
