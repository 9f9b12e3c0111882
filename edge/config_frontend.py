"""The section about the front end: the microcontroller in series with the tip that trips by itself.

Currents are given in A; the driver converts them with what the device says of its own converter, always so that the
device trips no later than asked for. Imports nothing of the protocol: whoever reads the rig's file need not know it.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal, Self

import pydantic
from pydantic import Field

from edge.config_base import Section
from edge.errors import ConfigError

LEASE_MAX_S: Final = 0.1
"""Longest permission to energise that there is: what a lost host may cost (firmware, limit ``lease_max_ms``)."""
LEASE_MIN_S: Final = 0.04
"""Two renewals of the control task: a shorter one would trip for one turn that is late."""
LEVEL_N_MAX: Final = 255
RATE_SAMPLES_MAX: Final = 32
"""Codes of the past that the firmware keeps for its rate test."""
JUMP_RATIO_MAX: Final = 255.0
EVENT_HZ: Final = 1000.0
"""Minimum and maximum per 1 ms beside the black boxes, in mode ``event``."""

Ampere = Annotated[float, Field(gt=0, le=1.05)]


class FrontendPort(Section):
    """The port of the front end."""

    path: Annotated[str, Field(min_length=1)]
    """Device; a /dev/serial/by-id name on real hardware."""
    baud: Literal[115_200, 230_400, 460_800, 921_600, 1_000_000, 1_500_000, 2_000_000, 3_000_000, 4_000_000] = 921_600
    """Must equal the firmware's own rate; of no meaning behind USB of the controller's own."""


class FrontendConfig(Section):
    """When the front end trips by itself, and what is kept of what it measures. See docs/frontend.md."""

    driver: Annotated[str, Field(min_length=1)] = "tipguard"
    hard_a: Ampere
    """One sample of this magnitude trips. At most ``limits.current_a``; a converter at full scale trips anyway."""
    level_a: Ampere | None = None
    """So many samples in a row of this magnitude trip: ``level_n``. None: no such test."""
    level_n: Annotated[int, Field(ge=1, le=LEVEL_N_MAX)] = 3
    jump_a: Ampere | None = None
    """A sample so far from the running mean trips, if it is also ``jump_ratio`` times its magnitude. None: no such
    test."""
    jump_ratio: Annotated[float, Field(ge=0, le=JUMP_RATIO_MAX)] = 2.0
    baseline_s: Annotated[float, Field(gt=0, le=1)] = 0.005
    """Time constant of the running mean; the next shorter power of two of samples."""
    rate_a: Ampere | None = None
    """A change by so much within ``rate_samples`` samples trips. None: no such test."""
    rate_samples: Annotated[int, Field(ge=1, le=RATE_SAMPLES_MAX)] = 4
    pre_s: Annotated[float, Field(ge=0, le=10)] = 0.005
    """What a black box keeps from before the sample that tripped."""
    post_s: Annotated[float, Field(ge=0, le=10)] = 0.002
    """What a black box keeps from after it: the path is open then, this is the switch at work."""
    lease_s: Annotated[float, Field(ge=LEASE_MIN_S, le=LEASE_MAX_S)] = LEASE_MAX_S
    """Without a renewal by the controller's control task for so long, the front end opens by itself."""
    recording: Literal["event", "decimated", "full"] = "event"
    """event: black boxes, and minimum and maximum of each 1 ms. decimated: minimum and maximum at ``decimated_hz``.
    full: every sample, for ``full_max_s`` of a run."""
    decimated_hz: Annotated[float, Field(ge=1, le=500_000)] = 10_000.0
    full_max_s: Annotated[float, Field(gt=0, le=86_400)] | None = None
    """Recording ``full`` ends after so long in a run, and goes on as ``event``."""
    invert: bool = False
    """True: what this converter calls positive is negative at the source-measure unit."""

    @pydantic.model_validator(mode="after")
    def _fits(self) -> Self:
        if self.recording == "full" and self.full_max_s is None:
            raise ValueError('recording "full" without full_max_s: expected a time limit; it fills disks')
        for name, value in (("level_a", self.level_a), ("jump_a", self.jump_a)):
            if value is not None and value > self.hard_a:
                raise ValueError(
                    f"{name} {value:g} is above hard_a {self.hard_a:g}: expected less, or it would never be the one "
                    "that trips"
                )
        return self

    @property
    def hard_alone(self) -> Self:
        """The same without the tests that look for a surge."""
        return self.model_copy(update={"level_a": None, "jump_a": None, "rate_a": None})

    def pairs_hz(self, recording: str) -> float:
        """Return how many pairs of minimum and maximum per s a recording other than ``full`` keeps."""
        return self.decimated_hz if recording == "decimated" else EVENT_HZ


def check_frontend(section: FrontendConfig | None, port: FrontendPort | None, *, limit_a: float, file: str) -> None:
    """Compare the section with the rest of the rig's file; raise ConfigError with file, key, value and expectation.

    ``limit_a``: ``limits.current_a``.
    """
    key = problem = ""
    if section is None and port is not None:
        key, problem = "frontend", "is missing; [ports.frontend] names a front end, expected when it is to trip"
    elif section is not None and port is None:
        key, problem = "ports.frontend", "is missing; [frontend] says when it trips, expected where it is"
    elif section is not None and section.hard_a > limit_a:
        key = "frontend.hard_a"
        problem = f"value {section.hard_a!r}: must not exceed limits.current_a ({limit_a!r})"
    if problem:
        raise ConfigError(f"{file}: {key}: {problem}", file=file, key=key)
