"""Segments on disk: what was written is read, damage is found where it is, and what cannot be replayed is told."""

from __future__ import annotations

import gzip
import re
import shutil
from pathlib import Path
from typing import Any

import msgpack
import pytest

from edge.errors import FlightError
from edge.flight import (
    FlightRecord,
    Stretch,
    cut_out,
    encode,
    flight_dir,
    header,
    read_flight,
    run_uids,
    segments,
    stretches,
    write_flight,
)
from edge.ring import Kind, RingReader, RingWriter
from edge.tape import GAP, IN, OUT, PORTS, Entry, pack

ROOT = Path(__file__).resolve().parents[2]
EPOCH = 0xABCDEF


class Made:
    """Records as a worker would write them."""

    def __init__(self, epoch: int = EPOCH) -> None:
        self.epoch = epoch
        self.records: list[FlightRecord] = []
        self.seq = 0
        self.t_ns = 1000

    def put(self, kind: Kind, payload: bytes, seq: int = 0) -> None:
        self.records.append(FlightRecord(kind, self.epoch, seq, 64 * len(self.records), payload))

    def begin(self, kind: str = "start") -> Made:
        start: dict[str, Any] = {"v": 1, "epoch": self.epoch, "from": kind, "t_ns": 1000}
        if kind == "checkpoint":
            start |= {"checkpoint_ns": self.t_ns, "preamble": [], "state": {}}
        self.put(Kind.TAPE_START, msgpack.packb(start), self.seq)
        return self

    def tape(self, *more: Entry) -> Made:
        self.t_ns += 10
        self.put(Kind.TAPE, pack([self.t_ns, *more]), self.seq)
        self.seq += 1
        return self

    def run(self, uid: str, kind: str) -> Made:
        self.put(Kind.RUN, msgpack.packb({"uid": uid, "kind": kind, "t_ns": self.t_ns}))
        return self


def a_life() -> Made:
    made = Made().begin().tape()
    made.run("aa", "start").tape().run("aa", "stop").tape()
    made.begin("checkpoint").tape()
    return made.run("bb", "start").tape().run("bb", "stop").tape().tape()


def segment(records: list[FlightRecord], *, continues: bool = False, number: int = 1) -> bytes:
    return header("rig-1", number, continues=continues) + b"".join(encode(record) for record in records)


# ---------------------------------------------------------------------------------------------------- the files


def test_what_is_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "00000001.flight"
    path.write_bytes(segment(a_life().records))
    contents = read_flight(path)
    assert (contents.rig, contents.records, contents.torn) == ("rig-1", a_life().records, None)


def test_anybody_with_msgpack_can_read_it(tmp_path: Path) -> None:
    path = tmp_path / "00000001.flight"
    path.write_bytes(segment(a_life().records))
    with path.open("rb") as file:
        begin, *records = msgpack.Unpacker(file)
    assert begin["format"] == "tipguard-flight"
    kind, epoch, _seq, _pos, payload, _crc = records[1]
    assert (kind, epoch, msgpack.unpackb(payload)) == (8, EPOCH, [1010, 0])


def test_the_page_s_lines_print_the_traffic(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """docs/data.md says how to read a segment without us; those lines do, and agree with ours to the nanosecond."""
    fixture = ROOT / "tests" / "fixtures" / "flight" / "emulated-map-of-two-points.flight.gz"
    shutil.copy(fixture, tmp_path / "00000001.flight")
    monkeypatch.chdir(tmp_path)
    page = (ROOT / "docs" / "data.md").read_text(encoding="utf-8")
    code = re.findall(r"```python\n(.*?)```", page, re.DOTALL)[-1]
    exec(code)  # noqa: S102 - the page's own lines
    printed = capsys.readouterr().out.splitlines()
    [stretch], _ = stretches(read_flight(fixture).records)
    ours = [
        f"{entry[1]} {PORTS[entry[2]]} {'<>'[entry[0]]} {entry[3]}"
        for entry in stretch.entries()
        if not isinstance(entry, int) and entry[0] in (IN, OUT)
    ]
    assert printed == ours
    assert len(ours) > 1000


@pytest.mark.parametrize("keep", [0.3, 0.7, 0.99])
def test_a_file_that_is_cut_off_is_read_up_to_there_and_says_so(tmp_path: Path, keep: float) -> None:
    whole = segment(a_life().records)
    path = tmp_path / "00000001.flight"
    path.write_bytes(whole[: int(len(whole) * keep)])
    contents = read_flight(path)
    assert contents.records == a_life().records[: len(contents.records)]
    assert contents.torn is not None
    assert f"behind {len(contents.records)} records" in contents.torn


def test_one_wrong_bit_in_a_payload_ends_the_reading_there(tmp_path: Path) -> None:
    records = a_life().records
    begin = len(segment(records[:3]))
    whole = bytearray(segment(records))
    whole[begin + len(encode(records[3])) - 7] ^= 1
    path = tmp_path / "00000001.flight"
    path.write_bytes(whole)
    contents = read_flight(path)
    assert contents.records == records[:3]
    assert contents.torn == f"{path}: a record's checksum is wrong, behind 3 records"


@pytest.mark.parametrize("place", range(0, 400, 13))
def test_damage_anywhere_never_passes_for_something_else(tmp_path: Path, place: int) -> None:
    records = a_life().records
    whole = bytearray(segment(records))
    whole[place % len(whole)] ^= 0x55
    path = tmp_path / "00000001.flight"
    path.write_bytes(whole)
    try:
        contents = read_flight(path)
    except FlightError:
        return
    good = {record.payload for record in records}
    assert all(record.payload in good for record in contents.records)


def test_what_is_no_flight_record_is_refused_in_words(tmp_path: Path) -> None:
    for name, data in (("empty", b""), ("text", b"hello, world"), ("other", msgpack.packb({"format": "x"}))):
        path = tmp_path / name
        path.write_bytes(data)
        with pytest.raises(FlightError, match="no flight record of tipguard"):
            read_flight(path)
    with pytest.raises(FlightError, match=r"No such file.*name a flight record"):
        read_flight(tmp_path / "absent")
    with pytest.raises(FlightError, match=r"no segment of a flight record"):
        read_flight(tmp_path)


def test_a_layout_of_another_version_is_refused_in_words(tmp_path: Path) -> None:
    path = tmp_path / "00000001.flight"
    path.write_bytes(msgpack.packb({"format": "tipguard-flight", "v": 2, "rig": "r"}))
    with pytest.raises(FlightError):
        read_flight(path)


def test_a_compressed_file_reads_the_same_and_a_torn_one_says_so(tmp_path: Path) -> None:
    path = tmp_path / "fixture.flight.gz"
    whole = gzip.compress(segment(a_life().records))
    path.write_bytes(whole)
    assert read_flight(path).records == a_life().records
    path.write_bytes(whole[:-20])
    assert "cut off or damaged" in str(read_flight(path).torn)


def test_a_ring_reads_the_same_and_nothing_of_it_is_given_back(tmp_path: Path) -> None:
    ring = RingWriter(tmp_path / "ring", 64 * 1024)
    for record in a_life().records:
        ring.write(record.kind, record.epoch, record.seq, record.payload)
    contents = read_flight(tmp_path / "ring")
    assert [record.payload for record in contents.records] == [record.payload for record in a_life().records]
    reader = RingReader(tmp_path / "ring")
    assert reader.read() is not None
    assert reader.tail == ring.capacity_bytes


def test_a_directory_is_its_segments_in_order(tmp_path: Path) -> None:
    records = a_life().records
    for number in (1, 2, 10):
        part = {1: records[:4], 2: records[4:6], 10: records[6:]}[number]
        (tmp_path / f"{number:08}.flight").write_bytes(segment(part, continues=number > 1))
    (tmp_path / "notes.txt").write_text("not ours")
    assert [path.name for path in segments(tmp_path)] == ["00000001.flight", "00000002.flight", "00000010.flight"]
    assert read_flight(tmp_path).records == records


def test_a_segment_that_goes_on_takes_those_before_it(tmp_path: Path) -> None:
    records = a_life().records
    for number, part in ((1, records[:4]), (2, records[4:6]), (3, records[6:])):
        (tmp_path / f"{number:08}.flight").write_bytes(segment(part, continues=number > 1, number=number))
    contents = read_flight(tmp_path / "00000003.flight")
    assert contents.records == records
    assert not contents.continues
    (tmp_path / "00000001.flight").unlink()
    assert read_flight(tmp_path / "00000003.flight").continues


def test_where_segments_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("STATE_DIRECTORY", "XDG_STATE_HOME", "RUNTIME_DIRECTORY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", "/home/somebody")
    assert flight_dir("r") == Path("/home/somebody/.local/state/tipguard/flight/r")
    monkeypatch.setenv("RUNTIME_DIRECTORY", "/run/x:/run/y")
    assert flight_dir("r") == Path("/run/x/flight.d/r")
    monkeypatch.setenv("XDG_STATE_HOME", "/home/somebody/state")
    assert flight_dir("r") == Path("/home/somebody/state/tipguard/flight/r")
    monkeypatch.setenv("STATE_DIRECTORY", "/var/lib/tipguard:/var/lib/other")
    assert flight_dir("r") == Path("/var/lib/tipguard/flight/r")
    assert flight_dir("r", "/data") == Path("/data/r")


# ----------------------------------------------------------------------------------------- what can be replayed


def test_a_whole_life_is_one_stretch_with_its_runs() -> None:
    [stretch], notes = stretches(a_life().records)
    assert notes == []
    assert (stretch.epoch, stretch.t_ns, stretch.start["from"]) == (EPOCH, 1000, "start")
    assert run_uids(stretch) == ["aa", "bb"]
    assert len(stretch.entries()) == 7


def test_what_begins_in_the_middle_is_left_out_up_to_the_next_checkpoint() -> None:
    records = a_life().records[2:]
    [stretch], notes = stretches(records)
    assert (stretch.start["from"], run_uids(stretch), notes) == ("checkpoint", ["bb"], [])


def test_a_piece_that_is_missing_and_a_declared_gap_end_a_stretch() -> None:
    records = a_life().records
    missing = [record for record in records if not (record.kind == Kind.TAPE and record.seq == 1)]
    found, [note] = stretches(missing)
    assert [run_uids(stretch) for stretch in found] == [[], ["bb"]]
    assert "a piece of the tape is missing" in note
    made = Made().begin().tape().tape((GAP, 1020, 17, 1015)).tape()
    [stretch], [note] = stretches(made.records)
    assert len(stretch.entries()) == 1
    assert "a declared gap of 17 entries; a replay can go on from the next checkpoint" in note


def test_two_epochs_are_two_stretches() -> None:
    other = a_life()
    second = Made(epoch=5).begin().tape()
    found, notes = stretches([*other.records, *second.records])
    assert ([stretch.epoch for stretch in found], notes) == ([EPOCH, 5], [])


def test_a_beginning_that_cannot_be_read_is_told() -> None:
    made = Made()
    made.put(Kind.TAPE_START, b"\xc1")
    made.put(Kind.TAPE_START, msgpack.packb({"v": 99, "from": "start"}), 1)
    made.tape()
    found, notes = stretches(made.records)
    assert found == []
    assert [note.partition(": ")[2] for note in notes] == [
        "a beginning that cannot be read",
        "tape version 99, this program knows 1",
    ]


def test_one_run_is_cut_out_from_the_last_beginning_to_the_first_tape_behind_it() -> None:
    [stretch], _ = stretches(a_life().records)
    first, second = cut_out(stretch, "aa"), cut_out(stretch, "bb")
    assert (first.start["from"], len(first.entries())) == ("start", 3)
    assert (second.start["from"], len(second.entries())) == ("checkpoint", 3)
    assert run_uids(second) == ["bb"]
    with pytest.raises(FlightError, match="run cc does not begin in this stretch; it holds: aa, bb"):
        cut_out(stretch, "cc")


def test_a_run_that_does_not_end_goes_to_the_end() -> None:
    made = Made().begin().tape().run("aa", "start").tape().tape()
    [stretch], _ = stretches(made.records)
    assert len(cut_out(stretch, "aa").entries()) == 3


def test_what_the_tape_does_not_account_for_is_left_out() -> None:
    made = Made().begin().tape().run("aa", "start").tape().run("aa", "stop")
    [stretch], _ = stretches(made.records)
    assert [document["kind"] for document in stretch.documents(Kind.RUN)] == ["start"]


@pytest.mark.parametrize("compressed", [False, True])
def test_a_stretch_in_a_file_of_its_own_is_the_same_stretch(tmp_path: Path, *, compressed: bool) -> None:
    [stretch], _ = stretches(a_life().records)
    run = cut_out(stretch, "bb")
    path = tmp_path / "new" / "one"
    size = write_flight(path, "rig-1", [run], compressed=compressed)
    assert size == path.stat().st_size
    [again], notes = stretches(read_flight(path).records)
    assert notes == []
    assert again == Stretch(run.start, run.records)
    data = path.read_bytes()
    write_flight(path, "rig-1", [run], compressed=compressed)
    assert path.read_bytes() == data
