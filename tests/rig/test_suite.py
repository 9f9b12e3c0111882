"""One suite for every bench: emulated, with a stage or a front end or without, and, with ``--rig FILE``, a real rig.

Nothing here goes above a tenth of a volt. What a bench cannot know (what hangs at the terminals, what really happened
to the sample) is asked only where it can.
"""

from __future__ import annotations

import math

import pytest

from edge.samples import UNTRUSTED, Flag, Sample
from hil.errors import BenchFaultError
from hil.processes import StageSpec, wait_for
from hil.suite import RigHandle

STAGE = StageSpec(start_um=(50.0, 50.0, 49.97), settings={"lift_m": 50e-9, "settle_s": 0.05})
"""Near to the surface, as somebody leaves a tip who looks at a sample."""
pytestmark = [
    pytest.mark.realtime,
    pytest.mark.rig(load="ohmic:1e6", series_ohm=10_000.0, seed=3, stage=STAGE),
]
TO_V = -0.1
SWEEP = {"to_v": TO_V, "step_v": 0.02, "dwell_s": 0.02, "back_scan": False}
SLOW_SWEEP = {**SWEEP, "dwell_s": 0.25}


def trusted(samples: tuple[Sample, ...]) -> list[Sample]:
    return [sample for sample in samples if not sample.flags & UNTRUSTED]


def test_the_rig_knows_who_it_is(rig: RigHandle) -> None:
    status, config = rig.status(), rig.config
    assert status["smu"]["serial_number"] == config.smu.serial_number
    assert status["smu"]["model"].startswith("MODEL 24") or "2400" in status["smu"]["model"]
    assert status["state"] == "SAFE"
    assert status["emulated"] or not rig.emulated
    assert (status["stage"] is not None) == ("stage" in rig.capabilities)


def test_the_limit_of_a_run_is_read_back(rig: RigHandle) -> None:
    run = rig.run("iv", **SWEEP)
    assert run.status == "completed", run.reason
    (start,) = [document for document in run.documents if document["kind"] == "start"]
    limits = start["limits"]
    assert 0 < limits["current_a"] <= rig.config.limits.current_a
    assert limits["voltage_v"] <= rig.config.limits.voltage_v


def test_a_sweep_measures_the_resistance_that_is_there(rig: RigHandle) -> None:
    run = rig.run("iv", **SWEEP)
    assert run.status == "completed", run.reason
    there = [sample for sample in trusted(run.samples) if abs(sample.bias_v) >= 0.07 and sample.current_a != 0.0]
    assert len(there) >= 2
    for sample in there:
        # Nothing has less than the series resistor.
        assert abs(sample.bias_v / sample.current_a) >= 0.95 * rig.series_ohm
    if rig.load_ohm is not None:
        # The slope of all readings: a single one may be a quarter off, by the noise of the instrument's range.
        both = sum(sample.bias_v * sample.current_a for sample in trusted(run.samples))
        bias = sum(sample.bias_v**2 for sample in trusted(run.samples))
        assert bias / both == pytest.approx(rig.load_ohm + rig.series_ohm, rel=0.2)
    assert min(sample.bias_v for sample in run.samples) == pytest.approx(TO_V)
    assert rig.status()["state"] == "SAFE"
    if rig.truth is not None:
        assert not [entry for entry in rig.truth if entry["event"] == "set_onset"]


def test_no_sample_without_a_flag_is_nan(rig: RigHandle) -> None:
    run = rig.run("iv", **SWEEP)
    assert run.samples
    times = [sample.t_ns for sample in run.samples]
    assert times == sorted(times)
    for sample in run.samples:
        assert math.isfinite(sample.bias_v)
        assert math.isnan(sample.current_a) == bool(sample.flags & UNTRUSTED), Flag(sample.flags)


def test_a_stop_cuts_and_the_next_run_is_clean(rig: RigHandle) -> None:
    uid = rig.start("iv", **SLOW_SWEEP)
    rig.wait_bias(0.02)
    status = rig.stop()
    assert (status["state"], status["verdict"]) == ("TRIPPED", "OPERATOR")
    stopped = rig.wait(uid)
    assert stopped.status != "completed"
    assert max((abs(sample.bias_v) for sample in stopped.samples), default=0.0) < abs(TO_V)
    if rig.truth is not None:
        told = [entry["event"] for entry in rig.truth if entry["event"] in {"live", "safe"}]
        # A tip in the air conducts nothing, and its record has nothing to tell.
        assert told[-1:] == (["safe"] if "load" in rig.capabilities else [])
    # Latched until somebody has looked.
    with pytest.raises(BenchFaultError, match="refuses 'run'"):
        rig.start("iv", **SWEEP)
    assert rig.rearm()["state"] == "SAFE"
    again = rig.run("iv", **SWEEP)
    assert again.status == "completed", again.reason
    assert again.uid != uid
    assert trusted(again.samples)


@pytest.mark.rig(needs="stage")
def test_the_tip_lands_where_it_is_and_is_lifted_again(rig: RigHandle) -> None:
    # Before the output comes on, the controller looks where the stage is.
    assert rig.run("iv", **SWEEP).status == "completed"
    stage, names = rig.status()["stage"], rig.config.stage
    here = [stage["position_m"][name] for name in (names.x, names.y)]
    run = rig.run("trigger-map", points=[[*here, "gb"]], to_v=-0.05, rate_v_s=0.5, zero=False)
    assert run.status == "completed", run.reason
    (point,) = [document for document in run.documents if document["kind"] == "point"]
    assert point["landed_ns"] < point["began_ns"]
    after = rig.status()["stage"]
    assert after["lifted"]
    assert not after["moving"]
    if rig.truth is not None:
        assert [e["event"] for e in rig.truth if e["event"] in {"landing", "lift"}][-2:] == ["landing", "lift"]


@pytest.mark.rig(needs="frontend")
def test_the_front_end_is_closed_before_there_is_a_bias_and_opened_after_it_has_gone(rig: RigHandle) -> None:
    run = rig.run("iv", **SWEEP)
    assert run.status == "completed", run.reason

    def opened() -> bool:
        # Behind the verified cut, which ends the run, by a turn of the control task.
        frontend = rig.status()["frontend"]
        return (frontend["state"], frontend["closed"], frontend["trip"]) == ("SAFE", False, None)

    wait_for("the front end to open", opened, 1.0)
    if rig.truth is not None:
        told = [entry["event"] for entry in rig.truth]
        assert [one for one in told if one != "summary"] == ["switch_closed", "live", "safe", "switch_open"]
