"""What streams: every sample once and on the host's clock, credit that survives its loss, and a trip beside it all."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest

from edge.instruments.frontend_stream import Stream
from firmware_proto.frontend.messages import Reason
from tests.edge.instruments.frontend.frontend_desk import Desk, needs_cc, on_desk, rig, section

pytestmark = needs_cc

FULL = section(recording="full", full_max_s=10.0)


def wave_a(t_ns: int) -> float:
    """A current whose value tells the time within 100 ms."""
    return 4e-4 * ((t_ns // 1000) % 100_000) / 100_000


def assert_whole(desk: Desk) -> int:
    """Every sample at most once, every hole counted, each time right; return how many are missing."""
    following = None
    missing = 0
    for block in desk.samples:
        if following is not None:
            missing += block.missing
            assert block.index == following + block.missing
        following = block.index + len(block.codes)
    return missing


def test_full_is_every_sample_once_at_its_time(tmp_path: Path) -> None:
    async def body(desk: Desk) -> None:
        desk.line.down_ns, desk.line.up_ns = 400_000, 100_000
        desk.line.current_a = wave_a
        await desk.armed()
        await desk.sleep(1.0)
        assert sum(len(block.codes) for block in desk.samples) > 9_500
        assert assert_whole(desk) == 0
        for block in desk.samples:
            if not np.all(block.codes):
                continue  # before the switch closed
            assert block.codes.dtype == np.int16
            t_ns = block.t_ns + np.arange(len(block.codes)) * block.step_ns
            true_a = block.codes * block.current_per_code_a
            # The wave falls once per 100 ms; elsewhere its value tells when the sample was taken.
            early = np.array([wave_a(int(t) - block.t_unc_ns) for t in t_ns]) - 2 * block.current_per_code_a
            late = np.array([wave_a(int(t) + block.t_unc_ns) for t in t_ns]) + 2 * block.current_per_code_a
            rising = early < late
            assert np.all((early <= true_a)[rising] & (true_a <= late)[rising])
        status = desk.frontend.status
        assert status is not None
        assert status.drop_no_credit == status.drop_tx_full == 0

    on_desk(rig(tmp_path, FULL), body)


def test_events_come_with_a_minimum_and_a_maximum_per_ms(tmp_path: Path) -> None:
    async def body(desk: Desk) -> None:
        desk.line.current_a = lambda t_ns: 1e-4 if (t_ns // 100_000) % 10 else -2e-4
        await desk.armed()
        await desk.sleep(0.5)
        block = desk.pairs[-1]
        assert block.decimation == 10
        assert block.step_ns == pytest.approx(1e6, rel=1e-6)
        assert block.pairs.shape[1] == 2
        assert np.allclose(block.pairs * block.current_per_code_a, [-2e-4, 1e-4])
        assert sum(one.missing for one in desk.pairs) == 0
        assert 450 < sum(len(one.pairs) for one in desk.pairs) < 550

    on_desk(rig(tmp_path), body)


def test_credit_that_is_lost_is_told_again(tmp_path: Path) -> None:
    rng = random.Random(5)

    async def body(desk: Desk) -> None:
        await desk.armed()
        await desk.sleep(0.1)
        # Half of what the host says is lost; leases too, so the switch may open; samples come all the same.
        desk.line.to_device = lambda data: b"" if rng.random() < 0.5 else data
        await desk.sleep(2.0)
        assert sum(len(block.codes) for block in desk.samples) > 18_000
        assert assert_whole(desk) == 0

    on_desk(rig(tmp_path, FULL), body)


def test_without_the_telling_again_one_loss_ends_the_stream(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Stream, "again", lambda _self: None)

    async def body(desk: Desk) -> None:
        await desk.armed()
        desk.line.to_device = lambda _data: b""
        await desk.sleep(1.0)
        desk.line.to_device = bytes
        await desk.sleep(0.2)
        before = len(desk.samples)
        await desk.sleep(1.0)
        assert len(desk.samples) == before

    on_desk(rig(tmp_path, FULL), body)


def test_blocks_that_are_lost_are_counted_and_use_up_no_credit(tmp_path: Path) -> None:
    rng = random.Random(3)

    async def body(desk: Desk) -> None:
        await desk.armed()
        desk.line.to_host = lambda data: b"" if len(data) > 40 and rng.random() < 0.3 else data
        await desk.sleep(3.0)
        desk.line.to_host = bytes
        await desk.sleep(0.5)
        missing = assert_whole(desk)
        there = sum(len(block.codes) for block in desk.samples)
        assert missing > 3_000
        assert there > 20_000
        assert there + missing == desk.samples[-1].index + len(desk.samples[-1].codes) - desk.samples[0].index
        assert desk.frontend.describe()["host"]["missing_samples"] == missing

    on_desk(rig(tmp_path, FULL), body)


def test_a_host_without_room_gets_nothing_and_the_device_counts(tmp_path: Path) -> None:
    async def body(desk: Desk) -> None:
        await desk.armed()
        await desk.sleep(0.2)
        desk.frontend.room = False
        assert not desk.has_room()
        await desk.sleep(1.5)
        before = len(desk.samples)
        await desk.sleep(0.5)
        assert len(desk.samples) == before
        # The stream stands; what protects does not.
        desk.line.current_a = lambda _t_ns: 1e-3
        await desk.sleep(0.02)
        assert [trip.reason for trip in desk.trips] == [Reason.HARD]
        desk.frontend.room = True
        await desk.sleep(0.3)
        assert len(desk.samples) > before
        assert assert_whole(desk) > 5_000
        status = desk.frontend.status
        assert status is not None
        assert status.drop_no_credit > 5_000

    on_desk(rig(tmp_path, FULL), body)


def test_a_gap_over_two_sessions_is_counted_and_no_sample_double(tmp_path: Path) -> None:
    async def body(desk: Desk) -> None:
        await desk.armed()
        await desk.sleep(0.2)
        for _ in range(5):
            desk.line.cut = True
            await desk.sleep(0.5)
            desk.line.cut = False
            await desk.frontend.connect()
            trip = desk.frontend.trip_now
            assert trip is not None
            await desk.frontend.release(trip)
            await desk.frontend.rearm(trip)
            await desk.frontend.configure()
            await desk.frontend.arm()
            await desk.sleep(0.2)
        assert assert_whole(desk) > 5 * 4_500
        assert desk.frontend.session.counters.doubled == 0
        assert desk.frontend.session.counters.sessions == 6

    on_desk(rig(tmp_path, FULL), body)
