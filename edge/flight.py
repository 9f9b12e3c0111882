"""The flight record on disk: segments of ring records, written by the uplink, read by ``tipguard replay``.

A segment is a stream of msgpack objects: first a map, then one array ``[kind, epoch, seq, pos, payload, crc32]`` for
each record of the ring, in the ring's order (docs/data.md, "The flight record"); compressed with gzip, in many members,
so that what was written is whole whatever comes. One that is not compressed reads the same, and so does a ring's file.
"""

from __future__ import annotations

import dataclasses
import gzip
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgpack

from edge.errors import FlightError, RingError
from edge.ring import MAGIC as RING_MAGIC
from edge.ring import Kind, Record, RingReader
from edge.rundir import state_dir
from edge.tape import GAP, VERSION, Entry, unpack

FORMAT: Final = "tipguard-flight"
SUFFIX: Final = ".flight"
MAX_RECORD: Final = 1 << 25
MAX_UNPACKED: Final = 1 << 31
"""Bytes of one file, compressed or not."""
_GZIP_MAGIC: Final = b"\x1f\x8b"


class FlightRecord(NamedTuple):
    """A record of the ring as it was drained. ``pos``: where in the ring it stood, counting up for good."""

    kind: int
    epoch: int
    seq: int
    pos: int
    payload: bytes


def header(rig: str, number: int, *, continues: bool, **more: object) -> bytes:
    """Return a segment's first object. ``continues``: it goes on in the middle of what the one before holds."""
    packed = msgpack.packb(
        {"format": FORMAT, "v": VERSION, "rig": rig, "number": number, "continues": continues, **more}
    )
    return bytes(packed)


def encode(record: FlightRecord | Record) -> bytes:
    """Return a record as it stands in a segment."""
    payload = record.payload
    return bytes(msgpack.packb([record.kind, record.epoch, record.seq, record.pos, payload, zlib.crc32(payload)]))


def flight_dir(rig: str, directory: str | None = None) -> Path:
    """Return where a rig's segments are; does not make it. ``directory``: what the configuration says."""
    return state_dir("flight", rig, directory)


def segments(directory: Path) -> list[Path]:
    """Return a directory's segments, oldest first."""
    return sorted(path for path in directory.glob(f"*{SUFFIX}") if path.stem.isdigit())


@dataclasses.dataclass(slots=True)
class Contents:
    """What a file held. ``torn``: why reading ended before the file did, in words; None if it did not."""

    name: str
    rig: str = ""
    continues: bool = False
    records: list[FlightRecord] = dataclasses.field(default_factory=list)
    torn: str | None = None


def read_flight(path: Path) -> Contents:
    """Read a directory of segments, a segment, a compressed one, or a ring.

    Raises :class:`FlightError` for what is none of these. Damage ends the reading where it is found, and
    :attr:`Contents.torn` says so.
    """
    if path.is_dir():
        return _read_directory(path)
    try:
        with path.open("rb") as file:
            head = file.read(16)
    except OSError as error:
        raise FlightError(
            f"{path}: {error.strerror}; name a flight record: a segment, a directory of them, or a ring"
        ) from error
    if head.startswith(RING_MAGIC):
        return _read_ring(path)
    contents = _read_segment(path)
    if contents.continues and path.stem.isdigit():
        return _with_those_before(path, contents)
    return contents


def _read_directory(path: Path) -> Contents:
    found = segments(path)
    if not found:
        raise FlightError(f"{path}: no segment of a flight record (*{SUFFIX}) in it")
    whole = Contents(str(path))
    for one in found:
        part = _read_segment(one)
        whole.rig = part.rig
        whole.records += part.records
        if part.torn:
            # What follows stands in segments of its own; the stretches show what is missing.
            whole.torn = part.torn
    return whole


def _with_those_before(path: Path, contents: Contents) -> Contents:
    """Put the segments in front that this one goes on from, as far as they are there."""
    before = int(path.stem) - 1
    one = path.with_name(f"{before:0{len(path.stem)}}{SUFFIX}")
    while contents.continues and one.exists():
        part = _read_segment(one)
        contents.records[:0] = part.records
        contents.continues = part.continues
        contents.torn = contents.torn or part.torn
        before -= 1
        one = path.with_name(f"{before:0{len(path.stem)}}{SUFFIX}")
    return contents


def _read_ring(path: Path) -> Contents:
    """Read what a ring holds, without giving any of it back."""
    try:
        reader = RingReader(path)
    except RingError as error:
        raise FlightError(str(error)) from error
    contents = Contents(str(path))
    try:
        while (record := reader.read()) is not None:
            contents.records.append(FlightRecord(record.kind, record.epoch, record.seq, record.pos, record.payload))
        if reader.stuck():
            contents.torn = f"{path}: damaged behind {len(contents.records)} records"
    finally:
        reader.close()
    return contents


def _read_segment(path: Path) -> Contents:
    contents = Contents(str(path))
    try:
        with path.open("rb") as file:
            compressed = file.read(len(_GZIP_MAGIC)) == _GZIP_MAGIC
        with gzip.open(path) if compressed else path.open("rb") as file:
            _read_stream(contents, file)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        contents.torn = f"{path}: the compressed file is cut off or damaged ({error})"
        return contents
    except OSError as error:
        raise FlightError(f"{path}: {error.strerror or error}") from error
    if not contents.rig and not contents.records:
        raise FlightError(f"{path}: no flight record of tipguard; expected a segment ({SUFFIX}), or a ring")
    return contents


def _read_stream(contents: Contents, file: Any) -> None:  # noqa: ANN401 - any binary file
    unpacker = msgpack.Unpacker(use_list=False, max_buffer_size=MAX_RECORD)
    first = True
    read = 0
    while (data := file.read(1 << 12)) and (read := read + len(data)) <= MAX_UNPACKED:
        unpacker.feed(data)
        try:
            for item in unpacker:
                if first:
                    first = False
                    _take_header(contents, item)
                else:
                    contents.records.append(_checked(item))
        except FlightError as error:
            contents.torn = f"{contents.name}: {error}, behind {len(contents.records)} records"
            return
        except (ValueError, msgpack.UnpackException) as error:
            contents.torn = f"{contents.name}: damaged behind {len(contents.records)} records ({error or 'no msgpack'})"
            return
    if unpacker.tell() < read:
        contents.torn = (
            f"{contents.name}: ends in the middle of a record; {read - unpacker.tell()} bytes behind "
            f"{len(contents.records)} records are left out"
        )


def _take_header(contents: Contents, item: object) -> None:
    if not isinstance(item, dict) or item.get("format") != FORMAT:
        raise FlightError("no flight record of tipguard")
    if item.get("v") != VERSION:
        raise FlightError(f"layout version {item.get('v')!r:.20}, this program knows {VERSION}")
    contents.rig = str(item.get("rig", "")) or "?"
    contents.continues = item.get("continues") is True


def _checked(item: object) -> FlightRecord:
    match item:
        case (int() as kind, int() as epoch, int() as seq, int() as pos, bytes() as payload, int() as crc):
            if zlib.crc32(payload) != crc:
                raise FlightError("a record's checksum is wrong")
            return FlightRecord(kind, epoch, seq, pos, payload)
    raise FlightError("something that is no record")


@dataclasses.dataclass(slots=True)
class Stretch:
    """What can be replayed in one go: a beginning, and the tape from there on without a gap."""

    start: dict[str, Any]
    """The beginning's map: an epoch's start, or a checkpoint."""
    records: list[FlightRecord]
    """Everything behind the beginning, tape and all."""

    @property
    def epoch(self) -> int:
        """The worker's life that this is of."""
        return int(self.start["epoch"])

    @property
    def t_ns(self) -> int:
        """When it begins."""
        return int(self.start["checkpoint_ns"] if self.start["from"] == "checkpoint" else self.start["t_ns"])

    def entries(self) -> list[Entry]:
        """Return the tape. Raises :class:`FlightError` for what is none."""
        return [entry for record in self.records if record.kind == Kind.TAPE for entry in unpack(record.payload)]

    def whole(self) -> list[FlightRecord]:
        """Return the records up to the last piece of tape: what the tape accounts for."""
        last = max((at for at, record in enumerate(self.records) if record.kind == Kind.TAPE), default=-1)
        return self.records[: last + 1]

    def documents(self, kind: Kind) -> Iterator[dict[str, Any]]:
        """Return the documents of one kind that the tape accounts for."""
        for record in self.whole():
            if record.kind == kind:
                document = msgpack.unpackb(record.payload, strict_map_key=False)
                if isinstance(document, dict):
                    yield document


def stretches(records: Iterable[FlightRecord]) -> tuple[list[Stretch], list[str]]:
    """Return what can be replayed, in order, and in words what cannot.

    A checkpoint on the way is kept among a stretch's records: :func:`cut_out` may begin there.
    """
    found: list[Stretch] = []
    notes: list[str] = []
    current: Stretch | None = None
    expected = 0
    for record in records:
        if current is not None and record.epoch != current.epoch:
            current = None
        if record.kind == Kind.TAPE_START and (current is None or record.seq != expected):
            start = _start_of(record, notes)
            current = None if start is None else Stretch(start, [])
            expected = record.seq
            if current is not None:
                found.append(current)
            continue
        if current is None:
            continue
        if record.kind == Kind.TAPE:
            why = _gap_in(record) if record.seq == expected else "a piece of the tape is missing"
            if why:
                notes.append(f"epoch {record.epoch:016x}: {why}; a replay can go on from the next checkpoint")
                current = None
                continue
            expected += 1
        current.records.append(record)
    return found, notes


def _start_of(record: FlightRecord, notes: list[str]) -> dict[str, Any] | None:
    try:
        start = msgpack.unpackb(record.payload, strict_map_key=False)
    except (ValueError, msgpack.UnpackException):
        start = None
    if not isinstance(start, dict) or start.get("from") not in ("start", "checkpoint"):
        notes.append(f"epoch {record.epoch:016x}: a beginning that cannot be read")
        return None
    if start.get("v") != VERSION:
        notes.append(f"epoch {record.epoch:016x}: tape version {start.get('v')!r:.20}, this program knows {VERSION}")
        return None
    return start


def _gap_in(record: FlightRecord) -> str | None:
    for entry in unpack(record.payload):
        if isinstance(entry, tuple) and entry[0] == GAP:
            return f"a declared gap of {entry[2]} entries"
    return None


def run_uids(stretch: Stretch) -> list[str]:
    """Return the runs that begin in a stretch, in order."""
    return [str(doc["uid"]) for doc in stretch.documents(Kind.RUN) if doc.get("kind") == "start"]


def cut_out(stretch: Stretch, uid: str) -> Stretch:
    """Return one run: from the last beginning before it to the first piece of tape behind its last document.

    Raises :class:`FlightError` when the run does not begin in the stretch. One that does not end goes to the end.
    """
    begins = next((at for at, record in enumerate(stretch.records) if _run_of(record) == (uid, "start")), None)
    if begins is None:
        raise FlightError(
            f"run {uid} does not begin in this stretch; it holds: {', '.join(run_uids(stretch)) or 'no run'}"
        )
    start, first = stretch.start, 0
    for at, record in enumerate(stretch.records[:begins]):
        if record.kind == Kind.TAPE_START and (checkpoint := _start_of(record, [])) is not None:
            start, first = checkpoint, at + 1
    kept: list[FlightRecord] = []
    ended = False
    for record in stretch.records[first:]:
        kept.append(record)
        ended = ended or _run_of(record) == (uid, "stop")
        if ended and record.kind == Kind.TAPE:
            break
    return Stretch(start, [record for record in kept if record.kind != Kind.TAPE_START])


def _run_of(record: FlightRecord) -> tuple[str, str] | None:
    if record.kind != Kind.RUN:
        return None
    document = msgpack.unpackb(record.payload, strict_map_key=False)
    return (str(document.get("uid")), str(document.get("kind"))) if isinstance(document, dict) else None


def write_flight(path: Path, rig: str, parts: Sequence[Stretch], *, compressed: bool, **more: object) -> int:
    """Write stretches into a file of their own and return its size in bytes. Raises :class:`FlightError`."""
    data = [header(rig, 0, continues=False, **more)]
    for part in parts:
        first = part.records[0] if part.records else None
        seq = next((record.seq for record in part.records if record.kind == Kind.TAPE), 0)
        pos = 0 if first is None else max(first.pos - 8, 0)
        data.append(encode(FlightRecord(Kind.TAPE_START, part.epoch, seq, pos, msgpack.packb(part.start))))
        data += [encode(record) for record in part.records]
    whole = b"".join(data)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # No time in the file: the same recording makes the same bytes.
        path.write_bytes(gzip.compress(whole, 9, mtime=0) if compressed else whole)
    except OSError as error:
        raise FlightError(f"{path}: {error.strerror}") from error
    return path.stat().st_size
