"""The rig profile: what ``tipguard commission`` measured of one rig, read by everything that must know its times.

One JSON file, ``rig-profile.json``, beside the rig's file. Every figure is of this instrument on this host and this
cable; what stands in no profile is taken from the data sheet. docs/commissioning.md says how each one is measured.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Final, Literal

import pydantic
from pydantic import BaseModel, ConfigDict, Field

from edge.errors import ConfigError

VERSION: Final = 1
DEFAULT_FILE: Final = "rig-profile.json"
"""Beside the rig's file, unless ``rig.profile_file`` names another."""
LONGEST_S: Final = 60.0
MAX_SWALLOW_S: Final = 0.020
_AGAIN: Final = "move this file away, and measure the rig anew with `tipguard commission`"

Time = Annotated[float, Field(ge=0, le=LONGEST_S)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class Times(_Part):
    """What repeated measurements of one time gave, in s: quantiles, the longest, and how many there were."""

    p50: Time
    p99: Time
    max: Time
    n: Annotated[int, Field(ge=1)]

    @pydantic.model_validator(mode="after")
    def _in_order(self) -> Times:
        if not self.p50 <= self.p99 <= self.max:
            raise ValueError("want p50 <= p99 <= max")
        return self


class SamplePeriod(_Part):
    """Times between two readings, in s."""

    constant: Times
    """At a level that stands; without the gaps in which the check query was asked."""
    ramp: Times
    """With a new level before every reading; without the gaps in which the check query was asked."""


class ConverterFigure(_Part):
    """A current reading with the contacts open, on a nominal range in A at an integration time in line cycles."""

    range_a: Annotated[float, Field(gt=0, le=1)]
    nplc: Annotated[float, Field(ge=0.01, le=10)]
    offset_a: Annotated[float, Field(ge=-1, le=1)]
    """Mean, in A; the sign is the instrument's own."""
    sigma_a: Annotated[float, Field(ge=0, le=1)]
    """Standard deviation of one reading, in A."""
    n: Annotated[int, Field(ge=2)] | None = None
    """Readings it was taken from; None where the file does not say."""


class RigProfile(_Part):
    """One rig, measured. Times in s on the host's monotonic clock: wire, adapter and host are in them."""

    v: Literal[1]
    serial_number: Annotated[str, Field(pattern=r"^[A-Za-z0-9]{1,16}$")]
    """Of the instrument that was measured; the profile is no other's."""
    firmware: Annotated[str, Field(min_length=1, max_length=64)]
    terminator: Literal["CR", "LF", "CRLF", "LFCR"]
    """What its replies end with."""
    line_freq_hz: Annotated[float, Field(ge=40, le=440)]
    baud: Annotated[int, Field(ge=300, le=4_000_000)]
    """At another baud rate the times are others: the profile is then refused."""
    sign: Literal[1, -1]
    """-1: HI is at the sample (wiring.hi = "sample"), the instrument's own signs are turned."""
    series_ohm: Annotated[float, Field(ge=0, le=1e9)]
    """The series resistor as measured, in ohm: what is left of the total when 10 kohm are taken off."""
    abort_s: Time
    """From an abort to the next command being executed, output off: the median. Not in the midst of a reading."""
    abort_swallow_s: Annotated[float, Field(ge=0, le=MAX_SWALLOW_S)] = 0.0
    """How long bytes behind an abort are lost, as far as it shows."""
    sample_period_s: SamplePeriod
    check_period_s: Times
    """Between two readings of a ramp where the check query is asked between them: the longest gap there is."""
    cut_latency_s: Times
    """From the decision to the tagged verification that the output is off: an upper bound of the time to 0 V."""
    current: Annotated[tuple[ConverterFigure, ...], Field(strict=False)]
    timing_s: Annotated[dict[str, Time], Field(max_length=64)] | None = None
    """Processing times of the instrument, by the emulator's names for them; None: not worked out."""
    measured_utc: Annotated[str, Field(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$")]
    tipguard: Annotated[str, Field(min_length=1, max_length=64)]
    """Version of the program that measured."""

    def not_of(self, *, serial_number: str, baud: int, line_freq_hz: float) -> str | None:
        """Return in words why this is not the profile of an instrument on its line; None if it is."""
        for what, measured, now in (
            ("serial number", self.serial_number, serial_number),
            ("baud rate", self.baud, baud),
            ("line frequency", self.line_freq_hz, line_freq_hz),
        ):
            if measured != now:
                return f"{what} {measured}, this rig's is {now}"
        return None

    def to_json(self) -> str:
        """Return the file's text."""
        return json.dumps(self.model_dump(mode="json", exclude_none=True), indent=2) + "\n"


def load_profile(path: Path) -> RigProfile:
    """Read a profile; raise :class:`ConfigError` with file, key, value and expectation."""
    file = str(path)
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{file}: {error.strerror}; {_AGAIN}", file=file) from error
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{file}: not JSON: {error}; {_AGAIN}", file=file) from error
    if not isinstance(data, dict):
        raise ConfigError(f"{file}: not a rig profile, which is one object; {_AGAIN}", file=file)
    version = data.get("v")
    if version != VERSION or isinstance(version, bool):
        raise ConfigError(
            f"{file}: v: value {version!r:.80}: this program knows version {VERSION} of a rig profile; {_AGAIN}",
            file=file,
            key="v",
        )
    try:
        return RigProfile.model_validate(data)
    except pydantic.ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(str(part) for part in first["loc"])
        shown = "" if first["type"] == "missing" else f"value {first['input']!r:.80}: "
        raise ConfigError(
            f"{file}: {key}: {shown}{first['msg'][:1].lower()}{first['msg'][1:]}; {_AGAIN}", file=file, key=key
        ) from error
