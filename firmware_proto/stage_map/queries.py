"""Questions that numbers answer: for one axis at a time, or for all at once. Strict on the way in."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from firmware_proto.errors import RemoteProtocolError
from firmware_proto.stage_map.templates import Template

PAD: Final = 12
"""Spaces before a number that is written into a column."""


@dataclass(frozen=True, slots=True)
class NumberForm:
    """How a controller writes a number. ``decimals``: exactly so many behind the point; None: any, up to 12.

    ``exponent``: as ``1.234e-05``, always with a sign and two digits behind the ``e``, so that one cut short is none.
    """

    decimals: int | None = None
    exponent: bool = False

    @property
    def kind(self) -> str:
        """The regular expression of such a number, spaces before it included."""
        places = "{1,12}" if self.decimals is None else f"{{{self.decimals}}}"
        if self.exponent:
            return rf" {{0,{PAD}}}[+-]?[0-9](?:\.[0-9]{places})?[eE][+-][0-9]{{2}}"
        if self.decimals == 0:
            return rf" {{0,{PAD}}}[+-]?[0-9]{{1,12}}"
        point = rf"\.[0-9]{places}"
        return rf" {{0,{PAD}}}[+-]?[0-9]{{1,12}}" + (f"(?:{point})?" if self.decimals is None else point)

    def write(self, value: float, default: int = 6) -> str:
        """Write a number as the controller does; ``default`` decimals where their number is free."""
        places = default if self.decimals is None else self.decimals
        text = f"{value:.{places}e}" if self.exponent else f"{value:.{places}f}"
        return text.removeprefix("-") if float(text) == 0 else text

    def read(self, text: str) -> float:
        """Return the number; raises RemoteProtocolError for anything else."""
        if re.fullmatch(self.kind, text) is None or not math.isfinite(float(text)):
            raise bad("a number", text)
        return float(text)


@dataclass(frozen=True, slots=True)
class ValueQuery:
    """A question for a number of every axis.

    ``query`` with {axis} is asked once for each; without it, once for all, and then ``reply`` has a {list} of ``item``
    for each axis in the map's order, with ``separator`` between them.
    """

    query: Template
    reply: Template
    item: Template | None = None
    separator: str = ""

    @property
    def per_axis(self) -> bool:
        """Whether it is asked for each axis."""
        return self.item is None

    def messages(self, wires: Mapping[str, str]) -> list[tuple[str, tuple[str, ...]]]:
        """Return the questions for these axes (name to name on the wire), each with the axes it answers for."""
        if not self.per_axis:
            return [(self.query.render({}), tuple(wires))]
        return [(self.query.render({"axis": wire}), (name,)) for name, wire in wires.items()]

    def parse(
        self, line: bytes, axes: Sequence[str], wires: Mapping[str, str], forms: Mapping[str, NumberForm]
    ) -> dict[str, float]:
        """Return the numbers of ``axes`` from their reply; raises RemoteProtocolError for any other line."""
        text = text_of(line)
        if self.item is None:
            return {name: self._one(self.reply, text, wires[name], forms[name]) for name in axes}
        found = self.reply.match(text, {})
        pieces = found["list"].split(self.separator) if found is not None else []
        if len(pieces) != len(axes):
            raise bad(f"numbers of {len(axes)} axes as {self.reply.text!r}", text)
        return {
            name: self._one(self.item, piece, wires[name], forms[name])
            for name, piece in zip(axes, pieces, strict=True)
        }

    @staticmethod
    def _one(template: Template, text: str, wire: str, form: NumberForm) -> float:
        found = template.match(text, {"axis": re.escape(wire), "value": form.kind})
        if found is None:
            raise bad(f"a number as {template.text!r}", text)
        return form.read(found["value"])

    def answer(self, values: Mapping[str, str], wires: Mapping[str, str]) -> str:
        """Write a reply for the axes in ``values`` (name to number as text): the controller's end."""
        if self.item is None:
            (name,) = values
            return self.reply.render({"axis": wires[name], "value": values[name]})
        items = [self.item.render({"axis": wires[name], "value": value}) for name, value in values.items()]
        return self.reply.render({"list": self.separator.join(items)})


def text_of(line: bytes) -> str:
    """Return a reply line as text; raises RemoteProtocolError for anything but printable ASCII."""
    text = line.decode("latin-1")
    if not (text.isascii() and text.isprintable()):
        raise bad("printable ASCII", text)
    return text


def bad(what: str, text: str) -> RemoteProtocolError:
    """Return the error for a reply that is not ``what``."""
    return RemoteProtocolError(f"not {what}: {text[:80]!r}", data=text.encode("latin-1", "replace")[:200])
