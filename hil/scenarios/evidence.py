"""What was seen of a scenario: by the controller, by the instruments themselves, and by the sample."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from edge.samples import Sample
from hil.faults.injector import Applied, Passed
from hil.protocols import Wire
from hil.twin.truth import Entry


class Moment(NamedTuple):
    """One look at a rig: time in ns, tip in V and A, whether the output is on, and the guard's state."""

    t_ns: int
    v_tip: float
    i_a: float
    output_on: bool
    state: str


class Sent(NamedTuple):
    """One reply as the instrument handed it to its line: ns, bytes, and the level in V it really sourced then."""

    t_ns: int
    data: bytes
    level_v: float


@dataclass(slots=True)
class Attempt:
    """How a later run went: "clean", "tripped", "failed" or "refused", and the words."""

    how: str
    says: str


@dataclass(slots=True)
class Evidence:
    """Everything a judge may look at. Times are the bench's, ns; -1 where it never came to that."""

    armed_ns: int = -1
    run_ended_ns: int = -1
    watched_until_ns: int = -1
    """When the bench stopped looking and tried the next run."""
    status: str = "none"
    reason: str = ""
    state: str = ""
    alarms: dict[str, str] = field(default_factory=dict)
    applied: list[Applied] = field(default_factory=list)
    missed: tuple[str, ...] = ()
    events: list[dict[str, Any]] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)
    sent: list[Sent] = field(default_factory=list)
    truth: list[Entry] = field(default_factory=list)
    moments: list[Moment] = field(default_factory=list)
    passed: list[Passed] = field(default_factory=list)
    next: Attempt | None = None
    after_rearm: Attempt | None = None
    output_off_at_end: bool = False
    bench_error: str = ""

    @property
    def fault_ns(self) -> int:
        """When the first fault was applied; -1 if none was."""
        return min((one.t_ns for one in self.applied), default=-1)

    def onset_ns(self) -> int:
        """When the first filament bridged; -1 if none did."""
        return next((int(e["t_ns"] or 0) for e in self.truth if e["event"] == "set_onset"), -1)


class ListeningWire:
    """Stands between an instrument and its line and keeps what it sends, before any fault can change it."""

    def __init__(self, wire: Wire, level_v: Callable[[], float], kept: list[Sent]) -> None:
        """Pass everything to ``wire``; ``level_v`` tells what is sourced now."""
        self._wire = wire
        self._level_v = level_v
        self._kept = kept

    def send(self, t_ns: int, data: bytes) -> None:
        """See Wire."""
        self._kept.append(Sent(t_ns, data, self._level_v()))
        self._wire.send(t_ns, data)

    def discard(self, t_ns: int) -> None:
        """See Wire."""
        self._wire.discard(t_ns)
