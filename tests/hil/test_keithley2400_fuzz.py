"""Whatever arrives, in whatever pieces: the emulated 2400 never raises and does not depend on the pieces."""

from __future__ import annotations

import itertools

from hypothesis import given, settings
from hypothesis import strategies as st

from firmware_proto.keithley2400.status import CURRENT_RANGES_A, VOLTAGE_RANGES_V
from hil.devices.keithley2400 import Timing
from hil.devices.keithley2400.desk import Desk
from hil.devices.keithley2400.interlock import RESPONSE_NS, Rearm
from hil.devices.keithley2400.status import QUEUE_DEPTH

S = 1_000_000_000

HEADERS = [
    "*RST",
    "*CLS",
    "*IDN?",
    "*ESE",
    "*ESE?",
    "*OPC?",
    ":OUTP",
    ":OUTP?",
    ":OUTP:SMOD",
    ":ROUT:TERM",
    ":SOUR:FUNC",
    ":SOUR:VOLT",
    ":SOUR:VOLT?",
    ":SOUR:VOLT:RANG",
    ":SOUR:VOLT:RANG:AUTO",
    ":SOUR:VOLT:PROT",
    ":SOUR:CURR",
    ":SOUR:CURR:RANG",
    ":SOUR:DEL",
    ":SOUR:DEL:AUTO",
    ":SOUR:CLE:AUTO",
    ":SENS:FUNC",
    ":SENS:FUNC:OFF",
    ":SENS:FUNC:CONC",
    ":SENS:CURR:PROT",
    ":SENS:CURR:RANG",
    ":SENS:CURR:RANG:AUTO",
    ":SENS:VOLT:PROT",
    ":SENS:VOLT:RANG",
    ":SENS:CURR:NPLC",
    ":SENS:AVER",
    ":SENS:AVER:COUN",
    ":SENS:AVER:TCON",
    ":SYST:AZER",
    ":SYST:ERR?",
    ":FORM:ELEM",
    ":TRIG:COUN",
    ":TRIG:DEL",
    ":ARM:COUN",
    ":READ?",
    ":INIT",
    ":ABOR",
    ":FETC?",
    ":MEAS:CURR?",
    ":CONF:VOLT",
    ":OUTP:ENAB",
    ":OUTP:ENAB:TRIP?",
    ":STAT:QUE:ENAB",
    ":STAT:QUE:DIS",
    ":STAT:MEAS?",
    ":SYST:ERR:ALL?",
    ":SYST:KEY",
    ":SYST:RWL",
    ":SYST:LOC",
    ":SYST:LFR",
    ":SYST:GUAR",
    ":SYST:RSEN",
    ":DISP:TEXT",
    ":DISP:DATA?",
    ":FORM:SREG",
    "*STB?",
    "*SAV",
    "*RCL",
    "NONSENSE",
]
VALUES = ["", "0", "1", "-1", "1E-6", "0.0001", "20", "1E9", "ON", "OFF", "MIN", "MAX", "DEF", "INF", "UP", "DOWN"]
VALUES += [
    "VOLT",
    "CURR",
    "RES",
    "'VOLT'",
    "'CURR'",
    "'RES'",
    "HIMP",
    "ZERO",
    "GUAR",
    "MOV",
    "ONCE",
    "CURR,STAT",
    "(1)",
    "(-200:-100)",
    "24",
    "50",
    "HEX",
]

COMMANDS = st.tuples(st.sampled_from(HEADERS), st.sampled_from(VALUES)).map(" ".join)
MESSAGES = st.lists(COMMANDS, min_size=1, max_size=4).map(";".join).map(lambda text: text.encode() + b"\r")
BYTES = st.one_of(MESSAGES, MESSAGES, st.binary(max_size=30), st.sampled_from([b"\x03", b"\x18", b"\0", b"\n", b":OU"]))
STREAMS = st.lists(BYTES, max_size=12)


def check(desk: Desk) -> None:
    """What holds at any time."""
    unit = desk.unit
    state = unit.settings
    assert len(unit.error_queue) <= QUEUE_DEPTH
    assert state.curr_sense.range in CURRENT_RANGES_A
    assert state.volt_sense.range in VOLTAGE_RANGES_V
    assert state.arm_count * state.trigger_count <= 2500 or state.arm_count == float("inf")
    source = desk.load.sources[-1]
    assert abs(source.v_set) <= 210.0
    assert 0.0 <= source.i_limit_a <= 1.05 * (1 + 1e-9)
    if unit.output_on and state.source.value == "VOLT":
        assert source.connected
        assert source.v_set == max(-state.source_limit_v, min(state.source_limit_v, state.volt_source.level))
        assert source.i_limit_a == state.curr_sense.clamp
    if not unit.output_on:
        assert source.v_set == 0.0
    for reply in (data for _, data in desk.wire.sent):
        assert reply.endswith(b"\r")
        assert reply.isascii()
        assert reply[:-1].decode().isprintable()


def press(desk: Desk, act: str) -> None:
    """Do at the panel or the rear what ``act`` says."""
    unit, t_ns = desk.unit, desk.t_ns
    if act == "output":
        unit.panel_output(t_ns)
    elif act == "local":
        unit.panel_local(t_ns)
    elif act == "level":
        unit.panel_level(t_ns, 1.5)
    elif act == "limit":
        unit.panel_limit(t_ns, 1e-5)
    elif act == "range":
        unit.panel_range(t_ns, 1e-5)
    elif act == "enable":
        unit.panel_output_enable(t_ns, on=True, force=True)
    elif act == "mains":
        unit.power_cycle(t_ns, dark_s=0.01)
    elif act in ("hot", "cool"):
        unit.over_temperature(t_ns, hot=act == "hot")
    else:
        unit.output_enable_line(t_ns, closed=act == "close")


ACTS = st.sampled_from(
    ["output", "local", "level", "limit", "range", "enable", "mains", "hot", "cool", "open", "open", "close", "close"]
)


@settings(max_examples=200, deadline=None)
@given(
    steps=st.lists(st.tuples(st.one_of(ACTS, BYTES), st.integers(0, S // 100)), max_size=25),
    rearm=st.sampled_from(list(Rearm)),
)
def test_no_hand_makes_it_raise_and_the_interlock_holds(steps: list[tuple[str | bytes, int]], rearm: Rearm) -> None:
    desk = Desk(1e4, oe_rearm=rearm, input_buffer=200)
    closed, hot, opened_ns = False, False, 0
    for what, gap_ns in steps:
        if isinstance(what, bytes):
            desk.write(what)
        else:
            press(desk, what)
            closed = {"open": False, "close": True}.get(what, closed)
            hot = {"hot": True, "cool": False}.get(what, hot)
            opened_ns = desk.t_ns if what == "open" else opened_ns
        desk.wait(gap_ns)
        check(desk)
        if desk.unit.output_on:
            assert not hot
            if not closed and not desk.unit.busy and desk.t_ns >= opened_ns + RESPONSE_NS:
                assert desk.ask("*CLS;:OUTP:ENAB?") != "1"


@settings(max_examples=300, deadline=None)
@given(stream=STREAMS, gap_ns=st.integers(0, S // 20), zero=st.booleans())
def test_no_bytes_make_it_raise_and_its_rules_hold(stream: list[bytes], gap_ns: int, zero: bool) -> None:
    desk = Desk(1e4, timing=Timing.zero() if zero else None, noise=True, input_buffer=200)
    for data in stream:
        desk.write(data)
        desk.wait(gap_ns)
        check(desk)
    desk.wait(S // 2)
    check(desk)


@settings(max_examples=200, deadline=None)
@given(data=st.binary(max_size=600))
def test_pure_garbage(data: bytes) -> None:
    desk = Desk(input_buffer=64)
    desk.write(data)
    desk.wait(S)
    check(desk)
    assert not desk.unit.output_on
    desk.write(b"\x03*CLS\r*IDN?\r")
    desk.settle()
    assert desk.wire.sent[-1][1].startswith(b"KEITHLEY")


@settings(max_examples=200, deadline=None)
@given(stream=STREAMS, cuts=st.lists(st.integers(0, 400), max_size=10), swallow=st.sampled_from([0.0, 0.002]))
def test_any_chunking_gives_the_same_events(stream: list[bytes], cuts: list[int], swallow: float) -> None:
    data = b"".join(stream)
    whole = Desk(1e4, noise=True, input_buffer=200, abort_swallow_s=swallow)
    parts = Desk(1e4, noise=True, input_buffer=200, abort_swallow_s=swallow)
    whole.write(data)
    edges = sorted({min(cut, len(data)) for cut in cuts} | {0, len(data)})
    for begin, end in itertools.pairwise(edges):
        parts.write(data[begin:end])
    for desk in (whole, parts):
        desk.wait(S // 2)
        desk.write(b"\x03")
    assert whole.wire.sent == parts.wire.sent
    assert whole.wire.discards == parts.wire.discards
    assert whole.load.sources == parts.load.sources
    assert whole.unit.error_queue == parts.unit.error_queue
    assert whole.unit.settings == parts.unit.settings
