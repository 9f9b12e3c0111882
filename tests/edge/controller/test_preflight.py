"""What refuses to run, with its reason and what to do about it; and names and parameters of plans."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest

from edge.config import Config
from edge.controller.plans import make_plan
from edge.controller.preflight import UNPROTECTED_HOST_S, clamp_layer, refuse_or_pass
from edge.errors import PlanRefusedError
from edge.experiments.iv import IvPlan
from edge.experiments.steps import Plan, Program


def a_config(*, kind: str = "tip", series_ohm: float = 10_000.0, **limits: float | bool) -> Config:
    return Config.model_validate(
        {
            "rig": {"id": "bench-1", "kind": kind, "series_resistor_ohm": series_ohm},
            "ports": {"smu": {"path": "/dev/serial/by-id/usb-1"}},
            "smu": {"serial_number": "1"},
            "limits": limits,
        }
    )


@dataclasses.dataclass(frozen=True)
class ThirdParty:
    """A third party's plan: says what it likes."""

    v_max_v: float = 1.0
    long_s: float = 1.0
    says: dict[str, Any] = dataclasses.field(default_factory=dict)
    name: str = "third"
    needs_stage: bool = False
    targets_m: tuple[tuple[float, float], ...] = ()

    def duration_s(self) -> float:
        return self.long_s

    def describe(self) -> dict[str, Any]:
        return self.says

    def program(self) -> Program:
        raise NotImplementedError


def refused(plan: Plan, config: Config, reason: str, *parts: str, emulated: bool = True) -> None:
    with pytest.raises(PlanRefusedError) as caught:
        refuse_or_pass(plan, config, emulated=emulated)
    assert caught.value.reason == reason
    assert "\n" not in str(caught.value)
    for part in parts:
        assert part in str(caught.value)


def test_a_plan_within_everything_passes() -> None:
    refuse_or_pass(IvPlan(to_v=-10.0, step_v=0.1), a_config(), emulated=True)


def test_real_hardware_is_refused_until_it_can_be_commissioned() -> None:
    refused(
        IvPlan(to_v=-0.1),
        a_config(),
        "not_commissioned",
        "port /dev/serial/by-id/usb-1 is real hardware",
        "tipguard commission",
        "tipguard hil smu",
        emulated=False,
    )


def test_no_acceptance_opens_real_hardware() -> None:
    plan = ThirdParty(says={"accept_clamp": True, "accept_unprotected_host": True})
    refused(plan, a_config(allow_clamp=True), "not_commissioned", emulated=False)


def test_a_cell_is_refused_because_the_output_goes_on_at_zero() -> None:
    refused(IvPlan(to_v=-0.1), a_config(kind="cell"), "rig_kind", "is for a tip, rig.kind is 'cell'")


# --------------------------------------------------------------------------------------------------------- volts


def test_a_bias_above_the_ceiling() -> None:
    config = a_config(voltage_v=5.0)
    refuse_or_pass(IvPlan(to_v=-5.0, step_v=0.1), config, emulated=True)
    refused(
        IvPlan(to_v=-5.1, step_v=0.1),
        config,
        "voltage_ceiling",
        "iv: 5.1 V",
        "limits.voltage_v = 5 V",
        "lower the plan, or raise the ceiling in the rig's own file",
    )


@pytest.mark.parametrize("v_max_v", [math.nan, math.inf, -1.0, -10.0])
def test_a_bias_that_is_none_is_above_every_ceiling(v_max_v: float) -> None:
    plan = ThirdParty(v_max_v=v_max_v, says={"accept_clamp": True})
    refused(plan, a_config(allow_clamp=True), "voltage_ceiling")


# ------------------------------------------------------------------------------------------------ what holds the limit


@pytest.mark.parametrize(("volts", "ohm"), [(1.0, 999.0), (10.0, 9_999.0), (0.1, 0.0), (0.1, 99.0)])
def test_a_short_that_the_resistor_does_not_hold(volts: float, ohm: float) -> None:
    refused(
        IvPlan(to_v=-volts, step_v=0.1),
        a_config(series_ohm=ohm),
        "series_resistor",
        f"a short at {volts:g} V through {ohm:g} ohm would exceed limits.current_a = 0.001 A",
        f"Put at least {volts / 1e-3:.0f} ohm at the tip (rig.series_resistor_ohm)",
        "limits.allow_clamp = true",
        "--accept-clamp",
    )


@pytest.mark.parametrize("tenths", range(1, 101))
def test_a_resistor_of_exactly_the_size_holds(tenths: int) -> None:
    volts = tenths / 10
    refuse_or_pass(ThirdParty(v_max_v=volts), a_config(series_ohm=round(volts / 1e-3, 6)), emulated=True)


def test_the_limit_counts_not_the_range() -> None:
    plan = IvPlan(to_v=-1.0, step_v=0.1)
    refuse_or_pass(plan, a_config(series_ohm=10_000.0, current_a=1e-4), emulated=True)
    refused(plan, a_config(series_ohm=10_000.0, current_a=9e-5), "series_resistor", "11111 ohm")


@pytest.mark.parametrize(
    ("accepts", "allows", "passes"),
    [(True, True, True), (True, False, False), (False, True, False), (False, False, False)],
)
def test_the_clamp_needs_the_plan_and_the_file_to_agree(accepts: bool, allows: bool, passes: bool) -> None:
    plan = IvPlan(to_v=-1.0, step_v=0.1, accept_clamp=accepts)
    config = a_config(series_ohm=0.0, allow_clamp=allows)
    if passes:
        refuse_or_pass(plan, config, emulated=True)
    else:
        refused(plan, config, "series_resistor")


@pytest.mark.parametrize("word", ["no", "false", "true", 1, 1.0, [True], {"accept": True}, None])
def test_only_true_is_an_acceptance(word: object) -> None:
    plan = ThirdParty(says={"accept_clamp": word, "accept_unprotected_host": word})
    refused(plan, a_config(series_ohm=0.0, allow_clamp=True), "series_resistor")
    refused(dataclasses.replace(plan, long_s=601.0), a_config(), "unprotected_host")


def test_which_layer_holds_the_limit_is_said() -> None:
    assert clamp_layer(a_config(), 10.0) == "series resistor: 10 V / 10000 ohm = 0.001 A"
    for config in (a_config(series_ohm=0.0), a_config(series_ohm=9_999.0)):
        assert clamp_layer(config, 10.0).startswith("SMU clamp only")


# ---------------------------------------------------------------------------------------------------- how long


@pytest.mark.parametrize("long_s", [600.0, 599.0, 0.0])
def test_a_short_plan_needs_no_acceptance(long_s: float) -> None:
    assert UNPROTECTED_HOST_S == 600.0
    refuse_or_pass(ThirdParty(long_s=long_s), a_config(), emulated=True)


@pytest.mark.parametrize("long_s", [600.1, 36_000.0, math.inf, math.nan])
def test_a_long_plan_needs_one(long_s: float) -> None:
    refused(ThirdParty(long_s=long_s), a_config(), "unprotected_host", "NOT PROTECTED", "--accept-unprotected-host")
    refuse_or_pass(ThirdParty(long_s=long_s, says={"accept_unprotected_host": True}), a_config(), emulated=True)


def test_the_first_broken_rule_is_named() -> None:
    plan = ThirdParty(v_max_v=100.0, long_s=1e6)
    refused(plan, a_config(kind="cell", series_ohm=0.0), "not_commissioned", emulated=False)
    refused(plan, a_config(kind="cell", series_ohm=0.0), "rig_kind")
    refused(plan, a_config(series_ohm=0.0), "voltage_ceiling")
    refused(dataclasses.replace(plan, v_max_v=1.0), a_config(series_ohm=0.0), "series_resistor")


# ---------------------------------------------------------------------------------------------- making a plan


def test_a_plan_is_made_from_its_name_and_parameters() -> None:
    plan = make_plan("iv", {"to_v": -0.5, "step_v": 0.1, "cycles": 3})
    assert plan == IvPlan(to_v=-0.5, step_v=0.1, cycles=3)


@pytest.mark.parametrize("name", ["vi", "", "IV", None, 5, b"iv", ["iv"], "x" * 100_000])
def test_an_unknown_plan_is_refused_with_those_there_are(name: object) -> None:
    with pytest.raises(PlanRefusedError, match=r"plan .*: expected one of: .*\biv\b") as caught:
        make_plan(name, {})
    assert caught.value.reason == "unknown_plan"
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("parameters", [None, [], "to_v", 5, {1: 2}, {b"to_v": 1}])
def test_parameters_that_are_no_map(parameters: object) -> None:
    with pytest.raises(PlanRefusedError, match="iv: parameters must be a map of names to values") as caught:
        make_plan("iv", parameters)
    assert caught.value.reason == "bad_plan"


@pytest.mark.parametrize("name", ["to", "name", "v_max_v", "To_v", "__class__", "x" * 100_000])
def test_an_unknown_parameter_is_refused_with_those_there_are(name: str) -> None:
    with pytest.raises(PlanRefusedError, match=r"iv: unknown parameter .*; expected: .*dwell_s.*to_v") as caught:
        make_plan("iv", {"to_v": -0.5, name: 1})
    assert caught.value.reason == "bad_plan"
    assert len(str(caught.value)) < 500


def test_a_missing_parameter_is_named() -> None:
    with pytest.raises(PlanRefusedError, match=r"iv: .*missing.*'to_v'") as caught:
        make_plan("iv", {})
    assert caught.value.reason == "bad_plan"


@pytest.mark.parametrize(
    "parameters", [{"to_v": "1"}, {"to_v": -1.0, "step_v": []}, {"to_v": 1.0, "accept_clamp": "yes"}, {"to_v": 99}]
)
def test_a_wrong_value_is_refused_by_the_plan_itself(parameters: dict[str, Any]) -> None:
    with pytest.raises(PlanRefusedError, match=r"iv: .*: value ") as caught:
        make_plan("iv", parameters)
    assert caught.value.reason == "bad_plan"
