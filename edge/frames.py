"""The published frame, schema version 1: one msgpack map. ``docs/data.md`` says the same in plain words.

========== ======== =====================================================================================
field      type     meaning
========== ======== =====================================================================================
v          int      schema version, 1
kind       str      "samples", "event", "run", "epoch", "tombstone" or "frontend"
rig        str      name of the rig: lower-case letters, digits, hyphens; at most 32
epoch      str      16 hex digits, drawn at random at each start of the controller; never ordered
stream     str      "samples", "events", "runs", "epochs", "tombstones" or "frontend": what ``seq`` counts; a
                    tombstone also stands in any other stream, where a frame was
seq        int      number of this frame in (rig, epoch, stream), from 0 without holes; that is its identity
run        str      16 hex digits of the run it belongs to, or ""
n          int      rows in ``cols``; 0 when there are none
first      int      number, in this epoch, of the first sample, or row; the next frame's is ``first + n`` unless
                    samples are missing
t0_ns      int      ns, CLOCK_MONOTONIC: middle of the first sample's aperture, or when the event happened
mono_to_utc_ns int  ns to add to any monotonic time of this frame to get ns since 1970-01-01 UTC
utc_valid  bool     the host's clock was synchronised when the frame was made
utc_unc_ns int      ns, half width of the uncertainty of ``mono_to_utc_ns``
cols       map      name -> {"dtype": str, "unit": str, "data": bin of n * itemsize bytes, little-endian}
doc        map      what happened, for every kind but "samples" and "frontend"
grid       map      only in "frontend": when the rows are, and what a code is worth; see :class:`Grid`
========== ======== =====================================================================================

Exactly one of ``cols`` and ``doc`` is present. Columns of "samples" (more may be added, none is ever renamed)::

    t_ns      <i8 ns  middle of the aperture, CLOCK_MONOTONIC      bias_v    <f8 V  programmed level, tip against Li/Li+
    t_unc_ns  <u4 ns  half width of its uncertainty                current_a <f8 A  measured; NaN when not to be trusted
    t_rx_ns   <i8 ns  arrival of the reading's last byte           flags     <u2    bits of edge.samples.Flag
    run       <u8     only when samples of several runs share      phase     <u1    edge.samples.Phase
                      the frame: the run of each, 0 for none

Columns of "frontend": ``code`` <i2, every sample of the front end, or ``code_min`` and ``code_max`` <i2, the smallest
and the largest of each ``step`` samples. Row k is at ``t0_ns + k * grid.period_ns``; a current in A is
``code * grid.code_a``.

A reader ignores fields and columns it does not know, and refuses a ``v`` it does not know.
"""

from __future__ import annotations

import ctypes
import math
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from types import MappingProxyType
from typing import Any, Final, NamedTuple

import msgpack
import numpy as np
import numpy.typing as npt

from edge.errors import FrameError
from edge.front_block import FULL, MINMAX, FrontBlock
from edge.samples import Sample

VERSION: Final = 1
CONTENT_TYPE: Final = "application/msgpack"
MAX_FRAME_BYTES: Final = 1 << 20
"""What the brokers of this project are configured to pass."""
MAX_SAMPLES: Final = 4096
MAX_COLUMNS: Final = 64

STREAM_OF_KIND: Final[Mapping[str, str]] = MappingProxyType(
    {
        "samples": "samples",
        "event": "events",
        "run": "runs",
        "epoch": "epochs",
        "tombstone": "tombstones",
        "frontend": "frontend",
    }
)
STREAMS: Final = frozenset(STREAM_OF_KIND.values())
TOPIC_OF_KIND: Final[Mapping[str, str]] = MappingProxyType(
    # What interrupts or explains the data travels with the events.
    {
        "samples": "samples",
        "event": "events",
        "run": "runs",
        "epoch": "events",
        "tombstone": "events",
        "frontend": "samples",
    }
)
MEASURED: Final = ("frontend", "samples")
"""Kinds, and streams, that hold columns of what was measured; what is given up first comes first."""
SAMPLE_COLUMNS: Final[Mapping[str, tuple[str, str]]] = MappingProxyType(
    {
        "t_ns": ("<i8", "ns"),
        "t_unc_ns": ("<u4", "ns"),
        "t_rx_ns": ("<i8", "ns"),
        "bias_v": ("<f8", "V"),
        "current_a": ("<f8", "A"),
        "flags": ("<u2", ""),
        "phase": ("<u1", ""),
    }
)
"""name -> (dtype, unit), in the order of :class:`edge.samples.Sample`."""
DTYPES: Final = frozenset({"<i1", "<i2", "<i4", "<i8", "<u1", "<u2", "<u4", "<u8", "<f4", "<f8"})

_RIG = re.compile(r"[a-z0-9][a-z0-9-]{0,31}")
_HEX8 = re.compile(r"[0-9a-f]{8}")
_HEX16 = re.compile(r"[0-9a-f]{16}")
_I64: Final = (-(2**63), 2**63 - 1)
_U64: Final = (0, 2**64 - 1)


class UtcMapping(NamedTuple):
    """How this host's monotonic clock relates to UTC, now."""

    offset_ns: int
    """Add to CLOCK_MONOTONIC to get ns since 1970-01-01 UTC."""
    valid: bool
    """The kernel says the clock is synchronised."""
    unc_ns: int
    """Half width of the uncertainty: the reading's, and the kernel's bound on the clock's error."""


@dataclass(frozen=True, slots=True)
class Grid:
    """Of a frame of the front end: when its rows are, and what a code is worth. The map ``grid`` has the same names."""

    index: int
    """The device's number of the first row's first sample, since its boot."""
    step: int
    """Samples that each row covers, from its time on; 1 where every sample is there."""
    period_ns: float
    """From row to row, on the host's clock."""
    t_unc_ns: int
    """Half width of the uncertainty of every row's time, ns."""
    code_a: float
    """Current per code, A; negative where the converter counts the other way than the instrument."""
    boot: str
    """8 hex digits, drawn by the device at each start: ``index`` begins anew with it."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One decoded frame; fields as in the module's table. ``cols`` hold read-only arrays of length ``n``."""

    kind: str
    rig: str
    epoch: str
    stream: str
    seq: int
    run: str
    n: int
    first: int
    t0_ns: int
    mono_to_utc_ns: int
    utc_valid: bool
    utc_unc_ns: int
    cols: Mapping[str, npt.NDArray[Any]] = field(default_factory=dict)
    units: Mapping[str, str] = field(default_factory=dict)
    """Unit of each column; "" for a count, a bit field or an id."""
    doc: Mapping[str, Any] | None = None
    v: int = VERSION
    grid: Grid | None = None
    """Only of kind "frontend"."""

    @property
    def identity(self) -> tuple[str, str, str, int]:
        """(rig, epoch, stream, seq): two frames with the same identity are the same frame, delivered twice."""
        return self.rig, self.epoch, self.stream, self.seq

    @property
    def utc_ns(self) -> npt.NDArray[np.int64]:
        """Time of each sample in ns since 1970-01-01 UTC, shape (n,); right only as far as ``utc_valid`` says."""
        return self.times_ns + np.int64(self.mono_to_utc_ns)

    @property
    def times_ns(self) -> npt.NDArray[np.int64]:
        """Time of each row in ns of the host's CLOCK_MONOTONIC, shape (n,)."""
        if self.grid is None:
            times: npt.NDArray[np.int64] = self.cols["t_ns"]
            return times
        return self.t0_ns + np.round(np.arange(self.n) * self.grid.period_ns).astype(np.int64)

    @property
    def currents_a(self) -> Mapping[str, npt.NDArray[np.float64]]:
        """Columns of currents in A: ``current_a``; of the front end that, or ``low_a`` and ``high_a``."""
        if self.grid is None:
            return {"current_a": self.cols["current_a"]}
        code_a = self.grid.code_a
        if "code" in self.cols:
            return {"current_a": self.cols["code"] * code_a}
        low, high = self.cols["code_min"] * code_a, self.cols["code_max"] * code_a
        return {"low_a": np.minimum(low, high), "high_a": np.maximum(low, high)}


# ------------------------------------------------------------------------------------------------- building


def hex16(number: int) -> str:
    """Return an epoch or run id, 0..2**64-1, as its 16 hex digits."""
    return f"{number:016x}"


def sample_frame(
    rig: str, epoch: int, seq: int, first: int, samples: Sequence[Sample], runs: Sequence[int], utc: UtcMapping
) -> bytes:
    """Return the frame of 1..4096 samples. ``runs``: the run id of each, 0 for none. ``first``: see the table.

    Raises :class:`FrameError` when there are none or too many, or a value does not fit its column.
    """
    if not 0 < len(samples) <= MAX_SAMPLES or len(runs) != len(samples):
        raise FrameError(f"frame of {len(samples)} samples and {len(runs)} run ids; 1..{MAX_SAMPLES}, equally many")
    try:
        cols = {
            name: {"dtype": dtype, "unit": unit, "data": np.array(values, dtype).tobytes()}
            for (name, (dtype, unit)), values in zip(SAMPLE_COLUMNS.items(), zip(*samples, strict=True), strict=True)
        }
        run = hex16(runs[0]) if runs[0] else ""
        if any(other != runs[0] for other in runs):
            run = ""
            cols["run"] = {"dtype": "<u8", "unit": "", "data": np.array(runs, "<u8").tobytes()}
    except (OverflowError, ValueError, TypeError) as error:
        raise FrameError(f"samples of frame {seq}: {error}") from error
    head = _head("samples", rig, epoch, seq, run, samples[0].t_ns, utc)
    return _pack({**head, "n": len(samples), "first": first, "cols": cols})


def table_frame(rig: str, epoch: int, seq: int, first: int, table: npt.NDArray[Any], utc: UtcMapping) -> bytes:
    """Return the frame of 1..4096 samples given as records: fields named and typed as in the table above, and ``run``.

    The same bytes as :func:`sample_frame` makes of the same samples, in a tenth of the time.
    """
    if not 0 < len(table) <= MAX_SAMPLES:
        raise FrameError(f"frame of {len(table)} samples; 1..{MAX_SAMPLES}")
    cols = {
        name: {"dtype": dtype, "unit": unit, "data": table[name].tobytes()}
        for name, (dtype, unit) in SAMPLE_COLUMNS.items()
    }
    run = int(table["run"][0])
    runs = table["run"].tobytes()
    if mixed := runs != runs[:8] * len(table):
        cols["run"] = {"dtype": "<u8", "unit": "", "data": runs}
    head = _head("samples", rig, epoch, seq, hex16(run) if run and not mixed else "", int(table["t_ns"][0]), utc)
    return _pack({**head, "n": len(table), "first": first, "cols": cols})


def front_frame(rig: str, epoch: int, seq: int, block: FrontBlock, utc: UtcMapping) -> bytes:
    """Return the frame of a block of the front end. Raises :class:`FrameError` for one that has none."""
    if not 0 < block.rows <= MAX_SAMPLES:
        raise FrameError(f"frame of {block.rows} rows; 1..{MAX_SAMPLES}")
    width = len(block.columns)
    table = np.frombuffer(block.data, "<i2").reshape(block.rows, width)
    cols = {
        name: {"dtype": "<i2", "unit": "", "data": block.data if width == 1 else table[:, at].tobytes()}
        for at, name in enumerate(block.columns)
    }
    grid = Grid(block.index, block.step, block.period_ns, block.t_unc_ns, block.code_a, f"{block.boot:08x}")
    head = _head("frontend", rig, epoch, seq, hex16(block.run) if block.run else "", block.t_ns, utc)
    return _pack({**head, "n": block.rows, "first": block.first, "grid": asdict(grid), "cols": cols})


def doc_frame(kind: str, rig: str, epoch: int, seq: int, doc: Mapping[str, Any], utc: UtcMapping) -> bytes:
    """Return the frame of a document; its "t_ns" and "run" (id or hex digits), if any, go into the frame's head.

    Raises :class:`FrameError` when the kind is unknown, or the document is not msgpack's or too large.
    """
    if kind not in STREAM_OF_KIND or kind in MEASURED:
        raise FrameError(f"kind {kind!r} is not that of a document")
    run = doc.get("run")
    if type(run) is int and 0 < run < 2**64:
        run = hex16(run)
    if not isinstance(run, str) or not _HEX16.fullmatch(run):
        run = ""
    t_ns = doc.get("t_ns")
    head = _head(kind, rig, epoch, seq, run, t_ns if type(t_ns) is int else 0, utc)
    return _pack({**head, "n": 0, "first": 0, "doc": doc})


def tombstone_in_place(
    rig: str, epoch: int, stream: str, seq: int, doc: Mapping[str, Any], utc: UtcMapping, run: str = ""
) -> bytes:
    """Return what stands where a frame was: same identity, kind "tombstone". ``doc`` says what is missing and why.

    Raises :class:`FrameError` for a stream that is none, or a document that msgpack does not take.
    """
    if stream not in STREAMS:
        raise FrameError(f"stream {stream!r}; one of {', '.join(sorted(STREAMS))}")
    t_ns = doc.get("t_ns")
    head = _head("tombstone", rig, epoch, seq, run, t_ns if type(t_ns) is int else 0, utc)
    return _pack({**head, "stream": stream, "n": 0, "first": 0, "doc": doc})


def _head(kind: str, rig: str, epoch: int, seq: int, run: str, t0_ns: int, utc: UtcMapping) -> dict[str, Any]:
    if not _RIG.fullmatch(rig):
        raise FrameError(f"rig: {rig[:40]!r} does not match {_RIG.pattern}")
    return {
        "v": VERSION,
        "kind": kind,
        "rig": rig,
        "epoch": hex16(epoch),
        "stream": STREAM_OF_KIND[kind],
        "seq": seq,
        "run": run,
        "t0_ns": t0_ns,
        "mono_to_utc_ns": utc.offset_ns,
        "utc_valid": utc.valid,
        "utc_unc_ns": utc.unc_ns,
    }


def _pack(fields: dict[str, Any]) -> bytes:
    where = f"{fields['kind']} frame {fields['seq']}"
    try:
        payload: bytes = msgpack.packb(fields)
    except (TypeError, ValueError, OverflowError) as error:
        raise FrameError(f"{where} cannot be encoded: {error}") from error
    if len(payload) > MAX_FRAME_BYTES:
        raise FrameError(f"{where} is {len(payload)} bytes, at most {MAX_FRAME_BYTES}")
    return payload


# ------------------------------------------------------------------------------------------------- decoding


def decode_frame(payload: bytes) -> Frame:
    """Decode and check one frame. Raises :class:`FrameError`, and nothing else, saying which field is wrong."""
    fields = decode_map(payload)
    if _int(fields, "v", (0, 2**31)) != VERSION:
        raise FrameError(f"v: schema version {fields['v']}, this program knows {VERSION}")
    kind = _text(fields, "kind")
    stream = _text(fields, "stream")
    # A tombstone may also stand in any stream, in the place of a frame of it.
    if STREAM_OF_KIND.get(kind) != stream and not (kind == "tombstone" and stream in STREAMS):
        raise FrameError(f"kind, stream: {kind[:32]!r} with {stream[:32]!r}")
    n = _int(fields, "n", (0, MAX_SAMPLES))
    arrays: dict[str, npt.NDArray[Any]] = {}
    units: dict[str, str] = {}
    doc = grid = None
    if kind in MEASURED:
        arrays, units = _columns(fields, n)
        if kind == "samples":
            _require(arrays, units, SAMPLE_COLUMNS)
        else:
            grid = _grid(fields, arrays, units)
    else:
        doc = fields.get("doc")
        if not isinstance(doc, dict) or "cols" in fields or n:
            raise FrameError("doc: expected a map, n = 0 and no cols")
    utc_valid = fields.get("utc_valid")
    if not isinstance(utc_valid, bool):
        raise FrameError("utc_valid: expected a bool")
    return Frame(
        kind=kind,
        rig=_match(fields, "rig", _RIG),
        epoch=_match(fields, "epoch", _HEX16),
        stream=stream,
        seq=_int(fields, "seq", _U64),
        run="" if fields.get("run") == "" else _match(fields, "run", _HEX16),
        n=n,
        first=_int(fields, "first", _U64),
        t0_ns=_int(fields, "t0_ns", _I64),
        mono_to_utc_ns=_int(fields, "mono_to_utc_ns", _I64),
        utc_valid=utc_valid,
        utc_unc_ns=_int(fields, "utc_unc_ns", _U64),
        cols=arrays,
        units=units,
        doc=doc,
        grid=grid,
    )


def decode_map(payload: bytes) -> dict[str, Any]:
    """Decode one msgpack map with text keys, bounded in size. Raises :class:`FrameError`."""
    if len(payload) > MAX_FRAME_BYTES:
        raise FrameError(f"{len(payload)} bytes, at most {MAX_FRAME_BYTES}")
    try:
        # No extension types: none is in the schema, and a timestamp would smuggle in a class of msgpack's own.
        fields = msgpack.unpackb(payload, max_ext_len=0, ext_hook=_no_extensions)
    except (ValueError, TypeError, RecursionError, msgpack.UnpackException) as error:
        raise FrameError(f"not one msgpack value: {type(error).__name__} {error}") from error
    if not isinstance(fields, dict) or not all(isinstance(key, str) for key in fields):
        raise FrameError(f"expected a map with text keys, found {type(fields).__name__}")
    return fields


def _no_extensions(code: int, _data: bytes) -> None:
    raise ValueError(f"extension type {code}")


def _int(fields: Mapping[str, Any], key: str, bounds: tuple[int, int]) -> int:
    value = fields.get(key)
    # bool is an int to isinstance, and no number to us.
    if type(value) is not int or not bounds[0] <= value <= bounds[1]:
        raise FrameError(f"{key}: expected an integer from {bounds[0]} to {bounds[1]}")
    return value


def _text(fields: Mapping[str, Any], key: str) -> str:
    value = fields.get(key)
    if not isinstance(value, str):
        raise FrameError(f"{key}: expected text")
    return value


def _match(fields: Mapping[str, Any], key: str, pattern: re.Pattern[str]) -> str:
    value = _text(fields, key)
    if not pattern.fullmatch(value):
        raise FrameError(f"{key}: {value[:40]!r} does not match {pattern.pattern}")
    return value


def _columns(fields: Mapping[str, Any], n: int) -> tuple[dict[str, npt.NDArray[Any]], dict[str, str]]:
    cols = fields.get("cols")
    if not isinstance(cols, dict) or "doc" in fields or n == 0:
        raise FrameError("cols: expected a map, n > 0 and no doc")
    if len(cols) > MAX_COLUMNS or not all(isinstance(name, str) for name in cols):
        raise FrameError(f"cols: at most {MAX_COLUMNS}, with text names")
    arrays, units = {}, {}
    for name, column in cols.items():
        arrays[name], units[name] = _column(name[:32], column, n)
    return arrays, units


def _require(
    arrays: Mapping[str, npt.NDArray[Any]], units: Mapping[str, str], wanted: Mapping[str, tuple[str, str]]
) -> None:
    for name, (dtype, unit) in wanted.items():
        if name not in arrays or arrays[name].dtype != np.dtype(dtype) or units[name] != unit:
            raise FrameError(f"cols.{name}: expected a column of {dtype} in {unit or 'no unit'!r}")


def _grid(fields: Mapping[str, Any], arrays: Mapping[str, npt.NDArray[Any]], units: Mapping[str, str]) -> Grid:
    columns = FULL if "code" in arrays else MINMAX
    _require(arrays, units, dict.fromkeys(columns, ("<i2", "")))
    grid = fields.get("grid")
    if not isinstance(grid, dict):
        raise FrameError("grid: expected a map")
    numbers = {}
    for name in ("period_ns", "code_a"):
        value = grid.get(name)
        if type(value) is not float or not math.isfinite(value) or not value:
            raise FrameError(f"grid.{name}: expected a finite number that is not 0")
        numbers[name] = value
    boot = grid.get("boot")
    if not isinstance(boot, str) or not _HEX8.fullmatch(boot):
        raise FrameError(f"grid.boot: {boot!r:.40} does not match {_HEX8.pattern}")
    return Grid(
        index=_int(grid, "index", _U64),
        step=_int(grid, "step", (1, 2**32 - 1)),
        t_unc_ns=_int(grid, "t_unc_ns", (0, 2**32 - 1)),
        boot=boot,
        **numbers,
    )


def _column(name: str, column: Any, n: int) -> tuple[npt.NDArray[Any], str]:  # noqa: ANN401 - anything may arrive
    if not isinstance(column, dict):
        raise FrameError(f"cols.{name}: expected a map")
    dtype, unit, data = column.get("dtype"), column.get("unit"), column.get("data")
    if not isinstance(dtype, str) or dtype not in DTYPES or not isinstance(unit, str) or not isinstance(data, bytes):
        raise FrameError(f"cols.{name}: expected dtype (one of {', '.join(sorted(DTYPES))}), unit and binary data")
    if len(data) != n * np.dtype(dtype).itemsize:
        raise FrameError(f"cols.{name}: {len(data)} bytes of {dtype} for n = {n}")
    return np.frombuffer(data, dtype), unit


# ------------------------------------------------------------------------------------------------------ UTC


class Discipline(NamedTuple):
    """What the kernel knows about its real-time clock."""

    synchronised: bool
    max_error_ns: int


class _Timex(ctypes.Structure):
    # struct timex of adjtimex(2) on 64-bit Linux; ctypes adds the padding.
    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("rest", ctypes.c_byte * 192),
    )


# Looked up once: it is asked for every frame.
_adjtimex = ctypes.CDLL(None, use_errno=True).adjtimex
_STA_UNSYNC: Final = 0x0040
_TIME_ERROR: Final = 5


def read_discipline() -> Discipline:
    """Ask the kernel (adjtimex, read only). A kernel that does not answer counts as not synchronised."""
    timex = _Timex()
    state = _adjtimex(ctypes.byref(timex))
    synchronised = state not in {-1, _TIME_ERROR} and not timex.status & _STA_UNSYNC
    return Discipline(synchronised, max(0, timex.maxerror) * 1000)


def utc_mapping(
    monotonic: Callable[[], int] = time.monotonic_ns,
    realtime: Callable[[], int] = time.time_ns,
    discipline: Callable[[], Discipline] = read_discipline,
) -> UtcMapping:
    """Return the present mapping of CLOCK_MONOTONIC to UTC.

    The real-time clock is read between two readings of the monotonic one, five times; the tightest pair counts.
    """
    width, offset = min([_sandwich(monotonic, realtime) for _ in range(5)])
    known = discipline()
    return UtcMapping(offset, known.synchronised, (width + 1) // 2 + known.max_error_ns)


def _sandwich(monotonic: Callable[[], int], realtime: Callable[[], int]) -> tuple[int, int]:
    before, between, after = monotonic(), realtime(), monotonic()
    return after - before, between - (before + after) // 2
