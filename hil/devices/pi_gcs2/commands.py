"""The commands of the emulated stage controller: what each does, and the line ``HLP?`` has for it.

"When a part of a command line cannot be executed, the line is not executed at all" (MS249E p. 116): every action
judges all of its words before it changes anything.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from firmware_proto.gcs2.errors import ErrorCode, GcsError
from firmware_proto.gcs2.replies import IS_READY, NOT_READY, Status
from firmware_proto.gcs2.requests import parse_items, parse_number, parse_pairs, parse_switch
from hil.devices.pi_gcs2.axis import Axis
from hil.devices.pi_gcs2.model import Model
from hil.devices.pi_gcs2.unit import Unit

Words = Sequence[str]
Action = Callable[[Unit, Words], list[str] | None]
"""Acts at ``unit.now_ns`` and returns the lines of the reply, None for a set command. Raises GcsError unchanged."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One command. ``most``: words it takes at most, None for any number."""

    act: Action
    text: str
    most: int | None = None


def _per_axis(value: Callable[[Unit, Axis], str]) -> Action:
    def act(unit: Unit, words: Words) -> list[str]:
        return [f"{axis.name}={value(unit, axis)}" for axis in unit.named(words)]

    return act


def _plain(value: Callable[[Unit], str]) -> Action:
    def act(unit: Unit, _words: Words) -> list[str]:
        return [value(unit)]

    return act


def _flag(value: Callable[[Unit, Axis], bool]) -> Action:
    return _per_axis(lambda unit, axis: "1" if value(unit, axis) else "0")


def _axis(unit: Unit, name: str) -> Axis:
    return unit.named((name,))[0]


def _refuse_motion(unit: Unit, axis: Axis, target_um: float) -> None:
    if not axis.servo or not axis.referenced or axis.referencing(unit.now_ns):
        raise GcsError(ErrorCode.NOT_REFERENCED_OR_SERVO_OFF, "cannot move", data=axis.name)
    if not axis.model.low_um <= target_um <= axis.model.high_um:
        raise GcsError(ErrorCode.POSITION_LIMITS, "outside the travel", data=axis.name)


def _move(unit: Unit, words: Words, *, relative: bool) -> None:
    pairs = parse_pairs(words)
    axes = [_axis(unit, name) for name in pairs]
    targets = [unit.hear(parse_number(word)) for word in pairs.values()]
    unit.refuse_while_busy()
    for axis in axes:
        axis.referencing(unit.now_ns)
    if relative:
        targets = [axis.target_um + step for axis, step in zip(axes, targets, strict=True)]
    for axis, target in zip(axes, targets, strict=True):
        _refuse_motion(unit, axis, target)
    for axis, target in zip(axes, targets, strict=True):
        unit.start(axis, target)


def _move_absolute(unit: Unit, words: Words) -> None:
    _move(unit, words, relative=False)


def _move_relative(unit: Unit, words: Words) -> None:
    _move(unit, words, relative=True)


def _set_servo(unit: Unit, words: Words) -> None:
    pairs = parse_pairs(words)
    axes = [_axis(unit, name) for name in pairs]
    states = [parse_switch(word) for word in pairs.values()]
    unit.refuse_while_busy()
    for axis, on in zip(axes, states, strict=True):
        unit.set_servo(axis, on=on)


def _set_velocity(unit: Unit, words: Words) -> None:
    pairs = parse_pairs(words)
    axes = [_axis(unit, name) for name in pairs]
    values = [unit.hear(parse_number(word)) for word in pairs.values()]
    unit.refuse_while_busy()
    for axis, value in zip(axes, values, strict=True):
        if not 0 < value <= axis.model.max_velocity_um_s:
            raise GcsError(ErrorCode.VELOCITY_LIMITS, "outside the limits", data=axis.name)
    for axis, value in zip(axes, values, strict=True):
        axis.velocity_um_s = value  # from the next move on


def _reference(unit: Unit, words: Words) -> None:
    axes = unit.named(words)
    for axis in axes:
        if not axis.servo or axis.referencing(unit.now_ns):
            raise GcsError(ErrorCode.NOT_REFERENCED_OR_SERVO_OFF, "cannot reference", data=axis.name)
    for axis in axes:
        unit.start(axis, 0.5 * (axis.model.low_um + axis.model.high_um))
        axis.reference(unit.now_ns)


def _autozero(unit: Unit, words: Words) -> None:
    pairs = parse_pairs(words) if words else dict.fromkeys(unit.axes, "NaN")
    axes = [_axis(unit, name) for name in pairs]
    for word in pairs.values():
        if word.upper() != "NAN":
            parse_number(word)
    unit.refuse_while_busy()
    for axis in axes:
        unit.start(axis, axis.model.low_um)
    unit.autozero_until_ns = unit.now_ns + int(unit.model.autozero_s * 1e9)


def _stop_all(unit: Unit, _words: Words) -> None:
    unit.halt(list(unit.axes.values()), abruptly=True)


def _halt(unit: Unit, words: Words) -> None:
    unit.halt(unit.named(words), abruptly=False)


def _analog(unit: Unit, words: Words) -> list[str]:
    channels = []
    for word in parse_items(words) or [str(k + 1) for k in range(unit.model.analog_inputs)]:
        if not word.isdecimal() or not 1 <= int(word) <= unit.model.analog_inputs:
            raise GcsError(ErrorCode.PARAMETER_OUT_OF_RANGE, "no such analog input", data=word)
        channels.append(int(word))
    return [f"{channel}={unit.mechanics.signal_v(unit.now_ns, channel):.4f}" for channel in channels]


def _axes(unit: Unit, words: Words) -> list[str]:
    if words and words[0].upper() != "ALL":
        raise GcsError(ErrorCode.PARAMETER_OUT_OF_RANGE, "only ALL can stand here", data=words[0])
    return list(unit.axes)


def _referenced(unit: Unit, axis: Axis) -> bool:
    return not axis.referencing(unit.now_ns) and axis.referenced


_ANY: Final[dict[str, Entry]] = {
    "*IDN?": Entry(_plain(lambda unit: unit.model.identity), "Get Device Identification", 0),
    "CST?": Entry(_per_axis(lambda _unit, _axis: "EMULATED"), "[{<AxisID>}] Get Stage Type"),
    "CSV?": Entry(_plain(lambda _unit: "2.0"), "Get Current Syntax Version", 0),
    "ERR?": Entry(_plain(lambda unit: str(unit.take_error())), "Get Error Number", 0),
    "HLT": Entry(_halt, "[{<AxisID>}] Halt Motion Smoothly"),
    "MOV": Entry(_move_absolute, "{<AxisID> <Position>} Set Target Position"),
    "MOV?": Entry(_per_axis(lambda unit, axis: unit.tell(axis.target_um)), "[{<AxisID>}] Get Target Position"),
    "MVR": Entry(_move_relative, "{<AxisID> <Distance>} Set Target Relative To Current Target"),
    "ONT?": Entry(_flag(lambda unit, axis: axis.on_target(unit.now_ns)), "[{<AxisID>}] Get On-Target State"),
    "POS?": Entry(_per_axis(lambda unit, axis: unit.tell(axis.read_um(unit.now_ns))), "[{<AxisID>}] Get Real Position"),
    "PUN?": Entry(_per_axis(lambda unit, _axis: unit.model.unit.upper()), "[{<AxisID>}] Get Position Unit"),
    "SAI?": Entry(_axes, "[ALL] Get List Of Current Axis Identifiers", 1),
    "STP": Entry(_stop_all, "Stop All Axes", 0),
    "SVO": Entry(_set_servo, "{<AxisID> <ServoState>} Set Servo Mode"),
    "SVO?": Entry(_flag(lambda _unit, axis: axis.servo), "[{<AxisID>}] Get Servo Mode"),
    "TMN?": Entry(_per_axis(lambda unit, axis: unit.tell(axis.model.low_um)), "[{<AxisID>}] Get Minimum Position"),
    "TMX?": Entry(_per_axis(lambda unit, axis: unit.tell(axis.model.high_um)), "[{<AxisID>}] Get Maximum Position"),
    "VEL": Entry(_set_velocity, "{<AxisID> <Velocity>} Set Closed-Loop Velocity"),
    "VEL?": Entry(_per_axis(lambda unit, axis: unit.tell(axis.velocity_um_s)), "[{<AxisID>}] Get Velocity"),
}
_ABSOLUTE: Final[dict[str, Entry]] = {
    "ATZ": Entry(_autozero, "[{<AxisID> <LowValue>}] Set Automatic Zero Point Calibration"),
    "ATZ?": Entry(_flag(lambda unit, _axis: not unit.autozeroing()), "[{<AxisID>}] Get State Of Autozero"),
}
_INCREMENTAL: Final[dict[str, Entry]] = {
    "FRF": Entry(_reference, "[{<AxisID>}] Fast Reference Move To Reference Switch"),
    "FRF?": Entry(_flag(_referenced), "[{<AxisID>}] Get Referencing"),
}
_ANALOG: Final[dict[str, Entry]] = {
    "TAC?": Entry(_plain(lambda unit: str(unit.model.analog_inputs)), "Tell Analog Channels", 0),
    "TAV?": Entry(_analog, "[{<AnalogInputID>}] Get Analog Input Voltage"),
}


def _positions_now(unit: Unit) -> list[str] | None:
    return _ANY["POS?"].act(unit, ())


def _status(unit: Unit) -> list[str]:
    """Answer #4 for the whole controller: a single axis has a register of its own, several are summed up."""
    now_ns, axes = unit.now_ns, list(unit.axes.values())
    status = Status(0)
    if all(axis.on_target(now_ns) for axis in axes):
        status |= Status.ON_TARGET
    if any(axis.referencing(now_ns) for axis in axes):
        status |= Status.REFERENCING
    if any(axis.moving(now_ns) for axis in axes):
        status |= Status.MOVING
    if all(axis.servo for axis in axes):
        status |= Status.SERVO_ON
    if unit.error:
        status |= Status.ERROR
    return [f"0x{status:04X}"]


def _motion(unit: Unit) -> list[str]:
    moving = (axis.moving(unit.now_ns) for axis in unit.axes.values())
    return [f"{sum(1 << index for index, moves in enumerate(moving) if moves):X}"]


def _ready(unit: Unit) -> list[str]:
    return [chr(NOT_READY if unit.busy() else IS_READY)]


def _stop_now(unit: Unit) -> None:
    _stop_all(unit, ())


SINGLES: Final[dict[int, tuple[Callable[[Unit], list[str] | None], str]]] = {
    3: (_positions_now, "Request Real Position"),
    4: (_status, "Request Status Register"),
    5: (_motion, "Request Motion Status"),
    7: (_ready, "Request Controller Ready Status"),
    8: (lambda _unit: ["0"], "Query If Macro Is Running"),
    9: (lambda _unit: ["0"], "Get Wave Generator Status"),
    24: (_stop_now, "Stop All Axes"),
}


def table(model: Model) -> dict[str, Entry]:
    """Return the command lines of a model, ``HLP?`` included."""
    entries = dict(_ANY)
    entries |= _ABSOLUTE if model.referencing == "absolute" else _INCREMENTAL
    if model.analog_inputs:
        entries |= _ANALOG
    entries["HLP?"] = Entry(lambda _unit, _words: helped, "Get List Of Available Commands", 0)
    entries = {name: entry for name, entry in entries.items() if name not in model.without}
    singles = [f"#{n} {text}" for n, (_, text) in SINGLES.items() if f"#{n}" not in model.without]
    lines = [f"{name} {entry.text}" for name, entry in sorted(entries.items())]
    helped = ["The following commands are valid:", *singles, *lines, "end of help"]
    return entries
