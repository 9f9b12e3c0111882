"""Several lines on one clock: what happens on any of them happens in the order of its time."""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hil.errors import BenchFaultError
from hil.line.duplex import Duplex, run_in_order
from hil.line.pacing import NEVER
from hil.line.pty import PtyLine, run_lines
from hil.protocols import Wire

Log = list[tuple[int, str]]


class Noted:
    """Answers each line after ``think_ns``, and notes in a log that it shares with others when it did something."""

    def __init__(self, name: str, log: Log, think_ns: int, wakes_ns: tuple[int, ...] = ()) -> None:
        self.name = name
        self.log = log
        self.think_ns = think_ns
        self.due_ns = sorted(wakes_ns)
        self.wire: Wire | None = None

    def attach(self, wire: Wire) -> None:
        self.wire = wire

    def receive(self, t_ns: int, data: bytes) -> None:
        self.log.append((t_ns, f"{self.name} got {data!r}"))
        if data.endswith(b"\n"):
            self.due_ns = sorted([*self.due_ns, t_ns + self.think_ns])

    def next_event_ns(self) -> int | None:
        return self.due_ns[0] if self.due_ns else None

    def advance(self, t_ns: int) -> None:
        assert self.wire is not None
        while self.due_ns and self.due_ns[0] <= t_ns:
            due_ns = self.due_ns.pop(0)
            self.log.append((due_ns, f"{self.name} acts"))
            self.wire.send(due_ns, b"done\r")


times = st.integers(0, 5_000_000)
messages = st.lists(
    st.tuples(times, st.integers(0, 2), st.sampled_from([b"x\n", b"more of it\n", b"\x18"])), max_size=8
)


def lived(
    sent: list[tuple[int, int, bytes]],
    wakes: list[tuple[int, ...]],
    bauds: list[int],
    looks: list[int],
) -> Log:
    """Return what three devices note when they are looked after at ``looks``; bytes are heard at the next look."""
    log: Log = []

    def duplex(number: int) -> Duplex:
        name = f"device {number}"
        device = Noted(name, log, 100_000 * (number + 1), wakes[number])
        return Duplex(device, bauds[number], "fifo", lambda t_ns, _: log.append((t_ns, f"{name} is heard")))

    duplexes = [duplex(number) for number in range(3)]
    for look_ns in [*looks, 1_000_000_000]:
        next_ns = run_in_order(duplexes, look_ns)
        assert next_ns == min(one.next_ns() for one in duplexes) > look_ns
        for at_ns, number, data in sent:
            if at_ns == look_ns:
                duplexes[number].to_device.push(at_ns, data)
    assert run_in_order(duplexes, 2_000_000_000) == NEVER
    return log


@given(
    sent=messages,
    wakes=st.lists(st.lists(times, max_size=5).map(tuple), min_size=3, max_size=3),
    bauds=st.lists(st.sampled_from([0, 9600, 57600, 460800]), min_size=3, max_size=3),
    looks=st.lists(times, max_size=20),
)
def test_whatever_is_due_happens_in_the_order_of_its_time(
    sent: list[tuple[int, int, bytes]], wakes: list[tuple[int, ...]], bauds: list[int], looks: list[int]
) -> None:
    needed = {at_ns for at_ns, _, _ in sent}
    log = lived(sent, wakes, bauds, sorted(needed | set(looks)))
    assert [t_ns for t_ns, _ in log] == sorted(t_ns for t_ns, _ in log)
    assert sum("acts" in what for _, what in log) == sum(map(len, wakes)) + sum(d.endswith(b"\n") for _, _, d in sent)
    # How often anybody looks changes nothing but the order at one and the same nanosecond.
    assert sorted(log) == sorted(lived(sent, wakes, bauds, sorted(needed)))


def test_at_the_same_nanosecond_the_first_goes_first() -> None:
    log: Log = []
    duplexes = [Duplex(Noted(name, log, 0, (5, 7)), 0, "line", lambda *_: None) for name in "ab"]
    assert run_in_order(duplexes, 6) == 7
    assert log == [(5, "a acts"), (5, "b acts")]


def test_a_device_that_does_not_move_on_is_found_beside_others() -> None:
    class Stuck(Noted):
        def advance(self, t_ns: int) -> None:
            pass

    duplexes = [
        Duplex(device, 0, "line", lambda *_: None)
        for device in (Noted("good", [], 0, tuple(range(100))), Stuck("bad", [], 0, (50,)))
    ]
    with pytest.raises(BenchFaultError, match="Stuck asks for time 50 ns again and again"):
        run_in_order(duplexes, 1000)


# --- On pseudo-terminals ---------------------------------------------------------------------------------------------


@contextmanager
def serving(lines: list[PtyLine]) -> Iterator[None]:
    stop_r, stop_w = os.pipe()
    thread = threading.Thread(target=run_lines, args=(lines, stop_r))
    thread.start()
    try:
        yield
    finally:
        os.write(stop_w, b"x")
        thread.join(10)
        assert not thread.is_alive()
        os.close(stop_r)
        os.close(stop_w)


def exchange(fd: int, count: int, replies: list[bytes]) -> None:
    got = b""
    for _ in range(count):
        os.write(fd, b"a message of some length\n")
        # Blocks until there is an answer: one that never comes is a test that never ends, which the join finds.
        while got.count(b"\r") <= len(replies):
            got += os.read(fd, 4096)
        replies.append(got)


@pytest.mark.realtime
def test_two_busy_lines_share_one_order(tmp_path: Path) -> None:
    log: Log = []
    with ExitStack() as stack:
        lines = [
            stack.enter_context(PtyLine(Noted(name, log, think_ns), tmp_path / name, baud))
            for name, think_ns, baud in (("smu", 1_000_000, 57600), ("stage", 300_000, 115200))
        ]
        stack.enter_context(serving(lines))
        counts = (40, 100)
        heard: tuple[list[bytes], list[bytes]] = ([], [])
        clients: list[threading.Thread] = []
        for line, count, replies in zip(lines, counts, heard, strict=True):
            fd = os.open(line.link_path, os.O_RDWR | os.O_NOCTTY)
            stack.callback(os.close, fd)
            clients.append(threading.Thread(target=exchange, args=(fd, count, replies), daemon=True))
        for client in clients:
            client.start()
        for client in clients:
            client.join(20)
            assert not client.is_alive()
    assert tuple(map(len, heard)) == counts
    assert [t_ns for t_ns, _ in log] == sorted(t_ns for t_ns, _ in log)
    owners = [what.split()[0] for _, what in log]
    # They really were busy at the same time.
    assert sum(a != b for a, b in itertools.pairwise(owners)) > 40


@pytest.mark.realtime
def test_a_client_that_leaves_one_line_does_not_disturb_the_other(tmp_path: Path) -> None:
    log: Log = []
    with ExitStack() as stack:
        lines = [stack.enter_context(PtyLine(Noted(name, log, 0), tmp_path / name, 0)) for name in ("smu", "stage")]
        stack.enter_context(serving(lines))
        smu = os.open(tmp_path / "smu", os.O_RDWR | os.O_NOCTTY)
        stack.callback(os.close, smu)
        for visit in range(3):
            stage = os.open(tmp_path / "stage", os.O_RDWR | os.O_NOCTTY)
            os.write(stage, b"and gone\n")
            os.close(stage)
            replies: list[bytes] = []
            exchange(smu, 1, replies)
            assert replies[0].endswith(b"done\r"), visit
