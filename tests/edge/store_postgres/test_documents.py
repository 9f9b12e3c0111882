"""Events, runs and points as people ask for them; and documents nobody has thought of."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.frames import hex16
from edge.samples import Sample
from edge.store.backend import Received
from edge.store.postgres import documents
from edge.store.postgres.backend import PostgresBackend
from tests.edge.store_postgres.conftest import Ask
from tests.edge.store_postgres.made import NOW_NS, RIG, document

RUN = 0xAB
AT_NOW = datetime.fromtimestamp(NOW_NS / 1e9, UTC)
SECOND_NS = 1_000_000_000


def start(seq: int = 0) -> Received:
    doc = {
        "kind": "start",
        "uid": hex16(RUN),
        "run": RUN,
        "plan": "trigger-map",
        "parameters": {"v_max_v": -1.0, "zero": float("inf")},
        "by": "ana",
        "t_ns": SECOND_NS,
        "rig": {"id": RIG, "kind": "tip"},
        "smu": {"model": "2400", "serial": "1"},
        "stage": None,
        "limits": {"current_a": 1e-3},
    }
    return document("run", seq, doc)


def stop(seq: int = 1) -> Received:
    doc = {
        "kind": "stop",
        "uid": hex16(RUN),
        "run": RUN,
        "status": "completed",
        "reason": None,
        "results": {"points_done": 2},
        "samples_lost": 0,
        "t_ns": 9 * SECOND_NS,
    }
    return document("run", seq, doc)


@pytest.mark.parametrize("frames", [[start(), stop()], [stop(), start()]], ids=["in order", "stop first"])
@pytest.mark.parametrize("at_once", [True, False])
def test_a_run_is_one_row_in_whatever_order_its_documents_come(
    backend: PostgresBackend, ask: Ask, frames: list[Received], at_once: bool
) -> None:
    for batch in [frames] if at_once else [[frame] for frame in frames]:
        backend.commit(batch, [])
    backend.commit(frames, [])
    query = "SELECT rig, run, plan, by, status, reason, started, stopped, samples_lost FROM runs"
    assert ask(query) == [
        (
            *(RIG, hex16(RUN), "trigger-map", "ana", "completed", None),
            *(AT_NOW + timedelta(seconds=1), AT_NOW + timedelta(seconds=9), 0),
        )
    ]
    assert ask("SELECT parameters, results, smu->>'serial', stage, limits FROM runs") == [
        ({"v_max_v": -1.0, "zero": None}, {"points_done": 2}, "1", None, {"current_a": 1e-3})
    ]
    assert ask("SELECT seq, kind FROM run_documents ORDER BY seq") == [(0, "start"), (1, "stop")]


def test_a_run_that_goes_on_has_no_status(backend: PostgresBackend, ask: Ask) -> None:
    backend.commit([start()], [])
    assert ask("SELECT status, stopped FROM runs") == [(None, None)]


def test_points_and_cycles_have_columns(backend: PostgresBackend, ask: Ask) -> None:
    point = {
        "kind": "point",
        "run": RUN,
        "index": 4,
        "label": "gb 4",
        "site_kind": "gb",
        "x_m": 1e-6,
        "y_m": 2,
        "class": "triggered",
        "verdict": "SURGE_JUMP",
        "trigger_bias_v": -0.4,
        "trigger_half_v": 0.01,
        "charge_c": None,
        "t_ns": SECOND_NS,
    }
    cycle = {"kind": "cycle", "run": RUN, "cycle": 1, "reset_bias_v": 0.7, "on_off": 1e4, "t_ns": 0}
    backend.commit([document("run", 0, point), document("run", 1, cycle), document("run", 2, {"kind": "zero"})], [])
    query = "SELECT kind, index, label, site_kind, x_m, y_m, class, verdict, trigger_bias_v, charge_c FROM points"
    assert ask(query + " ORDER BY seq") == [
        ("point", 4, "gb 4", "gb", 1e-6, 2.0, "triggered", "SURGE_JUMP", -0.4, None),
        ("cycle", 1, *[None] * 8),
    ]
    assert ask("SELECT reset_bias_v, on_off, run, doc->>'cycle' FROM points WHERE kind = 'cycle'") == [
        (0.7, 1e4, hex16(RUN), "1")
    ]


def setting_event(seq: int, context: dict[str, Any], n: int = 3) -> Received:
    from edge.guard.capture import _columns

    made = tuple(Sample(i, 1, i + 1, -0.1 * i, 1e-9, 8, 1) for i in range(n))
    setting = {"context": context, "n": n, "cols": _columns(made), "verdict": "SURGE_JUMP"}
    return document(
        "event", seq, {"kind": "cut", "run": RUN, "verdict": "SURGE_JUMP", "setting": setting, "t_ns": SECOND_NS}
    )


def test_a_setting_event_has_its_waveform_and_its_point(backend: PostgresBackend, ask: Ask) -> None:
    point = document("run", 0, {"kind": "point", "run": RUN, "index": 4, "label": "gb 4", "class": "triggered"})
    backend.commit([setting_event(0, {"point": 4}), setting_event(1, {"point": 5}), point], [])
    query = "SELECT kind, verdict, point, t, run, t_ns, bias_v, current_a, flags, phase FROM events WHERE seq = 0"
    waveform = ([0, 1, 2], [0.0, -0.1, -0.2], [1e-9] * 3, [8] * 3, [1] * 3)
    assert ask(query) == [("cut", "SURGE_JUMP", 4, AT_NOW + timedelta(seconds=1), hex16(RUN), *waveform)]
    assert ask("SELECT index, label, verdict, bias_v FROM point_waveforms") == [(4, "gb 4", "SURGE_JUMP", waveform[1])]
    assert ask("SELECT doc->'setting'->'cols'->'t_ns'->'data' FROM events LIMIT 1") == [({"bytes": 24},)]


def test_waveforms_that_are_none_are_left_out(backend: PostgresBackend, ask: Ask) -> None:
    good = setting_event(0, {}).frame.doc
    assert good is not None
    cols = good["setting"]["cols"]
    bad = [
        cols | {"t_ns": cols["t_ns"] | {"data": b"123"}},
        cols | {"t_ns": cols["t_ns"] | {"data": bytes(16)}},
        cols | {"t_ns": cols["t_ns"] | {"dtype": "<O8"}},
        cols | {"t_ns": 7},
        {name: column for name, column in cols.items() if name != "phase"},
        7,
    ]
    frames = [document("event", seq, {"kind": "cut", "setting": {"cols": one}}) for seq, one in enumerate(bad)]
    backend.commit(frames, [])
    assert ask("SELECT count(*), count(t_ns), count(phase) FROM events") == [(6, 0, 0)]


ANY = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.text(max_size=20)
    | st.binary(max_size=9),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
NAMES = (
    *("kind", "uid", "run", "t_ns", "verdict", "setting", "point", "cycle", "index", "plan", "status", "x_m", "by"),
    *("results", "samples_lost", "parameters", "label", "class", "on_off"),
)


@settings(max_examples=30)
@given(
    docs=st.lists(
        st.dictionaries(st.sampled_from(NAMES), ANY | st.sampled_from(["point", "cycle", "start", "stop"])),
        min_size=1,
        max_size=20,
    )
)
def test_whatever_a_document_holds_it_becomes_rows(docs: list[dict[str, Any]]) -> None:
    for doc in docs:
        event, run = document("event", 0, doc), document("run", 0, doc)
        assert documents.event_row(event, NOW_NS)
        assert documents.run_document_row(run, NOW_NS)
        documents.point_row(run, NOW_NS)
        documents.run_of(run, NOW_NS)


_STRANGE: list[dict[str, Any]] = [
    {},
    {"kind": "a\0b" * 5000, "verdict": "\0", "by": "\0"},
    {"kind": 5, "setting": {"context": {"point": 2**40, "cycle": []}}, "uid": 7},
    {"kind": "start", "uid": "x" * 9000, "plan": ["a"], "by": {}, "parameters": "text\0", "run": 2**64 - 1},
    {"kind": "stop", "uid": hex16(RUN), "samples_lost": 2**64 - 1, "results": [float("nan"), b"\0"], "status": 1.5},
    {"kind": "point", "index": True, "x_m": float("inf"), "y_m": 2**64 - 1, "label": "\0" * 9000, "class": 3},
    {"kind": "cycle", "cycle": -(2**63), "on_off": False},
    {"deep": eval("[" * 200 + "]" * 200)},  # noqa: S307 - two hundred brackets
    {"wide": "\U0010ffff\ud7ff\x01" * 3000, "\0key": 1e308},
    {"many": {str(key): [key] * 3 for key in range(5000)}},
]


def test_the_database_takes_strange_documents(backend: PostgresBackend, ask: Ask) -> None:
    frames = [document(kind, seq, doc) for kind in ("event", "run") for seq, doc in enumerate(_STRANGE)]
    backend.commit(frames, [])
    assert {payload for _, _, payload in backend.raw_frames()} == {frame.payload for frame in frames}
    assert ask("SELECT count(*) FROM quarantine") == [(0,)]
    assert ask("SELECT kind FROM events WHERE seq = 1") == [(("a\ufffdb" * 22)[:64],)]
    assert ask("SELECT index, x_m, y_m, class FROM points WHERE kind = 'point'") == [(None, None, 2.0**64, None)]
