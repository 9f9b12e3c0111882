"""A rig's own times in its envelope: the driver's, the profile's, the heartbeat's; by hand where a hand can."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest

from edge.config import Config
from edge.controller.envelopes import (
    ANY_DWELL_S,
    BAUDS,
    HOST_S,
    OE_S,
    Protection,
    Row,
    for_plan,
    pace,
    plan_kinds,
    protection,
    to_document,
)
from edge.experiments.iv import IvPlan
from edge.experiments.memristor import MemristorPlan
from edge.guard.phases import phase_spec
from edge.profile import RigProfile
from edge.samples import Phase
from hil.rig import config_for

SPEC = phase_spec(Phase.SEEK, 10.0)
BYTE_S = 10 / 57600
GPIO: dict[str, Any] = {"chip": "memory", "heartbeat_line": 17}


def times(p50: float, p99: float, longest: float) -> dict[str, Any]:
    return {"p50": p50, "p99": p99, "max": longest, "n": 300}


def a_profile(**changes: object) -> RigProfile:
    data: dict[str, Any] = {
        "v": 1,
        "serial_number": "1304207",
        "firmware": "C31",
        "terminator": "LF",
        "line_freq_hz": 50.0,
        "baud": 57600,
        "sign": 1,
        "series_ohm": 10_000.0,
        "abort_s": 0.001,
        "sample_period_s": {"constant": times(0.010, 0.011, 0.012), "ramp": times(0.021, 0.022, 0.024)},
        "check_period_s": times(0.025, 0.026, 0.027),
        "cut_latency_s": times(0.030, 0.032, 0.040),
        "current": [],
        "measured_utc": "2026-11-26T12:00:00Z",
        "tipguard": "0.5",
    }
    return RigProfile.model_validate(data | changes)


def with_profile(config: Config, profile: RigProfile) -> Config:
    return config.model_copy(update={"profile": profile})


def of(config: Config) -> Protection:
    found = protection(config)
    assert found is not None
    return found


def row(found: Protection, phase: Phase, v_max_v: float) -> Row:
    return next(one for one in found.rows if (one.kind.phase, one.kind.v_max_v) == (phase, v_max_v))


def test_the_driver_s_times_by_hand() -> None:
    found = pace(config_for(), SPEC)
    # 27 bytes there, 42 back; 10 ms of level, 4 ms of reading, 0.5 ms of delay, 0.2 ms of aperture; 1 ms of host.
    level_s = 69 * BYTE_S + 0.010 + 0.0047 + HOST_S
    assert found.plain_gap_s == pytest.approx(level_s)
    assert found.least_gap_s == pytest.approx(level_s)
    # A check: 17 bytes there, 14 back, 7 ms.
    assert found.gap_s == pytest.approx(level_s + 31 * BYTE_S + 0.007 + HOST_S)
    assert found.reply_s == pytest.approx(42 * BYTE_S + 0.0047)
    # A newline and `:SOUR:VOLT 0`, then the level's processing.
    assert found.cut_s == pytest.approx(HOST_S + 14 * BYTE_S + 0.010)


@pytest.mark.parametrize(("slow", "fast"), list(itertools.pairwise(BAUDS)))
def test_a_faster_line_is_faster_in_everything(slow: int, fast: int) -> None:
    slower, faster = (pace(config_for(), SPEC, baud=baud) for baud in (slow, fast))
    for name in ("gap_s", "plain_gap_s", "least_gap_s", "reply_s", "cut_s"):
        assert getattr(faster, name) < getattr(slower, name)


def test_a_longer_dwell_has_readings_at_a_level_and_a_wait_in_its_gap() -> None:
    short, long = (pace(config_for(), SPEC, dwell_s=dwell_s) for dwell_s in (0.001, ANY_DWELL_S))
    read_s = 49 * BYTE_S + 0.0047 + HOST_S
    assert long.least_gap_s == pytest.approx(read_s)
    # A wait is shorter than a reading: for a longer one there would have been a reading.
    assert long.plain_gap_s == pytest.approx(short.plain_gap_s + read_s)
    assert long.gap_s == pytest.approx(short.gap_s + read_s)
    between = pace(config_for(), SPEC, dwell_s=0.030)
    assert between.plain_gap_s == pytest.approx(0.030)


def test_a_profile_s_longest_times_are_used_and_its_date_is_said() -> None:
    config = with_profile(config_for(), a_profile())
    found = pace(config, SPEC, dwell_s=0.001)
    aperture_s = 0.01 / 50
    assert found.plain_gap_s == pytest.approx(0.024 + aperture_s)
    # Whether the level stood when the check was timed, nobody knows: the level comes on top.
    assert found.gap_s == pytest.approx(0.027 + aperture_s + 0.012)
    assert found.reply_s == pytest.approx(0.012 + aperture_s - 7 * BYTE_S)
    assert found.cut_s == pytest.approx(0.040)
    assert of(config).measured_utc == "2026-11-26T12:00:00Z"
    assert to_document(of(config))["times"] == "rig profile"
    assert of(config_for()).measured_utc is None
    assert to_document(of(config_for()))["times"] == "driver"


@pytest.mark.parametrize("other", [{"serial_number": "7"}, {"baud": 9600}])
def test_another_unit_s_profile_is_not_used(other: dict[str, Any]) -> None:
    config = with_profile(config_for(), a_profile(**other))
    assert pace(config, SPEC) == pace(config_for(), SPEC)
    assert of(config).measured_utc is None


def test_other_rates_are_reckoned_by_the_driver_also_with_a_profile() -> None:
    config = with_profile(config_for(), a_profile())
    assert pace(config, SPEC, baud=9600) == pace(config_for(), SPEC, baud=9600)


def test_the_kinds_of_plans_stay_below_the_ceiling() -> None:
    assert [kind.name for kind in plan_kinds(config_for())] == ["search to 1 V", "search to 10 V", "reset at 1 V"]
    low = plan_kinds(config_for(limits={"voltage_v": 0.3}))
    assert [kind.name for kind in low] == ["search to 0.3 V", "reset at 0.3 V"]


def test_a_limit_that_a_range_refuses_has_no_row() -> None:
    # 0.5 uA is below 0.1 % of the 1 mA range.
    found = of(config_for(limits={"current_a": 0.5e-6}))
    assert [one.kind.name for one in found.rows] == ["search to 1 V"]
    assert all(len(wider.rows) == 1 for wider in found.wider)


def test_a_cell_has_no_envelope_yet() -> None:
    config = config_for()
    cell = config.rig.model_copy(update={"kind": "cell"})
    assert protection(config.model_copy(update={"rig": cell})) is None
    assert for_plan("iv", IvPlan(to_v=-0.6).describe(), config.model_copy(update={"rig": cell})) is None


def test_the_heartbeat_with_a_clear_line_makes_a_protective_cut_faster_and_no_planned_one() -> None:
    without, wired = of(config_for()), of(config_for(gpio={**GPIO, "clear_line": 27}))
    reset = row(wired, Phase.RESET, 1.0)
    assert reset.inputs.pace.cut_s == pytest.approx(HOST_S + OE_S)
    assert reset.envelope.tau_min_s < row(without, Phase.RESET, 1.0).envelope.tau_min_s
    for v_max_v in (1.0, 10.0):
        assert row(wired, Phase.SEEK, v_max_v) == row(without, Phase.SEEK, v_max_v)


def test_a_monostable_alone_is_no_faster_than_the_line() -> None:
    assert of(config_for(gpio=GPIO)).rows == of(config_for()).rows
    # But where the line is slow, silence is faster: 9600 baud, and the monostable's own time.
    slow: dict[str, Any] = {"ports": {"smu": {"path": "memory", "baud": 9600}}}
    reset = row(of(config_for(gpio={**GPIO, "monostable_s": 0.020}, **slow)), Phase.RESET, 1.0)
    assert reset.inputs.pace.cut_s == pytest.approx(HOST_S + 0.020 + OE_S)


def test_what_would_widen_it() -> None:
    wider = {one.what: one.rows for one in of(config_for()).wider}
    base = wider["as it is, 57600 baud"]
    assert list(wider) == [
        "as it is, 57600 baud",
        "9600 baud",
        "19200 baud",
        "38400 baud",
        "10 kohm at the tip",
        "gpio, with clear line",
        "gpio, 40 ms monostable",
        "front end, 10 kS/s",
        "front end, 100 kS/s",
    ]
    assert wider["9600 baud"][1].tau_min_s > 2 * base[1].tau_min_s
    # A resistor changes what a short draws, not how soon it is cut.
    assert [one.layer for one in wider["10 kohm at the tip"]] == ["resistor"] * 3
    assert wider["10 kohm at the tip"][1].tau_min_s == base[1].tau_min_s
    # One sample to see it, one to decide, 0.3 us of switch, and a current that doubles.
    assert wider["front end, 10 kS/s"][2].tau_min_s == pytest.approx(0.2003e-3 / math.log(1e-3 / 500.2e-6))
    assert wider["front end, 100 kS/s"][2].charge_c == pytest.approx(1e-3 * 20.3e-6)
    # At 10 V it is done before the clamp has begun: the resistor's 10 mA flow.
    assert wider["front end, 100 kS/s"][1].charge_c == pytest.approx(10e-3 * 20.3e-6)
    # With enough of a resistor there is nothing to gain from more.
    assert "10 kohm at the tip" not in {one.what for one in of(config_for(series_ohm=10_000.0)).wider}


def test_a_plan_gets_its_own() -> None:
    config = config_for()
    plan = IvPlan(to_v=-0.6)
    found = for_plan("iv", plan.describe(), config)
    assert found is not None
    assert found["reached_a"] == 100e-6
    assert found["times"] == "driver"
    # Levels that are held longer have a wait in the gap.
    longer = for_plan("iv", IvPlan(to_v=-0.6, dwell_s=1.0).describe(), config)
    assert longer is not None
    assert longer["tau_min_s"] > found["tau_min_s"]
    # The time at the set level counts too.
    cycling = for_plan("memristor", MemristorPlan().describe(), config)
    assert cycling is not None
    assert cycling["tau_min_s"] >= longer["tau_min_s"]


@pytest.mark.parametrize(
    "says",
    [{}, {"v_max_v": "much"}, {"v_max_v": math.nan}, {"v_max_v": math.inf}, {"v_max_v": True}, {"v_max_v": 11.0}],
)
def test_a_plan_that_says_no_bias_is_promised_nothing(says: dict[str, Any]) -> None:
    assert for_plan("third", says, config_for()) is None


def test_a_plan_that_says_no_dwell_is_taken_at_its_worst() -> None:
    config = config_for()
    unknown, known = (for_plan("third", {"v_max_v": 1.0, **more}, config) for more in ({}, {"dwell_s": 0.02}))
    assert unknown is not None
    assert known is not None
    assert unknown["tau_min_s"] > known["tau_min_s"]


def test_the_document_carries_units_in_every_name() -> None:
    found = to_document(of(config_for()))
    units = ("_s", "_a", "_v", "_c", "_j", "_ohm", "_v_s")
    plain = {"plan", "phase", "seen_by", "reason", "readings", "layer", "tests", "front_end"}
    for one in found["envelope"]:
        assert [key for key in one if key not in plain and not key.endswith(units)] == []
    assert [len(wider["plans"]) for wider in found["widen"]] == [3] * 9
