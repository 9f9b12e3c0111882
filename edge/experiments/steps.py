"""What a plan may ask of the controller. Plans are generators of steps; they do no I/O and know no instrument.

A plan sees the outcome of each step as the value of its ``yield``. It cannot switch anything on that the guard has
not armed, and it cannot go on after a protective cut: the controller then closes the generator.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Generator
from typing import Any, Protocol

from edge.samples import Phase, Sample


@dataclasses.dataclass(frozen=True, slots=True)
class Arm:
    """Set and read back range and limits of a phase, with the output off. ``v_max_v``: largest \\|bias\\| to come."""

    phase: Phase
    v_max_v: float


@dataclasses.dataclass(frozen=True, slots=True)
class Energise:
    """Switch the output on at 0 V; only from ARMED."""


@dataclasses.dataclass(frozen=True, slots=True)
class Ramp:
    """Set each level in V for ``dwell_s``, reading at least once at each. Ends early at a cut."""

    levels_v: tuple[float, ...]
    dwell_s: float


@dataclasses.dataclass(frozen=True, slots=True)
class End:
    """0 V, output off, verified: the normal end of what was energised."""


@dataclasses.dataclass(frozen=True, slots=True)
class Progress:
    """Tell whoever watches how far the plan is. ``done`` 0..1."""

    done: float
    text: str


Step = Arm | Energise | Ramp | End | Progress


@dataclasses.dataclass(frozen=True, slots=True)
class Outcome:
    """How a step ended.

    ``verdict``: None, or the id of the planned cut that ended it (then the output is verified off).
    ``samples``: those taken during a :class:`Ramp`, newest last, at most the last 65536.
    ``event``: scalars of the setting event that the cut recorded.
    """

    verdict: str | None = None
    samples: tuple[Sample, ...] = ()
    event: dict[str, Any] | None = None


Program = Generator[Step, Outcome, dict[str, Any]]
"""A plan at work; returns the results that go into the run's stop document."""


class Plan(Protocol):
    """An experiment, validated and ready. Third parties add one by the entry point ``tipguard.experiments``."""

    @property
    def name(self) -> str:
        """Name of the experiment, as in its entry point."""

    @property
    def v_max_v(self) -> float:
        """Largest \\|bias\\| of the whole plan, in V."""

    def duration_s(self) -> float:
        """Return the longest time the plan can take, without waits for the ring."""

    def describe(self) -> dict[str, Any]:
        """Return the plan's parameters for the run's start document."""

    def program(self) -> Program:
        """Return a fresh program."""
