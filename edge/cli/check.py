"""``tipguard check``: is this rig ready, and what protects it?"""

from __future__ import annotations

import dataclasses

from edge.cli.common import DEFAULT_CONFIG, EXIT_FAILED, ConfigArgument, JsonOption, guarded, out, print_json
from edge.cli.layout import Row, grid, width_of
from edge.config import load

_STYLE = {"ok": "green", "warn": "yellow", "fail": "bold red"}


def check(config: ConfigArgument = DEFAULT_CONFIG, json: JsonOption = False) -> None:
    """Check configuration, ports, instrument, stage, protection and broker. Changes nothing."""

    def work() -> int:
        from edge.controller.checkup import check as find

        findings = find(load(config), config)
        failed = any(finding.grade == "fail" for finding in findings)
        if json:
            print_json({"ok": not failed, "findings": [dataclasses.asdict(finding) for finding in findings]})
        else:
            rows = [Row((found.grade, found.what, found.text), (_STYLE[found.grade],)) for found in findings]
            out.print(grid(rows, width_of(out)))
        return EXIT_FAILED if failed else 0

    guarded(work, json=json)
