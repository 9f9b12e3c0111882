"""What ``tipguard run`` says at the end of a run, one function a plan. Pure functions on what the controller answers.

What stands here is what the controller's status can say of a whole run: counts and medians. Every point and every
cycle with all its figures is in the MQTT stream ``runs``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

from edge.analysis.si import si
from edge.cli.layout import Row
from edge.cli.words import counted, ended, trigger_in_words

KINDS: Final = {"gb": "GB", "gi": "GI", "hl": "HL", "": "-"}
COUNTS: Final = {"trigger-map": ("n_points", "point"), "memristor": ("cycles", "cycle")}
"""Where a plan's parameters say how much there is to do, and what it is called."""


@dataclass(frozen=True, slots=True)
class Said:
    """Sentences, a table, and sentences again."""

    lines: list[str]
    table: list[Row] = field(default_factory=list)
    more: list[str] = field(default_factory=list)


def how_long(parameters: dict[str, Any]) -> str:
    """Return how much a plan has to do and how long that can take, to be put behind "started"."""
    duration_s = parameters.get("duration_s")
    if duration_s is None:
        return ""
    if duration_s < 120:
        limit = f"{duration_s:.0f} s"
    else:
        limit = f"{duration_s / 60:.0f} min" if duration_s < 7200 else f"{duration_s / 3600:.1f} h"
    counts = [f", {counted(parameters[key], what)}" for key, what in COUNTS.values() if key in parameters]
    return f"{''.join(counts[:1])}, at most {limit}"


def kept_in_words(run: dict[str, Any]) -> str | None:
    """Return how much of a run that ended early is finished; None where a plan does not count, or has said it."""
    key, what = COUNTS.get(str(run.get("plan")), ("", ""))
    of = (run.get("parameters") or {}).get(key)
    if not of or run.get("results") is not None:
        return None
    finished = min(round(float(run.get("progress") or 0.0) * of), of)
    return f"{finished} of {counted(of, what)} finished and kept"


def in_words(run: dict[str, Any], *, series_ohm: float = 0.0) -> Said:
    """Return how a run ended and what it has found. ``series_ohm``: the rig's resistor, in every resistance."""
    head = f"run {run.get('uid')}: "
    results = run.get("results")
    if run.get("status") != "completed":
        kept = kept_in_words(run)
        head += ended(run) + (f"; {kept}" if kept else "")
    else:
        head += "completed"
    if not isinstance(results, dict):
        return Said([head])
    match run.get("plan"):
        case "trigger-map":
            return _map_in_words(head, results)
        case "memristor":
            return _memristor_in_words(head, results, series_ohm)
        case "iv":
            return _iv_in_words(head, run, results, series_ohm)
    # A third party's plan: its results are its own; --json has them.
    return Said([head])


def _iv_in_words(head: str, run: dict[str, Any], results: dict[str, Any], series_ohm: float) -> Said:
    found = results.get("triggers_found", 0)
    head += f", {counted(results.get('cycles_done', 0), 'cycle')}, {counted(found, 'trigger')}"
    to_v = (run.get("parameters") or {}).get("to_v")
    if not found and to_v is not None:
        head += f": the site did not give way up to {si(to_v, 'V')}"
    triggers = results.get("triggers", [])
    return Said([head, *(line for trigger in triggers for line in trigger_in_words(trigger, series_ohm))])


# -- the map


def _map_in_words(head: str, results: dict[str, Any]) -> Said:
    kinds: dict[str, dict[str, Any]] = results.get("kinds") or {}
    # Where it broke off, the reason says so already.
    if head.endswith("completed"):
        head += f", {counted(results.get('points_done', 0), 'point')}"
    if not kinds:
        return Said([head])
    titles = ("kind", "points", "gave way", "median", "held", "conducted", "invalid")
    table = [Row(titles, ("bold",) * len(titles))]
    for kind, of in kinds.items():
        table.append(
            Row(
                (
                    KINDS.get(kind, kind),
                    str(of["n"]),
                    str(of["triggered"]),
                    median_in_words(of),
                    held_in_words(of),
                    str(of["lrs_at_start"]),
                    str(of["invalid"]),
                )
            )
        )
    return Said([head], table, _notes(kinds, results))


def median_in_words(of: dict[str, Any]) -> str:
    """Return the median trigger bias of a kind, with those that held counted as later than they were watched."""
    if of.get("median_v") is not None:
        return si(of["median_v"], "V")
    if of.get("median_beyond_v") is not None:
        return f"beyond {si(of['median_beyond_v'], 'V')}"
    return "-"


def held_in_words(of: dict[str, Any]) -> str:
    """Return how many points of a kind held, and up to which bias at least."""
    beyond_v = of.get("beyond_v")
    return f"{of['censored']} up to {si(beyond_v, 'V')}" if of["censored"] and beyond_v else str(of["censored"])


def _notes(kinds: dict[str, dict[str, Any]], results: dict[str, Any]) -> list[str]:
    notes = []
    for kind, of in kinds.items():
        if of["invalid"] and of.get("invalid_reason"):
            often = f" ({of['invalid_reason_n']} of {of['invalid']} points)" if of["invalid"] > 1 else ""
            # The plan speaks of its parameters, whoever asks; a person at this verb has options.
            reason = str(of["invalid_reason"]).replace("electrical_check = false", "--no-electrical-check")
            notes.append(f"invalid {KINDS.get(kind, kind)}: {reason}{often}")
    conducted = sum(of["lrs_at_start"] for of in kinds.values())
    if conducted:
        notes.append(f"{counted(conducted, 'point')} conducted before the sweep: read, and left alone")
    return [*notes, limit_in_words(results)]


def limit_in_words(results: dict[str, Any]) -> str:
    """Return the detection limit of the high-resistance reads and where it comes from."""
    return f"detection limit {si(results.get('lod_a'), 'A')} ({results.get('lod_source') or 'source not known'})"


# -- the memristor


def _memristor_in_words(head: str, results: dict[str, Any], series_ohm: float) -> Said:
    done = results.get("cycles_done", 0)
    if head.endswith("completed"):
        head += f", {counted(done, 'cycle')}"
    lines = [head]
    if results.get("start") == "lrs":
        lines.append("the site conducted before the first cycle, and was reset first")
    if done:
        lines += [
            f"set    {results['set']} of {done}{_at('at', results.get('set_median_v'), 'V', 'median')}",
            f"reset  {results['reset_ok']} of {done}{_at('at', results.get('reset_median_v'), 'V', 'median')}",
        ]
        if results.get("lrs_median_ohm"):
            of = f", of which {si(series_ohm, 'Ω')} in series" if series_ohm else ""
            lines.append(f"LRS    {si(results['lrs_median_ohm'], 'Ω')}, median{of}")
        lines.append(f"on/off {on_off_in_words(results)}")
    if done and not results["set"]:
        lines.append("the site was never set: is the tip open, or is set-v too small?")
    lines.append(limit_in_words(results))
    return Said(lines)


def _at(word: str, value: float | None, unit: str, what: str) -> str:
    return f", {word} {si(value, unit)}, {what}" if value is not None else ""


def on_off_in_words(results: dict[str, Any]) -> str:
    """Return the median on/off ratio, and whether it is only a bound."""
    median, bounds, resolved = results.get("on_off_median"), results["n_bound"], results["n_resolved"]
    if median is None:
        return "not known: no low resistance was read, or the high-resistance read left its range"
    n = bounds + resolved
    if bounds * 2 >= n:
        return f"at least {median:.1e}, median of {n}: a bound, set by the detection limit ({bounds} of {n})"
    some = f", {bounds} of them only bounds" if bounds else ""
    return f"{median:.1e}, median of {n}{some}"
