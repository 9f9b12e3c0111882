"""The queries for Grafana, in a PostgreSQL that a store has filled; macros as Grafana's data source expands them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import pytest

from edge.frames import UtcMapping, doc_frame, sample_frame
from edge.samples import Flag, Sample
from edge.store.backend import Received
from edge.store.received import Message, receive
from hil import postgres
from tests.interop import publishing as p

psycopg: Any = pytest.importorskip("psycopg", reason="needs the extra store")

PAGE: Final = Path(__file__).resolve().parents[2] / "deploy/examples/grafana/samples_1s.md"
QUERIES: Final = re.findall(r"```sql\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
UTC: Final = UtcMapping(1_700_000_000_000_000_000, valid=True, unc_ns=1000)
FROM, TO = "2023-11-14T22:13:00Z", "2023-11-14T22:15:00Z"
"""Around UTC."""
PER_SECOND: Final = 100

pytestmark = [
    pytest.mark.processes,
    pytest.mark.skipif(postgres.programs() is None, reason="needs PostgreSQL"),
]


def expanded(query: str) -> str:
    """Return a query as it reaches the database."""
    macros = {
        r"\$__timeFilter\((\w+)\)": rf"\1 BETWEEN '{FROM}' AND '{TO}'",
        r"\$__timeGroupAlias\((\w+), \$__interval\)": r'floor(extract(epoch from \1)/10)*10 AS "time"',
        r"\$__timeFrom\(\)": f"'{FROM}'",
        r"\$__timeTo\(\)": f"'{TO}'",
        r"\$\{rig:sqlstring\}": f"'{p.RIG}'",
        r"\$\{run:sqlstring\}": f"'{p.RUN:016x}'",
    }
    for macro, text in macros.items():
        query = re.sub(macro, text, query)
    assert "$" not in query
    return query


def received(payload: bytes, topic: str) -> Received:
    found = receive(Message(f"tipguard/{p.RIG}/{topic}", payload, None))
    assert isinstance(found, Received)
    return found


def frames() -> Iterator[Received]:
    for seq in range(3):
        samples = [
            Sample(
                1_000_000_000 * seq + 10_000_000 * row,
                1,
                1_000_000_000 * seq + 10_000_000 * row + 1,
                -p.BIAS_STEP_V * row,
                float("nan") if row == 7 else p.CURRENT_A * (1000 if row == 50 else 1),
                Flag.OVERFLOW if row == 7 else 0,
                1,
            )
            for row in range(PER_SECOND)
        ]
        frame = sample_frame(p.RIG, p.EPOCH, seq, PER_SECOND * seq, samples, [p.RUN] * PER_SECOND, UTC)
        yield received(frame, "samples")
    cut = {"kind": "cut", "verdict": "SURGE_JUMP", "t_ns": 1_500_000_000, "run": p.RUN}
    yield received(doc_frame("event", p.RIG, p.EPOCH, 0, cut, UTC), "events")
    told = [
        {"kind": "start", "plan": "trigger-map", "t_ns": 0, "utc_ns": UTC.offset_ns},
        {"kind": "point", "index": 0, "t_ns": 10, "x_m": 1e-6, "y_m": 2e-6, "trigger_bias_v": -0.12, "site_kind": "gb"},
        {"kind": "stop", "status": "completed", "t_ns": 3_000_000_000, "utc_ns": UTC.offset_ns + 3_000_000_000},
    ]
    for seq, doc in enumerate(told):
        whole = {**doc, "uid": f"{p.RUN:016x}", "run": p.RUN}
        yield received(doc_frame("run", p.RIG, p.EPOCH, seq, whole, UTC), "runs")


@pytest.fixture(scope="module")
def answers() -> Iterator[dict[str, list[dict[str, Any]]]]:
    """Each query of the page by what it begins with, and its rows."""
    from edge.store.postgres.backend import PostgresBackend

    with postgres.Postgres() as server:
        url = server.create("lab")
        with closing(PostgresBackend(url, "lab")) as store:
            store.commit(list(frames()), [])
        found = {}
        with psycopg.connect(url, autocommit=True) as conn:
            for query in QUERIES:
                cursor = conn.execute(expanded(query))
                names = [column.name for column in cursor.description or ()]
                found[query] = [dict(zip(names, row, strict=True)) for row in cursor.fetchall()] if names else []
            # A role that reads is enough for all of them.
            conn.execute("SET ROLE grafana")
            for query in QUERIES[1:]:
                conn.execute(expanded(query))
        yield found


def answer(answers: dict[str, list[dict[str, Any]]], word: str) -> list[dict[str, Any]]:
    (rows,) = (rows for query, rows in answers.items() if word in query)
    return rows


def test_the_current_keeps_its_extremes_and_leaves_out_what_is_not_trusted(answers: Any) -> None:  # noqa: ANN401 - above
    (row,) = answer(answers, "min(current_min_a)")
    mean = p.CURRENT_A * (98 + 1000) / 99
    assert row == {
        "time": 1_700_000_000,
        "metric": p.RIG,
        "lowest": p.CURRENT_A,
        "mean": pytest.approx(mean),
        "highest": pytest.approx(1000 * p.CURRENT_A),
    }


def test_bias_counts_and_samples(answers: Any) -> None:  # noqa: ANN401 - above
    (bias,) = answer(answers, "max(bias_max_v)")
    assert (bias["lowest"], bias["highest"]) == (-p.BIAS_STEP_V * 99, 0.0)
    assert [row["samples"] for row in answer(answers, "n AS samples")] == [PER_SECOND] * 3
    single = answer(answers, "FROM samples\n")
    assert len(single) == 3 * PER_SECOND
    assert [row["current_a"] for row in single].count(None) == 3


def test_rigs_cuts_runs_and_points(answers: Any) -> None:  # noqa: ANN401 - above
    assert answer(answers, "DISTINCT rig") == [{"rig": p.RIG}]
    (cut,) = answer(answers, "AS tags")
    assert (cut["text"], cut["tags"]) == ("SURGE_JUMP", p.RIG)
    (run,) = answer(answers, "samples_lost")
    assert (run["plan"], run["status"], run["took"].total_seconds()) == ("trigger-map", "completed", 3.0)
    (point,) = answer(answers, "FROM points")
    assert (point["x_m"], point["trigger_bias_v"], point["site_kind"]) == (1e-6, -0.12, "gb")


def test_the_page_has_a_query_for_each_of_these() -> None:
    assert len(QUERIES) == 9
