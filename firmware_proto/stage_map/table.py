"""Reading a TOML table key by key: every wrong key, value and gap is named with what was expected."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Collection, Mapping
from typing import Any, Final

from firmware_proto.stage_map.errors import MapError
from firmware_proto.stage_map.templates import WORD, Template, TemplateError, parse_template

_MISSING: Final = object()


class Table:
    """One table of a map. Keys are taken out one by one; ``done`` refuses what nobody took."""

    def __init__(self, data: object, path: str) -> None:
        """Take a table; raises MapError if it is none."""
        if not isinstance(data, Mapping):
            raise MapError(path, f"value {data!r:.80}: expected a table, [{path}] with its keys below")
        self._data: Mapping[str, Any] = data
        self.path = path
        self._taken: list[str] = []

    def key(self, name: str) -> str:
        """Return a key with its path."""
        return f"{self.path}.{name}" if self.path else name

    def error(self, name: str, message: str) -> MapError:
        """Return the error for a key's value, which it names."""
        return MapError(self.key(name), f"value {self._data.get(name)!r:.80}: {message}")

    def hint(self, name: str) -> str:
        """Return a question after the key that may have been meant by a misspelt one, or nothing."""
        left = [key for key in self._data if key not in self._taken]
        close = difflib.get_close_matches(name, left, n=1)
        return f". Is {close[0]!r} there meant to be {name!r}?" if close else ""

    def __contains__(self, name: str) -> bool:
        return name in self._data

    def names(self) -> list[str]:
        """Return the keys there are, in order."""
        return list(self._data)

    def _get(self, name: str, default: object, why: str) -> Any:  # noqa: ANN401 - whatever TOML holds
        self._taken.append(name)
        value = self._data.get(name, default)
        if value is _MISSING:
            raise MapError(self.key(name), f"is missing; {why}{self.hint(name)}")
        return value

    def table(self, name: str, why: str = "") -> Table:
        """Return a table in it; raises MapError, with ``why`` it is needed, where there is none."""
        return Table(self._get(name, _MISSING, why or "a table is needed"), self.key(name))

    def optional(self, name: str) -> Table | None:
        """Return a table in it, or None."""
        if self._absent(name):
            return None
        return self.table(name)

    def _absent(self, name: str) -> bool:
        self._taken.append(name)
        return name not in self

    def text(self, name: str, why: str, default: str | None = None, most: int = 64) -> str:
        """Return printable ASCII of 1 (0 where there is a default) to ``most`` characters."""
        value = self._get(name, _MISSING if default is None else default, why)
        least = 1 if default is None else 0
        if not isinstance(value, str) or not least <= len(value) <= most or not (value.isascii() and _plain(value)):
            raise self.error(name, f"expected text, {least} to {most} printable characters of ASCII")
        return value

    def template(self, name: str, why: str, needed: Collection[str] = (), allowed: Collection[str] = ()) -> Template:
        """Return a template with these fields."""
        value = self._get(name, _MISSING, why)
        if not isinstance(value, str):
            raise self.error(name, "expected text with fields in braces")
        try:
            return parse_template(value, needed=needed, allowed=allowed)
        except TemplateError as error:
            raise self.error(name, str(error)) from error

    def number(self, name: str, why: str, low: float, high: float, default: float | None = None) -> float:
        """Return a number within ``low`` to ``high``."""
        value = self._get(name, _MISSING if default is None else default, why)
        # An integer of TOML may be larger than any float; it is compared as it is.
        strange = isinstance(value, float) and not math.isfinite(value)
        if isinstance(value, bool) or not isinstance(value, int | float) or strange:
            raise self.error(name, f"expected a number, {low:g} to {high:g}")
        if not low <= value <= high:
            raise self.error(name, f"expected {low:g} to {high:g}")
        return float(value)

    def maybe_number(self, name: str, low: float, high: float) -> float | None:
        """Return a number, or None where there is none."""
        return None if self._absent(name) else self.number(name, "", low, high)

    def integer(self, name: str, why: str, low: int, high: int, default: int | None = None) -> int:
        """Return an integer within ``low`` to ``high``."""
        value = self._get(name, _MISSING if default is None else default, why)
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise self.error(name, f"expected an integer, {low} to {high}")
        return value

    def maybe_integer(self, name: str, low: int, high: int) -> int | None:
        """Return an integer, or None where there is none."""
        return None if self._absent(name) else self.integer(name, "", low, high)

    def flag(self, name: str, *, default: bool) -> bool:
        """Return a boolean."""
        value = self._get(name, default, "")
        if not isinstance(value, bool):
            raise self.error(name, "expected true or false")
        return value

    def choice(self, name: str, why: str, choices: Collection[str], default: str | None = None) -> str:
        """Return one of some words."""
        value = self._get(name, _MISSING if default is None else default, why)
        if not isinstance(value, str) or value not in choices:
            raise self.error(name, f"expected one of: {', '.join(choices)}")
        return value

    def words(self, name: str, why: str) -> frozenset[str]:
        """Return a list of at least one word of up to 16 letters, digits, signs and points."""
        value = self._get(name, _MISSING, why)
        if not isinstance(value, list) or not value or not all(_word(one) for one in value):
            raise self.error(name, 'expected a list of words, such as ["1", "ON"]')
        return frozenset(value)

    def integers(self, name: str, why: str, default: list[int] | None = None) -> frozenset[int]:
        """Return a list of integers, at least one unless there is a default."""
        value = self._get(name, _MISSING if default is None else default, why)
        fits = isinstance(value, list) and all(isinstance(one, int) and not isinstance(one, bool) for one in value)
        if not fits or not (value or default is not None):
            raise self.error(name, "expected a list of integers, such as [0]")
        return frozenset(value)

    def done(self) -> None:
        """Refuse the first key that nobody took."""
        for name in self._data:
            if name not in self._taken:
                raise MapError(
                    self.key(name), f"unknown key {name!r}; expected one of: {', '.join(sorted(set(self._taken)))}"
                )


def _plain(text: str) -> bool:
    return text == "" or text.isprintable()


def _word(value: object) -> bool:
    return isinstance(value, str) and re.fullmatch(WORD, value) is not None
