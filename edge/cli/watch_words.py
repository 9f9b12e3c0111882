"""What the live view says of rigs, runs and events. Pure functions on what :mod:`edge.cli.watch_model` holds."""

from __future__ import annotations

import collections
import statistics
from dataclasses import dataclass
from typing import Any, Final

from edge.analysis.si import si, si_pm
from edge.cli.watch_model import Rig, Run, happened_ns, mapping, number, text, texts, whole
from edge.cli.words import REARM, ago, counted, ended, last_cut_in_words, meaning

STATE_STYLE: Final = {
    "SAFE": "bold white on green",
    "ARMED": "bold black on cyan",
    "ENERGISED": "bold black on yellow",
    "CUTTING": "bold white on red",
    "TRIPPED": "bold white on red",
    "UNKNOWN": "bold white on magenta",
}
STATE_MEANING: Final = {
    "SAFE": "output verified off",
    "ARMED": "output off; limits set and read back",
    "ENERGISED": "output ON",
    "CUTTING": "a cut was sent; not verified yet",
    "TRIPPED": "output verified off; latched until a person re-arms",
    "UNKNOWN": "nothing verified yet: the output may be on",
}
PHASE_MEANING: Final = {
    "SEEK": "looking for the trigger",
    "RESET": "resetting",
    "LRS_READ": "reading the low resistance",
    "HRS_READ": "reading the high resistance",
    "CELL": "cell",
    "CUT": "reading while the current falls",
}
CLASS_WORDS: Final = {
    "triggered": "gave way",
    "censored": "held",
    "lrs_at_start": "conducted",
    "invalid": "invalid",
}
WARN: Final = "bold yellow"
BAD: Final = "bold red"
RING_FULL_AT: Final = 0.5
_S: Final = 1e-9


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing to say. ``head`` stands before the text in its own style; ``rank``: what goes first if there is no
    room, the highest."""

    label: str
    text: str
    style: str = ""
    head: str = ""
    head_style: str = ""
    rank: int = 0


def clock_text(seconds: float) -> str:
    """Return a duration as ``m:ss`` or ``h:mm:ss``."""
    minutes, second = divmod(int(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"


def silence(rig: Rig, now_s: float) -> str:
    """Return what is said of the age of the news: empty while it is fresh."""
    silent_s = rig.silent_s(now_s)
    if silent_s is None:
        if rig.kept_utc:
            return f"no news yet; what the broker kept is of {rig.kept_utc[11:19]} UTC"
        return "no news yet"
    if not rig.stale(now_s):
        return ""
    return f"no news for {silent_s:.0f} s" if silent_s < 120 else f"no news for {silent_s / 60:.0f} min"


def condition(rig: Rig, now_s: float) -> list[Entry]:
    """Return in what state the rig is, why, and what to do."""
    if not rig.known:
        return [
            Entry("state", "nothing heard of it. Is `tipguard serve` running, and to this broker?", WARN),
        ]
    if rig.online is False:
        return _offline(rig)
    stale = silence(rig, now_s)
    if not rig.state:
        said = "the controller does not answer: nothing here tells whether the output is off"
        entries = [Entry("state", said, BAD, "NO ANSWER", STATE_STYLE["UNKNOWN"])]
        if not stale:
            entries.append(Entry("do", "look at the controller's messages; `tipguard safe-off` cuts without it", WARN))
        return entries
    entries = [_state(rig, now_s, stale=stale)]
    verdict = text(rig.worker, "verdict")
    if verdict and rig.state == text(rig.worker, "state"):
        entries.append(Entry("why", meaning(verdict), BAD))
    if stale:
        entries.append(Entry("do", "look at the rig itself: `tipguard status` there asks the controller", WARN))
    elif rig.state == "TRIPPED":
        entries.append(Entry("do", REARM, WARN))
    return entries


def _state(rig: Rig, now_s: float, *, stale: str) -> Entry:
    said = STATE_MEANING.get(rig.state, "")
    if stale:
        return Entry("state", f"was the last word; {stale}", WARN, rig.state, "reverse dim")
    phase = PHASE_MEANING.get(text(rig.live, "phase"), "")
    if rig.state in ("ENERGISED", "CUTTING") and phase:
        said += f"; {phase}"
    age_s = rig.sample_age_s(now_s)
    if rig.state in ("SAFE", "ARMED") and age_s is not None and age_s >= 1:
        said += f"; last sample {ago(age_s)}"
    return Entry("state", said, "", rig.state, STATE_STYLE.get(rig.state, STATE_STYLE["UNKNOWN"]))


def _offline(rig: Rig) -> list[Entry]:
    cause = text(rig.status, "cause") or "cause not told"
    if cause == "stopped":
        said, do = "it was ended", "`tipguard serve` starts it"
    else:
        said = f"{cause}: nothing here tells whether the output is off"
        do = "look at the rig itself: `tipguard status` there asks the controller"
    return [Entry("state", said, BAD if cause != "stopped" else "", "OFFLINE", "reverse"), Entry("do", do, WARN)]


def warnings(rig: Rig) -> list[Entry]:
    """Return what needs a person now."""
    entries = []
    if alarm := text(rig.worker, "alarm"):
        entries.append(Entry("ALARM", alarm, BAD))
    if fault := text(rig.uplink, "fault"):
        entries.append(Entry("uplink", f"frames do not go out: {fault}", BAD))
    if alarm := text(mapping(rig.uplink, "outbox"), "alarm"):
        entries.append(Entry("ALARM", f"{alarm}; is every store there?", BAD))
    flags = [flag for flag in texts(rig.live, "flags") if flag != "AFTER_GAP"]
    if flags and rig.state == "ENERGISED":
        entries.append(Entry("reading", ", ".join(flags).lower().replace("_", " "), WARN))
    entries += [Entry("note", note, WARN, rank=20) for note in texts(rig.worker, "notes")]
    return entries


def run_entries(rig: Rig, now_s: float) -> list[Entry]:
    """Return what runs, or ran last; its progress bar is drawn elsewhere."""
    run = rig.run
    if run is None:
        return []
    plan = run.plan or "run"
    if run.running:
        return [Entry("run", run.at or "started", "", f"{plan}:", "bold", rank=5)]
    said = ended({"status": run.status, "reason": run.reason})
    elapsed_s = rig.elapsed_s(now_s)
    if elapsed_s is not None:
        said += f" after {clock_text(elapsed_s)}"
    found = whole(run.results, "triggers_found")
    if found is not None:
        said += f"; {counted(found, 'trigger')}"
    style = {"completed": "green", "tripped": BAD, "failed": BAD}.get(run.status, WARN)
    return [Entry("run", said, style, f"{plan}:", "bold", rank=5)]


def event_entry(rig: Rig, now_s: float) -> Entry | None:
    """Return the last event in words; None if none is known."""
    event = rig.event
    now_ns = rig.clock_ns(now_s)
    verdict = text(event, "verdict")
    at_ns = happened_ns(event)
    when = f", {ago((now_ns - at_ns) * _S)}" if now_ns is not None and at_ns >= 0 else ""
    match text(event, "kind"):
        case "cut":
            planned = event.get("planned") is True
            return Entry("last cut", _cut(event, now_ns), "" if planned else "red", rank=10)
        case "restart":
            # RESTART is its own reason; another verdict is what latched the rig in the controller's life before.
            how = "after an unclear end" if verdict == "RESTART" else "still latched"
            return Entry("event", f"the controller started {how}: {meaning(verdict)}{when}", "red", rank=10)
        case "rearm":
            after = f" after {text(event, 'after')}" if text(event, "after") else ""
            return Entry("event", f"re-armed by {text(event, 'by') or 'somebody'}{after}{when}", rank=10)
        case "diagnosis":
            was = text(event, "instead_of")
            cut_as = f" (cut as {was})" if was != verdict else ""
            return Entry("last cut", f"{meaning(verdict)}{cut_as}{when}", "red", rank=10)
        case "alarm":
            return Entry("event", f"alarm: {meaning(verdict)}{when}", BAD, rank=10)
    return None


def _cut(event: dict[str, Any], now_ns: int | None) -> str:
    verified_ns, decided_ns = whole(event, "verified_ns"), whole(event, "decided_ns")
    timed = verified_ns is not None and decided_ns is not None
    said = last_cut_in_words(
        {
            "last_event": {
                "kind": "cut",
                "verdict": text(event, "verdict") or "cut",
                "planned": event.get("planned") is True,
                "verified_ns": verified_ns if timed and now_ns is not None else None,
                "decided_ns": decided_ns,
            },
            "t_ns": now_ns,
        }
    )
    parts = [str(said)]
    if not timed:
        parts.append("NOT verified off")
    if event.get("escalated") is True:
        parts.append("escalated: it was not confirmed in time")
    if (at_v := number(event, "trigger_bias_v")) is not None:
        parts[0] = parts[0].replace(", ", f" at {si_pm(at_v, number(event, 'trigger_half_v'), 'V')}, ", 1)
    return ", ".join(parts)


def tally_entry(run: Run) -> Entry | None:
    """Return what the run has found: by its own results, before it has any by what was seen; None if there is nothing.

    Where the view began in the middle of a run, it has not seen the first points.
    """
    if said := [*_map_results(run.results), *_memristor_results(run.results)]:
        return Entry("found", "; ".join(said), rank=8)
    said = [*_points(run), *_cycles(run)]
    if not said:
        return None
    since = f"; seen from no. {run.first_done + 1} on" if run.first_done else ""
    return Entry("so far", "; ".join(said) + since, rank=8)


def _points(run: Run) -> list[str]:
    return [_kind_in_words(kind, counts, run.median_v(kind)) for kind, counts in sorted(run.classes.items())]


def _map_results(results: dict[str, Any]) -> list[str]:
    kinds = mapping(results, "kinds")
    said = []
    for kind in sorted(kinds):
        of = mapping(kinds, kind)
        counts = collections.Counter({name: count for name in CLASS_WORDS if (count := whole(of, name))})
        if counts:
            said.append(_kind_in_words(kind[:20], counts, number(of, "median_v")))
    return said


def _kind_in_words(kind: str, counts: collections.Counter[str], median_v: float | None) -> str:
    parts = [f"{count} {CLASS_WORDS.get(name, name)}" for name, count in counts.most_common(6)]
    if median_v is not None:
        parts.append(f"median {si(median_v, 'V')}")
    return f"{kind.upper() or 'points'}: {', '.join(parts)}"


def _cycles(run: Run) -> list[str]:
    median = statistics.median(run.ratios) if run.ratios else None
    return _cycles_in_words(
        run.cycles, run.sets, run.resets, run.median_v(), median, bound=2 * run.bounds >= len(run.ratios)
    )


def _memristor_results(results: dict[str, Any]) -> list[str]:
    # A sweep counts its cycles too, but sets nothing.
    sets, resets = whole(results, "set"), whole(results, "reset_ok")
    if sets is None or resets is None:
        return []
    bound = (whole(results, "n_bound") or 0) >= (whole(results, "n_resolved") or 0)
    done, ratio = whole(results, "cycles_done") or 0, number(results, "on_off_median")
    return _cycles_in_words(done, sets, resets, number(results, "set_median_v"), ratio, bound=bound)


def _cycles_in_words(
    cycles: int, sets: int, resets: int, set_v: float | None, ratio: float | None, *, bound: bool
) -> list[str]:
    if not cycles:
        return []
    at = f" (median {si(set_v, 'V')})" if set_v is not None else ""
    said = [f"{counted(cycles, 'cycle')}: {sets} set{at}, {resets} reset"]
    if ratio is not None:
        said.append(f"on/off {'at least ' if bound else ''}{ratio_text(ratio)} (median)")
    return said


def ratio_text(ratio: float) -> str:
    """Return a ratio with two digits: ``3.1e4``."""
    return f"{ratio:.1e}".replace("e+0", "e").replace("e+", "e") if ratio >= 1000 else f"{ratio:.3g}"


def done_entry(doc: dict[str, Any]) -> Entry:
    """Return one finished point or cycle."""
    return _point_entry(doc) if doc.get("kind") == "point" else _cycle_entry(doc)


def _point_entry(doc: dict[str, Any]) -> Entry:
    name = " ".join(part for part in (text(doc, "site_kind").upper(), text(doc, "label")) if part)
    what = text(doc, "class")
    reason = text(doc, "reason")
    after = _formed(mapping(doc, "after"))
    match what:
        case "triggered":
            at_v = number(doc, "trigger_bias_v")
            at = f" at {si_pm(at_v, number(doc, 'trigger_half_v'), 'V')}" if at_v is not None else ""
            said, style = f"gave way{at}{after}", "yellow"
        case "censored":
            said, style = f"held up to {si(number(doc, 'beyond_v'), 'V')}", "cyan"
        case "lrs_at_start":
            said, style = f"conducted before the sweep{after}", "magenta"
        case _:
            said, style = what or "no class", BAD
    if reason:
        said += f": {reason}"
    return Entry(f"{(whole(doc, 'visit') or 0) + 1}", said, style, name, "dim")


def _formed(after: dict[str, Any]) -> str:
    ohm = number(after, "resistance_ohm")
    return f", {si(ohm, 'Ω')}" if ohm is not None else ""


def _cycle_entry(doc: dict[str, Any]) -> Entry:
    parts = []
    at_v = number(doc, "trigger_bias_v")
    if doc.get("set") is True:
        at = f" at {si_pm(at_v, number(doc, 'trigger_half_v'), 'V')}" if at_v is not None else ""
        parts.append(f"set{at}{_formed(mapping(doc, 'lrs'))}")
    else:
        parts.append("NOT set")
    if doc.get("reset_ok") is True:
        reset_v = number(doc, "reset_bias_v")
        parts.append("reset" + (f" at {si(reset_v, 'V')}" if reset_v is not None else ""))
    else:
        parts.append("NOT reset")
    if (ratio := number(doc, "on_off")) is not None:
        bound = "at least " if doc.get("on_off_is_bound") is True else ""
        parts.append(f"on/off {bound}{ratio_text(ratio)}")
    good = doc.get("set") is True and doc.get("reset_ok") is True
    return Entry(f"{(whole(doc, 'cycle') or 0) + 1}", "; ".join(parts), "" if good else WARN)


def store_entry(rig: Rig) -> Entry | None:
    """Return how the data gets out: ring, frames waiting, holes; None if nothing is known of it."""
    used = number(rig.uplink, "ring_used")
    if used is None:
        used = number(rig.worker, "ring_used")
    if used is None:
        return None
    said = [f"ring {used:.1%} used"]
    if (waiting := whole(rig.uplink, "waiting")) is not None:
        said.append(f"{counted(waiting, 'frame')} waiting")
    if (published := whole(rig.uplink, "published")) is not None:
        said.append(f"{published} out")
    said += _stored(rig)
    bad = used >= RING_FULL_AT
    for name, lost in (
        ("samples LOST", whole(rig.worker, "samples_lost")),
        ("samples DROPPED", whole(rig.uplink, "dropped")),
        ("frames REFUSED by the broker", whole(rig.uplink, "refused")),
        ("holes declared since this view began", rig.holes),
    ):
        if lost:
            said.append(f"{lost} {name}")
            bad = True
    return Entry("data", ", ".join(said), BAD if bad else "dim", rank=3 if bad else 12)


def _stored(rig: Rig) -> list[str]:
    """Return what each store has yet to commit; that there is none, where the rig says so."""
    stores = mapping(rig.uplink, "stores")
    if not stores:
        return ["no store named"] if text(mapping(rig.uplink, "outbox"), "note") else []
    lacks = {name: whole(mapping(stores, name), "waiting") for name in sorted(stores)}
    return [
        f"{name} has all" if count == 0 else f"{name} lacks {count}"
        for name, count in lacks.items()
        if count is not None
    ]


def entries(rig: Rig, now_s: float) -> list[Entry]:
    """Return everything that is said of a rig without charts and lists, in order."""
    said = [*condition(rig, now_s), *warnings(rig)]
    if rig.online is not False:
        said += run_entries(rig, now_s)
    optional = [event_entry(rig, now_s), tally_entry(rig.run) if rig.run else None, store_entry(rig)]
    return said + [entry for entry in optional if entry is not None]
