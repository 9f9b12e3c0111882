"""The emulated stage at its desk, without line or clock: commands, errors, motion, on-target, stops."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from firmware_proto.gcs2.errors import ErrorCode
from hil.devices.pi_gcs2 import AxisModel, FlatSurface, Model, PiController
from hil.devices.pi_gcs2.mechanics import PositionAt
from hil.devices.pi_gcs2.queued import QUEUE_LINES
from hil.twin.truth import TruthRecord

MS = 1_000_000
S = 1_000_000_000
QUIET = {"noise_um": 0.0, "creep": 0.0}


class Wire:
    def __init__(self) -> None:
        self.sent: list[tuple[int, bytes]] = []

    def send(self, t_ns: int, data: bytes) -> None:
        self.sent.append((t_ns, data))

    def discard(self, t_ns: int) -> None:
        self.sent.append((t_ns, b"discarded"))


class Desk:
    """A controller whose time moves only when told to."""

    def __init__(
        self, *, seed: int = 0, truth: TruthRecord | None = None, axis: dict[str, float] | None = None, **model: object
    ) -> None:
        axes = tuple(AxisModel(name, **(QUIET | (axis or {}))) for name in "123")
        self.surface = FlatSurface()
        self.unit = PiController(Model(**({"axes": axes} | model)), self.surface, seed=seed, truth=truth)  # type: ignore[arg-type] # as the test says
        self.wire = Wire()
        self.unit.attach(self.wire)
        self.t_ns = 10 * S
        self.unit.advance(self.t_ns)

    def wait(self, duration_ns: int) -> None:
        end_ns = self.t_ns + duration_ns
        while (due := self.unit.next_event_ns()) is not None and due <= end_ns:
            self.unit.advance(due)
        self.t_ns = end_ns
        self.unit.advance(end_ns)

    def write(self, data: bytes) -> None:
        self.unit.receive(self.t_ns, data)

    def tell(self, *lines: str) -> None:
        for line in lines:
            self.write(line.encode() + b"\n")
            while (due := self.unit.next_event_ns()) is not None:
                self.wait(due - self.t_ns)

    def ask(self, line: str) -> str | None:
        """Send a line and return its reply without the last line feed, None if there was none."""
        count = len(self.wire.sent)
        self.tell(line)
        return self.wire.sent[-1][1].decode("latin-1").removesuffix("\n") if len(self.wire.sent) > count else None

    def single(self, number: int) -> bytes | None:
        count = len(self.wire.sent)
        self.write(bytes((number,)))
        return self.wire.sent[-1][1] if len(self.wire.sent) > count else None

    def error(self) -> int:
        return int(self.ask("ERR?") or "-1")


def ready(**options: object) -> Desk:
    desk = Desk(**options)  # type: ignore[arg-type] # as the test says
    desk.tell("SVO 1 1 2 1 3 1")
    return desk


def test_who_is_there() -> None:
    desk = Desk()
    assert (desk.ask("*IDN?") or "").split(",")[1].strip() == "E-727.3CD"
    assert desk.ask("sai?") == "1 \n2 \n3"
    assert desk.ask("SAI? ALL") == "1 \n2 \n3"
    assert desk.ask("TMN? 2") == "2=0.0000"
    assert desk.ask("TMX?") == "1=100.0000 \n2=100.0000 \n3=100.0000"
    assert desk.ask("PUN? 1") == "1=UM"
    assert desk.error() == 0


def test_what_is_listed_works_and_nothing_else() -> None:
    desk = Desk()
    lines = (desk.ask("HLP?") or "").split(" \n")
    names = [line.split()[0] for line in lines[1:-1]]
    assert {"MOV", "MOV?", "POS?", "ONT?", "#5", "#24", "ATZ", "TAV?"} <= set(names)
    assert "FRF" not in names
    for name in (name for name in names if name.endswith("?")):
        assert desk.ask(name) is not None, name
    assert desk.error() == 0
    for name in ("FRF", "XYZ", "MOVE", "POS"):
        assert desk.ask(name) is None
        assert desk.error() == ErrorCode.UNKNOWN_COMMAND


def test_a_model_may_lack_commands() -> None:
    desk = Desk(without=frozenset({"VEL", "#24"}), analog_inputs=0)
    help_text = desk.ask("HLP?") or ""
    assert "VEL {" not in help_text
    assert "#24" not in help_text
    for line in ("VEL 1 5", "TAV? 1"):
        desk.tell(line)
        assert desk.error() == ErrorCode.UNKNOWN_COMMAND
    assert desk.single(24) is None
    assert desk.error() == ErrorCode.UNKNOWN_COMMAND


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("MOV 4 1", ErrorCode.WRONG_AXIS),
        ("POS? 1 9", ErrorCode.WRONG_AXIS),
        ("MOV 1 101", ErrorCode.POSITION_LIMITS),
        ("MOV 1 -0.0001", ErrorCode.POSITION_LIMITS),
        ("MOV 1 50 2 500", ErrorCode.POSITION_LIMITS),
        ("MVR 1 1000", ErrorCode.POSITION_LIMITS),
        ("MOV 1", ErrorCode.MISSING_PARAMETER),
        ("MOV", ErrorCode.MISSING_PARAMETER),
        ("MOV 1 2 1 3", ErrorCode.DUPLICATE_AXIS),
        ("MOV ; 3", ErrorCode.ILLEGAL_AXIS),
        ("MOV 1 1e999", ErrorCode.BAD_NUMBER),
        ("MOV 1 12ERR?", ErrorCode.BAD_NUMBER),
        ("VEL 1 0", ErrorCode.VELOCITY_LIMITS),
        ("VEL 1 1e6", ErrorCode.VELOCITY_LIMITS),
        ("SVO 1 2", ErrorCode.PARAMETER_OUT_OF_RANGE),
        ("SAI? SOME", ErrorCode.PARAMETER_OUT_OF_RANGE),
        ("ERR? 1", ErrorCode.PARAMETER_COUNT),
        ("TAV? 5", ErrorCode.PARAMETER_OUT_OF_RANGE),
        ("MOV 1 \xb5", ErrorCode.SYNTAX),
    ],
)
def test_what_is_refused_changes_nothing(line: str, code: ErrorCode) -> None:
    desk = ready()
    before = desk.ask("MOV?"), desk.ask("VEL?"), desk.ask("SVO?")
    desk.write(line.encode("latin-1") + b"\n")
    desk.wait(5 * MS)
    assert not any(desk.unit.moving(desk.t_ns, name) for name in "123")
    assert desk.error() == code
    assert desk.error() == 0, "reading clears"
    assert (desk.ask("MOV?"), desk.ask("VEL?"), desk.ask("SVO?")) == before


def test_without_servo_nothing_moves_and_nothing_is_on_target() -> None:
    desk = Desk()
    desk.tell("MOV 1 60")
    assert desk.error() == ErrorCode.NOT_REFERENCED_OR_SERVO_OFF
    assert desk.ask("ONT?") == "1=0 \n2=0 \n3=0"
    assert desk.ask("SVO? 2") == "2=0"


def test_a_move_takes_its_time_then_settles() -> None:
    desk = ready(axis={"velocity_um_s": 100.0, "settle_s": 0.05})
    desk.tell("MOV 1 60")
    began = desk.t_ns
    desk.wait(50 * MS)
    assert desk.unit.position_m(desk.t_ns, "1") == pytest.approx(55e-6)
    assert desk.single(5) == b"1\n"
    desk.wait(began + 100 * MS - desk.t_ns)
    assert desk.single(5) == b"0\n"
    assert desk.unit.position_m(desk.t_ns, "1") == pytest.approx(60e-6)
    assert desk.ask("ONT? 1") == "1=0"
    desk.wait(47 * MS)
    assert desk.ask("ONT? 1") == "1=0"
    desk.wait(2 * MS)
    assert desk.ask("ONT? 1") == "1=1"
    assert desk.ask("POS? 1") == "1=60.0000"


def test_two_axes_move_at_once_and_the_map_tells_which() -> None:
    desk = ready()
    desk.tell("MOV 1 90 3 10")
    assert desk.single(5) == b"5\n"
    assert desk.single(4) == b"0x3000\n"
    desk.wait(S)
    assert desk.single(4) == b"0x9000\n"
    assert desk.single(3) == b"1=90.0000 \n2=50.0000 \n3=10.0000\n"


def test_acceleration_makes_it_slower_and_smooth() -> None:
    desk = ready(axis={"velocity_um_s": 100.0, "acceleration_um_s2": 1000.0})
    desk.tell("MOV 1 70")
    began = desk.t_ns
    path = [desk.unit.position_m(began + k * MS, "1") * 1e6 for k in range(301)]
    steps = [b - a for a, b in itertools.pairwise(path)]
    assert path[0] == pytest.approx(50.0)
    assert path[50] == pytest.approx(50.0 + 0.5 * 1000 * 0.05**2)
    assert path[300] == pytest.approx(70.0)
    assert path[299] < 70.0 - 1e-9
    assert max(abs(b - a) for a, b in itertools.pairwise(steps)) <= 1000 * 1e-6 * 1.001
    assert max(steps) == pytest.approx(0.1)


def test_creep_fades_and_delays_the_target() -> None:
    desk = ready(axis={"creep": 0.1, "creep_tau_s": 0.1, "velocity_um_s": 1000.0, "settle_s": 0.0, "window_um": 0.01})
    desk.tell("MOV 1 60")
    desk.wait(20 * MS)
    left = 60.0 - desk.unit.position_m(desk.t_ns, "1") * 1e6
    assert 0.2 < left < 2.0
    assert desk.ask("ONT? 1") == "1=0"
    desk.wait(int(0.1 * math.log(left / 0.0099) * S))
    assert desk.ask("ONT? 1") == "1=1"
    assert abs(60.0 - desk.unit.position_m(desk.t_ns, "1") * 1e6) <= 0.01


def test_the_same_seed_is_the_same_stage() -> None:
    def run(seed: int) -> list[str | None]:
        desk = ready(seed=seed, axis={"noise_um": 0.01, "creep": 0.05})
        desk.tell("MOV 1 60 2 10")
        return [desk.ask("POS?") for _ in range(5)]

    assert run(1) == run(1) != run(2)


def test_noise_is_in_the_reading_only() -> None:
    desk = ready(axis={"noise_um": 0.01})
    readings = [float((desk.ask("POS? 1") or "").split("=")[1]) for _ in range(200)]
    assert 0.008 < (sum((value - 50.0) ** 2 for value in readings) / 200) ** 0.5 < 0.012
    assert desk.unit.position_m(desk.t_ns, "1") == pytest.approx(50e-6, abs=1e-15)


@pytest.mark.parametrize("stop", [b"\x18", b"STP\n", b"HLT\n", b"HLT 1\n"])
def test_a_stop_leaves_error_10_and_its_place_as_target(stop: bytes) -> None:
    desk = ready(axis={"velocity_um_s": 100.0})
    desk.tell("MOV 1 90")
    desk.wait(100 * MS)
    desk.write(stop)
    desk.wait(2 * MS)
    here = desk.unit.position_m(desk.t_ns, "1")
    assert here == pytest.approx(60e-6, abs=0.5e-6)
    desk.wait(S)
    assert desk.unit.position_m(desk.t_ns, "1") == here
    assert desk.ask("ONT? 1") == "1=1"
    assert desk.ask("MOV? 1") == f"1={here * 1e6:.4f}"
    assert desk.error() == ErrorCode.STOPPED


def test_hlt_brakes_where_stp_stops_dead() -> None:
    rests = []
    for stop in ("HLT", "STP"):
        desk = ready(axis={"velocity_um_s": 100.0, "acceleration_um_s2": 1000.0})
        desk.tell("MOV 1 90")
        desk.wait(200 * MS)
        before = desk.unit.position_m(desk.t_ns + MS, "1")
        desk.t_ns += MS
        desk.tell(stop)
        desk.wait(S)
        rests.append((desk.unit.position_m(desk.t_ns, "1") - before) * 1e6)
    assert rests[0] == pytest.approx(100.0**2 / 2000 + 0.1, abs=0.01)
    assert rests[1] == pytest.approx(0.1, abs=0.01)


def test_a_stop_of_one_axis_leaves_the_others_moving() -> None:
    desk = ready()
    desk.tell("MOV 1 90 2 90", "HLT 1")
    assert desk.single(5) == b"2\n"


def test_a_line_that_waits_while_24_arrives_still_executes() -> None:
    desk = ready()
    desk.write(b"MOV 1 90\n\x18")
    desk.wait(2 * MS)
    assert desk.unit.moving(desk.t_ns, "1")


def test_a_line_feed_completes_what_was_cut_off() -> None:
    """Why nothing of ours ever sends a bare line feed: a target that lost its end is another target."""
    desk = ready()
    desk.write(b"MOV 1 8")
    desk.wait(S)
    assert not desk.unit.moving(desk.t_ns, "1")
    desk.write(b"\n")
    desk.wait(S)
    assert desk.unit.position_m(desk.t_ns, "1") == pytest.approx(8e-6)


def test_opening_the_servo_ends_a_motion() -> None:
    desk = ready()
    desk.tell("MOV 1 90")
    desk.wait(50 * MS)
    desk.tell("SVO 1 0")
    here = desk.unit.position_m(desk.t_ns, "1")
    desk.wait(S)
    assert desk.unit.position_m(desk.t_ns, "1") == here
    assert desk.ask("ONT? 1") == "1=0"
    desk.tell("SVO 1 1")
    desk.wait(S)
    assert desk.ask("ONT? 1") == "1=1"


# Reference, autozero


def test_an_incremental_stage_wants_its_reference_first() -> None:
    desk = ready(referencing="required", axis={"velocity_um_s": 100.0})
    assert desk.ask("FRF?") == "1=0 \n2=0 \n3=0"
    desk.tell("MOV 1 10")
    assert desk.error() == ErrorCode.NOT_REFERENCED_OR_SERVO_OFF
    desk.tell("FRF 1")
    assert desk.single(7) == b"\xb0\n"
    desk.tell("MOV 1 10")
    assert desk.error() == ErrorCode.NOT_REFERENCED_OR_SERVO_OFF
    desk.wait(S)
    assert desk.single(7) == b"\xb1\n"
    assert desk.ask("FRF?") == "1=1 \n2=0 \n3=0"
    desk.tell("MOV 1 10")
    assert desk.error() == 0


def test_a_stopped_reference_move_does_not_count() -> None:
    desk = ready(referencing="required", axis={"velocity_um_s": 1.0})
    desk.tell("FRF")
    desk.single(24)
    assert desk.error() == ErrorCode.STOPPED
    desk.wait(200 * S)
    assert desk.ask("FRF? 1") == "1=0"


def test_during_autozero_only_questions_and_stops_pass() -> None:
    desk = ready(autozero_s=2.0)
    desk.tell("ATZ 1 NaN")
    assert desk.error() == 0
    for line in ("MOV 1 10", "SVO 1 0", "VEL 1 10", "ATZ"):
        desk.tell(line)
        assert desk.error() == ErrorCode.AUTOZERO_RUNNING
    assert desk.single(7) == b"\xb0\n"
    assert desk.ask("ATZ? 1") == "1=0"
    assert desk.ask("POS? 2") == "2=50.0000"
    desk.wait(2 * S)
    assert desk.single(7) == b"\xb1\n"
    desk.tell("MOV 1 10")
    assert desk.error() == 0


# Signals, formats, bench


def test_the_analog_input_hears_the_twin() -> None:
    desk = ready(axis={"velocity_um_s": 1000.0})
    desk.tell("MOV 3 49")
    desk.wait(S)
    assert desk.ask("TAV? 1") == "1=0.0200"
    desk.tell("MOV 3 50.02")
    desk.wait(S)
    assert desk.ask("TAV?") == "1=1.0200 \n2=0.0000 \n3=0.0000 \n4=0.0000"
    assert desk.ask("TAC?") == "4"


def test_numbers_and_units_of_other_controllers() -> None:
    desk = ready(numbers="exponent")
    assert desk.ask("TMX? 1") == "1=+1.000000000e+02"
    desk = ready(unit="mm")
    assert desk.ask("TMX? 1") == "1=0.1000000"
    desk.tell("MOV 1 0.06")
    desk.wait(S)
    assert desk.unit.position_m(desk.t_ns, "1") == pytest.approx(60e-6)


class Follower:
    """A twin that keeps what it was told."""

    def __init__(self) -> None:
        self.paths: list[tuple[int, str, PositionAt, int]] = []

    def follow(self, t_ns: int, axis: str, position_m: PositionAt, rest_ns: int) -> None:
        self.paths.append((t_ns, axis, position_m, rest_ns))

    def signal_v(self, t_ns: int, channel: int) -> float:
        return float(channel)


def test_the_twin_knows_where_the_tip_is_at_any_time() -> None:
    twin = Follower()
    unit = PiController(Model(processing_s=0.0, servo_on=True), twin)
    unit.attach(Wire())
    unit.receive(10 * S, b"MOV 1 90\n")
    assert [axis for _, axis, _, _ in twin.paths] == ["1", "2", "3", "1"]
    t_ns, _, path, rest_ns = twin.paths[-1]
    assert t_ns == 10 * S
    assert rest_ns == 10 * S + 200 * MS
    for at_ns in range(t_ns, rest_ns + S, 10 * MS):
        assert path(at_ns) == unit.position_m(at_ns, "1")


def test_the_record_tells_moves_stops_and_the_end() -> None:
    truth = TruthRecord()
    desk = ready(truth=truth)
    desk.tell("MOV 1 60", "STP")
    desk.unit.close(desk.t_ns)
    assert [entry["event"] for entry in truth.entries] == ["servo"] * 3 + ["move", "stop", "summary"]
    (move,) = truth.events("move")
    assert move["axis"] == "1"
    assert move["from_m"] == pytest.approx(50e-6)
    assert move["to_m"] == pytest.approx(60e-6)


def test_a_jam_takes_moves_and_gets_nowhere() -> None:
    desk = ready()
    desk.tell("MOV 1 90")
    desk.wait(50 * MS)
    desk.unit.stall(desk.t_ns, "1", error=1024)
    here = desk.unit.position_m(desk.t_ns, "1")
    assert desk.error() == 1024
    desk.tell("MOV 1 10")
    assert desk.error() == 0
    desk.wait(S)
    assert desk.unit.position_m(desk.t_ns, "1") == here
    assert desk.ask("ONT? 1") == "1=0"
    desk.unit.release(desk.t_ns, "1")
    desk.tell("MOV 1 10")
    desk.wait(S)
    assert desk.unit.position_m(desk.t_ns, "1") == pytest.approx(10e-6)


def test_a_servo_that_opens_by_itself_and_the_mains() -> None:
    desk = ready()
    desk.unit.open_servo(desk.t_ns, "2", error=1024)
    assert desk.ask("SVO?") == "1=1 \n2=0 \n3=1"
    assert desk.error() == 1024
    desk.write(b"POS?\nMOV 1 9")
    desk.unit.power_cycle(desk.t_ns)
    assert desk.wire.sent[-1][1] == b"discarded"
    assert desk.unit.next_event_ns() is None
    assert desk.ask("SVO? 1") == "1=0"


def test_overlong_lines_and_a_full_queue_are_errors() -> None:
    desk = Desk()
    desk.write(b"M" * 1000 + b"\n")
    assert desk.error() == ErrorCode.TOO_LONG
    count = len(desk.wire.sent)
    desk.write(b"POS? 1\n" * (QUEUE_LINES + 3))
    desk.wait(S)
    assert len(desk.wire.sent) == count + QUEUE_LINES
    assert desk.error() == ErrorCode.TOO_LONG


def test_time_does_not_go_back() -> None:
    desk = Desk()
    with pytest.raises(ValueError, match="time went back"):
        desk.unit.advance(desk.t_ns - 1)


@pytest.mark.parametrize(
    "options",
    [{"name": ""}, {"name": "1 2"}, {"low_um": 5.0, "high_um": 5.0}, {"velocity_um_s": 0.0}, {"creep": math.nan}],
)
def test_axes_that_cannot_be(options: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="must be"):
        AxisModel(**({"name": "1"} | options))  # type: ignore[arg-type] # as the test says


def test_controllers_that_cannot_be() -> None:
    for axes in ((), (AxisModel("1"), AxisModel("1"))):
        with pytest.raises(ValueError, match="axes"):
            Model(axes=axes)


QUERIES = ["MOV?", "POS?", "ONT?", "TAV?", "ERR?", "HLP?"]
SETS = ["MOV", "SVO", "VEL", "ATZ", "HLT", "STP", "FRF"]
OTHERS = ["1", "2", "9", "50", "-1", "1e3", "NaN", "\n", "\x18", "\x05", "\x07", "\x03", "\xff"]
WORDS = st.sampled_from([*QUERIES, *SETS, *OTHERS])
INPUT = st.lists(st.one_of(WORDS.map(lambda word: word.encode("latin-1") + b" "), st.binary(max_size=6)), max_size=30)


@settings(max_examples=60)
@given(INPUT.map(b"".join), st.lists(st.integers(0, 300), max_size=8), st.sampled_from(["absolute", "required"]))
def test_any_bytes_in_any_pieces_are_the_same_and_never_raise(data: bytes, cuts: list[int], referencing: str) -> None:
    sent = []
    for edges in ([0, len(data)], [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]):
        desk = ready(referencing=referencing, axis={"noise_um": 0.01, "creep": 0.01})
        for begin, end in itertools.pairwise(edges):
            desk.write(data[begin:end])
        desk.wait(S)
        for name in "123":
            assert -1e-9 <= desk.unit.position_m(desk.t_ns, name) <= 100e-6 + 1e-9
        sent.append(desk.wire.sent)
    assert sent[0] == sent[1]
