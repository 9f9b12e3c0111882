"""Templates of messages and replies: printable ASCII with named fields, ``MOVE:{axis} {value}``.

The same template writes a message and understands it, or writes a reply and understands it. Not regular expressions:
those only read, and one that matches too much makes a position out of garbage.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Final

from firmware_proto.errors import LocalProtocolError

MAX_TEMPLATE: Final = 120
"""Characters of a template."""
MAX_TEXT: Final = 400
"""Characters of a field of free text."""
WORD: Final = r"[A-Za-z0-9_+\-.]{1,16}"

_FIELD: Final = re.compile(r"\{\{|\}\}|\{([a-z_]{0,16})\}|([{}])")


class TemplateError(LocalProtocolError):
    """A template cannot be used; the message says what was expected."""


@dataclass(frozen=True, slots=True)
class Field:
    """A named hole in a template."""

    name: str


@dataclass(frozen=True, slots=True)
class Template:
    """A parsed template. ``text`` is what stands in the map."""

    text: str
    parts: tuple[str | Field, ...]
    _compiled: dict[tuple[object, ...], re.Pattern[str]] = field(default_factory=dict, compare=False, repr=False)

    @property
    def fields(self) -> frozenset[str]:
        """Names of its fields."""
        return frozenset(part.name for part in self.parts if isinstance(part, Field))

    @property
    def axis_touches(self) -> bool:
        """Whether something that is no literal stands directly behind {axis}."""
        pairs = itertools.pairwise(self.parts)
        return any(one == Field("axis") and isinstance(other, Field) for one, other in pairs)

    @property
    def head(self) -> str:
        """The literal text before the first field."""
        first = self.parts[0] if self.parts else ""
        return first if isinstance(first, str) else ""

    def render(self, values: Mapping[str, str]) -> str:
        """Return the text with its fields filled in; raises LocalProtocolError for one that is missing."""
        out = []
        for part in self.parts:
            if isinstance(part, str):
                out.append(part)
            elif part.name in values:
                out.append(values[part.name])
            else:
                raise LocalProtocolError(f"{self.text!r} needs {{{part.name}}}")
        return "".join(out)

    def match(
        self, text: str, kinds: Mapping[str, str], *, any_case: bool = False, any_spaces: bool = False
    ) -> dict[str, str] | None:
        """Return the fields of a whole text that has the form of this template, else None.

        ``kinds``: a regular expression of each field's own, without groups; a field that has none is free text up to
        the literal that follows it. ``any_case``, ``any_spaces``: a tolerance for literals, as controllers have one.
        """
        key = (tuple(sorted(kinds.items())), any_case, any_spaces)
        pattern = self._compiled.get(key)
        if pattern is None:
            pattern = self._compiled[key] = self._compile(kinds, any_case=any_case, any_spaces=any_spaces)
        found = pattern.fullmatch(text)
        return None if found is None else found.groupdict()

    def _compile(self, kinds: Mapping[str, str], *, any_case: bool, any_spaces: bool) -> re.Pattern[str]:
        out = []
        for index, part in enumerate(self.parts):
            if isinstance(part, str):
                out.append(_tolerant(part) if any_spaces else re.escape(part))
            else:
                kind = kinds.get(part.name)
                if kind is None:
                    following = self.parts[index + 1] if index + 1 < len(self.parts) else ""
                    # Not the first character of what follows: then there is only one way to read a line.
                    stop = re.escape(following[0]) if isinstance(following, str) and following else ""
                    kind = rf"(?:(?![{stop}])[ -~]){{0,{MAX_TEXT}}}" if stop else rf"[ -~]{{0,{MAX_TEXT}}}"
                out.append(f"(?P<{part.name}>{kind})")
        return re.compile("".join(out), re.ASCII | (re.IGNORECASE if any_case else 0))


def _tolerant(literal: str) -> str:
    """Return a literal that takes any number of spaces where it has one, and some around its commas."""
    pieces = re.split(r"( +|,)", literal)
    return "".join(r"\s*,\s*" if one == "," else r"\s+" if one.isspace() else re.escape(one) for one in pieces)


def parse_template(text: str, *, needed: Collection[str] = (), allowed: Collection[str] = ()) -> Template:
    """Parse a template; ``{{`` and ``}}`` are braces. Raises TemplateError saying what is wrong with it.

    ``needed`` fields must be there, ``allowed`` ones may.
    """
    if not 0 < len(text) <= MAX_TEMPLATE:
        raise TemplateError(f"expected 1 to {MAX_TEMPLATE} characters")
    if not (text.isascii() and text.isprintable()):
        raise TemplateError("expected printable ASCII; the end of a line is added by itself, see line.send_end")
    if text != text.strip(" "):
        raise TemplateError("expected no spaces at the beginning or the end")
    parts = _split(text)
    names = [part.name for part in parts if isinstance(part, Field)]
    known = [*needed, *(name for name in allowed if name not in needed)]
    fields = ", ".join(f"{{{name}}}" for name in known) or "none"
    for name in names:
        if name not in known:
            raise TemplateError(f"field {{{name}}} is not known here; expected {fields}")
        if names.count(name) > 1:
            raise TemplateError(f"field {{{name}}} stands there twice; once is enough")
    for name in needed:
        if name not in names:
            raise TemplateError(f"field {{{name}}} is missing")
    for one, other in itertools.pairwise(parts):
        # {axis} is one of a few known names, as in G-code: X12.5 needs nothing between.
        if isinstance(one, Field) and isinstance(other, Field) and "axis" not in {one.name, other.name}:
            raise TemplateError(f"{{{one.name}}} and {{{other.name}}} need something between them to tell them apart")
    return Template(text, tuple(parts))


def _split(text: str) -> list[str | Field]:
    parts: list[str | Field] = []
    literal = ""
    at = 0
    for found in _FIELD.finditer(text):
        literal += text[at : found.start()]
        at = found.end()
        if found[2]:
            raise TemplateError("a brace that belongs to no field; write {{ or }} for a brace itself")
        if found[0] in {"{{", "}}"}:
            literal += found[0][0]
            continue
        if literal:
            parts.append(literal)
            literal = ""
        parts.append(Field(found[1]))
    literal += text[at:]
    if literal:
        parts.append(literal)
    return parts
