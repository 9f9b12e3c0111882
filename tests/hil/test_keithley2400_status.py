"""Identity, error queue, event registers and status byte of the emulated 2400."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hil.devices.keithley2400 import errors
from hil.devices.keithley2400.desk import Desk
from hil.devices.keithley2400.status import MeasurementEvent, Register, StandardEvent, Status, standard_bit


def test_identity_as_a_real_unit_sends_it() -> None:
    assert Desk().ask("*IDN?") == "KEITHLEY INSTRUMENTS INC.,MODEL 2400,1304207,C31   May 28 2010 10:34:39/A02  /R/J"


@pytest.mark.parametrize(
    ("query", "reply"),
    [("*OPT?", "0"), ("*TST?", "0"), ("*OPC?", "1"), (":SYST:VERS?", "1996.0"), (":SYST:ERR?", '0,"No error"')],
)
def test_fixed_replies(query: str, reply: str) -> None:
    assert Desk().ask(query) == reply


def test_errors_come_out_oldest_first_with_their_texts() -> None:
    desk = Desk()
    desk.tell("NONSENSE", ":OUTP", ":SOUR:VOLT 1000", ":READ?")
    assert [desk.ask(":SYST:ERR?") for _ in range(5)] == [
        '-113,"Undefined header"',
        '-109,"Missing parameter"',
        '-222,"Parameter data out of range"',
        '+803,"Not permitted with OUTPUT off"',
        '0,"No error"',
    ]


def test_the_queue_has_two_names() -> None:
    desk = Desk()
    desk.tell("NONSENSE", "NONSENSE")
    assert desk.ask(":STAT:QUE?") == desk.ask(":STAT:QUE:NEXT?") == '-113,"Undefined header"'


def test_the_queue_holds_ten_and_the_last_becomes_the_overflow() -> None:
    desk = Desk()
    for _ in range(10):
        desk.tell("NONSENSE")
    assert desk.unit.error_queue == (-113,) * 10
    desk.tell("NONSENSE")
    desk.tell(":OUTP")
    assert desk.unit.error_queue == (*((-113,) * 9), -350)
    for _ in range(9):
        desk.ask(":SYST:ERR?")
    assert desk.ask(":SYST:ERR?") == '-350,"Queue overflow"'
    assert desk.ask(":SYST:ERR?") == '0,"No error"'


@pytest.mark.parametrize("clear", ["*CLS", ":SYST:CLE", ":STAT:QUE:CLE"])
def test_ways_to_empty_the_queue(clear: str) -> None:
    desk = Desk()
    desk.tell("NONSENSE", clear)
    assert desk.unit.error_queue == ()


def test_a_reset_does_not_empty_the_queue_nor_the_enables() -> None:
    desk = Desk()
    desk.tell("*ESE 60", "*SRE 4", "NONSENSE", "*RST")
    assert desk.unit.error_queue == (-113,)
    assert desk.ask("*ESE?;*SRE?") == "60;4"


@pytest.mark.parametrize(
    ("code", "bit"),
    [
        (-113, StandardEvent.COMMAND),
        (-222, StandardEvent.EXECUTION),
        (-363, StandardEvent.DEVICE),
        (-420, StandardEvent.QUERY),
        (803, StandardEvent.EXECUTION),
        (701, StandardEvent.DEVICE),
    ],
)
def test_error_classes(code: int, bit: StandardEvent) -> None:
    assert standard_bit(code) is bit


def test_standard_events_latch_until_read() -> None:
    desk = Desk()
    assert desk.ask("*ESR?") == str(1 << 7)
    assert desk.ask("*ESR?") == "0"
    desk.tell("NONSENSE", ":SOUR:VOLT 1000", "*OPC")
    assert desk.ask("*ESR?") == str(1 << 5 | 1 << 4 | 1 << 0)
    assert desk.ask("*ESR?") == "0"


def test_status_messages_set_no_standard_event() -> None:
    status = Status(standard_event=0, enabled=((-999, 999),))
    status.push(114)
    assert status.standard_event == 0
    assert status.pop() == '+114,"Source in compliance"'


def test_an_unknown_number_still_has_a_text() -> None:
    status = Status()
    status.push(-999)
    assert status.pop() == '-999,"Device specific error"'


def test_clear_keeps_enables() -> None:
    desk = Desk()
    desk.tell("*ESE 32", ":STAT:MEAS:ENAB 64", "NONSENSE", "*CLS")
    assert desk.ask("*ESE?;*ESR?;:STAT:MEAS:ENAB?") == "32;0;64"


@pytest.mark.parametrize(
    ("message", "code"), [("*ESE 256", -222), ("*ESE -1", -222), ("*ESE", -109), ("*ESE 1,2", -108), ("*ESE X", -141)]
)
def test_enables_refuse_what_does_not_fit(message: str, code: int) -> None:
    desk = Desk()
    desk.tell(message)
    assert desk.unit.error_queue == (code,)
    assert desk.ask("*ESE?") == "0"


def test_status_byte_summarises() -> None:
    desk = Desk()
    desk.tell("*CLS")
    assert desk.ask("*STB?") == "0"
    desk.tell("NONSENSE")
    assert desk.ask("*STB?") == "4"
    desk.tell("*ESE 32")
    assert desk.ask("*STB?") == "36"
    desk.tell("*SRE 32")
    assert desk.ask("*STB?") == "100"
    desk.tell(":SYST:ERR?", "*ESR?")
    assert desk.ask("*STB?") == "0"


def test_the_summary_bit_cannot_be_enabled() -> None:
    assert Desk().ask("*SRE 255;*SRE?") == "191"


def test_measurement_events_reach_the_status_byte() -> None:
    desk = Desk()
    desk.tell("*CLS", ":STAT:MEAS:ENAB 64", ":OUTP ON", ":READ?")
    assert desk.ask("*STB?") == "1"
    assert desk.ask(":STAT:MEAS?") == "64"
    assert desk.ask(":STAT:MEAS?") == "0"
    assert desk.ask("*STB?") == "0"


def test_compliance_is_a_condition_and_latches_as_an_event() -> None:
    desk = Desk(1e3)
    desk.tell(":SOUR:VOLT 1", ":OUTP ON", ":READ?")
    assert int(desk.ask(":STAT:MEAS:COND?") or 0) == MeasurementEvent.COMPLIANCE
    desk.tell(":SOUR:VOLT 0", ":READ?")
    assert desk.ask(":STAT:MEAS:COND?") == "0"
    assert int(desk.ask(":STAT:MEAS:EVEN?") or 0) & MeasurementEvent.COMPLIANCE


def test_preset_clears_the_enables_of_the_scpi_registers_only() -> None:
    desk = Desk()
    desk.tell("*ESE 5", ":STAT:OPER:ENAB 1024", ":STAT:QUES:ENAB 16384", ":STAT:PRES")
    assert desk.ask(":STAT:OPER:ENAB?;:STAT:QUES:ENAB?;*ESE?") == "0;0;5"


def test_other_registers_exist() -> None:
    assert Desk().ask(":STAT:OPER?;:STAT:OPER:COND?;:STAT:QUES?;:STAT:QUES:COND?") == "0;1024;0;0"


def test_entering_compliance_is_a_queue_entry_only_when_enabled() -> None:
    quiet, telling = Desk(1e3), Desk(1e3, queue_status_messages=True)
    for desk in (quiet, telling):
        desk.tell(":SOUR:VOLT 1", ":OUTP ON", ":READ?", ":READ?", ":SOUR:VOLT 0", ":READ?", ":SOUR:VOLT 1", ":READ?")
    assert quiet.unit.error_queue == ()
    assert telling.unit.error_queue == (114, 114)


@given(conditions=st.lists(st.integers(0, 0xFFFF), max_size=20))
def test_events_are_every_bit_that_ever_rose(conditions: list[int]) -> None:
    register = Register()
    risen, before = 0, 0
    for condition in conditions:
        register.update(condition)
        risen |= condition & ~before
        before = condition
    assert register.event == register.take_event() == risen
    assert register.event == 0


def test_a_condition_that_stays_does_not_latch_again() -> None:
    register = Register()
    register.update(5)
    assert register.take_event() == 5
    register.update(5)
    assert register.event == 0
    register.update(4)
    register.update(5)
    assert register.event == 1


@given(codes=st.lists(st.sampled_from(sorted(errors.TEXTS)), max_size=30))
def test_the_queue_never_holds_more_than_ten(codes: list[int]) -> None:
    status = Status(enabled=((-999, 999),))
    for code in codes:
        status.push(code)
    assert len(status.queued) == min(len(codes), 10)
    assert status.queued[:9] == tuple(codes[:9])
    if len(codes) > 10:
        assert status.queued[9] == -350
    else:
        assert status.queued == tuple(codes)


# Which messages enter the queue


def test_only_enabled_messages_enter_the_queue() -> None:
    desk = Desk()
    desk.tell(":STAT:QUE:ENAB (-110:-222, 500)", "*XYZ", ":OUTP", ":SOUR:VOLT 1000", ":READ?")
    # -113 and -222 are in the list; -109 and +803 are not.
    assert desk.unit.error_queue == (-113, -222)
    assert int(desk.ask("*ESR?") or 0) & (1 << 5 | 1 << 4) == 1 << 5 | 1 << 4, "the standard events come all the same"
    assert desk.ask(":STAT:QUE:ENAB?") == "(-222:-110,+500)"


def test_disabled_messages_stay_out() -> None:
    desk = Desk()
    desk.tell(":STAT:QUE:DIS (-113)", "*XYZ", ":OUTP")
    assert desk.unit.error_queue == (-109,)
    assert desk.ask(":STAT:QUE:ENAB?") == "(-999:-114,-112:-1,+500:+999)"
    assert desk.ask(":STAT:QUE:DIS?") == "(-113,+0:+499)"


def test_at_power_up_errors_are_enabled_and_status_messages_are_not() -> None:
    desk = Desk()
    assert desk.ask(":STAT:QUE:ENAB?") == "(-999:-1,+500:+999)"
    desk.tell(":STAT:QUE:ENAB ()", "*XYZ")
    assert list(desk.unit.error_queue) == []
    desk.unit.power_cycle(desk.t_ns)
    desk.tell("*XYZ")
    assert desk.unit.error_queue == (-113,)


@pytest.mark.parametrize(
    ("message", "code"),
    [
        (":STAT:QUE:ENAB -110", -104),
        (":STAT:QUE:ENAB (a)", -171),
        (":STAT:QUE:ENAB (1:2:3)", -171),
        (":STAT:QUE:ENAB (1000)", -222),
        (":STAT:QUE:ENAB", -109),
    ],
)
def test_lists_that_are_none(message: str, code: int) -> None:
    desk = Desk()
    desk.tell(message)
    assert desk.unit.error_queue == (code,)


def test_enabled_status_messages_are_queued_as_their_bits_rise() -> None:
    desk = Desk(1e3)
    desk.tell(":STAT:QUE:ENAB (100:199)", ":SOUR:VOLT 1", ":OUTP ON", ":READ?")
    assert desk.ask(":SYST:ERR:COUN?") == "2"
    assert [desk.ask(":SYST:ERR?") for _ in range(2)] == ['+114,"Source in compliance"', '+106,"Reading available"']
    desk.unit.output_enable_line(desk.t_ns, closed=True)
    assert desk.unit.error_queue == (111,)


@given(
    enabled=st.lists(st.tuples(st.integers(-999, 999), st.integers(0, 300)), max_size=6),
    disabled=st.lists(st.tuples(st.integers(-999, 999), st.integers(0, 300)), max_size=6),
)
def test_enable_and_disable_are_sets(enabled: list[tuple[int, int]], disabled: list[tuple[int, int]]) -> None:
    def spread(pairs: list[tuple[int, int]]) -> list[tuple[int, int]]:
        return [(low, min(999, low + width)) for low, width in pairs]

    def members(pairs: list[tuple[int, int]]) -> set[int]:
        return {code for low, high in spread(pairs) for code in range(low, high + 1)}

    status = Status()
    status.set_enabled(spread(enabled))
    status.disable(spread(disabled))
    wanted = members(enabled) - members(disabled)
    assert {code for low, high in status.enabled for code in range(low, high + 1)} == wanted
    assert all(a[1] + 1 < b[0] for a, b in itertools.pairwise(status.enabled))


# The error queue in its other forms


def test_all_errors_in_one_reply() -> None:
    desk = Desk()
    desk.tell("*XYZ", ":OUTP")
    assert desk.ask(":SYST:ERR:COUN?") == "2"
    assert desk.ask(":SYST:ERR:ALL?") == '-113,"Undefined header",-109,"Missing parameter"'
    assert desk.ask(":SYST:ERR:COUN?;ALL?") == '0;0,"No error"'


def test_errors_by_number_only() -> None:
    desk = Desk()
    desk.tell("*XYZ", ":OUTP", ":READ?")
    assert desk.ask(":SYST:ERR:CODE:NEXT?") == "-113"
    assert desk.ask(":SYST:ERR:CODE:ALL?") == "-109,+803"
    assert desk.ask(":SYST:ERR:CODE?;CODE:ALL?") == "0;0"


# The status byte


def test_a_reply_that_waits_in_the_output_queue_is_mav() -> None:
    desk = Desk()
    desk.tell("*CLS")
    assert desk.ask("*OPC?;*STB?") == "1;16"
    assert desk.ask("*STB?") == "0"
    assert desk.ask("*SRE 16;*OPC?;*STB?") == "1;80"


def test_before_firmware_c27_mav_is_wrong_on_rs232() -> None:
    desk = Desk(firmware="C26   Mar 07 2005 15:25:36/A02  /E/H")
    desk.tell("*CLS")
    assert desk.ask("*OPC?;*STB?") == "1;0"
    assert desk.ask("*IDN?") == "KEITHLEY INSTRUMENTS INC.,MODEL 2400,1304207,C26   Mar 07 2005 15:25:36/A02  /E/H"


def test_every_summary_bit_has_its_source() -> None:
    desk = Desk(calibration_lost=True)
    desk.tell("*CLS", "*SRE 255")
    assert desk.ask("*STB?") == "0"
    desk.tell(":STAT:OPER:ENAB 1024", ":STAT:MEAS:ENAB 64", "*ESE 1", ":OUTP ON", ":READ?", "*OPC")
    # OSB (the trigger model came back to idle), MSS, ESB, MSB.
    assert desk.ask("*STB?") == str(1 << 7 | 1 << 6 | 1 << 5 | 1)
    desk.tell("*XYZ")
    assert int(desk.ask("*STB?") or 0) & 1 << 2
    desk.tell("*CLS")
    assert desk.ask("*STB?") == "0"


def test_a_unit_without_its_calibration_says_so_at_power_on() -> None:
    desk = Desk(calibration_lost=True)
    desk.tell(":STAT:QUES:ENAB 256")
    assert desk.ask(":SYST:ERR?;:STAT:QUES:COND?;*STB?") == '+604,"DC calibration data lost";256;24'
    desk.tell("*RST", ":STAT:QUES?")
    assert desk.ask(":STAT:QUES:COND?;*STB?") == "256;16"


@pytest.mark.parametrize("message", [":CONF:CURR 1E-3", ":MEAS:CURR? 1E-3,1E-9", ":MEAS:VOLT? 10"])
def test_a_parameter_that_is_ignored_is_a_questionable_event(message: str) -> None:
    desk = Desk()
    desk.tell(":STAT:QUES:ENAB 16384", "*CLS", message.split(" ", maxsplit=1)[0])
    assert desk.ask(":STAT:QUES?") == "0"
    desk.tell(message)
    assert int(desk.ask("*STB?") or 0) & 1 << 3
    assert desk.ask(":STAT:QUES?;:STAT:QUES:COND?") == "16384;0"
    assert desk.unit.error_queue == ()


@pytest.mark.parametrize(("form", "text"), [("ASC", "36"), ("HEX", "#H24"), ("OCT", "#Q44"), ("BIN", "#B100100")])
def test_registers_in_four_formats(form: str, text: str) -> None:
    desk = Desk()
    assert desk.ask(f":FORM:SREG {form};*ESE 36;*ESE?;:FORM:SREG?") == f"{text};{form}"
    assert desk.ask("*RST;*ESE?") == "36"


@pytest.mark.parametrize("header", ["*PSC?", "*PSC 1", ":STAT:OPER:PTR?", ":STAT:MEAS:NTR 1"])
def test_what_the_manual_does_not_have_is_unknown(header: str) -> None:
    desk = Desk()
    desk.tell(header)
    assert desk.unit.error_queue == (-113,)


def test_query_errors_do_not_exist_on_a_serial_line() -> None:
    # -410 and -420 need somebody who addresses the unit to talk; here every reply just leaves.
    desk = Desk()
    desk.write(b"*IDN?\r*OPC?\r*IDN?\r")
    desk.settle()
    assert len(desk.wire.sent) == 3
    assert desk.unit.error_queue == ()
