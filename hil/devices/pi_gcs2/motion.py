"""The commands of the emulated stage controller that move axes, stop them, or decide whether they may move.

"When a part of a command line cannot be executed, the line is not executed at all" (MS249E p. 116): every action
judges all of its words before it changes anything.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from firmware_proto.gcs2.errors import ErrorCode, GcsError
from firmware_proto.gcs2.requests import parse_number, parse_pairs, parse_switch
from hil.devices.pi_gcs2.axis import Axis
from hil.devices.pi_gcs2.unit import Unit

Words = Sequence[str]

_ROUNDING_UM: Final = 1e-6
"""A target on the limit is inside it, whatever the sum of offset and target rounds to."""

VOLTS: Final = 100.0
"""What an open-loop axis takes for its whole travel, from 0 on. An E-727's amplifier goes further at both ends."""
_ROUNDING_V: Final = 1e-6


def switches(unit: Unit, words: Words) -> list[tuple[Axis, bool]]:
    """Return axes with their new states; raises GcsError."""
    pairs = parse_pairs(words)
    axes = [unit.named((name,))[0] for name in pairs]
    return list(zip(axes, (parse_switch(word) for word in pairs.values()), strict=True))


def lengths(unit: Unit, words: Words) -> list[tuple[Axis, float]]:
    """Return axes with numbers in um, um/s or um/s2; raises GcsError."""
    pairs = parse_pairs(words)
    axes = [unit.named((name,))[0] for name in pairs]
    return list(zip(axes, [unit.hear(parse_number(word)) for word in pairs.values()], strict=True))


def _refuse_motion(unit: Unit, axis: Axis, target_um: float, *, relative: bool) -> None:
    """Refuse a move to ``target_um``, which is a true position."""
    known = axis.referenced or (relative and not axis.reference_on)
    if not axis.servo or not known or axis.referencing(unit.now_ns):
        raise GcsError(ErrorCode.NOT_REFERENCED_OR_SERVO_OFF, "cannot move", data=axis.name)
    low, high = axis.model.low_um - _ROUNDING_UM, axis.model.high_um + _ROUNDING_UM
    # Limits do not follow a position that POS has set (MS249E p. 181). What is inside them and outside the hardware
    # is refused here, too: how a real controller reports the limit switch is not described there.
    shown_um = target_um + axis.offset_um if axis.referenced else target_um
    if not (low <= target_um <= high and low <= shown_um <= high):
        raise GcsError(ErrorCode.POSITION_LIMITS, "outside the travel", data=axis.name)


def _start(unit: Unit, targets: Sequence[tuple[Axis, float]], *, relative: bool = False) -> None:
    for axis, target in targets:
        _refuse_motion(unit, axis, target, relative=relative)
    for axis, target in targets:
        unit.start(axis, min(max(target, axis.model.low_um), axis.model.high_um))


def move_absolute(unit: Unit, words: Words) -> None:
    """Execute ``MOV``."""
    pairs = lengths(unit, words)
    unit.refuse_while_busy()
    _start(unit, [(axis, shown - axis.offset_um) for axis, shown in pairs])


def move_relative(unit: Unit, words: Words) -> None:
    """Execute ``MVR``: from the target, not from where the axis is."""
    pairs = lengths(unit, words)
    unit.refuse_while_busy()
    _start(unit, [(axis, axis.target_um + step) for axis, step in pairs], relative=True)


def go_home(unit: Unit, words: Words) -> None:
    """Execute ``GOH``: as ``MOV`` to 0."""
    unit.refuse_while_busy()
    _start(unit, [(axis, -axis.offset_um) for axis in unit.named(words)])


def set_servo(unit: Unit, words: Words) -> None:
    """Execute ``SVO``."""
    pairs = switches(unit, words)
    unit.refuse_while_busy()
    for axis, on in pairs:
        unit.set_servo(axis, on=on)


def volts(axis: Axis, um: float) -> float:
    """Return the piezo voltage that belongs to a position: a straight line here, without hysteresis."""
    return VOLTS * (um - axis.model.low_um) / (axis.model.high_um - axis.model.low_um)


def set_voltage(*, relative: bool) -> Callable[[Unit, Words], None]:
    """Return the action of ``SVA`` or ``SVR``: an open-loop value in V, only while the servo is off."""

    def act(unit: Unit, words: Words) -> None:
        pairs = parse_pairs(words)
        axes = [unit.named((name,))[0] for name in pairs]
        values = [parse_number(word) for word in pairs.values()]
        unit.refuse_while_busy()
        for axis in axes:
            if axis.servo:
                raise GcsError(ErrorCode.OPEN_LOOP_WITH_SERVO_ON, "the servo is on", data=axis.name)
        if relative:
            values = [volts(axis, axis.target_um) + step for axis, step in zip(axes, values, strict=True)]
        for axis, value in zip(axes, values, strict=True):
            if not -_ROUNDING_V <= value <= VOLTS + _ROUNDING_V:
                raise GcsError(ErrorCode.VOLTAGE_LIMITS, f"want 0 to {VOLTS:g} V", data=axis.name)
        for axis, value in zip(axes, values, strict=True):
            travel = axis.model.high_um - axis.model.low_um
            unit.start(axis, axis.model.low_um + min(max(value / VOLTS, 0.0), 1.0) * travel)

    return act


def set_velocity(unit: Unit, words: Words) -> None:
    """Execute ``VEL``; it counts from the next move on."""
    pairs = lengths(unit, words)
    unit.refuse_while_busy()
    for axis, value in pairs:
        if not 0 < value <= axis.model.max_velocity_um_s:
            raise GcsError(ErrorCode.VELOCITY_LIMITS, "outside the limits", data=axis.name)
    for axis, value in pairs:
        axis.velocity_um_s = value


def set_acceleration(unit: Unit, words: Words) -> None:
    """Execute ``ACC`` and ``DEC``: one ramp for both here; from the next move on."""
    pairs = lengths(unit, words)
    for axis, value in pairs:
        if not 0 < value <= 1e9:
            raise GcsError(ErrorCode.PARAMETER_OUT_OF_RANGE, "outside the limits", data=axis.name)
    for axis, value in pairs:
        axis.acceleration_um_s2 = value


def reference(place: Callable[[Axis], float]) -> Callable[[Unit, Words], None]:
    """Return the action of a reference move to the true position that ``place`` names."""

    def act(unit: Unit, words: Words) -> None:
        axes = unit.named(words)
        for axis in axes:
            if not axis.servo or axis.referencing(unit.now_ns):
                raise GcsError(ErrorCode.NOT_REFERENCED_OR_SERVO_OFF, "cannot reference", data=axis.name)
        for axis in axes:
            unit.start(axis, place(axis))
            axis.reference(unit.now_ns)

    return act


def set_reference_mode(unit: Unit, words: Words) -> None:
    """Execute ``RON``: 0 lets ``POS`` say where an axis is, and ``MVR`` move it before anybody has."""
    for axis, on in switches(unit, words):
        axis.reference_on = on


def set_position(unit: Unit, words: Words) -> None:
    """Execute ``POS``: only with referencing method 0 (MS249E p. 181). The axis counts as referenced."""
    pairs = lengths(unit, words)
    for axis, _ in pairs:
        if axis.reference_on or axis.moving(unit.now_ns):
            raise GcsError(ErrorCode.NOT_REFERENCED_OR_SERVO_OFF, "position is given by the reference", data=axis.name)
    for axis, shown in pairs:
        axis.call_it(unit.now_ns, shown)


def autozero(unit: Unit, words: Words) -> None:
    """Execute ``ATZ``: with a low voltage per axis, or ``NaN`` for the controller's own."""
    pairs = parse_pairs(words) if words else dict.fromkeys(unit.axes, "NaN")
    axes = [unit.named((name,))[0] for name in pairs]
    for word in pairs.values():
        if word.upper() != "NAN":
            parse_number(word)
    unit.refuse_while_busy()
    unit.autozero(axes)


def stop_all(unit: Unit, _words: Words = ()) -> None:
    """Execute ``STP`` and #24."""
    unit.halt(list(unit.axes.values()), abruptly=True)


def halt(unit: Unit, words: Words) -> None:
    """Execute ``HLT``."""
    unit.halt(unit.named(words), abruptly=False)


def system_abort(unit: Unit) -> None:
    """Execute #27: everything stops and no loop is closed any more."""
    stop_all(unit)
    for axis in unit.axes.values():
        unit.set_servo(axis, on=False)
