"""What ``check`` says about protection: layers, envelope, and what would widen it. Pure functions on what it found."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

from edge.analysis.si import si
from edge.cli.layout import Row
from edge.cli.words import counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edge.controller.envelopes import Protection
    from edge.controller.envelopes import Row as PlanRow
    from edge.controller.findings import ProtectionLayer
    from edge.guard.envelope import Envelope, EnvelopeInputs

STYLE: Final = {"ok": "green", "warn": "yellow", "fail": "bold red"}
_HEAD: Final = "bold"
OHM: Final = "Ω"


def bound(value: float, unit: str) -> str:
    """Return an upper bound with two digits, rounded up: what is printed is never more than what is promised."""
    if not 0 < value < math.inf:
        return si(value, unit)
    unit_in_last = 10.0 ** (math.floor(math.log10(value)) - 1)
    # A bound that is a round number already is not to grow by what its binary form adds.
    return si(math.ceil(value / unit_in_last * (1 - 1e-9)) * unit_in_last, unit, 2)


def layer_rows(layers: Sequence[ProtectionLayer]) -> list[Row]:
    """Return the layers of protection, as they are given."""
    rows = [Row(("", "layer", "acts in", "here"), ("", _HEAD, _HEAD, _HEAD))]
    for layer in layers:
        found = layer.finding
        style = STYLE[found.grade]
        rows.append(Row((found.grade, found.what, _acts(layer.acts_within_s), found.text), (style, "", style)))
    return rows


def _acts(within_s: float | None) -> str:
    if within_s is None:
        return "never"
    return bound(within_s, "s") if within_s else "at once"


def times_in_words(found: Protection) -> str:
    """Return where the times come from."""
    if found.measured_utc is not None:
        return f"Times: the longest that were measured on this rig, {found.measured_utc} (rig profile)."
    return (
        f"Times: the data sheet's longest, and the line's at {found.baud} baud. Nothing of this rig was measured; "
        "`tipguard commission` does."
    )


def envelope_rows(found: Protection) -> list[Row]:
    """Return what is promised for every kind of plan, and below it what the front end promises, if there is one."""
    head = ("plan", "limit", "tenfold in", "conducting", "short costs", "bias step")
    rows = [Row(head, (_HEAD,) * len(head))]
    for row in found.rows:
        promised = row.envelope
        step = f"{si(promised.bias_step_v, 'V', 2)} at {row.kind.rate_v_s:g} V/s" if row.kind.rate_v_s else "n/a"
        rows.append(Row((row.kind.name, si(promised.reached_a, "A", 2), *_cells(promised), step)))
        if row.front is not None:
            rows.append(Row(("  front end", "", *_cells(row.front.envelope), "")))
    return rows


def _cells(promised: Envelope) -> tuple[str, str, str]:
    return (
        _tenfold(promised, promised.tenfold_s),
        _tenfold(promised, promised.tenfold_any_s),
        _charge(promised),
    )


def _unreachable(promised: Envelope) -> bool:
    # What clamp and resistor leave of a short is no more than the limit, and the clamp did not do it.
    return promised.layer == "resistor" and promised.resistor_a <= promised.reached_a


def _tenfold(promised: Envelope, tenfold_s: float) -> str:
    if _unreachable(promised):
        return "any"
    return bound(tenfold_s, "s") if tenfold_s < math.inf else "never"


def _charge(promised: Envelope) -> str:
    if promised.charge_c < math.inf:
        return bound(promised.charge_c, "C")
    # Without a resistor nothing bounds what flows until the clamp acts; without a test that sees it nothing ends it.
    return "no bound" if promised.step_s < math.inf else "no cut"


def plan_in_words(row: PlanRow, *, allow_clamp: bool) -> str:
    """Return what is promised for one kind of plan, in sentences."""
    promised, inputs = row.envelope, row.inputs
    limit = si(promised.reached_a, "A")
    told = [f"{row.kind.name}:"]
    if _unreachable(promised):
        told.append(f"{si(inputs.series_ohm, OHM)} lets no more than {limit} through, however fast a current grows.")
    elif promised.seen_by is None:
        told.append(f"Nothing is sure to see a surge before it is at {limit}; {_holds(inputs)}.")
    else:
        told.append(
            f"A current that grows tenfold in less than {bound(promised.tenfold_s, 's')} can reach {limit} before the "
            f"bias is off; {_holds(inputs)}."
        )
    if promised.seen_by is not None:
        told.append(
            f"Sure to be seen from {bound(promised.i_det_a, 'A')} on, by {promised.seen_by.value} in "
            f"{counted(promised.readings, 'reading')}."
        )
    if promised.step_s < math.inf:
        told.append(
            f"A short draws {si(promised.step_a, 'A')} for at most {bound(promised.step_s, 's')}: "
            f"{bound(promised.charge_c, 'C')}, {bound(promised.energy_j, 'J')}."
        )
    else:
        told.append(f"A short draws {si(promised.step_a, 'A')}, which no test takes for a surge.")
    if promised.layer != "resistor":
        need = si(inputs.v_max_v / inputs.i_limit_a, OHM)
        how = "Runs with --accept-clamp only" if allow_clamp else "Refused on this rig"
        told.append(f"{how}: the resistor is below {need}.")
    return " ".join(told)


def front_in_words(found: Protection) -> list[str]:
    """Return what the front end of a rig does, in paragraphs; none where there is none, or none was asked."""
    front = found.front
    if front is None:
        return []
    device, tests, lost = front.device, front.tests, front.lost
    also = "".join(
        f", {name} from {si(value, 'A')}"
        for name, value in (("LEVEL", tests.level_a), ("JUMP", tests.jump_a), ("RATE", tests.rate_a))
        if value
    )
    acts = (
        f"Front end: {si(device.sample_hz, 'S/s')}, trips by itself from {si(tests.hard_a, 'A')} on (HARD){also}; one "
        f"sample to see it, one at most to decide, {si(device.switch_open_s, 's')} until its switch is open: "
        f"{bound(front.until_open_s, 's')}."
    )
    lost_host = (
        f"If this computer stops, its lease ends and the path is open at most {bound(lost.open_after_s, 's')} later; "
        f"it goes on tripping by itself meanwhile, so that no more than {bound(lost.below_a, 'A')} can flow for that "
        f"long: {bound(lost.charge_c, 'C')}."
    )
    plans = [_front_plan(row.kind.name, row.front.envelope) for row in found.rows if row.front is not None]
    return [f"{acts} {lost_host}", f"By the front end: {' '.join(plans)}"] if plans else [f"{acts} {lost_host}"]


def _front_plan(name: str, promised: Envelope) -> str:
    limit = si(promised.reached_a, "A")
    if promised.seen_by is None:
        return f"{name}: it is not sure to see anything before {limit}; the host guard's row is all there is."
    seen = f"{promised.reason} in {counted(promised.readings, 'sample')}"
    said = f"{name}: sure from {bound(promised.i_det_a, 'A')} on, by {seen}"
    if promised.charge_c < math.inf:
        said += (
            f"; a short draws {si(promised.step_a, 'A')} for at most {bound(promised.step_s, 's')}, "
            f"{bound(promised.charge_c, 'C')}, {bound(promised.energy_j, 'J')}"
        )
    return f"{said}."


def promised_in_words(promised: dict[str, Any]) -> str:
    """Return what a run is promised, in a line."""
    limit = si(promised["reached_a"], "A")
    if promised["resistor_a"] <= promised["reached_a"]:
        return f"the series resistor lets no more than {limit} through"
    if promised["seen_by"] is None:
        return f"nothing is sure to see a surge before it is at {limit}; the SMU's clamp holds it there"
    by = " by the front end" if promised.get("by") == "front end" else ""
    return (
        f"what takes {bound(promised['tenfold_s'], 's')} or more to grow tenfold is cut before {limit}{by}; what is "
        "faster, the SMU's clamp holds"
    )


def _holds(inputs: EnvelopeInputs) -> str:
    if inputs.clamp_a is None:
        return "nothing holds it then"
    clamp = f"the SMU's clamp then holds it at {si(inputs.clamp_a, 'A')}"
    if not inputs.series_ohm:
        return f"{clamp}, 30 µs late and behind the cable's charge"
    return f"{clamp}, and for the first 30 µs the resistor at {si(inputs.resistor_a, 'A')}"


NOTES: Final = (
    (
        "tenfold in: what takes at least this long to grow tenfold, at the largest bias, is off before the limit if "
        "the sample did not conduct before; conducting: if it did. any: the resistor holds the limit, however fast."
    ),
    (
        "A search's cut is planned and goes by the serial line alone; gpio makes protective cuts faster, and covers "
        "the loss of this computer. What bridges within a reading, or a front end's sample, is held by resistor and "
        "clamp, by nothing else."
    ),
)


def wider_rows(found: Protection) -> list[Row]:
    """Return what each change would make of every kind of plan: tenfold in, and the charge of a short."""
    names = [row.kind.name for row in found.rows]
    rows = [Row(("with", *names), (_HEAD,) * (len(names) + 1))]
    for wider in found.wider:
        cells = [f"{_tenfold(one, one.tenfold_s)}, {_charge(one)}" for one in wider.rows]
        rows.append(Row((wider.what, *cells)))
    return rows
