"""A front end whose line is lost again and again, in virtual time: the real core, the host's session, and the truth.

Every sample while the switch is closed has a code that follows from its number, so that what is taken for a sample can
be held against what it must be. Both directions are written down before anything is lost on them.
"""

from __future__ import annotations

import itertools
import random
import zlib
from collections import Counter
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from firmware_proto.frontend import messages
from firmware_proto.frontend.framing import Cause, Decoder, Frame, Side
from firmware_proto.frontend.session import (
    BadFrame,
    ConfigIs,
    Event,
    Gap,
    HostSession,
    Rebooted,
    Samples,
    Status,
    Tripped,
    Welcome,
)
from firmware_proto.frontend.wire import DELIMITER, OVERHEAD, cobs_decode, session_of
from hil.frontend.lockstep import LockstepFrontend
from hil.frontend.lockstep_device import LockstepDevice
from hil.line.duplex import Duplex
from hil.protocols import Wire
from hil.twin.ohmic import OhmicLoad
from tests.firmware_config import only_hard

MS: Final = 1_000_000
BAUD: Final = 921_600
SAMPLE_HZ: Final = 10_000
TURN_NS: Final = 10 * MS
LEASE_NS: Final = 90 * MS
HELLO_NS: Final = 40 * MS
SILENT_NS: Final = 350 * MS
ROUND_LIMIT_NS: Final = 3_000 * MS
KINDS: Final = ("cut", "unnoticed", "reset", "cut and reset", "noise", "replay", "replay and cut")
CONFIG: Final = only_hard(32_000, pre_n=10, post_n=5, stream=messages.Stream.FULL, decimation=10)


def code_of(index: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """The code of a sample by its number, never 0."""
    return 1 + index % 29_989


class Numbered(LockstepDevice):
    """Its converter gives each sample the code of its number."""

    def _noisy(self, code: int, n: int) -> npt.NDArray[np.int16]:
        del code
        return code_of(self.core.sample_index + np.arange(n)).astype(np.int16)

    heard: bytes = b""

    def receive(self, t_ns: int, data: bytes) -> None:
        """Keep what reaches it while it has power."""
        if not self._still:
            self.heard += data
        super().receive(t_ns, data)


class Ear:
    """Cuts a stream into frames that are whole, whatever their session and number: what a gap is held against."""

    def __init__(self) -> None:
        self._rest = b""

    def hear(self, data: bytes) -> list[tuple[int, int, int]]:
        """Return id, number and session of each frame that these bytes complete."""
        *blocks, self._rest = (self._rest + data).split(DELIMITER)
        raws = [cobs_decode(block) for block in blocks if block]
        return [
            (raw[0], int.from_bytes(raw[3:5], "little"), int.from_bytes(raw[5:9], "little"))
            for raw in raws
            if raw is not None and len(raw) >= OVERHEAD and zlib.crc32(raw[:-4]) == int.from_bytes(raw[-4:], "little")
        ]


class Written:
    """Stands between device and line and keeps what the device sends."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self.data = bytearray()

    def send(self, t_ns: int, data: bytes) -> None:
        self.data += data
        self._wire.send(t_ns, data)

    def discard(self, t_ns: int) -> None:
        self._wire.discard(t_ns)


class Rounds:
    """One front end and its host; :meth:`round` is one loss and recovery."""

    def __init__(self, seed: int, *, session: HostSession | None = None, library: Path | None = None) -> None:
        self.rng = random.Random(seed)
        self.t_ns = 1_000 * MS
        self.load = OhmicLoad(1e6)
        self.load.set_source(self.t_ns, 0.1, 1e-3, connected=True)
        self.core = LockstepFrontend(sample_hz=SAMPLE_HZ, library=library)
        self.device = Numbered(self.core, self.load)
        self.session = HostSession(self.rng.getrandbits(32)) if session is None else session
        self.plugged = True
        self.got = bytearray()
        """What reached the host's reader and was not taken yet."""
        self.duplex = Duplex(self.device, BAUD, "fifo", lambda _t_ns, data: self.got.extend(data))
        self.sent = Written(self.duplex)
        self.device.attach(self.sent)
        self.device.on_line(self)
        self.old: list[tuple[bytes, bytes]] = []
        """What the device and the host sent in earlier sessions."""
        self.lossy = 0.0
        self.quiet = False
        """Whether the host says nothing by itself."""
        self.status: messages.Status | None = None
        self.config_crc = 0
        self.trip_id = 0
        self.hello_ns = 0
        self.turn_ns = 0
        self.heard_ns = self.t_ns
        self.kinds: Counter[str] = Counter()
        self._to_come: list[str] = []
        self.events: Counter[str] = Counter()
        self.stale = 0
        self.faults: list[str] = []
        """What must not have been."""
        self.sessions = 0
        self.samples = 0
        self.missing = 0
        self.next_index: int | None = None
        self.boot = 0
        self.late_ns = 0
        """How late after the end of its lease the path opened, at most."""
        self._sent_from_host = bytearray()
        self._model = Decoder(Side.DEVICE, session=0)
        self._ear = Ear()
        self._seqs: list[int] = []
        """Numbers of the frames of the session that stands, as they arrived whole, its WELCOME first."""
        self._gaps = 0
        self._taken: dict[int, int] = {}
        """How many samples each boot took that is over."""

    # Plug

    def poke(self) -> None:
        """The loop looks again by itself."""

    # Host

    def write(self, data: bytes) -> None:
        self._sent_from_host += data
        if self.plugged and self.rng.random() >= self.lossy:
            self.duplex.write(self.t_ns, data)

    def go(self, ns: int) -> None:
        """Live for so long: line, device, host."""
        end_ns = self.t_ns + ns
        while self.t_ns < end_ns:
            self.t_ns = min(end_ns, self.t_ns + MS)
            self.duplex.run_until(self.t_ns)
            self._model_hears()
            if not self.plugged:
                self.got.clear()
            self.take(bytes(self.got))
            self.got.clear()
            if self.t_ns >= self.turn_ns and not self.quiet:
                self.turn_ns = self.t_ns + TURN_NS
                self._turn()

    def take(self, data: bytes) -> None:
        if data and self.rng.random() < self.lossy:
            at = self.rng.randrange(len(data))
            data = data[:at] + data[at + 1 :]
        for event in self.session.feed(data, self.t_ns):
            self.events[type(event).__name__] += 1
            self._event(event)
        heard = self._ear.hear(data)
        if self.session.welcome is not None:
            self._seqs += [seq for _, seq, session in heard if session == self.session.welcome.session]

    def _event(self, event: Event) -> None:
        if not isinstance(event, BadFrame):
            self.heard_ns = self.t_ns
        match event:
            case Welcome():
                self.sessions += 1
                self.status = None
                self.config_crc = 0
                self._seqs, self._gaps = [], 0
                if event.message.boot_nonce != self.boot:
                    self.boot, self.next_index = event.message.boot_nonce, None
            case Rebooted():
                self._hello()
            case Gap():
                self._gaps += event.frames
            case Status():
                self.status = event.message
            case ConfigIs():
                self.config_crc = event.message.config_crc
            case Tripped():
                self.trip_id = event.message.trip_id
            case Samples():
                self._samples(event)
            case BadFrame():
                self.stale += event.cause in (Cause.STALE_SESSION, Cause.REPEATED)
            case _:
                pass

    def _samples(self, event: Samples) -> None:
        message = event.message
        codes = np.frombuffer(bytes(message.codes), "<i2").astype(np.int64)
        index = message.index + np.arange(len(codes))
        if message.index + len(codes) > self._taken.get(self.boot, self.core.sample_index):
            self.faults.append(f"samples {message.index} and on, which this boot has not taken yet")
        if np.any((codes != 0) & (codes != code_of(index))):
            self.faults.append(f"samples {message.index} and on are not the ones of their numbers")
        if self.next_index is not None:
            if message.index < self.next_index:
                self.faults.append(f"sample {message.index} a second time")
            if event.missing != message.index - self.next_index:
                self.faults.append(f"{message.index - self.next_index} samples missing, {event.missing} counted")
            self.missing += max(0, message.index - self.next_index)
        self.next_index = message.index + len(codes)
        self.samples += len(codes)
        if not self.quiet:
            self.write(self.session.credit(self.session.bulk + 32))

    def _hello(self) -> None:
        if len(self.sent.data) > 64:
            # What this session said is old from now on.
            self.old.append((bytes(self.sent.data[-6000:]), bytes(self._sent_from_host[-3000:])))
            del self.old[:-20]
        self.sent.data.clear()
        self._sent_from_host.clear()
        self.hello_ns = self.t_ns + HELLO_NS
        self.write(self.session.hello())

    def _turn(self) -> None:
        session = self.session
        if session.welcome is None or self.t_ns > self.heard_ns + SILENT_NS:
            # An introduction of long ago that comes to the device once more ends the session on that end only.
            if self.t_ns >= self.hello_ns:
                self._hello()
            return
        status = self.status
        if status is not None and status.state == messages.State.TRIPPED:
            for data in (session.ack(status.trip_id), session.done(status.trip_id), session.rearm(status.trip_id)):
                self.write(data)
        elif status is not None and status.state == messages.State.SAFE:
            if session.config is None:
                self.write(session.configure(CONFIG))
            else:
                self.write(session.credit(session.bulk + 32))
                self.write(session.arm(self.core.now_ticks + LEASE_NS))
        elif status is not None:
            self.write(session.lease(self.core.now_ticks + LEASE_NS))
            self.write(session.credit(session.bulk + 32))
        self.write(session.get_status())

    def _model_hears(self) -> None:
        """Let Python's decoder judge what reached the device as the device must."""
        data, self.device.heard = self.device.heard, b""
        for frame in self._model.events(data):
            if isinstance(frame, Frame) and frame.id == messages.Hello.ID:
                nonce = messages.Hello.unpack(frame.payload).host_nonce
                self._model.session = session_of(self.core.boot_nonce, nonce)

    # One loss

    def round(self) -> None:
        """Lose the line in one way, and wait until everything is as before; raises AssertionError if it never is."""
        kind = self._to_come.pop() if self._to_come else ""
        if not kind:
            self._to_come = self.rng.sample(KINDS, len(KINDS))
            kind = self._to_come.pop()
        self.kinds[kind] += 1
        self.go(self.rng.randrange(1, 60) * MS + self.rng.randrange(MS))
        getattr(self, "_" + kind.replace(" ", "_"))()
        self.recover()
        self.check_gaps()
        self.check_device()

    def recover(self) -> None:
        """Wait until it is ARMED in a session, and samples come."""
        began_ns, samples, sessions = self.t_ns, self.samples, self.sessions
        while not (
            self.session.welcome is not None
            and self.status is not None
            and self.status.state == messages.State.ARMED
            and self.samples >= samples + 100
        ):
            self.go(5 * MS)
            assert self.t_ns - began_ns < ROUND_LIMIT_NS, f"no recovery; {self.status}, sessions {sessions}"

    def check_device(self) -> None:
        """Hold the device's counters against what Python makes of the same bytes; the line is quiet meanwhile."""
        self.quiet = True
        self.go(10 * MS)
        self.write(self.session.get_status())
        asked_ns = self.core.now_ticks
        self.go(30 * MS)
        self.quiet = False
        status, model = self.status, self._model
        assert status is not None
        assert status.ticks >= asked_ns, "no answer to GET_STATUS"
        stale = model.refused[Cause.STALE_SESSION] + model.refused[Cause.REPEATED]
        want = (model.gaps, stale, model.refused[Cause.BAD_CRC], model.refused[Cause.BAD_COBS])
        # GET_STATUS itself has been counted by both.
        seen = (status.rx_gaps, status.rx_stale, status.rx_bad_crc, status.rx_bad_cobs)
        if seen != want or status.rx_frames != model.frames:
            self.faults.append(f"the device counts {seen} and {status.rx_frames} frames, want {want}, {model.frames}")

    def check_gaps(self) -> None:
        """Hold the gaps that were told in this session against the numbers of the frames that arrived."""
        counted = sum((after - before - 1) & 0xFFFF for before, after in itertools.pairwise(self._seqs))
        if self._gaps != counted:
            self.faults.append(f"{counted} frames missing, {self._gaps} told")

    def _cut(self, *, at_most_ms: int = 250) -> None:
        self.plugged = False
        self.duplex.clear(self.t_ns)
        self.got.clear()
        ended_ns = self.t_ns + LEASE_NS
        self.go(self.rng.randrange(1, at_most_ms) * MS)
        if self.t_ns > ended_ns + 2 * MS and self.load.path_closed:
            self.faults.append("the path is closed without a lease")
        self.plugged = True
        self._hello()

    def _unnoticed(self) -> None:
        self.lossy = self.rng.uniform(0.02, 0.3)
        self.go(self.rng.randrange(5, 80) * MS)
        self.lossy = 0.0

    def _reset(self) -> None:
        self._restart(self.rng.choice((0, 0, 5 * MS, 70 * MS)))

    def _restart(self, off_ns: int) -> None:
        self._taken[self.core.boot_nonce] = self.core.sample_index
        self.device.reset(self.t_ns, off_ns=off_ns)
        self._model = Decoder(Side.DEVICE, session=0)
        self.device.heard = b""

    def _cut_and_reset(self) -> None:
        self.plugged = False
        self.duplex.clear(self.t_ns)
        self.go(self.rng.randrange(1, 50) * MS)
        self._restart(0)
        self.go(self.rng.randrange(1, 50) * MS)
        self.plugged = True
        self._hello()

    def _noise(self) -> None:
        for _ in range(self.rng.randrange(1, 6)):
            self.take(self.rng.randbytes(self.rng.randrange(1, 40)) + b"\x00" * self.rng.randrange(2))
            self.duplex.write(self.t_ns, self.rng.randbytes(self.rng.randrange(1, 40)))
            self.go(self.rng.randrange(1, 10) * MS)

    def _replay(self) -> None:
        """What an adapter, a hub or a bug kept of an earlier session comes once more, on both ends."""
        if not self.old:
            return
        to_host, to_device = self.rng.choice(self.old)
        self.take(b"\x00" + to_host)
        self.duplex.write(self.t_ns, b"\x00" + to_device + b"\x00")
        self.go(self.rng.randrange(1, 10) * MS)

    def _replay_and_cut(self) -> None:
        self._cut(at_most_ms=30)
        self._replay()
