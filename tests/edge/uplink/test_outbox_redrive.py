"""What stores say, and what the uplink makes of it: kept, deleted, sent again, or not believed."""

from __future__ import annotations

import sqlite3
from collections import Counter
from pathlib import Path
from typing import Any

import msgpack
import pytest

from edge.ring import Kind
from edge.watermark import MAX_HOLES, Mark
from tests.edge.uplink.scene import FakeStore, Scene, play


def rows(folder: Path) -> int:
    """Return how many frames are in the outbox of an uplink that has ended."""
    with sqlite3.connect(folder / "outbox.sqlite") as db:
        (count,) = db.execute("SELECT count(*) FROM frames").fetchone()
    db.close()
    return int(count)


def test_what_the_store_has_is_deleted_and_nothing_else(tmp_path: Path) -> None:
    async def story(scene: Scene) -> None:
        store = FakeStore(scene)
        scene.start(stores=("lab",), keep_after_watermark_s=0)
        scene.write(50)
        scene.event(0)
        await scene.wait(1)
        # Acknowledged, all of it; and not one is let go of.
        assert scene.status()["outbox_frames"] == 51 or scene.status()["waiting"] == 0
        store.takes = lambda frame: frame.stream == "samples" and frame.seq < 30
        store.take()
        store.say()
        await scene.wait(11)
        assert scene.status()["outbox_frames"] == 21
        assert scene.status()["stores"]["lab"]["waiting"] == 21
        await scene.end()

    play(tmp_path, story)
    assert rows(tmp_path) == 21


def test_deleted_is_what_every_store_has(tmp_path: Path) -> None:
    async def story(scene: Scene) -> None:
        lab, archive = FakeStore(scene), FakeStore(scene, "archive")
        scene.start(stores=("lab", "archive"), keep_after_watermark_s=0)
        scene.write(40)
        await scene.wait(1)
        lab.take()
        lab.say()
        await scene.wait(11)
        assert scene.status()["outbox_frames"] == 40
        archive.takes = lambda frame: frame.seq < 10
        archive.take()
        archive.say()
        await scene.wait(11)
        assert scene.status()["outbox_frames"] == 30
        await scene.end()

    play(tmp_path, story)
    assert rows(tmp_path) == 30


def test_it_is_kept_a_while_longer_and_through_a_restart(tmp_path: Path) -> None:
    async def story(scene: Scene) -> None:
        store = FakeStore(scene)
        scene.start(stores=("lab",), keep_after_watermark_s=100)
        scene.write(10)
        await store.serve(60)
        assert scene.status()["stores"]["lab"]["waiting"] == 0
        assert scene.status()["outbox_frames"] == 10
        await scene.end()
        scene.start(stores=("lab",), keep_after_watermark_s=100)
        await scene.wait(30)
        assert scene.status()["outbox_frames"] == 10
        await scene.wait(30)
        # What was left of the hundred seconds, not a hundred from the restart.
        assert scene.status()["outbox_frames"] == 0
        assert len(scene.broker.numbers()) == 10
        await scene.end()

    play(tmp_path, story)
    assert rows(tmp_path) == 0


def test_a_hole_is_sent_again_at_once_and_only_the_hole(tmp_path: Path) -> None:
    async def story(scene: Scene) -> None:
        store = FakeStore(scene)
        store.takes = lambda frame: frame.seq not in (3, 4, 7)
        scene.start(stores=("lab",), keep_after_watermark_s=0)
        scene.write(10)
        await scene.wait(2)
        store.take()
        store.takes = lambda frame: True
        scene.broker.received.clear()
        store.looked_at = 0
        store.say()
        await scene.wait(0.2)
        assert scene.broker.numbers() == [3, 4, 7]
        await store.serve(11)
        assert scene.status()["outbox_frames"] == 0
        assert scene.status()["redriven"] == 3
        await scene.end()

    play(tmp_path, story)


def test_a_frame_that_a_store_refuses_is_not_sent_for_ever(tmp_path: Path) -> None:
    async def story(scene: Scene) -> None:
        store = FakeStore(scene)
        store.takes = lambda frame: frame.seq != 5
        scene.start(stores=("lab",), keep_after_watermark_s=0, poll_s=0.2, live_hz=0.5)
        scene.write(10)
        for _ in range(600):
            store.take()
            store.say()
            await scene.wait(1)
        again = Counter(scene.broker.numbers())
        assert {seq: count for seq, count in again.items() if seq != 5} == dict.fromkeys({*range(10)} - {5}, 1)
        # At 1, 3, 7 ... seconds: doubling.
        assert 7 <= again[5] <= 12
        assert scene.status()["outbox_frames"] == 1
        await scene.end()

    play(tmp_path, story)


def test_a_broker_that_acknowledges_and_forgets_gets_it_all_again(tmp_path: Path) -> None:
    async def story(scene: Scene) -> None:
        store = FakeStore(scene)
        scene.start(stores=("lab",), keep_after_watermark_s=0, redrive_s=30)
        scene.write(100)
        await scene.wait(5)
        # Forgotten on the way: the store has seen none of these.
        store.looked_at = len(scene.broker.received)
        await store.serve(20)
        assert store.has == {}
        await store.serve(60)
        assert store.has == {(1, "samples"): set(range(100))}
        await store.serve(11)
        assert scene.status()["outbox_frames"] == 0
        await scene.end()

    play(tmp_path, story)


def test_stores_that_say_nothing_are_asked_with_a_few_frames_not_with_all(tmp_path: Path) -> None:
    async def story(scene: Scene) -> None:
        scene.start(stores=("lab",), redrive_s=30, status_period_s=60, poll_s=0.2, live_hz=0.5)
        scene.write(1000)
        await scene.wait(600)
        assert 1000 < len(scene.broker.numbers()) < 1000 + 32 * 21
        assert scene.status()["outbox_frames"] == 1000
        await scene.end()

    play(tmp_path, story)


def test_what_no_store_will_ever_take_does_not_hide_what_it_would(tmp_path: Path) -> None:
    async def story(scene: Scene) -> None:
        store = FakeStore(scene)
        store.takes = lambda frame: frame.epoch == f"{2:016x}"
        scene.start(stores=("lab",), redrive_s=5, keep_after_watermark_s=0, poll_s=0.2)
        scene.write(5)
        await scene.wait(1)
        scene.frames = 0
        scene.write(5, epoch=2)
        await scene.wait(1)
        # Forgotten on the way, and nothing else comes that would make the store speak.
        store.looked_at = len(scene.broker.received)
        await store.serve(30)
        assert store.has == {(2, "samples"): set(range(5))}
        await scene.end()

    play(tmp_path, story)


def test_one_dead_store_does_not_flood_the_living_one(tmp_path: Path) -> None:
    async def story(scene: Scene) -> None:
        lab, archive = FakeStore(scene), FakeStore(scene, "archive")
        scene.start(stores=("lab", "archive"), redrive_s=30, keep_after_watermark_s=0, poll_s=0.2, live_hz=0.5)
        for _ in range(60):
            scene.write(10)
            await lab.serve(10)
        assert scene.status()["outbox_frames"] == 600
        assert len(scene.broker.numbers()) < 600 + 32 * 22
        # It comes back, with nothing of it: the broker had no room for so much.
        archive.looked_at = len(scene.broker.received)
        for _ in range(120):
            await lab.serve(0.5)
            await archive.serve(0.5)
        assert lab.has == {(1, "samples"): set(range(600))}
        assert archive.marks() == lab.marks()
        await scene.wait(11)
        assert scene.status()["outbox_frames"] == 0
        await scene.end()

    play(tmp_path, story)


def test_a_slow_store_is_not_sent_what_it_has_yet_to_come_to(tmp_path: Path) -> None:
    async def story(scene: Scene) -> None:
        store = FakeStore(scene)
        taken = [0]

        def slow(frame: object) -> bool:
            taken[0] += 1
            return True

        store.takes = slow
        scene.start(stores=("lab",), redrive_s=5, keep_after_watermark_s=0)
        scene.write(300)
        await scene.wait(1)
        payloads = [item for item in scene.broker.received if item.content_type == "application/msgpack"]
        for first in range(0, 300, 10):
            store.has.setdefault((1, "samples"), set()).update(range(first, first + 10))
            store.say()
            await scene.wait(2)
        # A minute for all, with a redrive every five seconds: it moved, so it was let work.
        assert len(payloads) == len(scene.broker.numbers()) == 300
        await scene.end()

    play(tmp_path, story)


@pytest.mark.parametrize("anew", [True, False])
def test_a_store_that_goes_back_gets_again_what_is_still_here(tmp_path: Path, anew: bool) -> None:
    async def story(scene: Scene) -> None:
        store = FakeStore(scene)
        scene.start(stores=("lab",), keep_after_watermark_s=1000)
        scene.write(20)
        scene.event(0)
        await store.serve(3)
        scene.broker.received.clear()
        store.looked_at = 0
        # Last night's backup: samples up to 12, and of the events it does not even know that there were any.
        store.has = {(1, "samples"): set(range(12))}
        if anew:
            store.generation = "1" * 16
        store.say()
        await store.serve(2)
        assert scene.broker.numbers() == list(range(12, 20))
        assert len(scene.broker.on("events")) == anew
        assert store.has[1, "samples"] == set(range(20))
        await scene.end()

    logs = play(tmp_path, story)
    (gone,) = [entry for entry in logs if "gone back" in entry["event"]]
    assert gone["frames"] == 8 + anew


@pytest.mark.parametrize("anew", [False, True])
def test_a_word_that_was_cut_short_for_its_holes_is_no_way_back(tmp_path: Path, anew: bool) -> None:
    # The store has the end, and fills what lies before it one by one: more holes than a document may list.
    holes = tuple((seq, seq) for seq in range(11, 11 + 2 * MAX_HOLES, 2))

    async def story(scene: Scene) -> None:
        store = FakeStore(scene)
        scene.start(stores=("lab",), keep_after_watermark_s=1000, redrive_s=1000)
        scene.write(300)
        await scene.wait(1)
        store.say((Mark(1, "samples", 10, 299, ((10, 249),)),))
        await scene.wait(3)
        scene.broker.received.clear()
        if anew:
            store.generation = "1" * 16
        store.say((Mark(1, "samples", 11, holes[-1][1] + 1, holes),))
        await scene.wait(3)
        again = set(scene.broker.numbers())
        assert set(range(250, 300)) <= again if anew else not again & set(range(250, 300))
        await scene.end()

    logs = play(tmp_path, story)
    assert any("gone back" in entry["event"] for entry in logs) is anew


def test_a_new_life_of_a_store_is_noticed_by_a_new_life_of_the_uplink(tmp_path: Path) -> None:
    async def story(scene: Scene) -> None:
        store = FakeStore(scene)
        scene.start(stores=("lab",), keep_after_watermark_s=1000)
        scene.write(20)
        await store.serve(3)
        await scene.end()
        scene.broker.received.clear()
        store.looked_at, store.has, store.generation = 0, {}, "1" * 16
        scene.start(stores=("lab",), keep_after_watermark_s=1000)
        await scene.wait(1)
        assert scene.broker.numbers() == []
        store.say()
        await store.serve(2)
        assert store.has == {(1, "samples"): set(range(20))}
        await scene.end()

    play(tmp_path, story)


IMPOSSIBLE = {
    "beyond the last": Mark(1, "samples", 0, 20),
    "contiguous beyond": Mark(1, "samples", 21, 20),
    "never sent": Mark(1, "samples", 0, 19),
    "below, never sent": Mark(1, "samples", 15, 14),
}


@pytest.mark.parametrize("mark", IMPOSSIBLE.values(), ids=IMPOSSIBLE)
def test_a_watermark_that_cannot_be_true_changes_nothing_and_is_said(tmp_path: Path, mark: Mark) -> None:
    async def story(scene: Scene) -> None:
        store = FakeStore(scene)
        scene.broker.window = 1
        scene.start(stores=("lab",), keep_after_watermark_s=0, redrive_s=1000)
        scene.write(10)
        await scene.wait(1)
        scene.broker.reason = lambda publication: 0x87 if publication.topic.endswith("/samples") else 0
        scene.write(10)
        await scene.wait(0.5)
        store.say((mark,))
        await scene.wait(2)
        assert scene.status()["outbox"]["marks_refused"] == 1
        assert "lab" in scene.status()["outbox"]["watermark_fault"]
        assert scene.status()["outbox_frames"] == 20
        # What is true is still believed, and takes the fault back.
        store.take()
        store.has = {(1, "samples"): set(range(10))}
        store.say()
        await scene.wait(11)
        assert scene.status()["outbox_frames"] == 10
        assert scene.status()["outbox"]["watermark_fault"] is None
        await scene.end()

    logs = play(tmp_path, story)
    assert len([entry for entry in logs if "cannot be true" in entry["event"]]) == 1


def test_stores_nobody_configured_and_malformed_documents_change_nothing(tmp_path: Path) -> None:
    async def story(scene: Scene) -> None:
        scene.start(stores=("lab",), keep_after_watermark_s=0)
        scene.write(10)
        await scene.wait(1)
        stranger = FakeStore(scene, "stranger")
        stranger.take()
        stranger.say()
        stranger.say()
        disguised = FakeStore(scene, "lab")
        disguised.name = "other"
        disguised.take()
        scene.broker.deliver("watermark/lab", b"{}")
        scene.broker.deliver("watermark/lab", b"\xff\x00")
        await scene.wait(11)
        assert scene.status()["outbox_frames"] == 10
        assert scene.status()["outbox"]["marks_refused"] == 4
        await scene.end()

    logs = play(tmp_path, story)
    assert len([entry for entry in logs if "not in outbox.stores" in entry["event"]]) == 1


def test_without_stores_nobody_is_listened_to_and_the_status_says_what_that_means(tmp_path: Path) -> None:
    async def story(scene: Scene) -> None:
        scene.start()
        scene.write(10)
        await scene.wait(11)
        assert scene.broker.filters == []
        assert scene.status()["outbox"]["note"] == "no store configured: acknowledged is not stored"
        assert scene.status()["outbox_frames"] == 10
        await scene.end()

    play(tmp_path, story)
    assert rows(tmp_path) == 10


async def salvage_with_an_old_note(scene: Scene, store: FakeStore) -> None:
    """Have 40 of 60 frames noted, all of them stored, and the last 20 unreadable; then another epoch."""
    settings: dict[str, Any] = {"stores": ("lab",), "keep_after_watermark_s": 10_000, "redrive_s": 5}
    scene.start(**settings)
    scene.write(60)
    await scene.wait(2)
    store.take()
    await scene.end()
    with sqlite3.connect(scene.path.with_name("outbox.sqlite")) as db:
        (state,) = db.execute("SELECT state FROM streams").fetchone()
        note = {**msgpack.unpackb(state), "high": 40, "kept": [(0, 39)], "acked": [(0, 39)]}
        db.execute("UPDATE streams SET state = ?", (msgpack.packb(note),))
        db.execute("DELETE FROM frames WHERE id & 1023 >= 40")
        # A page of nobody: found damaged.
        db.execute("INSERT INTO frames SELECT id + (9 << 40), crc, kind, payload FROM frames LIMIT 1")
    db.close()
    scene.frames = 0
    assert scene.writer.write(Kind.EPOCH, 2, 0, msgpack.packb({"prev_epoch": 1}))
    scene.start(**settings)
    scene.write(10, epoch=2)
    await scene.wait(2)
    assert scene.status()["outbox"]["salvaged"] > 0


def test_a_store_may_have_more_than_a_salvage_has_left_a_trace_of(tmp_path: Path) -> None:
    async def story(scene: Scene) -> None:
        store = FakeStore(scene)
        await salvage_with_an_old_note(scene, store)
        store.take()
        store.say()
        await scene.wait(11)
        # The store has all, of either epoch, and is believed.
        assert store.has[1, "samples"] == set(range(60))
        assert scene.status()["outbox"]["marks_refused"] == 0
        assert scene.status()["outbox"]["watermark_fault"] is None
        assert scene.status()["stores"]["lab"]["waiting"] == 0
        # By the next process, too.
        await scene.end()
        scene.start(stores=("lab",), keep_after_watermark_s=0)
        await scene.wait(1)
        store.say()
        await scene.wait(20)
        assert scene.status()["outbox"]["marks_refused"] == 0
        await scene.end()

    play(tmp_path, story)


def test_what_a_salvage_left_no_trace_of_and_no_store_has_is_declared(tmp_path: Path) -> None:
    async def story(scene: Scene) -> None:
        store = FakeStore(scene)
        await salvage_with_an_old_note(scene, store)
        store.has[1, "samples"] -= {45, 46, 50}
        for _ in range(20):
            store.take()
            store.say()
            scene.write(1, epoch=2)
            await scene.wait(1)
        store.take()
        assert store.has[1, "samples"] == set(range(60))
        assert scene.status()["outbox"]["unaccounted"] == 0
        await scene.end()

    play(tmp_path, story)


def test_a_mark_that_cannot_be_true_hinders_no_other_stream(tmp_path: Path) -> None:
    async def story(scene: Scene) -> None:
        store = FakeStore(scene)
        scene.start(stores=("lab",), keep_after_watermark_s=1000, redrive_s=1000)
        scene.write(10)
        scene.event(0)
        await scene.wait(1)
        store.take()
        store.say()
        await scene.wait(11)
        assert scene.status()["stores"]["lab"]["waiting"] == 0
        scene.write(10)
        scene.event(1)
        await scene.wait(1)
        store.take()
        # A new life, too; what it lost of the stream that it lies about it has not said.
        store.generation = "1" * 16
        impossible = Mark(1, "samples", 0, 20)
        store.say((impossible, *(mark for mark in store.marks() if mark.stream == "events")))
        await scene.wait(11)
        assert scene.status()["stores"]["lab"]["waiting"] == 10
        assert scene.status()["outbox"]["marks_refused"] == 1
        assert "samples frame 20" in scene.status()["outbox"]["watermark_fault"]
        assert scene.status()["redriven"] == 0
        await scene.end()

    logs = play(tmp_path, story)
    assert len([entry for entry in logs if "cannot be true" in entry["event"]]) == 1
    assert not any("gone back" in entry["event"] for entry in logs)
