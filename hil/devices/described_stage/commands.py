"""What the emulated controller makes of a line: the map's templates, read the other way round."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from firmware_proto.stage_map import Condition, StageMap, Template, ValueQuery, parse_template
from hil.devices.described_stage.model import from_wire, to_wire
from hil.devices.described_stage.unit import QUEUE_OVERFLOW, Refused, Unit
from hil.devices.pi_gcs2.axis import Axis

ARGUMENT: Final = r"[^ ;]{1,40}"
_DECIMAL: Final = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d{1,3})?", re.ASCII)

Fields = Mapping[str, str]
Act = Callable[[Fields], str | None]
"""Executes a command and returns the reply to a query, None for a set; raises Refused."""

ANY_TEXT: Final = "Error"


class Entry(NamedTuple):
    """A command: its form, the forms of its fields, and what it does."""

    template: Template
    kinds: Mapping[str, str]
    act: Act


class Vocabulary:
    """All commands of a map, on a unit."""

    def __init__(self, rules: StageMap, unit: Unit) -> None:
        """Build the table."""
        self._rules = rules
        self._unit = unit
        self._emulated = rules.emulated
        # The longest first: one name may begin with another.
        wires = sorted(rules.wires.values(), key=len, reverse=True)
        self._axis_kind = f"(?:{'|'.join(wires)})"
        self._entries = self._table()
        self._texts = {
            self._emulated.unknown: "Undefined header",
            self._emulated.parameter: "Data type error",
            self._emulated.range: "Data out of range",
            self._emulated.state: "Settings conflict",
            self._emulated.too_long: "Too much data",
            QUEUE_OVERFLOW: "Queue overflow",
            **dict.fromkeys(rules.error.none, "No error"),
            **dict.fromkeys(rules.error.stopped, "Stopped"),
        }

    def execute(self, text: str) -> str | None:
        """Execute a command, of which the caller has taken the end; raises Refused."""
        text = text.strip()
        emulated = self._emulated
        if emulated.prefix:
            text = text.removeprefix(emulated.prefix)
        if not (text.isascii() and text.isprintable()):
            raise Refused(emulated.unknown)
        for entry in self._entries:
            found = entry.template.match(text, entry.kinds, any_case=emulated.any_case, any_spaces=emulated.any_spaces)
            if found is not None:
                return entry.act(found)
        heads = {entry.template.head.strip() for entry in self._entries}
        known = any(head and self._same(text[: len(head)], head) for head in heads)
        raise Refused(emulated.parameter if known else emulated.unknown)

    def text(self, code: int) -> str:
        """Return the words of an error code."""
        return self._texts.get(code, ANY_TEXT)

    def _same(self, one: str, other: str) -> bool:
        return one.upper() == other.upper() if self._emulated.any_case else one == other

    # The table

    def _table(self) -> list[Entry]:
        rules, unit = self._rules, self._unit
        entries = [
            Entry(parse_template(rules.identify.query), {}, lambda _f: self._identity()),
            self._move_entry(),
            *self._value_entries(),
            Entry(rules.contact.query, {"channel": r"[0-9]{1,2}"}, self._contact),
        ]
        if rules.stop.text:
            entries.append(Entry(parse_template(rules.stop.text), {}, lambda _f: unit.halt()))
        if rules.status is not None:
            entries.append(Entry(rules.status.query, {"axis": self._axis_kind}, self._status))
        for condition, tell in (
            (rules.moving, unit.moves),
            (rules.on_target, unit.on_target),
            (rules.servo.state, lambda axes: all(axis.servo for axis in axes)),
            (None if rules.reference is None else rules.reference.state, unit.referenced),
        ):
            if condition is not None and condition.query is not None:
                entries.append(Entry(condition.query, {"axis": self._axis_kind}, self._state(condition, tell)))
        if rules.error.query is not None:
            entries.append(Entry(rules.error.query, {}, lambda _f: self._error()))
        if rules.error.clear:
            entries.append(Entry(parse_template(rules.error.clear), {}, lambda _f: unit.errors.clear()))
        if rules.servo.command is not None:
            entries.append(Entry(rules.servo.command, {"axis": self._axis_kind, "state": ARGUMENT}, self._servo))
        if rules.reference is not None:
            entries.append(
                Entry(rules.reference.command, {"axis": self._axis_kind}, lambda f: unit.reference(self._axis(f).name))
            )
        return entries

    def _value_entries(self) -> list[Entry]:
        rules, unit = self._rules, self._unit

        def number(axis: Axis, um: float) -> str:
            described = rules.axes[axis.name]
            return described.form.write(to_wire(described, um), described.decimals)

        def ends(axis: Axis) -> list[float]:
            described = rules.axes[axis.name]
            return sorted(to_wire(described, um) for um in (axis.model.low_um, axis.model.high_um))

        def end(index: int) -> Callable[[Axis], str]:
            return lambda axis: rules.axes[axis.name].form.write(ends(axis)[index], rules.axes[axis.name].decimals)

        def target(axis: Axis) -> str:
            # Kept as it came, to the last digit it takes.
            described = rules.axes[axis.name]
            return described.form.write(
                round(to_wire(described, axis.target_um), described.decimals), described.decimals
            )

        def velocity(axis: Axis) -> str:
            described = rules.axes[axis.name]
            return described.form.write(abs(to_wire(described, axis.velocity_um_s)), described.decimals)

        queries: list[tuple[ValueQuery | None, Callable[[Axis], str]]] = [
            (rules.position, lambda axis: number(axis, axis.read_um(unit.now_ns))),
            (rules.target.query, target),
            (rules.low, end(0)),
            (rules.high, end(1)),
            (rules.velocity, velocity),
        ]
        return [
            Entry(query.query, {"axis": self._axis_kind}, self._values(query, tell)) for query, tell in queries if query
        ]

    def _values(self, query: ValueQuery, tell: Callable[[Axis], str]) -> Act:
        def act(fields: Fields) -> str:
            axes = [self._axis(fields)] if query.per_axis else list(self._unit.axes.values())
            return query.answer({axis.name: tell(axis) for axis in axes}, self._rules.wires)

        return act

    def _state(self, condition: Condition, tell: Callable[[list[Axis]], bool]) -> Act:
        def act(fields: Fields) -> str:
            axes = self._axes(fields)
            words = condition.true if tell(axes) else condition.false
            assert condition.reply is not None  # noqa: S101 - conditions with a query have one
            return condition.reply.render({"axis": fields.get("axis", ""), "state": min(words)})

        return act

    # What commands do

    def _identity(self) -> str:
        told = self._emulated
        return self._rules.identify.reply.render(
            {"maker": told.maker, "model": told.model, "serial": told.serial, "firmware": told.firmware}
        )

    def _axis(self, fields: Fields) -> Axis:
        """Return the axis named, or the only one; raises Refused for none."""
        if "axis" not in fields:
            return next(iter(self._unit.axes.values()))
        for name, wire in self._rules.wires.items():
            if self._same(fields["axis"], wire):
                return self._unit.axes[name]
        raise Refused(self._emulated.parameter)

    def _axes(self, fields: Fields) -> list[Axis]:
        return [self._axis(fields)] if "axis" in fields else list(self._unit.axes.values())

    def _number(self, text: str) -> float:
        if _DECIMAL.fullmatch(text) is None or not math.isfinite(float(text)):
            raise Refused(self._emulated.parameter)
        return float(text)

    def _move_entry(self) -> Entry:
        rule, emulated = self._rules.move, self._emulated
        one = {"axis": self._axis_kind, "value": ARGUMENT}
        item = rule.item
        if item is None:
            return Entry(rule.command, one, lambda fields: self._move([fields]))

        def act(fields: Fields) -> None:
            pieces = _pieces(fields["list"], rule.separator, item, any_spaces=emulated.any_spaces)
            found = [item.match(p, one, any_case=emulated.any_case, any_spaces=emulated.any_spaces) for p in pieces]
            self._move([one if one is not None else {} for one in found])

        return Entry(rule.command, {}, act)

    def _move(self, items: list[Fields] | list[dict[str, str]]) -> None:
        targets: dict[str, float] = {}
        for fields in items:
            if "value" not in fields:
                raise Refused(self._emulated.parameter)
            axis = self._axis(fields)
            described = self._rules.axes[axis.name]
            number = round(self._number(fields["value"]), described.decimals)
            if axis.name in targets:
                raise Refused(self._emulated.parameter)
            targets[axis.name] = from_wire(described, number)
        self._unit.move(targets)

    def _servo(self, fields: Fields) -> None:
        rule = self._rules.servo
        for word, on in ((rule.on, True), (rule.off, False)):
            if self._same(fields["state"], word):
                for axis in self._axes(fields):
                    self._unit.set_servo(axis, on=on)
                return
        raise Refused(self._emulated.parameter)

    def _status(self, fields: Fields) -> str:
        status = self._rules.status
        assert status is not None  # noqa: S101 - the entry is there only with it
        word = self._unit.word(self._axes(fields))
        if self._rules.error.mask and not self._rules.error.clear:
            # Asking forgets, where nothing else does.
            self._unit.errors.clear()
        return status.reply.render({"axis": fields.get("axis", ""), "hex": f"{word:04X}", "dec": str(word)})

    def _error(self) -> str:
        code = self._unit.take_error()
        code = min(self._rules.error.none) if code is None else code
        reply = self._rules.error.reply
        assert reply is not None  # noqa: S101 - an error query has one
        return reply.render({"code": str(code), "text": self.text(code)})

    def _contact(self, fields: Fields) -> str:
        rule = self._rules.contact
        channel = fields.get("channel", "1")
        signal_v = self._unit.mechanics.signal_v(self._unit.now_ns, int(channel))
        return rule.reply.render({"channel": channel, "value": rule.form.write(signal_v / rule.volt_per_unit)})


def _pieces(text: str, separator: str, item: Template, *, any_spaces: bool) -> list[str]:
    """Cut a list into its items, as tolerantly as the controller is."""
    if not any_spaces:
        return text.split(separator)
    if separator.strip():
        return re.split(rf"\s*{re.escape(separator.strip())}\s*", text.strip())
    # Spaces also stand inside an item: put as many words together as an item has.
    words, width = text.split(), len(item.text.split())
    return [" ".join(words[at : at + width]) for at in range(0, len(words), width)]
