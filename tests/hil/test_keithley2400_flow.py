"""Pushing faster than the emulated 2400 executes: lost without flow control, not with it. And XON/XOFF both ways."""

from __future__ import annotations

import pytest

from hil.devices.keithley2400 import Keithley2400
from hil.devices.keithley2400.desk import Desk, DeskLoad
from hil.devices.keithley2400.flow import XOFF, XON, Flow
from hil.line.memory import MemoryLine
from hil.virtual import VirtualClock, run_virtual

MS = 1_000_000
COMMANDS = [b":SOUR:VOLT %d.%03d\n" % (n // 1000, n % 1000) for n in range(1, 301)]
"""300 levels, 7 ms each: at 17 bytes a message 57600 baud carries one in 3 ms, 9600 one in 18 ms."""
QUERIES = [b"*ESE %d;*ESE?\n" % (n % 256) for n in range(300)]
"""2 ms each, for 14 bytes that 9600 baud carries in 15 ms and 57600 in 2.4 ms."""

BEHIND = b":FORM:ELEM CURR;:TRIG:COUN 60;:READ?\n"
"""60 readings at 1 line cycle with autozero: 3.7 s, in which even 9600 baud carries 3.5 KB."""


class Client:
    """A program that writes as fast as its port takes bytes, with the serial driver it has."""

    def __init__(self, clock: VirtualClock, line: MemoryLine, *, obeys: bool) -> None:
        self.clock = clock
        self.line = line
        self.obeys = obeys
        self.stopped = False
        self.got = b""
        self.flow_bytes: list[bytes] = []
        line.transport.on_readable(self._take)

    def _take(self) -> None:
        for byte in self.line.transport.read():
            one = bytes([byte])
            if one in (XON, XOFF):
                self.flow_bytes.append(one)
                self.stopped = self.obeys and one == XOFF
            else:
                self.got += one

    async def push(self, data: bytes) -> None:
        """Hand bytes to the wire, one at a time, as a UART without a FIFO does."""
        for byte in data:
            while self.stopped or self.line.transport.unsent() > 0:
                await self.clock.sleep_until(self.clock.now_ns() + 5_000_000_000 // self.line.baud)
            self.line.transport.write(bytes([byte]))

    async def quiet(self, device: Keithley2400) -> None:
        """Wait until everything is executed and told."""
        told = -1
        while device.busy or self.line.transport.unsent() > 0 or len(self.got) > told:
            told = len(self.got)
            await self.clock.sleep_until(self.clock.now_ns() + 50 * MS)


def pushed(
    baud: int, flow: Flow, data: bytes, *, obeys: bool, size: int = 1024
) -> tuple[Keithley2400, Client, DeskLoad]:
    """Let a client push ``data`` at a unit; return the unit, the client and the load at the end."""
    load = DeskLoad(1e6)
    device = Keithley2400(load, flow=flow, baud=baud, input_buffer=size)

    async def main(clock: VirtualClock) -> Client:
        client = Client(clock, MemoryLine(device, clock, baud, chunk="byte"), obeys=obeys)
        await client.push(b":OUTP ON\n" + data)
        await client.quiet(device)
        return client

    return device, run_virtual(main), load


def test_without_flow_control_a_client_that_pushes_at_57600_loses_data() -> None:
    device, client, load = pushed(57600, Flow.NONE, b"".join(COMMANDS), obeys=False)
    assert -363 in device.error_queue
    # The first levels fit the queue; the last are among the lost, or stuck together into something else.
    levels = {round(source.v_set, 3) for source in load.sources}
    assert 0.001 in levels
    assert 60 < len(levels) < 299
    assert client.flow_bytes == []


def test_at_9600_the_wire_is_slower_than_levels_and_nothing_is_lost() -> None:
    device, _, load = pushed(9600, Flow.NONE, b"".join(COMMANDS), obeys=False)
    assert device.error_queue == ()
    assert [round(source.v_set, 3) for source in load.sources][-300:] == [n / 1000 for n in range(1, 301)]


@pytest.mark.parametrize("baud", [9600, 57600])
def test_behind_a_long_measurement_data_is_lost_at_any_rate(baud: int) -> None:
    slow = BEHIND + b"".join(QUERIES)
    device, client, _ = pushed(baud, Flow.NONE, slow, obeys=False)
    assert -363 in device.error_queue
    assert 1 < client.got.count(b"\r") < 301


@pytest.mark.parametrize("baud", [9600, 57600])
@pytest.mark.parametrize("slow", [b"", BEHIND], ids=["pushing", "behind a measurement"])
def test_with_xon_xoff_nothing_is_lost(baud: int, slow: bytes) -> None:
    device, client, _ = pushed(baud, Flow.XON_XOFF, slow + b"".join(QUERIES), obeys=True)
    assert device.error_queue == ()
    replies = client.got.split(b"\r")[:-1]
    assert replies[-300:] == [b"%d" % (n % 256) for n in range(300)]
    if slow:
        assert client.flow_bytes[:2] == [XOFF, XON]
    assert client.flow_bytes == [XOFF, XON] * (len(client.flow_bytes) // 2)


def test_with_xon_xoff_levels_pushed_at_57600_all_arrive() -> None:
    device, client, load = pushed(57600, Flow.XON_XOFF, b"".join(COMMANDS), obeys=True)
    assert device.error_queue == ()
    assert [round(source.v_set, 3) for source in load.sources][-300:] == [n / 1000 for n in range(1, 301)]
    assert client.flow_bytes[:2] == [XOFF, XON]


def test_a_client_that_does_not_obey_loses_data_all_the_same() -> None:
    device, client, _ = pushed(57600, Flow.XON_XOFF, b"".join(COMMANDS), obeys=False)
    assert -363 in device.error_queue
    assert XOFF in client.flow_bytes


def test_xoff_comes_above_three_quarters_and_xon_below_half() -> None:
    desk = Desk(flow=Flow.XON_XOFF, input_buffer=100)
    desk.write("*OPC?")
    for _ in range(7):
        desk.write(":OUTP OFF")  # 10 bytes with its terminator
    desk.write(b"*ESE ")
    assert desk.unit.queued_bytes == 75
    assert desk.wire.sent == []
    desk.write(b"1")
    assert [data for _, data in desk.wire.sent] == [XOFF]
    desk.settle()
    assert [data for _, data in desk.wire.sent] == [XOFF, b"1\r", XON]
    # 76 bytes waited; below 50 are left when the third :OUTP OFF leaves the queue, after *OPC? and two others.
    assert desk.wire.sent[2][0] == (1 + 2 * 7) * MS


def test_the_flow_characters_jump_the_queue_of_replies() -> None:
    load = DeskLoad(1e6)
    device = Keithley2400(load, flow=Flow.XON_XOFF, baud=9600, input_buffer=40)

    async def main(clock: VirtualClock) -> Client:
        client = Client(clock, MemoryLine(device, clock, 9600, chunk="byte"), obeys=False)
        await client.push(b"*IDN?;*IDN?;*IDN?\n")  # 246 bytes: 256 ms
        await client.push(b":SOUR:VOLT 1" + b";VOLT 2" * 8 + b"\n" + b"*CLS;" * 6 + b"*CLS")
        await clock.sleep_until(clock.now_ns() + 4 * MS)
        early = len(client.got)
        assert client.flow_bytes == [XOFF], "told while the reply was still going out"
        assert 80 < early < 160
        await client.quiet(device)
        return client

    client = run_virtual(main)
    assert client.got.startswith(b"KEITHLEY INSTRUMENTS INC.,MODEL 2400,1304207,C31")
    assert client.got.endswith(b"/R/J\r")
    assert len(client.got) == 246


def test_an_xoff_from_the_client_stops_a_reply_behind_the_byte_under_way() -> None:
    device = Keithley2400(DeskLoad(1e6), flow=Flow.XON_XOFF, baud=9600)

    async def main(clock: VirtualClock) -> None:
        client = Client(clock, MemoryLine(device, clock, 9600, chunk="byte"), obeys=False)
        await client.push(b"*IDN?\n")
        await clock.sleep_until(clock.now_ns() + 20 * MS)
        await client.push(XOFF)
        await clock.sleep_until(clock.now_ns() + 1 * MS)
        now = len(client.got)
        assert 10 < now < 40
        await clock.sleep_until(clock.now_ns() + 500 * MS)
        assert len(client.got) - now <= 2, "the byte under way, and the one while the XOFF arrived"
        await client.push(b"*ESE 7;*ESE?\n")
        await clock.sleep_until(clock.now_ns() + 500 * MS)
        assert client.got.count(b"\r") == 0, "the next reply waits too"
        await client.push(XON)
        await client.quiet(device)
        assert client.got.endswith(b"/R/J\r7\r")

    run_virtual(main)


def test_an_abort_drops_what_an_xoff_keeps_back_and_lifts_no_xoff() -> None:
    desk = Desk(flow=Flow.XON_XOFF)
    desk.write(XOFF)
    desk.tell("*IDN?")
    assert desk.wire.sent == []
    desk.write(b"\x03")
    desk.tell("*OPC?")
    assert desk.wire.sent == []
    desk.write(XON)
    assert [data for _, data in desk.wire.sent] == [b"1\r"]


def test_power_on_forgets_an_xoff() -> None:
    desk = Desk(flow=Flow.XON_XOFF)
    desk.write(XOFF)
    desk.unit.power_cycle(desk.t_ns)
    assert desk.ask("*OPC?") == "1"


def test_an_abort_gives_the_client_its_xon() -> None:
    desk = Desk(flow=Flow.XON_XOFF, input_buffer=16)
    desk.write("*OPC?")
    desk.write("*ESE 1;*ESE?")
    desk.write(b"\x18")
    assert [data for _, data in desk.wire.sent] == [XOFF, XON]


def test_without_flow_control_the_two_are_white_space() -> None:
    desk = Desk()
    assert desk.ask("*ESE\x115\x13;*ESE?") == "5"
    desk.write(XOFF)
    assert desk.ask("*OPC?") == "1"


@pytest.mark.parametrize("flow", list(Flow))
def test_flow_characters_in_a_message_do_not_cut_it(flow: Flow) -> None:
    desk = Desk(flow=flow)
    desk.write(b":SYST\x13\x11:VERS?\r" if flow is Flow.XON_XOFF else b":SYST:VERS?\x13\x11\r")
    desk.settle()
    assert [data for _, data in desk.wire.sent if data not in (XON, XOFF)] == [b"1996.0\r"]
