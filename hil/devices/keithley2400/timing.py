"""How long the emulated 2400 takes for everything it does."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Final, Self

LONGEST_S = 60.0

NEVER_NS: Final = 1 << 62
"""The duration of waiting for something that may never come, in ns."""


@dataclass(frozen=True, slots=True)
class Timing:
    """Times of a 2400 in seconds, each 0..60. The aperture is not here: it is NPLC divided by the line frequency.

    Defaults marked SPEC are from SPEC-2400 Rev. L, those marked UM from the User's Manual 2400S-900-01; the others
    are set so that the sums meet the rates the specification gives (a single reading at 0.01 PLC: 256 per second;
    source, then measure: 79 per second; a sweep to memory: 2081 per second). No rate over RS-232 is specified.

    Raises:
        ValueError: a time is negative, above 60 s or not a number.
    """

    set_s: float = 0.001
    """A command that sets something and has no entry of its own."""
    query_s: float = 0.001
    """A query, before its reply; also the start of a ``:READ?``."""
    level_s: float = 0.007
    """``:SOUR:VOLT`` or ``:SOUR:CURR``, source autorange off (SPEC, maximum). The level changes at the end."""
    level_autorange_s: float = 0.010
    """The same with source autorange on (SPEC, maximum)."""
    output_s: float = 0.007
    """``:OUTP``. The output switches at the end."""
    relay_settle_s: float = 0.015
    """Added by ``:OUTP ON`` when the relay was open in the HIMP off state (UM 13-9 to 13-11)."""
    auto_output_settle_s: float = 0.00045
    """After each switching-on by ``:SOUR:CLE:AUTO ON`` (SPEC)."""
    trigger_latency_s: float = 0.0001
    """From trigger to the source phase of a reading (SPEC)."""
    auto_delay_1ua_s: float = 0.003
    """Automatic source delay on the 1 uA measure range."""
    auto_delay_10ua_s: float = 0.002
    """The same on 10 uA."""
    auto_delay_s: float = 0.001
    """The same on every other range, and when sourcing current."""
    conversion_s: float = 0.0002
    """Fixed part of a reading beside its apertures: what 2081 readings per second leave."""
    reply_s: float = 0.0024
    """From the end of the last reading of a ``:READ?`` to its reply: what 256 readings per second leave."""
    autorange_s: float = 0.040
    """Each change of the measure range by autorange (SPEC, maximum)."""
    abort_s: float = 0.0
    """Deaf to nothing but executing nothing after ``^C``; not established for a real unit."""

    def __post_init__(self) -> None:
        """Check every field."""
        for field in fields(self):
            value = getattr(self, field.name)
            if not (math.isfinite(value) and 0.0 <= value <= LONGEST_S):
                raise ValueError(f"Timing.{field.name} must be 0..{LONGEST_S:g} s, not {value!r}")

    @classmethod
    def zero(cls) -> Self:
        """Return a timing in which only apertures, delays that were asked for and nothing else take time."""
        return cls(**{field.name: 0.0 for field in fields(cls)})


def nanoseconds(seconds: float) -> int:
    """Return a time in s as whole nanoseconds."""
    return round(seconds * 1e9)
