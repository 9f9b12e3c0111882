"""Why the guard really had to cut: the verdict of the moment, corrected by what the instrument tells afterwards.

The cut never waits for this. A reading that did not come is STALE when it is cut; that the unit had lost its power, or
that somebody had switched its output off, is known a moment later and is the reason a person needs.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from edge.guard.verdicts import Verdict
from edge.instruments.aftermath import Aftermath

DOUBTFUL: Final = frozenset({Verdict.STALE, Verdict.UNPARSABLE, Verdict.LIMIT_CHANGED, Verdict.OUTPUT_CHANGED})
"""Verdicts that a reset, or a hand at the panel, can be behind."""


class Diagnosis(NamedTuple):
    """The verdict to keep, and the words for it."""

    verdict: Verdict
    says: str

    def document(self, instead_of: Verdict, *, cut_ns: int | None, t_ns: int) -> dict[str, Any]:
        """Return the event that tells it; ``cut_ns``: when the cut it is about was decided."""
        return {
            "kind": "diagnosis",
            "verdict": self.verdict.value,
            "instead_of": instead_of.value,
            "says": self.says,
            "cut_ns": cut_ns,
            "t_ns": t_ns,
        }


def judge(verdict: Verdict, told: Aftermath) -> Diagnosis | None:
    """Return what ``verdict`` becomes with what the instrument told; None where it told nothing."""
    if told.was_reset:
        return Diagnosis(Verdict.DEVICE_RESET, "the instrument was powered on, or reset itself, since it was set up")
    if verdict is Verdict.STALE and told.was_off:
        return Diagnosis(
            Verdict.OUTPUT_CHANGED,
            "the instrument refused a reading because its output was off: switched off elsewhere",
        )
    if told.refused:
        return Diagnosis(verdict, f"the instrument refused: {'; '.join(told.refused)}")
    return None
