"""The look-alike itself: it is the 2400 behind it but for what its personality says, and no bytes make it raise."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hil.devices.keithley2400 import Keithley2400, Timing
from hil.devices.lookalike import LookAlike, NumberStyle, Personality
from hil.errors import BenchFaultError
from hil.twin.ohmic import OhmicLoad

MS = 1_000_000


class Tray:
    """A wire that keeps what was sent, and when."""

    def __init__(self) -> None:
        self.sent: list[tuple[int, bytes]] = []

    def send(self, t_ns: int, data: bytes) -> None:
        self.sent.append((t_ns, data))

    def discard(self, t_ns: int) -> None:
        self.sent = [(t, data) for t, data in self.sent if t <= t_ns]


class Desk:
    """A look-alike to talk to; each message has a second."""

    def __init__(self, personality: Personality, *, timing: Timing | None = None) -> None:
        unit = Keithley2400(OhmicLoad(1e6), noise=False, timing=timing or Timing.zero())
        self.device = LookAlike(unit, personality)
        self.tray = Tray()
        self.device.attach(self.tray)
        self.now_ns = 0

    def say(self, *messages: str) -> bytes:
        start = len(self.tray.sent)
        for message in messages:
            self.device.receive(self.now_ns, message.encode() + b"\n")
        self.now_ns += 1_000 * MS
        self.device.advance(self.now_ns)
        return b"".join(data for _, data in self.tray.sent[start:])


SAMPLE = ("*IDN?", "*ESE 7;*ESE?", ":SENS:CURR:PROT 1e-4;PROT?;RANG?;:OUTP:SMOD?", "NONSENSE", ":SYST:ERR?", ":OUTP?")


def test_without_a_trait_it_is_the_2400_byte_for_byte() -> None:
    plain = Desk(Personality())
    unit = Keithley2400(OhmicLoad(1e6), noise=False, timing=Timing.zero())
    tray = Tray()
    unit.attach(tray)
    for n, message in enumerate((*SAMPLE, ":SOUR:VOLT -0.5;:OUTP ON", ":READ?", ":MEAS?")):
        before = len(tray.sent)
        unit.receive(n * 1_000 * MS, message.encode() + b"\n")
        unit.advance((n + 1) * 1_000 * MS)
        assert plain.say(message) == b"".join(data for _, data in tray.sent[before:]), message


def test_a_command_it_does_not_know_ends_its_message_with_an_error() -> None:
    desk = Desk(Personality(unknown=(":SENSe:CURRent:RANGe", ":SENSe:CURRent:RANGe?")))
    assert desk.say(":SENS:CURR:PROT?;RANG?;:OUTP:SMOD?") == b"+1.050000E-04\r"
    assert desk.say(":SYST:ERR?", ":SYST:ERR?") == b'-113,"Undefined header"\r0,"No error"\r'
    assert desk.say(":SENSE:CURRENT:RANGE 1e-3;:OUTP ON", ":OUTP?") == b"0\r"


def test_a_command_it_ignores_leaves_the_rest() -> None:
    desk = Desk(Personality(ignored=(":SENSe:CURRent:RANGe", ":SENSe:CURRent:RANGe?")))
    assert desk.say(":SENS:CURR:PROT?;RANG?;:OUTP:SMOD?") == b"+1.050000E-04;NORM\r"
    assert desk.say(":SENS:CURR:RANG?") == b""
    assert desk.say(":SYST:ERR?") == b'0,"No error"\r'


def test_acknowledgements_stand_where_they_are_said() -> None:
    assert Desk(Personality(acknowledge=b"OK")).say("*CLS", "*ESE 7;*ESE?", "*ESE?") == b"OK\r7\r7\r"
    assert Desk(Personality(acknowledge=b"OK", acknowledge_all=True)).say("*CLS", "*ESE?") == b"OK\r0\rOK\r"
    first = Personality(acknowledge=b"OK", acknowledge_all=True, acknowledge_first=True)
    assert Desk(first).say("*CLS", "*ESE?", "NONSENSE?") == b"OK\rOK\r0\rOK\r"


def test_an_acknowledgement_comes_when_its_command_is_done() -> None:
    desk = Desk(Personality(acknowledge=b"OK"), timing=Timing())
    desk.say(":SOUR:VOLT:RANG 2")
    began_ns = desk.now_ns
    desk.say(":SOUR:VOLT 1", "*ESE?")
    (done_ns, done), (answered_ns, _) = desk.tray.sent[-2:]
    assert done == b"OK\r"
    assert done_ns - began_ns == pytest.approx(7 * MS, abs=1000)
    assert answered_ns > done_ns


def test_echo_prompt_banner_and_deafness() -> None:
    assert Desk(Personality(echo=True)).say("*ESE?") == b"*ESE?\r0\r"
    assert Desk(Personality(prompt=b"> ")).say("*ESE?", "*ESE?") == b"0\r> 0\r> "
    assert Desk(Personality(banner=b"READY\r\n")).say("*ESE?", "*ESE?") == b"READY\r\n0\r0\r"
    assert Desk(Personality(deaf_first=2)).say("*ESE?", "*CLS", "*ESE?", "*ESE?") == b"0\r"
    assert Desk(Personality(shifted=True)).say("*ESE 7;*ESE?", ":OUTP?", ":OUTP?") == b"7\r0\r"
    assert Desk(Personality(separate_lines=True)).say("*ESE 7;*ESE?;:OUTP?") == b"7\r0\r"


@pytest.mark.parametrize(
    ("style", "text"),
    [
        (NumberStyle(), "-1.234568E-07"),
        (NumberStyle(3), "-1.235E-07"),
        (NumberStyle(6, 3), "-1.234568E-007"),
        (NumberStyle(6, 0), "-1.234568E-7"),
        (NumberStyle(4, 2, "e"), "-1.2346e-07"),
        (NumberStyle(12, fixed=True), "-0.000000123457"),
    ],
)
def test_styles_of_numbers(style: NumberStyle, text: str) -> None:
    assert style.write(-1.2345678e-7) == text
    assert style.write(1.2345678e-7) == "+" + text[1:]
    assert NumberStyle(plus="").write(1.0) == "1.000000E+00"
    assert NumberStyle(nan="NAN", overflow="INF").write(9.9e37) == "INF"
    assert NumberStyle(nan="NAN", overflow="INF").write(9.91e37) == "NAN"


def test_readings_and_settings_have_their_own_styles() -> None:
    desk = Desk(Personality(readings=NumberStyle(3), settings=NumberStyle(2), integer_status=True, gap=" "))
    desk.say(":FORM:ELEM VOLT,CURR,STAT", ":SENS:CURR:RANG 1e-4", ":SOUR:VOLT -1", ":OUTP ON")
    assert desk.say(":READ?") == b"-1.000E+00, -1.000E-06, 20484\r"
    assert desk.say(":SOUR:VOLT?") == b"-1.00E+00\r"
    desk = Desk(Personality(more_elements=True, nominal_ranges=True, words=((b"NORM", b"NORMAL"),)))
    desk.say(":FORM:ELEM VOLT,CURR,STAT", ":SENS:CURR:RANG 1e-4", ":SOUR:VOLT -1", ":OUTP ON")
    assert desk.say(":READ?").count(b",") == 4
    assert desk.say(":SENS:CURR:RANG?", ":OUTP:SMOD?") == b"+1.000000E-04\rNORMAL\r"


def test_late_replies_are_late_and_an_abort_drops_them() -> None:
    desk = Desk(Personality(delay_s=0.1))
    assert desk.say("*ESE?") == b"0\r"
    assert desk.tray.sent[-1][0] == 100 * MS
    desk.device.receive(desk.now_ns, b"*ESE?\n")
    desk.device.receive(desk.now_ns + 50 * MS, b"\x03")
    desk.now_ns += 50 * MS
    assert desk.say("*ESE 9;*ESE?") == b"9\r"


def test_an_abort_ends_what_runs_and_what_waits() -> None:
    desk = Desk(Personality(acknowledge=b"OK"), timing=Timing())
    desk.say(":SOUR:VOLT:RANG 2")
    desk.device.receive(desk.now_ns, b":SOUR:VOLT 1\n:SOUR:VOLT 2\n*ESE?\n\x03")
    assert desk.say("*ESE 9;*ESE?").endswith(b"9\r")
    assert desk.device.unit.settings.volt_source.level == 0.0


def test_the_output_is_the_2400s() -> None:
    desk = Desk(Personality())
    desk.say(":OUTP ON")
    assert desk.device.output_on
    desk.device.press_output_key(desk.now_ns)
    assert not desk.device.output_on


@pytest.mark.parametrize("bad", [{"delay_s": -0.1}, {"delay_s": 11.0}, {"delay_s": float("nan")}, {"deaf_first": -1}])
def test_a_personality_out_of_range_is_refused(bad: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must"):
        Personality(**bad)  # type: ignore[arg-type]


def test_unplugged_it_says_so() -> None:
    with pytest.raises(BenchFaultError, match="not plugged"):
        LookAlike(Keithley2400(OhmicLoad(1e6)), Personality()).wire.send(0, b"")


@given(st.lists(st.one_of(st.binary(max_size=40), st.sampled_from([m.encode() + b"\n" for m in SAMPLE])), max_size=8))
@settings(max_examples=60)
def test_no_bytes_make_it_raise(chunks: list[bytes]) -> None:
    desk = Desk(Personality(acknowledge=b"OK", echo=True, unknown=("*CLS",), ignored=(":OUTPut[:STATe]?",)))
    for chunk in chunks:
        desk.device.receive(desk.now_ns, chunk)
        desk.now_ns += MS
        desk.device.advance(desk.now_ns)
