"""Fault plans: TOML to checked values. Every mistake is one line that names file, key, value and expectation.

    seed = 7

    [[fault]]
    name = "cut short"
    kind = "truncate"
    to = "host"
    at_frame = 12

Exactly one trigger: ``at_byte``, ``at_frame``, ``at_sample``, ``at_s``, ``at_phase``, ``at_command`` or ``on_demand``.
:data:`hil.faults.kinds.KINDS` has the kinds and their parameters.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from hil.errors import BenchOptionError
from hil.faults.kinds import KINDS, Kind, Param, Value
from hil.faults.phases import PHASES

TRIGGERS: Final = ("at_byte", "at_frame", "at_sample", "at_s", "at_phase", "at_command", "on_demand")
PORTS: Final = ("smu", "stage", "frontend")
MAX_FAULTS: Final = 64
"""Faults in a plan."""
MAX_TIMES: Final = 10_000
_RECURRING: Final = ("at_phase", "at_command")
_COMMON: Final = ("name", "kind", "port", "to", *TRIGGERS, "nth", "after_s", "times")


@dataclass(frozen=True, slots=True)
class FaultSpec:
    """One fault. ``trigger`` is one of :data:`TRIGGERS`, ``at`` its value; ``params`` all of the kind's, defaults too.

    ``to``: "host" or "device" for kinds on the wire, else empty. ``times`` 0: from the trigger on for good.
    """

    name: str
    kind: str
    port: str
    to: str
    trigger: str
    at: Value
    nth: int = 1
    after_s: float = 0.0
    times: int = 1
    params: Mapping[str, Value] = field(default_factory=dict)

    def number(self, name: str) -> float:
        """Return a parameter that is a number."""
        return float(self.params[name])

    def whole(self, name: str) -> int:
        """Return a parameter that is an integer."""
        return int(self.params[name])

    def text(self, name: str) -> str:
        """Return a parameter that is a text."""
        return str(self.params[name])

    def flag(self, name: str) -> bool:
        """Return a parameter that is true or false."""
        return bool(self.params[name])


@dataclass(frozen=True, slots=True)
class FaultPlan:
    """Faults with different names, and the seed of what their kinds draw; ``source`` is where it came from."""

    faults: tuple[FaultSpec, ...] = ()
    seed: int = 0
    source: str = "plan"


def load_plan(path: Path) -> FaultPlan:
    """Read a plan; raises BenchOptionError."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise BenchOptionError(f"{path}: cannot be read ({why}); want a fault plan in TOML") from error
    return parse_plan(text, str(path))


def parse_plan(text: str, source: str = "plan") -> FaultPlan:
    """Read a plan from its text; ``source`` names it in errors. Raises BenchOptionError."""
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise BenchOptionError(f"{source}: not TOML: {error}") from error
    return plan_of(data, source)


def plan_of(data: Mapping[str, object], source: str = "plan") -> FaultPlan:
    """Check what a TOML file, or a table in one, says: ``seed`` and ``fault``. Raises BenchOptionError."""
    for key in data:
        if key not in ("seed", "fault"):
            raise BenchOptionError(f"{source}: {key}: unknown key; want seed and [[fault]]")
    seed = data.get("seed", 0)
    if not isinstance(seed, int) or isinstance(seed, bool) or not 0 <= seed < 2**32:
        raise BenchOptionError(f"{source}: seed = {seed!r}: want an integer from 0 to {2**32 - 1}")
    tables = data.get("fault", [])
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise BenchOptionError(f"{source}: fault = {tables!r}: want tables, each begun by [[fault]]")
    if len(tables) > MAX_FAULTS:
        raise BenchOptionError(f"{source}: fault: {len(tables)} of them; want at most {MAX_FAULTS}")
    faults = tuple(_fault(_Table(source, n, table)) for n, table in enumerate(tables))
    names = [fault.name for fault in faults]
    for n, name in enumerate(names):
        if name in names[:n]:
            raise BenchOptionError(f"{source}: fault {n + 1}: name = {name!r}: want a name no other fault has")
    return FaultPlan(faults, seed, source)


class _Table:
    """One ``[[fault]]``, and how to complain about it."""

    def __init__(self, source: str, index: int, data: Mapping[str, object]) -> None:
        self.where = f"{source}: fault {index + 1}"
        self.number = index + 1
        self.data = data

    def wrong(self, key: str, want: str) -> BenchOptionError:
        if key not in self.data:
            return BenchOptionError(f"{self.where}: {key}: missing; want {want}")
        return BenchOptionError(f"{self.where}: {key} = {self.data[key]!r}: want {want}")

    def text(self, key: str, default: str | None, want: str, choices: tuple[str, ...] = ()) -> str:
        value = self.data.get(key, default)
        if not isinstance(value, str) or not 0 < len(value) <= 64 or (choices and value not in choices):
            raise self.wrong(key, want)
        return value

    def integer(self, key: str, default: int, low: int, high: int) -> int:
        value = self.data.get(key, default)
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise self.wrong(key, f"an integer from {low} to {high}")
        return value

    def seconds(self, key: str, default: float) -> float:
        value = self.data.get(key, default)
        if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value <= 86_400:
            raise self.wrong(key, "a number of seconds from 0 to 86400")
        return float(value)


def _fault(table: _Table) -> FaultSpec:
    kind_name = table.text("kind", None, "one of " + ", ".join(KINDS), tuple(KINDS))
    kind = KINDS[kind_name]
    known = {param.name for param in kind.params}
    for key in table.data:
        if key not in _COMMON and key not in known:
            own = f"; {kind_name} has {', '.join(sorted(known))}" if known else f"; {kind_name} has no parameters"
            raise BenchOptionError(f"{table.where}: {key} = {table.data[key]!r}: unknown key{own}")
    trigger, at = _trigger(table)
    return FaultSpec(
        name=table.text("name", f"{kind_name}-{table.number}", "a text of 1 to 64 characters"),
        kind=kind_name,
        port=_port(table, kind),
        to=_direction(table, kind),
        trigger=trigger,
        at=at,
        nth=_nth(table, trigger),
        after_s=table.seconds("after_s", 0.0),
        times=_times(table, kind),
        params={param.name: _param(table, param) for param in kind.params},
    )


def _port(table: _Table, kind: Kind) -> str:
    choices = PORTS if kind.group == "wire" else (kind.group,) if kind.group in PORTS else ("smu",)
    return table.text("port", choices[0], " or ".join(choices) + f" for {kind.name}", choices)


def _direction(table: _Table, kind: Kind) -> str:
    if kind.group != "wire":
        if "to" in table.data:
            raise table.wrong("to", f"no such key: {kind.name} does not act on the wire")
        return ""
    choices = ("host",) if kind.name in ("xoff", "fifo") else ("host", "device")
    return table.text("to", "host", " or ".join(choices) + f" for {kind.name}", choices)


def _trigger(table: _Table) -> tuple[str, Value]:
    named = [key for key in TRIGGERS if key in table.data]
    if len(named) != 1:
        found = ", ".join(named) or "none"
        raise BenchOptionError(f"{table.where}: trigger: {found}; want exactly one of {', '.join(TRIGGERS)}")
    key = named[0]
    if key in ("at_byte", "at_frame", "at_sample"):
        return key, table.integer(key, 0, 0, 2**31)
    if key == "at_s":
        return key, table.seconds(key, 0.0)
    if key == "at_phase":
        return key, table.text(key, None, "one of " + ", ".join(PHASES), PHASES)
    if key == "at_command":
        return key, table.text(key, None, "how the message begins, 1 to 64 characters")
    if table.data[key] is not True:
        raise table.wrong(key, "true, or another trigger")
    return key, True


def _nth(table: _Table, trigger: str) -> int:
    if "nth" in table.data and trigger not in _RECURRING:
        raise table.wrong("nth", f"no such key beside {trigger}: only {' and '.join(_RECURRING)} happen more than once")
    return table.integer("nth", 1, 1, 1_000_000)


def _times(table: _Table, kind: Kind) -> int:
    if kind.once and table.data.get("times", 1) != 1:
        raise table.wrong("times", f"1: {kind.name} happens once per trigger")
    return table.integer("times", kind.times, 0, MAX_TIMES)


def _param(table: _Table, param: Param) -> Value:
    value = table.data.get(param.name, param.default)
    default = param.default
    if isinstance(default, bool):
        fits = isinstance(value, bool)
    elif isinstance(default, str):
        fits = isinstance(value, str) and 0 < len(value) <= 64 and all(ord(one) < 256 for one in value)
        fits = fits and (not param.choices or value in param.choices)
    else:
        fits = isinstance(value, int if isinstance(default, int) else int | float) and not isinstance(value, bool)
        fits = fits and math.isfinite(value) and param.low <= value <= param.high  # type: ignore[arg-type, operator]
    if not fits:
        raise table.wrong(param.name, f"{param.expectation} ({param.what})")
    return float(value) if isinstance(default, float) else value  # type: ignore[arg-type, return-value] # checked above
