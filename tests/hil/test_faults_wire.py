"""Each kind of fault on the wire, seen at the other end of a line in memory: exact bytes, exact times."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.errors import LinkLostError
from hil.devices.keithley2400 import Keithley2400
from hil.faults.injector import Applied, Injector
from hil.faults.kinds import KINDS
from hil.faults.plan import parse_plan
from hil.line.memory import MemoryLine, MemoryTransport
from hil.twin.ohmic import OhmicLoad
from hil.virtual import VirtualClock, run_virtual

MS = 1_000_000
COUNT = 8
CLEAN = [b"%d;1996.0\r" % (10 + n) for n in range(COUNT)]


class Noted(Keithley2400):
    """Keeps what reaches it."""

    def __init__(self, load: OhmicLoad) -> None:
        super().__init__(load)
        self.heard: list[tuple[int, bytes]] = []

    def receive(self, t_ns: int, data: bytes) -> None:
        self.heard.append((t_ns, data))
        super().receive(t_ns, data)


@dataclass
class Seen:
    """What came of a conversation; times in ns since it was armed."""

    injector: Injector
    got: list[tuple[int, bytes]] = field(default_factory=list)
    heard: list[tuple[int, bytes]] = field(default_factory=list)
    lost: str = ""
    replugged: bool = False

    @property
    def text(self) -> bytes:
        return b"".join(data for _, data in self.got)

    @property
    def says(self) -> bytes:
        return b"".join(data for _, data in self.heard)

    def arrival(self, data: bytes) -> int:
        """When the bytes were complete."""
        so_far = b""
        for t_ns, piece in self.got:
            so_far += piece
            if data in so_far:
                return t_ns
        raise AssertionError(data)


def message(n: int) -> bytes:
    return b"*ESE %d;*ESE?;:SYST:VERS?\n" % (10 + n)


def talk(
    *faults: str,
    seed: int = 0,
    baud: int = 57600,
    count: int = COUNT,
    gap_ms: float = 20.0,
    at: dict[int, Callable[[Injector, MemoryLine, int], object]] | None = None,
    wait_ms: float = 600.0,
) -> Seen:
    """Ask ``count`` questions, whatever comes; ``at`` does something behind the n-th."""
    plan = parse_plan(f"seed = {seed}\n" + "\n".join(f"[[fault]]\n{fault}" for fault in faults))
    seen = Seen(Injector(plan))

    async def main(clock: VirtualClock) -> None:
        load = OhmicLoad(1e6)
        device = Noted(load)
        line = MemoryLine(device, clock, baud)
        seen.injector.plug_smu(line, device, load)
        device.advance(clock.now_ns())
        seen.injector.arm(clock.now_ns())
        armed_ns = clock.now_ns()

        def listen(transport: MemoryTransport) -> None:
            def take() -> None:
                try:
                    seen.got.append((clock.now_ns() - armed_ns, transport.read()))
                except LinkLostError as error:
                    seen.lost = str(error)

            transport.on_readable(take)

        def again(transport: MemoryTransport) -> None:
            seen.replugged = True
            listen(transport)

        listen(line.transport)
        line.on_plugged = again
        for n in range(count):
            if line.plugged:
                line.transport.write(message(n))
            if at is not None and n in at:
                at[n](seen.injector, line, clock.now_ns())
            await clock.sleep_until(clock.now_ns() + int(gap_ms * MS))
        await clock.sleep_until(clock.now_ns() + int(wait_ms * MS))
        seen.heard = [(t_ns - armed_ns, data) for t_ns, data in device.heard]

    run_virtual(main)
    return seen


def with_third(*instead: bytes) -> bytes:
    """The clean replies with something in place of the third."""
    return b"".join((*CLEAN[:2], *instead, *CLEAN[3:]))


TO_HOST = {
    "drop": ("offset = 0", with_third(b"2;1996.0\r"), "b'1' dropped at byte 20"),
    "flip": ("offset = 1\nbit = 0", with_third(b"13;1996.0\r"), "bit 0 of byte 21: b'2' -> b'3'"),
    "duplicate": ("offset = 0\ncount = 2", with_third(b"1112;1996.0\r"), "b'11' once more at byte 20"),
    "insert": ('data = "\\u0000"', with_third(b"\x0012;1996.0\r"), "b'\\x00' inserted before byte 20"),
    "stall": ("duration_s = 0.1\noffset = 4", with_third(CLEAN[2]), "0.1 s without a byte before 24"),
    "split": ("gap_s = 0.004", with_third(CLEAN[2]), "10 bytes one by one, 4 ms apart"),
    "merge": ("", with_third(CLEAN[2]), "b'12;1996.0\\r' and the next one in one piece"),
    "reorder": ("", b"".join((*CLEAN[:2], CLEAN[3], CLEAN[2], *CLEAN[4:])), "b'12;1996.0\\r' after the next one"),
    "truncate": ("count = 2", with_third(b"12\r"), "b'12;1996.0\\r' cut short to b'12\\r'"),
    "late": ("late_s = 0.1", with_third(CLEAN[2]), "b'12;1996.0\\r' 0.1 s late"),
    "stale": ("", with_third(CLEAN[1]), "b'11;1996.0\\r' again instead of b'12;1996.0\\r'"),
    "double": ("", with_third(CLEAN[2], CLEAN[2]), "b'12;1996.0\\r' twice"),
    "mute": ("times = 1", with_third(), "b'12;1996.0\\r' vanished"),
    "xoff": ("", with_third(b"\x13" + CLEAN[2]), "b'\\x13' inserted before byte 20"),
}


@pytest.mark.parametrize("kind", TO_HOST)
def test_a_reply_is_changed_exactly_where_the_plan_says(kind: str) -> None:
    options, expected, detail = TO_HOST[kind]
    seen = talk(f'kind = "{kind}"\nat_frame = 2\n{options}')
    assert seen.text == expected
    (applied,) = seen.injector.applied
    assert applied.kind == kind
    assert applied.frame == 2
    assert applied.port == "smu"
    assert applied.detail == detail
    assert seen.injector.missed() == ()
    assert applied.line().startswith(f"{kind}-1: applied at t={applied.t_ns} ns byte {applied.byte} frame 2 sample 0")


def test_every_kind_on_the_wire_is_in_a_table_here() -> None:
    assert {name for name, kind in KINDS.items() if kind.group == "wire"} == {*TO_HOST, "unplug", "fifo"}


TO_DEVICE = {
    "drop": ("offset = 0", b"ESE 12;*ESE?;:SYST:VERS?\n"),
    "flip": ("offset = 5\nbit = 0", message(2).replace(b"12", b"02")),
    "duplicate": ("offset = 5", message(2).replace(b"12", b"112")),
    "insert": ('data = "#"\noffset = 6', message(2).replace(b"12", b"1#2")),
    "truncate": ("count = 6", b"*ESE 1\n"),
    "stale": ("age = 2", message(0)),
    "double": ("", message(2) + message(2)),
    "mute": ("times = 1", b""),
    "reorder": ("", None),
    "stall": ("", message(2)),
    "split": ("", message(2)),
    "merge": ("", message(2)),
    "late": ("", message(2)),
}


@pytest.mark.parametrize("kind", TO_DEVICE)
def test_a_message_is_changed_on_its_way_to_the_instrument(kind: str) -> None:
    options, third = TO_DEVICE[kind]
    seen = talk(f'kind = "{kind}"\nto = "device"\nat_frame = 2\n{options}')
    sent = [message(n) for n in range(COUNT)]
    if third is None:
        assert seen.says == b"".join((*sent[:2], sent[3], sent[2], *sent[4:]))
    else:
        assert seen.says == b"".join((*sent[:2], third, *sent[3:]))
    (applied,) = seen.injector.applied
    assert applied.frame == 2


def test_a_stall_is_as_long_as_it_says_and_holds_up_what_follows() -> None:
    clean, stalled = talk(), talk('kind = "stall"\nat_frame = 2\nduration_s = 0.1\noffset = 4')
    late_ns = stalled.arrival(CLEAN[2]) - clean.arrival(CLEAN[2])
    assert 100 * MS <= late_ns < 101 * MS
    begun = [t_ns for t_ns, data in stalled.got if data == b"12;1"]
    assert begun
    assert begun[0] < clean.arrival(CLEAN[2])
    assert stalled.arrival(CLEAN[3]) > stalled.arrival(CLEAN[2])


def test_a_late_reply_is_as_late_as_it_says_and_the_next_ones_wait_behind_it() -> None:
    clean, late = talk(count=10), talk('kind = "late"\nat_frame = 2\nlate_s = 0.1', count=10)
    assert late.arrival(CLEAN[2]) - clean.arrival(CLEAN[2]) == 100 * MS
    assert late.arrival(CLEAN[3]) > late.arrival(CLEAN[2])
    assert late.arrival(b"19;1996.0\r") == clean.arrival(b"19;1996.0\r")


def test_a_split_reply_arrives_byte_by_byte() -> None:
    seen = talk('kind = "split"\nat_frame = 2\ngap_s = 0.004')
    single = [(t_ns, data) for t_ns, data in seen.got if len(data) == 1]
    assert b"".join(data for _, data in single) == CLEAN[2]
    gaps = {later - earlier for (earlier, _), (later, _) in itertools.pairwise(single)}
    assert all(4 * MS < gap < 4.2 * MS for gap in gaps)


def test_merged_replies_are_one_read_without_a_gap() -> None:
    seen = talk('kind = "merge"\nat_frame = 2')
    assert CLEAN[2] + CLEAN[3] in [data for _, data in seen.got]
    notes = [row.note for row in seen.injector.trace if row.note]
    assert notes == ["merge-1: held back until the next one", "merge-1: b'12;1996.0\\r' and the next one in one piece"]


def test_a_doubled_reply_can_come_again_later() -> None:
    seen = talk('kind = "double"\nat_frame = 2\nlate_s = 0.005')
    assert seen.text == with_third(CLEAN[2], CLEAN[2])
    times = [t_ns for t_ns, data in seen.got if data == CLEAN[2]]
    assert times[1] - times[0] > 5 * MS


def test_a_truncated_reply_can_lose_its_terminator_and_run_into_the_next() -> None:
    seen = talk('kind = "truncate"\nat_frame = 2\ncount = 2\nterminator = false')
    assert seen.text == with_third(b"12")


def test_a_stale_reply_can_come_unasked_at_any_time() -> None:
    seen = talk('kind = "stale"\nat_s = 0.055\ninstead = false\nage = 2')
    assert seen.text.count(CLEAN[1]) == 2
    assert b"".join(CLEAN) != seen.text
    (applied,) = seen.injector.applied
    assert applied.detail == "b'11;1996.0\\r' again, unasked"


def test_a_stale_reply_that_nobody_could_tell_from_the_right_one_is_not_applied() -> None:
    same = [message(0)] * COUNT
    seen = talk('kind = "stale"\nat_frame = 2', count=0, at=None, wait_ms=1)
    assert seen.injector.missed() == ("stale-1",)
    plan = parse_plan('[[fault]]\nkind = "stale"\nat_frame = 2')
    injector = Injector(plan)

    async def main(clock: VirtualClock) -> None:
        load = OhmicLoad(1e6)
        device = Keithley2400(load)
        line = MemoryLine(device, clock, 57600)
        injector.plug_smu(line, device, load)
        injector.arm(clock.now_ns())
        for data in same:
            line.transport.write(data)
            await clock.sleep_until(clock.now_ns() + 20 * MS)

    run_virtual(main)
    assert injector.missed() == ("stale-1",)


def test_mute_is_for_good_or_for_a_while() -> None:
    good = talk('kind = "mute"\nat_frame = 2')
    assert good.text == b"".join(CLEAN[:2])
    assert len(good.injector.applied) == 1
    assert [data for _, data in good.heard][-1] == message(COUNT - 1)
    while_ = talk('kind = "mute"\nat_frame = 2\nduration_s = 0.05')
    assert while_.text == b"".join((*CLEAN[:2], *CLEAN[5:]))


def test_unplugged_is_a_lost_link_and_the_instrument_lives_on() -> None:
    seen = talk('kind = "unplug"\nat_byte = 22')
    assert "unplugged" in seen.lost
    assert seen.text == b"".join(CLEAN[:2]) + b"12;"
    (applied,) = seen.injector.applied
    assert (applied.byte, applied.frame) == (22, 2)


def test_plugged_in_again_the_same_instrument_answers_on_a_new_link() -> None:
    seen = talk('kind = "unplug"\nat_s = 0.05\nduration_s = 0.03')
    assert seen.replugged
    assert seen.text == b"".join((*CLEAN[:3], *CLEAN[4:]))


def test_an_xoff_can_be_taken_back() -> None:
    seen = talk('kind = "xoff"\nat_s = 0.05\nduration_s = 0.04')
    assert seen.text.replace(b"\x13", b"").replace(b"\x11", b"") == b"".join(CLEAN)
    assert 89 * MS < seen.arrival(b"\x11") < 92 * MS


def abort(_injector: Injector, line: MemoryLine, _now_ns: int) -> None:
    line.transport.write(b"\x18")


def test_what_an_adapter_has_taken_over_survives_the_abort_and_comes_late() -> None:
    # At 300 baud a reply takes a third of a second: the abort finds it on the wire.
    options: dict[str, Any] = {"baud": 300, "count": 1, "wait_ms": 3000}
    question_ms = (len(message(0)) + 4) * 1000 * 10 / 300

    def talk_at_300(*faults: str) -> Seen:
        return talk(*faults, gap_ms=question_ms, at=None, **options)

    def aborted(*faults: str) -> bytes:
        plan = parse_plan("\n".join(f"[[fault]]\n{fault}" for fault in faults))
        injector = Injector(plan)
        got: list[bytes] = []

        async def main(clock: VirtualClock) -> None:
            load = OhmicLoad(1e6)
            device = Keithley2400(load)
            line = MemoryLine(device, clock, 300)
            injector.plug_smu(line, device, load)
            injector.arm(clock.now_ns())
            line.transport.on_readable(lambda: got.append(line.transport.read()))
            line.transport.write(message(0))
            await clock.sleep_until(clock.now_ns() + int(question_ms * MS))
            line.transport.write(b"\x18")
            await clock.sleep_until(clock.now_ns() + 3_000 * MS)

        run_virtual(main)
        assert injector.missed() == ()
        return b"".join(got)

    assert talk_at_300().text == CLEAN[0]
    cut_off = aborted()
    assert CLEAN[0].startswith(cut_off)
    assert len(cut_off) < len(CLEAN[0])
    assert aborted('kind = "fifo"\nat_s = 0') == CLEAN[0]


def test_an_abort_leaves_what_is_late_but_takes_a_change_back_that_never_arrived() -> None:
    # The reply is flipped, and the abort discards it before its changed byte is out: the fault acts on the next one.
    flipped = talk(
        'kind = "flip"\nat_frame = 1\noffset = 6\nbit = 0',
        baud=300,
        count=3,
        gap_ms=1350.0,
        at={
            1: lambda injector, line, now_ns: line._clock.call_at(now_ns + 1_080 * MS, lambda: abort(injector, line, 0))
        },
        wait_ms=3000,
    )
    (applied,) = flipped.injector.applied
    assert applied.frame == 2
    late = talk(
        'kind = "late"\nat_frame = 1\nlate_s = 0.03',
        at={1: lambda injector, line, now_ns: line._clock.call_at(now_ns + 15 * MS, lambda: abort(injector, line, 0))},
    )
    assert CLEAN[1] in late.text


# Triggers on the line


@pytest.mark.parametrize("place", [0, 3, 9, 10, 45])
def test_at_byte_counts_every_byte_of_its_direction(place: int) -> None:
    seen = talk(f'kind = "drop"\nat_byte = {place}')
    clean = b"".join(CLEAN)
    assert seen.text == clean[:place] + clean[place + 1 :]
    assert seen.injector.applied[0].byte == place


def test_at_byte_finds_its_byte_also_in_what_is_written_piece_by_piece() -> None:
    plan = parse_plan('[[fault]]\nkind = "flip"\nto = "device"\nat_byte = 7\nbit = 0')
    injector = Injector(plan)
    heard: list[bytes] = []

    async def main(clock: VirtualClock) -> None:
        load = OhmicLoad(1e6)
        device = Noted(load)
        line = MemoryLine(device, clock, 57600)
        injector.plug_smu(line, device, load)
        injector.arm(clock.now_ns())
        for k in range(len(message(0))):
            line.transport.write(message(0)[k : k + 1])
            await clock.sleep_until(clock.now_ns() + MS)
        await clock.sleep_until(clock.now_ns() + 20 * MS)
        heard.extend(data for _, data in device.heard)

    run_virtual(main)
    expected = bytearray(message(0))
    expected[7] ^= 1
    assert b"".join(heard) == bytes(expected)
    assert injector.applied[0].byte == 7


def test_at_s_acts_on_the_next_message_and_after_s_adds_to_it() -> None:
    assert talk('kind = "mute"\nat_s = 0.05\ntimes = 1').text == b"".join((*CLEAN[:3], *CLEAN[4:]))
    assert talk('kind = "mute"\nat_s = 0.03\nafter_s = 0.04\ntimes = 1').text == b"".join((*CLEAN[:4], *CLEAN[5:]))


def test_times_is_how_many_messages_it_acts_on() -> None:
    seen = talk('kind = "truncate"\nat_frame = 2\ntimes = 3\ncount = 2')
    assert seen.text == b"".join((*CLEAN[:2], b"12\r13\r14\r", *CLEAN[5:]))
    assert [applied.frame for applied in seen.injector.applied] == [2, 3, 4]
    endless = talk('kind = "truncate"\nat_frame = 2\ntimes = 0\ncount = 2')
    assert endless.text == b"".join((*CLEAN[:2], *(b"%d\r" % n for n in range(12, 10 + COUNT))))
    assert len(endless.injector.applied) == 1


def test_at_command_acts_on_that_very_message_or_on_what_follows_it() -> None:
    device = talk('kind = "mute"\nto = "device"\nat_command = "*ese 13"\ntimes = 1')
    assert device.text == b"".join((*CLEAN[:3], *CLEAN[4:]))
    second = talk('kind = "mute"\nat_command = "*ESE"\nnth = 4\ntimes = 1')
    assert second.text == b"".join((*CLEAN[:3], *CLEAN[4:]))


def test_on_demand_acts_when_it_is_demanded_and_again() -> None:
    def demand(injector: Injector, _line: MemoryLine, now_ns: int) -> None:
        injector.demand("hush", now_ns)

    seen = talk('name = "hush"\nkind = "mute"\non_demand = true\ntimes = 1', at={2: demand, 5: demand})
    assert seen.text == b"".join((*CLEAN[:2], *CLEAN[3:5], *CLEAN[6:]))
    assert len(seen.injector.applied) == 2
    never = talk('name = "hush"\nkind = "mute"\non_demand = true')
    assert never.injector.missed() == ("hush",)


# What is drawn, and what is kept


def drawn(seed: int) -> tuple[bytes, list[Applied]]:
    seen = talk(
        'kind = "flip"\nat_frame = 2',
        'kind = "drop"\nat_frame = 4\ntimes = 2',
        'kind = "truncate"\nat_frame = 7',
        seed=seed,
    )
    return seen.text, seen.injector.applied


def test_the_same_seed_draws_the_same_faults_and_another_seed_others() -> None:
    assert drawn(1) == drawn(1)
    assert len({drawn(seed)[0] for seed in range(5)}) > 1


def test_faults_that_meet_on_one_message_act_in_the_order_of_the_plan() -> None:
    seen = talk('kind = "truncate"\nat_frame = 2\ncount = 2', 'kind = "double"\nat_frame = 2')
    assert seen.text == with_third(b"12\r", b"12\r")
    assert [applied.kind for applied in seen.injector.applied] == ["truncate", "double"]


@given(
    data=st.lists(
        st.tuples(
            st.sampled_from([message(0), message(1), b"*ESE?", b"\n", b"\r\n", b"\x18", b":XYZ?\n", b"\x03"]),
            st.integers(0, 30),
        ),
        max_size=12,
    ),
    baud=st.sampled_from([0, 300, 9600, 57600]),
)
def test_a_tap_without_a_fault_changes_no_byte_and_no_time(data: list[tuple[bytes, int]], baud: int) -> None:
    def lived(*, tapped: bool) -> tuple[list[tuple[int, bytes]], list[tuple[int, bytes]]]:
        got: list[tuple[int, bytes]] = []
        heard: list[tuple[int, bytes]] = []

        async def main(clock: VirtualClock) -> None:
            load = OhmicLoad(1e6)
            device = Noted(load)
            line = MemoryLine(device, clock, baud)
            if tapped:
                injector = Injector(parse_plan('[[fault]]\nkind = "mute"\nat_frame = 1000'))
                injector.plug_smu(line, device, load)
                injector.arm(clock.now_ns())
            line.transport.on_readable(lambda: got.append((clock.now_ns(), line.transport.read())))
            for piece, pause_ms in data:
                line.transport.write(piece)
                await clock.sleep_until(clock.now_ns() + pause_ms * MS)
            await clock.sleep_until(clock.now_ns() + 10_000 * MS)
            heard.extend(device.heard)

        run_virtual(main)
        return got, heard

    assert lived(tapped=True) == lived(tapped=False)


@given(
    kinds=st.lists(
        st.tuples(st.sampled_from(sorted(TO_DEVICE)), st.sampled_from(["host", "device"]), st.integers(0, 8)),
        max_size=4,
    ),
    aborts=st.lists(st.integers(0, 170), max_size=3),
    seed=st.integers(0, 3),
)
def test_whatever_meets_on_a_line_with_aborts_is_counted_once_and_never_stops_it(
    kinds: list[tuple[str, str, int]], aborts: list[int], seed: int
) -> None:
    faults = [f'kind = "{kind}"\nto = "{to}"\nat_frame = {frame}\ntimes = 1' for kind, to, frame in kinds]

    def act(injector: Injector, line: MemoryLine, now_ns: int) -> None:
        for after_ms in aborts:
            line._clock.call_at(now_ns + after_ms * MS, lambda: abort(injector, line, 0))

    seen = talk(*faults, seed=seed, baud=9600, at={0: act}, wait_ms=3000)
    names = [applied.name for applied in seen.injector.applied]
    assert len(names) == len(set(names))
    # What passed is what arrived, but for what aborts took off the line.
    arrived = b"".join(row.arrived for row in seen.injector.trace if row.to == "host")
    assert len(seen.text) <= len(arrived)
    if not aborts:
        assert seen.text == arrived


def test_the_trace_has_both_directions_as_sent_and_as_arrived() -> None:
    seen = talk('name = "bitten"\nkind = "truncate"\nat_frame = 2\ncount = 2')
    rows = list(seen.injector.trace)
    assert [row.sent for row in rows if row.to == "device"] == [message(n) for n in range(COUNT)]
    replies = [row for row in rows if row.to == "host"]
    assert [row.sent for row in replies] == CLEAN
    assert b"".join(row.arrived for row in replies) == seen.text
    assert [row.note for row in replies if row.note] == ["bitten: b'12;1996.0\\r' cut short to b'12\\r'"]
    assert seen.injector.trace.maxlen is not None


def test_what_is_out_cannot_be_pulled_again() -> None:
    seen = talk('name = "a"\nkind = "unplug"\nat_s = 0.05', 'name = "b"\nkind = "unplug"\nat_s = 0.06')
    assert seen.injector.missed() == ("b",)


def test_what_comes_twice_is_told_with_the_second() -> None:
    seen = talk('kind = "double"\nat_frame = 2\nlate_s = 0.005')
    (applied,) = seen.injector.applied
    assert applied.t_ns - (seen.injector.armed_ns or 0) == seen.arrival(CLEAN[2] * 2)
