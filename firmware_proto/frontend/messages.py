"""The front end's messages. Generated from schema.toml by firmware_proto.frontend.generate; do not edit.

Fields are plain integers in the units that their docstrings give. An array is the bytes of its values, <i2:
read it by ``array`` or ``numpy.frombuffer(codes, '<i2')``; its count is the property ``count``.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import ClassVar, Final

from firmware_proto.frontend.message import Coded, Message
from firmware_proto.frontend.vocabulary import (
    SCHEMA_HASH,
    VERSION,
    Reason,
    Refusal,
    ResetCause,
    State,
    Stream,
)


@dataclass(frozen=True, slots=True)
class Hello(Message):
    """0x01, host to device. Begin a session; header session 0. While ARMED it means a lost host: TRIPPED, reason
    LEASE."""

    ID: ClassVar[int] = 0x01
    NAME: ClassVar[str] = "HELLO"
    LAYOUT: ClassVar[struct.Struct] = struct.Struct("<IIH")

    schema_hash: int
    """u32: CRC-32 of the sender's schema."""
    host_nonce: int
    """u32: Random, new for each HELLO."""
    version: int
    """u16: Version of the protocol."""


@dataclass(frozen=True, slots=True)
class Config(Message):
    """0x02, host to device. Parameters of detector, black box and stream; taken in SAFE only, answered by CONFIG_IS."""

    ID: ClassVar[int] = 0x02
    NAME: ClassVar[str] = "CONFIG"
    LAYOUT: ClassVar[struct.Struct] = struct.Struct("<HHHBHHBHBHHBH")
    ENUMS: ClassVar[dict[int, type[Coded]]] = {11: Stream}

    config_seq: int
    """u16: The host's number for it."""
    hard_code: int
    """u16, code, 1..32767: HARD at this magnitude; cannot be switched off."""
    level_code: int
    """u16, code, 0..32767: LEVEL at this magnitude; 0: off."""
    level_n: int
    """u8, sample, 1..255: Consecutive samples at level_code."""
    jump_code: int
    """u16, code, 0..32767: JUMP at this distance from the baseline; 0: off."""
    jump_ratio_q8: int
    """u16, 1/256: JUMP also needs |code| of so many times |baseline|."""
    baseline_shift: int
    """u8, 0..12: Baseline: exponential mean over 2**baseline_shift samples."""
    rate_code: int
    """u16, code: RATE at this change within rate_n samples; 0: off."""
    rate_n: int
    """u8, sample, 1..32: Distance of the two samples that RATE compares."""
    pre_n: int
    """u16, sample: Samples of the black box before the one that tripped."""
    post_n: int
    """u16, sample: Samples of the black box after it."""
    stream: Stream
    """u8: What is sent of the samples."""
    decimation: int
    """u16, sample, 1..65535: Samples per pair of MINMAX."""


@dataclass(frozen=True, slots=True)
class Arm(Message):
    """0x03, host to device. Close the switch; the first lease comes with it."""

    ID: ClassVar[int] = 0x03
    NAME: ClassVar[str] = "ARM"
    LAYOUT: ClassVar[struct.Struct] = struct.Struct("<IIQ")

    config_crc: int
    """u32: That of the last CONFIG_IS: what the host believes to be in force."""
    lease_seq: int
    """u32: Number of the lease, rising within a session."""
    deadline_ticks: int
    """u64, tick: Device time at which the lease ends."""


@dataclass(frozen=True, slots=True)
class Lease(Message):
    """0x04, host to device. Permission to stay ARMED, by the host's control task."""

    ID: ClassVar[int] = 0x04
    NAME: ClassVar[str] = "LEASE"
    LAYOUT: ClassVar[struct.Struct] = struct.Struct("<IQ")

    lease_seq: int
    """u32: Number of the lease, rising within a session."""
    deadline_ticks: int
    """u64, tick: Device time at which the lease ends; at most lease_max_ms ahead."""


@dataclass(frozen=True, slots=True)
class Open(Message):
    """0x05, host to device. Open the switch: the normal end, to SAFE."""

    ID: ClassVar[int] = 0x05
    NAME: ClassVar[str] = "OPEN"
    LAYOUT: ClassVar[struct.Struct] = struct.Struct("<")


@dataclass(frozen=True, slots=True)
class Trip(Message):
    """0x06, host to device. Trip. Obeyed whatever session, schema or number its header carries; its bytes are a
    constant (session 0, seq 0)."""

    ID: ClassVar[int] = 0x06
    NAME: ClassVar[str] = "TRIP"
    LAYOUT: ClassVar[struct.Struct] = struct.Struct("<")
    URGENT: ClassVar[bool] = True


@dataclass(frozen=True, slots=True)
class AckTrip(Message):
    """0x07, host to device. The report has arrived: send it no more."""

    ID: ClassVar[int] = 0x07
    NAME: ClassVar[str] = "ACK_TRIP"
    LAYOUT: ClassVar[struct.Struct] = struct.Struct("<I")

    trip_id: int
    """u32: Number of the trip since boot, from 1."""


@dataclass(frozen=True, slots=True)
class Rearm(Message):
    """0x08, host to device. TRIPPED to SAFE; needs the trip acknowledged and its box released. Closes nothing."""

    ID: ClassVar[int] = 0x08
    NAME: ClassVar[str] = "REARM"
    LAYOUT: ClassVar[struct.Struct] = struct.Struct("<I")

    trip_id: int
    """u32: Number of the trip since boot, from 1."""


@dataclass(frozen=True, slots=True)
class BoxRead(Message):
    """0x09, host to device. Ask for a part of the black box; answered by BOX."""

    ID: ClassVar[int] = 0x09
    NAME: ClassVar[str] = "BOX_READ"
    LAYOUT: ClassVar[struct.Struct] = struct.Struct("<IHH")

    trip_id: int
    """u32: Number of the trip."""
    offset: int
    """u16, sample: First sample wanted, from the beginning of the box."""
    count: int
    """u16, sample: How many; a device sends as many BOX frames as that takes."""


@dataclass(frozen=True, slots=True)
class BoxDone(Message):
    """0x0A, host to device. The black box is safe with the host and may be overwritten."""

    ID: ClassVar[int] = 0x0A
    NAME: ClassVar[str] = "BOX_DONE"
    LAYOUT: ClassVar[struct.Struct] = struct.Struct("<I")

    trip_id: int
    """u32: Number of the trip."""


@dataclass(frozen=True, slots=True)
class Credit(Message):
    """0x0B, host to device. How much bulk the host takes. Cumulative: a lost one costs nothing, a repeated one
    neither."""

    ID: ClassVar[int] = 0x0B
    NAME: ClassVar[str] = "CREDIT"
    LAYOUT: ClassVar[struct.Struct] = struct.Struct("<I")

    total: int
    """u32, frame: SAMPLES and MINMAX frames allowed since the session began."""


@dataclass(frozen=True, slots=True)
class Ping(Message):
    """0x0C, host to device. Ask for the device's time; answered by PONG."""

    ID: ClassVar[int] = 0x0C
    NAME: ClassVar[str] = "PING"
    LAYOUT: ClassVar[struct.Struct] = struct.Struct("<I")

    token: int
    """u32: Given back."""


@dataclass(frozen=True, slots=True)
class GetStatus(Message):
    """0x0D, host to device. Ask for STATUS now."""

    ID: ClassVar[int] = 0x0D
    NAME: ClassVar[str] = "GET_STATUS"
    LAYOUT: ClassVar[struct.Struct] = struct.Struct("<")


@dataclass(frozen=True, slots=True)
class Welcome(Message):
    """0x81, device to host. Answer to HELLO; its header carries the new session. What the device is and what it can
    do."""

    ID: ClassVar[int] = 0x81
    NAME: ClassVar[str] = "WELCOME"
    LAYOUT: ClassVar[struct.Struct] = struct.Struct("<IIIIHIB16sIIIHHHHHIBB")
    ENUMS: ClassVar[dict[int, type[Coded]]] = {6: ResetCause, 18: State}
    TEXTS: ClassVar[tuple[int, ...]] = (7,)

    schema_hash: int
    """u32: CRC-32 of the device's schema."""
    host_nonce: int
    """u32: Given back: a WELCOME to an older HELLO is none to this."""
    boot_nonce: int
    """u32: Another one after each start."""
    session: int
    """u32: boot_nonce XOR rotl(host_nonce, 16), 1 if that is 0."""
    version: int
    """u16: Version of the protocol."""
    build_id: int
    """u32: Which firmware: CRC-32 of its sources and options."""
    reset_cause: ResetCause
    """u8: Why it started last."""
    board: str
    """text16: Name of the port."""
    tick_hz: int
    """u32, Hz: Rate of the 64-bit counter that `ticks` fields read."""
    sample_hz: int
    """u32, Hz: Nominal sample rate."""
    code_pa: int
    """u32, pA: Current per converter code."""
    full_scale_code: int
    """u16, code: Magnitude at which the converter saturates."""
    max_payload: int
    """u16, byte: Longest payload it takes."""
    credit_window: int
    """u16, frame: Most credit that makes sense ahead of bulk_sent."""
    box_max: int
    """u16, sample: Room of the black box: bound of pre_n + post_n + 1."""
    lease_max_ms: int
    """u16, ms: Longest lease it grants."""
    switch_open_ns: int
    """u32, ns: Data sheet's longest time from pin to open switch."""
    safe_closed: int
    """u8, 0..1: The switch's state at reset: 0, open."""
    state: State
    """u8: State now."""


@dataclass(frozen=True, slots=True)
class ConfigIs(Message):
    """0x82, device to host. Answer to CONFIG: what is in force, read back from where the detector reads it."""

    ID: ClassVar[int] = 0x82
    NAME: ClassVar[str] = "CONFIG_IS"
    LAYOUT: ClassVar[struct.Struct] = struct.Struct("<HHHBHHBHBHHBHIB")
    ENUMS: ClassVar[dict[int, type[Coded]]] = {11: Stream, 14: Refusal}

    config_seq: int
    """u16: The host's number for it."""
    hard_code: int
    """u16, code, 1..32767: HARD at this magnitude; cannot be switched off."""
    level_code: int
    """u16, code, 0..32767: LEVEL at this magnitude; 0: off."""
    level_n: int
    """u8, sample, 1..255: Consecutive samples at level_code."""
    jump_code: int
    """u16, code, 0..32767: JUMP at this distance from the baseline; 0: off."""
    jump_ratio_q8: int
    """u16, 1/256: JUMP also needs |code| of so many times |baseline|."""
    baseline_shift: int
    """u8, 0..12: Baseline: exponential mean over 2**baseline_shift samples."""
    rate_code: int
    """u16, code: RATE at this change within rate_n samples; 0: off."""
    rate_n: int
    """u8, sample, 1..32: Distance of the two samples that RATE compares."""
    pre_n: int
    """u16, sample: Samples of the black box before the one that tripped."""
    post_n: int
    """u16, sample: Samples of the black box after it."""
    stream: Stream
    """u8: What is sent of the samples."""
    decimation: int
    """u16, sample, 1..65535: Samples per pair of MINMAX."""
    config_crc: int
    """u32: CRC-32 over the payload that a CONFIG of what is in force would have; 0: none yet."""
    result: Refusal
    """u8: NONE: the CONFIG was taken. Else the one before is in force."""

    @property
    def config(self) -> Config:
        """The CONFIG that would say the same."""
        return Config(
            config_seq=self.config_seq,
            hard_code=self.hard_code,
            level_code=self.level_code,
            level_n=self.level_n,
            jump_code=self.jump_code,
            jump_ratio_q8=self.jump_ratio_q8,
            baseline_shift=self.baseline_shift,
            rate_code=self.rate_code,
            rate_n=self.rate_n,
            pre_n=self.pre_n,
            post_n=self.post_n,
            stream=self.stream,
            decimation=self.decimation,
        )


@dataclass(frozen=True, slots=True)
class Status(Message):
    """0x83, device to host. State and counters: each 100 ms, when asked, and at each change of state. Counters run from
    boot and wrap."""

    ID: ClassVar[int] = 0x83
    NAME: ClassVar[str] = "STATUS"
    LAYOUT: ClassVar[struct.Struct] = struct.Struct("<QQBBBIBIIIIIIIIIIIIIIII")
    ENUMS: ClassVar[dict[int, type[Coded]]] = {2: State, 6: Reason}

    ticks: int
    """u64, tick: Device time."""
    sample_index: int
    """u64, sample: Samples taken since boot."""
    state: State
    """u8: State now."""
    switch_pin: int
    """u8, 0..1: What the pin is driven to: 1 closed."""
    switch_sense: int
    """u8, 0..1: What the switch reads: 1 closed."""
    trip_id: int
    """u32: Last trip since boot; 0: none."""
    trip_reason: Reason
    """u8: Reason of the last trip; SWITCH_STUCK over any other."""
    lease_seq: int
    """u32: Last lease taken."""
    lease_left_ticks: int
    """u32, tick: Left of it; 0 outside ARMED."""
    config_crc: int
    """u32: As in CONFIG_IS."""
    bulk_sent: int
    """u32, frame: SAMPLES and MINMAX frames since the session began, to hold against CREDIT."""
    rx_frames: int
    """u32, frame: Frames accepted."""
    rx_bad_cobs: int
    """u32, frame: Refused: a COBS group reaches past the delimiter."""
    rx_bad_length: int
    """u32, frame: Refused: too short, too long, or not the length of its id."""
    rx_bad_crc: int
    """u32, frame: Refused: CRC-32."""
    rx_unknown: int
    """u32, frame: Refused: no such id in this direction."""
    rx_stale: int
    """u32, frame: Refused: another session, or a repetition."""
    rx_gaps: int
    """u32, frame: Frames missing before accepted ones."""
    tx_frames: int
    """u32, frame: Frames sent."""
    drop_no_credit: int
    """u32, sample: Samples not sent: no credit."""
    drop_tx_full: int
    """u32, sample: Samples not sent: the line did not take them."""
    late_samples: int
    """u32, sample: Samples taken later than one period."""
    overruns: int
    """u32: Times the loop fell behind by max_late_us."""


@dataclass(frozen=True, slots=True)
class TripReport(Message):
    """0x84, device to host. A trip: at once, ahead of anything queued, then each 20 ms until ACK_TRIP."""

    ID: ClassVar[int] = 0x84
    NAME: ClassVar[str] = "TRIP_REPORT"
    LAYOUT: ClassVar[struct.Struct] = struct.Struct("<IBQQhHhBHH")
    URGENT: ClassVar[bool] = True
    ENUMS: ClassVar[dict[int, type[Coded]]] = {1: Reason}

    trip_id: int
    """u32: Number of the trip since boot, from 1."""
    reason: Reason
    """u8: Why."""
    sample_index: int
    """u64, sample: The sample that tripped, or the last one taken."""
    ticks: int
    """u64, tick: Device time of that sample."""
    code: int
    """i16, code: Its code."""
    threshold: int
    """u16, code: What the reason compares with; 0 where it compares nothing."""
    baseline: int
    """i16, code: The baseline before that sample, rounded."""
    switch_pin: int
    """u8, 0..1: The pin when the report was made: 0."""
    box_n: int
    """u16, sample: Samples in the black box; grows until post_n are there."""
    box_trip_at: int
    """u16, sample: Where in the box the tripping sample stands."""


@dataclass(frozen=True, slots=True)
class Samples(Message):
    """0x85, device to host. Consecutive samples."""

    ID: ClassVar[int] = 0x85
    NAME: ClassVar[str] = "SAMPLES"
    LAYOUT: ClassVar[struct.Struct] = struct.Struct("<QQH")
    ITEM: ClassVar[int] = 2

    index: int
    """u64, sample: Number of the first since boot."""
    ticks: int
    """u64, tick: Device time of the first."""
    codes: bytes
    """i16, code: The codes."""


@dataclass(frozen=True, slots=True)
class MinMax(Message):
    """0x86, device to host. Smallest and largest code of each `decimation` consecutive samples."""

    ID: ClassVar[int] = 0x86
    NAME: ClassVar[str] = "MINMAX"
    LAYOUT: ClassVar[struct.Struct] = struct.Struct("<QQHH")
    ITEM: ClassVar[int] = 4

    index: int
    """u64, sample: Number of the first sample of the first pair."""
    ticks: int
    """u64, tick: Its device time."""
    decimation: int
    """u16, sample: Samples per pair."""
    pairs: bytes
    """i16, code: Smallest, largest."""


@dataclass(frozen=True, slots=True)
class Box(Message):
    """0x87, device to host. A part of the black box."""

    ID: ClassVar[int] = 0x87
    NAME: ClassVar[str] = "BOX"
    LAYOUT: ClassVar[struct.Struct] = struct.Struct("<IHH")
    ITEM: ClassVar[int] = 2

    trip_id: int
    """u32: Number of the trip."""
    offset: int
    """u16, sample: First of these in the box."""
    codes: bytes
    """i16, code: The codes."""


@dataclass(frozen=True, slots=True)
class Pong(Message):
    """0x88, device to host. The device's time, twice: the time it took to answer is not the line's."""

    ID: ClassVar[int] = 0x88
    NAME: ClassVar[str] = "PONG"
    LAYOUT: ClassVar[struct.Struct] = struct.Struct("<IQQ")

    token: int
    """u32: That of the PING."""
    ticks_rx: int
    """u64, tick: Device time when the PING's last byte was taken."""
    ticks_tx: int
    """u64, tick: Device time when this frame was made."""


@dataclass(frozen=True, slots=True)
class Refused(Message):
    """0x89, device to host. A whole, current frame whose wish was not granted."""

    ID: ClassVar[int] = 0x89
    NAME: ClassVar[str] = "REFUSED"
    LAYOUT: ClassVar[struct.Struct] = struct.Struct("<BHB")
    ENUMS: ClassVar[dict[int, type[Coded]]] = {2: Refusal}

    id: int
    """u8: Of the frame."""
    seq: int
    """u16: Of the frame."""
    why: Refusal
    """u8: Why not."""


MESSAGES: Final[dict[int, type[Message]]] = {
    Hello.ID: Hello,
    Config.ID: Config,
    Arm.ID: Arm,
    Lease.ID: Lease,
    Open.ID: Open,
    Trip.ID: Trip,
    AckTrip.ID: AckTrip,
    Rearm.ID: Rearm,
    BoxRead.ID: BoxRead,
    BoxDone.ID: BoxDone,
    Credit.ID: Credit,
    Ping.ID: Ping,
    GetStatus.ID: GetStatus,
    Welcome.ID: Welcome,
    ConfigIs.ID: ConfigIs,
    Status.ID: Status,
    TripReport.ID: TripReport,
    Samples.ID: Samples,
    MinMax.ID: MinMax,
    Box.ID: Box,
    Pong.ID: Pong,
    Refused.ID: Refused,
}

__all__ = [
    "MESSAGES",
    "SCHEMA_HASH",
    "VERSION",
    "AckTrip",
    "Arm",
    "Box",
    "BoxDone",
    "BoxRead",
    "Config",
    "ConfigIs",
    "Credit",
    "GetStatus",
    "Hello",
    "Lease",
    "MinMax",
    "Open",
    "Ping",
    "Pong",
    "Rearm",
    "Reason",
    "Refusal",
    "Refused",
    "ResetCause",
    "Samples",
    "State",
    "Status",
    "Stream",
    "Trip",
    "TripReport",
    "Welcome",
]
