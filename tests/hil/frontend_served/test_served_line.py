"""What a front end's line asks of the pseudo-terminal: frames as they are, and nothing lost where there is no room."""

from __future__ import annotations

import os
import select
import time
import tty
from pathlib import Path

import pytest

from firmware_proto.frontend.messages import ResetCause
from hil.frontend.device import LINE_BYTES, ServedFrontend
from hil.frontend.unit import Told
from hil.line.duplex import Duplex
from hil.line.pacing import NEVER, READER_RUNS, Pacer
from hil.line.pty import PtyLine, run_lines
from hil.protocols import Wire

FRAME = b"\x03\x84\x0a\x02\x0d\x00"
PLENTY = 400_000


def test_frames_leave_whole_whatever_is_in_them() -> None:
    pacer = Pacer(0, READER_RUNS["frame"])
    pacer.push(0, FRAME + b"\x00" + FRAME[:4])
    runs = []
    while pacer.next_ns != NEVER:
        runs.append(pacer.pop())
    assert runs == [FRAME, b"\x00", FRAME[:4]]


class Talker:
    """Has more to say than anybody listens to; hesitates as a :class:`ServedFrontend` does."""

    def __init__(self) -> None:
        self.wire: Wire | None = None
        self.line: PtyLine | None = None
        self.said = 0
        self.pipe = os.pipe()
        os.write(self.pipe[1], b"x")

    def attach(self, wire: Wire) -> None:
        self.wire = wire

    def receive(self, t_ns: int, data: bytes) -> None:
        """Nobody says anything."""

    def next_event_ns(self) -> int | None:
        return None

    def advance(self, t_ns: int) -> None:
        """Nothing happens by itself."""

    def fileno(self) -> int:
        return self.pipe[0]

    def ready(self) -> None:
        assert self.wire is not None
        if self.said < PLENTY:
            data = (self.said).to_bytes(4, "big").replace(b"\x00", b"\x01") + b"\x00"
            self.wire.send(time.monotonic_ns(), data * 200)
            self.said += len(data) * 200

    def holds_until_ns(self, now_ns: int) -> int:
        if self.said >= PLENTY:
            return NEVER
        return now_ns + 1_000_000 if self.line is not None and self.line.backlog else 0


@pytest.mark.realtime
@pytest.mark.parametrize("lossless", [True, False])
def test_what_the_client_has_no_room_for_waits_where_nothing_may_be_lost(tmp_path: Path, lossless: bool) -> None:
    """Without it the same talker loses most of what it says, as on a wire."""
    talker = Talker()
    stop_r, stop_w = os.pipe()
    with PtyLine(talker, tmp_path / "link", 0, chunk="frame", lossless=lossless) as line:
        talker.line = line
        client = os.open(tmp_path / "link", os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
        tty.setraw(client)
        pid = os.fork()
        if pid == 0:  # the client, that begins to read when the kernel is full
            select.select([], [], [], 0.3)
            got = 0
            while select.select([client], [], [], 1.0)[0]:
                got += len(os.read(client, 65_536))
            os.write(stop_w, b"x")
            os._exit(0 if got == PLENTY else 1)
        run_lines([line], stop_r, (talker,))
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        assert (code == 0) == lossless
        assert (line.lost_bytes == 0) == lossless
        for fd in (client, stop_r, stop_w, *talker.pipe):
            os.close(fd)


class Chip:
    """A firmware of paper."""

    same_clock = True
    board = "paper"
    pid = 0

    def __init__(self) -> None:
        self.powered = True
        self.sent = b""
        self.room = 1 << 20
        self.done: list[str] = []

    def fileno(self) -> int:
        return 0

    def read(self) -> bytes:
        return FRAME

    def write(self, data: bytes) -> int:
        self.sent += data[: self.room]
        return min(len(data), self.room)

    def power_off(self) -> None:
        self.powered = False
        self.done.append("off")

    def power_on(self) -> None:
        self.powered = True
        self.done.append("on")


class Quiet:
    """A feed that feeds nothing."""

    closed = False
    next_ns = 10**15

    def step(self, t_ns: int) -> None:
        self.stepped_ns = t_ns

    def restarted(self) -> None:
        """Nothing to forget."""

    def stick(self, t_ns: int, *, stuck: bool, told: Told | None) -> None:
        """Nothing to stick."""


def device(chip: Chip, baud: int) -> tuple[ServedFrontend, Duplex]:
    class Line:
        backlog = 0

    front = ServedFrontend(chip, Quiet())  # type: ignore[arg-type] # of paper
    duplex = Duplex(front, baud, "frame", lambda _t_ns, _data: None)
    line = Line()
    line.duplex = duplex  # type: ignore[attr-defined]
    front.on_line(line)  # type: ignore[arg-type]
    return front, duplex


def test_a_line_that_is_busy_is_not_given_more() -> None:
    chip = Chip()
    front, duplex = device(chip, 115_200)
    now_ns = time.monotonic_ns()
    assert front.holds_until_ns(now_ns) == 0
    while duplex.to_reader.unstarted(now_ns) <= LINE_BYTES:
        front.ready()
    assert front.holds_until_ns(now_ns) == duplex.to_reader.next_ns
    free, _ = device(Chip(), 0)
    free.ready()
    assert free.holds_until_ns(now_ns) == 0


def test_without_power_nothing_is_read_and_it_comes_back_in_time() -> None:
    chip = Chip()
    front, _ = device(chip, 0)
    front.reset(1_000, off_ns=500, cause=ResetCause.WATCHDOG)
    assert chip.done == ["off"]
    assert front.holds_until_ns(1_200) == front.next_event_ns() == 1_500
    front.advance(1_500)
    assert chip.done == ["off", "on"]
    assert front.holds_until_ns(1_600) == 0
    front.reset(2_000)
    assert chip.done == ["off", "on"] * 2


def test_what_the_firmware_has_no_room_for_is_lost_and_counted() -> None:
    chip = Chip()
    front, _ = device(chip, 0)
    chip.room = 4
    front.receive(0, b"123456")
    assert (chip.sent, front.lost_bytes) == (b"1234", 2)
