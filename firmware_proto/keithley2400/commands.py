"""Messages to a Keithley 2400, each with its terminator, ready for the wire.

Every level and limit is written in fixed point, never with an exponent, and rounded towards zero: whatever prefix of
a message reaches the instrument, the number it holds is never larger in magnitude than the one that was meant. A
cut-off `1.0E-3` would be `1.0`, a thousand times the limit; a cut-off `0.001000` is `0.00`, which is refused.

Sources: 2400 Series SourceMeter User's Manual 2400S-900-01, sections 9, 13, 14, 17 and 18.
"""

from __future__ import annotations

import decimal
import math
from typing import Final

from firmware_proto.errors import LocalProtocolError
from firmware_proto.keithley2400.status import OutputOff

TERMINATOR: Final = b"\n"
MAX_ENERGISED_BYTES: Final = 36
"""Longest write, terminators included, that may be unsent while the output is on: 6.3 ms at 57600 baud."""
ABORT: Final = {"ctrl-c": b"\x03", "ctrl-x": b"\x18"}

READ: Final = b":READ?\n"
OUTPUT_ON: Final = b":OUTP ON;:OUTP?\n"
"""Switches on and asks, in one message, so that nothing else is sent before its reply was looked at."""
OUTPUT_OFF: Final = b":OUTP OFF\n"
ZERO: Final = b":SOUR:VOLT 0\n"
LIMIT_QUERY: Final = b":SENS:CURR:PROT?\n"
RANGE_QUERY: Final = b":SENS:CURR:RANG?\n"
OFF_MODE_QUERY: Final = b":OUTP:SMOD?\n"
IDENTIFY: Final = b"*IDN?\n"
OUTPUT_QUERY: Final = b":OUTP?\n"
LINE_ENABLES: Final = b":OUTP:ENAB ON\n"
"""From here on the output enable line (pin 8 of the digital port) switches the output off when it is open; ``*RST``
ends that (manual 13-6, 18-56)."""
LINE_ENABLES_QUERY: Final = b":OUTP:ENAB?\n"
LINE_QUERY: Final = b":OUTP:ENAB:TRIP?\n"
"""1: the line is closed, the source can be turned on (manual 18-56)."""
ERROR_QUERY: Final = b":SYST:ERR?\n"
EVENT_STATUS: Final = b"*ESR?\n"
"""Standard event register; reading clears it."""
RELEASE_PANEL: Final = b":DISP:ENAB ON\n:SYST:RWL OFF\n:SYST:LOC\n"
"""Display and keys back to the person at the panel; changes no output."""

_LEVEL_STEP = decimal.Decimal("0.0001")
_LIMIT_STEP = decimal.Decimal("0.000000001")
_LEAST_LIMIT_A = 1e-9


def _fixed(value: float, step: decimal.Decimal, what: str, bound: float) -> str:
    if not math.isfinite(value) or abs(value) > bound:
        raise LocalProtocolError(f"{what} must be a finite number up to {bound:g} in magnitude, not {value!r}")
    # float(): whole numbers and numpy's scalars have other reprs.
    text = decimal.Decimal(repr(float(value))).quantize(step, rounding=decimal.ROUND_DOWN)
    # "f": str() of a decimal below 1e-6 has an exponent.
    return format(abs(text) if text == 0 else text, "f")


def level(bias_v: float) -> str:
    """Write a source level in volts: -210..210, four decimals, rounded towards zero.

    The zeros at the end cost up to 0.7 ms and stay: ``-0.5`` whose point is lost on the line is -5 V, and done;
    ``-0.5000`` is -5000 V, and refused.
    """
    return _fixed(bias_v, _LEVEL_STEP, "a source level in V", 210.0)


def level_and_read(bias_v: float) -> bytes:
    """Return one ramp point for one write: set the level, then take and send one reading. At most 27 bytes for +-10 V.

    Two lines: the instrument works on the level while ``:READ?`` is still on the wire. A damaged level line is refused
    by itself, and the reading behind it says the old level.
    """
    return b":SOUR:VOLT " + level(bias_v).encode() + b"\n:READ?\n"


def set_level(bias_v: float) -> bytes:
    """Return the message that sets a level without reading."""
    return b":SOUR:VOLT " + level(bias_v).encode() + TERMINATOR


def tagged_query(tag: int) -> bytes:
    """Return the query that proves a cut: programmed level, the echo of ``tag`` (1-255), output state.

    The tag travels through the event-status-enable register, which nothing here uses otherwise; a reply without it
    answers an older question. The level is asked first: what an aborted reply left on the wire joins the front of
    this one's line, and there a signed number tells where the junk ends, while digits would become part of a tag.
    """
    if not 1 <= tag <= 255:
        raise LocalProtocolError(f"a tag must be 1..255, not {tag!r}")
    return b"*ESE %d;:SOUR:VOLT?;*ESE?;:OUTP?\n" % tag


def _limit(value: float, what: str) -> bytes:
    if not value >= _LEAST_LIMIT_A:
        raise LocalProtocolError(f"{what} must be at least {_LEAST_LIMIT_A:g}, not {value!r}")
    return _fixed(value, _LIMIT_STEP, what, 1.05).encode()


def configure(
    *,
    source_range_v: float,
    sense_range_a: float,
    protection_a: float,
    nplc: float,
    autozero: bool,
    output_off: OutputOff,
    source_delay_s: float = 0.0005,
    rear_terminals: bool = False,
) -> tuple[bytes, ...]:
    """Return the set-up for sourcing volts and measuring amperes, one command a message, output off throughout.

    ``source_range_v``: 0.2..200. ``sense_range_a``: fixed measure range, 1e-6..1. ``protection_a``: compliance in A.
    ``nplc``: 0.01..10 power-line cycles. ``source_delay_s``: 0..1, between a level change and its aperture, for the
    cable's charging current to pass. Autorange ends off everywhere. The caller reads back what matters.
    """
    if not 0.01 <= nplc <= 10:
        raise LocalProtocolError(f"nplc must be 0.01..10, not {nplc!r}")
    source_range = _fixed(source_range_v, decimal.Decimal("0.1"), "a source range in V", 210.0).encode()
    if not 0 <= source_delay_s <= 1:
        raise LocalProtocolError(f"a source delay must be 0..1 s, not {source_delay_s!r}")
    delay = _fixed(source_delay_s, _LEVEL_STEP, "a source delay in s", 1.0).encode()
    speed = _fixed(nplc, decimal.Decimal("0.01"), "nplc", 10.0).encode()
    return tuple(
        line + TERMINATOR
        for line in (
            b"*CLS",
            b"*RST",
            b":OUTP OFF",
            b":SYST:BEEP:STAT OFF",
            b":FORM:ELEM VOLT,CURR,STAT",
            b":ROUT:TERM REAR" if rear_terminals else b":ROUT:TERM FRON",
            b":SYST:RSEN OFF",
            b":OUTP:SMOD " + output_off.value.encode(),
            b":SOUR:FUNC VOLT",
            b":SOUR:VOLT:MODE FIX",
            b":SOUR:VOLT:RANG " + source_range,
            b":SOUR:VOLT 0",
            b":SOUR:DEL " + delay,
            b":SOUR:CLE:AUTO OFF",
            b":SENS:FUNC:CONC OFF",
            b":SENS:FUNC 'CURR'",
            # A measure range above the compliance range is refused (+824; manual 18-62, note 3), and so is a compliance
            # below 0.1 % of the measure range (+822). *RST leaves 105 uA on autorange: the compliance is opened to the
            # range first, the output being off, and then closed to what was asked for, which may be a lower range's.
            b":SENS:CURR:PROT " + _limit(sense_range_a, "a measure range in A"),
            b":SENS:CURR:RANG " + _limit(sense_range_a, "a measure range in A"),
            b":SENS:CURR:PROT " + _limit(protection_a, "a current protection in A"),
            b":SENS:CURR:NPLC " + speed,
            b":SENS:AVER OFF",
            b":SYST:AZER ON" if autozero else b":SYST:AZER OFF",
            b":TRIG:DEL 0",
            b":ARM:COUN 1",
            b":TRIG:COUN 1",
            b":DISP:ENAB OFF",
            b":SYST:RWL ON",
        )
    )


READBACKS: Final = (
    LIMIT_QUERY,
    RANGE_QUERY,
    b":SENS:CURR:RANG:AUTO?\n",
    OFF_MODE_QUERY,
    b":SOUR:FUNC?\n",
    b":SOUR:VOLT?\n",
    b":SOUR:VOLT:RANG?\n",
    b":SENS:CURR:NPLC?\n",
    b":FORM:ELEM?\n",
    b":ARM:COUN?\n",
    b":TRIG:COUN?\n",
    b":OUTP?\n",
)
"""What :func:`configure` set and a run depends on, one query a message, judged before anything is energised."""

ONCE_READ_BACK: Final = (
    b":SYST:RSEN?\n",
    b":ROUT:TERM?\n",
    b":SOUR:CLE:AUTO?\n",
    b":SENS:AVER?\n",
    b":SYST:AZER?\n",
)
"""What a unit might ignore in silence: looked at once in a life, as far as the unit knows the question."""
