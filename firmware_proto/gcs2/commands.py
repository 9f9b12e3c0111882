"""Messages to a PI controller that speaks GCS 2.0, ready for the wire. Positions in the controller's own unit.

A command acts when its line feed arrives, so a line cut short does nothing by itself; what follows completes it. Two
rules come from that. Nothing here ever sends a bare line feed, as one does to clear a SCPI line: it would execute the
beginning of a move. And numbers are fixed point, without exponents, without digits that say nothing, rounded towards
zero: a prefix of a target is never larger in magnitude than the target. It is another position nevertheless, as is a
target that lost a digit in the middle, so a target counts only once ``MOV?`` has read it back.

Sources: PI user manual MS249E (C-863.12, 1.2.1), section 8; E727T0005 (E-727). docs/stage.md says what else.
"""

from __future__ import annotations

import decimal
import math
import re
from collections.abc import Iterable, Mapping
from typing import Final

from firmware_proto.errors import LocalProtocolError

MAX_AXIS_ID: Final = 16
"""Characters of an axis identifier: letters, digits, underscore (MS249E p. 116)."""
MAX_ITEMS: Final = 16
"""Axes or channels in one message."""
MAX_DECIMALS: Final = 9
DECIMALS: Final = 4
"""Default decimals of a target: 0.1 nm where the unit is a micrometre, below what any such stage resolves."""
MAX_MAGNITUDE: Final = 1e9

IDENTIFY: Final = b"*IDN?\n"
AXES: Final = b"SAI?\n"
HELP: Final = b"HLP?\n"
ERROR: Final = b"ERR?\n"
STOP: Final = b"STP\n"
"""Stops all axes abruptly; ``ERR?`` is 10 afterwards."""
ANALOG_COUNT: Final = b"TAC?\n"

# Single bytes have no line feed, and are answered while the controller is busy; their replies do end with one.
POSITIONS_NOW: Final = b"\x03"
STATUS_REGISTER: Final = b"\x04"
MOTION: Final = b"\x05"
READY: Final = b"\x07"
WAVE_GENERATOR: Final = b"\x09"
STOP_ALL: Final = b"\x18"
"""#24: stops everything at once and has no reply. On a Keithley 2400 the same byte is ^X: never share a writer."""

_ITEM: Final = re.compile(r"[A-Za-z0-9_]{1,16}")
_QUERY: Final = re.compile(r"[A-Z]{3}\?")


def is_item(text: str) -> bool:
    """Tell whether ``text`` can name an axis or a channel."""
    return _ITEM.fullmatch(text) is not None


def _items(items: Iterable[str]) -> list[str]:
    names = list(items)
    if len(names) > MAX_ITEMS or len(set(names)) != len(names) or not all(is_item(name) for name in names):
        raise LocalProtocolError(
            f"items must be up to {MAX_ITEMS} different names of 1..{MAX_AXIS_ID} letters, digits or underscores, "
            f"not {names!r}"
        )
    return names


def fixed(value: float, decimals: int = DECIMALS) -> str:
    """Write a number in fixed point, rounded towards zero, without trailing zeros: ``12.5``, ``-0.0001``, ``100``.

    ``value``: finite, up to 1e9 in magnitude; ``decimals``: 0..9. Any prefix that is a number is not larger in
    magnitude. Raises LocalProtocolError outside these ranges.
    """
    if not 0 <= decimals <= MAX_DECIMALS:
        raise LocalProtocolError(f"decimals must be 0..{MAX_DECIMALS}, not {decimals!r}")
    if not math.isfinite(value) or abs(value) > MAX_MAGNITUDE:
        raise LocalProtocolError(f"a number must be finite and up to {MAX_MAGNITUDE:g} in magnitude, not {value!r}")
    # float(): whole numbers and numpy's scalars have other reprs.
    step = decimal.Decimal(1).scaleb(-decimals)
    number = decimal.Decimal(repr(float(value))).quantize(step, rounding=decimal.ROUND_DOWN)
    text = format(number, "f")
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


def query(mnemonic: str, items: Iterable[str] = ()) -> bytes:
    """Return a query such as ``POS? 1 2``; without items most controllers answer for all of theirs."""
    if _QUERY.fullmatch(mnemonic) is None:
        raise LocalProtocolError(f"a query is three capital letters and a question mark, not {mnemonic!r}")
    return _line(mnemonic, *_items(items))


def move(targets: Mapping[str, float], decimals: int = DECIMALS) -> bytes:
    """Return ``MOV`` to absolute targets, at least one axis; what it really says is :func:`fixed` of each."""
    return _pairs("MOV", {axis: fixed(target, decimals) for axis, target in targets.items()})


def velocity(velocities: Mapping[str, float], decimals: int = DECIMALS) -> bytes:
    """Return ``VEL``: velocities above 0, in units per second."""
    if any(not value > 0 for value in velocities.values()):
        raise LocalProtocolError(f"velocities must be above 0, not {dict(velocities)!r}")
    return _pairs("VEL", {axis: fixed(value, decimals) for axis, value in velocities.items()})


def servo(states: Mapping[str, bool]) -> bytes:
    """Return ``SVO``: closed loop on or off per axis."""
    return _pairs("SVO", {axis: "1" if on else "0" for axis, on in states.items()})


def reference(axes: Iterable[str]) -> bytes:
    """Return ``FRF``: a move to the reference switch, on controllers whose sensors are incremental. It moves."""
    return _line("FRF", *_some(axes))


def autozero(axes: Iterable[str]) -> bytes:
    """Return ``ATZ`` with the controller's own starting voltage (``NaN``). It moves the axis through its travel."""
    return _pairs("ATZ", dict.fromkeys(_some(axes), "NaN"))


def halt(axes: Iterable[str] = ()) -> bytes:
    """Return ``HLT``: decelerate and stop these axes, or all; ``ERR?`` is 10 afterwards."""
    return _line("HLT", *_items(axes))


def _some(items: Iterable[str]) -> list[str]:
    names = _items(items)
    if not names:
        raise LocalProtocolError("at least one axis is needed: without one the command would act on all")
    return names


def _pairs(mnemonic: str, values: Mapping[str, str]) -> bytes:
    words = [word for axis in _some(values) for word in (axis, values[axis])]
    return _line(mnemonic, *words)


def _line(*words: str) -> bytes:
    return " ".join(words).encode("ascii") + b"\n"
