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

    alarms: dict[str, str] = dataclasses.field(default_factory=dict)
    """What needs a person now, by kind."""
    trip_verdict: Verdict | None = None
    """Why the guard is latched."""
    trip_detail: str = ""
    """What the verdict alone does not say, since the last arming; empty for most."""
    smu_notes: tuple[str, ...] = ()
    """What the SMU does not know or does otherwise, as found at the last arming."""
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

    @property
    def alarm(self) -> str | None:
        """All alarms in one line; None if there are none."""
        return "; ".join(f"{kind}: {text}" for kind, text in self.alarms.items()) or None

    def raise_alarm(self, kind: str, text: str) -> None:
        """Set an alarm; it is logged when its kind is new."""
        if kind not in self.alarms:
            self.notice("alarm", kind=kind, text=text)
        self.alarms[kind] = text

    def clear_alarm(self, kind: str) -> None:
        """Clear an alarm; a no-op if there is none of this kind."""
        self.alarms.pop(kind, None)
