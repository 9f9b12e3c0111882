"""The part of a rig profile that makes the emulated 2400 this rig's 2400 and not any.

``tipguard commission`` measures a rig and writes ``rig-profile.json``. The emulator reads from it:

====================  ==========================================================================================
``v``                 1, the version of this layout
``serial_number``     1 to 16 letters and digits
``firmware``          what ``*IDN?`` sends behind the serial number, printable ASCII
``terminator``        CR, LF, CRLF or LFCR
``line_freq_hz``      40 to 440
``abort_s``           from an abort to the next command being executed, 0 to 60 s
``abort_swallow_s``   how long bytes behind an abort are lost, 0 to 0.02 s
``timing_s``          times in s under the names of :class:`hil.devices.keithley2400.timing.Timing`
``current``           a list of ``{"range_a", "nplc", "offset_a", "sigma_a"}``: nominal range in A, integration time in
                      line cycles, mean and standard deviation of a reading at 0 A, in A; ``n`` is not looked at
====================  ==========================================================================================

Every key may be absent but ``v``: what was not measured keeps its default. The other keys of a profile
(:data:`NOT_READ`) are about the path and the controller, not about the instrument; they are allowed and not looked at.
Any other key is an error.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

from firmware_proto.keithley2400.status import CURRENT_RANGES_A
from hil.devices.keithley2400.timing import LONGEST_S, Timing
from hil.errors import BenchOptionError

VERSION: Final = 1
TERMINATORS: Final = {"CR": b"\r", "LF": b"\n", "CRLF": b"\r\n", "LFCR": b"\n\r"}
"""What the 2400 can end its replies with (User's Manual 14-13 to 14-17)."""
NOT_READ: Final = frozenset(
    {
        "baud",
        "sign",
        "series_ohm",
        "sample_period_s",
        "check_period_s",
        "cut_latency_s",
        "measured_utc",
        "tipguard",
    }
)
"""Keys of a rig profile that say nothing about the instrument."""
MAX_SWALLOW_S: Final = 0.020
_FIRMWARE_CHARS: Final = 64
_MAX_ERROR_A: Final = 1.0


class ConverterError(NamedTuple):
    """Offset and standard deviation of a current reading in A, on a nominal range in A at an integration time."""

    range_a: float
    nplc: float
    offset_a: float
    sigma_a: float


class ConverterErrors:
    """What was measured, by range; between the measured integration times the nearest one counts, on a log scale."""

    def __init__(self, measured: Iterable[ConverterError]) -> None:
        """Sort by range."""
        self._by_range: dict[float, list[ConverterError]] = {}
        for one in measured:
            self._by_range.setdefault(one.range_a, []).append(one)
        self._found: dict[tuple[float, float], ConverterError | None] = {}

    def offset_a(self, range_a: float, nplc: float) -> float:
        """Return the offset in A; 0 on a range that was not measured."""
        found = self._nearest(range_a, nplc)
        return 0.0 if found is None else found.offset_a

    def sigma_a(self, range_a: float, nplc: float) -> float | None:
        """Return the standard deviation in A, or None on a range that was not measured."""
        found = self._nearest(range_a, nplc)
        return None if found is None else found.sigma_a

    def _nearest(self, range_a: float, nplc: float) -> ConverterError | None:
        key = range_a, nplc
        if key not in self._found:
            if len(self._found) >= _REMEMBERED:
                self._found.clear()
            known = self._by_range.get(range_a, [])
            self._found[key] = min(known, key=lambda one: abs(math.log(one.nplc / nplc)), default=None)
        return self._found[key]


_REMEMBERED: Final = 256


@dataclass(frozen=True, slots=True)
class Profile:
    """What a profile says of the instrument; None where it says nothing."""

    serial_number: str | None = None
    firmware: str | None = None
    terminator: str | None = None
    line_freq_hz: float | None = None
    abort_swallow_s: float = 0.0
    timing: Timing = dataclasses.field(default_factory=Timing)
    current: tuple[ConverterError, ...] = ()

    @property
    def converter(self) -> ConverterErrors | None:
        """The converter's errors, or None where none were measured."""
        return ConverterErrors(self.current) if self.current else None


def load_profile(path: Path) -> Profile:
    """Read a profile; raises BenchOptionError naming file, key, value and what is wanted."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise BenchOptionError(f"--profile {path}: cannot be read: {reason}") from error
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BenchOptionError(f"--profile {path}: not JSON: {error}") from error
    return parse_profile(data, str(path))


def parse_profile(data: object, name: str) -> Profile:
    """Return what ``data``, the parsed JSON, says; ``name`` stands in the errors. Raises BenchOptionError."""
    top = _object(data, name, "profile")
    for key in top:
        if key not in _READERS and key not in NOT_READ and key not in {"v", "timing_s", "abort_s", "current"}:
            known = ", ".join(sorted({*_READERS, "v", "timing_s", "abort_s", "current"}))
            raise BenchOptionError(f"--profile {name}: {key}: unknown key; want one of {known}")
    if top.get("v") != VERSION or isinstance(top.get("v"), bool):
        raise _bad(name, "v", top.get("v"), str(VERSION))
    found = {key: read(name, key, top[key]) for key, read in _READERS.items() if key in top}
    return dataclasses.replace(
        Profile(timing=_timing(top, name), current=_current(top.get("current", []), name)),
        **found,  # type: ignore[arg-type] # each reader returns what its field holds
    )


def _bad(name: str, key: str, value: object, wanted: str) -> BenchOptionError:
    return BenchOptionError(f"--profile {name}: {key}: {value!r}: want {wanted}")


def _object(value: object, name: str, key: str) -> dict[str, object]:
    if not isinstance(value, dict):
        raise _bad(name, key, value, "an object")
    return value


def _number(low: float, high: float, what: str) -> Callable[[str, str, object], float]:
    def read(name: str, key: str, value: object) -> float:
        good = isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high
        if not good:
            raise _bad(name, key, value, f"{what} from {low:g} to {high:g}")
        return float(value)  # type: ignore[arg-type] # it is a number

    return read


def _serial(name: str, key: str, value: object) -> str:
    if not (isinstance(value, str) and value.isascii() and value.isalnum() and len(value) <= 16):
        raise _bad(name, key, value, "1 to 16 letters and digits")
    return value


def _firmware(name: str, key: str, value: object) -> str:
    if not is_firmware(value):
        raise _bad(name, key, value, f"1 to {_FIRMWARE_CHARS} characters of printable ASCII")
    return str(value)


def is_firmware(value: object) -> bool:
    """Return whether something can stand behind the serial number in a reply to ``*IDN?``."""
    return isinstance(value, str) and value.isascii() and value.isprintable() and 0 < len(value) <= _FIRMWARE_CHARS


def _terminator(name: str, key: str, value: object) -> str:
    if not isinstance(value, str) or value not in TERMINATORS:
        raise _bad(name, key, value, f"one of {', '.join(TERMINATORS)}")
    return value


_READERS: Final[dict[str, Callable[[str, str, object], str | float]]] = {
    "serial_number": _serial,
    "firmware": _firmware,
    "terminator": _terminator,
    "line_freq_hz": _number(40.0, 440.0, "a frequency in Hz"),
    "abort_swallow_s": _number(0.0, MAX_SWALLOW_S, "a time in s"),
}


def _timing(top: dict[str, object], name: str) -> Timing:
    read = _number(0.0, LONGEST_S, "a time in s")
    known = {field.name for field in dataclasses.fields(Timing)}
    times: dict[str, float] = {}
    for key, value in _object(top.get("timing_s", {}), name, "timing_s").items():
        if key not in known:
            wanted = ", ".join(sorted(known))
            raise BenchOptionError(f"--profile {name}: timing_s.{key}: unknown key; want one of {wanted}")
        times[key] = read(name, f"timing_s.{key}", value)
    if "abort_s" in top:
        times["abort_s"] = read(name, "abort_s", top["abort_s"])
    return Timing(**times)


_CURRENT: Final[dict[str, Callable[[str, str, object], float]]] = {
    "range_a": _number(1e-6, 1.0, "a nominal range in A"),
    "nplc": _number(0.01, 10.0, "line cycles"),
    "offset_a": _number(-_MAX_ERROR_A, _MAX_ERROR_A, "a current in A"),
    "sigma_a": _number(0.0, _MAX_ERROR_A, "a current in A"),
}


def _current(value: object, name: str) -> tuple[ConverterError, ...]:
    if not isinstance(value, list):
        raise _bad(name, "current", value, "a list of objects")
    found = []
    for index, entry in enumerate(value):
        at = f"current[{index}]"
        fields = _object(entry, name, at)
        # How many readings it was taken from is for people.
        if set(fields) - {"n"} != set(_CURRENT):
            raise _bad(name, at, sorted(fields), f"the keys {', '.join(_CURRENT)}")
        read = {key: number(name, f"{at}.{key}", fields[key]) for key, number in _CURRENT.items()}
        nominal = next((known for known in CURRENT_RANGES_A if math.isclose(known, read["range_a"])), None)
        if nominal is None:
            wanted = ", ".join(f"{known:g}" for known in CURRENT_RANGES_A)
            raise _bad(name, f"{at}.range_a", fields["range_a"], f"one of {wanted}")
        found.append(ConverterError(nominal, read["nplc"], read["offset_a"], read["sigma_a"]))
    pairs = [(one.range_a, one.nplc) for one in found]
    if twice := next((pair for index, pair in enumerate(pairs) if pair in pairs[:index]), None):
        raise _bad(name, "current", twice, "every pair of range_a and nplc once")
    return tuple(found)
