"""How long a 2400 works on what it is told: from the specifications, or as this rig was measured.

Deadlines and the time that a cut needs come from the 99th percentile of the rig profile, and are never longer than
without one: what makes this unit slower than the specifications is measured by the driver at every set-up, and counts
on top. The time of a sample comes from the median, which is what a reading usually takes.
"""

from __future__ import annotations

import dataclasses
from typing import Final

from edge.config import Config
from firmware_proto.keithley2400 import commands

LEVEL_PROCESSING_S: Final = 0.010
"""``:SOUR:VOLT``: at most 7 ms with autorange off, 10 ms with it on (specifications, Rev. L)."""
READ_PROCESSING_S: Final = 0.004
"""A single reading at 0.01 PLC, display and autozero off: 256 readings/s on the bus (specifications, Rev. L)."""
QUERY_PROCESSING_S: Final = 0.007
SOURCE_DELAY_S: Final = 0.0005
"""Between level and aperture, for the cable's charging current to pass; comes on top of the processing."""
READ_REPLY_BYTES: Final = 42
CHECK_REPLY_BYTES: Final = 14
"""Of limit or range, the longest there is."""
MEASURED_NPLC: Final = 0.01
"""At which a commissioning measures its periods."""


@dataclasses.dataclass(frozen=True, slots=True)
class Processing:
    """Times in s without wire, source delay and aperture. ``usual_read_s`` is the median, the others are p99."""

    read_s: float = READ_PROCESSING_S
    level_s: float = LEVEL_PROCESSING_S
    query_s: float = QUERY_PROCESSING_S
    usual_read_s: float = READ_PROCESSING_S


def processing(config: Config, byte_s: float) -> Processing:
    """Return what is known of this rig's unit; ``byte_s``: time of a byte on its line, in s."""
    profile = config.own_profile
    if profile is None:
        return Processing()
    period = profile.sample_period_s
    reading_s = (len(commands.READ) + READ_REPLY_BYTES) * byte_s
    reading_s += SOURCE_DELAY_S + MEASURED_NPLC / config.smu.line_frequency_hz
    # The shortest level there is, and less what a unit may work on it while the question behind it is on the wire: a
    # cut's level has nothing behind it.
    level_wire_s = (len(commands.level_and_read(0.0)) - 2 * len(commands.READ)) * byte_s
    check_wire_s = (len(commands.LIMIT_QUERY) + CHECK_REPLY_BYTES) * byte_s
    return Processing(
        read_s=_within(period.constant.p99 - reading_s, READ_PROCESSING_S),
        level_s=_within(period.ramp.p99 - period.constant.p50 - level_wire_s, LEVEL_PROCESSING_S),
        query_s=_within(profile.check_period_s.p99 - period.ramp.p50 - check_wire_s, QUERY_PROCESSING_S),
        usual_read_s=max(0.0, period.constant.p50 - reading_s),
    )


def _within(measured_s: float, most_s: float) -> float:
    return min(max(0.0, measured_s), most_s)
