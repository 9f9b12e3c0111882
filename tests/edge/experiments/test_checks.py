"""What every plan checks of its parameters: taken at both ends, refused beyond, and by name."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.errors import PlanRefusedError
from edge.experiments.checks import flag, number, ramp, refuse, whole


@pytest.mark.parametrize("value", [-1.5, 0, 2, 2.0])
def test_a_number_within_comes_back_as_a_float(value: float) -> None:
    taken = number("plan", "key", value, -1.5, 2.0)
    assert isinstance(taken, float)
    assert taken == value


@pytest.mark.parametrize("value", [-1.50001, 2.00001, math.nan, math.inf, -math.inf, 10**400])
def test_a_number_outside_is_refused_with_the_range(value: float) -> None:
    with pytest.raises(PlanRefusedError, match=r"plan: key: value .*: expected -1.5 to 2") as caught:
        number("plan", "key", value, -1.5, 2.0)
    assert caught.value.reason == "bad_plan"
    # 10**400 in full would be a message of 400 digits.
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize("value", [True, False, "1", None, [1], {}, 1j, b"1"])
def test_what_is_no_number_is_refused(value: object) -> None:
    for check in (number, whole):
        with pytest.raises(PlanRefusedError, match=r"plan: key: value .*: expected a number"):
            check("plan", "key", value, 0, 5)


def test_a_whole_number_has_no_point() -> None:
    assert whole("plan", "key", 3, 0, 5) == 3
    for value in (3.0, 3.5):
        with pytest.raises(PlanRefusedError, match=f"value {value}: expected a whole number 0 to 5"):
            whole("plan", "key", value, 0, 5)
    with pytest.raises(PlanRefusedError, match="expected 0 to 5"):
        whole("plan", "key", 6, 0, 5)


@pytest.mark.parametrize("value", [0, 1, "true", "no", None, [], 0.0])
def test_only_true_and_false_are_a_yes_or_no(value: object) -> None:
    with pytest.raises(PlanRefusedError, match="expected true or false"):
        flag("plan", "key", value)
    assert flag("plan", "key", True) is True
    assert flag("plan", "key", False) is False


def test_a_refusal_is_one_short_line_whatever_was_given() -> None:
    said = str(refuse("plan", "key", "x" * 10_000, "less"))
    assert len(said) < 200
    assert said.startswith("plan: key: value 'xxx")
    assert said.endswith(": expected less")
    assert "\n" not in str(refuse("plan", "key", "a\nb", "less"))


@given(st.floats(-20, 20).filter(lambda v: abs(v) >= 1e-3), st.floats(1e-3, 1.0))
def test_a_ramp_goes_from_0_to_its_end_in_equal_steps(to_v: float, step_v: float) -> None:
    step_v = min(step_v, abs(to_v))
    levels = ramp(to_v, step_v)
    assert levels[0] == 0.0
    assert levels[-1] == to_v
    assert math.copysign(1.0, levels[0]) == 1.0
    steps = [after - before for before, after in itertools.pairwise(levels)]
    assert all(step * to_v > 0 for step in steps)
    assert max(map(abs, steps)) <= step_v * (1 + 1e-6)
    assert max(map(abs, steps)) - min(map(abs, steps)) < 1e-9
    # No more of them than needed.
    assert len(steps) < abs(to_v) / step_v + 1


@pytest.mark.parametrize(("to_v", "step_v", "n"), [(-0.5, 0.0022, 229), (-10.0, 0.0022, 4547), (1.0, 0.1, 11)])
def test_levels_of_the_maps_own_ramps(to_v: float, step_v: float, n: int) -> None:
    assert len(ramp(to_v, step_v)) == n
