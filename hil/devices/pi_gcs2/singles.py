"""Single-byte commands of the emulated stage controller: they act and answer at once, also while a line is executed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from firmware_proto.gcs2.replies import IS_READY, NOT_READY, Status
from hil.devices.pi_gcs2.axis import Axis
from hil.devices.pi_gcs2.motion import stop_all, system_abort
from hil.devices.pi_gcs2.unit import Unit


def positions(unit: Unit, axes: list[Axis]) -> list[str]:
    """Return the reply to ``POS?`` and #3; #6 then asks what has changed since."""
    for axis in axes:
        unit.seen_um[axis.model.name] = axis.true_um(unit.now_ns)
    return [f"{axis.name}={unit.tell(axis.read_um(unit.now_ns))}" for axis in axes]


def _positions_now(unit: Unit) -> list[str]:
    return positions(unit, list(unit.axes.values()))


def status(unit: Unit, axes: list[Axis]) -> str:
    """Return the status register of axes; a single one has a register of its own, several are summed up."""
    now_ns = unit.now_ns
    bits = Status(0)
    if all(axis.on_target(now_ns) for axis in axes):
        bits |= Status.ON_TARGET
    if any(axis.referencing(now_ns) for axis in axes):
        bits |= Status.REFERENCING
    if any(axis.moving(now_ns) for axis in axes):
        bits |= Status.MOVING
    if all(axis.servo for axis in axes):
        bits |= Status.SERVO_ON
    if unit.error:
        bits |= Status.ERROR
    return f"0x{bits:04X}"


def _status(unit: Unit) -> list[str]:
    return [status(unit, list(unit.axes.values()))]


def _bits(flags: list[bool]) -> list[str]:
    return [f"{sum(1 << index for index, flag in enumerate(flags) if flag):X}"]


def _motion(unit: Unit) -> list[str]:
    return _bits([axis.moving(unit.now_ns) for axis in unit.axes.values()])


def _changed(unit: Unit) -> list[str]:
    least_um = 0.5 * unit.model.least_um
    return _bits(
        [abs(axis.true_um(unit.now_ns) - unit.seen_um[axis.model.name]) > least_um for axis in unit.axes.values()]
    )


def _ready(unit: Unit) -> list[str]:
    return [chr(NOT_READY if unit.busy() else IS_READY)]


SINGLES: Final[dict[int, tuple[Callable[[Unit], list[str] | None], str]]] = {
    3: (_positions_now, "Request Real Position"),
    4: (_status, "Request Status Register"),
    5: (_motion, "Request Motion Status"),
    6: (_changed, "Query If Position Has Changed Since Last POS?"),
    7: (_ready, "Request Controller Ready Status"),
    8: (lambda _unit: ["0"], "Query If Macro Is Running"),
    9: (lambda _unit: ["0"], "Get Wave Generator Status"),
    24: (stop_all, "Stop All Axes"),
    27: (system_abort, "System Abort"),
}
