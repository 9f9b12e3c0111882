"""Frames as rows and back, without a database; and what the views make of them, with one."""

from __future__ import annotations

import math
import struct
from datetime import UTC, datetime
from typing import Any

import msgpack
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.frames import SAMPLE_COLUMNS, UtcMapping, hex16
from edge.store.postgres import binary
from edge.store.postgres.backend import PostgresBackend
from edge.store.postgres.samples import DAY_NS, KINDS, cut, filed_ns, mend
from tests.edge.store_postgres.conftest import Ask
from tests.edge.store_postgres.made import NOW_NS, document, received, samples

AT_NOW = datetime.fromtimestamp(NOW_NS / 1e9, UTC)


def columns(n: int, bits: bytes) -> dict[str, dict[str, Any]]:
    """Columns of any content, cut out of ``bits``: also NaN with a payload, also one column equal to another."""
    found = {}
    for name, (dtype, unit) in SAMPLE_COLUMNS.items():
        size = n * np.dtype(dtype).itemsize
        found[name] = {"dtype": dtype, "unit": unit, "data": (bits * (size // len(bits) + 1))[:size]}
    return found


@given(
    n=st.integers(1, 20),
    bits=st.binary(min_size=1, max_size=64),
    names=st.permutations(list(SAMPLE_COLUMNS)),
    extra=st.binary(max_size=16),
)
def test_any_frame_is_put_together_again_byte_by_byte(n: int, bits: bytes, names: list[str], extra: bytes) -> None:
    cols = columns(n, bits)
    more = {"later": {"dtype": "<u1", "unit": "K", "data": (extra + bytes(n))[:n]}}
    fields = msgpack.unpackb(samples(0).payload)
    one = received(msgpack.packb(fields | {"n": n, "cols": more | {name: cols[name] for name in names}, "new": extra}))
    rest, cuts = cut(one.payload, one.frame)
    assert cuts is not None
    assert len(rest) == len(one.payload) - sum(len(column["data"]) for column in cols.values())
    sent = [binary.array(one.frame.cols[name], kind) for name, kind in KINDS.items()]
    assert mend(rest, cuts, sent) == one.payload


def test_a_frame_whose_columns_are_not_found_is_kept_whole() -> None:
    frame = samples(0).frame
    assert cut(b"something else", frame) == (b"something else", None)
    assert mend(b"something else", None, []) == b"something else"


@pytest.mark.parametrize(("name", "kind"), KINDS.items())
def test_every_value_of_a_column_has_a_place_in_its_array(name: str, kind: binary.Type) -> None:
    dtype = np.dtype(SAMPLE_COLUMNS[name][0])
    extremes = np.frombuffer(b"\xff" * 8 + bytes(7) + b"\x80" + b"\x7f" * 8, dtype)
    assert binary.values_of(binary.array(extremes, kind), kind).astype(dtype).tobytes() == extremes.tobytes()


def test_the_servers_own_array_is_what_we_read(backend: PostgresBackend) -> None:
    bits = struct.pack("<Q", 0x7FF8_0000_DEAD_BEEF)
    fields = msgpack.unpackb(samples(0, 3).payload)
    one = received(msgpack.packb(fields | {"cols": columns(3, bits)}))
    backend.commit([one], [])
    assert [payload for _, _, payload in backend.raw_frames()] == [one.payload]


def test_samples_are_rows_with_times_units_and_runs(backend: PostgresBackend, ask: Ask) -> None:
    backend.commit([samples(0, 2, runs=[7, 7]), samples(1, 3, runs=[7, 0, 8])], [])
    rows = ask("SELECT t, run, index, t_ns, bias_v, current_a, flags, phase FROM samples ORDER BY seq, index")
    assert [row[1] for row in rows] == [hex16(7), hex16(7), hex16(7), "", hex16(8)]
    assert [row[2] for row in rows] == [0, 1, 3, 4, 5]
    assert [(row[0] - AT_NOW).total_seconds() for row in rows] == [0.0, 0.01, 0.03, 0.04, 0.05]
    assert rows[4][3:] == (50_000_000, 0.5, 2e-9, 2, 1)
    assert math.isnan(rows[0][5])


def test_a_foreign_column_named_run_is_not_taken_for_runs(backend: PostgresBackend, ask: Ask) -> None:
    fields = msgpack.unpackb(samples(0, 1).payload)
    run = {"dtype": "<f8", "unit": "", "data": struct.pack("<d", math.nan)}
    backend.commit([received(msgpack.packb(fields | {"cols": fields["cols"] | {"run": run}}))], [])
    assert ask("SELECT run FROM samples") == [("",)]


def test_seconds_are_the_same_as_the_samples_put_together(backend: PostgresBackend, ask: Ask) -> None:
    frames = [samples(seq, 37, rig=rig) for seq in range(12) for rig in ("a", "b")]
    backend.commit(frames[:7], [])
    backend.commit(frames[5:], [])
    both = """
        SELECT coalesce(v.t, s.t) FROM samples_1s v FULL JOIN (
            SELECT date_trunc('second', t) AS t, rig, count(*) AS n, min(bias_v) AS b_min, max(bias_v) AS b_max,
                   avg(bias_v) AS b_mean, count(*) FILTER (WHERE current_a <> 'nan') AS c_n,
                   min(current_a) FILTER (WHERE current_a <> 'nan') AS c_min,
                   max(current_a) FILTER (WHERE current_a <> 'nan') AS c_max,
                   avg(current_a) FILTER (WHERE current_a <> 'nan') AS c_mean, bit_or(flags) AS flags
            FROM samples GROUP BY 1, rig) s
        ON v.t = s.t AND v.rig = s.rig AND v.n = s.n AND v.bias_min_v = s.b_min AND v.bias_max_v = s.b_max
           AND abs(v.bias_mean_v - s.b_mean) < 1e-12 AND v.current_n = s.c_n AND v.current_min_a = s.c_min
           AND v.current_max_a = s.c_max AND abs(v.current_mean_a - s.c_mean) < 1e-20 AND v.flags = s.flags
        WHERE v.t IS NULL OR s.t IS NULL"""
    assert ask(both) == []
    assert ask("SELECT count(*), sum(n) FROM samples_1s") == [(10, 2 * 12 * 37)]


def test_a_second_without_a_trusted_current_has_none(backend: PostgresBackend, ask: Ask) -> None:
    backend.commit([samples(0, 1)], [])
    query = "SELECT n, current_n, current_min_a, current_max_a, current_mean_a FROM samples_1s"
    assert ask(query) == [(1, 0, None, None, None)]


@pytest.mark.parametrize(
    "offset_ns", [0, NOW_NS + 2 * DAY_NS, -(2**63), 2**63 - 1], ids=["1970", "fast", "1677", "2262"]
)
def test_a_rig_without_a_clock_is_filed_under_the_time_of_reception(
    backend: PostgresBackend, ask: Ask, offset_ns: int
) -> None:
    one = samples(0, 2, utc=UtcMapping(offset_ns, False, 2**62))
    event = document("event", 0, {"kind": "cut", "t_ns": 5}, utc=UtcMapping(offset_ns, False, 2**62))
    assert filed_ns(one.frame, NOW_NS) == NOW_NS
    backend.commit([one, event], [])
    assert ask("SELECT t0, utc_valid FROM frames") == [(AT_NOW, False)]
    assert ask("SELECT t FROM events") == [(AT_NOW,)]
    assert ask("SELECT count(*) FROM samples_1s") == [(0,)], "no dashboard shows them at a time that cannot be"
    assert ask("SELECT count(*), min(mono_to_utc_ns) FROM samples") == [(2, offset_ns)]
    assert {payload for _, _, payload in backend.raw_frames()} == {one.payload, event.payload}


def test_single_samples_out_of_all_reason_make_no_partitions(backend: PostgresBackend, ask: Ask) -> None:
    fields = msgpack.unpackb(samples(0, 3).payload)
    far = struct.pack("<qqq", 0, 2**63 - 1, -(2**63))
    cols = fields["cols"] | {"t_ns": {"dtype": "<i8", "unit": "ns", "data": far}}
    backend.commit([received(msgpack.packb(fields | {"cols": cols}))], [])
    assert ask("SELECT sum(n) FROM samples_1s") == [(1,)]
    assert ask("SELECT count(*) FROM pg_inherits WHERE inhparent = 'frame_seconds'::regclass") == [(1,)]
    assert len(ask("SELECT t FROM samples")) == 3


def test_frames_of_one_week_share_a_partition(backend: PostgresBackend, ask: Ask) -> None:
    week_ns = 7 * DAY_NS
    backend.commit([samples(0, t_ns=-1, n=1), samples(1, t_ns=-week_ns), samples(2)], [])
    backend.commit([samples(3, t_ns=-2)], [])
    parts = ask("SELECT relname FROM pg_class WHERE relname ~ '^frames_[0-9]+$' ORDER BY 1")
    assert parts == [("frames_20260914",), ("frames_20260921",)]
    assert ask("SELECT seq FROM frames_20260914 ORDER BY seq") == [(0,), (1,), (3,)]


def test_the_indexes_are_on_every_partition(backend: PostgresBackend, ask: Ask) -> None:
    backend.commit([samples(0)], [])
    assert ask("SELECT count(*) FROM pg_indexes WHERE tablename = 'frames_20260921'") == [(2,)]
