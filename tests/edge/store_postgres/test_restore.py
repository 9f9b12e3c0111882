"""The backup drill: dump, go on, lose everything, restore the dump, send again: nothing lost, nothing doubled."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from edge.store.backend import Key, Received, StoreError
from edge.store.postgres.backend import PostgresBackend
from edge.store.verify import verify
from edge.watermark import Mark
from hil.postgres import Postgres
from tests.edge.store_postgres.conftest import problems
from tests.edge.store_postgres.made import EPOCH, NOW_NS, RIG, document, samples

SAMPLES = Key(RIG, EPOCH, "samples")


@pytest.fixture
def dump(postgres_server: Postgres) -> Iterator[Path]:
    """A store with frames 0..9 and its backup, after which 10..19 came."""
    url = postgres_server.create("drill")
    backend = PostgresBackend(url, "lab", now_ns=lambda: NOW_NS)
    backend.commit([*(samples(seq) for seq in range(10)), document("event", 0, {"kind": "cut"})], [])
    path = postgres_server.dump("drill", "night.dump")
    backend.commit([*(samples(seq) for seq in range(10, 20)), document("event", 1, {"kind": "cut"})], [])
    backend.close()
    yield path
    postgres_server.drop("drill")


def everything() -> list[Received]:
    """What the rig still has: all of it."""
    return [*(samples(seq) for seq in range(20)), *(document("event", seq, {"kind": "cut"}) for seq in range(2))]


def test_drop_restore_send_again_balance_0(postgres_server: Postgres, dump: Path) -> None:
    before = PostgresBackend(postgres_server.url("drill"), "lab", now_ns=lambda: NOW_NS)
    assert before.recent_marks(RIG)[SAMPLES] == Mark(EPOCH, "samples", 20, 19)
    generation = before.generation
    before.close()

    postgres_server.drop("drill")
    postgres_server.restore("drill", dump)
    restored = PostgresBackend(postgres_server.url("drill"), "lab", now_ns=lambda: NOW_NS)
    assert restored.generation != generation, "the rig must learn that what it was told is void"
    assert restored.recent_marks(RIG)[SAMPLES] == Mark(EPOCH, "samples", 10, 9)

    restored.commit(everything(), [])
    assert {(key, seq): payload for key, seq, payload in restored.raw_frames()} == {
        (frame.key, frame.seq): frame.payload for frame in everything()
    }
    report = verify(restored, restored.claimed())
    assert (report.good, report.frames) == (True, 22)
    assert problems(restored) == []
    again = PostgresBackend(postgres_server.url("drill"), "lab", now_ns=lambda: NOW_NS)
    assert again.generation == restored.generation, "drawn once, not at every start"
    again.close()
    restored.close()


def test_a_worker_that_ran_all_the_while_notices_at_its_next_commit(postgres_server: Postgres, dump: Path) -> None:
    worker = PostgresBackend(postgres_server.url("drill"), "lab", now_ns=lambda: NOW_NS)
    generation = worker.generation
    postgres_server.drop("drill")
    postgres_server.restore("drill", dump)
    with pytest.raises(StoreError):
        worker.commit([samples(20)], [])
    marks = worker.commit([samples(20)], [])
    assert marks == {SAMPLES: Mark(EPOCH, "samples", 10, 20, ((10, 19),))}
    assert worker.generation != generation
    worker.close()


def test_restored_in_place_over_the_old_tables_it_is_another_generation(postgres_server: Postgres, dump: Path) -> None:
    before = PostgresBackend(postgres_server.url("drill"), "lab")
    generation = before.generation
    before.close()
    postgres_server.restore_over("drill", dump)
    after = PostgresBackend(postgres_server.url("drill"), "lab")
    assert after.generation != generation
    after.close()


def test_a_killed_server_comes_back_with_the_same_generation_and_everything_committed() -> None:
    with Postgres() as server:
        backend = PostgresBackend(server.create("kept"), "lab", now_ns=lambda: NOW_NS)
        generation = backend.generation
        backend.commit([samples(0), samples(1)], [])
        server.kill()
        with pytest.raises(StoreError):
            backend.commit([samples(2)], [])
        with pytest.raises(StoreError):
            backend.commit([samples(2)], [])
        server.start()
        assert backend.commit([samples(2)], []) == {SAMPLES: Mark(EPOCH, "samples", 3, 2)}
        assert backend.generation == generation
        assert problems(backend) == []
        backend.close()


def test_verify_sees_a_frame_that_somebody_deleted(postgres_server: Postgres, dump: Path) -> None:
    backend = PostgresBackend(postgres_server.url("drill"), "lab")
    backend._connection().execute("DELETE FROM frames WHERE seq = 3")
    report = verify(backend, backend.claimed())
    assert (report.good, report.not_held) == (False, 1)
    backend._connection().execute("DELETE FROM stream_mark")
    assert verify(backend, backend.claimed()).not_held == 1, "the ledger says so too"
    backend.close()
