"""The firmware on an emulated board in real time: handshake, arming, and what QMP can do to it, seen at its pin.

No test hangs on how fast this host is: what has to last lasts until somebody ends it.
"""

from __future__ import annotations

import os
import select
import tty
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

import pytest

from firmware_proto.frontend import bench_layout as bench
from firmware_proto.frontend.framing import TRIP_BYTES, Decoder, Frame, encode
from firmware_proto.frontend.message import Message
from firmware_proto.frontend.messages import (
    Arm,
    Config,
    ConfigIs,
    GetStatus,
    Hello,
    Ping,
    Pong,
    Refused,
    Status,
    TripReport,
    Welcome,
)
from firmware_proto.frontend.slot import Slot
from firmware_proto.frontend.vocabulary import SCHEMA_HASH, VERSION, Reason, ResetCause, State, Stream
from hil.errors import BenchFaultError, BenchOptionError
from hil.frontend import build
from hil.frontend.build import Edit
from hil.frontend.qemu import BENCH_OFFSET, QemuBoard, QemuOptions, run_to_end
from hil.processes.waiting import wait_for
from tests.firmware_tools import needs_firmware

LONG = os.environ.get("TIPGUARD_LONG") == "1"

# How long a board is silent is told by the clock on the wall.
pytestmark = [pytest.mark.realtime, needs_firmware]
long_only = pytest.mark.skipif(not LONG, reason="an image more: TIPGUARD_LONG=1")

M = TypeVar("M", bound=Message)

CONFIG = Config(1, 20_000, 0, 1, 0, 0, 4, 0, 1, 50, 10, Stream.OFF, 1)
PATIENCE_S = 20.0
SILENCE_S = 0.1
NEVER_S = 1.5
"""Three times what the watchdog takes in this image."""
DEAD_S = 0.4
"""A firmware that lives sends a STATUS each 0.1 s."""
LEASE_TICKS = 95 * 25_000
TRIES = 50
HANG = Edit(
    "frontend.c",
    "    tg_core_sample(&core, SAMPLES_PER_INTERRUPT);",
    "    while (core.state == TG_STATE_ARMED) {\n    }\n    tg_core_sample(&core, SAMPLES_PER_INTERRUPT);",
)
"""The sample interrupt never comes back once the switch is closed: nothing is judged any more, no lease ends."""
NO_WATCHDOG = Edit("frontend.c", "    watchdog_start();\n", "")

MAIN_HANGS = Edit(
    "frontend.c",
    "        tg_core_poll(&core);",
    "        tg_core_poll(&core);\n        while (core.closed) {\n        }",
)
"""The main loop stands still once the switch is closed; samples go on."""
BUS_FAULT = Edit(
    "frontend.c",
    "    tg_core_sample(&core, SAMPLES_PER_INTERRUPT);",
    "    if (core.state == TG_STATE_ARMED) {\n        *(volatile uint32_t *)0x60000000u = 1;\n    }\n"
    "    tg_core_sample(&core, SAMPLES_PER_INTERRUPT);",
)
"""A store to where nothing is, in the sample interrupt."""
STACK = (
    Edit(
        "frontend.c",
        "/* SysTick only says",
        "static uint32_t deeper(uint32_t n)\n{\n    volatile uint32_t room[16];\n    room[0] = n;\n"
        "    return core.state == TG_STATE_ARMED ? deeper(n + 1u) + room[0] : n;\n}\n\n/* SysTick only says",
    ),
    Edit(
        "frontend.c", "        tg_core_poll(&core);", "        tg_core_poll(&core);\n        SYSTICK_VALUE = deeper(0);"
    ),
)
"""A main loop that calls itself without end."""
NO_FAULT_HANDLER = Edit("startup.c", "    port_switch_release();\n    for (;;) {", "    for (;;) {")


class Host:
    """The other end of a board's line."""

    def __init__(self, board: QemuBoard) -> None:
        self.board = board
        self.session = 0
        self._seq = 0
        self.plug()

    def plug(self) -> None:
        self.line = self.board.connect()
        self.line.settimeout(PATIENCE_S)
        self._decoder = Decoder()
        self._heard: list[Message] = []

    def frame(self, message: Message, session: int | None = None) -> bytes:
        self._seq += 1
        return encode(message, self._seq & 0xFFFF, self.session if session is None else session)

    def say(self, *messages: Message) -> None:
        self.line.sendall(b"".join(map(self.frame, messages)))

    def hears(self, kind: type[M]) -> M:
        while True:
            while self._heard:
                message = self._heard.pop(0)
                if isinstance(message, kind):
                    return message
            self._listen()

    def _listen(self) -> None:
        events = self._decoder.feed(self.line.recv(4096))
        self._heard += [event.message for event in events if isinstance(event, Frame)]

    def greet(self, nonce: int) -> Welcome:
        self.line.sendall(self.frame(Hello(SCHEMA_HASH, nonce, VERSION), 0))
        while (welcome := self.hears(Welcome)).host_nonce != nonce:
            pass
        self.session = welcome.session
        return welcome

    def arm(self) -> None:
        """Close the switch; again where we were too slow for our own lease."""
        self.say(CONFIG)
        config = self.hears(ConfigIs)
        opens = self.read(bench.OPENS)
        for lease_seq in range(1, TRIES):
            self.say(Ping(lease_seq))
            self.say(Arm(config.config_crc, lease_seq, self.hears(Pong).ticks_tx + LEASE_TICKS))
            while not any(isinstance(message, Refused) for message in self._heard):
                if self.closed or self.read(bench.OPENS) > opens:
                    return
                if select.select([self.line], [], [], 0.01)[0]:
                    self._listen()
            self._heard.clear()
        raise AssertionError("no lease came in time")

    def arm_for_the_last_time(self) -> None:
        """ARM a firmware that does not survive it; return once it is silent for good."""
        self.say(CONFIG)
        config = self.hears(ConfigIs)
        for lease_seq in range(1, TRIES):
            self.say(Ping(lease_seq))
            self.say(Arm(config.config_crc, lease_seq, self.hears(Pong).ticks_tx + LEASE_TICKS))
            self._heard.clear()
            while select.select([self.line], [], [], DEAD_S)[0]:
                self._listen()
                if any(isinstance(message, Refused) for message in self._heard):
                    break
            else:
                return
        raise AssertionError("no lease came in time")

    def read(self, slot: Slot) -> int:
        return slot.read(self.board.memory, BENCH_OFFSET)

    @property
    def closed(self) -> bool:
        """What the pin is driven to: memory, not a message."""
        return bool(self.read(bench.SWITCH_PIN))

    def wait_open(self, within_s: float = PATIENCE_S) -> None:
        wait_for("the pin to open", lambda: not self.closed, within_s)


@pytest.fixture(scope="module")
def board() -> Iterator[QemuBoard]:
    with QemuBoard(build.mps2(), QemuOptions(seed=1)) as running:
        yield running


@pytest.fixture
def host(board: QemuBoard) -> Iterator[Host]:
    """One that has reset the board before it talks to it."""
    bench.ADC_CODE.write(board.memory, 5, BENCH_OFFSET)
    board.reset()
    one = Host(board)
    yield one
    one.line.close()


def test_a_board_says_what_it_is_and_starts_open(host: Host) -> None:
    welcome = host.greet(11)
    assert (welcome.board, welcome.sample_hz, welcome.tick_hz) == ("mps2_an385", 10_000, 25_000_000)
    assert (welcome.state, welcome.safe_closed) == (State.SAFE, 0)
    assert not host.closed


def test_a_lease_that_nobody_renews_opens_the_switch(host: Host) -> None:
    host.greet(12)
    host.arm()
    host.wait_open()
    report = host.hears(TripReport)
    assert report.reason is Reason.LEASE
    # What the report says of itself, the pin says, too.
    assert report.sample_index == host.read(bench.OPEN_INDEX)
    assert host.read(bench.OPENS) == 1


def test_a_current_beyond_the_limit_opens_the_switch_in_its_own_sample(host: Host) -> None:
    host.greet(13)
    bench.ADC_CODE.write(host.board.memory, 25_000, BENCH_OFFSET)
    host.arm()
    report = host.hears(TripReport)
    assert (report.reason, report.code, report.threshold) == (Reason.HARD, 25_000, CONFIG.hard_code)
    assert report.sample_index == host.read(bench.OPEN_INDEX)
    assert host.read(bench.OPEN_TICKS) >= report.ticks
    assert not host.closed


def test_a_trip_needs_no_session(host: Host) -> None:
    host.line.sendall(TRIP_BYTES)
    report = host.hears(TripReport)
    assert report.reason is Reason.HOST
    assert host.greet(14).state is State.TRIPPED


def test_a_frozen_board_is_silent_and_answers_when_it_goes_on(host: Host) -> None:
    host.greet(15)
    host.board.freeze()
    try:
        while select.select([host.line], [], [], 0)[0]:
            host.line.recv(4096)
        index = host.read(bench.SAMPLE_INDEX)
        host.say(Ping(77))
        assert not select.select([host.line], [], [], SILENCE_S)[0]
        assert host.read(bench.SAMPLE_INDEX) == index
    finally:
        host.board.thaw()
    while host.hears(Pong).token != 77:
        pass
    wait_for("samples to go on", lambda: host.read(bench.SAMPLE_INDEX) > index, PATIENCE_S)


def test_a_cable_that_was_pulled_goes_on_with_the_session(host: Host) -> None:
    session = host.greet(16).session
    host.line.close()
    host.plug()
    host.say(GetStatus(), Ping(5))
    while host.hears(Pong).token != 5:
        pass
    assert host.session == session


def test_a_reset_opens_the_switch_and_is_another_boot() -> None:
    """Also the harm that the watchdog is against: samples that stand still leave the switch closed for ever."""
    with QemuBoard(build.mps2(edits=[HANG, NO_WATCHDOG]), QemuOptions(seed=3)) as board:
        host = Host(board)
        before = host.greet(21)
        assert before.reset_cause is ResetCause.POWER
        host.arm()
        assert host.closed
        with pytest.raises(BenchFaultError, match="the pin to open"):
            host.wait_open(NEVER_S)
        board.reset()
        host.wait_open()
        old = host.session
        after = host.greet(22)
        assert (after.reset_cause, after.state) == (ResetCause.PIN, State.SAFE)
        assert after.boot_nonce != before.boot_nonce
        assert after.session != old
        host.line.sendall(host.frame(Ping(1), old))
        host.say(GetStatus(), Ping(2))
        assert host.hears(Pong).token == 2
        host.say(GetStatus())
        assert host.hears(Status).rx_stale == 1
        host.line.close()


def test_the_watchdog_opens_the_switch_when_samples_stand_still() -> None:
    with QemuBoard(build.mps2(edits=[HANG]), QemuOptions(seed=4)) as board:
        host = Host(board)
        before = host.greet(31)
        host.arm()
        host.wait_open()
        wait_for("the watchdog to reset", lambda: "WATCHDOG" in board.events, PATIENCE_S)
        after = host.greet(32)
        assert (after.reset_cause, after.state) == (ResetCause.WATCHDOG, State.SAFE)
        assert after.boot_nonce != before.boot_nonce
        host.line.close()


@pytest.mark.parametrize(
    "broken", [pytest.param((BUS_FAULT,), id="bus-fault"), pytest.param(STACK, id="stack-overflow", marks=long_only)]
)
def test_a_fault_opens_the_switch(broken: tuple[Edit, ...]) -> None:
    with QemuBoard(build.mps2(edits=[*broken, NO_WATCHDOG]), QemuOptions(seed=9)) as board:
        host = Host(board)
        host.greet(61)
        host.arm_for_the_last_time()
        assert not host.closed
        # It was no trip: nothing of the core has opened it.
        assert host.read(bench.OPENS) == 0
        host.line.close()


def test_without_the_fault_handler_the_switch_stays_closed() -> None:
    with QemuBoard(build.mps2(edits=[BUS_FAULT, NO_FAULT_HANDLER, NO_WATCHDOG]), QemuOptions(seed=9)) as board:
        host = Host(board)
        host.greet(62)
        host.arm_for_the_last_time()
        assert host.closed
        host.line.close()


def test_a_seed_gives_its_boot_nonces() -> None:
    nonces = []
    for seed in (5, 5, 6):
        with QemuBoard(build.mps2(), QemuOptions(seed=seed)) as board:
            host = Host(board)
            nonces.append(host.greet(41).boot_nonce)
            host.line.close()
    assert nonces[0] == nonces[1] != nonces[2]


def test_qemu_makes_a_pseudo_terminal_where_asked() -> None:
    with QemuBoard(build.mps2(), QemuOptions(seed=7, serial="pty")) as board:
        assert board.pty is not None
        device = os.open(board.pty, os.O_RDWR | os.O_NOCTTY)
        try:
            tty.setraw(device)
            os.write(device, encode(Hello(SCHEMA_HASH, 51, VERSION), 0, 0))
            decoder, heard = Decoder(), list[Message]()
            while not any(isinstance(message, Welcome) for message in heard):
                assert select.select([device], [], [], PATIENCE_S)[0]
                heard += [event.message for event in decoder.feed(os.read(device, 4096)) if isinstance(event, Frame)]
        finally:
            os.close(device)


def test_a_board_that_was_ended_leaves_nothing() -> None:
    board = QemuBoard(build.mps2(), QemuOptions(seed=8))
    folder, pid = board.folder, board.pid
    assert (folder / "psram").is_file()
    board.close()
    assert board.code is not None
    assert not folder.exists()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_an_image_that_is_not_there_or_does_not_end_is_named(tmp_path: Path) -> None:
    with pytest.raises(BenchOptionError, match="no such image"):
        QemuBoard(tmp_path / "none.elf")
    with pytest.raises(BenchFaultError, match="did not end within"):
        run_to_end(build.mps2(), timeout_s=0.3)
