"""The memory line: line-clock arithmetic, both directions, and every way to break it."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.errors import LinkLostError
from edge.instruments.transport import Transport
from hil.errors import BenchFaultError
from hil.line.memory import MemoryLine
from hil.line.pacing import AT_BYTE, AT_CONTROL, AT_LINE_END, NEVER, Chunk, Pacer
from hil.protocols import Device, Wire
from hil.virtual import START_NS, VirtualClock, run_virtual

BAUD = 57600


def wire_ns(n_bytes: int, baud: int = BAUD) -> int:
    return -(-n_bytes * 10 * 10**9 // baud) if baud else 0


def write(line: MemoryLine, data: bytes) -> None:
    assert line.transport.write(data) == len(data)


class Echo:
    """Answers each line ``X`` with ``<X>\\r`` after a fixed time; 0x18 discards what is pending."""

    def __init__(self, think_ns: int = 1_000_000) -> None:
        self.think_ns = think_ns
        self.got: list[tuple[int, bytes]] = []
        self.did: list[int] = []
        self.pending: list[tuple[int, bytes]] = []
        self.buffer = b""
        self.wire: Wire | None = None

    def attach(self, wire: Wire) -> None:
        self.wire = wire

    def receive(self, t_ns: int, data: bytes) -> None:
        self.got.append((t_ns, data))
        self.buffer += data
        if b"\x18" in data:
            self.buffer = b""
            self.pending.clear()
            assert self.wire is not None
            self.wire.discard(t_ns)
        while b"\n" in self.buffer:
            line, _, self.buffer = self.buffer.partition(b"\n")
            self.pending.append((t_ns + self.think_ns, line))

    def next_event_ns(self) -> int | None:
        return self.pending[0][0] if self.pending else None

    def advance(self, t_ns: int) -> None:
        assert self.wire is not None
        while self.pending and self.pending[0][0] <= t_ns:
            due, line = self.pending.pop(0)
            self.did.append(due)
            self.wire.send(due, b"<" + line + b">\r")


def run_line(
    steps: Callable[[VirtualClock, MemoryLine, list[tuple[int, bytes]]], Any],
    device: Device | None = None,
    baud: int = BAUD,
    chunk: Chunk = "line",
) -> list[tuple[int, bytes]]:
    """Run ``steps`` and return what the reader got, with times since the start."""
    seen: list[tuple[int, bytes]] = []

    async def main(clock: VirtualClock) -> None:
        line = MemoryLine(device or Echo(), clock, baud, chunk=chunk)
        transport = line.transport
        transport.on_readable(lambda: seen.append((clock.now_ns() - START_NS, transport.read())))
        result = steps(clock, line, seen)
        if asyncio.iscoroutine(result):
            await result
        await clock.sleep_until(START_NS + 10**10)

    run_virtual(main)
    return seen


# --- Pacer -----------------------------------------------------------------------------------------------------------


@given(
    baud=st.sampled_from([0, 300, 9600, 57600, 115200, 1_000_003]),
    gaps=st.lists(st.tuples(st.integers(0, 10**7), st.binary(min_size=1, max_size=20)), min_size=1, max_size=10),
)
def test_bytes_start_when_handed_over_or_when_the_line_is_free(baud: int, gaps: list[tuple[int, bytes]]) -> None:
    pacer = Pacer(baud, AT_BYTE)
    t, expected, exact_free = 0, [], 0.0
    for gap, data in gaps:
        t += gap
        pacer.push(t, data)
        for byte in data:
            exact_free = max(exact_free, t) + (1e10 / baud if baud else 0)
            expected.append((exact_free, bytes([byte])))
    got = []
    while pacer.next_ns != NEVER:
        due = pacer.next_ns
        got.append((due, pacer.pop()))
    assert [data for _, data in got] == [data for _, data in expected]
    for (due, _), (exact, _) in zip(got, expected, strict=True):
        assert exact - 1e-2 <= due <= exact + 1 + 1e-2  # never early, late by rounding only


@given(
    data=st.binary(min_size=1, max_size=60),
    at=st.integers(-10, 61 * 173_612),
    runs=st.sampled_from([AT_BYTE, AT_CONTROL, AT_LINE_END]),
)
def test_discard_keeps_exactly_the_bytes_that_had_started(data: bytes, at: int, runs: re.Pattern[bytes]) -> None:
    pacer = Pacer(BAUD, runs)
    pacer.push(0, data)
    started = sum(1 for k in range(len(data)) if wire_ns(k) <= at)
    assert pacer.unstarted(at) == len(data) - started
    assert pacer.discard(at) == data[started:]
    assert pacer.unstarted(at) == 0
    assert pacer.free_ns == (wire_ns(started) if started else at)
    out = b""
    last = None
    while (due := pacer.next_ns) != NEVER:
        last = due
        out += pacer.pop()
    assert out == data[:started]
    assert last == (wire_ns(started) if started else None)
    # The line goes on from there as if the rest had never been handed over.
    pacer.push(max(at, 0), b"x")
    assert pacer.next_ns == (wire_ns(started + 1) if at <= wire_ns(started) and started else max(at, 0) + wire_ns(1))


def test_rounding_does_not_accumulate() -> None:
    pacer = Pacer(57600, AT_BYTE)
    for _ in range(57600):
        pacer.push(0, b"x")
    assert pacer.free_ns == 10 * 10**9


def test_a_negative_baud_is_refused() -> None:
    with pytest.raises(ValueError, match="baud -1: want a positive rate"):
        Pacer(-1, AT_BYTE)


# --- MemoryLine ------------------------------------------------------------------------------------------------------


def test_the_transport_is_a_transport() -> None:
    line = MemoryLine(Echo(), VirtualClock(), name="bench")
    assert isinstance(line.transport, Transport)
    assert (line.transport.name, line.transport.emulated, line.transport.baud) == ("bench", True, BAUD)


@pytest.mark.parametrize("baud", [0, 300, 9600, 57600])
def test_one_exchange_takes_exactly_its_line_times(baud: int) -> None:
    device = Echo()
    seen = run_line(lambda _clock, line, _seen: line.transport.write(b"*IDN?\n"), device, baud)
    arrived = START_NS + wire_ns(6, baud)
    assert device.got == [(arrived, b"*IDN?\n")]
    assert device.did == [arrived + 1_000_000]
    assert seen == [(wire_ns(6, baud) + 1_000_000 + wire_ns(8, baud), b"<*IDN?>\r")]


def test_byte_chunks_arrive_one_by_one_at_their_times() -> None:
    seen = run_line(lambda _clock, line, _seen: line.transport.write(b"ab\n"), chunk="byte")
    begin = wire_ns(3) + 1_000_000
    assert seen == [(begin + wire_ns(k + 1), bytes([byte])) for k, byte in enumerate(b"<ab>\r")]


def test_fifo_chunks_hold_eight_bytes_or_the_end_of_the_line() -> None:
    seen = run_line(lambda _clock, line, _seen: line.transport.write(b"0123456789abcd\n"), chunk="fifo")
    begin = wire_ns(15) + 1_000_000
    assert seen == [(begin + wire_ns(8), b"<0123456"), (begin + wire_ns(16), b"789abcd>"), (begin + wire_ns(17), b"\r")]


def test_a_two_byte_terminator_is_one_arrival() -> None:
    class Crlf(Echo):
        def advance(self, t_ns: int) -> None:
            assert self.wire is not None
            self.pending.clear()
            self.wire.send(t_ns, b"one\r\ntwo\r\nrest")

    seen = run_line(lambda _clock, line, _seen: line.transport.write(b"\n"), Crlf())
    assert [data for _, data in seen] == [b"one\r\n", b"two\r\n", b"rest"]


def test_an_abort_is_received_at_its_own_time_among_what_follows() -> None:
    device = Echo()
    run_line(lambda _clock, line, _seen: line.transport.write(b":READ?\n\x18\n:OUTP OFF\n"), device)
    assert device.got == [
        (START_NS + wire_ns(7), b":READ?\n"),
        (START_NS + wire_ns(8), b"\x18"),
        (START_NS + wire_ns(9), b"\n"),
        (START_NS + wire_ns(19), b":OUTP OFF\n"),
    ]


def test_bytes_without_a_terminator_still_arrive() -> None:
    device = Echo()

    def steps(clock: VirtualClock, line: MemoryLine, _seen: object) -> None:
        line.transport.write(b":OUTP ")
        clock.call_at(START_NS + 10**8, lambda: write(line, b"OFF\n"))

    run_line(steps, device)
    assert device.got == [
        (START_NS + wire_ns(6), b":OUTP "),
        (START_NS + 10**8 + wire_ns(4), b"OFF\n"),
    ]


def test_an_abort_discards_the_reply_but_for_the_byte_on_the_wire() -> None:
    reply_begins = wire_ns(11) + 1_000_000

    def steps(clock: VirtualClock, line: MemoryLine, _seen: object) -> None:
        line.transport.write(b"0123456789\n")
        # The abort is complete in the middle of the reply's third byte.
        abort_done = reply_begins + wire_ns(2) + 50_000
        clock.call_at(START_NS + abort_done - wire_ns(1), lambda: write(line, b"\x18"))

    assert run_line(steps) == [(reply_begins + wire_ns(3), b"<01")]


def test_unsent_counts_what_has_no_start_bit_yet() -> None:
    async def steps(clock: VirtualClock, line: MemoryLine, _seen: object) -> None:
        assert line.transport.unsent() == 0
        line.transport.write(b"0123456789\n")
        assert line.transport.unsent() == 10
        await clock.sleep_until(START_NS + wire_ns(3) - 1)
        assert line.transport.unsent() == 8
        await clock.sleep_until(START_NS + wire_ns(3))
        assert line.transport.unsent() == 7
        await clock.sleep_until(START_NS + wire_ns(10))
        assert line.transport.unsent() == 0

    run_line(steps)


def test_a_callback_may_write_and_both_directions_overlap() -> None:
    device = Echo(think_ns=0)
    answers: list[bytes] = []

    async def main(clock: VirtualClock) -> int:
        line = MemoryLine(device, clock)
        done = asyncio.get_running_loop().create_future()

        def on_readable() -> None:
            answers.append(line.transport.read())
            if len(answers) == 3:
                done.set_result(None)
            elif len(answers) == 1:
                line.transport.write(b"third\n")

        line.transport.on_readable(on_readable)
        line.transport.write(b"first\nsecond\n")
        await done
        return clock.now_ns() - START_NS

    # "third" goes out while the answer to "second" comes in: its answer queues behind that one.
    first_out = wire_ns(6) + wire_ns(8)
    second_out = max(wire_ns(13), first_out) + wire_ns(9)
    expected = max(second_out, first_out + wire_ns(6)) + wire_ns(8)
    assert abs(run_virtual(main) - expected) <= 2
    assert answers == [b"<first>\r", b"<second>\r", b"<third>\r"]


@pytest.mark.parametrize("cut", range(12))
def test_the_stream_can_be_cut_at_any_byte(cut: int) -> None:
    device = Echo()

    def steps(_clock: VirtualClock, line: MemoryLine, _seen: object) -> None:
        line.transport.write(b"before\n")
        line.limit_next_writes(cut)
        assert line.transport.write(b"one\n") == 4
        assert line.transport.write(b"two\nmore\n") == 9

    run_line(steps, device)
    assert b"".join(data for _, data in device.got) == b"before\n" + b"one\ntwo\nmore\n"[:cut]


def test_limit_none_mends_the_cable() -> None:
    device = Echo()

    def steps(_clock: VirtualClock, line: MemoryLine, _seen: object) -> None:
        line.limit_next_writes(0)
        line.transport.write(b"lost\n")
        line.limit_next_writes(None)
        line.transport.write(b"kept\n")

    assert [data for _, data in run_line(steps, device)] == [b"<kept>\r"]


def test_tamper_sees_every_write_by_number() -> None:
    device = Echo()
    calls: list[tuple[int, bytes]] = []

    def hook(n: int, data: bytes) -> bytes:
        calls.append((n, data))
        return data[:3] if n == 1 else data

    def steps(_clock: VirtualClock, line: MemoryLine, _seen: object) -> None:
        line.tamper(hook)
        for message in (b"zero\n", b"one 1\n", b"two\n"):
            assert line.transport.write(message) == len(message)
        line.tamper(None)
        line.transport.write(b"three\n")

    run_line(steps, device)
    assert calls == [(0, b"zero\n"), (1, b"one 1\n"), (2, b"two\n")]
    assert b"".join(data for _, data in device.got) == b"zero\nonetwo\nthree\n"


def test_short_writes_take_only_so_much() -> None:
    device = Echo()

    def steps(_clock: VirtualClock, line: MemoryLine, _seen: object) -> None:
        line.short_writes(2)
        assert line.transport.write(b"abcd") == 2
        line.short_writes(0)
        assert line.transport.write(b"cd") == 0
        line.short_writes(None)
        assert line.transport.write(b"cd\n") == 3

    run_line(steps, device)
    assert b"".join(data for _, data in device.got) == b"abcd\n"


def test_unplug_loses_the_link_and_what_is_in_flight_but_the_device_lives_on() -> None:
    device = Echo()
    lost: list[int] = []

    async def main(clock: VirtualClock) -> None:
        line = MemoryLine(device, clock)
        transport = line.transport

        def on_readable() -> None:
            with pytest.raises(LinkLostError, match=r"memory: link is gone \(unplugged\)"):
                transport.read()
            lost.append(clock.now_ns() - START_NS)

        transport.on_readable(on_readable)
        transport.write(b"first\nsecond\n")
        await clock.sleep_until(START_NS + wire_ns(8))
        line.unplug()
        line.unplug()
        for call in (transport.read, transport.unsent, lambda: transport.write(b"x")):
            with pytest.raises(LinkLostError):
                call()
        with pytest.raises(LinkLostError):
            transport.on_readable(on_readable)
        transport.on_readable(None)  # to let go is always allowed
        await clock.sleep_until(START_NS + 10**9)
        # The answer to "first" went nowhere; a new plug finds the device as it is.
        assert device.did == [START_NS + wire_ns(6) + 1_000_000]
        fresh = line.replug()
        fresh.write(b"third\n")
        await clock.sleep_until(START_NS + 2 * 10**9)
        assert fresh.read() == b"<third>\r"
        with pytest.raises(LinkLostError):
            transport.read()

    run_virtual(main)
    assert [data for _, data in device.got] == [b"first\n", b"third\n"]
    assert lost == [wire_ns(8)]


def test_close_lets_go_but_what_was_accepted_goes_out() -> None:
    device = Echo()

    def steps(_clock: VirtualClock, line: MemoryLine, _seen: object) -> None:
        line.transport.write(b":OUTP OFF\n")
        line.transport.close()
        with pytest.raises(LinkLostError, match="closed by this side"):
            line.transport.write(b"x")
        line.transport.close()

    assert run_line(steps, device) == []
    assert device.got == [(START_NS + wire_ns(10), b":OUTP OFF\n")]


def test_read_gives_at_most_4096_bytes_and_calls_again_for_the_rest() -> None:
    class Flood(Echo):
        def advance(self, t_ns: int) -> None:
            assert self.wire is not None
            self.pending.clear()
            self.wire.send(t_ns, b"x" * 10_000 + b"\r")

    seen = run_line(lambda _clock, line, _seen: line.transport.write(b"\n"), Flood())
    assert [len(data) for _, data in seen] == [4096, 4096, 1809]
    assert len({t for t, _ in seen}) == 1


def test_a_late_reader_is_told_what_has_arrived() -> None:
    async def main(clock: VirtualClock) -> bytes:
        line = MemoryLine(Echo(), clock)
        line.transport.write(b"hi\n")
        await clock.sleep_until(START_NS + 10**9)
        told = asyncio.get_running_loop().create_future()
        line.transport.on_readable(lambda: told.set_result(line.transport.read()))
        got: bytes = await told
        assert line.transport.read() == b""
        return got

    assert run_virtual(main) == b"<hi>\r"


def test_a_device_changed_behind_the_line_needs_a_poke() -> None:
    device = Echo()

    def steps(_clock: VirtualClock, line: MemoryLine, _seen: object) -> None:
        device.pending.append((START_NS + 77, b"key"))
        line.poke()

    assert run_line(steps, device) == [(77 + wire_ns(6), b"<key>\r")]


def test_a_device_that_never_moves_on_is_named() -> None:
    class Stuck(Echo):
        def next_event_ns(self) -> int | None:
            return START_NS

        def advance(self, t_ns: int) -> None: ...

    with pytest.raises(BenchFaultError, match="Stuck asks for time"):
        run_line(lambda _clock, line, _seen: line.transport.write(b"x"), Stuck())


def test_an_exception_in_the_reader_ends_the_run() -> None:
    def bad() -> None:
        raise KeyError("reader")

    def steps(_clock: VirtualClock, line: MemoryLine, _seen: object) -> None:
        line.transport.on_readable(bad)
        write(line, b"x\n")

    with pytest.raises(KeyError, match="reader"):
        run_line(steps)


@given(writes=st.lists(st.tuples(st.integers(0, 3_000_000), st.binary(max_size=12)), max_size=12))
def test_every_byte_arrives_once_in_order_and_never_early(writes: list[tuple[int, bytes]]) -> None:
    device = Echo()
    sent: list[tuple[int, int]] = []

    async def steps(clock: VirtualClock, line: MemoryLine, _seen: object) -> None:
        for gap, data in writes:
            await clock.sleep_until(clock.now_ns() + gap)
            sent.extend((clock.now_ns(), byte) for byte in data)
            assert line.transport.write(data) == len(data)

    run_line(steps, device)
    got = [(t, byte) for t, data in device.got for byte in data]
    assert [byte for _, byte in got] == [byte for _, byte in sent]
    assert all(t_got >= t_sent + wire_ns(1) for (t_got, _), (t_sent, _) in zip(got, sent, strict=True))
    assert [t for t, _ in device.got] == sorted(t for t, _ in device.got)
