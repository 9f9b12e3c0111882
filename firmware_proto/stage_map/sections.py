"""The tables of a map that say what a controller tells, and how it is stopped; each read by itself."""

from __future__ import annotations

from typing import Final

from firmware_proto.stage_map.errors import MapError
from firmware_proto.stage_map.model import (
    Acknowledgement,
    Condition,
    ContactRule,
    Emulated,
    ErrorRule,
    LineRules,
    Reference,
    Servo,
    StatusWord,
    StopRule,
)
from firmware_proto.stage_map.queries import NumberForm
from firmware_proto.stage_map.table import Table

WHY: Final = {
    "line": "how messages and replies end",
    "identify": "the controller has to say who it is before anything moves",
    "axes": "name at least one axis, [axes.x]",
    "move": "without it nothing moves",
    "target": (
        "a target that lost a digit on its way is another, valid target. Give the query that reads it back, or say "
        'verify = "position": then only the way of the axis is watched'
    ),
    "position": "without it nobody knows where the tip is",
    "moving": (
        "the output goes on only over a stage that stands still. Give [moving], [on_target] or both, as a query or as "
        "a mask of [status]"
    ),
    "stop": "a stage that cannot be told to stop is not moved",
    "error": "the output stays off over a stage with an error. Give the query that tells it, or its mask of [status]",
    "contact": "without a deflection signal nobody knows whether the tip touches: no approach, no lift",
}


def status(table: Table | None) -> StatusWord | None:
    """Read [status], or nothing. Raises MapError."""
    if table is None:
        return None
    query = table.template("query", "the query for the status word", (), ("axis",))
    form = "hex" if "{hex}" in str(table.text("reply", "such as 0x{hex} or {dec}", most=120)) else "dec"
    reply = table.template("reply", "", (form,), ("axis",))
    table.done()
    return StatusWord(query, reply)


def _condition(table: Table, status: StatusWord | None) -> Condition:
    if "mask" in table:
        mask = table.integer("mask", "", 1, 2**32 - 1)
        if status is None:
            raise table.error("mask", "there is no [status] whose bits these are")
        value = table.maybe_integer("value", 0, 2**32 - 1)
        if value is not None and value & ~mask:
            raise table.error("value", f"has bits outside mask {mask:#x}")
        return Condition(mask=mask, value=value)
    query = table.template("query", "a query, or a mask of [status]", (), ("axis",))
    reply = table.template("reply", "such as {state}", ("state",), ("axis",))
    true, false = table.words("true", "the words that mean yes"), table.words("false", "the words that mean no")
    if true & false:
        raise table.error("false", f"{', '.join(sorted(true & false))} cannot mean both")
    return Condition(query=query, reply=reply, true=true, false=false)


def own_condition(table: Table | None, status: StatusWord | None) -> Condition | None:
    """Read a table that holds a condition and nothing else, or nothing. Raises MapError."""
    if table is None:
        return None
    condition = _condition(table, status)
    table.done()
    return condition


def stop(table: Table, line: LineRules, acknowledge: Acknowledgement | None) -> StopRule:
    """Read [stop]. Raises MapError."""
    if ("command" in table) == ("byte" in table):
        expected = f'expected either command = "..." or byte = 0x..; {WHY["stop"]}'
        raise MapError(table.path, expected + (table.hint("command") or table.hint("byte")))
    if "byte" in table:
        byte = table.integer("byte", "", 1, 127)
        if 32 <= byte < 127 or byte in b"\r\n":
            raise table.error("byte", "expected a control character that ends no line, such as 0x18")
        if line.echo:
            raise table.error("byte", "with line.echo it would come back in front of the next reply; use a command")
        message, text = bytes((byte,)), ""
    else:
        text = table.template("command", "").render({})
        message = line.encode(text)
    acknowledged = table.flag("acknowledged", default=bool(text) and acknowledge is not None)
    if acknowledged and acknowledge is None:
        raise table.error("acknowledged", "there is no [acknowledge] that says how")
    table.done()
    return StopRule(message, text, acknowledged)


def error_rule(table: Table, status: StatusWord | None) -> ErrorRule:
    """Read [error]. Raises MapError."""
    clear = table.text("clear", "", "", 120)
    stopped = table.integers("stopped", "", [])
    if "mask" in table:
        mask = table.integer("mask", "", 1, 2**31 - 1)
        if status is None:
            raise table.error("mask", "there is no [status] whose bits these are")
        table.done()
        return ErrorRule(None, None, frozenset({0}), stopped, queue=False, clear=clear, mask=mask)
    rule = ErrorRule(
        query=table.template("query", WHY["error"]),
        reply=table.template("reply", "such as {code},{text}", ("code",), ("text",)),
        none=table.integers("none", "the codes that say that there is no error"),
        stopped=stopped,
        queue=table.flag("queue", default=False),
        clear=clear,
    )
    if both := rule.none & stopped:
        raise table.error("stopped", f"{', '.join(map(str, sorted(both)))} is among error.none too")
    table.done()
    return rule


def servo(table: Table | None, status: StatusWord | None) -> Servo:
    """Read [servo]; without one, loops that nobody can look at. Raises MapError."""
    if table is None:
        return Servo(None, "", "", None)
    command, on, off = None, "", ""
    if "command" in table:
        command = table.template("command", "", ("state",), ("axis",))
        on, off = table.text("on", "the word that closes a loop"), table.text("off", "the word that opens one")
        if on == off:
            raise table.error("off", "the same as servo.on")
    state = _condition(table, status) if "query" in table or "mask" in table else None
    if command is not None and state is None:
        raise MapError(
            table.key("query"), "is missing; what is set has to be read back: a query, or a mask of [status]"
        )
    table.done()
    return Servo(command, on, off, state)


def reference(table: Table | None, status: StatusWord | None) -> Reference | None:
    """Read [reference], or nothing. Raises MapError."""
    if table is None:
        return None
    command = table.template("command", "the command for a reference move", ("axis",))
    state = _condition(table, status)
    table.done()
    return Reference(command, state)


def contact(table: Table, line: LineRules) -> ContactRule:
    """Read [contact]. Raises MapError."""
    query = table.template("query", "the query for the deflection signal", (), ("channel",))
    reply = table.template("reply", "such as {value}", ("value",), ("channel",))
    volt_per_unit = table.number("volt_per_unit", "", -1e3, 1e3, 1.0)
    if volt_per_unit == 0:
        raise table.error("volt_per_unit", "expected anything but 0")
    form = NumberForm(table.maybe_integer("reply_decimals", 0, 12), line.exponent)
    table.done()
    return ContactRule(query, reply, volt_per_unit, form)


def emulated(table: Table | None) -> Emulated:
    """Read [emulated]; defaults without one. Raises MapError."""
    if table is None:
        return Emulated()
    usual = Emulated()

    def code(name: str, default: int) -> int:
        return table.integer(name, "", -999_999, 999_999, default)

    found = Emulated(
        maker=table.text("maker", "", usual.maker),
        model=table.text("model", "", usual.model),
        serial=table.text("serial", "", usual.serial),
        firmware=table.text("firmware", "", usual.firmware),
        any_case=table.choice("case", "", ("any", "exact"), "any") == "any",
        any_spaces=table.choice("spaces", "", ("any", "exact"), "any") == "any",
        chain=table.text("chain", "", "", 1),
        prefix=table.text("prefix", "", "", 1),
        processing_s=table.number("processing_s", "", 0.0, 1.0, usual.processing_s),
        unknown=code("unknown", usual.unknown),
        parameter=code("parameter", usual.parameter),
        range=code("range", usual.range),
        state=code("state", usual.state),
        too_long=code("too_long", usual.too_long),
        queue=table.integer("queue", "", 1, 100, usual.queue),
    )
    table.done()
    return found
