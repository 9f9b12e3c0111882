"""Limit tests, relative readings and the digital output of the emulated 2400 (CALC2, SOUR2).

Sources: User's Manual section 12, 18-34 to 18-42 (CALC2), 18-50 to 18-52 (status word), 18-98 to 18-101 (SOUR2).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from firmware_proto.keithley2400.status import StatusWord

BANDS: Final = (2, 3, 5, 6, 7, 8, 9, 10, 11, 12)
"""Numbers of the limit tests with an upper and a lower bound, in the order they are made; 4 is contact check."""
MAX_LIMIT: Final = 9.999999e20
_SPECIAL: Final = 9.8e37
"""Above this a value is an overflow or not a number."""
_IN_COMPLIANCE: Final = int(StatusWord.COMPLIANCE | StatusWord.RANGE_COMPLIANCE)

# Bits of the measurement event register (15-13).
_L1, _PASS = 1 << 0, 1 << 5
_BAND_BITS: Final = {(2, False): 1 << 1, (2, True): 1 << 2, (3, False): 1 << 3, (3, True): 1 << 4}
MEASUREMENT_BITS: Final = 0b111111
"""All that limit tests drive in the measurement event register."""
_SORT_NONE: Final = 0b11111


@dataclass(slots=True)
class Band:
    """One of the limit tests 2, 3 and 5 to 12; patterns are for the digital output."""

    upper: float = 1.0
    lower: float = -1.0
    on: bool = False
    upper_pattern: int = 15
    lower_pattern: int = 15
    pass_pattern: int = 15


@dataclass(slots=True)
class Calc2:
    """Settings of CALC2. ``immediate`` is ``:CLIM:BCON IMM``; ``math_on`` and ``math_name`` belong to CALC1."""

    feed: str = "VOLT"
    null_offset: float = 0.0
    null_on: bool = False
    compliance_on: bool = False
    fails_in_compliance: bool = True
    compliance_pattern: int = 15
    bands: dict[int, Band] = field(default_factory=lambda: {number: Band() for number in BANDS})
    auto_clear: bool = True
    pass_pattern: int = 15
    fail_pattern: int = 15
    immediate: bool = True
    sorting: bool = False
    math_on: bool = False
    math_name: str = "POWER"
    active: bool = False
    """Whether a reading has to be judged at all; kept by :meth:`refresh`."""

    def refresh(self) -> None:
        """Note whether anything is switched on; called by everything that switches."""
        self.active = self.tests or self.null_on or self.math_on

    @property
    def tests(self) -> bool:
        """Whether a limit test is enabled."""
        return self.compliance_on or any(band.on for band in self.bands.values())

    def disable(self) -> None:
        """Switch off every calculation, as ``:CONF`` does (17-3)."""
        self.null_on = self.compliance_on = self.math_on = False
        for band in self.bands.values():
            band.on = False
        self.refresh()


@dataclass(slots=True)
class Digital:
    """Settings of the digital output: default pattern, number of lines, pulse instead of level."""

    pattern: int = 15
    bits: int = 4
    auto_clear: bool = False
    pulse_s: float = 0.0001
    busy: bool = False
    busy_high: bool = False

    @property
    def mask(self) -> int:
        """The largest pattern."""
        return (1 << self.bits) - 1


class Verdict(NamedTuple):
    """What the tests make of one reading."""

    value: float
    """What was judged: the feed, less the null offset. 9.91E37 where nothing is enabled."""
    status: int
    """Bits to add to the status word."""
    measurement: int
    """Bits of the measurement event register."""
    pattern: int | None
    """What goes to the digital output, or None while nothing has failed."""
    failed: tuple[int, ...]
    """Numbers of the tests that failed."""


def judge(calc2: Calc2, feed: float, status: int) -> Verdict:
    """Judge one reading by its fed value and its status word.

    An overflow and a value that was not measured are above every upper limit, because they are sent as such numbers.
    """
    value = feed - calc2.null_offset if calc2.null_on and abs(feed) < _SPECIAL else feed
    bits = int(StatusWord.NULL) if calc2.null_on else 0
    if calc2.math_on:
        bits |= int(StatusWord.MATH)
    if not calc2.tests:
        return Verdict(value, bits, 0, None, ())
    bits |= int(StatusWord.LIMITS)
    compliance_failed = calc2.compliance_on and bool(status & _IN_COMPLIANCE) == calc2.fails_in_compliance
    failed: dict[int, bool] = {}
    for number, band in calc2.bands.items():
        if band.on and not band.lower <= value <= band.upper:
            failed[number] = value > band.upper
    numbers = (1, *failed) if compliance_failed else tuple(failed)
    decide = _sort if calc2.sorting else _grade
    code, measurement, pattern = decide(calc2, failed, compliance_failed=compliance_failed)
    return Verdict(value, bits | _status_bits(code), measurement, pattern, numbers)


def _grade(calc2: Calc2, failed: dict[int, bool], *, compliance_failed: bool) -> tuple[int, int, int | None]:
    """Return code, measurement bits and pattern of grading: the first failure counts."""
    if compliance_failed:
        return 1, _L1, calc2.compliance_pattern
    if not failed:
        return 0, _PASS, None
    number, high = next(iter(failed.items()))
    band = calc2.bands[number]
    pattern = band.upper_pattern if high else band.lower_pattern
    return _code(number) | (high << 4), _BAND_BITS.get((number, high), 0), pattern


def _sort(calc2: Calc2, failed: dict[int, bool], *, compliance_failed: bool) -> tuple[int, int, int | None]:
    """Return the same of sorting: the first band that holds the value counts."""
    if compliance_failed:
        return 1, _L1, calc2.compliance_pattern
    enabled = [number for number, band in calc2.bands.items() if band.on]
    if not enabled:
        return 0, _PASS, calc2.pass_pattern
    for number in enabled:
        if number not in failed:
            return _code(number), _PASS, calc2.bands[number].pass_pattern
    return _SORT_NONE, 0, calc2.fail_pattern


def _code(number: int) -> int:
    # Limit 4, contact check, has 5; limit 5 takes its place (18-51).
    return 4 if number == 5 else number


def _status_bits(code: int) -> int:
    """Spread a code of five bits over bits 8, 9, 19, 20 and 21 of the status word."""
    return (code & 0b11) << 8 | (code >> 2 & 0b111) << 19


class LimitState:
    """What the tests of an acquisition have come to, and the lines of the digital output."""

    def __init__(self, digital: Callable[[], Digital]) -> None:
        """Begin with nothing failed; ``digital`` gives the present settings."""
        self._digital = digital
        self._pattern: int | None = None
        self._until_ns: int | None = None
        self._decided: int | None = None
        self.failed: set[int] = set()

    def clear(self) -> None:
        """Forget results and put the lines back to their default pattern."""
        self.failed.clear()
        self._decided = None
        self.release()

    def release(self) -> None:
        """Put the lines back to the pattern of ``:SOUR2:TTL``."""
        self._pattern = self._until_ns = None

    def take(self, verdict: Verdict, now_ns: int, *, immediate: bool) -> None:
        """Keep one verdict; with ``immediate`` the first decisive one goes to the lines at once."""
        self.failed.update(verdict.failed)
        if self._decided is None and verdict.pattern is not None:
            self._decided = verdict.pattern
            if immediate:
                self._drive(verdict.pattern, now_ns)

    def finish(self, now_ns: int, pass_pattern: int) -> None:
        """End an acquisition: the first failure, or the pass pattern, goes to the lines."""
        self._drive(pass_pattern if self._decided is None else self._decided, now_ns)

    def _drive(self, pattern: int, now_ns: int) -> None:
        digital = self._digital()
        self._pattern = pattern
        self._until_ns = now_ns + round(digital.pulse_s * 1e9) if digital.auto_clear else None

    def lines(self, now_ns: int) -> int:
        """Return what stands at the digital output now."""
        digital = self._digital()
        over = self._until_ns is not None and now_ns >= self._until_ns
        pattern = digital.pattern if self._pattern is None or over else self._pattern
        return pattern & digital.mask
