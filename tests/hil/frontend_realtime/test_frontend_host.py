"""The firmware as a process in real time, 100 kS/s: the sample that crosses, the lease without a host, the line.

Judged at the pin, in samples and by the device's clock; a host that stalls the whole process moves the wall clock,
never the sample.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from firmware_proto.frontend import messages as m
from firmware_proto.frontend.detector_model import BlockDetector, Limits
from hil.frontend import build
from tests.hil.frontend.desk import FULL_SCALE_CODE, needs_cc
from tests.hil.frontend_realtime.native import LEASE_NS, Native, first_sample_at, native, wait_until

LONG = os.environ.get("TIPGUARD_LONG") == "1"
ROUNDS = 1000 if LONG else 25
KILLS = 50 if LONG else 2
AHEAD = 1500
"""Samples between the decision to arm and the wave: 15 ms."""
SURGES = (m.Reason.HARD, m.Reason.LEVEL, m.Reason.JUMP, m.Reason.RATE, m.Reason.SATURATED)
PATIENT = ("--max-late-ms", "80")
"""A busy host stalls a process for longer than a board ever may; an overrun has its own test."""

pytestmark = [
    needs_cc,
    pytest.mark.realtime,
    pytest.mark.timeout(900 if LONG else 120),
    *([pytest.mark.long] if LONG else []),
]


def wave(rng: np.random.Generator) -> np.ndarray[tuple[int], np.dtype[np.int16]]:
    n = int(rng.integers(600, 1500))
    x = rng.normal(0, 10, n)
    x[int(rng.integers(300, n)) :] += rng.choice([-1, 1]) * rng.uniform(1500, 40_000)
    return np.clip(x.round(), -FULL_SCALE_CODE, FULL_SCALE_CODE).astype(np.int16)


def test_none_of_many_surges_is_a_sample_late(tmp_path: Path) -> None:
    rng = np.random.default_rng(11)
    seen: dict[m.Reason, int] = {}
    disturbed = 0
    with native(tmp_path, *PATIENT) as fe:
        while sum(seen.values()) < ROUNDS:
            codes = wave(rng)
            config = {
                "hard_code": int(rng.integers(1000, 30_000)),
                "level_code": 900 * int(rng.integers(2)),
                "level_n": int(rng.integers(1, 4)),
                "jump_code": 1000 * int(rng.integers(2)),
                "rate_code": 1000 * int(rng.integers(2)),
                "rate_n": int(rng.integers(1, 33)),
                "baseline_shift": 6,
            }
            told = fe.connect(**config)
            fe.memory.no_wave()
            fe.memory.hold(0)
            begin = fe.memory.sample_index + AHEAD
            fe.memory.wave(codes, begin)
            fe.arm(told)
            armed = fe.wait_for(m.Status, lambda status: status.state is not m.State.SAFE)
            report = fe.wait_for(m.TripReport)
            pin = fe.memory.pin()
            assert not pin.closed
            # The detector has seen zeros from the arming on; the baseline and RATE of the wave begin there.
            lead = np.zeros(AHEAD // 2, np.int16)
            limits = Limits(FULL_SCALE_CODE, **config)
            crossing = BlockDetector(limits).feed(np.concatenate((lead, codes)))
            in_time = armed.state is m.State.ARMED and armed.sample_index < begin - lead.size
            if in_time and report.reason in SURGES and crossing is not None:
                assert report.reason is crossing.reason
                assert report.sample_index == begin + crossing.at - lead.size == pin.open_index
                assert report.code == codes[crossing.at - lead.size]
                seen[report.reason] = seen.get(report.reason, 0) + 1
            else:
                # This host stalled, and armed in the middle of the wave or not in a lease's time; or nothing crossed.
                assert not in_time or report.reason in (m.Reason.LEASE, m.Reason.OVERRUN)
                disturbed += 1
                assert disturbed < ROUNDS
            fe.put_back(report.trip_id)
    assert len(seen) >= 3


def opens_in_time(fe: Native, deadline: int) -> None:
    wait_until(lambda: not fe.memory.pin().closed, "the switch to open")
    pin = fe.memory.pin()
    assert pin.opens == 1
    assert pin.open_index <= first_sample_at(fe.memory, deadline) + 1


def test_a_cut_cable_opens_at_the_end_of_the_lease(tmp_path: Path) -> None:
    with native(tmp_path, *PATIENT) as fe:
        deadline = fe.arm(fe.connect())
        fe.wait_for(m.Status, lambda status: status.state is m.State.ARMED)
        assert fe.memory.pin().closed
        with Path(os.devnull).open("r+b") as nobody:
            os.dup2(nobody.fileno(), fe.fd)
        opens_in_time(fe, deadline)
        assert fe.memory.pin().open_ticks >= deadline


def test_a_killed_host_opens_at_the_end_of_its_lease(tmp_path: Path) -> None:
    link = tmp_path / "front"
    for _ in range(KILLS):
        with native(tmp_path, *PATIENT, link=link) as fe:
            command = [sys.executable, "-m", "tests.hil.frontend_realtime.holder", str(link)]
            with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
                assert holder.stdout is not None
                wait_until(lambda: fe.memory.pin().closed, "the host to arm")
                for _ in range(10):
                    told = holder.stdout.readline()
                holder.send_signal(signal.SIGKILL)
                rest = holder.stdout.read().split()
            opens_in_time(fe, int(rest[-1] if rest else told))


def test_every_sample_streams_once(tmp_path: Path) -> None:
    with native(tmp_path, "--max-late-ms", "4000") as fe:
        fe.connect(stream=m.Stream.FULL)
        fe.say(m.Credit(1_000_000))
        block = fe.wait_for(m.Samples)
        begin = at = block.index
        ticks = block.ticks
        while at < begin + 50_000:
            assert (block.index, block.ticks) == (at, ticks + (at - begin) * 10_000)
            at += len(block.codes) // 2
            block = fe.wait_for(m.Samples)
        assert fe.gaps == 0


def test_a_stopped_process_that_goes_on_opens_at_once(tmp_path: Path) -> None:
    with native(tmp_path) as fe:
        fe.arm(fe.connect())
        fe.wait_for(m.Status, lambda status: status.state is m.State.ARMED)
        fe.process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, fe.process.pid, os.WSTOPPED | os.WNOWAIT)
        end = time.monotonic_ns() + LEASE_NS
        wait_until(lambda: time.monotonic_ns() > end, "the lease to end")
        fe.process.send_signal(signal.SIGCONT)
        report = fe.wait_for(m.TripReport)
        assert report.reason is m.Reason.LEASE
        assert report.sample_index == fe.memory.pin().open_index


def test_an_overrun_is_a_trip(tmp_path: Path) -> None:
    with native(tmp_path, "--max-late-ms", "1") as fe:
        told = fe.connect()
        fe.process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, fe.process.pid, os.WSTOPPED | os.WNOWAIT)
        fe.arm(told)
        end = time.monotonic_ns() + 20_000_000
        wait_until(lambda: time.monotonic_ns() > end, "the loop to fall behind")
        fe.process.send_signal(signal.SIGCONT)
        # It catches up before it hears; then it is the next stall of this host, or the lease, that ends it.
        assert fe.wait_for(m.TripReport).reason in (m.Reason.OVERRUN, m.Reason.LEASE)
        fe.say(m.GetStatus())
        assert fe.wait_for(m.Status).overruns >= 1


def test_converter_and_switch_are_the_bench_memorys(tmp_path: Path) -> None:
    with native(tmp_path, *PATIENT) as fe:
        told = fe.connect()
        fe.memory.answer(silent=True)
        fe.arm(told)
        assert fe.wait_for(m.TripReport).reason is m.Reason.ADC_FAULT
        fe.memory.answer(silent=False)
        fe.put_back(1)
        fe.arm(told)
        wait_until(lambda: fe.memory.pin().closed, "the switch to close")
        fe.memory.stick(stuck=True)
        fe.say(m.Open())
        assert fe.wait_for(m.TripReport).reason is m.Reason.SWITCH_STUCK
        assert fe.memory.pin()[:2] == (False, True)


def test_a_reset_opens_and_begins_anew(tmp_path: Path) -> None:
    with native(tmp_path, *PATIENT, "--boot-nonce", "7") as fe:
        fe.arm(fe.connect())
        wait_until(lambda: fe.memory.pin().closed, "the switch to close")
        fe.process.send_signal(signal.SIGUSR1)
        wait_until(lambda: not fe.memory.pin().closed, "the pin to open")
        old = fe.session
        fe.strict = False  # its numbers begin anew
        fe.say(m.Hello(m.SCHEMA_HASH, 9, m.VERSION))
        welcome = fe.wait_for(m.Welcome, lambda welcome: welcome.host_nonce == 9)
        assert welcome.reset_cause is m.ResetCause.PIN
        assert welcome.boot_nonce != 7
        assert welcome.session != old


@pytest.mark.parametrize(
    "options",
    [
        [],
        ["--link", "x"],
        ["--bench", "b"],
        ["--bench", "b", "--link", "x", "--fd", "3"],
        ["--bench", "b", "--link", "x", "--sample-hz", "30000"],
        ["--bench", "b", "--link", "x", "--sample-hz", "many"],
        ["--bench", "b", "--link", "no/such/folder/x"],
        ["--bench", "no/such/folder/b", "--link", "x"],
        ["--bench", "b", "--link", "x", "--loud", "1"],
    ],
)
def test_what_cannot_be_served_is_told(tmp_path: Path, options: list[str]) -> None:
    done = subprocess.run(
        [build.native(), *options], cwd=tmp_path, capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 2
    assert "tg-frontend" in done.stderr
    assert not done.stdout


def test_the_end_opens_and_takes_the_link_away(tmp_path: Path) -> None:
    link = tmp_path / "front"
    with native(tmp_path, link=link) as fe:
        assert link.is_symlink()
        fe.process.terminate()
        assert fe.process.wait(20) == 0
        assert not link.is_symlink()
        assert not fe.memory.pin().closed
