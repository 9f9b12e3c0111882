"""The 2400's driver on an emulated one: nothing counts as set up that was not read back, and what a reply means."""

from __future__ import annotations

import json
import math
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from edge.config import Config
from edge.errors import ConfigError, InstrumentError, LimitReadbackError, ReplyTimeoutError
from edge.guard.phases import phase_spec, prot_a
from edge.instruments.drivers import make_smu
from edge.instruments.keithley2400 import Keithley2400 as Driver
from edge.instruments.link import Link
from edge.instruments.smu import CheckResult, Setup
from edge.samples import Flag, Phase
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
        self.liar = Liar(self.unit, lies)
        self.line = MemoryLine(self.liar, clock, baud)
        self.link = Link(self.line.transport, clock)
        self.smu = Driver(self.link, config)

    def replace(self, old: bytes, new: bytes, *, nth: int | None = 0) -> None:
        """Let the n-th write that holds ``old`` (None: every one) arrive as something else."""
        seen = 0

        def hook(_n: int, data: bytes) -> bytes:
            nonlocal seen
            if old not in data:
                return data
            seen += 1
            return data.replace(old, new) if nth is None or seen == nth + 1 else data

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


def reading(current: str = "+1.000000E-06", status: int = STATUS, level_v: float = -0.5) -> bytes:
    return f"{level_v:+.6E},{current},{float(status):+.6E}".encode()


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
        for asked in bench.smu.check_messages:
            line = await bench.link.query(asked, 1.0)
            assert bench.smu.judge_check(line, asked) is CheckResult.UNCHANGED

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
    (b":FORM:ELEM?", b"CURR,STAT", "FORM:ELEM", "VOLT,CURR,STAT"),
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
        # What was not finished is not in force: a check against it must not pass either, unless it was the last step.
        if question in (b":SENS:CURR:PROT?", b":SENS:CURR:RANG?"):
            for asked, line in AS_SET.items():
                assert bench.smu.judge_check(line, asked) is CheckResult.LIMIT_CHANGED

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
        (b"*RST", b"*RTS", '-113,"Undefined header"'),
        (b":OUTP OFF", b":OUTP", '-109,"Missing parameter"'),
        (b":SOUR:VOLT 0\n", b":SOUR:VOLT 300\n", '-222,"Parameter data out of range"'),
        (b":SENS:CURR:PROT 0", b":SENS:CURR:PORT 0", '-113,"Undefined header"'),
    ],
)
def test_a_refused_command_that_no_run_can_do_without_is_named_and_ends_the_set_up(
    old: bytes, new: bytes, error: str
) -> None:
    async def check(bench: Bench) -> None:
        bench.replace(old, new, nth=None)
        with pytest.raises(InstrumentError) as caught:
            await bench.smu.configure(SEEK)
        text = str(caught.value)
        assert "refused part of the set-up (" in text
        assert error in text
        assert old.decode().strip() in text
        assert "Nothing was energised" in text
        assert not isinstance(caught.value, LimitReadbackError)
        assert not bench.unit.output_on

    with_bench(check)


@pytest.mark.parametrize(
    ("old", "new", "note"),
    [
        (b":SENS:AVER OFF", b":SENS:AVRE OFF", ':SENS:AVER refused (-113,"Undefined header"): a filter may hide'),
        (b":SOUR:DEL 0", b":SOUR:DLE 0", ":SOUR:DEL refused (-113"),
        (b":SYST:RWL ON", b":SYST:RWL", ':SYST:RWL refused (-109,"Missing parameter"): its panel is not locked'),
    ],
)
def test_a_refused_command_that_a_run_can_do_without_is_a_note(old: bytes, new: bytes, note: str) -> None:
    async def check(bench: Bench) -> None:
        bench.replace(old, new, nth=None)
        await bench.smu.configure(SEEK)
        assert len(bench.smu.notes) == 1
        assert note in bench.smu.notes[0]

    with_bench(check)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b":SENS:AVER OFF", b":SENS:AVRE OFF"),
        (b":SENS:CURR:NPLC 0.01", b":SENS:CURR:NPLC 11"),
        (b"*RST", b"*RTS"),
        (b":SENS:CURR:PROT 0.001", b":SENS:CURR:PROT 0"),
        (b":SYST:RWL ON", b":SYST:RWL"),
    ],
)
def test_a_command_that_was_damaged_once_is_sent_again(old: bytes, new: bytes) -> None:
    async def check(bench: Bench) -> None:
        bench.replace(old, new)
        await bench.smu.configure(SEEK)
        assert bench.smu.notes == ()
        assert bench.unit.settings.curr_sense.protection == 1e-3
        assert bench.unit.settings.nplc == 0.01
        assert not bench.unit.settings.average

    with_bench(check)


def test_every_refusal_is_named() -> None:
    async def check(bench: Bench) -> None:
        with pytest.raises(InstrumentError, match=r'-113,"Undefined header"; \+?803,"Not permitted with OUTPUT off"'):
            await bench.smu.configure(SEEK)

    twice: list[bytes | None] = [b'-113,"Undefined header"', b'+803,"Not permitted with OUTPUT off"', b'0,"No error"']
    # For the batch, then for *CLS and *RST sent alone.
    with_bench(check, lies={b":SYST:ERR?": [*twice, *twice, *twice]})


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

    with_bench(check, lies={b":SYST:ERR?": [b"no error"]})


@pytest.mark.parametrize("question", [b":SENS:CURR:PROT?", b":SOUR:VOLT?", b":OUTP?"])
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

        async def judge(asked: bytes) -> CheckResult:
            return bench.smu.judge_check(await bench.link.query(asked, 1.0), asked)

        assert bench.smu.check_messages == tuple(AS_SET)
        for asked, change, back in (
            (commands.LIMIT_QUERY, b":SENS:CURR:PROT 0.00099\n", b":SENS:CURR:PROT 0.001\n"),
            (commands.RANGE_QUERY, b":SENS:CURR:RANG 0.0001\n", b":SENS:CURR:RANG 0.001\n"),
            (commands.OFF_MODE_QUERY, b":OUTP:SMOD ZERO\n", b":OUTP:SMOD NORM\n"),
        ):
            assert await judge(asked) is CheckResult.UNCHANGED, asked
            bench.link.write(change)
            assert await judge(asked) is CheckResult.LIMIT_CHANGED, change
            bench.link.write(back)
            assert await judge(asked) is CheckResult.UNCHANGED, back
        # What MEAS? does to a set-up (manual 17-2).
        bench.link.write(b":CONF:CURR\n")
        assert await judge(commands.LIMIT_QUERY) is CheckResult.LIMIT_CHANGED

    with_bench(check)


AS_SET = {
    commands.LIMIT_QUERY: b"+1.000000E-03",
    commands.RANGE_QUERY: b"+1.050000E-03",
    commands.OFF_MODE_QUERY: b"NORM",
}


@pytest.mark.parametrize("asked", AS_SET)
@pytest.mark.parametrize("line", [b"", b"+1.000000E-03;NORM", b"+1.0E", b"NOR", b"nan", reading(), b"\xff" * 80])
def test_a_check_reply_that_is_none(line: bytes, asked: bytes) -> None:
    assert offline().judge_check(line, asked) is CheckResult.UNPARSABLE


def test_before_any_set_up_nothing_is_unchanged() -> None:
    for asked, line in AS_SET.items():
        assert offline().judge_check(line, asked) is CheckResult.LIMIT_CHANGED


def test_an_answer_to_another_question_or_a_damaged_one_is_never_unchanged() -> None:
    async def check(bench: Bench) -> None:
        await bench.smu.configure(SEEK)
        for asked, line in AS_SET.items():
            assert bench.smu.judge_check(line, asked) is CheckResult.UNCHANGED
            for other in AS_SET.values():
                if other != line:
                    assert bench.smu.judge_check(other, asked) is not CheckResult.UNCHANGED
            for at in range(len(line)):
                lost = line[:at] + line[at + 1 :]
                doubled = line[: at + 1] + line[at:]
                for damaged in (lost, doubled):
                    assert bench.smu.judge_check(damaged, asked) is not CheckResult.UNCHANGED, damaged
        # The number in force, with a digit lost: damaged, not changed.
        assert bench.smu.judge_check(b"+1.00000E-03", commands.LIMIT_QUERY) is CheckResult.UNPARSABLE
        assert bench.smu.judge_check(b"ZERO", commands.OFF_MODE_QUERY) is CheckResult.LIMIT_CHANGED

    with_bench(check)


# ------------------------------------------------------------------------------------- what is kept of a unit


PROOF = b"*ESE 132;:SOUR:VOLT?;*ESE?;:OUTP?"
"""As the driver asks it for a set-up of this length."""


def test_the_proof_of_a_cut_is_asked_for_once_and_not_skipped_after_a_failure() -> None:
    async def check(bench: Bench) -> None:
        asked: list[bytes] = []

        def note(_n: int, data: bytes) -> bytes:
            asked.append(data)
            return data

        bench.line.tamper(note)
        for _ in range(3):
            with pytest.raises(LimitReadbackError, match="no cut could be verified on this unit"):
                await bench.smu.configure(SEEK)
        assert sum(b";:SOUR:VOLT?;*ESE?;:OUTP?" in data for data in asked) == 3
        bench.liar.lies.clear()
        for _ in range(3):
            await bench.smu.configure(SEEK)
        assert sum(b";:SOUR:VOLT?;*ESE?;:OUTP?" in data for data in asked) == 4

    with_bench(check, lies={PROOF: [b"+0.000000E+00;7;0"]})


def test_what_was_found_out_can_be_written_down_and_taken_over() -> None:
    async def check(bench: Bench) -> None:
        await bench.smu.configure(SEEK)
        for _ in range(3):
            bench.smu.learn(b"+0.000E+00,+1.000E-09,+2.048E+04")
        memory = bench.smu.memory()
        # Plain values only: it travels.
        assert json.loads(json.dumps(memory)) == memory
        other = offline()
        other.remember(memory)
        assert other.memory() == memory
        assert other.sample(b"+0.000E+00,-1.234E-07,+2.048E+04", 1, 0.0, Phase.SEEK).current_a == -1.234e-7
        assert other.sample(reading(), 1, 0.0, Phase.SEEK).flags == Flag.UNPARSABLE
        fresh = offline()
        fresh.remember(offline().memory())
        assert fresh.memory() == offline().memory()

    with_bench(check)


# ------------------------------------------------------------------------------------------------------ finding it


def test_the_driver_is_found_by_its_name() -> None:
    link = offline().link
    assert isinstance(make_smu(link, a_config()), Driver)


def test_an_unknown_driver_is_refused_with_those_there_are() -> None:
    with pytest.raises(ConfigError, match=r"smu\.driver: value 'smu9000': expected one of: .*keithley2400") as caught:
        make_smu(offline().link, a_config(smu={"driver": "smu9000"}))
    assert caught.value.key == "smu.driver"
