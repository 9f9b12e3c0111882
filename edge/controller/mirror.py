"""The latch's mirror in the run directory: what a restarted process must know. Standard library only.

Written before the output goes on (dirty) and after it is verified off. A dirty mirror, or none on a port that is not
emulated, starts the worker in TRIPPED(RESTART): nobody has verified what happened in between.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from edge import rundir

CLEAN = "clean"
DIRTY = "dirty"
TRIPPED = "tripped"


@dataclasses.dataclass(frozen=True, slots=True)
class Latch:
    """What the mirror says. ``verdict`` is the reason where ``state`` is tripped; ``keeper_cut`` what a keeper did."""

    state: str
    verdict: str | None = None
    epoch: int = 0
    keeper_cut: dict[str, Any] | None = None


class Mirror:
    """The file, whole or absent."""

    def __init__(self, directory: Path) -> None:
        """Use ``state.json`` in the rig's run directory."""
        self._path = directory / rundir.STATE_FILE

    def read(self) -> Latch | None:
        """Return the latch; None if there is no file; dirty if it cannot be understood."""
        if not self._path.exists():
            return None
        data = rundir.read_json(self._path)
        if data is None or data.get("state") not in (CLEAN, DIRTY, TRIPPED):
            return Latch(DIRTY)
        verdict = data.get("verdict")
        epoch = data.get("epoch")
        cut = data.get("keeper_cut")
        return Latch(
            str(data["state"]),
            verdict if isinstance(verdict, str) else None,
            epoch if isinstance(epoch, int) else 0,
            cut if isinstance(cut, dict) else None,
        )

    def write(self, latch: Latch) -> None:
        """Replace the file."""
        rundir.write_json(self._path, dataclasses.asdict(latch))


def in_short(latch: Latch | None) -> str:
    """Return what is known of the last life in a few words."""
    if latch is None:
        return "no record"
    if latch.keeper_cut is not None:
        return f"worker {latch.keeper_cut.get('cause', 'ended')}, cut by the keeper"
    return "ended with the output on" if latch.state == DIRTY else "was tripped"
