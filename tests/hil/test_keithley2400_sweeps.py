"""Sweeps and lists of the emulated 2400: the levels, their times at the terminals, abort on compliance."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmware_proto.keithley2400.status import StatusWord
from hil.devices.keithley2400 import Timing
from hil.devices.keithley2400.desk import Desk
from hil.devices.keithley2400.errors import RefusedError
from hil.devices.keithley2400.sweep import Shape, Sweep, staircase

US = 1_000
MS = 1_000_000
FAST = (":SENS:CURR:NPLC 0.01", ":SYST:AZER OFF", ":SOUR:DEL 0")


def sweeping(desk: Desk, *messages: str, count: int) -> Desk:
    """Set a current measurement on a fixed range up, send ``messages``, switch the output on."""
    desk.tell(*FAST, ":SENS:CURR:PROT 1E-3", ":SENS:CURR:RANG 1E-3", ":FORM:ELEM VOLT,CURR")
    desk.tell(*messages, f":TRIG:COUN {count}", ":OUTP ON")
    assert desk.unit.error_queue == ()
    return desk


def levels(desk: Desk) -> list[float]:
    """Return what the load has seen of the source since the output went on, changes only."""
    seen = [source.v_set for source in desk.load.sources]
    return [level for index, level in enumerate(seen) if index == 0 or level != seen[index - 1]]


def volts(desk: Desk) -> list[float]:
    return desk.read()[::2]


def refusal(desk: Desk, message: str) -> int:
    desk.tell("*CLS", message)
    (code,) = desk.unit.error_queue
    return code


LINEAR = (":SOUR:VOLT:MODE SWE", ":SOUR:VOLT:STAR 1", ":SOUR:VOLT:STOP 2", ":SOUR:VOLT:STEP 0.25")


def test_a_linear_sweep_steps_from_start_to_stop() -> None:
    desk = sweeping(Desk(1e4), *LINEAR, count=5)
    reply = desk.read()
    assert reply[::2] == [1.0, 1.25, 1.5, 1.75, 2.0]
    assert reply[1::2] == pytest.approx([1e-4, 1.25e-4, 1.5e-4, 1.75e-4, 2e-4])


@pytest.mark.parametrize(
    ("messages", "expected"),
    [
        ((":SOUR:VOLT:STAR -1", ":SOUR:VOLT:STOP 1", ":SOUR:SWE:POIN 5"), [-1.0, -0.5, 0.0, 0.5, 1.0]),
        ((":SOUR:VOLT:CENT 2", ":SOUR:VOLT:SPAN 2", ":SOUR:SWE:POIN 3"), [1.0, 2.0, 3.0]),
        ((":SOUR:VOLT:STAR 3", ":SOUR:VOLT:STOP 1", ":SOUR:VOLT:STEP -1"), [3.0, 2.0, 1.0]),
        ((":SOUR:VOLT:STAR 1", ":SOUR:VOLT:STOP 3", ":SOUR:VOLT:STEP 1", ":SOUR:SWE:DIR DOWN"), [3.0, 2.0, 1.0]),
        ((":SOUR:VOLT:STAR 0.1", ":SOUR:VOLT:STOP 10", ":SOUR:SWE:SPAC LOG", ":SOUR:SWE:POIN 3"), [0.1, 1.0, 10.0]),
        ((":SOUR:VOLT:STAR 0", ":SOUR:VOLT:STOP 1", ":SOUR:VOLT:STEP 0.4"), [0.0, 0.4, 0.8]),
    ],
)
def test_ways_to_describe_a_sweep(messages: tuple[str, ...], expected: list[float]) -> None:
    desk = sweeping(Desk(1e6), ":SOUR:VOLT:MODE SWE", *messages, count=len(expected))
    assert volts(desk) == pytest.approx(expected)


def test_points_and_step_are_one_setting() -> None:
    desk = Desk()
    desk.tell(":SOUR:VOLT:STAR 0;STOP 10;STEP 2.5")
    assert desk.ask(":SOUR:SWE:POIN?;:SOUR:VOLT:STEP?") == "5;+2.500000E+00"
    assert desk.ask(":SOUR:SWE:POIN 11;:SOUR:VOLT:STEP?") == "+1.000000E+00"
    assert desk.ask(":SOUR:VOLT:CENT?;SPAN?") == "+5.000000E+00;+1.000000E+01"
    assert desk.ask(":SOUR:VOLT:SPAN 4;STAR?;STOP?") == "+3.000000E+00;+7.000000E+00"
    assert desk.ask(":SOUR:SWE:POIN? MAX;POIN? MIN;:SOUR:CURR:STEP? MAX") == "2500;2;+2.100000E+00"


@pytest.mark.parametrize(
    ("message", "code"),
    [
        (":SOUR:VOLT:STEP -0.1", -221),
        (":SOUR:VOLT:STEP 1.5", -221),
        (":SOUR:VOLT:STEP 0.0001", -221),
        (":SOUR:VOLT:STAR 211", -222),
        (":SOUR:CURR:STOP 1.06", -222),
        (":SOUR:SWE:POIN 1", -222),
        (":SOUR:SWE:POIN 2501", -222),
        (":SOUR:SWE:SPAC CUBic", -141),
        (":SOUR:LIST:VOLT 1,211", -222),
        (":SOUR:LIST:VOLT:STAR 2", -222),
        (":SOUR:LIST:VOLT", -109),
        (":SOUR:LIST:VOLT " + ",".join(["1"] * 101), -223),
    ],
)
def test_what_cannot_be_swept_is_refused(message: str, code: int) -> None:
    desk = Desk()
    desk.tell(":SOUR:VOLT:STAR 0", ":SOUR:VOLT:STOP 1")
    assert refusal(desk, message) == code


@pytest.mark.parametrize("message", [":SOUR:VOLT:CENT 200;SPAN 40", ":SOUR:VOLT:SPAN 100;CENT 170"])
def test_centre_and_span_stay_within_the_instrument(message: str) -> None:
    desk = Desk()
    desk.tell(message)
    assert desk.unit.error_queue == (-222,)
    assert abs(float(desk.ask(":SOUR:VOLT:STOP?") or 0)) <= 210


def test_a_sweep_whose_step_was_left_behind_does_not_start() -> None:
    desk = sweeping(Desk(1e4), *LINEAR, ":SOUR:VOLT:STOP -200", count=5)
    assert desk.ask(":READ?") is None
    assert desk.unit.error_queue == (-221,)
    desk.tell("*CLS", ":SOUR:VOLT:STOP 1.1")
    assert desk.ask(":READ?") is None
    assert desk.unit.error_queue == (-221,)


def test_a_sweep_keeps_the_operating_boundaries() -> None:
    desk = Desk(1e6)
    desk.tell(":SENS:CURR:PROT 1", ":SOUR:VOLT:MODE LIST", ":SOUR:LIST:VOLT 1,100", ":TRIG:COUN 2", ":OUTP ON")
    before = desk.ask(":SOUR:VOLT:RANG?")
    assert desk.ask(":READ?") is None
    assert desk.unit.error_queue == (826,)
    assert desk.ask(":SOUR:VOLT:RANG?") == before


_LEVEL = st.floats(-210, 210)


@given(start=_LEVEL, stop=_LEVEL, step=st.floats(-420, 420), points=st.integers(2, 2500), flags=st.integers(0, 3))
def test_no_sweep_leaves_start_and_stop(start: float, stop: float, step: float, points: int, flags: int) -> None:
    sweep = Sweep(points=points, logarithmic=bool(flags & 1), down=bool(flags & 2))
    shape = Shape(start, stop)
    try:
        if flags & 1 == 0:
            shape.set_step(step)
        levels = staircase(shape, sweep)
    except RefusedError:
        return
    low, high = min(start, stop), max(start, stop)
    slack = 1e-9 * max(abs(low), abs(high))
    assert 2 <= len(levels) <= 2500
    assert all(low <= level <= high for level in levels)
    first = levels[-1] if flags & 2 else levels[0]
    assert first == start
    rising = (start <= stop) is not bool(flags & 2)
    steps = [later - earlier for earlier, later in itertools.pairwise(levels)]
    assert all((step if rising else -step) >= -slack for step in steps)


@given(start=_LEVEL, stop=_LEVEL, step=st.floats(-420, 420))
def test_no_sweep_leaves_start_and_stop_when_they_were_set_last(start: float, stop: float, step: float) -> None:
    shape = Shape()
    shape.set_step(step)
    shape.start, shape.stop = start, stop
    try:
        levels = staircase(shape, Sweep(points=5))
    except RefusedError:
        return
    assert 2 <= len(levels) <= 2500
    assert min(start, stop) <= min(levels) <= max(levels) <= max(start, stop)


def test_a_logarithmic_sweep_through_zero_does_not_start() -> None:
    desk = sweeping(Desk(1e4), ":SOUR:VOLT:MODE SWE;STAR -1;STOP 1;:SOUR:SWE:SPAC LOG;POIN 5", count=5)
    assert desk.ask(":READ?") is None
    assert desk.unit.error_queue == (-221,)
    with pytest.raises(RefusedError):
        staircase(Shape(0.0, 1.0), Sweep(points=3, logarithmic=True))


def test_each_level_reaches_the_load_at_its_time() -> None:
    desk = sweeping(Desk(1e4), *LINEAR, ":SOUR:DEL 0.002", ":TRIG:DEL 0.003", count=3)
    start_ns, before = desk.t_ns, len(desk.load.sources)
    desk.read()
    times = [source.t_ns - start_ns for source in desk.load.sources[before:]]
    # Query 1 ms, then per point: latency 0.1 ms and trigger delay 3 ms before the level; source delay 2 ms, aperture
    # 0.2 ms and the converter's 0.2 ms behind it.
    assert times == [4_100 * US + index * 5_500 * US for index in range(3)]


def test_the_level_is_there_before_its_reading() -> None:
    desk = sweeping(Desk(1e4, timing=Timing.zero()), *LINEAR, count=5)
    start_ns = desk.t_ns
    assert desk.read()[1::2] == pytest.approx([1e-4, 1.25e-4, 1.5e-4, 1.75e-4, 2e-4])
    assert desk.t_ns - start_ns == 5 * 200 * US


def test_automatic_source_delay_counts_at_every_point() -> None:
    durations = []
    for auto in ("ON", "OFF"):
        desk = sweeping(Desk(1e4), *LINEAR, f":SOUR:DEL:AUTO {auto}", count=5)
        start_ns = desk.t_ns
        desk.read()
        durations.append(desk.t_ns - start_ns)
    assert durations[0] - durations[1] == 5 * MS


def test_the_output_stays_at_the_last_level_while_the_programmed_one_is_told() -> None:
    desk = sweeping(Desk(1e4), ":SOUR:VOLT 0.5", *LINEAR, count=5)
    assert desk.load.sources[-1].v_set == 0.5
    desk.read()
    assert desk.unit.output_on
    assert desk.load.sources[-1].v_set == 2.0
    assert desk.ask(":SOUR:VOLT?") == "+5.000000E-01"
    desk.tell(":SOUR:VOLT:MODE FIX")
    assert desk.load.sources[-1].v_set == 0.5


def test_output_off_and_on_begins_at_the_programmed_level() -> None:
    desk = sweeping(Desk(1e4), ":SOUR:VOLT 0.5", *LINEAR, count=5)
    desk.read()
    desk.tell(":OUTP OFF", ":OUTP ON")
    assert desk.load.sources[-1].v_set == 0.5


def test_a_level_command_ends_what_a_sweep_left() -> None:
    desk = sweeping(Desk(1e4), *LINEAR, count=5)
    desk.read()
    desk.tell(":SOUR:VOLT 0")
    assert desk.load.sources[-1].v_set == 0.0


def test_more_triggers_than_points_go_round() -> None:
    desk = sweeping(Desk(1e4), *LINEAR, count=7)
    assert volts(desk) == [1.0, 1.25, 1.5, 1.75, 2.0, 1.0, 1.25]


def test_the_arm_count_repeats_a_sweep() -> None:
    desk = sweeping(Desk(1e4), ":SOUR:VOLT:MODE SWE;STAR 1;STOP 2;:SOUR:SWE:POIN 2;:ARM:COUN 2", count=2)
    assert volts(desk) == [1.0, 2.0, 1.0, 2.0]


def test_a_sweep_cut_off_in_the_middle_leaves_its_level_and_the_output_on() -> None:
    desk = sweeping(Desk(1e4), *LINEAR, ":SOUR:DEL 0.01", count=5)
    desk.write(":INIT")
    desk.wait(25 * MS)
    desk.write(b"\x03")
    desk.settle()
    assert desk.unit.output_on
    assert desk.load.sources[-1].v_set == 1.5


def test_output_off_behind_a_sweep_waits_for_its_end() -> None:
    desk = sweeping(Desk(1e4), *LINEAR, count=5)
    desk.write(":INIT")
    desk.write(":OUTP OFF")
    desk.settle()
    assert levels(desk)[-2:] == [2.0, 0.0]
    assert not desk.unit.output_on


def test_a_current_sweep() -> None:
    desk = Desk(1e4)
    desk.tell(":SOUR:FUNC CURR", ":SENS:FUNC:CONC OFF", ":SENS:FUNC 'VOLT'", ":SENS:VOLT:RANG 20", *FAST)
    desk.tell(":SOUR:CURR:MODE SWE;STAR 1E-5;STOP 3E-5;STEP 1E-5", ":TRIG:COUN 3", ":FORM:ELEM VOLT,CURR", ":OUTP ON")
    reply = desk.read()
    assert reply[::2] == pytest.approx([0.1, 0.2, 0.3])
    assert reply[1::2] == pytest.approx([1e-5, 2e-5, 3e-5])


# Lists


def test_a_list_is_sourced_in_its_order() -> None:
    desk = sweeping(Desk(1e6), ":SOUR:VOLT:MODE LIST", ":SOUR:LIST:VOLT 7,1,3,8,2", count=5)
    assert volts(desk) == [7.0, 1.0, 3.0, 8.0, 2.0]


def test_a_list_grows_to_2500() -> None:
    desk = Desk()
    chunk = ",".join(["0.5"] * 100)
    desk.tell(f":SOUR:LIST:VOLT {chunk}", *[f":SOUR:LIST:VOLT:APP {chunk}"] * 24)
    assert desk.ask(":SOUR:LIST:VOLT:POIN?") == "2500"
    assert refusal(desk, ":SOUR:LIST:VOLT:APP 1") == -223
    assert desk.ask(":SOUR:LIST:VOLT 1,-.5,1e-3;VOLT?") == "+1.000000E+00,-5.000000E-01,+1.000000E-03"


def test_a_list_begins_at_its_start_point_and_goes_round() -> None:
    desk = sweeping(Desk(1e6), ":SOUR:VOLT:MODE LIST", ":SOUR:LIST:VOLT 1,2,3", ":SOUR:LIST:VOLT:STAR 2", count=3)
    assert volts(desk) == [2.0, 3.0, 1.0]
    desk.tell(":SOUR:SWE:DIR DOWN")
    assert volts(desk) == [3.0, 2.0, 1.0]


# Ranging


def test_one_range_holds_all_points_by_default() -> None:
    desk = sweeping(Desk(1e6), ":SOUR:VOLT:MODE LIST", ":SOUR:LIST:VOLT 1,30", count=2)
    volts(desk)
    assert desk.ask(":SOUR:VOLT:RANG?") == "+2.100000E+02"


def test_automatic_ranging_takes_the_best_range_of_each_point() -> None:
    desk = sweeping(Desk(1e6), ":SOUR:VOLT:MODE LIST;:SOUR:LIST:VOLT 30,1;:SOUR:SWE:RANG AUTO", count=1)
    volts(desk)
    assert desk.ask(":SOUR:VOLT:RANG?") == "+2.100000E+02"
    desk.tell(":TRIG:COUN 2", ":READ?")
    assert desk.ask(":SOUR:VOLT:RANG?") == "+2.100000E+00"


def test_fixed_ranging_clips_at_105_percent() -> None:
    desk = sweeping(
        Desk(1e6), ":SOUR:VOLT:RANG 2", ":SOUR:SWE:RANG FIX", ":SOUR:VOLT:MODE LIST;:SOUR:LIST:VOLT 1,2,3,-5", count=4
    )
    assert volts(desk) == pytest.approx([1.0, 2.0, 2.1, -2.1])


# Abort on compliance


def aborting(mode: str) -> Desk:
    """A sweep 1..5 V into 1 kohm behind 3.5 mA: compliance from the fourth point on."""
    desk = Desk(1e3)
    desk.tell(*FAST, ":SENS:CURR:PROT 3.5E-3", ":SENS:CURR:RANG 1E-2", ":FORM:ELEM VOLT,CURR,STAT")
    desk.tell(":SOUR:VOLT:MODE SWE;STAR 1;STOP 5;STEP 1", ":TRIG:COUN 5", f":SOUR:SWE:CAB {mode}", ":OUTP ON")
    return desk


def test_without_abort_the_sweep_goes_through() -> None:
    reply = aborting("NEV").read()
    assert reply[::3] == [1.0, 2.0, 3.0, 4.0, 5.0]
    assert reply[1::3] == pytest.approx([1e-3, 2e-3, 3e-3, 3.5e-3, 3.5e-3])


def test_a_late_abort_keeps_the_reading_in_compliance() -> None:
    desk = aborting("LATE")
    reply = desk.read()
    assert reply[::3] == [1.0, 2.0, 3.0, 4.0]
    assert int(reply[-1]) & StatusWord.COMPLIANCE
    assert desk.load.sources[-1].v_set == 4.0
    assert desk.unit.output_on


def test_an_early_abort_has_no_reading_of_its_level() -> None:
    desk = aborting("EARL")
    reply = desk.read()
    assert reply[::3] == [1.0, 2.0, 3.0]
    assert desk.load.sources[-1].v_set == 4.0
    assert desk.unit.output_on
    assert not desk.unit.busy


def test_an_abort_at_the_first_point_gives_no_reply() -> None:
    desk = aborting("EARLy")
    desk.load.change(desk.t_ns, 1.0)
    assert desk.ask(":READ?") is None
    assert desk.unit.error_queue == (-230,)
    assert desk.ask(":OUTP?") == "1"


# Triggered level


def test_a_triggered_level_waits_for_the_next_reading() -> None:
    desk = sweeping(Desk(1e4), ":SOUR:VOLT 1", count=1)
    desk.tell(":SOUR:VOLT:TRIG 2")
    assert desk.load.sources[-1].v_set == 1.0
    assert desk.ask(":SOUR:VOLT?;:SOUR:VOLT:TRIG?") == "+1.000000E+00;+2.000000E+00"
    assert desk.read() == pytest.approx([2.0, 2e-4])
    assert desk.ask(":SOUR:VOLT?") == "+2.000000E+00"


# Power


@pytest.mark.parametrize(
    ("allowed", "refused"),
    [
        (":SENS:CURR:PROT 0.105", ":SENS:CURR:PROT 0.106"),
        (":SOUR:VOLT:RANG 20;:SENS:CURR:PROT 1", ":SOUR:VOLT:RANG 200"),
        (":SOUR:VOLT:RANG:AUTO ON;:SOUR:VOLT 21;:SENS:CURR:PROT 1", ":SOUR:VOLT 22"),
        (":SENS:VOLT:PROT 100;:SOUR:CURR 0.5", ":SOUR:FUNC CURR"),
    ],
)
def test_the_operating_boundaries_are_kept(allowed: str, refused: str) -> None:
    desk = Desk()
    desk.tell(":SOUR:VOLT:RANG 200", *allowed.split(";"))
    assert desk.unit.error_queue == ()
    before = desk.ask(":SENS:CURR:PROT?;:SOUR:VOLT:RANG?;:SOUR:VOLT?;:SOUR:FUNC?")
    assert refusal(desk, refused) == 826
    assert desk.ask(":SENS:CURR:PROT?;:SOUR:VOLT:RANG?;:SOUR:VOLT?;:SOUR:FUNC?") == before
