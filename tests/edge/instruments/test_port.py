"""Ports on real pseudo-terminals: locked but never exclusive, never flushed, and served where the poll returns."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import os
import select
import selectors
import socket
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge.errors import BusyError, ConfigError, LinkLostError
from edge.instruments import port as port_module
from edge.instruments.port import HotSelector, OpenPort, SerialTransport, is_emulated
from edge.instruments.transport import Transport

pytestmark = pytest.mark.realtime

TIOCGEXCL = 0x80045440
"""asm-generic/ioctls.h; Python's termios does not know it."""
ALL_BYTES = bytes(range(256))
HOLDER = """
import fcntl, os, sys
fd = os.open(sys.argv[1], os.O_RDWR | os.O_NOCTTY)
fcntl.flock(fd, fcntl.LOCK_EX)
print("held", flush=True)
sys.stdin.read()
"""


class Pty:
    """Both ends of a pseudo-terminal; the slave stays open, so that a client that closes is no hang-up."""

    def __init__(self) -> None:
        self.master, self._slave = os.openpty()
        self.path = os.ttyname(self._slave)

    def hang_up(self) -> None:
        if self.master >= 0:
            os.close(self.master)
            self.master = -1

    def close(self) -> None:
        self.hang_up()
        os.close(self._slave)

    def read(self, n: int) -> bytes:
        """Read exactly ``n`` bytes that the port's user wrote."""
        data = b""
        while len(data) < n:
            assert select.select([self.master], [], [], 5.0)[0], data
            data += os.read(self.master, n - len(data))
        return data


@pytest.fixture
def pty() -> Iterator[Pty]:
    pair = Pty()
    yield pair
    pair.close()


@pytest.fixture
def opened(pty: Pty) -> Iterator[OpenPort]:
    port = OpenPort(pty.path, 57600)
    yield port
    port.close()


@pytest.fixture
def selector() -> Iterator[HotSelector]:
    with contextlib.closing(HotSelector()) as made:
        yield made


@pytest.fixture
def transport(pty: Pty, opened: OpenPort, selector: HotSelector) -> SerialTransport:
    return SerialTransport(opened.fileno(), name=pty.path, baud=57600, emulated=True, selector=selector)


def readable(fd: int) -> None:
    assert select.select([fd], [], [], 5.0)[0]


# ------------------------------------------------------------------------------------------------ what is emulated


def test_a_pseudo_terminal_is_emulated_also_behind_a_link(pty: Pty, tmp_path: Path) -> None:
    link = tmp_path / "smu"
    link.symlink_to(pty.path)
    assert is_emulated(pty.path)
    assert is_emulated(link)


def test_nothing_else_is_emulated(tmp_path: Path) -> None:
    regular = tmp_path / "regular"
    regular.write_bytes(b"")
    assert not is_emulated("/dev/null")
    assert not is_emulated(regular)
    assert not is_emulated(tmp_path)


@pytest.mark.parametrize(("major", "emulated"), [(135, False), (136, True), (143, True), (144, False), (188, False)])
def test_only_these_majors_are(monkeypatch: pytest.MonkeyPatch, pty: Pty, major: int, emulated: bool) -> None:
    # 188 is ttyUSB. As no such device can be made here, the number is.
    monkeypatch.setattr(os, "major", lambda _device: major)
    assert is_emulated(pty.path) is emulated


# ---------------------------------------------------------------------------------------------------- opening


def one_line(error: BaseException, *parts: str) -> None:
    text = str(error)
    assert "\n" not in text
    for part in parts:
        assert part in text


def test_an_absent_port(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        OpenPort(str(tmp_path / "absent"), 57600)
    one_line(caught.value, "absent: No such file or directory", "check the cable")
    assert caught.value.key == "ports.smu.path"


@pytest.mark.parametrize("path", ["/dev/null", "regular", "."])
def test_what_is_no_port(tmp_path: Path, path: str) -> None:
    (tmp_path / "regular").write_bytes(b"")
    with pytest.raises(ConfigError) as caught:
        OpenPort(str(tmp_path / path), 57600)
    one_line(caught.value, path, "check ports.smu.path")
    assert caught.value.key == "ports.smu.path"


def test_a_port_without_permission(monkeypatch: pytest.MonkeyPatch, pty: Pty) -> None:
    def refuse(path: object, *_args: object, **_options: object) -> int:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)

    with monkeypatch.context() as patch:
        # Root may open everything, and the tests may run as root.
        patch.setattr(os, "open", refuse)
        with pytest.raises(ConfigError) as caught:
            OpenPort(pty.path, 57600)
    one_line(caught.value, f"port {pty.path}: Permission denied", "dialout")


def test_the_line_is_raw_8n1_without_flow_control(opened: OpenPort) -> None:
    iflag, oflag, cflag, lflag, ispeed, ospeed, _ = termios.tcgetattr(opened.fileno())
    assert (ispeed, ospeed) == (termios.B57600, termios.B57600)
    assert cflag & termios.CSIZE == termios.CS8
    assert not cflag & (termios.PARENB | termios.CSTOPB | termios.CRTSCTS)
    assert cflag & (termios.CLOCAL | termios.CREAD) == termios.CLOCAL | termios.CREAD
    assert not iflag & (termios.IXON | termios.IXOFF | termios.IXANY | termios.ICRNL | termios.INLCR | termios.IGNCR)
    assert not oflag & termios.OPOST
    assert not lflag & (termios.ICANON | termios.ECHO | termios.ISIG)


def test_every_byte_passes_both_ways(pty: Pty, transport: SerialTransport) -> None:
    # XOFF, ^C and CR among them.
    assert transport.write(ALL_BYTES) == 256
    assert pty.read(256) == ALL_BYTES
    os.write(pty.master, ALL_BYTES)
    got = b""
    while len(got) < 256:
        readable(transport._fd)
        got += transport.read()
    assert got == ALL_BYTES


# ---------------------------------------------------------------------------------------------------- the lock


def test_a_port_held_by_another_process_is_busy(pty: Pty) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, pty.path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(BusyError) as caught:
            OpenPort(pty.path, 57600)
        one_line(caught.value, f"port {pty.path} is held by another process", "fuser -v", "tipguard safe-off")
        # The refusal kept nothing, neither a descriptor (the fixture's is one) nor the lock.
        links = [str(entry.readlink()) for entry in Path("/proc/self/fd").iterdir() if entry.is_symlink()]
        assert links.count(pty.path) == 1
        holder.communicate("")
    OpenPort(pty.path, 57600).close()


def test_two_controllers_do_not_share_a_port(pty: Pty, opened: OpenPort) -> None:
    with pytest.raises(BusyError):
        OpenPort(pty.path, 57600)
    opened.close()
    OpenPort(pty.path, 57600).close()


def test_a_held_port_can_still_be_opened_and_written_by_safe_off(pty: Pty, opened: OpenPort) -> None:
    # TIOCEXCL would shut it out. Root gets past TIOCEXCL, so it is looked up too.
    fd = os.open(pty.path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
    os.write(fd, b":OUTP OFF\n")
    os.close(fd)
    assert pty.read(10) == b":OUTP OFF\n"
    assert struct.unpack("i", fcntl.ioctl(opened.fileno(), TIOCGEXCL, bytes(4)))[0] == 0


def test_a_child_that_got_the_descriptor_keeps_the_lock(pty: Pty, opened: OpenPort) -> None:
    # The keeper may die before its worker: nobody else gets the port until the worker is gone too.
    held = os.dup(opened.fileno())
    opened.close()
    with pytest.raises(BusyError):
        OpenPort(pty.path, 57600)
    os.close(held)
    OpenPort(pty.path, 57600).close()


def test_output_is_never_flushed(monkeypatch: pytest.MonkeyPatch, pty: Pty) -> None:
    flushed: list[int] = []
    monkeypatch.setattr(termios, "tcflush", lambda _fd, queue: flushed.append(queue))
    monkeypatch.setattr(termios, "tcdrain", lambda _fd: flushed.append(-1))
    port = OpenPort(pty.path, 57600)
    os.write(port.fileno(), b":OUTP OFF\n")
    port.close()
    assert set(flushed) <= {termios.TCIFLUSH}
    assert pty.read(10) == b":OUTP OFF\n"


def test_without_low_latency_mode_there_is_a_warning_on_hardware_only(
    monkeypatch: pytest.MonkeyPatch, pty: Pty, opened: OpenPort
) -> None:
    assert opened.emulated
    assert opened.warning is None
    opened.close()
    monkeypatch.setattr(port_module, "is_emulated", lambda _path, **_options: False)
    hardware = OpenPort(pty.path, 57600)
    assert hardware.warning is not None
    one_line(Warning(hardware.warning), pty.path, "how late is not known")
    hardware.close()


# ------------------------------------------------------------------------------------------------ the transport


def test_it_is_a_transport(pty: Pty, transport: SerialTransport) -> None:
    assert isinstance(transport, Transport)
    assert (transport.name, transport.baud, transport.emulated) == (pty.path, 57600, True)


def test_reading_nothing_is_not_a_hang_up(transport: SerialTransport) -> None:
    # pyserial leaves VMIN at 0: then a tty reads empty, as it does after a hang-up. It happens when another process
    # was quicker to read, as safe-off may be.
    assert transport.read() == b""
    os.set_blocking(transport._fd, False)
    settings = termios.tcgetattr(transport._fd)
    for vmin in (0, 1):
        settings[6][termios.VMIN] = vmin
        termios.tcsetattr(transport._fd, termios.TCSANOW, settings)
        assert transport.read() == b""


def test_a_hang_up_is_a_lost_link(pty: Pty, transport: SerialTransport) -> None:
    pty.hang_up()
    for _ in range(2):
        with pytest.raises(LinkLostError) as caught:
            transport.read()
        one_line(caught.value, pty.path, "is gone", "check cable and adapter")
    with pytest.raises(LinkLostError):
        transport.write(b"x")
    assert transport.unsent() == 0


def test_a_closed_descriptor_is_a_lost_link(opened: OpenPort, transport: SerialTransport) -> None:
    opened.close()
    with pytest.raises(LinkLostError, match="Bad file descriptor"):
        transport.read()
    with pytest.raises(LinkLostError, match="Bad file descriptor"):
        transport.write(b"x")
    assert transport.unsent() == 0


def test_a_line_that_takes_no_more_says_how_much_it_took(pty: Pty, transport: SerialTransport) -> None:
    taken = 0
    block = bytes(1000)
    # The kernel moves what it took to the other end in its own time, which makes room again: full is what stays full.
    while select.select([], [transport._fd], [], 0.1)[1]:
        while (now := transport.write(block)) > 0:
            taken += now
    assert transport.write(b"x") == 0
    assert pty.read(taken) == bytes(taken)


def test_it_calls_when_there_is_something_and_stops_when_told(
    pty: Pty, transport: SerialTransport, selector: HotSelector
) -> None:
    got: list[bytes] = []
    transport.on_readable(lambda: got.append(transport.read()))
    os.write(pty.master, b"1\r")
    assert selector.select(5.0) == []
    assert got == [b"1\r"]
    transport.on_readable(lambda: got.append(b"other " + transport.read()))
    os.write(pty.master, b"2\r")
    selector.select(5.0)
    assert got[1:] == [b"other 2\r"]
    transport.on_readable(None)
    os.write(pty.master, b"3\r")
    readable(transport._fd)
    assert selector.select(0) == []
    assert len(got) == 2


def test_closing_leaves_the_descriptor_to_who_opened_it(
    pty: Pty, opened: OpenPort, transport: SerialTransport, selector: HotSelector
) -> None:
    transport.on_readable(lambda: None)
    transport.close()
    transport.close()
    assert not selector.get_map()
    os.write(opened.fileno(), b"x")
    assert pty.read(1) == b"x"


def test_a_hang_up_wakes_the_selector(pty: Pty, transport: SerialTransport, selector: HotSelector) -> None:
    woken: list[bool] = []
    transport.on_readable(lambda: woken.append(True))
    pty.hang_up()
    selector.select(5.0)
    assert woken


# -------------------------------------------------------------------------------------------------- the selector


@pytest.fixture
def pairs() -> Iterator[list[tuple[socket.socket, socket.socket]]]:
    made = [socket.socketpair() for _ in range(3)]
    yield made
    for pair in made:
        for end in pair:
            end.close()


def test_hot_descriptors_are_served_before_the_others_are_handed_out(
    selector: HotSelector, pairs: list[tuple[socket.socket, socket.socket]]
) -> None:
    order: list[str] = []
    (cold, cold_far), (hot, hot_far), (other, other_far) = pairs
    selector.register(cold, selectors.EVENT_READ, "cold")
    selector.register_hot(hot, lambda: order.append(f"hot {hot.recv(9)!r}"))
    selector.register(other, selectors.EVENT_READ, "other")
    for far in (cold_far, other_far, hot_far):
        far.send(b"x")
    rest = selector.select(5.0)
    order += sorted(key.data for key, _ in rest)
    assert order == ["hot b'x'", "cold", "other"]


def test_every_hot_descriptor_is_served(
    selector: HotSelector, pairs: list[tuple[socket.socket, socket.socket]]
) -> None:
    served: set[int] = set()
    for n, (near, far) in enumerate(pairs):
        selector.register_hot(near, lambda n=n: served.add(n))  # type: ignore[misc] # binds the loop's value
        far.send(b"x")
    assert selector.select(5.0) == []
    assert served == {0, 1, 2}


def test_without_hot_descriptors_it_is_a_selector(
    selector: HotSelector, pairs: list[tuple[socket.socket, socket.socket]]
) -> None:
    near, far = pairs[0]
    selector.register(near, selectors.EVENT_READ, "near")
    assert selector.select(0) == []
    far.send(b"x")
    assert [key.data for key, _ in selector.select(5.0)] == ["near"]


def test_unregistering_is_final_and_may_be_repeated(
    selector: HotSelector, pairs: list[tuple[socket.socket, socket.socket]]
) -> None:
    near, far = pairs[0]
    selector.register_hot(near, lambda: pytest.fail("served after the end"))
    selector.unregister_hot(near)
    selector.unregister_hot(near)
    far.send(b"x")
    assert selector.select(0) == []
    near.close()
    selector.unregister_hot(near)


def test_a_hot_callback_may_end_its_own_service_and_others(
    selector: HotSelector, pairs: list[tuple[socket.socket, socket.socket]]
) -> None:
    calls: list[int] = []

    def end_all() -> None:
        calls.append(1)
        for near, _ in pairs:
            selector.unregister_hot(near)

    for near, far in pairs:
        selector.register_hot(near, end_all)
        far.send(b"x")
    selector.select(5.0)
    assert calls == [1]


def test_an_error_in_a_hot_callback_leaves_the_selector(
    selector: HotSelector, pairs: list[tuple[socket.socket, socket.socket]]
) -> None:
    # It ends the process, and the keeper cuts.
    near, far = pairs[0]

    def fail() -> None:
        raise ZeroDivisionError

    selector.register_hot(near, fail)
    far.send(b"x")
    with pytest.raises(ZeroDivisionError):
        selector.select(5.0)


def test_asyncio_runs_the_rest_of_its_life_on_it(pairs: list[tuple[socket.socket, socket.socket]]) -> None:
    (cold, cold_far), (hot, hot_far), _ = pairs
    selector = HotSelector()
    order: list[str] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        done: asyncio.Future[None] = loop.create_future()

        def on_cold() -> None:
            order.append("cold")
            loop.remove_reader(cold)
            done.set_result(None)

        def on_hot() -> None:
            hot.recv(9)
            order.append("hot")
            loop.call_soon(order.append, "what hot left for later")

        loop.add_reader(cold, on_cold)
        selector.register_hot(hot, on_hot)
        cold_far.send(b"x")
        hot_far.send(b"x")
        await done
        await asyncio.sleep(0)
        selector.unregister_hot(hot)

    with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(selector)) as runner:
        runner.run(main())
    # The loop hands its readers on only after the poll, in the same turn.
    assert order[0] == "hot"
    assert sorted(order[1:]) == ["cold", "what hot left for later"]


def test_an_error_in_a_hot_callback_ends_the_loop(pairs: list[tuple[socket.socket, socket.socket]]) -> None:
    (hot, far), _, _ = pairs
    selector = HotSelector()

    def fail() -> None:
        selector.unregister_hot(hot)
        raise ZeroDivisionError

    async def main() -> None:
        selector.register_hot(hot, fail)
        far.send(b"x")
        await asyncio.get_running_loop().create_future()

    with (
        asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(selector)) as runner,
        pytest.raises(ZeroDivisionError),
    ):
        runner.run(main())
