"""What a rig profile is good for: real ports open, deadlines and times are those of this rig, and of no other."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from edge.config import Config
from edge.controller.commission import CommissionPlan
from edge.controller.exchanges import DEADLINE_MAX_S, Exchanges
from edge.controller.mirror import CLEAN, Latch, Mirror
from edge.controller.preflight import refuse_or_pass
from edge.errors import PlanRefusedError
from edge.experiments.iv import IvPlan
from edge.instruments.keithley2400 import Keithley2400
from edge.instruments.keithley2400_times import (
    LEVEL_PROCESSING_S,
    QUERY_PROCESSING_S,
    READ_PROCESSING_S,
    Processing,
    processing,
)
from edge.instruments.link import Link
from hil.devices.keithley2400 import Keithley2400 as Unit
from hil.devices.keithley2400 import Timing
from hil.line.memory import MemoryLine
from hil.rig import config_for
from hil.twin.ohmic import OhmicLoad
from hil.virtual import VirtualClock
from hil.virtual_bench import VirtualBench, on_bench
from tests.edge.test_profile import WHOLE

PLAN = IvPlan(to_v=-0.1)
BYTE_S = 10 / 57600
WIRE_S = 49 * BYTE_S
"""``:READ?`` and its reply."""
STILL_S = 0.0005 + 0.0002
"""Source delay and 0.01 line cycles at 50 Hz."""


def times(value_s: float, p99_s: float | None = None) -> dict[str, Any]:
    p99 = value_s if p99_s is None else p99_s
    return {"p50": value_s, "p99": p99, "max": p99, "n": 300}


def profile(*, read_s: float = 0.002, level_s: float = 0.003, query_s: float = 0.001, **changes: Any) -> dict[str, Any]:  # noqa: ANN401
    """A profile of a unit that works for so long on a reading, a level and a check, at 57600 baud."""
    constant = WIRE_S + STILL_S + read_s
    # 18 bytes before the 7 of the question, which are on the wire while the level is worked on.
    ramp = constant + level_s + (18 - 7) * BYTE_S
    check = ramp + query_s + (17 + 14) * BYTE_S
    return {
        **WHOLE,
        "sample_period_s": {"constant": times(constant), "ramp": times(ramp)},
        "check_period_s": times(check),
        **changes,
    }


def hardware(path: str = "/dev/serial/by-id/usb-1", **sections: Any) -> Config:  # noqa: ANN401 - tables of a rig's file
    data: dict[str, Any] = {
        "rig": {"id": "bench-1", "kind": "tip", "series_resistor_ohm": 10_000.0},
        "ports": {"smu": {"path": path}},
        "smu": {"serial_number": "1304207"},
        "profile": WHOLE,
    }
    return Config.model_validate({**data, **sections})


def refusal(plan: Any, config: Config) -> PlanRefusedError:  # noqa: ANN401 - any plan
    with pytest.raises(PlanRefusedError) as caught:
        refuse_or_pass(plan, config, emulated=False)
    assert "\n" not in str(caught.value)
    return caught.value


# ------------------------------------------------------------------------------------------------------------ preflight


def test_a_commissioned_rig_runs_plans_on_its_real_port() -> None:
    refuse_or_pass(PLAN, hardware(), emulated=False)
    refuse_or_pass(PLAN, hardware("/dev/tipguard/smu"), emulated=False)


@pytest.mark.parametrize(
    ("sections", "says"),
    [
        ({"profile": None}, "has no rig profile"),
        ({"profile": {**WHOLE, "serial_number": "7"}}, "measured with serial number 7, this rig's is 1304207"),
        ({"profile": {**WHOLE, "baud": 9600}}, "measured with baud rate 9600"),
        ({"profile": {**WHOLE, "line_freq_hz": 60.0}}, "measured with line frequency 60.0"),
        ({"wiring": {"hi": "sample"}}, "measured with the other end at HI"),
    ],
)
def test_without_its_own_profile_a_real_port_stays_closed(sections: dict[str, Any], says: str) -> None:
    error = refusal(PLAN, hardware(**sections))
    assert error.reason == "not_commissioned"
    assert says in str(error)
    assert "tipguard commission" in str(error)
    # On the emulated bench a profile is a convenience.
    refuse_or_pass(PLAN, hardware(**sections), emulated=True)


def test_a_port_name_that_may_be_another_device_tomorrow_is_refused() -> None:
    for plan in (PLAN, CommissionPlan("open", 10_000.0)):
        assert refusal(plan, hardware("/dev/ttyUSB0")).reason == "port_name"


def test_commissioning_itself_needs_no_profile_and_nothing_made_from_it_profits() -> None:
    bare = hardware(profile=None)
    plan = CommissionPlan("10kohm", 10_000.0)
    refuse_or_pass(plan, bare, emulated=False)

    class Disguised(CommissionPlan):
        """A third party's plan that says that it is ours."""

    assert refusal(Disguised("10kohm", 10_000.0), bare).reason == "not_commissioned"
    # Its ceilings are everybody's.
    assert refusal(plan, hardware(profile=None, limits={"voltage_v": 0.1})).reason == "voltage_ceiling"
    cell = {"id": "bench-1", "kind": "cell", "series_resistor_ohm": 10_000.0}
    assert refusal(plan, hardware(profile=None, rig=cell)).reason == "rig_kind"


def test_a_commissioning_that_reckons_with_another_resistor_is_refused() -> None:
    error = refusal(CommissionPlan("10kohm", 1000.0), hardware())
    assert error.reason == "other_rig"
    assert "rig.series_resistor_ohm is 10000" in str(error)


def test_on_a_virtual_real_port_a_person_has_to_commission_first(tmp_path: Path) -> None:
    Mirror(tmp_path).write(Latch(CLEAN))

    async def test(bench: VirtualBench) -> None:
        runner = bench.rig.worker.runner
        # A line in memory says of itself that it is emulated.
        runner._emulated = False
        with pytest.raises(PlanRefusedError) as caught:
            bench.start()
        assert caught.value.reason == "not_commissioned"
        assert bench.truth.events("live") == []

    on_bench(tmp_path, test)


# ------------------------------------------------------------------------------------------------------- times


def driver(config: Config, clock: VirtualClock) -> Keithley2400:
    line = MemoryLine(Unit(OhmicLoad(1e6)), clock, 57600)
    return Keithley2400(Link(line.transport, clock), config)


def test_a_unit_s_own_times_are_what_is_left_when_wire_and_aperture_are_taken_off() -> None:
    config = hardware(profile=profile())
    found = processing(config, BYTE_S)
    assert found.read_s == pytest.approx(0.002, abs=1e-6)
    assert found.usual_read_s == pytest.approx(0.002, abs=1e-6)
    assert found.level_s == pytest.approx(0.003, abs=1e-6)
    assert found.query_s == pytest.approx(0.001, abs=1e-4)


def test_no_time_is_longer_than_without_a_profile_and_none_is_below_nothing() -> None:
    slow = processing(hardware(profile=profile(read_s=0.03, level_s=0.03, query_s=0.03)), BYTE_S)
    assert (slow.read_s, slow.level_s, slow.query_s) == (READ_PROCESSING_S, LEVEL_PROCESSING_S, QUERY_PROCESSING_S)
    # When a reading was taken is no deadline: there the truth counts.
    assert slow.usual_read_s == pytest.approx(0.03, abs=1e-6)
    nothing = processing(hardware(profile=profile(read_s=-0.002, level_s=-0.001, query_s=-0.001)), BYTE_S)
    assert (nothing.read_s, nothing.level_s, nothing.query_s, nothing.usual_read_s) == (0.0, 0.0, 0.0, 0.0)


@pytest.mark.parametrize(
    "change", [{"profile": None}, {"profile": profile(serial_number="7")}, {"profile": profile(baud=9600)}]
)
def test_another_rig_s_times_are_not_used(change: dict[str, Any]) -> None:
    assert processing(hardware(**change), BYTE_S) == Processing()


def test_deadlines_and_the_time_of_a_cut_come_from_the_profile() -> None:
    clock = VirtualClock()
    plain, measured = (Exchanges(driver(config, clock)) for config in (config_for(), hardware(profile=profile())))
    for one in (plain, measured):
        one.plan()
    for name in ("read_deadline_ns", "level_deadline_ns", "check_deadline_ns"):
        with_profile, without = getattr(measured, name), getattr(plain, name)
        assert 20_000_000 < with_profile < without <= DEADLINE_MAX_S * 1e9, name
    # 1.5 x p99 + 20 ms, of a reading that takes its wire and 2.5 ms; the aperture is not set up yet.
    assert measured.read_deadline_ns == pytest.approx((1.5 * (WIRE_S + 0.0025) + 0.020) * 1e9, rel=1e-3)
    assert measured.tau_cut_s == pytest.approx(plain.tau_cut_s - 2 * 0.007 - 0.002, abs=1e-4)


def test_a_sample_s_time_is_that_of_this_rig(tmp_path: Path) -> None:
    """The same unit, once unknown and once measured: the true aperture is within both uncertainties."""
    middles: dict[bool, tuple[int, int]] = {}
    for known in (False, True):
        config = config_for(series_ohm=1000.0)
        if known:
            config = config.model_copy(update={"profile": hardware(profile=profile(read_s=0.0021)).profile})
        directory = tmp_path / str(known)
        directory.mkdir()

        async def test(bench: VirtualBench, *, known: bool = known) -> None:
            run = await bench.rig.run(IvPlan(to_v=-0.05, step_v=0.01, back_scan=False))
            assert run["status"] == "completed", run["reason"]
            last = bench.engine.report.last_sample
            assert last is not None
            middles[known] = (last.t_rx_ns - last.t_ns, last.t_unc_ns)

        quick = Timing(reply_s=0.0005)
        on_bench(directory, test, config=config, timing=quick)
    assert middles[True][1] < middles[False][1]
    # From the middle of the aperture: half of it, conversion, reply, and 42 bytes.
    truth_ns = int((0.0001 + 0.0002 + 0.0005 + 42 * BYTE_S) * 1e9)
    for back_ns, unc_ns in middles.values():
        assert abs(back_ns - truth_ns) <= unc_ns


def test_a_run_on_a_commissioned_rig_does_not_end_at_a_deadline(tmp_path: Path) -> None:
    # Fifty levels with checks, at the very times that the profile promises.
    slow = Timing()
    data = profile(read_s=0.0037, level_s=0.0072, query_s=0.0031)
    config = config_for(series_ohm=1000.0)
    config = config.model_copy(update={"profile": hardware(profile=data).profile})
    assert config.own_profile is not None

    async def test(bench: VirtualBench) -> None:
        run = await bench.rig.run(dataclasses.replace(PLAN, to_v=-0.5, step_v=0.01, back_scan=False))
        assert run["status"] == "completed", run["reason"]

    on_bench(tmp_path, test, config=config, timing=slow)
