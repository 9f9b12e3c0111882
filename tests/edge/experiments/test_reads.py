"""Reads of nothing and of a high resistance, driven by hand. The back-scan is in test_iv."""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Callable
from typing import Any

import pytest

from edge.experiments.reads import (
    EVENT_FIELDS,
    HRS_BIAS_V,
    HRS_READINGS,
    ZERO_READINGS,
    HrsRead,
    Zero,
    data_sheet_zero,
    hrs_read,
    lifted_zero,
)
from edge.experiments.steps import Arm, End, Energise, Outcome, Ramp, Step
from edge.samples import Flag, Phase, Sample

Drive = Callable[..., tuple[list[Step], Any]]
PA = 1e-12


def reading(current_a: float, flags: int = 0, bias_v: float = HRS_BIAS_V) -> Sample:
    return Sample(0, 0, 0, bias_v, current_a, flags, Phase.HRS_READ)


def readings(*currents_a: float) -> Outcome:
    return Outcome(samples=tuple(reading(a) for a in currents_a))


def answer(outcome: Outcome) -> Callable[[Step], Outcome | None]:
    return lambda step: outcome if isinstance(step, Ramp) else None


ZERO = Zero(Phase.HRS_READ, 30, 5 * PA, 10 * PA, 300 * PA, "lifted tip")


# ----------------------------------------------------------------------------------------------------------- the zero


def test_the_zero_is_the_mean_and_the_limit_three_deviations_plus_the_offset(by_hand: Drive) -> None:
    rng = random.Random(1)
    currents = [rng.gauss(40 * PA, 12 * PA) for _ in range(ZERO_READINGS)]
    steps, zero = by_hand(lifted_zero(Phase.HRS_READ), answer(readings(*currents)))
    assert steps == [
        Arm(Phase.HRS_READ, HRS_BIAS_V),
        Energise(),
        Ramp((HRS_BIAS_V,) * ZERO_READINGS, 0.001),
        End(),
    ]
    assert ZERO_READINGS >= 30
    assert zero.zero_a == pytest.approx(statistics.fmean(currents))
    assert zero.lod_a == pytest.approx(3 * statistics.stdev(currents) + 300 * PA)
    assert zero.document() == {
        "setting": "HRS_READ",
        "n": 30,
        "zero_a": zero.zero_a,
        "sd_a": statistics.stdev(currents),
        "offset_a": 300 * PA,
        "lod_a": zero.lod_a,
        "source": "lifted tip",
    }


def test_the_zero_of_the_reset_range_has_that_ranges_offset(by_hand: Drive) -> None:
    steps, zero = by_hand(lifted_zero(Phase.RESET), answer(readings(*[1e-7, -1e-7] * 15)))
    assert steps[0] == Arm(Phase.RESET, HRS_BIAS_V)
    assert zero.offset_a == pytest.approx(560e-9)
    assert zero.lod_a == pytest.approx(560e-9 + 3 * statistics.stdev([1e-7, -1e-7] * 15))


def test_readings_that_are_all_the_same_are_not_without_noise(by_hand: Drive) -> None:
    _, zero = by_hand(lifted_zero(Phase.HRS_READ), answer(readings(*[10 * PA] * 30)))
    assert zero.sd_a == data_sheet_zero(Phase.HRS_READ).sd_a > 0


def test_a_lifted_tip_that_cannot_be_read_falls_back_to_the_data_sheet_and_says_so(by_hand: Drive) -> None:
    bad = Outcome(samples=tuple(reading(math.nan, Flag.OVERFLOW) for _ in range(30)))
    _, zero = by_hand(lifted_zero(Phase.HRS_READ), answer(bad))
    assert zero == data_sheet_zero(Phase.HRS_READ)
    assert (zero.source, zero.n, zero.zero_a) == ("data sheet", 0, 0.0)
    assert zero.lod_a == pytest.approx(330 * PA)


# ------------------------------------------------------------------------------------------------------------ the read


def test_the_high_resistance_is_the_mean_less_the_zero(by_hand: Drive) -> None:
    steps, read = by_hand(hrs_read(ZERO), answer(readings(*(n * PA for n in (105, 95, 110, 90, 100)))))
    assert steps == [Arm(Phase.HRS_READ, 0.1), Energise(), Ramp((0.1,) * HRS_READINGS, 0.001), End()]
    assert read.current_a == pytest.approx(95 * PA)
    assert read.document() == {
        "bias_v": 0.1,
        "current_a": read.current_a,
        "n": 5,
        "saturated": False,
        "zero_a": 5 * PA,
        "lod_a": pytest.approx(330 * PA),
        "verdict": None,
    }
    assert not read.seen


@pytest.mark.parametrize("flag", [Flag.OVERFLOW, Flag.COMPLIANCE, Flag.RANGE_COMPLIANCE])
def test_one_reading_at_the_end_of_the_range_makes_it_a_bound(by_hand: Drive, flag: Flag) -> None:
    current_a = math.nan if flag is Flag.OVERFLOW else 1.05e-6
    outcome = Outcome(samples=(*(reading(100 * PA) for _ in range(4)), reading(current_a, flag)))
    _, read = by_hand(hrs_read(ZERO), answer(outcome))
    assert read.saturated
    assert read.seen
    # The clamped one is not in the mean.
    assert (read.n, read.current_a) == (4, pytest.approx(95 * PA))


def test_without_a_trusted_reading_there_is_no_number(by_hand: Drive) -> None:
    outcome = Outcome(samples=tuple(reading(math.nan, Flag.NOT_MEASURED) for _ in range(5)))
    _, read = by_hand(hrs_read(ZERO), answer(outcome))
    assert (read.current_a, read.n, read.saturated, read.seen) == (None, 0, False, False)


def test_a_read_that_was_cut_ends_nothing_and_says_so(by_hand: Drive) -> None:
    steps, read = by_hand(hrs_read(ZERO, 1.0, 3), answer(Outcome(verdict="HARD_LIMIT")))
    assert steps == [Arm(Phase.HRS_READ, 1.0), Energise(), Ramp((1.0,) * 3, 0.001)]
    assert read.verdict == "HARD_LIMIT"


@pytest.mark.parametrize(("current_a", "seen"), [(329 * PA, False), (331 * PA, True), (-331 * PA, True), (None, False)])
def test_seen_is_above_the_detection_limit(current_a: float | None, seen: bool) -> None:
    assert HrsRead(0.1, current_a, 5, False, ZERO, None).seen is seen


def test_the_fields_taken_from_an_event_have_no_double() -> None:
    assert len(set(EVENT_FIELDS)) == len(EVENT_FIELDS)
    assert {"trigger_bias_v", "trigger_half_v", "set_current_a", "charge_c", "verified_ns"} <= set(EVENT_FIELDS)
