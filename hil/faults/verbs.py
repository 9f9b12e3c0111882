"""``tipguard hil faults`` and ``tipguard hil inject``: what faults there are, and setting one off."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from hil.datagram import ask
from hil.errors import BenchOptionError
from hil.faults.kinds import KINDS, told
from hil.faults.phases import PHASES
from hil.faults.plan import TRIGGERS, load_plan

WHERE = {
    "wire": 'On the line (port = "smu", "stage" or "frontend", to = "host" or "device")',
    "smu": "In the 2400",
    "stage": "In the stage",
    "frontend": "In the front end",
    "tip": "Between tip and sample",
}


def print_kinds() -> int:
    """Print every kind with its parameters; return 0."""
    for group, title in WHERE.items():
        print(f"{title}:")
        for kind in KINDS.values():
            if kind.group != group:
                continue
            times = "" if kind.once or kind.times == 1 else " (times = 0: for good, unless it is set)"
            print(f"  {kind.name:18} {kind.what}{times}")
            for param in kind.params:
                print(f"  {'':18}   {told(param)}")
    print(
        f"Triggers, exactly one each: {', '.join(TRIGGERS)}; with at_phase and at_command also nth; after_s with any."
    )
    print(f"Phases: {', '.join(PHASES)}.")
    return 0


def check_plan(path: Path) -> int:
    """Check a plan and print its faults as JSON lines; return 0, or 2 for one that is wrong."""
    try:
        plan = load_plan(path)
    except BenchOptionError as error:
        print(f"tipguard hil faults: {error}", file=sys.stderr)
        return 2
    for fault in plan.faults:
        where = {"port": fault.port} | ({"to": fault.to} if fault.to else {})
        when = {fault.trigger: fault.at, "nth": fault.nth, "after_s": fault.after_s, "times": fault.times}
        print(json.dumps({"name": fault.name, "kind": fault.kind, **where, **when, **fault.params}))
    return 0


def inject(control: Path, names: Sequence[str], *, listed: bool = False) -> int:
    """Set faults off, or list them; prints the answer as a JSON line. Return 0, 1 if refused, 2 without an answer."""
    if not names and not listed:
        print("tipguard hil inject: name a fault, or --list", file=sys.stderr)
        return 2
    try:
        answer = ask(control, {"list": True} if listed else {"inject": list(names)})
    except BenchOptionError as error:
        print(f"tipguard hil inject: {error}", file=sys.stderr)
        return 2
    if answer.get("ok") is not True:
        print(f"tipguard hil inject: {answer.get('error', answer)}", file=sys.stderr)
        return 1
    print(json.dumps({key: value for key, value in answer.items() if key != "ok"}))
    return 0
