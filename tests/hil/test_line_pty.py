"""The line behind a real pseudo-terminal: a termios client, real time, never early, and a link that cleans up."""

from __future__ import annotations

import os
import select
import threading
import time
import tty
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from hil.errors import BenchOptionError
from hil.line.pacing import Chunk
from hil.line.pty import PtyLine, sharpen_timers
from hil.protocols import Device, Wire

pytestmark = pytest.mark.realtime


class Echo:
    """Answers each line ``X`` with ``<X>\\r`` after ``think_ns``; remembers when bytes came."""

    def __init__(self, think_ns: int = 1_000_000) -> None:
        self.think_ns = think_ns
        self.got: list[tuple[int, bytes]] = []
        self.pending: list[tuple[int, bytes]] = []
        self.sent_ns: list[int] = []
        self.buffer = b""
        self.wire: Wire | None = None

    def attach(self, wire: Wire) -> None:
        self.wire = wire

    def receive(self, t_ns: int, data: bytes) -> None:
        self.got.append((t_ns, data))
        self.buffer += data
        while b"\n" in self.buffer:
            line, _, self.buffer = self.buffer.partition(b"\n")
            self.pending.append((t_ns + self.think_ns, line))

    def next_event_ns(self) -> int | None:
        return self.pending[0][0] if self.pending else None

    def advance(self, t_ns: int) -> None:
        assert self.wire is not None
        while self.pending and self.pending[0][0] <= t_ns:
            due, line = self.pending.pop(0)
            self.sent_ns.append(due)
            self.wire.send(due, b"<" + line + b">\r")


@contextmanager
def serving(device: Device, link: Path, baud: int, chunk: Chunk = "fifo") -> Iterator[PtyLine]:
    stop_r, stop_w = os.pipe()
    with PtyLine(device, link, baud, chunk=chunk) as line:

        def serve() -> None:
            sharpen_timers()
            line.run(stop_r)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield line
        finally:
            os.write(stop_w, b"x")
            thread.join(10)
            assert not thread.is_alive()
            os.close(stop_r)
            os.close(stop_w)


@contextmanager
def client(link: Path) -> Iterator[int]:
    fd = os.open(link, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
    try:
        tty.setraw(fd)
        yield fd
    finally:
        os.close(fd)


def read_line(fd: int, timeout_s: float = 10.0) -> bytes:
    got = b""
    deadline = time.monotonic() + timeout_s
    while not got.endswith(b"\r"):
        ready, _, _ = select.select([fd], [], [], max(deadline - time.monotonic(), 0))
        assert ready, f"no more after {got!r}"
        got += os.read(fd, 4096)
    return got


def exchange(fd: int, message: bytes) -> bytes:
    assert os.write(fd, message) == len(message)
    return read_line(fd)


def sync(link: Path) -> None:
    """Return once everything written before has been through the device."""
    with client(link) as fd:
        got = b""
        while b"<sync>\r" not in got:
            # Asked again after a while: in a flood the answer itself may be lost.
            os.write(fd, b"sync\n")
            while b"<sync>\r" not in got and select.select([fd], [], [], 1)[0]:
                got += os.read(fd, 4096)


@pytest.mark.parametrize("chunk", ["line", "fifo", "byte"])
@pytest.mark.parametrize("baud", [0, 57600])
def test_an_exchange_arrives_whole(tmp_path: Path, baud: int, chunk: Chunk) -> None:
    with serving(Echo(), tmp_path / "smu", baud, chunk), client(tmp_path / "smu") as fd:
        for k in range(20):
            message = b"message %d" % k
            assert exchange(fd, message + b"\n") == b"<" + message + b">\r"


@pytest.mark.parametrize("baud", [9600, 57600])
def test_the_last_byte_is_never_early_and_rarely_late(tmp_path: Path, baud: int) -> None:
    message = b":SOUR:VOLT -0.1000;:READ?\n"
    ideal_ns = (2 * len(message) + 2) * 10**10 // baud + 1_000_000
    late_ns = []
    with serving(Echo(), tmp_path / "smu", baud), client(tmp_path / "smu") as fd:
        for _ in range(10 if baud == 9600 else 60):
            begin_ns = time.monotonic_ns()
            exchange(fd, message)
            late_ns.append(time.monotonic_ns() - begin_ns - ideal_ns)
    assert min(late_ns) >= 0
    # Observed 0.1-0.3 ms on an idle machine; the bound leaves room for a busy one.
    assert sorted(late_ns)[len(late_ns) // 2] < 2_000_000


def test_the_device_sees_bytes_at_their_line_times(tmp_path: Path) -> None:
    device = Echo()
    with serving(device, tmp_path / "smu", 9600), client(tmp_path / "smu") as fd:
        begin_ns = time.monotonic_ns()
        os.write(fd, b"one\nthree\n")
        assert read_line(fd) == b"<one>\r"
        read_line(fd)
    (t_one, one), (t_three, three) = device.got
    assert (one, three) == (b"one\n", b"three\n")
    # Six bytes apart to the nanosecond, however the kernel woke us; the burst begins when we read it.
    assert t_three - t_one == pytest.approx(6 * 10**10 / 9600, abs=1)
    assert t_one >= begin_ns + 4 * 10**10 // 9600


def test_a_client_that_leaves_is_not_a_hang_up(tmp_path: Path) -> None:
    device = Echo()
    with serving(device, tmp_path / "smu", 0):
        for k in range(3):
            with client(tmp_path / "smu") as fd:
                assert exchange(fd, b"visit %d\n" % k) == b"<visit %d>\r" % k
        with client(tmp_path / "smu") as fd:
            os.write(fd, b"leaves at once\n")
        sync(tmp_path / "smu")
    assert b"".join(data for _, data in device.got).count(b"\n") == 5


def test_nobody_reading_loses_bytes_but_never_blocks(tmp_path: Path) -> None:
    device = Echo(think_ns=0)
    with serving(device, tmp_path / "smu", 0) as line:
        with client(tmp_path / "smu") as fd:
            payload = b"x" * 999 + b"\n"
            for k in range(150):
                written = 0
                while written < len(payload):
                    _, ready, _ = select.select([], [fd], [], 10)
                    assert ready, f"the line blocks at message {k}"
                    written += os.write(fd, payload[written:])
        sync(tmp_path / "smu")
    assert line.lost_bytes > 10_000
    assert b"".join(data for _, data in device.got).count(b"x" * 999 + b"\n") == 150


def test_the_slave_is_raw_and_does_not_echo(tmp_path: Path) -> None:
    with serving(Echo(), tmp_path / "smu", 0) as line:
        # A client that sets nothing at all: a shell redirection, say.
        fd = os.open(tmp_path / "smu", os.O_RDWR | os.O_NOCTTY)
        try:
            assert exchange(fd, b"\x11\x13\x03\x04\n") == b"<\x11\x13\x03\x04>\r"
        finally:
            os.close(fd)
        assert line.slave_name.startswith("/dev/pts/")


def test_the_link_appears_and_goes(tmp_path: Path) -> None:
    link = tmp_path / "smu"
    line = PtyLine(Echo(), link, 0)
    assert str(link.readlink()) == line.slave_name
    line.close()
    line.close()
    assert not link.is_symlink()


def test_a_stale_link_is_replaced(tmp_path: Path) -> None:
    link = tmp_path / "smu"
    link.symlink_to(tmp_path / "gone")
    with PtyLine(Echo(), link, 0) as line:
        assert str(link.readlink()) == line.slave_name


def test_a_link_left_by_a_killed_bench_is_replaced_when_its_number_comes_back(tmp_path: Path) -> None:
    link = tmp_path / "smu"
    with PtyLine(Echo(), tmp_path / "other", 0) as line:
        name = line.slave_name
    link.symlink_to(name)
    with PtyLine(Echo(), link, 0) as line:
        assert str(link.readlink()) == line.slave_name


@pytest.mark.parametrize("kind", ["file", "directory", "live link", "link to a file"])
def test_nothing_else_is_overwritten(tmp_path: Path, kind: str) -> None:
    link = tmp_path / "smu"
    (tmp_path / "precious").write_text("data")
    with PtyLine(Echo(), tmp_path / "live", 0) as live:
        if kind == "file":
            link.write_text("data")
        elif kind == "directory":
            link.mkdir()
        else:
            link.symlink_to(live.slave_name if kind == "live link" else tmp_path / "precious")
        before = link.lstat()
        with pytest.raises(BenchOptionError, match=r"smu: exists and is in use or not a link; remove it"):
            PtyLine(Echo(), link, 0)
        assert link.lstat() == before


def test_an_absent_directory_is_named(tmp_path: Path) -> None:
    with pytest.raises(BenchOptionError, match=r"No such file or directory; create its directory first") as error:
        PtyLine(Echo(), tmp_path / "nowhere" / "smu", 0)
    assert "\n" not in str(error.value)


def test_a_link_that_became_anothers_is_left_alone(tmp_path: Path) -> None:
    link = tmp_path / "smu"
    line = PtyLine(Echo(), link, 0)
    link.unlink()
    link.symlink_to(tmp_path)
    line.close()
    assert link.readlink() == tmp_path
