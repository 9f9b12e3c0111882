"""What is sent to a 2400: whatever prefix of it arrives, no number in it is larger than the one that was meant."""

from __future__ import annotations

import math
import re
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from edge.guard.phases import phase_spec, prot_a
from edge.samples import Phase
from firmware_proto.errors import LocalProtocolError
from firmware_proto.keithley2400 import commands
from firmware_proto.keithley2400.status import OutputOff
from hil.devices.keithley2400.desk import Desk

LEVELS = st.floats(-210, 210)
LIMITS = st.floats(1e-9, 1.05)
# A command with its parameter text, however short; queries have none.
COMMAND = re.compile(rb"([*:A-Z]+[A-Z]) ([^;\n]*)")


def numbers(message: bytes) -> dict[bytes, float]:
    """Return the number behind each header of a message; what is no number counts as absent: it is refused."""
    found = {}
    for header, text in COMMAND.findall(message):
        try:
            found[header] = float(text)
        except ValueError:
            continue
    return found


def assert_prefixes_are_smaller(message: bytes) -> None:
    whole = numbers(message)
    assert whole, message
    for stop in range(len(message)):
        for header, value in numbers(message[:stop]).items():
            assert abs(value) <= abs(whole[header]), message[:stop]
            assert value * whole[header] >= 0, message[:stop]


def assert_fixed_point(message: bytes) -> None:
    for _, text in COMMAND.findall(message):
        assert re.fullmatch(rb"-?[0-9]+(\.[0-9]+)?|[A-Z,']+", text), message


def a_set_up(
    *, range_a: float = 1e-3, protection_a: float = 1e-3, nplc: float = 0.01, source_delay_s: float = 0.0005
) -> tuple[bytes, ...]:
    return commands.configure(
        source_range_v=20.0,
        sense_range_a=range_a,
        protection_a=protection_a,
        nplc=nplc,
        autozero=False,
        output_off=OutputOff.NORMAL,
        source_delay_s=source_delay_s,
    )


# ---------------------------------------------------------------------------------------------------- numbers


@given(LEVELS)
@example(-10.0)
@example(-0.00005)
@example(1e-5)
@example(-0.0)
@example(5e-324)
@example(9.99995)
def test_no_prefix_of_a_level_is_larger_or_of_the_other_sign(bias_v: float) -> None:
    for message in (commands.level_and_read(bias_v), commands.set_level(bias_v)):
        assert_fixed_point(message)
        assert_prefixes_are_smaller(message)


@given(LEVELS)
@example(0.1)
@example(-0.3)
@example(0.00019999999)
def test_a_level_is_rounded_towards_zero_and_by_less_than_a_step(bias_v: float) -> None:
    sent = Fraction(commands.level(bias_v))
    # The shortest decimal that names the float is what was meant: 0.3 is sent as 0.3, not as 0.2999.
    meant = Fraction(repr(bias_v))
    assert abs(sent) <= abs(meant)
    assert abs(meant - sent) < Fraction("0.0001")
    assert sent * meant >= 0


@given(st.integers(-100_000, 100_000))
def test_a_level_on_the_grid_is_sent_as_it_is(steps: int) -> None:
    assert float(commands.level(steps / 10_000)) == steps / 10_000


def test_zero_has_no_sign() -> None:
    assert commands.level(-0.0) == commands.level(-1e-9) == "0.0000"


@pytest.mark.parametrize("bias_v", [10, np.float64(10.0), np.float32(10.0), np.int64(10)])
def test_whole_numbers_and_numpy_scalars_are_levels(bias_v: float) -> None:
    assert commands.level(bias_v) == "10.0000"


@pytest.mark.parametrize("bias_v", [math.nan, math.inf, -math.inf, 210.1, -210.0001, 1e300])
def test_what_is_no_level_is_refused(bias_v: float) -> None:
    for make in (commands.level, commands.level_and_read, commands.set_level):
        with pytest.raises(LocalProtocolError, match="source level"):
            make(bias_v)


@given(LIMITS, LIMITS, st.floats(0.01, 10), st.floats(0, 1))
@example(1e-6, 1e-6, 0.01, 0.0005)
@example(1e-3, 5e-05, 1.0, 1e-05)
@example(1.0, 1.05, 10.0, 1.0)
def test_no_prefix_of_a_set_up_is_larger(range_a: float, protection_a: float, nplc: float, delay_s: float) -> None:
    for message in a_set_up(range_a=range_a, protection_a=protection_a, nplc=nplc, source_delay_s=delay_s):
        assert message.endswith(commands.TERMINATOR)
        assert message.count(b"\n") == 1
        assert_fixed_point(message)
        if numbers(message):
            assert_prefixes_are_smaller(message)


@given(LIMITS)
def test_a_limit_is_never_sent_larger_than_asked(protection_a: float) -> None:
    sent = [
        numbers(message)[b":SENS:CURR:PROT"] for message in a_set_up(protection_a=protection_a) if b"PROT" in message
    ]
    assert sent[-1] <= protection_a
    assert protection_a - sent[-1] < 1.001e-9


@pytest.mark.parametrize("value", [0.0, 9e-10, -1e-3, math.nan, math.inf, 1.051])
def test_what_is_no_limit_is_refused(value: float) -> None:
    with pytest.raises(LocalProtocolError, match="current protection"):
        a_set_up(protection_a=value)
    with pytest.raises(LocalProtocolError, match="measure range"):
        a_set_up(range_a=value)


@pytest.mark.parametrize("nplc", [0.0, 0.009, 10.1, -1.0, math.nan])
def test_what_is_no_integration_time_is_refused(nplc: float) -> None:
    with pytest.raises(LocalProtocolError, match="nplc"):
        a_set_up(nplc=nplc)


@pytest.mark.parametrize("delay_s", [-0.1, 1.1, math.nan])
def test_what_is_no_delay_is_refused(delay_s: float) -> None:
    with pytest.raises(LocalProtocolError, match="source delay"):
        a_set_up(source_delay_s=delay_s)


# ------------------------------------------------------------------------------------- what an energised line may hold


CHECKS = (commands.LIMIT_QUERY, commands.RANGE_QUERY, commands.OFF_MODE_QUERY)


@given(st.floats(-10, 10))
@example(-10.0)
def test_a_ramp_point_is_short_enough_for_an_energised_line(bias_v: float) -> None:
    assert len(commands.level_and_read(bias_v)) <= commands.MAX_ENERGISED_BYTES == 36


@pytest.mark.parametrize("message", [commands.READ, *CHECKS, commands.OUTPUT_ON])
def test_every_other_energised_message_is_short_enough_too(message: bytes) -> None:
    assert message.endswith(b"\n")
    assert len(message) <= commands.MAX_ENERGISED_BYTES


def test_a_ramp_point_is_two_lines() -> None:
    assert commands.level_and_read(-10.0) == b":SOUR:VOLT -10.0000\n:READ?\n"


def test_each_line_of_a_cut_stands_alone() -> None:
    assert commands.ZERO == b":SOUR:VOLT 0\n"
    assert commands.OUTPUT_OFF == b":OUTP OFF\n"


@given(st.integers(1, 255))
def test_a_tag_goes_out_and_comes_back(tag: int) -> None:
    message = commands.tagged_query(tag)
    assert len(message) <= commands.MAX_ENERGISED_BYTES
    reply = Desk().ask(message.decode().rstrip())
    assert reply == f"+0.000000E+00;{tag};0"


@pytest.mark.parametrize("tag", [0, -1, 256, 1000])
def test_a_tag_that_the_register_cannot_hold_is_refused(tag: int) -> None:
    with pytest.raises(LocalProtocolError, match="tag"):
        commands.tagged_query(tag)


def test_nothing_here_switches_on_or_acquires_more_than_it_says() -> None:
    every = [*a_set_up(), *commands.READBACKS, commands.READ, *CHECKS, commands.IDENTIFY, commands.ERROR_QUERY]
    every.append(commands.RELEASE_PANEL)
    for message in every:
        assert not re.search(rb"MEAS|CONF|INIT|OUTP ON|AUTO ON|SWE|LIST", message), message


# ----------------------------------------------------------------------------------------------- on the instrument

PHASES = [
    pytest.param(phase, v_max_v, limit_a, id=f"{phase.name}-{v_max_v:g}V-{limit_a:g}A")
    for phase, v_max_v in (
        (Phase.SEEK, 1.0),
        (Phase.SEEK, 10.0),
        (Phase.RESET, 1.0),
        (Phase.LRS_READ, 0.02),
        (Phase.HRS_READ, 0.1),
        (Phase.CUT, 1.0),
        (Phase.CUT, 10.0),
    )
    for limit_a in (1e-3, 1e-4, 5e-5, 2e-6)
]


@pytest.mark.parametrize("output_off", list(OutputOff))
@pytest.mark.parametrize(("phase", "v_max_v", "limit_a"), PHASES)
def test_the_instrument_takes_the_set_up_of_every_phase(
    phase: Phase, v_max_v: float, limit_a: float, output_off: OutputOff
) -> None:
    spec = phase_spec(phase, v_max_v)
    protection_a = prot_a(spec, limit_a)
    desk = Desk()
    # From a state that is as wrong as can be.
    desk.tell(
        ":SOUR:FUNC CURR", ":SOUR:FUNC VOLT", ":SENS:CURR:PROT 1", ":SENS:CURR:RANG 1", ":OUTP ON", ":SOUR:VOLT 5"
    )
    for message in commands.configure(
        source_range_v=20.0 if v_max_v > 2 else 2.0,
        sense_range_a=spec.range_a,
        protection_a=protection_a,
        nplc=spec.nplc,
        autozero=spec.autozero,
        output_off=output_off,
        rear_terminals=True,
    ):
        desk.write(message)
        desk.settle()
        assert desk.unit.error_queue == (), message
    settings = desk.unit.settings
    assert not desk.unit.output_on
    assert settings.curr_sense.range == spec.range_a
    assert not settings.curr_sense.auto_range
    assert math.isclose(settings.curr_sense.protection, protection_a, rel_tol=1e-6)
    assert (settings.nplc, settings.autozero) == (spec.nplc, spec.autozero)
    assert settings.volt_source.level == 0.0
    assert settings.volt_source.range == (20.0 if v_max_v > 2 else 2.0)
    assert not settings.volt_source.auto_range
    assert settings.output_off is output_off
    assert settings.elements == {"VOLT", "CURR", "STAT"}
    assert not settings.average
    assert (settings.arm_count, settings.trigger_count) == (1, 1)
    assert not settings.front_terminals
    replies = [desk.ask(query.decode().rstrip()) for query in commands.READBACKS]
    assert None not in replies
    assert desk.unit.error_queue == ()


def test_the_instrument_never_has_the_output_on_during_a_set_up() -> None:
    desk = Desk()
    for message in a_set_up():
        desk.write(message)
        desk.settle()
        assert not desk.unit.output_on
    assert all(source.v_set == 0.0 for source in desk.load.sources)


def test_the_range_as_sent_first_would_be_refused() -> None:
    # What the order in the set-up is for: after *RST the compliance is 105 uA (manual 18-62, note 3).
    desk = Desk()
    desk.tell("*RST", ":SENS:CURR:RANG 0.001")
    assert desk.unit.error_queue == (824,)


def test_a_level_that_lost_its_point_is_beyond_every_range() -> None:
    # Down to 22 mV; below, the 20 V range takes it, and the reading that comes says another level.
    for millivolts in range(22, 10_001):
        sent = commands.level(-millivolts / 1000)
        assert abs(float(sent.replace(".", ""))) > 210.0, sent
