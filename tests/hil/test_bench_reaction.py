"""The bench that compares the controller with C: its parts, a few trials of it, and that it sees what is slow."""

from __future__ import annotations

import math
import os
import shutil
import statistics
import tty
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from firmware_proto.keithley2400 import commands
from hil.bench.catalogue import bench
from hil.bench.duel import SURGE, Pace, Reference, duel
from hil.bench.flight_profile import NAMES
from hil.bench.latency import Sides, WithinSpread, draw, percentile
from hil.bench.native import Native, compiled
from hil.bench.options import BenchOptions
from hil.bench.reaction import reaction
from hil.bench.sparring import CUT, QUIET
from hil.errors import BenchFaultError, BenchOptionError

LONG = os.environ.get("TIPGUARD_LONG") == "1"
SANE_S = 0.5
"""No host is so busy that a reply takes longer; the controller's own deadline would have cut before."""
DAWDLE_NS = 20_000_000
has_compiler = pytest.mark.skipif(shutil.which("cc") is None and shutil.which("gcc") is None, reason="no C compiler")


@pytest.fixture(scope="module")
def native() -> Iterator[Native]:
    with compiled() as made:
        yield made


def test_without_a_compiler_the_fix_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda *_args, **_kwargs: None)
    for name in ("reaction", "wire"):
        with pytest.raises(BenchOptionError, match="apt install gcc"):
            bench(name, BenchOptions(quick=True))


@has_compiler
@pytest.mark.parametrize(
    ("reading", "answer"),
    [
        (QUIET, commands.READ),
        (SURGE, CUT),
        (b"-3.000000E-01,+6.000000E-06,+2.048400E+04\r", CUT),
        (b"-3.000000E-01,+5.999999E-06,+2.048400E+04\r", commands.READ),
        (b"-3.000000E-01,+9.900000E+37,+2.048400E+04\n", CUT),
        (b"-3.000000E-01,nan,+2.048400E+04\r", CUT),
        (b"-3.000000E-01\r", CUT),
        (b"-3.000000E-01,-1.0\r", CUT),
        (b"?\r", CUT),
        (b"x" * 700 + b"\r" + SURGE, CUT),
    ],
)
def test_the_reference_is_a_guard(native: Native, reading: bytes, answer: bytes) -> None:
    reference = Reference(native)
    try:
        trial = native.peer.trial(reference.master, reading)
        assert trial.answer.startswith(answer)
        assert trial.sent_ns < trial.first_ns <= trial.line_ns
    finally:
        reference.close()


@has_compiler
def test_a_paced_reading_takes_its_time_before_the_last_byte(native: Native) -> None:
    reference = Reference(native)
    try:
        before = native.peer.trial(reference.master, QUIET)
        trial = reference.trial(2_000_000, 100_000)
        assert trial.sent_ns - before.line_ns >= 2_000_000 + 100_000 * len(SURGE)
        assert trial.answer.startswith(CUT)
    finally:
        reference.close()


@has_compiler
def test_a_slow_guard_is_seen_as_slow(native: Native) -> None:
    medians = []
    for delay_ns in (0, DAWDLE_NS):
        reference = Reference(native, delay_ns=delay_ns)
        try:
            trials = [reference.trial(0, 0) for _ in range(9)]
        finally:
            reference.close()
        medians.append(statistics.median(trial.first_ns - trial.sent_ns for trial in trials))
    assert medians[0] < DAWDLE_NS <= medians[1]


@has_compiler
def test_a_mute_guard_is_no_fast_guard(native: Native, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hil.bench.native.PATIENCE_MS", 20)
    master, slave = os.openpty()
    tty.setraw(slave)
    try:
        with pytest.raises(BenchFaultError, match="no answer"):
            native.peer.trial(master, SURGE)
    finally:
        os.close(master)
        os.close(slave)


@has_compiler
@pytest.mark.realtime
@pytest.mark.timeout(120)
def test_a_round_of_the_controller_as_shipped_beside_the_reference(native: Native) -> None:
    with duel(native) as fight:
        one = fight.round(12, Pace())
        status = fight.rig.status()
        assert status is not None
        assert fight.profile is not None
        # The last stretch of the record is written with the next tick.
        cuts = 0
        for _ in range(100):
            fight.profile.drain()
            if (cuts := len(fight.profile.cuts)) >= 12:
                break
            fight.rig.status()
        assert cuts >= 12
        parts = fight.profile.parts(one.ours)
    assert len(one.ours) == len(one.theirs) == 12
    for trial in (*one.ours, *one.theirs):
        assert 0 < trial.first_ns - trial.sent_ns < SANE_S * 1e9
        assert trial.answer.startswith(CUT)
    assert status["cuts"]["planned"] >= 12
    assert status["last_event"]["verdict"] in ("SURGE_JUMP", "HARD_LIMIT")
    assert parts is not None
    assert all(0 < value < SANE_S for value in parts)


@pytest.mark.long
@pytest.mark.skipif(not LONG, reason="long rounds: TIPGUARD_LONG=1")
@has_compiler
@pytest.mark.realtime
@pytest.mark.timeout(300)
def test_the_whole_bench_in_small_beside_a_reference_that_dawdles(tmp_path: Path) -> None:
    report = reaction(BenchOptions(plots=tmp_path), rounds=2, trials=25, delay_ns=DAWDLE_NS)
    figures = {result["name"]: result for result in report["results"]}
    for condition in ("idle", "loaded"):
        # The controller does not dawdle.
        assert figures[f"{condition}.p50_ratio"]["value"] < 0.9
        assert figures[f"{condition}.p50_ratio"]["met"] is True
        assert figures[f"{condition}.p999_ratio"]["target"] == 1.5
        assert figures[f"{condition}.p999_ratio"]["spread"] >= 1.0
        assert figures[f"{condition}.c_p50_s"]["value"] >= DAWDLE_NS / 1e9
        assert 0 < figures[f"{condition}.ours_p50_s"]["value"] < SANE_S
        assert figures[f"{condition}.n"]["value"] == 50
    assert all(f"idle.{name}" in figures for name in NAMES)
    assert (tmp_path / "reaction.png").stat().st_size > 10_000


def sides(ours: list[list[float]], theirs: list[list[float]]) -> Sides:
    return Sides("x", tuple(map(np.asarray, ours)), tuple(map(np.asarray, theirs)))


def test_ratios_are_of_the_same_round_and_their_median() -> None:
    # One bad round of the host hits both and changes nothing.
    found = sides([[2.0] * 3, [20.0] * 3, [3.0] * 3], [[1.0] * 3, [10.0] * 3, [1.0] * 3])
    assert found.ratio(50.0) == 2.0
    assert found.spread(50.0) == 10.0


def test_percentiles_were_observed() -> None:
    values = np.arange(1.0, 1001.0)
    assert percentile(values, 99.9) == 1000.0
    assert percentile(values, 100.0) == 1000.0
    assert percentile(values, 50.0) == 501.0


@pytest.mark.parametrize(
    ("value", "spread", "met"), [(1.4, 1.0, True), (1.6, 1.0, False), (1.6, 1.7, True), (1.8, 1.7, False)]
)
def test_a_ratio_within_the_reference_s_own_spread_is_met(value: float, spread: float, met: bool) -> None:
    figure = WithinSpread("p999_ratio", value, "", 1.5, spread=spread)
    assert figure.met is met
    assert figure.to_json()["spread"] == spread
    assert figure.to_json()["target"] == 1.5
    assert WithinSpread("p999_ratio", math.nan, "", 1.5, spread=1.0).met is False


def test_the_picture_is_drawn(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    group = Sides("idle", (rng.lognormal(-9, 0.3, 500),), (rng.lognormal(-10, 0.3, 500),))
    draw([group, group], tmp_path / "new" / "x.png", title="t", axis="Time", caption="c")
    assert (tmp_path / "new" / "x.png").stat().st_size > 10_000
