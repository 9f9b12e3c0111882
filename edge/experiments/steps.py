"""What a plan may ask of the controller. Plans are generators of steps; they do no I/O and know no instrument.

A plan sees the outcome of each step as the value of its ``yield``. It cannot switch anything on that the guard has
not armed, and it cannot go on after a protective cut: the controller then closes the generator. What a stage refuses
or cannot do (:class:`Lift`, :class:`MoveTo`, :class:`Approach`, :class:`Touch`, or :class:`Energise` over a stage that
does not stand still) is raised at the ``yield`` as :class:`StepFailedError`; a plan that does not catch it ends with
that reason. Nothing is energised then.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Generator
from typing import Any, Literal, Protocol

from edge.errors import TipguardError
from edge.samples import Phase, Sample


@dataclasses.dataclass(frozen=True, slots=True)
class Arm:
    """Set and read back range and limits of a phase, with the output off. ``v_max_v``: largest \\|bias\\| to come.

    ``range_a``: for a HRS_READ, another fixed range than the phase table's, in A.
    """

    phase: Phase
    v_max_v: float
    range_a: float | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Energise:
    """Switch the output on at 0 V; only from ARMED."""


@dataclasses.dataclass(frozen=True, slots=True)
class Ramp:
    """Set each level in V for ``dwell_s``, reading at least once at each. Ends early at a cut.

    ``after_cut``: "off", or "hold_0v": a planned cut that is seen without current at 0 V leaves the output on (the
    outcome is ``held``), and the next step is another ramp or the end, at once; one that is not seen so goes off.
    """

    levels_v: tuple[float, ...]
    dwell_s: float
    after_cut: Literal["off", "hold_0v"] = "off"


@dataclasses.dataclass(frozen=True, slots=True)
class End:
    """0 V, output off, verified: the normal end of what was energised."""


@dataclasses.dataclass(frozen=True, slots=True)
class Progress:
    """Tell whoever watches how far the plan is. ``done`` 0..1."""

    done: float
    text: str


@dataclasses.dataclass(frozen=True, slots=True)
class Lift:
    """Lift the tip off the sample and see that it is off."""


@dataclasses.dataclass(frozen=True, slots=True)
class MoveTo:
    """Move the lifted tip along the surface to an absolute position, in m."""

    x_m: float
    y_m: float


@dataclasses.dataclass(frozen=True, slots=True)
class Approach:
    """Bring the tip down until there is contact, then wait until it has settled. The outcome's ``t_ns`` is contact."""


@dataclasses.dataclass(frozen=True, slots=True)
class Touch:
    """Look whether the tip is in contact; the outcome's ``touching`` tells."""


@dataclasses.dataclass(frozen=True, slots=True)
class Interview:
    """With the output off: time the instrument's answers and its abort, ``times`` times each (``Outcome.figures``)."""

    times: int


@dataclasses.dataclass(frozen=True, slots=True)
class About:
    """Say what the events to come are about, a map of plain values: site, position."""

    context: dict[str, Any]


@dataclasses.dataclass(frozen=True, slots=True)
class Publish:
    """Put a document into the stream ``runs``, so that what is finished is kept whatever comes. ``kind`` is its own."""

    kind: str
    document: dict[str, Any]


Step = Arm | Energise | Ramp | End | Progress | Lift | MoveTo | Approach | Touch | Interview | About | Publish


@dataclasses.dataclass(frozen=True, slots=True)
class Outcome:
    """How a step ended.

    ``verdict``: None, or the id of the planned cut that ended it; then the output is verified off, unless it is
    ``held``: on, and verified to stand at 0 V without current.
    ``samples``: those taken during a :class:`Ramp`, newest last, at most the last 65536.
    ``event``: scalars of the setting event that the cut recorded.
    ``t_ns``: when contact was found, or the step was done. ``position_m``: where the stage's sensors say the axes are.
    ``touching``: the tip is in contact. ``latency_s``: of a cut or an end, from the decision to the verification.
    ``figures``: what an :class:`Interview` found.
    """

    verdict: str | None = None
    samples: tuple[Sample, ...] = ()
    event: dict[str, Any] | None = None
    t_ns: int | None = None
    position_m: dict[str, float] | None = None
    touching: bool | None = None
    latency_s: float | None = None
    figures: dict[str, Any] | None = None
    held: bool = False


class StepFailedError(TipguardError):
    """A step was refused or went wrong at the stage; the tip is where it was, the output off."""


class BrokenOffError(TipguardError):
    """A plan ends itself early, the output off: raised by a plan. ``results`` go into the run's stop document."""

    def __init__(self, message: str, *, results: dict[str, Any]) -> None:
        super().__init__(message)
        self.results = results


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

    @property
    def needs_stage(self) -> bool:
        """Whether the plan moves the tip."""

    @property
    def targets_m(self) -> tuple[tuple[float, float], ...]:
        """Every (x, y) in m that the plan moves to, in the order in which they are listed."""

    def duration_s(self) -> float:
        """Return the longest time the plan can take, without waits for the ring."""

    def describe(self) -> dict[str, Any]:
        """Return the plan's parameters for the run's start document."""

    def program(self) -> Program:
        """Return a fresh program."""
