"""The waveforms through the host port: a process in real time at 100 kS/s, its converter and its pin shared memory.

20 waveforms in the quick suite, 1000 in the long rounds. Where this host stands still until the lease ends, or the
sample loop has fallen behind, the arming is repeated: samples are compared, not this host's scheduler.
"""

from __future__ import annotations

import os
import select
import shutil
from typing import Final

import pytest

from firmware_proto.frontend.detector_model import Detector, Limits
from firmware_proto.frontend.framing import Decoder, Frame, encode
from firmware_proto.frontend.message import Message
from firmware_proto.frontend.messages import (
    AckTrip,
    Arm,
    BoxDone,
    ConfigIs,
    Hello,
    Open,
    Ping,
    Pong,
    Rearm,
    Refused,
    Status,
    TripReport,
    Welcome,
)
from firmware_proto.frontend.vocabulary import SCHEMA_HASH, VERSION, Reason, Refusal, State
from hil.frontend.firmware import NativeFirmware
from hil.processes.waiting import wait_for
from tests.hil.frontend_qemu.waveforms import FULL_SCALE, Waveform, waveforms

LONG = os.environ.get("TIPGUARD_LONG") == "1"
WAVEFORMS = 1000 if LONG else 20
SEED = 20261127
SAMPLE_HZ: Final = 100_000
TICK_HZ: Final = 1_000_000_000
LEASE_TICKS: Final = 99 * TICK_HZ // 1000
LEAD: Final = 2_000
"""Samples from now to the beginning of a waveform: long enough to arm in."""
WARM: Final = 160
"""Samples after which no test waits any more for earlier ones: more than 2**6 and 32."""
TRIES: Final = 100
PATIENCE_S: Final = 20.0
OURS: Final = {Reason.LEASE, Reason.OVERRUN}
"""Reasons that say that this host stood still."""

Outcome = tuple[int | None, Reason]
BEFORE: Final = -1
"""Where a waveform trips whose first code, held before it, does."""


class HostStoodStillError(Exception):
    """Nothing was learned of the waveform."""


pytestmark = [
    # The port for this host samples by the clock on the wall.
    pytest.mark.realtime,
    pytest.mark.skipif(shutil.which("cc") is None and shutil.which("gcc") is None, reason="no C compiler"),
    pytest.mark.timeout(900 if LONG else 120),
]


class Host:
    """As much of a host as an arming takes, over the firmware's own line."""

    def __init__(self, firmware: NativeFirmware) -> None:
        self.firmware = firmware
        self.session = 0
        self._seq = 0
        self._lease_seq = 0
        self._decoder = Decoder()
        self._heard: list[Message] = []

    def say(self, *messages: Message) -> None:
        data = b""
        for message in messages:
            data += encode(message, self._seq & 0xFFFF, self.session)
            self._seq += 1
        while data:
            data = data[self.firmware.write(data) :]

    def hears(self, *kinds: type[Message]) -> Message:
        message = self.heard(kinds, PATIENCE_S)
        assert message is not None, f"the firmware is silent for {PATIENCE_S:g} s"
        return message

    def heard(self, kinds: tuple[type[Message], ...], within_s: float) -> Message | None:
        """Return the next message of these kinds; None if the line is silent for ``within_s``."""
        while True:
            while self._heard:
                message = self._heard.pop(0)
                if isinstance(message, kinds):
                    return message
            if not select.select([self.firmware.fileno()], [], [], within_s)[0]:
                return None
            events = self._decoder.feed(self.firmware.read())
            self._heard += [event.message for event in events if isinstance(event, Frame)]

    def greet(self) -> None:
        self.say(Hello(SCHEMA_HASH, 1, VERSION))
        welcome = self.hears(Welcome)
        assert isinstance(welcome, Welcome)
        assert (welcome.board, welcome.sample_hz) == ("host", SAMPLE_HZ)
        self.session = welcome.session

    def play(self, wave: Waveform) -> Outcome:
        """Arm for one waveform; return where in it the switch opened, and why."""
        memory = self.firmware.memory
        memory.no_wave()
        memory.hold(int(wave.codes[0]))
        self.say(wave.config)
        config = self.hears(ConfigIs)
        assert isinstance(config, ConfigIs)
        assert config.result is Refusal.NONE
        begin = memory.sample_index + LEAD
        memory.wave(wave.codes, begin)
        self.say(Ping(0))
        pong = self.hears(Pong)
        assert isinstance(pong, Pong)
        self._lease_seq += 1
        self.say(Arm(config.config_crc, self._lease_seq, pong.ticks_tx + LEASE_TICKS))
        armed = False
        while True:
            message = self.heard((Status, TripReport, Refused), 0.002)
            if isinstance(message, Refused):
                raise HostStoodStillError(f"refused: {message.why.name}")
            if isinstance(message, TripReport):
                return self._tripped(message, begin, len(wave.codes))
            if isinstance(message, Status) and message.state is State.ARMED and not armed:
                armed = True
                if message.sample_index > begin - WARM:
                    self._end()
                    raise HostStoodStillError("armed too late")
            if armed and memory.sample_index >= begin + len(wave.codes):
                report = self._end()
                return (None, Reason.NONE) if report is None else self._tripped(report, begin, len(wave.codes))

    def _end(self) -> TripReport | None:
        """Open by hand; return the report of a trip that came before."""
        self.say(Open())
        while True:
            message = self.hears(Status, TripReport)
            if isinstance(message, TripReport):
                return message
            if isinstance(message, Status) and message.state is State.SAFE:
                return None

    def _tripped(self, report: TripReport, begin: int, n: int) -> Outcome:
        memory = self.firmware.memory
        pin = memory.pin()
        assert not pin.closed
        self.say(AckTrip(report.trip_id), BoxDone(report.trip_id))
        wait_for("the switch to be seen open", lambda: memory.sample_index > report.sample_index + 5, PATIENCE_S)
        self.say(Rearm(report.trip_id))
        while True:
            message = self.hears(Status)
            if isinstance(message, Status) and message.state is State.SAFE:
                break
        if report.reason in OURS:
            raise HostStoodStillError(report.reason.name)
        # Opened during the sample that crosses: 0 late.
        assert pin.open_index == report.sample_index
        at = report.sample_index - begin
        return (None, Reason.NONE) if at >= n else (max(at, BEFORE), report.reason)


def model(wave: Waveform) -> Outcome:
    detector = Detector(Limits.of(wave.config, FULL_SCALE))
    for at, code in enumerate([int(wave.codes[0])] * WARM + wave.codes.tolist()):
        if (reason := detector.step(code)) is not Reason.NONE:
            return max(at - WARM, BEFORE), reason
    return None, Reason.NONE


def played(host: Host, wave: Waveform) -> tuple[Outcome, int]:
    """Return the outcome, and how many armings it took."""
    for tries in range(1, TRIES):
        try:
            return host.play(wave), tries
        except HostStoodStillError:
            continue
    raise AssertionError(f"{wave.name}: this host stood still in {TRIES} armings")


def test_model_and_host_port_trip_in_the_same_sample_for_the_same_reason() -> None:
    differ, armings, trips = [], 0, 0
    with NativeFirmware(sample_hz=SAMPLE_HZ, seed=1) as firmware:
        host = Host(firmware)
        host.greet()
        for wave in waveforms(WAVEFORMS, SEED):
            want = model(wave)
            got, tries = played(host, wave)
            armings += tries
            trips += want[0] is not None
            if got != want:
                differ.append((wave.name, want, got))
    print(f"{WAVEFORMS} waveforms at {SAMPLE_HZ} S/s, {trips} trips, 0 late; {armings} armings")
    assert differ == []
