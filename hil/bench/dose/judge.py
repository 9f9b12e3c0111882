"""What one trial did to its site, by the twin's own record; and whether the filament can still be reset.

The same judge for every arm: nothing here knows who watched.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from edge.experiments.checks import ramp
from edge.experiments.memristor import RESET_RATIO, MemristorPlan
from hil.twin.full import Site
from hil.twin.live import LiveLoad
from hil.twin.terminals import LIMIT_A
from hil.twin.truth import Entry

READ_V: Final = 0.1
"""Where the high resistance is judged, as HRS_READ does: positive, nothing is plated by looking."""
LRS_V: Final = 0.02
_READ_NS: Final = 20_000_000
_PLAN: Final = MemristorPlan()
RESET_LEVELS_V: Final = (*ramp(_PLAN.reset_v, _PLAN.reset_rate_v_s * _PLAN.level_s), 0.0)
"""The memristor plan's own reset: 0 to +1 V at 2 V/s, and back at once."""
RESET_LEVEL_NS: Final = round(_PLAN.level_s * 1e9)
TRACE_POINTS: Final = 6000


class Point(NamedTuple):
    """The tip at one moment: ns, current in A, voltage of the sample in V."""

    t_ns: int
    i_a: float
    v_tip: float


class TracedSite(Site):
    """A site that also notes the current through the tip from its first onset on; at most TRACE_POINTS points.

    Two points a segment of the twin's own time: between them the current relaxes from one to the other.
    """

    trace: list[Point] | None = None
    """None until somebody wants it."""

    def _note(self) -> None:
        if self.trace is not None and self.onset is not None and len(self.trace) < TRACE_POINTS:
            v_tip = self.v_tip
            self.trace.append(Point(self._t_ns, abs(self._g * v_tip), v_tip))

    def _open_segment(self, t_ns: int) -> None:
        super()._open_segment(t_ns)
        self._note()

    def _close_segment(self, t_ns: int) -> None:
        if t_ns > self._since_ns:
            self._t_ns = t_ns
            self._note()
        super()._close_segment(t_ns)


def measures(site: LiveLoad, t_ns: int) -> dict[str, Any]:
    """End a site's record at ``t_ns`` and return what the tip got; ``onset_ns`` is None where no filament formed.

    SI units. ``charge_c``, ``energy_j``: from onset to ``t_ns``. ``at_limit_s``: above the site's ``limit_a``.
    ``safe_s``: from onset until the sample had less than 1 mV, and stayed so; None if it has not.
    """
    site.close(t_ns)
    entries = site.truth.entries
    onset = next((entry for entry in entries if entry["event"] == "set_onset"), None)
    summary = entries[-1]
    if onset is None:
        return {"onset_ns": None, "peak_current_a": summary["peak_current_a"]}
    return {
        "onset_ns": onset["t_ns"],
        "nucleated_ns": onset.get("nucleated_ns"),
        "v_source": onset["v_source"],
        "set_current_a": onset["i_a"],
        "r_on_ohm": onset["r_on_ohm"],
        "n_onsets": summary["n_set_onset"],
        "peak_current_a": summary["peak_current_a"],
        "charge_c": summary["charge_c"],
        "energy_j": summary["energy_j"],
        "at_limit_s": summary["over_limit_s"],
        "safe_s": _safe_s(entries, int(str(onset["t_ns"]))),
    }


def _safe_s(entries: Sequence[Entry], onset_ns: int) -> float | None:
    ends = [e for e in entries if e["event"] in ("safe", "live") and int(str(e["t_ns"])) >= onset_ns]
    if not ends or ends[-1]["event"] != "safe":
        return None
    return (int(str(ends[-1]["t_ns"])) - onset_ns) * 1e-9


def reset(site: LiveLoad, t_ns: int) -> dict[str, Any]:
    """Apply one standard reset sweep to a site in the twin's own time, from ``t_ns`` on, and judge it.

    ``lrs_a``: the current at 0.1 V by the slope before it, in A; ``hrs_a``: after it; ``reset_ok``: the one is at
    least a thousand times the other, as in the memristor plan. No noise, no range: the site itself.
    """
    t_ns = _hold(site, t_ns, LRS_V, _READ_NS)
    lrs_a = abs(site.terminal_current_a) * READ_V / LRS_V
    for level_v in RESET_LEVELS_V:
        t_ns = _hold(site, t_ns, level_v, RESET_LEVEL_NS)
    t_ns = _hold(site, t_ns, READ_V, _READ_NS)
    hrs_a = abs(site.terminal_current_a)
    _hold(site, t_ns, 0.0, _READ_NS)
    return {"lrs_a": lrs_a, "hrs_a": hrs_a, "reset_ok": hrs_a <= lrs_a / RESET_RATIO}


def _hold(site: LiveLoad, t_ns: int, level_v: float, for_ns: int) -> int:
    site.set_source(t_ns, level_v, LIMIT_A, connected=True)
    site.advance(t_ns + for_ns)
    return t_ns + for_ns
