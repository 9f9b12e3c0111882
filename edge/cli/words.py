"""What the verbs say about verdicts, states, runs and cuts. Pure functions on what the controller answers."""

from __future__ import annotations

from typing import Any, Final

from edge.analysis.si import si, si_pm
from edge.config import StageConfig
from edge.guard.verdicts import Verdict

MEANING: Final = {
    Verdict.SURGE_JUMP: "the current jumped",
    Verdict.SURGE_LEVEL: "the current rose far above where it began",
    Verdict.SURGE_CUSUM: "the current crept up for too many readings",
    Verdict.PREDICTED: "the current was about to pass the limit",
    Verdict.CONDUCTANCE: "the conductance passed limits.conductance_s",
    Verdict.HARD_LIMIT: "the current passed the hard limit",
    Verdict.COMPLIANCE: "the instrument's clamp held the current",
    Verdict.OVERFLOW: "the current left the measuring range",
    Verdict.UNPARSABLE: "a reply could not be read; look at cable, baud rate and who else reads the port",
    Verdict.STALE: "a reading did not come in time; look at cable, adapter and the instrument's display",
    Verdict.OUTPUT_CHANGED: "the output was switched at the instrument",
    Verdict.LIMIT_CHANGED: "a limit or range was changed at the instrument",
    Verdict.DEVICE_RESET: "the instrument was reset or lost its power",
    Verdict.LINK_LOST: "the port went away; look at cable, adapter and the instrument's power",
    Verdict.SERIES_RESISTOR: "less resistance than rig.series_resistor_ohm; look for a short around the resistor",
    Verdict.STAGE_FAULT: "the stage reported a fault",
    Verdict.FRONTEND: "the front end tripped",
    Verdict.LEASE: "the front end's lease ran out",
    Verdict.V_LIMIT: "the voltage passed its limit",
    Verdict.V_COLLAPSE: "the voltage collapsed",
    Verdict.R_DROP: "the resistance dropped",
    Verdict.RING_FULL: "no room for samples; look at uplink and broker",
    Verdict.OPERATOR: "a person stopped it",
    Verdict.SHUTDOWN: "the controller was ended, or the run broke off, with the output on",
    Verdict.RESTART: "the controller died with the output on, or nobody knows what happened before it started",
    Verdict.CUT_UNVERIFIED: "the instrument did not confirm the cut; switch the output off at its panel",
}
REARM: Final = "look at the bench, then `tipguard rearm`"
_S: Final = 1e-9
_NO_BREAK: Final = "\N{NO-BREAK SPACE}"


def meaning(verdict: str | None) -> str:
    """Return a verdict's id with what it means; only the id where it is a newer controller's."""
    known = MEANING.get(Verdict(verdict)) if verdict in Verdict.__members__ else None
    return f"{verdict}: {known}" if known else str(verdict)


def state_in_words(status: dict[str, Any]) -> str:
    """Return ``TRIPPED (STALE)``, or only the state."""
    return f"{status['state']} ({status['verdict']})" if status["verdict"] else str(status["state"])


def heartbeat_in_words(gpio: dict[str, Any]) -> str:
    """Say whether there is a beat into the output enable line, and what was seen of it."""
    beat = "beating" if gpio["beating"] else f"silent ({gpio['silent_because']})"
    if gpio["lost"]:
        beat = f"NOTHING GOES OUT: {gpio['lost']}"
    seen = ", the line was open when last looked at" if gpio["line"] == "open" else ""
    proven = "silence was seen to cut" if gpio["proven"] else "not tried yet: that comes before the first output-on"
    return f"{beat}{seen}; {proven}"


def front_end_in_words(front: dict[str, Any]) -> str:
    """Say what the front end is, what it is doing, and what of its samples was lost."""
    if front.get("lost"):
        return f"LOST: {front['lost']}"
    if front.get("mismatch"):
        return f"NEVER ARMED: {front['mismatch']}"
    if front.get("board") is None:
        return "has not answered yet"
    told = [f"{front['board']}, {front['sample_hz'] / 1e3:g} kS/s"]
    if not front["spoken_to"]:
        told.append("its switch open: no run")
    elif front["state"] is not None:
        told.append(f"{front['state']}, its switch {'closed' if front['closed'] else 'open'}")
    if trip := front.get("trip"):
        told.append(f"last trip {trip['reason']}")
    rows, lost = front["rows"], front["rows_lost"]
    told.append(f"recording {front['recording']}, {rows} rows" + (f", {lost} LOST" if lost else ""))
    return "; ".join(told)


def verified_off(status: dict[str, Any]) -> bool:
    """Tell whether the output is verified off: these states are not reached otherwise.

    But for one: another instrument answers behind the port, and the rig's own is where nobody can ask it.
    """
    return status["state"] in ("SAFE", "TRIPPED") and not status.get("stranger")


def ago(age_s: float) -> str:
    """Return an age for people."""
    if age_s < 1:
        return "just now"
    for limit, unit_s, unit in ((120, 1, "s"), (7200, 60, "min"), (172_800, 3600, "h")):
        if age_s < limit:
            return f"{age_s / unit_s:.0f} {unit} ago"
    return f"{age_s / 86_400:.0f} days ago"


def sample_in_words(sample: dict[str, Any]) -> str:
    """Return bias and current of one sample."""
    return f"{si(sample['bias_v'], 'V')}, {si(sample['current_a'], 'A')}"


def stage_in_words(stage: dict[str, Any] | None, settings: StageConfig) -> str:
    """Return who moves the tip, whether it can, and where it is."""
    if stage is None or stage["model"] is None:
        return "not ready; the ALARM says why"
    told = [str(stage["model"]), f"serial {stage['serial_number']}"]
    if not stage["ready"]:
        return ", ".join([*told, "NOT READY; the ALARM says why"])
    if stage["servo_on"] is False:
        told.append("SERVO OFF")
    told.append("moving" if stage["moving"] else "tip lifted" if stage["lifted"] else "tip not lifted")
    at = stage["position_m"] or {}
    axes = (("x", settings.x), ("y", settings.y), ("z", settings.z))
    places = [f"{what}{_NO_BREAK}{at[name] * 1e6:.3f}" for what, name in axes if name in at]
    if places:
        told.append(f"at {', '.join(places)} µm")
    return ", ".join(told)


def ring_in_words(status: dict[str, Any]) -> str:
    """Return how full the ring is and how long its room lasts."""
    rate = status.get("samples_per_s")
    at = f"at {rate:.0f} samples/s" if rate else "of a sweep"
    left_s = status["ring_left_s"]
    room = f"{left_s / 60:.0f} min" if left_s >= 120 else f"{left_s:.0f} s"
    return f"{status['ring_used']:.1%} used; room for {room} {at}"


def cuts_in_words(status: dict[str, Any]) -> str:
    """Return how many cuts there were."""
    text = f"{status['cuts']['planned']} planned, {status['cuts']['protective']} protective"
    if status.get("keeper_cuts"):
        text += f", {status['keeper_cuts']} by the keeper"
    return text


def last_cut_in_words(status: dict[str, Any]) -> str | None:
    """Return the last cut of this start of the controller; None if there was none."""
    event = status.get("last_event") or {}
    if event.get("kind") != "cut":
        return None
    text = f"{event['verdict']}, {'planned' if event['planned'] else 'protective'}"
    if event.get("verified_ns"):
        text += f", output verified off {si((event['verified_ns'] - event['decided_ns']) * _S, 's')} after the decision"
        text += f", {ago((status['t_ns'] - event['verified_ns']) * _S)}"
    return text


def run_in_words(run: dict[str, Any]) -> str:
    """Return a run's present status in a line."""
    name = f"{run['plan']} {run['uid']}"
    if run["status"] == "running":
        return f"{name}: running, {run['text']}"
    return f"{name}: {ended(run)}"


def ended(run: dict[str, Any]) -> str:
    """Return how a run ended; reasons that name the status already do so once."""
    status, reason = str(run.get("status")), run.get("reason")
    if not reason:
        return status
    return str(reason) if str(reason).startswith(status) else f"{status}: {reason}"


def counted(number: int, what: str) -> str:
    """Return ``1 cycle``, ``2 cycles``."""
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def trigger_in_words(trigger: dict[str, Any], series_ohm: float = 0.0) -> list[str]:
    """Return one trigger as lines: where it gave way, the cut, what formed."""
    head = f"cycle {trigger['cycle'] + 1}: "
    found = head + str(trigger["verdict"])
    if trigger.get("trigger_bias_v") is not None:
        found += f" at {si_pm(trigger['trigger_bias_v'], trigger.get('trigger_half_v'), 'V')}"
    if trigger.get("set_current_a") is not None:
        found += f", first reading {si(trigger['set_current_a'], 'A')}"
        found += " (clamped)" if trigger.get("set_current_clamped") else ""
    lines = [found]
    if trigger.get("verified_ns") and trigger.get("reading_ns"):
        took_s = (trigger["verified_ns"] - trigger["reading_ns"]) * _S
        lines.append(f"cut verified {si(took_s, 's')} after the reading")
    lrs = trigger.get("lrs") or {}
    if lrs.get("resistance_ohm"):
        of = f", of which {si(series_ohm, 'Ω')} in series" if series_ohm else ""
        lines.append(f"what formed reads {si(lrs['resistance_ohm'], 'Ω')}{of}")
    elif lrs.get("verdict"):
        lines.append(f"what formed could not be read: {meaning(lrs['verdict'])}")
    return [lines[0], *(" " * len(head) + line for line in lines[1:])]
