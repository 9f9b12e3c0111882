"""Committing: everything comes back as it came, once, and the marks say exactly what is there."""

from __future__ import annotations

import random

import msgpack
import pytest

from edge.frames import hex16
from edge.store.backend import Key, StoreError, StoreUnusableError, Unreadable
from edge.store.postgres import session
from edge.store.postgres.backend import PostgresBackend
from edge.watermark import Mark, Watermark, decode, encode
from tests.edge.store_postgres import made
from tests.edge.store_postgres.conftest import Ask, Open, problems
from tests.edge.store_postgres.made import EPOCH, RIG, document, samples

SAMPLES = Key(RIG, EPOCH, "samples")


def sound(backend: PostgresBackend) -> bool:
    return problems(backend) == []


def test_frames_come_back_byte_by_byte(backend: PostgresBackend) -> None:
    frames = [
        *(samples(seq) for seq in range(3)),
        document("event", 0, {"kind": "rearm", "by": "ana", "t_ns": 1, "raw": b"\0\xff", "nan": float("nan")}),
        document("run", 0, {"kind": "start", "uid": hex16(9), "run": 9, "plan": "iv", "t_ns": 2}),
        document("epoch", 0, {"prev_epoch": 5}),
        document("tombstone", 0, {"stream": "samples", "from": 0, "to": 9, "cause": "ring full"}),
    ]
    marks = backend.commit(frames, [])
    assert {(key, seq): payload for key, seq, payload in backend.raw_frames()} == {
        (frame.key, frame.seq): frame.payload for frame in frames
    }
    assert marks == {frame.key: Mark(EPOCH, frame.stream, 1, 0) for frame in frames} | {
        SAMPLES: Mark(EPOCH, "samples", 3, 2)
    }
    assert sound(backend)


def test_the_first_of_an_identity_is_kept(backend: PostgresBackend, ask: Ask) -> None:
    first, second = samples(0, 4), samples(0, 5)
    backend.commit([first, second], [])
    assert backend.commit([second], []) == {SAMPLES: Mark(EPOCH, "samples", 1, 0)}
    assert [payload for _, _, payload in backend.raw_frames()] == [first.payload]
    assert ask("SELECT count(*) FROM samples") == [(4,)]
    assert ask("SELECT sum(n) FROM samples_1s") == [(4,)]


def test_nothing_is_kept_twice_without_the_ledgers_judgement_only(
    backend: PostgresBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Removed, what protects against doubles lets one through, and the check of the whole database sees it."""
    frame = samples(0)
    backend.commit([frame], [])
    monkeypatch.setattr(backend, "_register", lambda conn, batch: set(batch))
    backend.commit([frame], [])
    assert problems(backend) == ["1 frames are kept more than once"]


def test_a_sample_frame_that_was_thinned_keeps_its_number(backend: PostgresBackend, ask: Ask) -> None:
    tombstone = {"stream": "samples", "from": 4, "to": 7, "cause": "thinned", "first": 4, "n": 4}
    frame = document("tombstone", 1, tombstone)
    fields = msgpack.unpackb(frame.payload) | {"stream": "samples"}
    in_place = frame._replace(stream="samples", payload=msgpack.packb(fields))
    marks = backend.commit([samples(0), in_place, samples(2)], [])
    assert marks == {SAMPLES: Mark(EPOCH, "samples", 3, 2)}
    assert ask("SELECT stream, seq, frame_kind FROM events") == [("samples", 1, "tombstone")]
    assert sound(backend)


def test_marks_say_what_is_missing(backend: PostgresBackend) -> None:
    def mark(*seqs: int) -> Mark:
        return backend.commit([samples(seq) for seq in seqs], [])[SAMPLES]

    assert mark(2, 3) == Mark(EPOCH, "samples", 0, 3, ((0, 1),))
    assert mark(6) == Mark(EPOCH, "samples", 0, 6, ((0, 1), (4, 5)))
    assert mark(0, 1) == Mark(EPOCH, "samples", 4, 6, ((4, 5),))
    assert mark(0) == Mark(EPOCH, "samples", 4, 6, ((4, 5),)), "a repetition is told what is there, too"
    assert mark(4, 5) == Mark(EPOCH, "samples", 7, 6)
    assert backend.recent_marks(RIG) == {SAMPLES: Mark(EPOCH, "samples", 7, 6)}
    assert backend.recent_marks("rig-2") == {}
    assert sound(backend)


def test_a_shuffled_stream_ends_without_a_hole(backend: PostgresBackend) -> None:
    rng = random.Random(3)
    order = [samples(seq, 1) for seq in range(120)] * 2
    rng.shuffle(order)
    seen: set[int] = set()
    while order:
        batch = [order.pop() for _ in range(min(len(order), rng.randint(1, 30)))]
        mark = backend.commit(batch, [])[SAMPLES]
        seen |= {frame.seq for frame in batch}
        covered = {seq for seq in range(130) if mark.covers(seq)}
        assert covered == {seq for seq in seen if seq <= mark.top}
    assert mark == Mark(EPOCH, "samples", 120, 119)
    assert sound(backend)


def test_a_mark_of_many_holes_is_cut_and_still_a_watermark(backend: PostgresBackend) -> None:
    mark = backend.commit([samples(2 * seq, 1) for seq in range(100)], [])[SAMPLES]
    assert (mark.contiguous, mark.top, len(mark.holes)) == (1, 128, 64)
    document = Watermark("lab", backend.generation, RIG, (mark,))
    assert decode(encode(document, "2026-09-21T00:00:00Z")) == document


def test_epochs_above_the_signed_range_and_rigs_stay_apart(backend: PostgresBackend) -> None:
    frames = [samples(0, rig=rig, epoch=epoch) for rig in ("a", "b") for epoch in (0, 1, 2**63, 2**64 - 1)]
    assert backend.commit(frames, []) == {frame.key: Mark(frame.epoch, "samples", 1, 0) for frame in frames}
    assert {key for key, _, _ in backend.raw_frames()} == {frame.key for frame in frames}
    assert set(backend.recent_marks("b")) == {frame.key for frame in frames if frame.rig == "b"}


def test_what_is_no_frame_is_kept_raw_once_and_covered_by_nothing(backend: PostgresBackend, ask: Ask) -> None:
    message = Unreadable("tipguard/rig-1/samples", b"\x81\xa1v\x02", "v: schema version 2\0", "application/msgpack")
    other = Unreadable("tipguard/rig-1/samples", b"", "empty", None)
    assert backend.commit([], [message, other, message]) == {}
    assert backend.commit([], [message]) == {}
    assert ask("SELECT payload, why, content_type, times FROM quarantine ORDER BY payload") == [
        (b"", "empty", None, 1),
        (b"\x81\xa1v\x02", "v: schema version 2\ufffd", "application/msgpack", 2),
    ]


def test_a_number_beyond_the_database_goes_to_quarantine(backend: PostgresBackend, ask: Ask) -> None:
    fields = msgpack.unpackb(samples(0).payload)
    far = [made.received(msgpack.packb(fields | {name: 2**63})) for name in ("seq", "first", "utc_unc_ns")]
    assert backend.commit([samples(1), *far], []) == {SAMPLES: Mark(EPOCH, "samples", 0, 1, ((0, 0),))}
    assert ask("SELECT count(*), min(topic), max(topic) FROM quarantine") == [
        (3, "tipguard/rig-1/samples", "tipguard/rig-1/samples")
    ]


def test_one_frame_the_database_refuses_does_not_keep_the_others_out(backend: PostgresBackend, ask: Ask) -> None:
    ask("ALTER TABLE frames ADD CHECK (1 / (seq - 2) IS NOT NULL)")
    marks = backend.commit([samples(seq) for seq in range(4)], [])
    assert marks == {SAMPLES: Mark(EPOCH, "samples", 2, 3, ((2, 2),))}
    assert [payload for (payload,) in ask("SELECT payload FROM quarantine")] == [samples(2).payload]
    assert sound(backend)


def test_all_or_nothing_of_a_batch_is_committed(backend: PostgresBackend, ask: Ask) -> None:
    ask("ALTER TABLE stream_mark ADD CONSTRAINT no_more CHECK (NOT covered @> 2::bigint)")
    backend.commit([samples(0)], [])
    with pytest.raises(StoreError, match="no_more"):
        backend.commit([samples(1), samples(2)], [])
    assert ask("SELECT seq FROM frame_ledger") == [(0,)]
    assert ask("SELECT seq FROM frames") == [(0,)]
    ask("ALTER TABLE stream_mark DROP CONSTRAINT no_more")
    assert backend.commit([samples(1), samples(2)], []) == {SAMPLES: Mark(EPOCH, "samples", 3, 2)}
    assert sound(backend)


def test_a_lost_connection_fails_the_commit_and_the_next_one_connects_again(backend: PostgresBackend, ask: Ask) -> None:
    backend.commit([samples(0)], [])
    ask("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'tipguard store'")
    with pytest.raises(StoreError, match="database"):
        backend.commit([samples(1)], [])
    generation = backend.generation
    assert backend.commit([samples(1)], []) == {SAMPLES: Mark(EPOCH, "samples", 2, 1)}
    assert backend.generation == generation


def test_commits_are_durable_whatever_the_databases_default_is(database: str, ask: Ask, opened: Open) -> None:
    name = ask("SELECT current_database()")[0][0]
    ask(f"ALTER DATABASE {name} SET synchronous_commit = off")
    assert opened()._connection().execute("SHOW synchronous_commit").fetchall() == [("on",)]
    ask(f"ALTER DATABASE {name} SET synchronous_commit = remote_write")
    assert opened()._connection().execute("SHOW synchronous_commit").fetchall() == [("remote_write",)]


def test_a_server_without_fsync_is_said_to_be_one(backend: PostgresBackend) -> None:
    assert [note.split()[0] for note in backend.notes] == ["fsync", "full_page_writes"]
    conn = backend._connection()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(session, "_setting", lambda conn, name: "on")
        assert session.notes(conn) == ()


def test_another_stores_database_is_refused(backend: PostgresBackend, opened: Open) -> None:
    with pytest.raises(StoreUnusableError, match="'lab', not 'attic'"):
        opened("attic")
    assert opened(None).store == "lab"


def test_without_a_name_a_new_database_is_refused(opened: Open) -> None:
    with pytest.raises(StoreUnusableError, match="give it a name"):
        opened(None)


def test_a_database_that_is_away_is_a_store_error(opened: Open) -> None:
    with pytest.raises(StoreError, match="database"):
        opened(url="postgresql://nobody@/nothing?host=/nonexistent")


def test_what_is_no_address_is_said_so(opened: Open) -> None:
    with pytest.raises(StoreUnusableError, match="not a PostgreSQL address"):
        opened(url="postgresql://a b")


def test_an_empty_commit_does_nothing(backend: PostgresBackend) -> None:
    assert backend.commit([], []) == {}
    backend.close()
    backend.close()
