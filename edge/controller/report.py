"""What the rest of the worker, and through it a person, may know of the engine. No logic."""

from __future__ import annotations

import collections
import dataclasses
from typing import Any

from edge.guard.verdicts import Verdict
from edge.samples import Sample


@dataclasses.dataclass(slots=True)
class Report:
    """The engine's public face; written by the engine and its cutter only."""

    alarm: str | None = None
    """What needs a person now; None if nothing does."""
    trip_verdict: Verdict | None = None
    """Why the guard is latched."""
    last_sample: Sample | None = None
    last_event: dict[str, Any] | None = None
    """Scalars of the last event document."""
    planned_cuts: int = 0
    protective_cuts: int = 0
    notices: collections.deque[tuple[str, dict[str, Any]]] = dataclasses.field(
        default_factory=lambda: collections.deque(maxlen=256)
    )
    """What happened, for whoever logs; the hot path never logs."""

    def notice(self, what: str, **data: Any) -> None:  # noqa: ANN401 - passed through to the log
        """Leave a line for the log."""
        self.notices.append((what, data))

    def raise_alarm(self, text: str) -> None:
        """Set the alarm; the same text again says nothing new."""
        if self.alarm != text:
            self.alarm = text
            self.notice("alarm", text=text)

    def clear_alarm(self, starting_with: str) -> None:
        """Clear the alarm if it is of this kind."""
        if self.alarm is not None and self.alarm.startswith(starting_with):
            self.alarm = None
