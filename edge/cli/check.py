"""``tipguard check``: is this rig ready, and what protects it?"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from edge.cli.common import DEFAULT_CONFIG, EXIT_FAILED, ConfigArgument, JsonOption, guarded, out, print_json
from edge.cli.layout import Row, grid, say, width_of
from edge.cli.words_envelope import (
    NOTES,
    STYLE,
    envelope_rows,
    front_in_words,
    layer_rows,
    plan_in_words,
    times_in_words,
    wider_rows,
)
from edge.config import Config, load

if TYPE_CHECKING:
    from edge.controller.envelopes import Protection
    from edge.controller.findings import ProtectionLayer


def check(config: ConfigArgument = DEFAULT_CONFIG, json: JsonOption = False) -> None:
    """Check configuration, ports, instrument, stage, protection and broker. Changes nothing."""

    def work() -> int:
        from edge.controller.checkup import check as find
        from edge.controller.checkup_frontend import ask_front
        from edge.controller.checkup_protection import check_protection
        from edge.controller.envelopes import protection, to_document

        rig = load(config)
        front = ask_front(rig)
        findings = find(rig, config, front)
        found = protection(rig, front.device)
        layers = check_protection(rig, found)
        failed = any(finding.grade == "fail" for finding in findings)
        if json:
            print_json(
                {
                    "ok": not failed,
                    "findings": [dataclasses.asdict(finding) for finding in findings],
                    "layers": [
                        {"layer": one.finding.what, "acts_within_s": one.acts_within_s, "here": one.finding.text}
                        for one in layers
                    ],
                    "protection": None if found is None else to_document(found),
                }
            )
        else:
            of_layers = [layer.finding for layer in layers]
            rows = [
                Row((one.grade, one.what, one.text), (STYLE[one.grade],)) for one in findings if one not in of_layers
            ]
            out.print(grid(rows, width_of(out)))
            _print_protection(rig, layers, found)
        return EXIT_FAILED if failed else 0

    guarded(work, json=json)


def _print_protection(rig: Config, layers: list[ProtectionLayer], found: Protection | None) -> None:
    width, clamp = width_of(out), rig.limits.allow_clamp
    _title("Protection layers, fastest first")
    out.print(grid(layer_rows(layers), width))
    if found is None:
        say(out, f"\nNo plans exist yet for a rig of kind {rig.rig.kind}: there is no envelope.")
        return
    _title("Envelope: how fast a current may grow and still be cut before its limit")
    out.print(grid(envelope_rows(found), width))
    plans = [plan_in_words(row, allow_clamp=clamp) for row in found.rows]
    for note in (NOTES[0], times_in_words(found), *plans, *front_in_words(found)):
        say(out, note)
    _title("What would widen it: tenfold in, charge of a short")
    out.print(grid(wider_rows(found), width))
    say(out, NOTES[1])


def _title(text: str) -> None:
    say(out, f"\n{text}", "bold")
