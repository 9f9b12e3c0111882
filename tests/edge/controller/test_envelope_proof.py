"""The envelope's promise, put to the test on the emulated rig: surges as fast as promised are cut before the limit.

The time constant comes from the very table that ``tipguard check`` prints for the rig under test. Virtual time, the
controller as shipped, 57600 baud, no series resistor: nothing but the cut keeps the current below the limit. 4 to 20
seeds, in the long rounds 200; a seed is a moment of the onset between two check queries, and the instrument's noise.
"""

from __future__ import annotations

import dataclasses
import os
import random
from pathlib import Path
from typing import Any

import msgpack
import pytest

from edge.controller.envelopes import PlanKind, protection
from edge.experiments.steps import Arm, End, Energise, Program, Ramp
from edge.guard.envelope import envelope
from edge.ring import Kind, Record
from edge.samples import Phase
from hil.devices.keithley2400 import Timing
from hil.rig import VirtualRig, config_for
from hil.twin.surge import SurgeLoad
from hil.twin.truth import TruthRecord
from hil.virtual import VirtualClock, run_virtual

LONG = os.environ.get("TIPGUARD_LONG") == "1"
SEEDS = 200
HELD, FAILS = 1.2, 0.5
CHECKED_S = 0.45
"""About the time between two check queries."""
SETTLE_S = 0.3
"""Some readings first: the baseline is that of a sample that does not conduct."""

pytestmark = [pytest.mark.timeout(900 if LONG else 120), *([pytest.mark.long] if LONG else [])]


@dataclasses.dataclass(frozen=True)
class Stand:
    """A plan of this test: up to its largest bias in steps, and there for a while."""

    kind: PlanKind
    dwell_s: float = 0.02
    levels: int = 160
    name: str = "stand"
    needs_stage: bool = False
    targets_m: tuple[tuple[float, float], ...] = ()

    @property
    def v_max_v(self) -> float:
        return self.kind.v_max_v

    def duration_s(self) -> float:
        return 30.0

    def describe(self) -> dict[str, Any]:
        return {"accept_clamp": True}

    def program(self) -> Program:
        sign = 1 if self.kind.phase is Phase.RESET else -1
        yield Arm(self.kind.phase, self.v_max_v)
        yield Energise()
        up = tuple(sign * self.v_max_v * n / 20 for n in range(1, 20))
        outcome = yield Ramp((*up, *[sign * self.v_max_v] * self.levels), self.dwell_s)
        if outcome.verdict is None:
            yield End()
        return {"verdict": outcome.verdict}


@dataclasses.dataclass(frozen=True)
class Judged:
    """One surge: what the twin knows, and what cut it."""

    peak_a: float
    reached_a: float
    verdict: str
    safe_after_s: float | None

    @property
    def held(self) -> bool:
        return self.peak_a < self.reached_a and self.safe_after_s is not None


SLOWEST = Timing(level_s=0.0112, query_s=0.0023, reply_s=0.0014)
"""A unit that takes all the time the driver's figures allow for a level and a reading: 10 ms and 4 ms, and 1.2 ms, as
if it did not work on the level while the question behind it arrives. (Its cut takes 1.2 ms more than promised, too.)"""
GPIO = {"gpio": {"chip": "memory", "heartbeat_line": 17, "clear_line": 27}}


@dataclasses.dataclass(frozen=True)
class Case:
    """A phase at its largest bias, on a rig and an instrument. ``quick``: seeds outside the long rounds."""

    phase: Phase
    v_max_v: float
    quick: int
    timing: Timing | None = None
    sections: dict[str, Any] = dataclasses.field(default_factory=dict)


class Bench:
    """Makes surges on one kind of rig; a rig anew for each."""

    def __init__(self, case: Case, directory: Path) -> None:
        sections = {**case.sections, "limits": {"allow_clamp": True, **case.sections.get("limits", {})}}
        self.config = config_for(series_ohm=0.0, **sections)
        found = protection(self.config)
        assert found is not None
        of_phase = (row for row in found.rows if row.kind.phase is case.phase)
        self.row = next(row for row in of_phase if row.kind.v_max_v == case.v_max_v)
        self._timing = case.timing
        self._directory = directory
        self._made = 0

    def surge(self, tau_s: float, seed: int) -> Judged:
        """Let one surge of ``tau_s`` come at a moment that ``seed`` draws."""
        kind, reached_a = self.row.kind, self.row.envelope.reached_a
        directory = self._directory / str(self._made)
        directory.mkdir()
        self._made += 1
        truth = TruthRecord()
        load = SurgeLoad(tau_s, start_s=1e-4 * reached_a / kind.v_max_v, truth=truth, limit_a=reached_a)
        onset_s = SETTLE_S + random.Random(seed).random() * CHECKED_S

        async def main(clock: VirtualClock) -> str:
            options: dict[str, Any] = {"seed": seed, "config": self.config, "timing": self._timing}
            async with VirtualRig.running(clock, load, directory, **options) as rig:
                rig.worker.runner.start(Stand(kind), by="test")
                while abs(load.v_tip) < kind.v_max_v - 1e-6:
                    assert rig.worker.runner.busy, rig.worker.runner.run
                    await clock.sleep_until(clock.now_ns() + 1_000_000)
                await clock.sleep_until(clock.now_ns() + int(onset_s * 1e9))
                load.begin(clock.now_ns())
                await rig.worker.runner.wait()
                rig.page.close()
                cuts = [event for event in map(unpack, rig.records()) if event.get("kind") == "cut"]
            return str(cuts[0]["verdict"]) if cuts else "none"

        verdict = run_virtual(main)
        return Judged(load.peak_current_a, reached_a, verdict, _safe_after(truth))


def unpack(record: Record) -> dict[str, Any]:
    return msgpack.unpackb(record.payload) if record.kind == Kind.EVENT else {}


def _safe_after(truth: TruthRecord) -> float | None:
    [onset] = truth.events("set_onset")
    after = [e for e in truth.events("safe") if e["t_ns"] > onset["t_ns"]]  # type: ignore[operator]
    return (after[0]["t_ns"] - onset["t_ns"]) / 1e9 if after else None  # type: ignore[operator]


CASES = {
    "search to 10 V": Case(Phase.SEEK, 10.0, 20),
    "search to 10 V, slowest unit": Case(Phase.SEEK, 10.0, 10, SLOWEST),
    "search to 1 V": Case(Phase.SEEK, 1.0, 4),
    "reset": Case(Phase.RESET, 1.0, 6),
    "reset, clear line": Case(Phase.RESET, 1.0, 6, SLOWEST, GPIO),
}


@pytest.mark.parametrize("name", CASES)
def test_surges_as_fast_as_promised_are_cut_before_the_limit(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    seeds = SEEDS if LONG else case.quick
    bench = Bench(case, tmp_path)
    tau_s = bench.row.envelope.tau_min_s
    judged = [bench.surge(HELD * tau_s, seed) for seed in range(seeds)]
    fast = [bench.surge(FAILS * tau_s, seed) for seed in range(seeds)]
    held = sum(one.held for one in judged)
    reached = sum(one.peak_a >= one.reached_a for one in fast)
    worst = max(one.peak_a for one in judged) / bench.row.envelope.reached_a
    print(
        f"\n{name}: tau_min {tau_s * 1e3:.1f} ms; at {HELD} of it {held} of {seeds} held, largest peak {worst:.0%} of "
        f"{bench.row.envelope.reached_a:g} A; at {FAILS} of it {reached} of {seeds} reached it; "
        f"cut by {sorted({one.verdict for one in judged + fast})}"
    )
    assert held == seeds
    # Seen to fail: half as long is no promise. A few seeds may all be lucky ones; and behind a line that acts at once
    # PREDICTED, which is promised nothing of, saves nearly all.
    assert reached > 0 or seeds < 10 or "gpio" in case.sections


@pytest.mark.parametrize("limits", [{"conductance_s": 0.0}, {}], ids=["no-conductance-test", "as-shipped"])
def test_slower_surges_are_cut_too(limits: dict[str, float], tmp_path: Path) -> None:
    # The promise is about every surge that is not faster, also those that the baseline half follows.
    bench = Bench(Case(Phase.SEEK, 10.0, 0, SLOWEST, {"limits": limits}), tmp_path)
    tau_s = bench.row.envelope.tau_min_s
    draw = random.Random(5)
    for seed in range(60 if LONG else 8):
        slower = HELD * 10 ** draw.random()
        judged = bench.surge(slower * tau_s, seed)
        assert judged.held, (slower, judged)


def test_without_the_guard_the_limit_is_reached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The removal test: the same surge, and nobody looks.
    monkeypatch.setattr("edge.guard.guard.Guard.observe", lambda _self, _sample: None)
    bench = Bench(CASES["search to 10 V"], tmp_path)
    judged = bench.surge(HELD * bench.row.envelope.tau_min_s, 0)
    assert judged.peak_a >= judged.reached_a


def test_a_gap_without_the_check_query_would_promise_too_much(tmp_path: Path) -> None:
    # The removal test of T_gap,max: some surges meet the check, and what forgot it does not hold for them.
    bench = Bench(Case(Phase.RESET, 1.0, 0, SLOWEST), tmp_path)
    inputs = bench.row.inputs
    pace = dataclasses.replace(inputs.pace, gap_s=inputs.pace.plain_gap_s)
    forgot_s = envelope(dataclasses.replace(inputs, pace=pace)).tau_min_s
    broken = next((seed for seed in range(120) if not bench.surge(forgot_s, seed).held), None)
    assert broken is not None
    assert bench.surge(bench.row.envelope.tau_min_s, broken).held
