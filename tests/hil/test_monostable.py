"""The monostable between a heartbeat and the 2400's output enable line: exact times, late edges, and over a socket."""

from __future__ import annotations

import json
import socket
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hil.bench_rig import EmulatedRig, RigOptions
from hil.devices.enable_line import Edge, EnableLine
from hil.devices.keithley2400 import Keithley2400
from hil.devices.keithley2400.interlock import RESPONSE_NS, Rearm
from hil.devices.monostable import Monostable
from hil.errors import BenchOptionError
from hil.output_enable import EdgeSocket, enable_spec
from hil.processes import BenchRig, RigSpec
from hil.smu import SmuOptions
from hil.twin.ohmic import OhmicLoad
from hil.twin.truth import TruthRecord

MS = 1_000_000
START_NS = 1_000_000 * MS


# ------------------------------------------------------------------------------------------------- the monostable


def test_a_beat_closes_for_exactly_its_time() -> None:
    one = Monostable(0.040)
    assert not one.closed(START_NS)
    one.beat(START_NS)
    assert one.closed(START_NS + 40 * MS - 1)
    assert not one.closed(START_NS + 40 * MS)
    assert one.opens_ns == START_NS + 40 * MS


@given(gaps=st.lists(st.integers(1, 40 * MS - 1), min_size=1, max_size=50))
def test_beats_in_time_keep_it_closed_throughout_and_the_last_one_counts(gaps: list[int]) -> None:
    one, t_ns = Monostable(0.040), START_NS
    one.beat(t_ns)
    for gap in gaps:
        t_ns += gap
        assert one.closed(t_ns)
        one.beat(t_ns)
    assert one.opens_ns == t_ns + 40 * MS


def test_clear_opens_at_once_lets_no_beat_through_and_its_release_alone_closes_nothing() -> None:
    one = Monostable(0.040)
    one.beat(START_NS)
    one.pull_clear()
    assert not one.closed(START_NS + 1)
    one.beat(START_NS + MS)
    assert not one.closed(START_NS + MS)
    one.release_clear()
    assert not one.closed(START_NS + 2 * MS)
    one.beat(START_NS + 2 * MS)
    assert one.closed(START_NS + 2 * MS)


def test_stuck_and_broken_are_what_they_say() -> None:
    one = Monostable(0.040)
    one.stuck = True
    assert one.closed(START_NS)
    assert one.opens_ns is None
    one.broken = True
    one.beat(START_NS)
    assert not one.closed(START_NS)


@pytest.mark.parametrize("time_s", [0.0, -1.0, 0.0009, 11.0, float("nan"), float("inf")])
def test_a_time_no_monostable_has_is_refused(time_s: float) -> None:
    with pytest.raises(BenchOptionError, match="want a time from 1 ms to 10 s"):
        Monostable(time_s)


# -------------------------------------------------------------------------------------------------- at a 2400


class Mute:
    """A wire that keeps the replies."""

    def __init__(self) -> None:
        self.said = b""

    def send(self, _t_ns: int, data: bytes) -> None:
        self.said += data

    def discard(self, _t_ns: int) -> None:
        """Nothing is queued here."""


class Guarded:
    """An energised 2400 with a monostable at its line, beaten until ``t_ns``."""

    def __init__(self, rearm: Rearm = Rearm.REMOTE) -> None:
        self.truth = TruthRecord()
        self.unit = Keithley2400(OhmicLoad(1e6, 1000.0, truth=self.truth), oe_rearm=rearm)
        self.line = EnableLine(self.unit, Monostable(0.040))
        self.wire = Mute()
        self.line.attach(self.wire)
        self.t_ns = START_NS
        self.line.advance(self.t_ns)
        self.beat_on(60)
        self.line.receive(self.t_ns, b":OUTP:ENAB ON\n:SOUR:VOLT 1\n:OUTP ON\n")
        self.beat_on(100)
        assert self.unit.output_on

    def beat_on(self, for_ms: int) -> None:
        for _ in range(for_ms // 10):
            self.t_ns += 10 * MS
            self.line.edge(self.t_ns, Edge.BEAT)
            self.run(self.t_ns)

    def run(self, t_ns: int) -> None:
        """Go on as a line does: to each moment that was asked for, never back, then to ``t_ns``."""
        while (due_ns := self.line.next_event_ns()) is not None and due_ns <= t_ns:
            self.line.advance(max(due_ns, self.unit.time_ns or 0))
        self.line.advance(t_ns)

    def on(self) -> bool:
        return self.unit.output_on

    def safe_ns(self) -> int:
        return int(next(e["t_ns"] or 0 for e in reversed(self.truth.entries) if e["event"] == "safe"))


def test_silence_is_safe_exactly_the_monostable_s_time_and_the_unit_s_after_the_last_beat() -> None:
    bench = Guarded()
    bench.run(bench.t_ns + 200 * MS)
    assert not bench.unit.output_on
    assert bench.safe_ns() == bench.t_ns + 40 * MS + RESPONSE_NS


def test_clear_is_safe_after_the_unit_s_time_alone() -> None:
    bench = Guarded()
    cleared_ns = bench.t_ns + 3 * MS
    bench.line.edge(cleared_ns, Edge.CLEAR)
    bench.run(bench.t_ns + 10 * MS)
    assert bench.safe_ns() == cleared_ns + RESPONSE_NS


def test_a_beat_that_is_told_late_but_came_in_time_leaves_the_line_alone() -> None:
    bench = Guarded()
    beat_ns = bench.t_ns + 39 * MS
    told = iter([beat_ns])

    def look() -> None:
        for t_ns in told:
            bench.line.edge(t_ns, Edge.BEAT)

    bench.line.look = look
    bench.run(bench.t_ns + 70 * MS)
    assert bench.unit.output_on
    bench.run(bench.t_ns + 200 * MS)
    assert bench.safe_ns() == beat_ns + 40 * MS + RESPONSE_NS


def test_an_edge_from_before_the_unit_s_own_time_does_not_turn_time_back() -> None:
    bench = Guarded()
    bench.unit.advance(bench.t_ns + 5 * MS)
    bench.line.edge(bench.t_ns + 1 * MS, Edge.CLEAR)
    bench.run(bench.t_ns + 5 * MS)
    assert not bench.line.closed
    assert bench.on()
    bench.run(bench.t_ns + 6 * MS)
    assert not bench.on()
    assert bench.safe_ns() == bench.t_ns + 5 * MS + RESPONSE_NS


def test_a_monostable_that_breaks_under_way_opens_the_line() -> None:
    bench = Guarded()
    bench.line.monostable.broken = True
    bench.line.refresh(bench.t_ns)
    bench.run(bench.t_ns + MS)
    assert not bench.unit.output_on


def test_a_reset_does_not_stand_in_for_the_key() -> None:
    bench = Guarded(Rearm.KEY)
    bench.line.edge(bench.t_ns, Edge.CLEAR)
    bench.run(bench.t_ns + MS)
    bench.line.edge(bench.t_ns + 2 * MS, Edge.RELEASE)
    bench.t_ns += 2 * MS
    bench.beat_on(20)
    bench.line.receive(bench.t_ns, b"*RST;*CLS;:OUTP:ENAB ON;:OUTP ON\n")
    bench.beat_on(100)
    assert not bench.unit.output_on
    assert bench.unit.error_queue == (802,)
    bench.unit.press_output_key(bench.t_ns)
    assert bench.unit.output_on


# ---------------------------------------------------------------------------------------------- what is said


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"oe_rearm": "magic"}, "--oe-rearm magic: want one of key, remote"),
        ({"oe": Path("oe"), "monostable_ms": 0.0}, "a monostable of 0.0 s"),
        ({"monostable_ms": 50.0}, "--monostable-ms: there is no monostable without --oe"),
    ],
)
def test_options_that_cannot_be_are_refused(options: dict[str, object], told: str) -> None:
    asked = SmuOptions(link=Path("smu"), **options)  # type: ignore[arg-type] # as the case says
    with pytest.raises(BenchOptionError, match=told):
        enable_spec(asked)


def test_a_rig_with_a_stage_has_the_line_too(tmp_path: Path) -> None:
    options = RigOptions(smu_link=tmp_path / "smu", stage_link=tmp_path / "stage", oe=tmp_path / "oe", seed=1)
    rig = EmulatedRig(options)
    assert rig.line is not None
    assert rig.line.device is rig.smu
    assert {"--oe", "--monostable-ms", "--oe-rearm"} <= set(options.words())
    assert EmulatedRig(RigOptions(smu_link=Path("smu"), stage_link=Path("stage"), seed=1)).line is None


# ------------------------------------------------------------------------------------------------ over a socket


def test_an_edge_counts_from_when_it_was_sent_not_from_when_it_was_read(tmp_path: Path) -> None:
    path = tmp_path / "oe"
    unit = Keithley2400(OhmicLoad(1e6, 1000.0))
    line = EnableLine(unit, Monostable(0.040))
    line.attach(Mute())
    with EdgeSocket(path, line) as server, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as client:
        client.connect(str(path))
        line.advance(time.monotonic_ns())
        before_ns = time.monotonic_ns()
        client.send(b"B")
        client.send(b"no edge")
        after_ns = time.monotonic_ns()
        # An emulator that is late: wait until it reads, by a good part of the monostable's time.
        while time.monotonic_ns() < after_ns + 20 * MS:
            pass
        server.ready()
        line.advance(time.monotonic_ns())
        opens_ns = line.monostable.opens_ns
        assert opens_ns is not None
        # Two clocks are read one after the other to compare them.
        assert before_ns - MS <= opens_ns - 40 * MS <= after_ns + MS
        assert line.beats == 1
    assert not path.exists()


def test_a_path_in_use_is_refused_and_a_dead_socket_replaced(tmp_path: Path) -> None:
    path = tmp_path / "oe"
    line = EnableLine(Keithley2400(OhmicLoad(1e6, 1000.0)), Monostable(0.040))
    with EdgeSocket(path, line), pytest.raises(BenchOptionError, match=r"--oe .*oe: is in use"):
        EdgeSocket(path, line)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as dead:
        dead.bind(str(path))
    with EdgeSocket(path, line):
        assert path.is_socket()


@pytest.mark.realtime
def test_a_served_2400_is_held_by_beats_and_let_go_by_their_end(tmp_path: Path) -> None:
    spec = RigSpec(load="ohmic:1e6", oe=True)
    rig = BenchRig(tmp_path / "rig", spec)
    try:
        rig.start_smu()
        assert '[gpio]\nchip = "' in rig.config_path.read_text(encoding="utf-8")
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as client, rig.link.open("r+b", buffering=0) as port:
            client.connect(str(rig.link.with_name("oe")))
            port.write(b":OUTP:ENAB ON\n:SOUR:VOLT 1\n:OUTP ON\n")
            last_ns = 0
            while not [entry for entry in rig.truth() if entry["event"] == "live"]:
                client.send(b"B")
                last_ns = time.monotonic_ns()
            safe_ns = rig.wait_safe_after(last_ns)
        assert abs(safe_ns - last_ns - 40 * MS - RESPONSE_NS) < 5 * MS
        assert json.dumps(rig.ready)
    finally:
        rig.close()
