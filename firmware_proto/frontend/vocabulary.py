"""Words of the front end's protocol: hash, limits, safe outputs, enums.

Generated from schema.toml by firmware_proto.frontend.generate; do not edit.
"""

from __future__ import annotations

from typing import Final

from firmware_proto.frontend.message import Coded

SCHEMA_HASH: Final = 0x4654EE41
"""CRC-32 of everything in the schema but its prose."""
VERSION: Final = 1
MAX_PAYLOAD: Final = 512
"""Longest payload of any message. In byte."""
LEASE_MAX_MS: Final = 100
"""Longest lease a device grants: the damage budget in time. Longer ones are refused, not shortened. In ms."""
LEASE_RENEW_MS: Final = 30
"""Longest period in which the host renews the lease; ours does every 20 ms. In ms."""
TRIP_RESEND_MS: Final = 20
"""Period of TRIP_REPORT until it is acknowledged. In ms."""
STATUS_PERIOD_MS: Final = 100
"""Period of STATUS without being asked. In ms."""
SILENCE_MS: Final = 10
"""After so long a silence a sender begins with an extra delimiter. In ms."""
SENSE_SAMPLES: Final = 3
"""So many samples after opening the switch has to read open, else reason SWITCH_STUCK. In sample."""
MAX_LATE_US: Final = 5000
"""How far the sample loop may fall behind real time while ARMED, else reason OVERRUN. In us."""
WATCHDOG_MS: Final = 50
"""The hardware watchdog resets a device whose sample loop stands still for so long. In ms."""
RATE_RING: Final = 32
"""Codes kept for the RATE test; bound of rate_n. In sample."""
BASELINE_SHIFT_MAX: Final = 12
"""Bound of baseline_shift: time constant at most 4096 samples."""
REPEAT_WINDOW: Final = 64
"""A frame at most so many behind the expected one is a repetition and refused; anything else is a gap. In frame."""
SAFE_SWITCH: Final = 0
"""The analog switch in series with the tip: 0 open, 1 closed. Its pin needs a pull that opens it by itself."""
BUDGET_CODEC_BYTES: Final = 1024
"""Text of the codec core on Cortex-M3 at -Os."""
BUDGET_FLASH_BYTES: Final = 16384
"""Text and initialised data of the whole image."""
BUDGET_RAM_BYTES: Final = 8192
"""RAM without the ring of the black box."""


class State(Coded):
    """What a device is in."""

    SAFE = 0
    """Switch open; may be configured and armed."""
    ARMED = 1
    """Switch closed; every sample is judged, the lease runs."""
    TRIPPED = 2
    """Switch open, latched until REARM."""


class Reason(Coded):
    """Why a device tripped; compared for equality, never for order."""

    NONE = 0
    """It has not."""
    HARD = 1
    """Magnitude at hard_code or above."""
    LEVEL = 2
    """Magnitude at level_code or above for level_n samples running."""
    JUMP = 3
    """Away from the baseline by jump_code, and by the ratio."""
    RATE = 4
    """Changed by rate_code within rate_n samples."""
    SATURATED = 5
    """Magnitude at the converter's full scale."""
    ADC_FAULT = 6
    """The converter gave no sample."""
    HOST = 7
    """The host said TRIP."""
    LEASE = 8
    """The lease ran out, or a host came anew while ARMED."""
    OVERRUN = 9
    """The sample loop fell behind real time by max_late_us."""
    SWITCH_STUCK = 10
    """The switch reads closed after it was opened: only the SMU can take the bias away."""


class Refusal(Coded):
    """Why a device did not do what it was told."""

    NONE = 0
    """It did."""
    SCHEMA = 1
    """The host's schema hash or version is another."""
    SESSION = 2
    """No session yet, or one of another boot."""
    STATE = 3
    """Not in this state."""
    CONFIG = 4
    """None yet, or not the one whose CRC was quoted."""
    LEASE_TOO_LONG = 5
    """The deadline lies beyond lease_max_ms."""
    LEASE_OLD = 6
    """lease_seq did not rise."""
    BOX_NOT_RELEASED = 7
    """The black box of the last trip has not been released."""
    NOT_ACKNOWLEDGED = 8
    """The last trip has not been acknowledged."""
    BAD_VALUE = 9
    """A field is out of its range."""
    UNKNOWN_TRIP = 10
    """No trip of this id."""
    DEADLINE_PAST = 11
    """The deadline has passed already."""


class ResetCause(Coded):
    """Why a device started."""

    POWER = 1
    """Power came."""
    WATCHDOG = 2
    """The watchdog bit."""
    SOFTWARE = 3
    """It restarted itself."""
    PIN = 4
    """The reset pin."""
    UNKNOWN = 5
    """The hardware does not say."""


class Stream(Coded):
    """What a device sends of its samples."""

    OFF = 0
    """None."""
    MINMAX = 1
    """Smallest and largest of each `decimation` samples."""
    FULL = 2
    """Every sample."""
