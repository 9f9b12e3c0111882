"""The front end's part of a rig's envelope: its section of the file and what the device declares, put into numbers.

Nothing is sent: whoever has asked the device hands over what it said.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any, Final

from edge.config import Config
from edge.config_frontend import FrontendConfig
from edge.guard.envelope import Envelope, EnvelopeInputs, envelope
from edge.guard.envelope_frontend import (
    FrontEndDevice,
    FrontEndTests,
    HostLoss,
    front_end_pace,
    host_loss,
    with_front_end,
)
from firmware_proto.frontend.messages import Welcome

SWITCH_OPEN_S: Final = 300e-9
"""Opening time of the analog switch of a front end that is not there yet: that of docs/firmware.md's circuit."""
CODE_A: Final = 40e-9
"""Current per code of a front end that is not there yet: 16 bits over 1.3 mA."""
LEASE_MAX_S: Final = 0.1
_MOST_SHIFT: Final = 12
"""Of the firmware's baseline; schema, limit ``baseline_shift_max``."""


@dataclasses.dataclass(frozen=True, slots=True)
class FrontRow:
    """What the front end promises of one kind of plan, and what went into it."""

    inputs: EnvelopeInputs
    envelope: Envelope


@dataclasses.dataclass(frozen=True, slots=True)
class FrontEndFound:
    """A rig's front end: what it declares, what it is set to, what a lost host leaves."""

    device: FrontEndDevice
    tests: FrontEndTests
    lease_s: float
    lost: HostLoss

    @property
    def until_open_s(self) -> float:
        """Longest time from a current that HARD sees to an open path, s."""
        return front_end_pace(self.device).until_zero_s(1)


def declared(welcome: Welcome) -> FrontEndDevice | None:
    """Return what a device says of itself in its WELCOME; None where its numbers are none."""
    try:
        return FrontEndDevice(
            sample_hz=float(welcome.sample_hz),
            switch_open_s=welcome.switch_open_ns / 1e9,
            code_a=welcome.code_pa / 1e12,
            lease_max_s=welcome.lease_max_ms / 1e3,
        )
    except ValueError:
        return None


def told(status: object) -> FrontEndDevice | None:
    """Return what a running controller's status says of its front end; None where it has none, or knows nothing yet."""
    declares = status.get("declares") if isinstance(status, dict) else None
    return FrontEndDevice(**declares) if isinstance(declares, dict) else None


def thresholds_of(section: FrontendConfig, device: FrontEndDevice) -> FrontEndTests:
    """Return what a device of this sampling rate is set to by the rig's file."""
    samples = max(1.0, section.baseline_s * device.sample_hz)
    return FrontEndTests(
        hard_a=section.hard_a,
        level_a=section.level_a or 0.0,
        level_n=section.level_n,
        jump_a=section.jump_a or 0.0,
        jump_ratio=section.jump_ratio,
        baseline_shift=min(_MOST_SHIFT, int(math.log2(samples))),
        rate_a=section.rate_a or 0.0,
        rate_n=section.rate_samples,
    )


def front_end_found(config: Config, device: FrontEndDevice | None, short_a: float = math.inf) -> FrontEndFound | None:
    """Return the rig's front end; None where the file has none, or where nobody has asked the device.

    ``short_a``: what resistor and clamp let through at the largest bias, A.
    """
    section = config.frontend
    if section is None or device is None:
        return None
    tests = thresholds_of(section, device)
    # It may be lost in any phase.
    lost = host_loss(device, hard_alone(tests), section.lease_s, short_a=short_a)
    return FrontEndFound(device, tests, section.lease_s, lost)


def hard_alone(tests: FrontEndTests) -> FrontEndTests:
    """Return what is in force outside a trigger search: a filament is there already, and no current is a surge."""
    return dataclasses.replace(tests, level_a=0.0, jump_a=0.0, rate_a=0.0)


def front_row(inputs: EnvelopeInputs, found: FrontEndFound | None, *, searches: bool = True) -> FrontRow | None:
    """Return what the front end promises of a plan whose inputs without it are ``inputs``.

    ``searches``: it is a trigger search, in which all of its tests look.
    """
    if found is None:
        return None
    seen = with_front_end(inputs, found.device, found.tests if searches else hard_alone(found.tests))
    return FrontRow(seen, envelope(seen))


def imagined(inputs: EnvelopeInputs, rate_hz: float, hard_a: float) -> Envelope:
    """Return what a front end would promise that samples at ``rate_hz`` and trips at ``hard_a`` alone."""
    device = FrontEndDevice(sample_hz=rate_hz, switch_open_s=SWITCH_OPEN_S, code_a=CODE_A, lease_max_s=LEASE_MAX_S)
    return envelope(with_front_end(inputs, device, FrontEndTests(hard_a=hard_a)))


def to_document(found: FrontEndFound | None) -> dict[str, Any] | None:
    """Return it as plain values, with units in the names."""
    if found is None:
        return None
    return {
        **dataclasses.asdict(found.device),
        **dataclasses.asdict(found.tests),
        "lease_s": found.lease_s,
        "until_open_s": found.until_open_s,
        "host_loss": dataclasses.asdict(found.lost),
    }
