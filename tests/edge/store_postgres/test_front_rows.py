"""Frames of the front end as rows and back, without a database; and what the view makes of them, with one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.frames import front_frame
from edge.front_block import FULL, MINMAX, FrontBlock
from edge.store.backend import Key, Received
from edge.store.postgres import binary, front
from edge.store.postgres.samples import cut
from edge.store.verify import verify
from tests.edge.store_postgres.conftest import Ask, Open, problems
from tests.edge.store_postgres.made import EPOCH, RIG, UTC_AT_0, document, received, samples

KEY = Key(RIG, EPOCH, "frontend")


def block(seq: int, columns: tuple[str, ...] = FULL, rows: int = 4, **more: float) -> Received:
    codes = np.arange(rows * len(columns), dtype="<i2") + seq
    made = FrontBlock(
        first=seq * rows,
        run=0xAB,
        index=int(more.get("index", seq * rows)),
        t_ns=seq * 1_000_000,
        t_unc_ns=250,
        step=1,
        period_ns=10_000.0,
        code_a=more.get("code_a", 4e-8),
        boot=0xB007,
        columns=columns,
        data=codes.tobytes(),
    )
    return received(front_frame(RIG, EPOCH, seq, made, UTC_AT_0))


@given(rows=st.integers(1, 40), columns=st.sampled_from([FULL, MINMAX]), seq=st.integers(0, 1000))
def test_any_frame_is_put_together_again_byte_by_byte(rows: int, columns: tuple[str, ...], seq: int) -> None:
    one = block(seq, columns, rows)
    rest, cuts = cut(one.payload, one.frame, front.KINDS)
    assert cuts is not None
    assert len(rest) == len(one.payload) - 2 * rows * len(columns)
    sent = [binary.array(one.frame.cols[name], kind) if name in columns else None for name, kind in front.KINDS.items()]
    assert front.mend(rest, cuts, sent) == one.payload


@given(value=st.integers(0, 2**64 - 1))
def test_a_whole_number_is_one_in_the_database_s_form(value: int) -> None:
    data = binary.numeric(value)
    n, weight, sign, scale, *digits = np.frombuffer(data, ">i2").tolist()
    assert (len(digits), sign, scale) == (n, 0, 0)
    assert sum(digit * 10_000 ** (weight - place) for place, digit in enumerate(digits)) == value


def test_what_was_committed_is_there_once_and_can_be_asked_for(opened: Open, ask: Ask) -> None:
    backend = opened()
    sent = [block(0), block(1, MINMAX, code_a=-4e-8), block(2, index=2**64 - 1)]
    marks = backend.commit([*sent, samples(0), document("event", 0, {"kind": "cut"})], [])
    assert marks[KEY].contiguous == 3
    backend.commit(sent, [])
    held = {(key, seq): payload for key, seq, payload in backend.raw_frames() if key == KEY}
    assert held == {(KEY, one.seq): one.payload for one in sent}
    report = verify(backend, backend.claimed())
    assert (report.good, report.frames) == (True, 5)
    assert problems(backend) == []
    assert ask("SELECT count(*), max(index)::text FROM front_frames") == [(3, str(2**64 - 1))]
    rows = ask("SELECT row, t_ns, current_min_a, current_max_a FROM front_rows WHERE seq = 0 ORDER BY row LIMIT 2")
    assert rows == [(0, 0, 0.0, 0.0), (1, 10_000, 4e-8, 4e-8)]
    [(low, high)] = ask("SELECT current_min_a, current_max_a FROM front_rows WHERE seq = 1 ORDER BY row LIMIT 1")
    assert (low, high) == pytest.approx((-8e-8, -4e-8))
    assert ask("SELECT count(*) FROM events") == [(1,)]
