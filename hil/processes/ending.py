"""How a controller is ended: its own last word, or else ``safe-off``'s, on whether the output is off."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from hil.processes.child import Child
from hil.processes.spec import PYTHON

STOP_S: Final = 8.0
"""Longer than the keeper takes to end a worker that hangs, cut and verify."""
SAFE_OFF_S: Final = 10.0


@dataclass(frozen=True, slots=True)
class Ending:
    """How a rig ended. ``verified_off``: None when its controller never ran."""

    verified_off: bool | None
    report: str


def switch_off(controller: Child | None, config_path: Path, environment: Mapping[str, str]) -> Ending:
    """End the controller; cut without it, as a service manager would, if its last word is not "verified off"."""
    if controller is None:
        return Ending(None, "the controller never ran; nothing was switched on")
    if controller.stop(STOP_S) == 0:
        return Ending(True, "output verified off")
    try:
        done = subprocess.run(
            [*PYTHON, "-m", "edge.controller.safe_off", str(config_path)],
            env=dict(environment),
            capture_output=True,
            text=True,
            timeout=SAFE_OFF_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return Ending(False, f"safe-off did not end within {SAFE_OFF_S:g} s")
    return Ending(done.returncode == 0, (done.stdout + done.stderr).strip())
