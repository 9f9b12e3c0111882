"""What a command of the emulated 2400 is: its patterns, its parameters, its time and its action."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from typing import Final, TypeVar

from firmware_proto.keithley2400.status import OVERFLOW
from firmware_proto.scpi import Param, format_nr3, parse_bool, parse_choice, parse_integer, parse_number
from hil.devices.keithley2400.errors import OUT_OF_RANGE, RefusedError
from hil.devices.keithley2400.unit import Cost, Unit

Params = tuple[Param, ...]
Action = Callable[[Unit, Params], str | None]
"""Acts at once and returns the reply, if any. Raises RefusedError or ScpiError, leaving everything as it was."""
LongAction = Callable[[Unit, Params], Generator[int, None, str | None]]
"""The same, for what takes time of its own: yields durations in ns."""

_T = TypeVar("_T")

MAX_LIST: Final = 5
"""Most items in the lists of ``:FORM:ELEM`` and ``:SENS:FUNC``."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One command or one query. The action runs when ``cost`` is over; exactly one of the two actions is given."""

    act: Action | None = None
    long: LongAction | None = None
    cost: Cost = Cost.SET
    least: int = 0
    most: int = 0


Entries = list[tuple[str, Entry]]


def command(pattern: str, act: Action, *, least: int = 0, most: int | None = None, cost: Cost = Cost.SET) -> Entries:
    """Return a command with ``least..most`` parameters (``most`` as many as ``least`` if not given)."""
    return [(pattern, Entry(act, None, cost, least, least if most is None else most))]


def query(pattern: str, reply: Callable[[Unit], str]) -> Entries:
    """Return a query without parameters; ``pattern`` is given without its question mark."""

    def act(unit: Unit, _params: Params) -> str:
        return reply(unit)

    return [(pattern + "?", Entry(act, None, Cost.QUERY))]


def number(
    pattern: str,
    get: Callable[[Unit], float],
    put: Callable[[Unit, float], None],
    *,
    low: float,
    high: float,
    default: float,
    cost: Cost = Cost.SET,
    extra: Mapping[str, Callable[[Unit], float]] | None = None,
) -> Entries:
    """Return the command and the query of a number in ``low..high``, with DEF, MIN and MAX for both.

    ``extra`` are further words for the command, computed when it is executed.
    """
    bounds = {"DEFault": default, "MINimum": low, "MAXimum": high}

    def set_it(unit: Unit, params: Params) -> None:
        words = bounds if extra is None else bounds | {word: value(unit) for word, value in extra.items()}
        value = parse_number(params[0], words)
        if not low <= value <= high:
            raise RefusedError(OUT_OF_RANGE)
        put(unit, value)

    def get_it(unit: Unit, params: Params) -> str:
        return format_nr3(parse_choice(params[0], bounds) if params else get(unit))

    return [(pattern, Entry(set_it, None, cost, 1, 1)), (pattern + "?", Entry(get_it, None, Cost.QUERY, 0, 1))]


def integer(
    pattern: str,
    get: Callable[[Unit], float],
    put: Callable[[Unit, float], None],
    *,
    low: int,
    high: int,
    default: int,
    infinite: bool = False,
) -> Entries:
    """Return the command and the query of an integer in ``low..high``, also INF (sent as +9.9E37) if ``infinite``."""
    bounds: dict[str, float] = {"DEFault": default, "MINimum": low, "MAXimum": high}

    def set_it(unit: Unit, params: Params) -> None:
        if infinite and parse_number(params[0], bounds | {"INFinity": OVERFLOW}) >= OVERFLOW:
            put(unit, float("inf"))
            return
        put(unit, parse_integer(params[0], low, high, bounds))

    def get_it(unit: Unit, params: Params) -> str:
        value = parse_choice(params[0], bounds) if params else get(unit)
        return format_nr3(OVERFLOW) if value > high else str(int(value))

    return [(pattern, Entry(set_it, None, Cost.SET, 1, 1)), (pattern + "?", Entry(get_it, None, Cost.QUERY, 0, 1))]


def boolean(pattern: str, get: Callable[[Unit], bool], put: Callable[[Unit, bool], None]) -> Entries:
    """Return the command and the query of a boolean."""

    def set_it(unit: Unit, params: Params) -> None:
        put(unit, parse_bool(params[0]))

    return command(pattern, set_it, least=1) + query(pattern, lambda unit: "1" if get(unit) else "0")


def choice(
    pattern: str, choices: Mapping[str, _T], get: Callable[[Unit], str], put: Callable[[Unit, _T], None]
) -> Entries:
    """Return the command and the query of one word out of ``choices``; ``get`` returns the short form."""

    def set_it(unit: Unit, params: Params) -> None:
        put(unit, parse_choice(params[0], choices))

    return command(pattern, set_it, least=1) + query(pattern, get)


def boolean_words(
    pattern: str, words: tuple[str, str], get: Callable[[Unit], bool], put: Callable[[Unit, bool], None]
) -> Entries:
    """Return the command and the query of a setting with two words, that of False first; replies are short forms."""
    shorts = tuple("".join(letter for letter in word if not letter.islower()) for word in words)
    choices = {words[0]: False, words[1]: True}
    return choice(pattern, choices, lambda unit: shorts[get(unit)], put)


_PATTERN_FORMATS: Final[dict[str, Callable[[int], str]]] = {
    "ASC": str,
    "HEX": lambda value: f"#H{value:X}",
    "OCT": lambda value: f"#Q{value:o}",
    "BIN": lambda value: f"#B{value:b}",
}


def format_pattern(unit: Unit, value: int) -> str:
    """Return a pattern of the digital output as ``:FORM:SOUR2`` selects (User's Manual 18-53)."""
    return _PATTERN_FORMATS[unit.settings.pattern_format](value)


def pattern_setting(pattern: str, get: Callable[[Unit], int], put: Callable[[Unit, int], None]) -> Entries:
    """Return the command and the query of a pattern for the digital output; -222 above what its lines can show."""

    def set_it(unit: Unit, params: Params) -> None:
        put(unit, parse_integer(params[0], 0, unit.settings.digital.mask))

    return command(pattern, set_it, least=1) + query(pattern, lambda unit: format_pattern(unit, get(unit)))
