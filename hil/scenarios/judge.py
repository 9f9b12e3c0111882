"""What must hold in every scenario, judged from the evidence; each check says why it does not.

``applied``: every fault took effect. ``status`` and ``reason``: the run ended as stated, the first cut from the fault
on has the stated verdict (or there was none). ``safe``: the tip was below 1 mV for good, or its path open, within the
bound; by the sample's own record. ``trust``: each trusted sample is a reading the instrument really sent, once, after
it was asked, at the level the sample says. ``next``: the next run starts clean or is refused, as stated; and the output
is off when the scenario is over.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from edge.samples import UNTRUSTED
from firmware_proto.errors import RemoteProtocolError
from firmware_proto.keithley2400 import replies
from hil.scenarios.evidence import Evidence
from hil.scenarios.spec import Holds, Scenario

_LEVEL_TOLERANCE_V: Final = 1e-9


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that must hold, whether it did, and what was seen."""

    name: str
    held: bool
    seen: str


@dataclass(frozen=True, slots=True)
class Judgement:
    """All checks of one scenario. ``safe_s``: from the stated beginning to safe, None where that never came."""

    checks: tuple[Check, ...]
    safe_s: float | None
    verdict: str | None

    @property
    def held(self) -> bool:
        """Whether everything held."""
        return all(check.held for check in self.checks)


def judge(scenario: Scenario, seen: Evidence) -> Judgement:
    """Judge the evidence of a scenario."""
    holds = scenario.holds
    if seen.bench_error:
        return Judgement((Check("bench", False, seen.bench_error),), None, None)
    cut = first_cut(seen)
    verdict = None if cut is None else str(cut["verdict"])
    safe_s, why = safe_after(seen, holds)
    checks = [
        _applied(seen),
        Check("status", seen.status == holds.status, f"{seen.status}" + (f": {seen.reason}" if seen.reason else "")),
        _reason(holds, seen, verdict),
        Check("safe", safe_s is not None and safe_s <= holds.safe_within_s, why),
        _trust(scenario, seen),
        _next(holds, seen),
    ]
    if holds.alarm is not None:
        checks.append(Check("alarm", holds.alarm in seen.alarms, ", ".join(sorted(seen.alarms)) or "no alarm"))
    return Judgement(tuple(checks), safe_s, verdict)


def first_cut(seen: Evidence) -> dict[str, Any] | None:
    """Return the event of the first cut that was not over before the fault; a diagnosis replaces its verdict.

    A fault may strike the cut itself, after it was decided.
    """
    after_ns = seen.fault_ns
    cuts = [
        e for e in seen.events if e.get("kind") == "cut" and (e["verified_ns"] is None or e["verified_ns"] >= after_ns)
    ]
    if not cuts and seen.status == "tripped":
        # Some faults are confirmed only by what follows them: two replies are swapped once the second is there.
        cuts = [e for e in seen.events if e.get("kind") == "cut"][-1:]
    if not cuts:
        return None
    first = cuts[0]
    for event in seen.events:
        if event.get("kind") == "diagnosis" and event.get("cut_ns") == first["decided_ns"]:
            return {**first, "verdict": event["verdict"]}
    return first


def _applied(seen: Evidence) -> Check:
    if seen.missed:
        return Check("applied", False, f"never applied: {', '.join(seen.missed)}")
    return Check("applied", True, "; ".join(one.line() for one in seen.applied) or "no fault of the bench")


def _reason(holds: Holds, seen: Evidence, verdict: str | None) -> Check:
    said = f"first cut {verdict or 'none'}; reason: {seen.reason or 'none'}"
    return Check("reason", verdict == holds.verdict and holds.says in seen.reason, said)


def safe_after(seen: Evidence, holds: Holds) -> tuple[float | None, str]:
    """Return how long after the stated beginning the tip was safe for good, and the words for it."""
    begin_ns = {"fault": seen.fault_ns, "onset": seen.onset_ns(), "run": seen.run_ended_ns}[holds.safe_after]
    if begin_ns < 0:
        return None, f"there was no {holds.safe_after}"
    until_ns = seen.watched_until_ns
    turns = [e for e in seen.truth if e["event"] in ("safe", "live") and int(e["t_ns"] or 0) <= until_ns]
    if not turns:
        return 0.0, "the tip was never live"
    if turns[-1]["event"] != "safe":
        return None, "the tip was still live when the bench stopped looking"
    safe_s = max(0.0, (int(turns[-1]["t_ns"] or 0) - begin_ns) / 1e9)
    word = {"fault": "the fault", "onset": "the set", "run": "the run's end"}[holds.safe_after]
    return safe_s, f"safe {safe_s * 1e3:.1f} ms after {word}; bound {holds.safe_within_s * 1e3:g} ms"


def _trust(scenario: Scenario, seen: Evidence) -> Check:
    """Find for each trusted sample, in order, the reply that it came from."""
    if scenario.rig.bench == "processes":
        return Check("trust", True, "not judged: what the instrument sends is not heard on this bench")
    flip = -1.0 if scenario.rig.config.get("wiring", {}).get("hi") == "sample" else 1.0
    at = 0
    asked_after_ns = seen.armed_ns
    trusted = [sample for sample in seen.samples if not sample.flags & UNTRUSTED]
    number = {id(sample): n for n, sample in enumerate(seen.samples)}
    for sample in seen.samples:
        if sample.flags & UNTRUSTED:
            asked_after_ns = sample.t_rx_ns
            continue
        what = f"sample {number[id(sample)]} ({sample.bias_v:g} V, {sample.current_a:g} A)"
        found = None
        while at < len(seen.sent) and seen.sent[at].t_ns <= sample.t_rx_ns:
            sent = seen.sent[at]
            at += 1
            if sent.t_ns >= asked_after_ns and _is(sent.data, sample.current_a * flip):
                found = sent
                break
        if found is None:
            return Check("trust", False, f"{what} is no reading that the instrument sent after it was asked")
        if abs(found.level_v * flip - sample.bias_v) > _LEVEL_TOLERANCE_V:
            return Check("trust", False, f"{what}: the instrument sourced {found.level_v * flip:g} V")
        asked_after_ns = sample.t_rx_ns
    if len(trusted) < scenario.holds.samples_at_least:
        return Check(
            "trust", False, f"{len(trusted)} trusted samples, at least {scenario.holds.samples_at_least} wanted"
        )
    return Check("trust", True, f"{len(trusted)} trusted samples, each a reading of the instrument")


def _is(data: bytes, current_a: float) -> bool:
    try:
        reading = replies.parse_reading(data.strip())
    except RemoteProtocolError:
        return False
    return reading.current_a == current_a


def _next(holds: Holds, seen: Evidence) -> Check:
    if seen.next is None:
        return Check("next", False, "the bench could not try another run")
    said = f"next run {seen.next.how}" + (f" ({seen.next.says})" if seen.next.says else "")
    held = seen.next.how == holds.next
    if seen.after_rearm is not None:
        said += f"; after rearm {seen.after_rearm.how}" + (
            f" ({seen.after_rearm.says})" if seen.after_rearm.says else ""
        )
    if holds.after_rearm is not None:
        held = held and seen.after_rearm is not None and seen.after_rearm.how == holds.after_rearm
    if not seen.output_off_at_end:
        return Check("next", False, f"{said}; the output was on at the end")
    return Check("next", held, said)
