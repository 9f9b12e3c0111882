"""A resistor: what stands in for the tip while a rig is commissioned, and the least a load can be."""

from __future__ import annotations

from hil.errors import BenchOptionError
from hil.twin.terminals import OperatingPoint, SourcedLoad
from hil.twin.truth import TruthRecord


def ohmic_point(v_set: float, i_limit_a: float, r_ohm: float, series_ohm: float) -> OperatingPoint:
    """Where a clamped source meets ``r_ohm`` behind ``series_ohm``: on the load line, or at the clamp."""
    total_ohm = r_ohm + series_ohm
    i_a = v_set / total_ohm
    if abs(i_a) <= i_limit_a:
        return OperatingPoint(i_a * r_ohm, i_a, clamped=False)
    i_a = i_limit_a if v_set > 0 else -i_limit_a
    return OperatingPoint(i_a * r_ohm, i_a, clamped=True)


class OhmicLoad(SourcedLoad):
    """``r_ohm`` (1 mohm to 1 Pohm) behind ``series_ohm``; the tip voltage is the one across ``r_ohm``."""

    def __init__(self, r_ohm: float, series_ohm: float = 0.0, *, truth: TruthRecord | None = None) -> None:
        """Raise BenchOptionError for resistances out of range."""
        _check(r_ohm)
        super().__init__(series_ohm=series_ohm, truth=truth, dose_from_start=True)
        self.r_ohm = r_ohm

    def replace(self, r_ohm: float) -> None:
        """Put another resistor there, from where the sample has lived to; raise BenchOptionError if out of range."""
        _check(r_ohm)
        t_ns = self._t_ns
        self._close_segment(t_ns)
        self.r_ohm = r_ohm
        self._open_segment(t_ns)

    def _operate(self, v_set: float, i_limit_a: float) -> OperatingPoint:
        return ohmic_point(v_set, i_limit_a, self._beside(self.r_ohm), self.series_ohm)


def _check(r_ohm: float) -> None:
    if not 1e-3 <= r_ohm <= 1e15:
        raise BenchOptionError(f"ohmic:{r_ohm}: want a resistance in ohm from 1e-3 to 1e15")
