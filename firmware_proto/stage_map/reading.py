"""From a TOML table to a map. What an interlock needs and a map lacks is refused here, with the reason."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from firmware_proto.gcs2.commands import MAX_AXIS_ID, MAX_DECIMALS, MAX_ITEMS, fixed
from firmware_proto.stage_map import sections
from firmware_proto.stage_map.errors import MapError
from firmware_proto.stage_map.lines import ANY, ENDS
from firmware_proto.stage_map.model import (
    Acknowledgement,
    Identify,
    LineRules,
    MapAxis,
    MoveRule,
    StageMap,
    TargetRule,
)
from firmware_proto.stage_map.queries import NumberForm, ValueQuery
from firmware_proto.stage_map.sections import WHY
from firmware_proto.stage_map.table import Table
from firmware_proto.stage_map.templates import Template

MAX_MESSAGE: Final = 200
"""Bytes of a message with its end."""

_NAME: Final = re.compile(rf"[A-Za-z0-9_]{{1,{MAX_AXIS_ID}}}")


def read_map(data: Mapping[str, object]) -> StageMap:
    """Return the map that a parsed TOML file holds; raises MapError with key, value and expectation."""
    top = Table(data, "")
    line = _line(top.table("line", WHY["line"]))
    acknowledge = _acknowledge(top.optional("acknowledge"))
    low, high = _limits(top.optional("limits"))
    velocity = _velocity(top.optional("velocity"))
    axes = _axes(top.table("axes", WHY["axes"]), line, limits=low is not None, velocity=velocity is not None)
    for name, query in (("limits.low", low), ("limits.high", high), ("velocity", velocity)):
        if query is not None:
            _per_axis(query, axes, name)
    move = _move(top.table("move", WHY["move"]), axes)
    position = _position(top.table("position", WHY["position"]), axes)
    target = _target(top.table("target", WHY["target"]), axes, position)
    status = sections.status(top.optional("status"))
    if "moving" not in top and "on_target" not in top:
        raise MapError("moving", f"is missing; {WHY['moving']}")
    moving = sections.own_condition(top.optional("moving"), status)
    on_target = sections.own_condition(top.optional("on_target"), status)
    found = StageMap(
        line=line,
        acknowledge=acknowledge,
        identify=_identify(top.table("identify", WHY["identify"])),
        axes=axes,
        low=low,
        high=high,
        velocity=velocity,
        move=move,
        target=target,
        position=position,
        status=status,
        moving=moving,
        on_target=on_target,
        stop=sections.stop(top.table("stop", WHY["stop"]), line, acknowledge),
        error=sections.error_rule(top.table("error", WHY["error"]), status),
        servo=sections.servo(top.optional("servo"), status),
        reference=sections.reference(top.optional("reference"), status),
        contact=sections.contact(top.table("contact", WHY["contact"]), line),
        emulated=sections.emulated(top.optional("emulated")),
        wires={name: axis.wire for name, axis in axes.items()},
    )
    top.done()
    _check_lengths(found)
    _check_stop(found)
    return found


def _line(table: Table) -> LineRules:
    rules = LineRules(
        send_end=table.choice("send_end", "what ends a message", list(ENDS)),
        reply_end=table.choice("reply_end", "what ends a reply", [*ENDS, ANY]),
        echo=table.flag("echo", default=False),
        reply_timeout_s=table.number("reply_timeout_s", "", 0.05, 10.0, 0.5),
        max_reply=table.integer("max_reply", "", 16, 4096, 160),
        exponent=table.choice("numbers", "", ("fixed", "exponent"), "fixed") == "exponent",
    )
    table.done()
    return rules


def _acknowledge(table: Table | None) -> Acknowledgement | None:
    if table is None:
        return None
    ok = table.text("ok", "the line that acknowledges a set command")
    error = table.template("error", "", ("code",), ("text",)) if "error" in table else None
    table.done()
    return Acknowledgement(ok, error)


def _identify(table: Table) -> Identify:
    query = table.text("query", "the question who is there", most=120)
    reply = table.template("reply", "such as {model},{serial},{firmware}", ("model",), ("maker", "serial", "firmware"))
    expected = table.text("expect_model", "") if "expect_model" in table else None
    table.done()
    return Identify(query, reply, expected)


def _axes(table: Table, line: LineRules, *, limits: bool, velocity: bool) -> dict[str, MapAxis]:
    axes: dict[str, MapAxis] = {}
    for name in table.names():
        if _NAME.fullmatch(name) is None:
            raise MapError(table.key(name), f"expected a name of 1 to {MAX_AXIS_ID} letters, digits, underscores")
        one = table.table(name)
        axis = _axis(one, name, line, limits=limits, velocity=velocity)
        if axis.wire.upper() in {other.wire.upper() for other in axes.values()}:
            raise one.error("wire", "another axis has this name")
        axes[name] = axis
    if not 1 <= len(axes) <= MAX_ITEMS:
        raise MapError("axes", f"{len(axes)} axes; expected 1 to {MAX_ITEMS}")
    return axes


def _axis(table: Table, name: str, line: LineRules, *, limits: bool, velocity: bool) -> MapAxis:
    wire = table.text("wire", "its name on the wire", name, MAX_AXIS_ID)
    if _NAME.fullmatch(wire) is None:
        raise table.error("wire", f"expected 1 to {MAX_AXIS_ID} letters, digits or underscores")
    unit_m = table.number("unit_m", "how many m one unit of the wire is", 1e-12, 1.0)
    sign = -1 if table.choice("sign", "", ("+", "-"), "+") == "-" else 1
    decimals = table.integer("decimals", "how many decimals of a target it takes", 0, MAX_DECIMALS)
    low_m, high_m = table.maybe_number("low_m", -1.0, 1.0), table.maybe_number("high_m", -1.0, 1.0)
    for key, value in (("low_m", low_m), ("high_m", high_m)):
        if value is None and not limits:
            raise MapError(table.key(key), "is missing; give the travel in m, or [limits] to ask the controller for it")
    if low_m is not None and high_m is not None and not low_m < high_m:
        raise table.error("high_m", f"expected above low_m ({low_m:g})")
    velocity_m_s = table.maybe_number("velocity_m_s", 1e-9, 1.0)
    if velocity_m_s is None and not velocity:
        raise MapError(
            table.key("velocity_m_s"),
            "is missing; deadlines need it: give it in m/s, or [velocity] to ask the controller for it",
        )
    form = NumberForm(table.maybe_integer("reply_decimals", 0, 12), line.exponent)
    zeros = table.flag("trailing_zeros", default=False)
    table.done()
    for bound in (low_m, high_m):
        if bound is not None and abs(bound / unit_m) > 1e9:
            raise table.error("unit_m", "the ends of travel need more than nine digits before the point")
    return MapAxis(name, wire, unit_m, sign, decimals, zeros, form, low_m, high_m, velocity_m_s)


def _value_query(table: Table, key: str, why: str) -> ValueQuery:
    """Read ``key`` and what belongs to it: a question per axis, or one whose reply has a {list} of ``item``."""
    if "{list}" not in str(table.text("reply", "such as {value}", most=120)):
        query = table.template(key, why, (), ("axis",))
        return ValueQuery(query, table.template("reply", "", ("value",), ("axis",)))
    query = table.template(key, why)
    reply = table.template("reply", "", ("list",))
    item = table.template("item", "what stands in the {list} for each axis", ("value",), ("axis",))
    separator = table.text("separator", "what stands between the items of a {list}", most=4)
    return ValueQuery(query, reply, item, separator)


def _per_axis(query: ValueQuery, axes: Mapping[str, MapAxis], key: str) -> ValueQuery:
    if query.per_axis and "axis" not in query.query.fields and len(axes) > 1:
        raise MapError(key, f"value {query.query.text!r}: field {{axis}} is missing; there are {len(axes)} axes")
    return query


def _limits(table: Table | None) -> tuple[ValueQuery | None, ValueQuery | None]:
    if table is None:
        return None, None
    low, high = (_value_query(table, key, "the query for an end of travel") for key in ("low", "high"))
    table.done()
    if low.query.text == high.query.text:
        raise table.error("high", "the same query as limits.low")
    return low, high


def _velocity(table: Table | None) -> ValueQuery | None:
    if table is None:
        return None
    query = _value_query(table, "query", "the query for the velocity")
    table.done()
    return query


def _position(table: Table, axes: Mapping[str, MapAxis]) -> ValueQuery:
    query = _per_axis(_value_query(table, "query", WHY["position"]), axes, table.key("query"))
    table.done()
    return query


def _target(table: Table, axes: Mapping[str, MapAxis], position: ValueQuery) -> TargetRule:
    verify = table.choice("verify", "", ("readback", "position"), "readback")
    if verify == "position":
        table.done()
        return TargetRule(None, None)
    query = _per_axis(_value_query(table, "query", WHY["target"]), axes, table.key("query"))
    tolerance_m = table.maybe_number("tolerance_m", 0.0, 1e-6)
    table.done()
    if query.query.text == position.query.text:
        raise table.error("query", "this is position.query: it tells where an axis is, not where it was sent")
    return TargetRule(query, tolerance_m)


def _move(table: Table, axes: Mapping[str, MapAxis]) -> MoveRule:
    item: Template | None = None
    separator = ""
    if "{list}" in str(table.text("command", WHY["move"], most=120)):
        command = table.template("command", "", ("list",))
        item = table.template("item", "what stands in the {list} for each axis", ("axis", "value"))
        separator = table.text("separator", "what stands between the items of a {list}", most=4)
    else:
        command = table.template("command", "", ("axis", "value") if len(axes) > 1 else ("value",), ("axis",))
    settle_s = table.number("settle_s", "", 0.0, 600.0, 1.0)
    window_m = table.number("window_m", "how far from its target an axis may be when it has arrived", 1e-10, 1e-5)
    for axis in axes.values():
        if (item or command).axis_touches and axis.wire[-1].isdigit():
            raise table.error(
                "command" if item is None else "item", f"axis {axis.wire} and its value would be one number"
            )
        if axis.step_m > window_m:
            raise table.error("window_m", f"steps of axis {axis.name} are {axis.step_m:g} m: no target could be met")
    table.done()
    return MoveRule(command, item, separator, settle_s, window_m)


def _check_lengths(found: StageMap) -> None:
    """Refuse a map whose longest move would not fit."""
    farthest = {
        name: fixed(-max(abs(axis.low_m or 0.0), abs(axis.high_m or 0.0), 1e-3) / axis.unit_m, axis.decimals)
        for name, axis in found.axes.items()
    }
    for text, _ in found.move.messages(farthest, found.wires):
        if len(found.line.encode(text)) > MAX_MESSAGE:
            raise MapError("move.command", f"a message of {len(text)} characters, {text[:40]!r}...; {MAX_MESSAGE} fit")


def _check_stop(found: StageMap) -> None:
    """Refuse a stop whose acknowledgement would pass for the answer to a question that is under way."""
    if found.stop.text or not found.stop.acknowledged or found.acknowledge is None:
        return
    for key, condition in (("moving", found.moving), ("on_target", found.on_target)):
        if condition is not None and found.acknowledge.ok in condition.true | condition.false:
            raise MapError(
                "stop.acknowledged",
                f"{found.acknowledge.ok!r} is an answer to {key}.query, too, and a byte is answered out of turn: they "
                "cannot be told apart. Use a command that stops",
            )
