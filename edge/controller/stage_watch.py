"""What the engine needs to know of a stage."""

from __future__ import annotations

from typing import Protocol

from edge.guard.interlocks import Interlock
from edge.guard.verdicts import Verdict


class StageWatch(Protocol):
    """Looks that cost nothing, from the hot path; :class:`edge.controller.tip.Tip` implements it."""

    def output_on_refusals(self, now_ns: int) -> tuple[Interlock, ...]:
        """Return why the output must stay off; empty if it may go on."""

    def fault(self, now_ns: int) -> tuple[Verdict, tuple[Interlock, ...]] | None:
        """Return why a bias that is on must go, or None."""
