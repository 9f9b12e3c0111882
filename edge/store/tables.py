"""The Parquet files of a directory store: four tables, each partitioned by rig and by UTC date of the frame.

========= =====================================================================================================
frames    one row for each frame, ``payload`` as it came: the record from which the others could be made again
samples   one row for each sample
frontend  one row for each frame of the front end, its codes as lists: 100 000 samples a second are no rows of their own
documents one row for each event, run document, epoch and tombstone; ``doc`` as JSON
========= =====================================================================================================

``docs/stores.md`` lists the columns.
"""

from __future__ import annotations

import base64
import json
import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import PurePosixPath
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from edge.errors import FrameError
from edge.frames import SAMPLE_COLUMNS, Frame, Grid, decode_frame, hex16
from edge.front_block import FULL, MINMAX
from edge.store.backend import Key

FRAMES: Final = "frames"
SAMPLES: Final = "samples"
DOCUMENTS: Final = "documents"
FRONTEND: Final = "frontend"
TABLES: Final = (FRAMES, SAMPLES, DOCUMENTS, FRONTEND)
NO_DATE: Final = "1970-01-01"
"""Of frames whose time no calendar has."""

_I64_MAX: Final = 2**63 - 1
_TIME: Final = pa.timestamp("ns", tz="UTC")
_NUMBERED: Final = [("epoch", pa.string()), ("stream", pa.string()), ("seq", pa.uint64())]
_SCHEMAS: Final[Mapping[str, pa.Schema]] = {
    FRAMES: pa.schema([*_NUMBERED, ("kind", pa.string()), ("t_utc", _TIME), ("payload", pa.binary())]),
    SAMPLES: pa.schema(
        [
            ("epoch", pa.string()),
            ("seq", pa.uint64()),
            ("index", pa.uint64()),
            ("run", pa.string()),
            ("t_utc", _TIME),
            *((name, pa.from_numpy_dtype(np.dtype(dtype))) for name, (dtype, _) in SAMPLE_COLUMNS.items()),
            ("utc_valid", pa.bool_()),
        ]
    ),
    FRONTEND: pa.schema(
        [
            ("epoch", pa.string()),
            ("seq", pa.uint64()),
            ("run", pa.string()),
            ("t_utc", _TIME),
            ("t_ns", pa.int64()),
            ("t_unc_ns", pa.uint32()),
            ("period_ns", pa.float64()),
            ("first", pa.uint64()),
            ("n", pa.uint32()),
            ("step", pa.uint32()),
            ("index", pa.uint64()),
            ("boot", pa.string()),
            ("code_a", pa.float64()),
            ("code", pa.list_(pa.int16())),
            ("code_min", pa.list_(pa.int16())),
            ("code_max", pa.list_(pa.int16())),
            ("utc_valid", pa.bool_()),
        ]
    ),
    DOCUMENTS: pa.schema(
        [
            *_NUMBERED,
            ("kind", pa.string()),
            ("doc_kind", pa.string()),
            ("run", pa.string()),
            ("t_utc", _TIME),
            ("t_ns", pa.int64()),
            ("utc_valid", pa.bool_()),
            ("doc", pa.string()),
        ]
    ),
}
# Times and indices ascend by nearly the same step: their differences are what compresses.
_DELTA: Final = dict.fromkeys(("seq", "index", "t_ns", "t_rx_ns", "t_utc"), "DELTA_BINARY_PACKED")


class Record(NamedTuple):
    """One frame as the journal has it."""

    key: Key
    seq: int
    payload: bytes


class Part(NamedTuple):
    """One Parquet file to be."""

    path: PurePosixPath
    """Below the store's directory."""
    rows: int
    data: bytes


def file_name(number: int) -> str:
    """Return the name of the files made of a journal segment; :mod:`edge.store.joined` has those of several."""
    return f"{number:08d}.parquet"


class Place(NamedTuple):
    """Where rows belong."""

    table: str
    rig: str
    date: str


def parts(records: Iterable[Record], number: int) -> Iterator[Part]:
    """Yield the files that hold ``records``, those of journal segment ``number``."""
    for place, table in by_place(records).items():
        path = PurePosixPath(place.table, f"rig={place.rig}", f"date={place.date}", file_name(number))
        yield Part(path, table.num_rows, _encoded(table))


def with_place(found: Mapping[Place, pa.Table], name: str) -> pa.Table:
    """Return all rows of one table, with ``rig`` and ``date`` as columns; none are a table of no rows."""
    listed = []
    for place, table in found.items():
        if place.table == name:
            date = pa.array([place.date] * table.num_rows, pa.string()).cast(pa.date32())
            rig = pa.array([place.rig] * table.num_rows, pa.string())
            listed.append(table.append_column("date", date).append_column("rig", rig))
    schema = _SCHEMAS[name].append(pa.field("date", pa.date32())).append(pa.field("rig", pa.string()))
    return pa.concat_tables(listed) if listed else schema.empty_table()


def by_place(records: Iterable[Record]) -> dict[Place, pa.Table]:
    """Return the rows of ``records``, in the order of their numbers."""
    samples: dict[Place, list[Frame]] = defaultdict(list)
    rows: dict[Place, list[dict[str, Any]]] = defaultdict(list)
    for record in sorted(records, key=lambda record: (record.key, record.seq)):
        frame = _decoded(record)
        t_ns = None if frame is None else _in_calendar(frame.t0_ns + frame.mono_to_utc_ns)
        place = Place(FRAMES, record.key.rig, NO_DATE if t_ns is None else _date(t_ns))
        rows[place].append(_frame_row(record, frame, t_ns))
        if frame is not None and frame.doc is not None:
            rows[place._replace(table=DOCUMENTS)].append(_document_row(frame, frame.doc, t_ns))
        elif frame is not None and frame.grid is not None:
            rows[place._replace(table=FRONTEND)].append(_front_row(frame, frame.grid, t_ns))
        elif frame is not None:
            samples[place._replace(table=SAMPLES)].append(frame)
    return {
        **{place: pa.Table.from_pylist(listed, schema=_SCHEMAS[place.table]) for place, listed in rows.items()},
        **{place: _samples(frames) for place, frames in samples.items()},
    }


def _encoded(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, **encodings(table.schema))
    data: bytes = sink.getvalue().to_pybytes()
    return data


def encodings(schema: pa.Schema) -> dict[str, Any]:
    """Return how a file with these columns is written, as pyarrow's writers take it."""
    delta = {name: encoding for name, encoding in _DELTA.items() if name in schema.names}
    plain = [name for name in schema.names if name not in delta and name != "payload"]
    return {"compression": "zstd", "use_dictionary": plain, "column_encoding": delta}


def _decoded(record: Record) -> Frame | None:
    # It was decoded when it came, but perhaps by another version of this program.
    try:
        return decode_frame(record.payload)
    except FrameError:
        return None


def _in_calendar(t_ns: int) -> int | None:
    return t_ns if 0 <= t_ns <= _I64_MAX else None


def _date(t_ns: int) -> str:
    return datetime.fromtimestamp(t_ns // 1_000_000_000, UTC).date().isoformat()


def _frame_row(record: Record, frame: Frame | None, t_ns: int | None) -> dict[str, Any]:
    return {
        "epoch": hex16(record.key.epoch),
        "stream": record.key.stream,
        "seq": record.seq,
        "kind": None if frame is None else frame.kind,
        "t_utc": t_ns,
        "payload": record.payload,
    }


def _document_row(frame: Frame, doc: Mapping[str, Any], t_ns: int | None) -> dict[str, Any]:
    kind = doc.get("kind")
    return {
        "epoch": frame.epoch,
        "stream": frame.stream,
        "seq": frame.seq,
        "kind": frame.kind,
        "doc_kind": kind if isinstance(kind, str) else None,
        "run": frame.run,
        "t_utc": t_ns,
        "t_ns": frame.t0_ns,
        "utc_valid": frame.utc_valid,
        "doc": json.dumps(plain(doc), allow_nan=False, separators=(",", ":")),
    }


def _front_row(frame: Frame, grid: Grid, t_ns: int | None) -> dict[str, Any]:
    return {
        "epoch": frame.epoch,
        "seq": frame.seq,
        "run": frame.run,
        "t_utc": t_ns,
        "t_ns": frame.t0_ns,
        "first": frame.first,
        "n": frame.n,
        "utc_valid": frame.utc_valid,
        **asdict(grid),
        **{name: frame.cols.get(name) for name in (*FULL, *MINMAX)},
    }


def plain(value: Any) -> Any:  # noqa: ANN401 - documents hold anything
    """Return what JSON can hold of ``value``: null for what is no number, base64 for bytes."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, bytes):
        return {"base64": base64.b64encode(value).decode()}
    if isinstance(value, Mapping):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    if isinstance(value, str):
        # msgpack lets half a surrogate pair through; no file of text has one.
        return value.encode("utf-8", "replace").decode()
    return value


class _Words:
    """A column of texts of which there are few: kept as numbers until the end."""

    def __init__(self) -> None:
        self._codes: dict[str, int] = {}
        self._parts: list[npt.NDArray[np.int32]] = []

    def add(self, word: str, n: int) -> None:
        """Append ``word`` n times."""
        self._parts.append(np.full(n, self._code(word), np.int32))

    def add_each(self, words: Iterable[str]) -> None:
        """Append each of ``words``."""
        self._parts.append(np.fromiter((self._code(word) for word in words), np.int32))

    def _code(self, word: str) -> int:
        return self._codes.setdefault(word, len(self._codes))

    def column(self) -> pa.Array:
        """Return the column."""
        codes = pa.array(np.concatenate(self._parts))
        return pa.DictionaryArray.from_arrays(codes, pa.array(list(self._codes), pa.string())).cast(pa.string())


def _samples(frames: Sequence[Frame]) -> pa.Table:
    """Return one row for each sample; all frames at once, since a table for each costs more than its rows."""
    counts = [frame.n for frame in frames]
    epochs, runs = _Words(), _Words()
    for frame in frames:
        epochs.add(frame.epoch, frame.n)
        if "run" in frame.cols:
            runs.add_each(hex16(int(run)) if run else "" for run in frame.cols["run"])
        else:
            runs.add(frame.run, frame.n)
    times, unknown = zip(*map(_times, frames), strict=True)
    first = np.repeat(np.array([frame.first for frame in frames], np.uint64), counts)
    within = np.concatenate([np.arange(n, dtype=np.uint64) for n in counts])
    columns = {
        "epoch": epochs.column(),
        "seq": np.repeat(np.array([frame.seq for frame in frames], np.uint64), counts),
        "index": first + within,
        "run": runs.column(),
        "t_utc": pa.array(np.concatenate(times), pa.int64(), mask=np.concatenate(unknown)).cast(_TIME),
        **{name: np.concatenate([frame.cols[name] for frame in frames]) for name in SAMPLE_COLUMNS},
        "utc_valid": np.repeat(np.array([frame.utc_valid for frame in frames]), counts),
    }
    schema = _SCHEMAS[SAMPLES]
    # NaN stays NaN: it says "not to be trusted", which is not "unknown".
    return pa.table([pa.array(columns[field.name], from_pandas=False) for field in schema], schema=schema)


def _times(frame: Frame) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """Return UTC of each sample, ns since 1970, and where no calendar has it."""
    t_ns = frame.cols["t_ns"]
    first_ns, last_ns = int(t_ns.min()) + frame.mono_to_utc_ns, int(t_ns.max()) + frame.mono_to_utc_ns
    if first_ns >= 0 and last_ns <= _I64_MAX:
        return frame.utc_ns, np.zeros(frame.n, np.bool_)
    times = [_in_calendar(int(t) + frame.mono_to_utc_ns) for t in t_ns]
    unknown = np.array([t is None for t in times], np.bool_)
    return np.array([0 if t is None else t for t in times], np.int64), unknown
