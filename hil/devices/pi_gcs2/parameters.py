"""Parameters of the emulated stage controller: ``HPA? SPA SPA? SEP SEP? WPA RPA``, and the command levels.

Numbers and meanings: E-727 0x07000900 and 0x07000901, C-863 0x36 and 0x3F are on-target window and settling time;
0x0B 0x0E 0x0F 0x14 0x15 0x30 0x32 0x36 0x3C 0x3F 0x49 0x70 are those that PIPython or the C-863's manual asks for.
Piezo controllers want command level 1 for a change (else error 60), motor controllers do not.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from firmware_proto.gcs2.errors import ErrorCode, GcsError
from firmware_proto.gcs2.requests import parse_number
from hil.devices.pi_gcs2.axis import Axis
from hil.devices.pi_gcs2.unit import Unit

Words = Sequence[str]

PASSWORD: Final = "100"  # noqa: S105 - printed in every manual of these controllers
LEVELS: Final = {"0": "", "1": "advanced"}
"""Command levels with their passwords, as PI's manuals print them."""
COUNTS_PER_UM: Final = 1000


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter of an axis. ``level``: the command level that a change wants. ``change``: None for read-only ones.

    ``tell`` gives its value as text, ``change`` takes a number and raises GcsError 17 outside its range.
    """

    text: str
    kind: str
    tell: Callable[[Unit, Axis], str]
    change: Callable[[Unit, Axis, float], None] | None = None
    level: int = 0


def _in_range(value: float, low: float, high: float) -> float:
    if not low <= value <= high:
        raise GcsError(ErrorCode.PARAMETER_OUT_OF_RANGE, f"want {low:g} to {high:g}", data=f"{value}")
    return value


def _window(unit: Unit, axis: Axis, value: float) -> None:
    axis.tune(window_um=_in_range(unit.hear(value), 1e-6, 1e3))


def _counts(_unit: Unit, axis: Axis, value: float) -> None:
    axis.tune(window_um=_in_range(value, 0, 1e6) / COUNTS_PER_UM or 1e-6)


def _settle(_unit: Unit, axis: Axis, value: float) -> None:
    axis.tune(settle_s=_in_range(value, 0.0, 10.0))


def _velocity(unit: Unit, axis: Axis, value: float) -> None:
    axis.velocity_um_s = _in_range(unit.hear(value), 1e-9, axis.model.max_velocity_um_s)


def _ramp(unit: Unit, axis: Axis, value: float) -> None:
    axis.acceleration_um_s2 = _in_range(unit.hear(value), 1e-9, 1e9)


_PIEZO: Final[dict[int, Parameter]] = {
    0x07000000: Parameter("Range Limit Min", "FLOAT", lambda unit, axis: unit.tell(axis.model.low_um), level=1),
    0x07000001: Parameter("Range Limit Max", "FLOAT", lambda unit, axis: unit.tell(axis.model.high_um), level=1),
    0x07000200: Parameter(
        "Servo Loop Slew-Rate", "FLOAT", lambda unit, axis: unit.tell(axis.velocity_um_s), _velocity, level=1
    ),
    0x07000600: Parameter("Axis Name", "CHAR", lambda _unit, axis: axis.name, level=1),
    0x07000601: Parameter("Axis Unit", "CHAR", lambda unit, _axis: unit.model.unit.upper(), level=1),
    0x07000900: Parameter(
        "On Target Tolerance", "FLOAT", lambda unit, axis: unit.tell(axis.window_um), _window, level=1
    ),
    0x07000901: Parameter(
        "Settling Time", "FLOAT", lambda unit, axis: unit.model.number(axis.settle_s), _settle, level=1
    ),
}
_MOTOR: Final[dict[int, Parameter]] = {
    0x0B: Parameter("Closed-Loop Acceleration", "FLOAT", lambda unit, axis: unit.tell(axis.acceleration_um_s2), _ramp),
    0x0E: Parameter("Numerator Of The Counts-Per-Unit Factor", "INT", lambda unit, _axis: str(_counts_per_unit(unit))),
    0x0F: Parameter("Denominator Of The Counts-Per-Unit Factor", "INT", lambda _unit, _axis: "1"),
    0x14: Parameter("Has Reference Switch", "INT", lambda _unit, _axis: "1"),
    0x15: Parameter("Max. Travel In Positive Direction", "FLOAT", lambda unit, axis: unit.tell(axis.model.high_um)),
    0x30: Parameter("Max. Travel In Negative Direction", "FLOAT", lambda unit, axis: unit.tell(-axis.model.low_um)),
    0x32: Parameter("Has No Limit Switches", "INT", lambda _unit, _axis: "0"),
    0x36: Parameter("Settling Window", "INT", lambda _unit, axis: str(round(axis.window_um * COUNTS_PER_UM)), _counts),
    0x3C: Parameter("Stage Name", "CHAR", lambda unit, _axis: unit.model.stage_type),
    0x3F: Parameter("Settling Time", "FLOAT", lambda unit, axis: unit.model.number(axis.settle_s), _settle),
    0x49: Parameter("Closed-Loop Velocity", "FLOAT", lambda unit, axis: unit.tell(axis.velocity_um_s), _velocity),
    0x70: Parameter("Reference Signal Type", "INT", lambda _unit, _axis: "0"),
}


def _counts_per_unit(unit: Unit) -> int:
    return round(COUNTS_PER_UM * unit.model.unit_um)


def _of(unit: Unit) -> dict[int, Parameter]:
    return _PIEZO if unit.model.referencing == "absolute" else _MOTOR


def _find(unit: Unit, word: str) -> tuple[int, Parameter]:
    try:
        number = int(word, 0) if word.isascii() and "_" not in word else -1
    except ValueError:
        number = -1
    parameter = _of(unit).get(number)
    if parameter is None:
        raise GcsError(ErrorCode.UNKNOWN_PARAMETER, "no such parameter", data=word)
    return number, parameter


def _named(unit: Unit, words: Words) -> list[tuple[Axis, int, Parameter]]:
    """Return what pairs of axis and parameter name, or everything there is."""
    if not words:
        return [(axis, number, one) for axis in unit.axes.values() for number, one in _of(unit).items()]
    if len(words) % 2:
        raise GcsError(ErrorCode.MISSING_PARAMETER, "every item needs its parameter", data=" ".join(words))
    return [(unit.named((item,))[0], *_find(unit, word)) for item, word in zip(words[0::2], words[1::2], strict=True)]


def _lines(told: Sequence[tuple[Axis, int, str]]) -> list[str]:
    return [f"{axis.name} 0x{number:X}={value}" for axis, number, value in told]


def ask_volatile(unit: Unit, words: Words) -> list[str]:
    """Answer ``SPA?``."""
    return _lines([(axis, number, one.tell(unit, axis)) for axis, number, one in _named(unit, words)])


def ask_stored(unit: Unit, words: Words) -> list[str]:
    """Answer ``SEP?``: what the next start begins with."""
    found = _named(unit, words)
    fresh = unit.fresh()
    return _lines([(axis, number, one.tell(unit, fresh[axis.model.name])) for axis, number, one in found])


def _changes(unit: Unit, words: Words) -> list[tuple[Axis, int, float]]:
    if not words or len(words) % 3:
        raise GcsError(ErrorCode.MISSING_PARAMETER, "want item, parameter and value", data=" ".join(words))
    found = []
    for item, word, value in zip(words[0::3], words[1::3], words[2::3], strict=True):
        axis = unit.named((item,))[0]
        number, parameter = _find(unit, word)
        if parameter.change is None or unit.level < parameter.level:
            raise GcsError(ErrorCode.PROTECTED, "cannot be changed at this command level", data=word)
        found.append((axis, number, parse_number(value)))
    return found


def change_volatile(unit: Unit, words: Words) -> None:
    """Execute ``SPA``."""
    unit.refuse_while_busy()
    changes = _changes(unit, words)
    # A value outside its range is found on axes that nobody looks at: nothing of the line is done then.
    trial = unit.fresh()
    for axis, number, value in changes:
        apply(unit, trial[axis.model.name], number, value)
    for axis, number, value in changes:
        apply(unit, axis, number, value)
        unit.volatile[axis.model.name, number] = value


def change_stored(unit: Unit, words: Words) -> None:
    """Execute ``SEP <password>``: as ``SPA``, but for the next start."""
    _password(words)
    changes = _changes(unit, words[1:])
    trial = unit.fresh()
    for axis, number, value in changes:
        apply(unit, trial[axis.model.name], number, value)
    unit.stored.update({(axis.model.name, number): value for axis, number, value in changes})


def apply(unit: Unit, axis: Axis, number: int, value: float) -> None:
    """Give a parameter of an axis a value; raises GcsError 17."""
    change = _of(unit)[number].change
    if change is not None:
        change(unit, axis, value)


def _password(words: Words) -> None:
    if not words or words[0] != PASSWORD:
        raise GcsError(ErrorCode.INVALID_PASSWORD, "not the password", data=" ".join(words[:1]))


def store(unit: Unit, words: Words) -> None:
    """Execute ``WPA <password>``: what ``SPA`` has changed is there after the next start."""
    _password(words)
    unit.stored.update(unit.volatile)


def restore(unit: Unit, words: Words) -> None:
    """Execute ``RPA``: back to what is stored."""
    fresh = unit.fresh()
    for axis, number, parameter in _named(unit, words):
        unit.volatile.pop((axis.model.name, number), None)
        if parameter.change is not None and parameter.kind != "CHAR":
            # What a fresh axis says of itself is what this one has to be.
            apply(unit, axis, number, float(parameter.tell(unit, fresh[axis.model.name])))


def ask_list(unit: Unit, _words: Words) -> list[str]:
    """Answer ``HPA?``: number, command level, items, type, group and name, separated by tabs."""
    lines = [
        f"0x{number:X}=\t{one.level}\t{len(unit.axes)}\t{one.kind}\tAxis\t{one.text}"
        for number, one in _of(unit).items()
    ]
    return ["The following parameters are valid:", *lines, "end of help"]


def set_level(unit: Unit, words: Words) -> None:
    """Execute ``CCL <level> [<password>]``."""
    if not words:
        raise GcsError(ErrorCode.MISSING_PARAMETER, "want a level")
    level, password = words[0], "".join(words[1:])
    if level not in LEVELS:
        raise GcsError(ErrorCode.PARAMETER_OUT_OF_RANGE, f"want one of {', '.join(LEVELS)}", data=level)
    if password.lower() != LEVELS[level]:
        raise GcsError(ErrorCode.INVALID_PASSWORD, "not the password", data=level)
    unit.level = int(level)
