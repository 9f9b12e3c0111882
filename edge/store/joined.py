"""Several Parquet files of one table joined into one, a row group at a time; and which stretch its rows are of.

A stretch is what became of one journal segment. A file that compaction made holds one, and its name is the number; a
joined file holds several, one behind the other, and its name is the first and the last of their numbers. Their order
and their rows stand in its footer, so that what is known of a segment can be told from it as from the files before.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any, Final, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from edge.store import tables

GROUP_BYTES: Final = 32 << 20
"""A row group of a joined file is closed at so many bytes of Arrow memory: what a join holds at a time."""

_BATCH_BYTES: Final = 2 << 20
_BATCH_ROWS: Final = 65_536
_BUFFER_BYTES: Final = 1 << 20
_FOOTER: Final = b"tipguard.stretches"
_NAME: Final = re.compile(r"(\d{8,})(?:-(\d{8,}))?\.parquet")


class Stored(NamedTuple):
    """One Parquet file, and the numbers of the first and the last stretch in it."""

    path: Path
    first: int
    last: int

    @property
    def joined(self) -> bool:
        """True for what was joined of several."""
        return self.last > self.first


class Stretch(NamedTuple):
    """What a file holds of one journal segment."""

    number: int
    rows: int


Head = tuple[str, str, int, str | None]
"""epoch, stream, seq, kind of a frame."""


def joined_name(first: int, last: int) -> str:
    """Return the name of a joined file."""
    return f"{first:08d}-{last:08d}.parquet"


def stored(place: Path) -> list[Stored]:
    """Return the Parquet files in one folder by their numbers, the widest first of those that begin alike.

    A folder that is not there has none, and neither has what is no folder. Raises OSError.
    """
    found = []
    try:
        names = sorted(path.name for path in place.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []
    for name in names:
        if match := _NAME.fullmatch(name):
            first = int(match[1])
            found.append(Stored(place / name, first, int(match[2] or first)))
    return sorted(found, key=lambda one: (one.first, -one.last))


def outermost(files: Iterable[Stored]) -> list[Stored]:
    """Return ``files``, sorted as :func:`stored` does, without those within another one's numbers."""
    kept: list[Stored] = []
    for one in files:
        if not kept or one.last > kept[-1].last:
            kept.append(one)
    return kept


def holders(files: Iterable[Stored], numbers: Iterable[int]) -> tuple[list[Stored], list[int]]:
    """Return the files that hold these stretches, each once and ascending; and the numbers that none holds."""
    candidates = outermost(files)
    found: list[Stored] = []
    missing: list[int] = []
    at = 0
    for number in sorted(numbers):
        while at < len(candidates) and candidates[at].last < number:
            at += 1
        if at == len(candidates) or candidates[at].first > number:
            missing.append(number)
        elif not found or found[-1] is not candidates[at]:
            found.append(candidates[at])
    return found, missing


def read_stretches(one: Stored) -> list[Stretch]:
    """Return what a file holds, in its order, from its footer. Raises what pyarrow raises, and ValueError."""
    with pq.ParquetFile(str(one.path)) as file:
        return _stretches(file, one)


def _stretches(file: pq.ParquetFile, one: Stored) -> list[Stretch]:
    rows = int(file.metadata.num_rows)
    if not one.joined:
        return [Stretch(one.first, rows)]
    text = (file.metadata.metadata or {}).get(_FOOTER)
    try:
        found = [Stretch(int(number), int(count)) for number, count in json.loads(text or b"")]
    except (TypeError, ValueError) as error:
        raise ValueError(f"{one.path}: its footer does not say what was joined") from error
    numbers = [stretch.number for stretch in found]
    if sum(stretch.rows for stretch in found) != rows or numbers != sorted(set(numbers)):
        raise ValueError(f"{one.path}: its footer does not fit its rows")
    if not numbers or (numbers[0], numbers[-1]) != (one.first, one.last):
        raise ValueError(f"{one.path}: its footer does not fit its name")
    return found


# ---------------------------------------------------------------------------------------------------------- reading


def read_payloads(one: Stored, wanted: Iterable[int]) -> Iterator[tuple[str, str, int, bytes]]:
    """Yield (epoch, stream, seq, payload) of the rows of the ``wanted`` stretches of a file of frames.

    A file that is gone is a FileNotFoundError, before the first row: what is open can be read to its end, whoever
    removes it. Raises what else pyarrow raises, and ValueError.
    """
    asked = set(wanted)
    for number, row in _rows(one):
        if number in asked:
            yield row


def _rows(one: Stored) -> Iterator[tuple[int, tuple[str, str, int, bytes]]]:
    with pq.ParquetFile(str(one.path)) as file:
        found = _stretches(file, one)
        ends = list(accumulate(stretch.rows for stretch in found))
        row = at = 0
        for batch in file.iter_batches(batch_size=256, columns=["epoch", "stream", "seq", "payload"]):
            columns: Sequence[list[Any]] = [batch.column(index).to_pylist() for index in range(4)]
            for values in zip(*columns, strict=True):
                while row >= ends[at]:
                    at += 1
                row += 1
                yield found[at].number, values


def digests(one: Stored) -> dict[int, str]:
    """Return what tells the frames of each stretch of a file of frames from others. Raises as above."""
    found = {stretch.number: hashlib.sha256() for stretch in read_stretches(one)}
    for number, (epoch, stream, seq, payload) in _rows(one):
        found[number].update(f"{epoch} {stream} {seq} {len(payload)} ".encode("utf-8", "replace") + payload)
    return {number: digest.hexdigest() for number, digest in found.items()}


def read_through(one: Stored) -> None:
    """Read every page of a file, so that what is damaged is known. Raises as above."""
    with pq.ParquetFile(str(one.path), buffer_size=_BUFFER_BYTES) as file:
        for _ in file.iter_batches(use_threads=False):
            pass


def read_heads(one: Stored) -> Mapping[int, list[Head]]:
    """Return the heads of every row of a file of frames, by stretch. Raises as above."""
    names = ["epoch", "stream", "seq", "kind"]
    with pq.ParquetFile(str(one.path)) as file:
        found = _stretches(file, one)
        table = file.read(columns=names)
    rows = list(zip(*(table.column(name).to_pylist() for name in names), strict=True))
    ends = list(accumulate(stretch.rows for stretch in found))
    return {stretch.number: rows[end - stretch.rows : end] for stretch, end in zip(found, ends, strict=True)}


# ---------------------------------------------------------------------------------------------------------- joining


@dataclass(frozen=True, slots=True)
class Joint:
    """Files that can be made one."""

    files: tuple[Stored, ...]
    stretches: tuple[Stretch, ...]
    schema: pa.Schema

    @property
    def name(self) -> str:
        """Of the joined file."""
        return joined_name(self.stretches[0].number, self.stretches[-1].number)


def joint_of(files: Sequence[Stored]) -> Joint:
    """Return the first of ``files`` that have the same columns: an earlier version may have had others.

    Raises what pyarrow raises, and ValueError.
    """
    schema: pa.Schema | None = None
    taken: list[Stored] = []
    found: list[Stretch] = []
    for one in files:
        with pq.ParquetFile(str(one.path)) as file:
            columns = file.schema_arrow.remove_metadata()
            if schema is not None and not columns.equals(schema):
                break
            schema = columns
            taken.append(one)
            found += _stretches(file, one)
    return Joint(tuple(taken), tuple(found), schema)


def join(joint: Joint, sink: Any, rest: Callable[[], None], *, group_bytes: int = GROUP_BYTES) -> None:  # noqa: ANN401 - whatever pyarrow writes to
    """Write a joined file to ``sink``. ``rest`` is called again and again, and may raise to end it.

    In memory are one row group of ``group_bytes`` and a piece of the file it is read from. Raises what pyarrow raises,
    and ValueError where the files changed.
    """
    rows = 0
    held: list[pa.RecordBatch] = []
    with pq.ParquetWriter(sink, joint.schema, **tables.encodings(joint.schema)) as writer:

        def flush() -> None:
            table = pa.Table.from_batches(held, joint.schema)
            writer.write_table(table, row_group_size=max(1, table.num_rows))
            held.clear()

        for batch in _batches(joint.files):
            held.append(batch)
            rows += batch.num_rows
            if sum(one.nbytes for one in held) >= group_bytes:
                flush()
            rest()
        if held:
            flush()
        if rows != sum(stretch.rows for stretch in joint.stretches):
            raise ValueError(f"{joint.files[0].path.parent}: files changed while they were joined")
        writer.add_key_value_metadata({_FOOTER.decode(): json.dumps(joint.stretches)})


def _batches(files: Iterable[Stored]) -> Iterator[pa.RecordBatch]:
    for one in files:
        with pq.ParquetFile(str(one.path), buffer_size=_BUFFER_BYTES) as file:
            described = file.metadata
            size = sum(described.row_group(at).total_byte_size for at in range(described.num_row_groups))
            row_bytes = max(1, size // max(1, described.num_rows))
            batch_rows = max(1, min(_BATCH_ROWS, _BATCH_BYTES // row_bytes))
            yield from file.iter_batches(batch_size=batch_rows, use_threads=False)
