"""The command lines of the emulated stage controller: what each does, and the line ``HLP?`` has for it.

What moves is in :mod:`hil.devices.pi_gcs2.motion`, what is a parameter in :mod:`hil.devices.pi_gcs2.parameters`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from firmware_proto.gcs2.commands import is_item
from firmware_proto.gcs2.errors import ErrorCode, GcsError
from firmware_proto.gcs2.requests import parse_items, parse_pairs
from hil.devices.pi_gcs2 import motion, parameters
from hil.devices.pi_gcs2.axis import Axis
from hil.devices.pi_gcs2.model import Model
from hil.devices.pi_gcs2.singles import SINGLES, positions, status
from hil.devices.pi_gcs2.unit import Unit

__all__ = ["SINGLES", "Action", "Entry", "table"]

Words = Sequence[str]
Action = Callable[[Unit, Words], list[str] | None]
"""Acts at ``unit.now_ns`` and returns the lines of the reply, None for a set command. Raises GcsError unchanged."""

ADC_COUNTS: Final = 1 << 17
"""Half the range of ``TAD?``: an 18-bit converter."""


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


def _channels(words: Words, count: int) -> list[int]:
    channels = []
    for word in parse_items(words) or [str(k + 1) for k in range(count)]:
        if not word.isdecimal() or not 1 <= int(word) <= count:
            raise GcsError(ErrorCode.PARAMETER_OUT_OF_RANGE, "no such input", data=word)
        channels.append(int(word))
    return channels


def _analog(unit: Unit, words: Words) -> list[str]:
    channels = _channels(words, unit.model.analog_inputs)
    return [f"{channel}={unit.mechanics.signal_v(unit.now_ns, channel):.4f}" for channel in channels]


def _sensors(value: Callable[[Unit, Axis, float], str]) -> Action:
    """Return a question about sensor or piezo channels, of which each axis has one, in the order of the axes."""

    def act(unit: Unit, words: Words) -> list[str]:
        axes = list(unit.axes.values())
        told = []
        for channel in _channels(words, len(axes)):
            axis = axes[channel - 1]
            told.append(f"{channel}={value(unit, axis, axis.read_um(unit.now_ns))}")
        return told

    return act


def _share(axis: Axis, um: float) -> float:
    """Return a position as a fraction of the travel, -1 to 1 at its ends."""
    return (2 * um - axis.model.low_um - axis.model.high_um) / (axis.model.high_um - axis.model.low_um)


def _axes(unit: Unit, words: Words) -> list[str]:
    if words and words[0].upper() != "ALL":
        raise GcsError(ErrorCode.PARAMETER_OUT_OF_RANGE, "only ALL can stand here", data=words[0])
    return list(unit.axes)


def _rename(unit: Unit, words: Words) -> None:
    pairs = parse_pairs(words)
    names = [axis.name for axis in unit.axes.values()]
    for old, new in pairs.items():
        unit.named((old,))
        if not is_item(new):
            raise GcsError(ErrorCode.ILLEGAL_AXIS, "not an identifier", data=new)
        names = [new if name == old else name for name in names]
    if len(set(names)) != len(names):
        raise GcsError(ErrorCode.DUPLICATE_AXIS, "named twice", data=" ".join(names))
    unit.rename(names)


def _positions(unit: Unit, words: Words) -> list[str]:
    return positions(unit, unit.named(words))


def _registers(unit: Unit, words: Words) -> list[str]:
    """Answer ``SRG?`` with pairs of axis and register, of which number 1 is the only one (MS249E p. 193)."""
    pairs = parse_pairs(words) if words else dict.fromkeys(unit.axes, "1")
    for register in pairs.values():
        if register != "1":
            raise GcsError(ErrorCode.PARAMETER_OUT_OF_RANGE, "no such register", data=register)
    return [f"{axis.name} 1={status(unit, [axis])}" for axis in unit.named(tuple(pairs))]


def _referenced(unit: Unit, axis: Axis) -> bool:
    return not axis.referencing(unit.now_ns) and axis.referenced


def _zeroed(unit: Unit, axis: Axis) -> bool:
    return not unit.autozeroing() and axis.zeroed


def _target(unit: Unit, axis: Axis) -> str:
    return unit.tell(axis.target_um + axis.offset_um)


def _reboot(unit: Unit, _words: Words) -> None:
    unit.reboot_due = True


_ANY: Final[dict[str, Entry]] = {
    "*IDN?": Entry(_plain(lambda unit: unit.model.identity), "Get Device Identification", 0),
    "CST?": Entry(_per_axis(lambda unit, _axis: unit.model.stage_type), "[{<AxisID>}] Get Stage Type"),
    "CSV?": Entry(_plain(lambda _unit: "2.0"), "Get Current Syntax Version", 0),
    "ERR?": Entry(_plain(lambda unit: str(unit.take_error())), "Get Error Number", 0),
    "HLT": Entry(motion.halt, "[{<AxisID>}] Halt Motion Smoothly"),
    "HPA?": Entry(parameters.ask_list, "Get List Of Available Parameters", 0),
    "MOV": Entry(motion.move_absolute, "{<AxisID> <Position>} Set Target Position"),
    "MOV?": Entry(_per_axis(_target), "[{<AxisID>}] Get Target Position"),
    "MVR": Entry(motion.move_relative, "{<AxisID> <Distance>} Set Target Relative To Current Target"),
    "ONT?": Entry(_flag(lambda unit, axis: axis.on_target(unit.now_ns)), "[{<AxisID>}] Get On-Target State"),
    "POS?": Entry(_positions, "[{<AxisID>}] Get Real Position"),
    "PUN?": Entry(_per_axis(lambda unit, _axis: unit.model.unit.upper()), "[{<AxisID>}] Get Position Unit"),
    "RBT": Entry(_reboot, "Reboot System", 0),
    "RPA": Entry(parameters.restore, "[{<ItemID> <PamID>}] Reset Volatile Memory Parameters"),
    "SAI": Entry(_rename, "{<AxisID> <NewIdentifier>} Set Current Axis Identifiers"),
    "SAI?": Entry(_axes, "[ALL] Get List Of Current Axis Identifiers", 1),
    "SEP": Entry(parameters.change_stored, "<Pswd> {<ItemID> <PamID> <PamValue>} Set Non-Volatile Memory Parameters"),
    "SEP?": Entry(parameters.ask_stored, "[{<ItemID> <PamID>}] Get Non-Volatile Memory Parameters"),
    "SPA": Entry(parameters.change_volatile, "{<ItemID> <PamID> <PamValue>} Set Volatile Memory Parameters"),
    "SPA?": Entry(parameters.ask_volatile, "[{<ItemID> <PamID>}] Get Volatile Memory Parameters"),
    "STP": Entry(motion.stop_all, "Stop All Axes", 0),
    "SVO": Entry(motion.set_servo, "{<AxisID> <ServoState>} Set Servo Mode"),
    "SVO?": Entry(_flag(lambda _unit, axis: axis.servo), "[{<AxisID>}] Get Servo Mode"),
    "TMN?": Entry(_per_axis(lambda unit, axis: unit.tell(axis.model.low_um)), "[{<AxisID>}] Get Minimum Position"),
    "TMX?": Entry(_per_axis(lambda unit, axis: unit.tell(axis.model.high_um)), "[{<AxisID>}] Get Maximum Position"),
    "VEL": Entry(motion.set_velocity, "{<AxisID> <Velocity>} Set Closed-Loop Velocity"),
    "VEL?": Entry(_per_axis(lambda unit, axis: unit.tell(axis.velocity_um_s)), "[{<AxisID>}] Get Velocity"),
    "VER?": Entry(_plain(lambda unit: f"FW: V{unit.model.firmware}"), "Get Versions Of Firmware And Drivers", 0),
    "WPA": Entry(parameters.store, "<Pswd> [{<ItemID> <PamID>}] Save Parameters To Non-Volatile Memory"),
}
_ABSOLUTE: Final[dict[str, Entry]] = {
    "ATZ": Entry(motion.autozero, "[{<AxisID> <LowValue>}] Set Automatic Zero Point Calibration"),
    "ATZ?": Entry(_flag(_zeroed), "[{<AxisID>}] Get State Of Automatic Zero Point Calibration"),
    "CCL": Entry(parameters.set_level, "<Level> [<PSWD>] Set Command Level", 2),
    "CCL?": Entry(_plain(lambda unit: str(unit.level)), "Get Command Level", 0),
    "OVF?": Entry(_flag(lambda _unit, _axis: False), "[{<AxisID>}] Get Overflow State"),
    "SSN?": Entry(_plain(lambda unit: unit.model.serial_number), "Get Device Serial Number", 0),
    "SVA": Entry(motion.set_voltage(relative=False), "{<AxisID> <Amplitude>} Set Open-Loop Axis Value"),
    "SVA?": Entry(
        _per_axis(lambda unit, axis: unit.model.number(motion.volts(axis, axis.target_um))),
        "[{<AxisID>}] Get Open-Loop Axis Value",
    ),
    "SVR": Entry(motion.set_voltage(relative=True), "{<AxisID> <Difference>} Set Relative Open-Loop Axis Value"),
    "TAD?": Entry(
        _sensors(lambda _unit, axis, um: str(round(ADC_COUNTS * _share(axis, um)))), "[{<Channel>}] Get ADC Value"
    ),
    "TNS?": Entry(
        _sensors(lambda unit, axis, um: unit.model.number(100.0 * _share(axis, um))),
        "[{<Channel>}] Get Normalized Input Signal Value",
    ),
    "TSC?": Entry(_plain(lambda unit: str(len(unit.axes))), "Get Number Of Input Signal Channels", 0),
    "TSP?": Entry(_sensors(lambda unit, _axis, um: unit.tell(um)), "[{<Channel>}] Get Input Signal Position Value"),
    "VOL?": Entry(
        _sensors(lambda unit, axis, um: unit.model.number(motion.volts(axis, um))), "[{<Channel>}] Get Output Voltage"
    ),
}
_INCREMENTAL: Final[dict[str, Entry]] = {
    "ACC": Entry(motion.set_acceleration, "{<AxisID> <Acceleration>} Set Closed-Loop Acceleration"),
    "ACC?": Entry(_per_axis(lambda unit, axis: unit.tell(axis.acceleration_um_s2)), "[{<AxisID>}] Get Acceleration"),
    "DEC": Entry(motion.set_acceleration, "{<AxisID> <Deceleration>} Set Closed-Loop Deceleration"),
    "DEC?": Entry(_per_axis(lambda unit, axis: unit.tell(axis.acceleration_um_s2)), "[{<AxisID>}] Get Deceleration"),
    "FNL": Entry(motion.reference(lambda axis: axis.model.low_um), "[{<AxisID>}] Fast Move To Negative Limit"),
    "FPL": Entry(motion.reference(lambda axis: axis.model.high_um), "[{<AxisID>}] Fast Move To Positive Limit"),
    "FRF": Entry(
        motion.reference(lambda axis: 0.5 * (axis.model.low_um + axis.model.high_um)),
        "[{<AxisID>}] Fast Reference Move To Reference Switch",
    ),
    "FRF?": Entry(_flag(_referenced), "[{<AxisID>}] Get Referencing"),
    "GOH": Entry(motion.go_home, "[{<AxisID>}] Go To Home Position"),
    "LIM?": Entry(_flag(lambda _unit, _axis: True), "[{<AxisID>}] Indicate Limit Switches"),
    "POS": Entry(motion.set_position, "{<AxisID> <Position>} Set Real Position"),
    "RON": Entry(motion.set_reference_mode, "{<AxisID> <ReferenceOn>} Set Reference Mode"),
    "RON?": Entry(_flag(lambda _unit, axis: axis.reference_on), "[{<AxisID>}] Get Reference Mode"),
    "SRG?": Entry(_registers, "[{<AxisID> <RegisterID>}] Query Status Register Value"),
    "TRS?": Entry(_flag(lambda _unit, _axis: True), "[{<AxisID>}] Indicate Reference Switch"),
}
_ANALOG: Final[dict[str, Entry]] = {
    "TAC?": Entry(_plain(lambda unit: str(unit.model.analog_inputs)), "Tell Analog Channels", 0),
    "TAV?": Entry(_analog, "[{<AnalogInputID>}] Get Analog Input Voltage"),
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
