"""TRACe (also as DATA) and CALC3 over the wire (User's Manual 18-43, 18-113 to 18-116, table 18-10)."""

from __future__ import annotations

from typing import Final

from firmware_proto.scpi import format_nr3, parse_choice
from hil.devices.keithley2400.entries import Entries, Params, boolean_words, choice, command, integer, query
from hil.devices.keithley2400.errors import STALE, RefusedError
from hil.devices.keithley2400.status import MeasurementEvent
from hil.devices.keithley2400.trace import BYTES_PER_READING, DEFAULT_POINTS, MAX_POINTS, STATISTICS, Stored
from hil.devices.keithley2400.unit import Unit

_FEEDS: Final = {
    "SENSe": "SENS1",
    "SENSe1": "SENS1",
    "CALCulate": "CALC1",
    "CALCulate1": "CALC1",
    "CALCulate2": "CALC2",
}
"""Replies carry the number; how a real unit spells them was not found."""
_STATISTICS: Final = {"MEAN": "MEAN", "SDEViation": "SDEV", "MAXimum": "MAX", "MINimum": "MIN", "PKPK": "PKPK"}
_BUFFER: Final = int(MeasurementEvent.BUFFER_AVAILABLE | MeasurementEvent.BUFFER_FULL)


def _renew_bits(unit: Unit) -> None:
    register = unit.status.measurement
    register.update(register.condition & ~_BUFFER | unit.trace.bits)


def calculated(unit: Unit, entries: list[Stored]) -> str:
    """Return results of a calculation as ``:FORM:ELEM:CALC`` selects, on one line."""
    chosen = unit.settings.calc_elements
    out: list[float] = []
    for entry in entries:
        row = (("CALC", entry.result), ("TIME", entry.reading.time), ("STAT", entry.reading.stat))
        out += [value for name, value in row if name in chosen]
    return ",".join(map(format_nr3, out))


def _data(unit: Unit) -> str:
    stored = unit.trace.readings
    if not stored:
        # Not documented; no reply is what a client is least prepared for.
        raise RefusedError(STALE)
    if unit.trace.feed == "SENS1":
        return unit.format([entry.reading for entry in stored])
    return calculated(unit, stored)


def _free(unit: Unit) -> str:
    used = len(unit.trace.stored)
    return f"{(unit.trace.points - used) * BYTES_PER_READING}, {used * BYTES_PER_READING}"


def _trace(root: str) -> Entries:
    def clear(unit: Unit, _params: Params) -> None:
        unit.trace.clear()
        _renew_bits(unit)

    def set_points(unit: Unit, points: float) -> None:
        unit.trace.configure(points=int(points))
        _renew_bits(unit)

    def set_feed(unit: Unit, params: Params) -> None:
        unit.trace.configure(feed=parse_choice(params[0], _FEEDS))

    def set_control(unit: Unit, on: bool) -> None:
        unit.trace.enable(on=on)
        _renew_bits(unit)

    def set_stamps(unit: Unit, delta: bool) -> None:
        unit.trace.delta_stamps = delta

    out = [
        *query(f":{root}:DATA", _data),
        *command(f":{root}:CLEar", clear),
        *query(f":{root}:FREE", _free),
        *integer(
            f":{root}:POINts",
            lambda unit: unit.trace.points,
            set_points,
            low=1,
            high=MAX_POINTS,
            default=DEFAULT_POINTS,
        ),
        *query(f":{root}:POINts:ACTual", lambda unit: str(len(unit.trace.stored))),
        *command(f":{root}:FEED", set_feed, least=1),
        *query(f":{root}:FEED", lambda unit: unit.trace.feed),
        *boolean_words(f":{root}:FEED:CONTrol", ("NEVer", "NEXT"), lambda unit: unit.trace.active, set_control),
    ]
    return out + boolean_words(
        f":{root}:TSTamp:FORMat", ("ABSolute", "DELTa"), lambda unit: unit.trace.delta_stamps, set_stamps
    )


def _statistics() -> Entries:
    def set_format(unit: Unit, name: str) -> None:
        unit.settings.statistic = name

    def data(unit: Unit) -> str:
        values = unit.trace.statistic(STATISTICS[unit.settings.statistic])
        return ",".join(map(format_nr3, values))

    return [
        *choice(":CALCulate3:FORMat", _STATISTICS, lambda unit: unit.settings.statistic, set_format),
        *query(":CALCulate3:DATA", data),
    ]


def entries() -> Entries:
    """Return everything of this module for the command table."""
    return [*_trace("TRACe"), *_trace("DATA"), *_statistics()]
