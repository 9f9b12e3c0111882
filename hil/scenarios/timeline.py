"""The trace around a fault as a picture: state, tip voltage, current, and the bytes on the lines. SVG, no script."""

from __future__ import annotations

import html
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from hil.faults.injector import Passed
from hil.scenarios.evidence import Evidence, Moment

BEFORE_NS: Final = 60_000_000
AFTER_NS: Final = 60_000_000
LONGEST_NS: Final = 1_500_000_000
"""A window longer than this is cut at its end; what happens later is in the numbers."""

_LEFT: Final = 92
_WIDTH: Final = 900
_PLOT: Final = _WIDTH - _LEFT - 14
_STATES: Final = {
    "SAFE": "#d7e8d0",
    "ARMED": "#efe7c4",
    "ENERGISED": "#f6cfa8",
    "CUTTING": "#e9a0a0",
    "TRIPPED": "#c9c9d9",
    "UNKNOWN": "#e6e6e6",
}
_FLOOR_A: Final = 1e-10


@dataclass(frozen=True, slots=True)
class Window:
    """The stretch of time that is shown, ns, and the zero its axis counts from."""

    begin_ns: int
    end_ns: int
    zero_ns: int

    def x(self, t_ns: int) -> float:
        """Return where a time is on the picture."""
        share = (t_ns - self.begin_ns) / max(1, self.end_ns - self.begin_ns)
        return _LEFT + _PLOT * min(1.0, max(0.0, share))

    def holds(self, t_ns: int) -> bool:
        """Whether a time is shown."""
        return self.begin_ns <= t_ns <= self.end_ns


def window_of(seen: Evidence, safe_ns: int | None) -> Window | None:
    """Return the stretch around the first fault, or around the first set; None where nothing happened."""
    zero_ns = seen.fault_ns if seen.fault_ns >= 0 else seen.onset_ns()
    if zero_ns < 0:
        return None
    last_ns = max(zero_ns, safe_ns or zero_ns, *(one.t_ns for one in seen.applied), seen.onset_ns())
    end_ns = min(last_ns + AFTER_NS, zero_ns + LONGEST_NS)
    return Window(zero_ns - BEFORE_NS, end_ns, zero_ns)


def draw(seen: Evidence, window: Window, safe_ns: int | None, words: str) -> str:
    """Return the picture; ``words`` say for those who cannot see it what is on it."""
    moments = _shown(seen.moments, window)
    parts = [_states(moments, window)]
    parts.append(_curve(moments, window, 46, 70, "tip", lambda m: m.v_tip, _volts))
    parts.append(_curve(moments, window, 134, 70, "|I|", lambda m: math.log10(max(abs(m.i_a), _FLOOR_A)), _amps))
    parts.append(_bytes(seen.passed, window, 226))
    parts.append(_axis(window, 292))
    parts.append(_marks(seen, window, safe_ns))
    title = f"<title>{html.escape(words)}</title>"
    return (
        f'<svg viewBox="0 0 {_WIDTH} 330" role="img" xmlns="http://www.w3.org/2000/svg">{title}{"".join(parts)}</svg>'
    )


def _shown(moments: Sequence[Moment], window: Window) -> list[Moment]:
    """Return the moments in the window and the one on either side, moved to its edge: nothing changed between."""
    inside = [moment for moment in moments if window.holds(moment.t_ns)]
    before = [moment for moment in moments if moment.t_ns < window.begin_ns][-1:]
    after = [moment for moment in moments if moment.t_ns > window.end_ns][:1]
    first = [moment._replace(t_ns=window.begin_ns) for moment in before]
    return [*first, *inside, *(moment._replace(t_ns=window.end_ns) for moment in after if inside or before)]


def _volts(value: float) -> str:
    return f"{value:.3g} V"


def _amps(value: float) -> str:
    power = 10.0**value
    for unit, scale in (("mA", 1e-3), ("µA", 1e-6), ("nA", 1e-9)):
        if power >= scale:
            return f"{power / scale:.3g} {unit}"
    return f"{power / 1e-12:.3g} pA"


def _states(moments: Sequence[Moment], window: Window) -> str:
    out = ['<text class="lane" x="8" y="24">state</text>']
    start = 0
    for at in range(1, len(moments) + 1):
        if at < len(moments) and moments[at].state == moments[start].state:
            continue
        left = window.x(moments[start].t_ns)
        right = window.x(moments[at].t_ns if at < len(moments) else window.end_ns)
        name = moments[start].state
        out.append(
            f'<rect x="{left:.1f}" y="8" width="{max(1.0, right - left):.1f}" height="24" '
            f'fill="{_STATES.get(name, "#eee")}"/>'
        )
        if right - left > 8 * len(name):
            out.append(f'<text class="small" x="{left + 4:.1f}" y="24">{name}</text>')
        start = at
    return "".join(out)


def _curve(
    moments: Sequence[Moment],
    window: Window,
    top: int,
    height: int,
    name: str,
    value: Callable[[Moment], float],
    words: Callable[[float], str],
) -> str:
    values = [value(moment) for moment in moments]
    if not values:
        return ""
    low, high = min(values), max(values)
    span = (high - low) or 1.0
    points = " ".join(
        f"{window.x(moment.t_ns):.1f},{top + height - (value(moment) - low) / span * height:.1f}" for moment in moments
    )
    return (
        f'<text class="lane" x="8" y="{top + height / 2 + 4:.0f}">{html.escape(name)}</text>'
        f'<text class="tiny" x="{_LEFT - 4}" y="{top + 8}" text-anchor="end">{words(high)}</text>'
        f'<text class="tiny" x="{_LEFT - 4}" y="{top + height}" text-anchor="end">{words(low)}</text>'
        f'<rect x="{_LEFT}" y="{top}" width="{_PLOT}" height="{height}" class="frame"/>'
        f'<polyline points="{points}" class="curve"/>'
    )


def _bytes(passed: Sequence[Passed], window: Window, top: int) -> str:
    out = [
        f'<text class="lane" x="8" y="{top + 12}">to device</text>',
        f'<text class="lane" x="8" y="{top + 42}">to host</text>',
    ]
    for row, to in enumerate(("device", "host")):
        y = top + 30 * row
        out.append(f'<line x1="{_LEFT}" x2="{_LEFT + _PLOT}" y1="{y + 8}" y2="{y + 8}" class="frame"/>')
        for one in passed:
            if one.to == to and window.holds(one.t_ns):
                kind = "hurt" if one.note else "whole"
                out.append(f'<rect x="{window.x(one.t_ns) - 1:.1f}" y="{y}" width="2" height="16" class="{kind}"/>')
    return "".join(out)


def _axis(window: Window, top: int) -> str:
    span_ms = (window.end_ns - window.begin_ns) / 1e6
    step_ms = next(s for s in (5, 10, 20, 50, 100, 200, 500, 1000, 5000) if span_ms / s <= 12)
    first = math.ceil((window.begin_ns - window.zero_ns) / 1e6 / step_ms)
    last = math.floor((window.end_ns - window.zero_ns) / 1e6 / step_ms)
    out = []
    for number in range(first, last + 1):
        x = window.x(window.zero_ns + number * step_ms * 1_000_000)
        out.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{top}" y2="{top + 5}" class="frame"/>')
        out.append(f'<text class="tiny" x="{x:.1f}" y="{top + 17}" text-anchor="middle">{number * step_ms}</text>')
    out.append(f'<text class="tiny" x="{_LEFT + _PLOT}" y="{top + 32}" text-anchor="end">ms from the fault</text>')
    return "".join(out)


def _marks(seen: Evidence, window: Window, safe_ns: int | None) -> str:
    out = []
    marks = [(one.t_ns, "fault", one.name) for one in seen.applied[:8]]
    onset_ns = seen.onset_ns()
    marks += [(onset_ns, "onset", "filament")] if onset_ns >= 0 else []
    marks += [(safe_ns, "safe", "safe")] if safe_ns is not None else []
    for number, (t_ns, kind, name) in enumerate(sorted(marks)):
        if not window.holds(t_ns):
            continue
        x = window.x(t_ns)
        out.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="8" y2="292" class="{kind}"/>')
        y = 60 + 14 * (number % 3)
        anchor, shift = ("end", -4) if x > _LEFT + 0.8 * _PLOT else ("start", 4)
        out.append(
            f'<text class="tiny {kind}-word" x="{x + shift:.1f}" y="{y}" text-anchor="{anchor}">'
            f"{html.escape(name)}</text>"
        )
    return "".join(out)
