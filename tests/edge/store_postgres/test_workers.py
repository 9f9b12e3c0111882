"""Several workers, one database: whatever overlaps, every frame is there once and no mark misses the other's frames."""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Mapping

import psycopg
import pytest

from edge.store.backend import Key, Received
from edge.store.postgres import backend as module
from edge.store.postgres.backend import PostgresBackend
from edge.store.postgres.marks import row_mark
from edge.watermark import Mark
from tests.edge.store_postgres.conftest import Ask, Open, problems
from tests.edge.store_postgres.made import EPOCH, RIG, document, samples

LONG = os.environ.get("TIPGUARD_LONG") == "1"
SAMPLES = Key(RIG, EPOCH, "samples")
WAIT_S = 20.0


class Held:
    """A worker whose transaction stops before its COMMIT until it is let go."""

    def __init__(self, backend: PostgresBackend) -> None:
        self._backend = backend
        self._mark = backend._mark
        self.reached = threading.Event()
        self._go = threading.Event()
        self.marks: Mapping[Key, Mark] = {}
        backend._mark = self._stop  # type: ignore[method-assign, assignment]

    def _stop(self, *arguments: object) -> dict[Key, Mark]:
        marks = self._mark(*arguments)  # type: ignore[arg-type]
        self.reached.set()
        assert self._go.wait(WAIT_S)
        return marks

    def commit(self, frames: list[Received]) -> threading.Thread:
        def work() -> None:
            self.marks = self._backend.commit(frames, [])

        thread = threading.Thread(target=work)
        thread.start()
        assert self.reached.wait(WAIT_S)
        return thread

    def let_go(self, thread: threading.Thread) -> None:
        self._go.set()
        thread.join(WAIT_S)
        assert not thread.is_alive()


@pytest.fixture(autouse=True)
def _partition(opened: Open) -> None:
    """The week's partition is there: whoever waits in these tests waits for something else."""
    opened().commit([samples(0, epoch=2**40)], [])


def until_waiting(ask: Ask) -> None:
    """Return once somebody waits for a lock of another."""
    for _ in range(20_000):
        if ask("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()")[
            0
        ][0]:
            return
    pytest.fail("nobody waits")


def overlapping(opened: Open, ask: Ask) -> Mark:
    """The second worker commits 2 and 3 while the first one has 0 and 1 under way; return what the second says."""
    first, second = Held(opened()), opened()
    thread = first.commit([samples(0), samples(1)])
    marks: list[Mark] = []
    other = threading.Thread(target=lambda: marks.append(second.commit([samples(2), samples(3)], [])[SAMPLES]))
    other.start()
    until_waiting(ask)
    first.let_go(thread)
    other.join(WAIT_S)
    assert first.marks == {SAMPLES: Mark(EPOCH, "samples", 2, 1)}
    return marks[0]


def test_the_second_of_two_that_overlap_counts_what_the_first_committed(opened: Open, ask: Ask) -> None:
    assert overlapping(opened, ask) == Mark(EPOCH, "samples", 4, 3)


def test_a_mark_from_a_snapshot_misses_the_other_workers_frames(
    opened: Open, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Why the mark is a row that is locked: computed from the ledger as a statement sees it, it never becomes whole."""

    def from_snapshot(conn: psycopg.Connection[tuple[str, ...]], batch: object, fresh: object) -> dict[Key, Mark]:
        query = "SELECT rig, epoch, stream, range_agg(int8range(seq, seq + 1))::text FROM frame_ledger GROUP BY 1, 2, 3"
        return dict(row_mark(row) for row in conn.execute(query).fetchall())  # type: ignore[arg-type]

    first, second = opened(), opened()
    for one in (first, second):
        monkeypatch.setattr(one, "_mark", from_snapshot)
    held = Held(first)
    thread = held.commit([samples(0), samples(1)])
    said = second.commit([samples(2), samples(3)], [])[SAMPLES]
    held.let_go(thread)
    assert said == Mark(EPOCH, "samples", 0, 3, ((0, 1),))
    assert held.marks[SAMPLES] == Mark(EPOCH, "samples", 2, 1)
    assert len(problems(second)) == 1


def test_the_same_frame_at_two_workers_is_kept_once_and_both_may_acknowledge(opened: Open, ask: Ask) -> None:
    first, second = Held(opened()), opened()
    thread = first.commit([samples(0)])
    marks: list[Mark] = []
    other = threading.Thread(target=lambda: marks.append(second.commit([samples(0), samples(1)], [])[SAMPLES]))
    other.start()
    until_waiting(ask)
    assert not marks, "nothing is acknowledged while it is not known whether the other one's commit succeeds"
    first.let_go(thread)
    other.join(WAIT_S)
    assert marks == [Mark(EPOCH, "samples", 2, 1)]
    assert problems(second) == []


def test_a_worker_killed_before_its_commit_leaves_nothing_behind(opened: Open, ask: Ask) -> None:
    """The one with the lower numbers dies: the other's frames count, and the hole is told."""
    doomed, other = opened(), opened()
    conn = doomed._connection()
    conn.execute("BEGIN")
    batch = {("rig-1", f"{EPOCH:016x}", "samples", seq): samples(seq) for seq in (0, 1)}
    doomed._keep(conn, [batch[identity] for identity in doomed._register(conn, batch)])
    marks: list[Mark] = []
    second = threading.Thread(target=lambda: marks.append(other.commit([samples(1), samples(2)], [])[SAMPLES]))
    second.start()
    until_waiting(ask)
    ask("SELECT pg_terminate_backend(%s)", conn.info.backend_pid)
    second.join(WAIT_S)
    assert marks == [Mark(EPOCH, "samples", 0, 2, ((0, 0),))]
    assert problems(other) == []


def test_workers_that_start_together_make_one_schema_and_one_generation(opened: Open) -> None:
    made: list[PostgresBackend] = []
    threads = [threading.Thread(target=lambda: made.append(opened())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT_S)
    assert len({one.generation for one in made}) == 1
    assert len(made) == 4


def test_a_generation_drawn_through_one_worker_is_said_by_all(opened: Open) -> None:
    one, other = opened(), opened()
    before = one.generation
    one.renew()
    other.recent_marks(RIG)
    assert other.generation == one.generation != before


@pytest.mark.timeout(300 if LONG else 60)
def test_whoever_commits_what_in_whatever_order_nothing_is_lost_or_doubled(opened: Open) -> None:
    """Four workers, each frame at one or two of them, batches of any size in any order."""
    rng = random.Random(None if LONG else 5)
    rounds = 20 if LONG else 2
    for number in range(rounds):
        frames = [samples(seq, 2, rig=rig, epoch=number) for rig in ("a", "b") for seq in range(60)]
        frames += [document("run", seq, {"kind": "stop", "uid": f"{seq % 3:016x}"}, epoch=number) for seq in range(20)]
        shares = [rng.sample(frames, len(frames)) for _ in range(4)]
        for at, frame in enumerate(rng.sample(frames, len(frames))):
            for share in rng.sample(shares, 2 if at % 2 else 3):
                share.remove(frame)
        workers = [opened() for _ in shares]
        failed: list[Exception] = []

        def work(worker: PostgresBackend, share: list[Received], seed: int, failed: list[Exception] = failed) -> None:
            own = random.Random(seed)
            try:
                while share:
                    worker.commit([share.pop() for _ in range(min(len(share), own.randint(1, 30)))], [])
            except Exception as error:  # noqa: BLE001 - told by the test's thread
                failed.append(error)

        threads = [
            threading.Thread(target=work, args=(worker, share, rng.random()))
            for worker, share in zip(workers, shares, strict=True)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(WAIT_S)
        assert failed == []
        held = sorted((key, seq, payload) for key, seq, payload in workers[0].raw_frames() if key.epoch == number)
        assert held == sorted((frame.key, frame.seq, frame.payload) for frame in frames)
        marks = workers[0].recent_marks("a")
        assert marks[Key("a", number, "samples")] == Mark(number, "samples", 60, 59)
        for worker in workers:
            worker.close()
    assert problems(opened()) == []


def test_a_deadlock_is_tried_again(backend: PostgresBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    original = backend._quarantine
    raised = iter([psycopg.errors.DeadlockDetected("deadlock detected"), None])

    def once(*arguments: object) -> None:
        if (error := next(raised)) is not None:
            raise error
        original(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(backend, "_quarantine", once)
    assert backend.commit([samples(0)], []) == {SAMPLES: Mark(EPOCH, "samples", 1, 0)}
    assert module.ATTEMPTS > 1


def test_two_that_need_the_same_new_partition_both_get_it(opened: Open, ask: Ask) -> None:
    """The second one looked for it before the first one's was committed, and must not take that for an answer."""
    week_ns = 7 * 86_400 * 1_000_000_000
    first, second = Held(opened()), opened()
    thread = first.commit([samples(0, t_ns=-week_ns)])
    marks: list[Mark] = []
    other = threading.Thread(
        target=lambda: marks.append(second.commit([samples(1, t_ns=-week_ns)], [])[SAMPLES]),
    )
    other.start()
    until_waiting(ask)
    first.let_go(thread)
    other.join(WAIT_S)
    assert marks == [Mark(EPOCH, "samples", 2, 1)]
    assert problems(second) == []
