"""What the demo says at its end, on the terminal and in ``report.html``."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from hil.demo.play import Seen
from hil.demo.report import MQTT_SOURCE, TRUTH_SOURCE, Report, Row, Section
from hil.demo.story import NO_BREAK, ratio_text, whole
from hil.demo.summary import guard

_LEAD: Final = (
    "A metal tip on a lithium garnet, an emulated Keithley 2400 and an emulated stage behind serial ports. tipguard "
    "swept the bias, looked at every reading, cut when a filament formed, and published everything. What you see was "
    "computed by a plain subscriber from what arrived; where the emulator itself is asked, it says so."
)
_SCRIPT: Final = (
    "The script is the usual one: READ?, compare with 1 µA, ramp back to 0 V (hil/demo/plain_script.py). It sees the "
    "filament as soon as tipguard does. But the bias stays on it all the way down, and the filament goes on growing. "
    "tipguard sends 0 V with the next bytes on the line."
)
_CLAMP: Final = (
    "tipguard is not faster than the instrument's own clamp, and does not claim to be: clamp and series resistor hold "
    "the current limit meanwhile."
)
_ORDER: Final = (
    "Order of the points: random from the seed, boundaries and interiors mixed. Each point: lift, move, approach until "
    "the deflection signal says contact, settle, read whether it still insulates, sweep, cut, read what formed. A "
    "point that did not trigger counts as censored only if contact was confirmed before and after, mechanically and by "
    "its ionic current."
)
_BOUNDS: Final = (
    "Where the off current is below what the 2400 can see on its 1 µA range, the ratio is a lower bound, and the band "
    "above it is what cannot be told. The detection limit was measured with the tip lifted, before the first approach."
)


_ONE_CUT: Final = (
    "The sweep beside the script. The reading that shows the filament is complete at 0; 0 V goes out at once, then "
    "readings until the current is gone, then the output off and a query that proves it."
)


def result_lines(seen: Seen) -> list[str]:
    """Return the results as sentences."""
    document, judged = seen.memristor.document(), guard(seen)
    script_c, tip_c = seen.script.truth.charge_c, seen.argument_truth.charge_c
    gb, gi = seen.map.document("gb", rate_v_s=0.0), seen.map.document("gi", rate_v_s=0.0)
    latency = judged["cut_latency_s"]
    return [
        (
            f"Same site, same seed: the plain script put {whole(script_c, 'C')} into the tip, tipguard "
            f"{whole(tip_c, 'C')}: {_times(script_c, tip_c)} less (twin's truth record)."
        ),
        (
            f"Grain boundaries: median {whole(gb['median_v'], 'V')} of {gb['n']} at 0.1{NO_BREAK}V/s, {gb['censored']} "
            f"censored. Grain interiors: {_interior(gi)} at 1{NO_BREAK}V/s."
        ),
        f"Memristor: {document['reset_ok']} of {document['cycles']} resets; on/off {_ratio(document)}.",
        (
            f"Guard: {judged['trips']} cuts, {judged['missed']} missed, {judged['false']} false; verified off "
            f"{whole(latency['p50'], 's', 2)} after the reading in the median, {whole(latency['max'], 's', 2)} at most."
        ),
    ]


def _interior(gi: dict[str, Any]) -> str:
    if not gi["n"]:
        return "none measured"
    if gi["median_v"] is not None:
        return f"median {whole(gi['median_v'], 'V')} of {gi['n']}, {gi['censored']} censored"
    return f"{gi['censored']} of {gi['n']} did not give way; the median is beyond {whole(gi['median_beyond_v'], 'V')}"


def _ratio(document: dict[str, Any]) -> str:
    ratio, lod = document["on_off_lower_bound_median"], document["lod_a"]
    if ratio is None:
        return "not known"
    if document["n_bound"] == 0:
        return f"{ratio_text(ratio)} (resolved in all cycles)"
    return (
        f"at least {ratio_text(ratio)} in the median ({document['n_bound']} of {document['cycles']} are lower bounds: "
        f"the high resistance lies below what the instrument can see, {whole(lod, 'A', 2)})"
    )


def _times(usual: float, guarded: float) -> str:
    return f"{usual / guarded:.0f} times" if guarded > 0 else "far"


def make_report(seen: Seen, summary: dict[str, Any], pictures: dict[str, Path]) -> Report:
    """Return the page's content."""
    lines = result_lines(seen)
    judged, charge = summary["guard"], summary["charge_c"]
    gb, gi, memristor = summary["trigger_map"]["gb"], summary["trigger_map"]["gi"], summary["memristor"]
    frames, samples = summary["frames"], summary["samples"]
    return Report(
        title="tipguard: a trigger map and a memristor",
        lead=(_LEAD,),
        key_numbers=(
            Row("Charge into the tip, plain script", whole(charge["script"], "C"), TRUTH_SOURCE),
            Row("Charge into the tip, tipguard", whole(charge["tipguard"], "C"), TRUTH_SOURCE),
            Row("Grain boundaries, median trigger", f"{whole(gb['median_v'], 'V')} (n = {gb['n']}, 0.1 V/s)"),
            Row("Grain interiors", f"{_interior(gi)} (1 V/s)"),
            Row("Memristor", lines[2].removeprefix("Memristor: ").removesuffix(".")),
            Row("Cuts missed, false", f"{judged['missed']}, {judged['false']} of {judged['trips']}"),
            Row("Frames and samples missing", f"{frames['missing']}, {samples['missing']}"),
        ),
        sections=(
            Section(
                heading="The argument: same site, same filament, two ways to watch it",
                paragraphs=(
                    lines[0],
                    _SCRIPT,
                    _CLAMP,
                ),
                picture=pictures["argument"],
                alt=(
                    f"Charge into the tip: plain script {whole(charge['script'], 'C')}, tipguard "
                    f"{whole(charge['tipguard'], 'C')}; beside it current and bias of both over time"
                ),
                source=f"readings: each by its own account; charge: {TRUTH_SOURCE}",
            ),
            Section(
                heading="Trigger map: where grain boundaries give way",
                paragraphs=(
                    lines[1],
                    _ORDER,
                ),
                picture=pictures["map"],
                alt=f"Map of {gb['n'] + gi['n']} points over grains, coloured by trigger bias; medians by kind",
                source=f"points: {MQTT_SOURCE}; grain boundaries: {TRUTH_SOURCE}",
                table=_points_table(seen),
            ),
            Section(
                heading="Every sweep, linear and logarithmic, with the cut marked",
                paragraphs=("The last reading of a sweep is the one that gave the filament away.",),
                picture=pictures["iv"],
                alt="Current against bias of all sweeps of the map, linear and logarithmic, cuts marked",
            ),
            Section(
                heading="Memristor: set, cut, read, reset, read",
                paragraphs=(
                    lines[2],
                    _BOUNDS,
                ),
                picture=pictures["cycles"],
                alt=f"On/off ratio by cycle with bounds as a band; {memristor['reset_ok']} resets succeeded",
            ),
            *_one_cut(pictures),
            Section(
                heading="How long cuts take",
                paragraphs=(lines[3],),
                picture=pictures["latency"],
                alt="Times from the reading to the verified cut, by rig",
            ),
        ),
        summary=summary,
        footer=(
            f"Made by `tipguard demo --seed {summary['seed']}` in {summary['took_s']} s, broker {summary['broker']}. "
            "Instruments and sample are emulated; nothing here was measured on a real one."
        ),
    )


def _one_cut(pictures: dict[str, Path]) -> tuple[Section, ...]:
    if "cut" not in pictures:
        return ()
    section = Section(
        heading="One cut, looked at closely",
        paragraphs=(_ONE_CUT,),
        picture=pictures["cut"],
        alt="Current and bias around one cut, with the times of reading, decision, wire and proof",
        source=f"{MQTT_SOURCE}; when the filament formed and when the tip was safe: {TRUTH_SOURCE}",
    )
    return (section,)


def _points_table(seen: Seen) -> tuple[Row, ...]:
    rows = []
    for point in seen.map.points:
        label = f"{point['site_kind'].upper()} {point['label']}"
        match point["class"]:
            case "triggered":
                value = f"{whole(point['trigger_bias_v'], 'V')} ± {whole(point['trigger_half_v'], 'V', 2)}"
            case "censored":
                value = f"nothing up to {whole(point['beyond_v'], 'V', 2)}"
            case other:
                value = f"{other}: {point['reason']}" if point["reason"] else other
        rows.append(Row(label, value))
    return tuple(rows)
