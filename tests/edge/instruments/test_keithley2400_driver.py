"""The 2400's driver on an emulated one: nothing counts as set up that was not read back, and what a reply means."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.config import Config
from edge.errors import ConfigError, InstrumentError, LimitReadbackError, ReplyTimeoutError
from edge.guard.phases import phase_spec, prot_a
from edge.instruments.drivers import make_smu
from edge.instruments.keithley2400 import Keithley2400 as Driver
from edge.instruments.link import Link
from edge.instruments.smu import CheckResult, Setup
from edge.samples import Flag, Phase, Sample
from firmware_proto.keithley2400 import commands
from firmware_proto.keithley2400.status import StatusWord
from hil.devices.keithley2400 import Keithley2400
from hil.devices.keithley2400.desk import DeskLoad
from hil.line.memory import MemoryLine
from hil.protocols import Device, Wire
from hil.virtual import VirtualClock, run_virtual

S = 1_000_000_000
SEEK = Setup(source_range_v=20.0, range_a=1e-3, protection_a=1e-3, nplc=0.01, autozero=False)
STATUS = int(StatusWord.V_SOURCE | StatusWord.I_MEASURE | StatusWord.FRONT)


def a_config(**tables: dict[str, Any]) -> Config:
    """Return a rig's configuration; ``tables`` change keys, as in ``rig={"kind": "cell"}``."""
    return Config.model_validate(
        {
            "wiring": tables.get("wiring", {}),
            "rig": {"id": "bench-1", "kind": "tip", "series_resistor_ohm": 1000.0} | tables.get("rig", {}),
            "ports": {"smu": {"path": "memory"}},
            "smu": {"serial_number": "1304207"} | tables.get("smu", {}),
        }
    )


class Liar:
    """An emulated 2400 that answers some questions with something else; everything else is the real emulator's.

    ``lies``: question without terminator -> replies to give, the last one again and again; None: no reply.
    """

    def __init__(self, device: Device, lies: dict[bytes, list[bytes | None]]) -> None:
        self.device = device
        self.lies = lies
        self.asked = b""
        self._partial = b""
        self._wire: Wire | None = None

    def attach(self, wire: Wire) -> None:
        self._wire = wire
        self.device.attach(self)

    def receive(self, t_ns: int, data: bytes) -> None:
        self._partial += data
        *lines, self._partial = self._partial.split(b"\n")
        for line in lines:
            if line.endswith(b"?"):
                self.asked = line
        self.device.receive(t_ns, data)

    def next_event_ns(self) -> int | None:
        return self.device.next_event_ns()

    def advance(self, t_ns: int) -> None:
        self.device.advance(t_ns)

    def send(self, t_ns: int, data: bytes) -> None:
        lies = self.lies.get(self.asked)
        lie: bytes | None = data
        if lies:
            lie = lies[0]
            if len(lies) > 1:
                lies.pop(0)
        if lie is not None:
            assert self._wire is not None
            self._wire.send(t_ns, lie.rstrip(b"\r") + b"\r")

    def discard(self, t_ns: int) -> None:
        assert self._wire is not None
        self._wire.discard(t_ns)


class Bench:
    """A driver, the line, and the instrument behind it."""

    def __init__(self, clock: VirtualClock, config: Config, lies: dict[bytes, list[bytes | None]], baud: int) -> None:
        self.clock = clock
        self.load = DeskLoad(1e6)
        self.unit = Keithley2400(self.load, noise=False)
        self.line = MemoryLine(Liar(self.unit, lies), clock, baud)
        self.link = Link(self.line.transport, clock)
        self.smu = Driver(self.link, config)

    def replace(self, old: bytes, new: bytes, *, nth: int = 0) -> None:
        """Let the n-th write that holds ``old`` arrive as something else."""
        seen = 0

        def hook(_n: int, data: bytes) -> bytes:
            nonlocal seen
            if old not in data:
                return data
            seen += 1
            return data.replace(old, new) if seen == nth + 1 else data

        self.line.tamper(hook)


def with_bench(
    check: Callable[[Bench], Awaitable[None]],
    *,
    lies: dict[bytes, list[bytes | None]] | None = None,
    baud: int = 57600,
    **sections: dict[str, Any],
) -> None:
    async def main(clock: VirtualClock) -> None:
        await check(Bench(clock, a_config(**sections), lies or {}, baud))

    run_virtual(main)


def offline(baud: int = 57600, **sections: dict[str, Any]) -> Driver:
    """Return a driver whose line leads to an instrument that nobody runs; for everything that sends nothing."""
    return Driver(
        Link(MemoryLine(Keithley2400(DeskLoad(1e6)), VirtualClock(), baud).transport, VirtualClock()),
        a_config(**sections),
    )


def reading(current: str = "+1.000000E-06", status: int = STATUS) -> bytes:
    return f"{current},{float(status):+.6E}".encode()


# ---------------------------------------------------------------------------------------------------- identity


def test_it_says_who_is_there() -> None:
    async def check(bench: Bench) -> None:
        identity = await bench.smu.identify()
        assert (identity.model, identity.serial_number) == ("2400", "1304207")
        assert identity.firmware.startswith("C31")

    with_bench(check)


def test_an_identity_that_is_none_is_an_instrument_error() -> None:
    async def check(bench: Bench) -> None:
        with pytest.raises(InstrumentError, match=r"memory: the reply to \*IDN\? is not an identity"):
            await bench.smu.identify()

    with_bench(check, lies={b"*IDN?": [b"KEITHLEY"]})


@pytest.mark.parametrize(("line", "on"), [(b"1", True), (b"0", False)])
def test_it_says_whether_the_output_is_on(line: bytes, on: bool) -> None:
    async def check(bench: Bench) -> None:
        assert await bench.smu.output_on() is on

    with_bench(check, lies={b":OUTP?": [line]})


@pytest.mark.parametrize("line", [b"2", b"11", b"ON", b"+1"])
def test_what_is_no_output_state_is_an_instrument_error(line: bytes) -> None:
    async def check(bench: Bench) -> None:
        with pytest.raises(InstrumentError, match=r"the reply to :OUTP\? is not 0 or 1"):
            await bench.smu.output_on()

    with_bench(check, lies={b":OUTP?": [line]})


# ----------------------------------------------------------------------------------------------------- the set-up

EVERY = [
    (Phase.SEEK, 1.0),
    (Phase.SEEK, 10.0),
    (Phase.RESET, 1.0),
    (Phase.LRS_READ, 0.02),
    (Phase.HRS_READ, 0.1),
]


def setup_for(phase: Phase, v_max_v: float, limit_a: float = 1e-3) -> Setup:
    spec = phase_spec(phase, v_max_v)
    return Setup(20.0 if v_max_v > 2 else 2.0, spec.range_a, prot_a(spec, limit_a), spec.nplc, spec.autozero)


@pytest.mark.parametrize("kind", ["tip", "cell"])
@pytest.mark.parametrize("limit_a", [1e-3, 5e-5])
@pytest.mark.parametrize(("phase", "v_max_v"), EVERY)
def test_every_phase_is_set_up_and_read_back(phase: Phase, v_max_v: float, limit_a: float, kind: str) -> None:
    async def check(bench: Bench) -> None:
        setup = setup_for(phase, v_max_v, limit_a)
        await bench.smu.configure(setup)
        settings = bench.unit.settings
        assert settings.curr_sense.range == setup.range_a
        assert math.isclose(settings.curr_sense.protection, setup.protection_a, rel_tol=1e-6)
        assert settings.output_off.value == ("NORM" if kind == "tip" else "HIMP")
        assert not bench.unit.output_on
        assert bench.link.strays == 0
        line = await bench.link.query(commands.CHECK, 1.0)
        assert bench.smu.judge_check(line) is CheckResult.UNCHANGED

    with_bench(check, rig={"kind": kind})


@pytest.mark.parametrize("baud", [9600, 0])
def test_it_is_set_up_at_other_speeds_too(baud: int) -> None:
    async def check(bench: Bench) -> None:
        await bench.smu.configure(SEEK)

    with_bench(check, baud=baud)


@pytest.mark.parametrize(("terminals", "front"), [("front", True), ("rear", False)])
def test_the_terminals_are_those_of_the_configuration(terminals: str, front: bool) -> None:
    async def check(bench: Bench) -> None:
        await bench.smu.configure(SEEK)
        assert bench.unit.settings.front_terminals is front

    with_bench(check, smu={"terminals": terminals})


LIES = [
    (b":SENS:CURR:PROT?", b"+1.050000E-03", "SENS:CURR:PROT", "0.001 A"),
    (b":SENS:CURR:PROT?", b"+1.050000E-04", "SENS:CURR:PROT", "0.001 A"),
    (b":SENS:CURR:PROT?", b"+1.000000", "SENS:CURR:PROT", "0.001 A"),
    (b":SENS:CURR:PROT?", b"nan", "SENS:CURR:PROT", "0.001 A"),
    (b":SENS:CURR:PROT?", b"+9.910000E+37", "SENS:CURR:PROT", "0.001 A"),
    (b":SENS:CURR:RANG?", b"+1.050000E-02", "SENS:CURR:RANG", "0.001 A"),
    (b":SENS:CURR:RANG?", b"+1.050000E-04", "SENS:CURR:RANG", "0.001 A"),
    (b":SENS:CURR:RANG:AUTO?", b"1", "SENS:CURR:RANG:AUTO", "0"),
    (b":OUTP:SMOD?", b"ZERO", "OUTP:SMOD", "NORM"),
    (b":SOUR:FUNC?", b"CURR", "SOUR:FUNC", "VOLT"),
    (b":SOUR:VOLT?", b"+1.000000E-04", "SOUR:VOLT", "0 V"),
    (b":SOUR:VOLT:RANG?", b"+2.100000E+00", "SOUR:VOLT:RANG", "20 V"),
    (b":SOUR:VOLT:RANG?", b"+2.100000E+02", "SOUR:VOLT:RANG", "20 V"),
    (b":SENS:CURR:NPLC?", b"+1.000000E+00", "SENS:CURR:NPLC", "0.01"),
    (b":FORM:ELEM?", b"VOLT,CURR,STAT", "FORM:ELEM", "CURR,STAT"),
    (b":ARM:COUN?", b"+9.900000E+37", "ARM:COUN", "1"),
    (b":TRIG:COUN?", b"2500", "TRIG:COUN", "1"),
    (b":OUTP?", b"1", "OUTP", "0 (off)"),
    (b":OUTP?", b"\x07", "OUTP", "0 (off)"),
]


@pytest.mark.parametrize(("question", "answer", "name", "expected"), LIES)
def test_whatever_reads_back_otherwise_is_refused_by_name(
    question: bytes, answer: bytes, name: str, expected: str
) -> None:
    async def check(bench: Bench) -> None:
        with pytest.raises(LimitReadbackError) as caught:
            await bench.smu.configure(SEEK)
        text = str(caught.value)
        assert f"memory: {name} reads back {answer.decode()!r}, expected {expected}; nothing was energised" in text
        assert not bench.unit.output_on
        line = b"+1.000000E-03;+1.050000E-03;NORM"
        # What was not finished is not in force: a check against it must not pass either, unless it was the last step.
        if question in (b":SENS:CURR:PROT?", b":SENS:CURR:RANG?"):
            assert bench.smu.judge_check(line) is CheckResult.LIMIT_CHANGED

    with_bench(check, lies={question: [answer]})


def test_every_read_back_has_a_lie_above() -> None:
    assert {question + b"\n" for question, *_ in LIES} == set(commands.READBACKS)


def test_a_cell_whose_off_state_is_not_the_open_relay_is_refused() -> None:
    async def check(bench: Bench) -> None:
        bench.replace(b":OUTP:SMOD HIMP", b":OUTP:SMOD NORM")
        with pytest.raises(LimitReadbackError, match="OUTP:SMOD reads back 'NORM', expected HIMP"):
            await bench.smu.configure(SEEK)

    with_bench(check, rig={"kind": "cell"})


async def _current_through_a_short(bench: Bench) -> float:
    """Set up for 50 uA while the line turns that limit into 1 mA; then switch on at -1 V into 100 ohm."""
    bench.load.r_ohm = 100.0
    bench.replace(b":SENS:CURR:PROT 0.000050000", b":SENS:CURR:PROT 0.001000000")
    await bench.smu.configure(setup_for(Phase.SEEK, 10.0, 5e-5))
    await bench.link.query(commands.OUTPUT_ON, 1.0)
    await bench.link.query(bench.smu.level_message(-1.0), 1.0)
    return abs(bench.load.terminal_current_a)


def test_a_limit_that_did_not_arrive_is_found_before_it_is_needed() -> None:
    async def check(bench: Bench) -> None:
        with pytest.raises(LimitReadbackError, match=r"SENS:CURR:PROT reads back '\+1\.000000E-03', expected 5e-05 A"):
            await _current_through_a_short(bench)
        assert not bench.unit.output_on

    with_bench(check)


def test_without_the_read_back_the_tip_would_take_twenty_times_its_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    async def nothing(_self: Driver, _setup: Setup) -> None:
        return None

    monkeypatch.setattr(Driver, "_read_back", nothing)

    async def check(bench: Bench) -> None:
        assert await _current_through_a_short(bench) == 1e-3

    with_bench(check)


@pytest.mark.parametrize(
    ("old", "new", "error"),
    [
        (b":SENS:AVER OFF", b":SENS:AVRE OFF", '-113,"Undefined header"'),
        (b":SENS:CURR:NPLC 0.01", b":SENS:CURR:NPLC 11", '-222,"Parameter data out of range"'),
        (b"*CLS", b"*CSL", '-113,"Undefined header"'),
        (b":SYST:RWL ON", b":SYST:RWL", '-109,"Missing parameter"'),
    ],
)
def test_a_refused_command_is_named_with_its_neighbours(old: bytes, new: bytes, error: str) -> None:
    async def check(bench: Bench) -> None:
        bench.replace(old, new)
        with pytest.raises(InstrumentError) as caught:
            await bench.smu.configure(SEEK)
        text = str(caught.value)
        assert f"refused part of the set-up ({error}) among: " in text
        assert old.decode() in text
        assert "Nothing was energised" in text
        assert not isinstance(caught.value, LimitReadbackError)
        assert not bench.unit.output_on

    with_bench(check)


def test_every_refusal_is_named() -> None:
    async def check(bench: Bench) -> None:
        with pytest.raises(InstrumentError, match=r'-113,"Undefined header"; \+?803,"Not permitted with OUTPUT off"'):
            await bench.smu.configure(SEEK)

    lies: list[bytes | None] = [b'-113,"Undefined header"', b'+803,"Not permitted with OUTPUT off"', b'0,"No error"']
    with_bench(check, lies={b":SYST:ERR?": lies})


def test_a_status_message_in_the_queue_is_no_refusal() -> None:
    async def check(bench: Bench) -> None:
        await bench.smu.configure(SEEK)

    with_bench(check, lies={b":SYST:ERR?": [b'+114,"Source in compliance"', b'0,"No error"']})


def test_an_error_queue_that_never_ends_is_given_up() -> None:
    async def check(bench: Bench) -> None:
        with pytest.raises(InstrumentError, match="refused part of the set-up"):
            await bench.smu.configure(SEEK)

    with_bench(check, lies={b":SYST:ERR?": [b'-350,"Queue overflow"']})


def test_an_error_queue_entry_that_is_none_is_an_instrument_error() -> None:
    async def check(bench: Bench) -> None:
        with pytest.raises(InstrumentError, match=r"the reply to :SYST:ERR\? is not an error-queue entry"):
            await bench.smu.configure(SEEK)

    with_bench(check, lies={b":SYST:ERR?": [b"0"]})


@pytest.mark.parametrize("question", [b":SYST:ERR?", b":SENS:CURR:PROT?", b":OUTP?"])
def test_a_mute_instrument_is_not_set_up(question: bytes) -> None:
    async def check(bench: Bench) -> None:
        with pytest.raises(ReplyTimeoutError, match="no reply to"):
            await bench.smu.configure(SEEK)
        assert not bench.link.outstanding

    with_bench(check, lies={question: [None]})


def test_nothing_the_driver_sends_while_setting_up_switches_on() -> None:
    async def check(bench: Bench) -> None:
        await bench.smu.configure(SEEK)
        assert all(source.v_set == 0.0 for source in bench.load.sources)

    with_bench(check)


# ------------------------------------------------------------------------------------------------- the check query


def test_a_limit_changed_behind_our_back_is_seen_by_the_check() -> None:
    async def check(bench: Bench) -> None:
        await bench.smu.configure(SEEK)

        async def judge() -> CheckResult:
            return bench.smu.judge_check(await bench.link.query(bench.smu.check_message, 1.0))

        assert await judge() is CheckResult.UNCHANGED
        for change, back in (
            (b":SENS:CURR:PROT 0.00099\n", b":SENS:CURR:PROT 0.001\n"),
            (b":SENS:CURR:RANG 0.0001\n", b":SENS:CURR:RANG 0.001\n"),
            (b":OUTP:SMOD ZERO\n", b":OUTP:SMOD NORM\n"),
        ):
            bench.link.write(change)
            assert await judge() is CheckResult.LIMIT_CHANGED, change
            bench.link.write(back)
            assert await judge() is CheckResult.UNCHANGED, back
        # What MEAS? does to a set-up (manual 17-2).
        bench.link.write(b":CONF:CURR\n")
        assert await judge() is CheckResult.LIMIT_CHANGED

    with_bench(check)


@pytest.mark.parametrize(
    "line", [b"", b"0", b"+1.000000E-03;+1.050000E-03;", b"+1.0E-03;NORM", reading(), b"\xff" * 80]
)
def test_a_check_reply_that_is_none(line: bytes) -> None:
    assert offline().judge_check(line) is CheckResult.UNPARSABLE


def test_before_any_set_up_nothing_is_unchanged() -> None:
    assert offline().judge_check(b"+1.000000E-03;+1.050000E-03;NORM") is CheckResult.LIMIT_CHANGED


# ------------------------------------------------------------------------------------------------------- readings

NAN_FLAGS = [
    ("+9.900000E+37", 0, Flag.OVERFLOW),
    ("-9.900000E+37", 0, Flag.OVERFLOW),
    ("+9.910000E+37", 0, Flag.NOT_MEASURED),
    ("+1.000000E-06", StatusWord.OVERFLOW, Flag.OVERFLOW),
    ("+9.900000E+37", StatusWord.COMPLIANCE, Flag.OVERFLOW | Flag.COMPLIANCE | Flag.BIAS_NOT_HELD),
    ("+9.900000E+37", StatusWord.RANGE_COMPLIANCE, Flag.OVERFLOW | Flag.RANGE_COMPLIANCE | Flag.BIAS_NOT_HELD),
]
HELD_FLAGS = [
    (0, Flag.NONE),
    (StatusWord.FILTER, Flag.NONE),
    (StatusWord.COMPLIANCE, Flag.COMPLIANCE | Flag.BIAS_NOT_HELD),
    (StatusWord.RANGE_COMPLIANCE, Flag.RANGE_COMPLIANCE | Flag.BIAS_NOT_HELD),
    (StatusWord.COMPLIANCE | StatusWord.RANGE_COMPLIANCE, Flag.COMPLIANCE | Flag.BIAS_NOT_HELD),
]


@pytest.mark.parametrize(("current", "more", "flags"), NAN_FLAGS)
def test_a_reading_without_a_number_is_a_flag_and_nan(current: str, more: int, flags: Flag) -> None:
    sample = offline().sample(reading(current, STATUS | more), 5 * S, -0.5, Phase.SEEK)
    assert math.isnan(sample.current_a)
    assert (sample.flags, sample.bias_v, sample.phase, sample.t_rx_ns) == (flags, -0.5, Phase.SEEK, 5 * S)


@pytest.mark.parametrize(("more", "flags"), HELD_FLAGS)
def test_compliance_is_a_flag_and_says_that_the_bias_is_not_held(more: int, flags: Flag) -> None:
    sample = offline().sample(reading("-2.500000E-05", STATUS | more), 5 * S, -0.5, Phase.RESET)
    assert sample == Sample(sample.t_ns, sample.t_unc_ns, 5 * S, -0.5, -2.5e-5, int(flags), Phase.RESET)


@given(st.binary(max_size=100))
def test_no_bytes_make_it_raise_or_invent_a_number(line: bytes) -> None:
    sample = UNCONFIGURED.sample(line, 5 * S, -0.5, Phase.SEEK)
    assert math.isnan(sample.current_a)
    assert sample.flags == Flag.UNPARSABLE
    assert (sample.bias_v, sample.t_rx_ns) == (-0.5, 5 * S)


UNCONFIGURED = offline()


def test_with_the_sample_at_hi_volts_and_amperes_flip_together() -> None:
    tip, sample = offline(), offline(wiring={"hi": "sample"})
    assert tip.level_message(-0.5) == b":SOUR:VOLT -0.5000;:READ?\n"
    assert sample.level_message(-0.5) == b":SOUR:VOLT 0.5000;:READ?\n"
    assert sample.level_message(0.0) == b":SOUR:VOLT 0.0000;:READ?\n"
    # The instrument measures what flows at its +0.5 V; the tip stands at -0.5 V.
    got = sample.sample(reading("+1.000000E-06"), 5 * S, -0.5, Phase.SEEK)
    assert (got.bias_v, got.current_a) == (-0.5, -1e-6)
    assert tip.sample(reading("-1.000000E-06"), 5 * S, -0.5, Phase.SEEK).current_a == -1e-6
    assert math.isnan(sample.sample(reading("+9.900000E+37"), 5 * S, -0.5, Phase.SEEK).current_a)


@pytest.mark.parametrize("hi", ["tip", "sample"])
def test_either_wiring_measures_the_same_resistor(hi: str) -> None:
    async def check(bench: Bench) -> None:
        await bench.smu.configure(SEEK)
        await bench.link.query(bench.smu.output_on_message, 1.0)
        line = await bench.link.query(bench.smu.level_message(-5.0), 1.0)
        sample = bench.smu.sample(line, bench.clock.now_ns(), -5.0, Phase.SEEK)
        assert (sample.bias_v, sample.current_a, sample.flags) == (-5.0, -5e-6, 0)
        assert bench.load.sources[-1].v_set == (-5.0 if hi == "tip" else 5.0)

    with_bench(check, wiring={"hi": hi})


@given(st.floats(-20, 20), st.sampled_from(["tip", "sample"]))
def test_what_is_recorded_as_bias_is_what_was_sent(bias_v: float, hi: str) -> None:
    driver = BY_WIRING[hi]
    sent = float(driver.level_message(bias_v).removeprefix(b":SOUR:VOLT ").removesuffix(b";:READ?\n"))
    programmed_v = driver.programmed_v(bias_v)
    assert programmed_v == (sent if hi == "tip" else -sent)
    assert abs(programmed_v) <= abs(bias_v)
    assert abs(bias_v - programmed_v) < 1.001e-4


BY_WIRING = {hi: offline(wiring={"hi": hi}) for hi in ("tip", "sample")}


def test_the_panel_is_given_back_without_touching_the_output() -> None:
    async def check(bench: Bench) -> None:
        await bench.smu.configure(SEEK)
        bench.unit.press_output_key(bench.clock.now_ns())
        assert not bench.unit.output_on  # locked: the key only switches off
        told = len(bench.load.sources)
        bench.link.write(bench.smu.release_message)
        assert await bench.link.query(commands.ERROR_QUERY, 1.0) == b'0,"No error"'
        assert len(bench.load.sources) == told
        bench.unit.press_output_key(bench.clock.now_ns())
        assert bench.unit.output_on

    with_bench(check)


# ------------------------------------------------------------------------------------------------------------- times


class WatchedLoad(DeskLoad):
    """Remembers when it was looked at: the last two looks before a reply are the ends of its aperture."""

    def __init__(self) -> None:
        super().__init__(1e6)
        self.looks: list[int] = []

    def advance(self, t_ns: int) -> None:
        super().advance(t_ns)
        self.looks.append(t_ns)


@pytest.mark.parametrize("line_hz", [50, 60])
@pytest.mark.parametrize("baud", [57600, 9600, 0])
@pytest.mark.parametrize(("phase", "v_max_v"), EVERY)
def test_the_time_of_a_sample_holds_the_middle_of_its_aperture(
    phase: Phase, v_max_v: float, baud: int, line_hz: int
) -> None:
    async def main(clock: VirtualClock) -> None:
        load = WatchedLoad()
        line = MemoryLine(Keithley2400(load, noise=False, line_freq_hz=float(line_hz)), clock, baud)
        link = Link(line.transport, clock)
        smu = Driver(link, a_config(smu={"line_frequency_hz": line_hz}))
        setup = setup_for(phase, v_max_v)
        await smu.configure(setup)
        await link.query(smu.output_on_message, 1.0)
        for message in (smu.read_message, smu.level_message(-0.01)):
            reply = await link.query(message, 1.0)
            now_ns = clock.now_ns()
            sample = smu.sample(reply, now_ns, -0.01, phase)
            start_ns, end_ns = load.looks[-2:]
            assert end_ns - start_ns == pytest.approx(setup.nplc / line_hz * 1e9, abs=1)
            assert abs(sample.t_ns - (start_ns + end_ns) / 2) <= sample.t_unc_ns
            assert sample.t_ns + sample.t_unc_ns <= now_ns
            assert sample.t_rx_ns == now_ns

    run_virtual(main)


@pytest.mark.parametrize("kind", ["tip", "cell"])
@pytest.mark.parametrize("baud", [57600, 9600, 0])
@pytest.mark.parametrize(("phase", "v_max_v"), EVERY)
def test_an_exchange_takes_no_longer_than_it_says(phase: Phase, v_max_v: float, baud: int, kind: str) -> None:
    async def check(bench: Bench) -> None:
        await bench.smu.configure(setup_for(phase, v_max_v))
        smu = bench.smu
        for message in (smu.output_on_message, smu.read_message, smu.level_message(-0.0123), smu.check_message):
            began = bench.clock.now_ns()
            await bench.link.query(message, 1.0)
            took_s = (bench.clock.now_ns() - began) / 1e9
            assert took_s <= smu.exchange_s(message), message
            # Nor is it so generous that a deadline means nothing.
            assert smu.exchange_s(message) < 2 * took_s + 0.025, message

    with_bench(check, baud=baud, rig={"kind": kind})


# ------------------------------------------------------------------------------------------------------ finding it


def test_the_driver_is_found_by_its_name() -> None:
    link = offline().link
    assert isinstance(make_smu(link, a_config()), Driver)


def test_an_unknown_driver_is_refused_with_those_there_are() -> None:
    with pytest.raises(ConfigError, match=r"smu\.driver: value 'smu9000': expected one of: .*keithley2400") as caught:
        make_smu(offline().link, a_config(smu={"driver": "smu9000"}))
    assert caught.value.key == "smu.driver"
