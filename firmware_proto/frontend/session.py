"""The host's end of a front end's line, without I/O: bytes in, events out; wishes in, bytes out.

It knows which session stands and refuses frames of any other, numbers what it sends, counts what is missing, and keeps
what only makes sense once from happening twice: a trip is news once, a sample is there once. Times and waiting are the
driver's (:mod:`edge.instruments.frontend`).
"""

from __future__ import annotations

import dataclasses
from binascii import crc32
from typing import Final, TypeAlias

from firmware_proto.errors import LocalProtocolError
from firmware_proto.frontend import messages
from firmware_proto.frontend.framing import TRIP_BYTES, Cause, Decoder, Frame, Refused, Side, encode
from firmware_proto.frontend.message import Message
from firmware_proto.frontend.vocabulary import REPEAT_WINDOW, SCHEMA_HASH, VERSION
from firmware_proto.frontend.wire import DELIMITER, session_of

NONCE_STEP: Final = 0x9E3779B9
"""Odd, so that 2**32 introductions use every nonce once."""
U32: Final = 0xFFFFFFFF
U16: Final = 0xFFFF


class SessionError(LocalProtocolError):
    """Asked for what this session must not send: there is none, the schemas differ, or no configuration is in force."""


@dataclasses.dataclass(frozen=True, slots=True)
class Welcome:
    """A session stands. ``mismatch``: why this device must not be armed, in words; empty where it fits."""

    message: messages.Welcome
    mismatch: str
    t_rx_ns: int


@dataclasses.dataclass(frozen=True, slots=True)
class Rebooted:
    """The device has started anew: it is SAFE and open, its ticks and indices began again, what it kept is gone."""

    boot_nonce: int | None
    """None: it speaks without a session, and has yet to be asked."""
    t_rx_ns: int


@dataclasses.dataclass(frozen=True, slots=True)
class ConfigIs:
    """What is in force in the device."""

    message: messages.ConfigIs
    t_rx_ns: int


@dataclasses.dataclass(frozen=True, slots=True)
class Status:
    """State and counters."""

    message: messages.Status
    t_rx_ns: int


@dataclasses.dataclass(frozen=True, slots=True)
class Tripped:
    """A report of a trip. ``first``: of this trip in this life of the device; the others ask for another ACK_TRIP."""

    message: messages.TripReport
    first: bool
    t_rx_ns: int


@dataclasses.dataclass(frozen=True, slots=True)
class Samples:
    """Consecutive samples, each of them for the first time. ``missing``: samples between the block before and it."""

    message: messages.Samples
    missing: int
    t_rx_ns: int


@dataclasses.dataclass(frozen=True, slots=True)
class MinMax:
    """Pairs of smallest and largest code; ``missing`` as in Samples, in samples."""

    message: messages.MinMax
    missing: int
    t_rx_ns: int


@dataclasses.dataclass(frozen=True, slots=True)
class BoxPart:
    """A part of a black box."""

    message: messages.Box
    t_rx_ns: int


@dataclasses.dataclass(frozen=True, slots=True)
class Pong:
    """The device's time."""

    message: messages.Pong
    t_rx_ns: int


@dataclasses.dataclass(frozen=True, slots=True)
class RefusedByDevice:
    """The device does not do what frame ``message.seq`` asked for."""

    message: messages.Refused
    t_rx_ns: int


@dataclasses.dataclass(frozen=True, slots=True)
class BadFrame:
    """Bytes that were not taken, and why; ``id`` where the CRC holds."""

    cause: Cause
    id: int | None
    t_rx_ns: int


@dataclasses.dataclass(frozen=True, slots=True)
class Gap:
    """Frames that are missing before the event behind this one."""

    frames: int
    t_rx_ns: int


Event: TypeAlias = (
    Welcome
    | Rebooted
    | ConfigIs
    | Status
    | Tripped
    | Samples
    | MinMax
    | BoxPart
    | Pong
    | RefusedByDevice
    | BadFrame
    | Gap
)


@dataclasses.dataclass(slots=True)
class Counters:
    """What went wrong on this end, since this object was made; what the decoder refused is in its own counters."""

    sessions: int = 0
    reboots: int = 0
    gaps: int = 0
    """Frames missing."""
    stale_welcomes: int = 0
    """Answers to an introduction that is not the last one."""
    trips_again: int = 0
    doubled: int = 0
    """Blocks of samples that had been here before, not taken."""
    missing: int = 0
    """Samples missing: not sent for want of credit, or lost on the line."""
    sessionless: int = 0
    """Frames of a device that had none."""


class HostSession:
    """One device, over all sessions of this process's life."""

    def __init__(self, host_nonce: int) -> None:
        """``host_nonce``: 32 bits, random; each HELLO after the first uses another one that follows from it."""
        self.counters = Counters()
        self.welcome: messages.Welcome | None = None
        """Of the session that stands; None: none does."""
        self.mismatch = ""
        self.config: messages.ConfigIs | None = None
        """What was last read back in this session as in force."""
        self.bulk = 0
        """SAMPLES and MINMAX frames that the device has sent in this session, as far as is known here."""
        self.sent_seq = 0
        """Number of the frame sent last: what a REFUSED quotes."""
        self.lease_seq = 0
        """Number of the lease given last."""
        self._nonce = host_nonce & U32
        self._hellos = 0
        # Session 0 is none: until a WELCOME nothing else is taken.
        self._decoder = Decoder(Side.HOST, session=0)
        self._expected: int | None = None
        self._boot_nonce: int | None = None
        self._next_index: int | None = None
        self._stream = messages.Stream.OFF
        self._trip_id = 0
        self._said_rebooted = False

    @property
    def refused(self) -> dict[str, int]:
        """Blocks that were not taken, by cause in lower case."""
        return {cause.name.lower(): count for cause, count in self._decoder.refused.items()}

    @property
    def frames(self) -> int:
        """Frames taken by the decoder."""
        return self._decoder.frames

    # -- bytes for the device

    def _send(self, message: Message) -> bytes:
        if self.welcome is None:
            raise SessionError(f"{message.NAME}: there is no session; HELLO comes first")
        self.sent_seq = (self.sent_seq + 1) & U16
        # The delimiter in front costs a byte; half a frame that noise left in the device then costs only itself.
        return DELIMITER + encode(message, self.sent_seq, self.welcome.session)

    def _fits(self, what: str) -> None:
        if self.mismatch:
            raise SessionError(f"{what}: {self.mismatch}")

    def hello(self) -> bytes:
        """Return an introduction; the session that stood is over, and frames of it are refused from now on."""
        self.welcome = None
        self.config = None
        self._decoder.session = 0
        if self._hellos:
            self._nonce = (self._nonce + NONCE_STEP) & U32
        self._hellos += 1
        self.sent_seq = 0
        hello = messages.Hello(schema_hash=SCHEMA_HASH, host_nonce=self._nonce, version=VERSION)
        return DELIMITER + encode(hello, 0, 0)

    def configure(self, config: messages.Config) -> bytes:
        """Upload parameters; raises SessionError without a session or with another schema."""
        self._fits("CONFIG")
        self.config = None
        return self._send(config)

    def arm(self, deadline_ticks: int) -> bytes:
        """Close the switch until ``deadline_ticks``, with the configuration that was read back.

        Raises SessionError without a session, with another schema, or where no configuration was read back.
        """
        self._fits("ARM")
        if self.config is None:
            raise SessionError("ARM: no configuration was read back in this session")
        arm = messages.Arm(
            config_crc=self.config.config_crc, lease_seq=self._next_lease(), deadline_ticks=deadline_ticks
        )
        return self._send(arm)

    def lease(self, deadline_ticks: int) -> bytes:
        """Let the switch stay closed until ``deadline_ticks``; raises SessionError as :meth:`arm` does."""
        self._fits("LEASE")
        return self._send(messages.Lease(lease_seq=self._next_lease(), deadline_ticks=deadline_ticks))

    def _next_lease(self) -> int:
        self.lease_seq += 1
        return self.lease_seq

    def open(self) -> bytes:
        """Open the switch in the normal way."""
        return self._send(messages.Open())

    @staticmethod
    def trip() -> bytes:
        """Trip: needs neither session nor schema."""
        return DELIMITER + TRIP_BYTES

    def ack(self, trip_id: int) -> bytes:
        """Say that a trip's report is here."""
        return self._send(messages.AckTrip(trip_id=trip_id))

    def rearm(self, trip_id: int) -> bytes:
        """Leave TRIPPED."""
        return self._send(messages.Rearm(trip_id=trip_id))

    def read_box(self, trip_id: int, offset: int, count: int) -> bytes:
        """Ask for ``count`` codes of a black box from ``offset`` on."""
        return self._send(messages.BoxRead(trip_id=trip_id, offset=offset, count=count))

    def done(self, trip_id: int) -> bytes:
        """Let the device forget a black box."""
        return self._send(messages.BoxDone(trip_id=trip_id))

    def credit(self, total: int) -> bytes:
        """Allow ``total`` bulk frames since the session began, modulo 2**32."""
        return self._send(messages.Credit(total=total & U32))

    def ping(self, token: int) -> bytes:
        """Ask for the device's time."""
        return self._send(messages.Ping(token=token & U32))

    def get_status(self) -> bytes:
        """Ask for a STATUS."""
        return self._send(messages.GetStatus())

    # -- bytes of the device

    def feed(self, data: bytes, t_rx_ns: int) -> list[Event]:
        """Take the next bytes; return what they mean, in order. Never raises.

        ``t_rx_ns``: when the last of them was there; every event bears it.
        """
        events: list[Event] = []
        for one in self._decoder.events(data):
            if isinstance(one, Refused):
                self._refused(one, t_rx_ns, events)
            else:
                self._frame(one, t_rx_ns, events)
        return events

    def _refused(self, one: Refused, t_rx_ns: int, events: list[Event]) -> None:
        events.append(BadFrame(one.cause, one.id, t_rx_ns))
        if one.cause is not Cause.STALE_SESSION or one.session != 0:
            return
        self.counters.sessionless += 1
        if self.welcome is not None and not self._said_rebooted:
            # A session stands, and the device knows of none: it has started anew.
            self._said_rebooted = True
            self.counters.reboots += 1
            events.append(Rebooted(None, t_rx_ns))

    def _frame(self, frame: Frame, t_rx_ns: int, events: list[Event]) -> None:
        message = frame.message
        if isinstance(message, messages.Welcome):
            self._welcomed(message, frame, t_rx_ns, events)
            return
        if self._expected is not None:
            gap = (frame.seq - self._expected) & U16
            if gap > U16 - REPEAT_WINDOW:
                events.append(BadFrame(Cause.REPEATED, frame.id, t_rx_ns))
                return
            if gap:
                self.counters.gaps += gap
                events.append(Gap(gap, t_rx_ns))
        self._expected = (frame.seq + 1) & U16
        events.append(self._take(message, t_rx_ns))

    def _welcomed(self, message: messages.Welcome, frame: Frame, t_rx_ns: int, events: list[Event]) -> None:
        session = session_of(message.boot_nonce, self._nonce)
        current = message.host_nonce == self._nonce and message.session == frame.session == session
        if not current or self.welcome is not None:
            # The answer to an earlier introduction, or this one's a second time. Its number says nothing about ours.
            self.counters.stale_welcomes += 1
            self._decoder.renumber()
            events.append(BadFrame(Cause.STALE_SESSION, frame.id, t_rx_ns))
            return
        self.counters.sessions += 1
        if self._boot_nonce != message.boot_nonce:
            if self._boot_nonce is not None:
                # Said already where it spoke without a session before.
                self.counters.reboots += not self._said_rebooted
                events.append(Rebooted(message.boot_nonce, t_rx_ns))
            self._boot_nonce = message.boot_nonce
            self._next_index = None
            self._stream = messages.Stream.OFF
            self._trip_id = 0
        self._said_rebooted = False
        self.welcome = message
        self.mismatch = _mismatch(message)
        self.bulk = 0
        self.lease_seq = 0
        self._decoder.session = session
        self._expected = (frame.seq + 1) & U16
        events.append(Welcome(message, self.mismatch, t_rx_ns))

    def _take(self, message: Message, t_rx_ns: int) -> Event:
        match message:
            case messages.Samples():
                return self._samples(message, t_rx_ns)
            case messages.MinMax():
                return self._minmax(message, t_rx_ns)
            case messages.Status():
                # What was sent and lost has used up its credit, too; a lease of an earlier host counts as well.
                self.bulk = message.bulk_sent
                self.lease_seq = max(self.lease_seq, message.lease_seq)
                return Status(message, t_rx_ns)
            case messages.TripReport():
                first = message.trip_id != self._trip_id
                self._trip_id = message.trip_id
                self.counters.trips_again += not first
                return Tripped(message, first, t_rx_ns)
            case messages.ConfigIs():
                return self._configured(message, t_rx_ns)
            case messages.Box():
                return BoxPart(message, t_rx_ns)
            case messages.Pong():
                return Pong(message, t_rx_ns)
            case messages.Refused():
                return RefusedByDevice(message, t_rx_ns)
        raise SessionError(f"{message.NAME}: no message of a device")

    def _configured(self, message: messages.ConfigIs, t_rx_ns: int) -> ConfigIs:
        if self._stream == messages.Stream.OFF:
            # What was not asked for is not missing.
            self._next_index = None
        self._stream = message.stream
        self.config = message if message.result == messages.Refusal.NONE else None
        return ConfigIs(message, t_rx_ns)

    def _samples(self, message: messages.Samples, t_rx_ns: int) -> Samples | BadFrame:
        self.bulk += 1
        missing = self._follows(message.index, message.count)
        if missing is None:
            return BadFrame(Cause.REPEATED, message.ID, t_rx_ns)
        return Samples(message, missing, t_rx_ns)

    def _minmax(self, message: messages.MinMax, t_rx_ns: int) -> MinMax | BadFrame:
        self.bulk += 1
        missing = self._follows(message.index, message.count * message.decimation)
        if missing is None:
            return BadFrame(Cause.REPEATED, message.ID, t_rx_ns)
        return MinMax(message, missing, t_rx_ns)

    def _follows(self, index: int, samples: int) -> int | None:
        """Return how many samples are missing before ``index``; None where they were here before."""
        missing = 0 if self._next_index is None else index - self._next_index
        if missing < 0:
            self.counters.doubled += 1
            return None
        self.counters.missing += missing
        self._next_index = index + samples
        return missing


def config_crc(config: messages.Config) -> int:
    """Return the CRC by which ARM quotes a configuration."""
    return crc32(config.pack())


def _mismatch(welcome: messages.Welcome) -> str:
    if welcome.version != VERSION:
        return f"the front end speaks version {welcome.version} of the protocol, this program {VERSION}"
    if welcome.schema_hash != SCHEMA_HASH:
        return f"the front end was built from schema {welcome.schema_hash:08x}, this program from {SCHEMA_HASH:08x}"
    return ""
