"""The report of scenarios: one HTML file that needs nothing else, with the trace around each fault."""

from __future__ import annotations

import html
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from hil.faults.injector import Passed
from hil.html_page import shell
from hil.scenarios import timeline
from hil.scenarios.evidence import Evidence
from hil.scenarios.run import Outcome

MAX_ROWS: Final = 40
"""Lines of a trace that are printed."""

_CSS: Final = """
body { margin: 0 auto; padding: 1rem; max-width: 62rem; font: 1rem/1.5 system-ui, sans-serif; color: #1a1a1a; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.15rem; margin: 0 0 0.3rem; }
section { margin: 2rem 0; padding-top: 1rem; border-top: 1px solid #d0d0d0; }
p { margin: 0.4rem 0; max-width: 48rem; } .from { color: #595959; font-size: 0.875rem; }
table { border-collapse: collapse; margin: 0.6rem 0; } .wide { overflow-x: auto; }
th, td { padding: 0.2rem 0.9rem 0.2rem 0; text-align: left; vertical-align: top; border-bottom: 1px solid #e2e2e2; }
td.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
code, pre { font: 0.8rem/1.35 ui-monospace, monospace; } .bytes { white-space: pre; }
.held { color: #00664b; font-weight: 600; white-space: nowrap; }
.broken { color: #a32a00; font-weight: 700; white-space: nowrap; }
tr.hurt td { background: #fbeee8; }
svg { width: 100%; height: auto; min-width: 40rem; } svg text { font-family: system-ui, sans-serif; fill: #1a1a1a; }
.lane { font-size: 12px; } .small { font-size: 11px; } .tiny { font-size: 10.5px; }
.frame { fill: none; stroke: #c8c8c8; } .curve { fill: none; stroke: #0072b2; stroke-width: 1.5; }
.whole { fill: #6e6e6e; } .hurt { fill: #d55e00; } .fault { stroke: #d55e00; stroke-width: 1.5; }
.safe { stroke: #009e73; stroke-width: 1.5; stroke-dasharray: 5 3; }
.onset { stroke: #cc79a7; stroke-width: 1.5; stroke-dasharray: 2 2; }
svg text.fault-word { fill: #a8480a; } svg text.safe-word { fill: #00664b; } svg text.onset-word { fill: #8d3b66; }
@media print { section { break-inside: avoid; } }
"""


def write_report(path: Path, outcomes: Sequence[Outcome], *, footer: str = "") -> None:
    """Write the page; raises OSError where it cannot be written."""
    path.write_text(page(outcomes, footer=footer), encoding="utf-8")


def page(outcomes: Sequence[Outcome], *, footer: str = "") -> str:
    """Return the page."""
    broken = [one for one in outcomes if not one.held]
    lead = (
        f"{len(outcomes) - len(broken)} of {len(outcomes)} scenarios held."
        if broken
        else f"All {len(outcomes)} scenarios held."
    )
    body = [f"<h1>Fault scenarios</h1><p>{lead} Times are the bench's own; safe is what the sample itself records.</p>"]
    body.append(_overview(outcomes))
    body += [_section(one) for one in [*broken, *(one for one in outcomes if one.held)]]
    if footer:
        body.append(f'<footer class="from">{html.escape(footer)}</footer>')
    return shell("Fault scenarios", _CSS, "".join(body))


def _word(held: bool) -> str:
    return '<span class="held">held</span>' if held else '<span class="broken">NOT HELD</span>'


def _overview(outcomes: Sequence[Outcome]) -> str:
    rows = []
    for one in outcomes:
        judged, scenario = one.judgement, one.scenario
        safe = "" if judged.safe_s is None else f"{judged.safe_s * 1e3:.1f}"
        rows.append(
            f'<tr><td><a href="#{scenario.name}">{scenario.name}</a></td><td>{_word(one.held)}</td>'
            f"<td>{html.escape(one.seen.status)}</td><td>{judged.verdict or ''}</td>"
            f'<td class="number">{safe}</td><td class="number">{scenario.holds.safe_within_s * 1e3:g}</td></tr>'
        )
    head = "".join(f"<th>{name}</th>" for name in ("scenario", "", "run", "first cut", "safe, ms", "bound, ms"))
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table></div>'


def _section(one: Outcome) -> str:
    scenario, judged, seen = one.scenario, one.judgement, one.seen
    checks = "".join(
        f"<tr><td>{check.name}</td><td>{_word(check.held)}</td><td>{html.escape(check.seen)}</td></tr>"
        for check in judged.checks
    )
    out = [
        f'<section id="{scenario.name}"><h2>{html.escape(scenario.title)} {_word(one.held)}</h2>',
        f"<p>{html.escape(scenario.what)}</p>",
        (
            f'<p class="from">{scenario.name}; bench {scenario.rig.bench}; seed {scenario.seed}; '
            f"known from: {html.escape(scenario.source)}</p>"
        ),
    ]
    out.append(f'<div class="wide"><table><tbody>{checks}</tbody></table></div>')
    out += _trace(seen, judged.safe_s, scenario.holds.safe_after)
    return "".join([*out, "</section>"])


def _trace(seen: Evidence, safe_s: float | None, safe_after: str) -> list[str]:
    begin_ns = {"fault": seen.fault_ns, "onset": seen.onset_ns(), "run": seen.run_ended_ns}[safe_after]
    safe_ns = None if safe_s is None or begin_ns < 0 else begin_ns + int(safe_s * 1e9)
    window = timeline.window_of(seen, safe_ns)
    if window is None or not seen.moments:
        return ["<p>No trace: this bench is watched by its record only.</p>"]
    words = f"State, tip voltage, current and bytes from {(window.begin_ns - window.zero_ns) / 1e6:.0f} ms on"
    out = [f'<div class="wide">{timeline.draw(seen, window, safe_ns, words)}</div>']
    rows = [_row(passed, window.zero_ns) for passed in _chosen(seen.passed, window)]
    if rows:
        head = "".join(f"<th>{name}</th>" for name in ("ms", "port", "to", "bytes as they arrived", "fault"))
        table = f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"
        out.append(f'<details><summary>Bytes on the lines</summary><div class="wide">{table}</div></details>')
    return out


def _chosen(passed: Sequence[Passed], window: timeline.Window) -> list[Passed]:
    """Return what is printed of the trace: the part around the zero, at most MAX_ROWS lines."""
    shown = [one for one in passed if window.holds(one.t_ns)]
    first = next((n for n, one in enumerate(shown) if one.t_ns >= window.zero_ns), 0)
    start = max(0, first - MAX_ROWS // 4)
    return shown[start : start + MAX_ROWS]


def _row(one: Passed, zero_ns: int) -> str:
    kind = ' class="hurt"' if one.note else ""
    text = one.arrived.decode("latin-1").encode("unicode_escape").decode("ascii")
    if one.note and one.arrived != one.sent:
        text += "   (sent: " + one.sent.decode("latin-1").encode("unicode_escape").decode("ascii") + ")"
    cells = f'<td class="number">{(one.t_ns - zero_ns) / 1e6:.2f}</td><td>{one.port}</td><td>{one.to}</td>'
    return (
        f'<tr{kind}>{cells}<td><code class="bytes">{html.escape(text)}</code></td><td>{html.escape(one.note)}</td></tr>'
    )
