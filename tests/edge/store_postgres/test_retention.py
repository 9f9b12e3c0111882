"""Retention: whole weeks of samples by policy; what they were is still known, so that they never come back as new."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from edge.store.backend import Key
from edge.store.postgres import retention
from edge.store.postgres.backend import MAINTAIN_S, PostgresBackend
from edge.store.verify import verify
from edge.watermark import Mark
from tests.edge.store_postgres.conftest import Ask, problems
from tests.edge.store_postgres.made import EPOCH, NOW_NS, RIG, document, samples

DAY_NS = 86_400 * 1_000_000_000
SAMPLES = Key(RIG, EPOCH, "samples")


class Calendar:
    def __init__(self) -> None:
        self.now_ns = NOW_NS

    def __call__(self) -> int:
        return self.now_ns


@pytest.fixture
def calendar() -> Calendar:
    return Calendar()


@pytest.fixture
def aged(database: str, calendar: Calendar) -> Iterator[PostgresBackend]:
    """Frames 0, 1 of three weeks ago, 2 of two weeks ago, 3 of now; an event and a run of three weeks ago."""
    backend = PostgresBackend(database, "lab", now_ns=calendar)
    old = [samples(seq, t_ns=-days * DAY_NS) for seq, days in enumerate((21, 20, 13, 0))]
    event = document("event", 0, {"kind": "cut", "t_ns": -21 * DAY_NS})
    run = document("run", 0, {"kind": "start", "uid": "00000000000000aa", "t_ns": -21 * DAY_NS})
    backend.commit([*old, event, run], [])
    # Its first upkeep begins with that commit, and must not find the policy that a test is about to write.
    assert backend._upkeep is not None
    backend._upkeep.join()
    yield backend
    backend.close()


def later(backend: PostgresBackend, calendar: Calendar) -> None:
    if backend._upkeep is not None:
        backend._upkeep.join()
    calendar.now_ns += int(MAINTAIN_S * 1e9)
    backend.commit([], [])
    assert backend._upkeep is not None
    backend._upkeep.join()


def test_a_reader_of_an_old_week_is_waited_for_and_keeps_nobody_out(
    aged: PostgresBackend, database: str, calendar: Calendar, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    import psycopg

    monkeypatch.setattr(retention, "_WAIT_MS", 100)
    ask("UPDATE retention SET keep_days = 10 WHERE what = 'frames'")
    with psycopg.connect(database) as reader:
        reader.execute("SELECT count(*) FROM frames")
        later(aged, calendar)
        assert ask("SELECT count(*) FROM frames") == [(4,)], "not now"
        assert aged.commit([samples(4)], []) == {SAMPLES: Mark(EPOCH, "samples", 5, 4)}
    later(aged, calendar)
    assert ask("SELECT seq FROM frames ORDER BY seq") == [(2,), (3,), (4,)]


def test_by_default_everything_stays(aged: PostgresBackend, calendar: Calendar, ask: Ask) -> None:
    calendar.now_ns += 4000 * DAY_NS
    later(aged, calendar)
    assert ask("SELECT count(*) FROM frames") == [(4,)]


def test_old_weeks_go_and_events_and_runs_stay(aged: PostgresBackend, calendar: Calendar, ask: Ask) -> None:
    ask("UPDATE retention SET keep_days = 10 WHERE what = 'frames'")
    later(aged, calendar)
    assert ask("SELECT seq FROM frames ORDER BY seq") == [(2,), (3,)], "a week goes as a whole, when all of it is old"
    assert ask("SELECT count(*) FROM events") == [(1,)]
    assert ask("SELECT count(*) FROM runs") == [(1,)]
    assert ask("SELECT count(*) FROM samples_1s") == [(4,)], "seconds have a policy of their own"
    ask("UPDATE retention SET keep_days = 1 WHERE what = 'seconds'")
    later(aged, calendar)
    assert ask("SELECT count(*) FROM samples_1s") == [(1,)]


def test_what_was_removed_is_still_known(aged: PostgresBackend, calendar: Calendar, ask: Ask) -> None:
    ask("UPDATE retention SET keep_days = 10 WHERE what = 'frames'")
    later(aged, calendar)
    marks = aged.commit([samples(0, t_ns=-21 * DAY_NS), samples(4)], [])
    assert marks == {SAMPLES: Mark(EPOCH, "samples", 5, 4)}, "the rig may forget it"
    assert ask("SELECT seq FROM frames ORDER BY seq") == [(2,), (3,), (4,)], "and it does not come back"
    assert ask("SELECT dropped::text FROM stream_mark WHERE stream = 'samples'") == [("{[0,2)}",)]
    report = verify(aged, aged.claimed())
    assert (report.good, report.frames) == (True, 5)
    assert problems(aged) == []


def test_a_late_frame_of_a_removed_week_is_kept_until_the_next_round(
    aged: PostgresBackend, calendar: Calendar, ask: Ask
) -> None:
    ask("UPDATE retention SET keep_days = 10 WHERE what = 'frames'")
    later(aged, calendar)
    aged.commit([samples(9, t_ns=-21 * DAY_NS)], [])
    assert ask("SELECT seq FROM frames ORDER BY seq") == [(2,), (3,), (9,)]
    later(aged, calendar)
    assert ask("SELECT seq FROM frames ORDER BY seq") == [(2,), (3,)]
    assert problems(aged) == []


def test_another_worker_that_knew_the_partition_makes_it_again(
    aged: PostgresBackend, database: str, calendar: Calendar, ask: Ask
) -> None:
    other = PostgresBackend(database, "lab", now_ns=lambda: NOW_NS)
    other.commit([samples(7, t_ns=-21 * DAY_NS)], [])
    # Its own upkeep, which begins with its first commit, must not be the one that removes what comes below.
    assert other._upkeep is not None
    other._upkeep.join()
    ask("UPDATE retention SET keep_days = 10 WHERE what = 'frames'")
    later(aged, calendar)
    other.commit([samples(8, t_ns=-21 * DAY_NS)], [])
    assert ask("SELECT seq FROM frames ORDER BY seq") == [(2,), (3,), (8,)]
    assert problems(other) == []
    other.close()


def test_quarantine_goes_by_its_own_policy(aged: PostgresBackend, calendar: Calendar, ask: Ask) -> None:
    ask("INSERT INTO quarantine (digest, topic, payload, why, last_seen) VALUES ('a', '', '', '', '2020-01-01')")
    later(aged, calendar)
    assert ask("SELECT count(*) FROM quarantine") == [(1,)]
    ask("UPDATE retention SET keep_days = 30 WHERE what = 'quarantine'")
    later(aged, calendar)
    assert ask("SELECT count(*) FROM quarantine") == [(0,)]


def test_a_policy_of_nothing_cannot_be_written(aged: PostgresBackend, ask: Ask) -> None:
    import psycopg

    with pytest.raises(psycopg.errors.CheckViolation):
        ask("UPDATE retention SET keep_days = 0 WHERE what = 'frames'")
    with pytest.raises(psycopg.errors.CheckViolation):
        ask("UPDATE retention SET what = 'events' WHERE what = 'frames'")
