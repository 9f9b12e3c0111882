"""Who goes first, what a restart and a damaged disk leave, and what happens when there is no room."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from edge.frames import decode_frame
from edge.uplink import lanes
from edge.uplink.outbox import Outbox
from edge.uplink.outbox_file import OutboxFile
from tests.edge.uplink.scene import FakeStore, Scene, play

MIB = 1 << 20


def test_events_overtake_a_backlog_and_live_samples_share_with_it(tmp_path: Path) -> None:
    async def story(scene: Scene) -> None:
        scene.broker.answer_ns = 20_000_000
        await scene.outage(2000)
        while len(scene.broker.numbers()) < 100:
            await scene.wait(0.1)
        sent_before = scene.broker.numbers()
        scene.broker.received.clear()
        scene.write(30)
        scene.event(0)
        await scene.wait(0.5)
        received = [item for item in scene.broker.received if item.content_type == "application/msgpack"]
        frames = [decode_frame(item.payload) for item in received]
        # The event did not wait for two thousand frames; some of what had been read ahead was under way.
        assert [frame.stream for frame in frames[:60]].count("events") == 1
        samples = [frame.seq for frame in frames if frame.stream == "samples"]
        new, old = [seq for seq in samples if seq >= 2000], [seq for seq in samples if seq < 2000]
        assert new == list(range(2000, 2030))
        assert len(old) > 100
        assert old == list(range(old[0], old[0] + len(old)))
        # Both moved: not all of the new before the first of the old.
        assert samples.index(2029) > 40
        await scene.wait(20)
        everything = [*sent_before, *scene.broker.numbers()]
        assert sorted(everything) == list(range(2030))
        await scene.end()

    play(tmp_path, story)


def test_a_short_absence_keeps_the_order(tmp_path: Path) -> None:
    async def story(scene: Scene) -> None:
        scene.start(backoff_max_s=0.25)
        scene.write(10)
        await scene.wait(1)
        scene.broker.up = False
        scene.broker.drop()
        for _ in range(10):
            scene.write(20)
            await scene.wait(0.1)
        scene.broker.up = True
        for _ in range(20):
            scene.write(20)
            await scene.wait(0.05)
        await scene.wait(2)
        assert scene.broker.numbers() == list(range(610))
        await scene.end()

    play(tmp_path, story)


@pytest.mark.parametrize("ahead", [200, 1 << 30])
def test_a_store_at_work_is_not_given_more_of_a_backlog_than_the_broker_should_hold(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ahead: int
) -> None:
    monkeypatch.setattr(lanes, "AHEAD", ahead)

    async def story(scene: Scene) -> None:
        lab, archive = FakeStore(scene), FakeStore(scene, "archive")
        await scene.outage(2000, stores=("lab", "archive"))
        most = 0
        # The quicker store is not what is waited for.
        while lab.marks() != archive.marks() or len(scene.broker.numbers()) < 2001:
            if scene.frames == 2000:
                scene.write(1)
            lab.take(40)
            lab.say()
            archive.take()
            archive.say()
            await scene.wait(0.1)
            most = max(most, len(scene.broker.received) - lab.looked_at)
        # Beside it what had been read from the disk already, and what was under way.
        assert (most < 200 + lanes.PAGE_ROWS + lanes.LOW + scene.broker.window) == (ahead == 200)
        assert sorted(set(scene.broker.numbers())) == list(range(2001))
        await scene.end()

    play(tmp_path, story)


def test_a_backlog_of_many_epochs_is_one_backlog(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lanes, "AHEAD", 200)

    async def story(scene: Scene) -> None:
        store = FakeStore(scene)
        scene.broker.up = False
        scene.start(stores=("lab",))
        for epoch in range(1, 11):
            scene.frames = 0
            scene.write(120, epoch=epoch)
            await scene.wait(0.5)
        scene.broker.up = True
        most = 0
        for _ in range(60):
            store.take(40)
            store.say()
            await scene.wait(0.1)
            most = max(most, len(scene.broker.received) - store.looked_at)
        assert most < 200 + lanes.PAGE_ROWS + lanes.LOW + scene.broker.window
        assert len(scene.broker.numbers()) == 1200
        await scene.end()

    play(tmp_path, story)


def test_a_store_that_fills_up_from_below_is_at_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lanes, "AHEAD", 200)

    async def story(scene: Scene) -> None:
        store = FakeStore(scene)
        scene.broker.answer_ns = 20_000_000
        await scene.outage(2000, stores=("lab",))
        # Live samples overtake, and then the run is over.
        while not scene.broker.numbers():
            await scene.wait(0.05)
        scene.write(5)
        await scene.wait(0.5)
        assert 2004 in scene.broker.numbers()
        store.take()
        store.say()
        most = 0
        for _ in range(60):
            store.take(10)
            store.say()
            await scene.wait(0.1)
            # It has a hole, of which some is sent again meanwhile.
            most = max(most, len(set(scene.broker.numbers())) - len(store.has[1, "samples"]))
        assert most < 200 + lanes.PAGE_ROWS + lanes.LOW + scene.broker.window
        await scene.end()

    play(tmp_path, story)


def test_a_store_that_has_stopped_holds_nothing_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lanes, "AHEAD", 200)

    async def story(scene: Scene) -> None:
        await scene.outage(2000, stores=("lab",))
        store = FakeStore(scene)
        # One that has said nothing yet is waited for, too.
        while not scene.broker.numbers():
            await scene.wait(0.05)
        await scene.wait(1)
        assert len(scene.broker.numbers()) < 500
        store.take(10)
        store.say()
        await scene.wait(1)
        assert len(scene.broker.numbers()) < 500
        # It says that it is there, and takes nothing: nobody knows for how long.
        for _ in range(20):
            store.say()
            await scene.wait(0.1)
        await scene.wait(2)
        assert sorted(set(scene.broker.numbers())) == list(range(2000))
        await scene.end()

    play(tmp_path, story)


def test_what_a_store_will_never_take_holds_nothing_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lanes, "AHEAD", 100)

    async def story(scene: Scene) -> None:
        await scene.outage(800, stores=("lab",), redrive_s=4.0)
        store = FakeStore(scene)
        # Of another schema, say: it goes to the store's quarantine, and no watermark will ever name it.
        store.takes = lambda frame: frame.seq >= 250
        for _ in range(60):
            scene.write(1)
            await store.serve(1)
        assert set(range(800)) <= set(scene.broker.numbers())
        await scene.end()

    play(tmp_path, story)


def test_what_the_ring_shows_twice_is_there_once(tmp_path: Path) -> None:
    # Killed between the commit and the release: the ring still has all of it.
    async def story(scene: Scene) -> None:
        scene.write(30)
        ring = scene.path.read_bytes()
        scene.start()
        await scene.wait(1)
        await scene.end()
        scene.writer.close()
        scene.path.write_bytes(ring)
        scene.start()
        await scene.wait(1)
        assert scene.status()["outbox"]["repeated"] == 30 or scene.broker.numbers() == list(range(30))
        assert scene.broker.numbers() == list(range(30))
        await scene.end()
        scene.writer.close()

    play(tmp_path, story)


def damage(path: Path, at: float, count: int = 2000) -> None:
    """Overwrite a part of the file, as a dying card does."""
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(int(size * at) // 4096 * 4096)
        file.write(b"\xa5" * count)


@pytest.mark.parametrize("how", ["header", "middle", "truncated", "empty"])
def test_a_damaged_outbox_is_put_aside_and_what_can_be_read_is_sent(tmp_path: Path, how: str) -> None:
    async def story(scene: Scene) -> None:
        scene.broker.up = False
        scene.start(stores=("lab",))
        for _ in range(10):
            scene.write(60)
            await scene.wait(0.5)
        await scene.end()
        path = tmp_path / "outbox.sqlite"
        if how == "header":
            damage(path, 0.0)
        elif how == "middle":
            for at in (0.45, 0.5, 0.55):
                damage(path, at, 4096)
        elif how == "truncated":
            with path.open("r+b") as file:
                file.truncate(path.stat().st_size // 2)
        else:
            path.write_bytes(b"\x00" * 5000)
        scene.broker.up = True
        scene.start(stores=("lab",), keep_after_watermark_s=0)
        scene.write(5)
        await scene.wait(11)
        frames = [decode_frame(payload) for payload in scene.broker.on("samples")]
        buried = [frame for frame in map(decode_frame, scene.broker.on("events")) if frame.kind == "tombstone"]
        numbers = {frame.seq for frame in (*frames, *buried)}
        assert set(range(600, 605)) <= numbers
        if how in {"middle", "truncated"}:
            # What is gone is declared, one by one, under the number it had.
            assert numbers == set(range(605))
            assert 0 < len(buried) < 600
            assert all(frame.stream == "samples" and frame.doc and "damaged" in frame.doc["cause"] for frame in buried)
        assert "damaged" in scene.status()["outbox"]["quarantined"]
        await scene.end()

    logs = play(tmp_path, story)
    assert len(list(tmp_path.glob("outbox.sqlite.damaged-*Z"))) == 1
    assert any("put aside" in entry["event"] for entry in logs)


def test_one_frame_that_has_changed_on_disk_becomes_a_tombstone_in_its_place(tmp_path: Path) -> None:
    async def story(scene: Scene) -> None:
        await scene.damaged(10, lambda number: number == 4)
        scene.start()
        await scene.wait(2)
        assert scene.broker.numbers() == [0, 1, 2, 3, *range(5, 10)]
        (buried,) = map(decode_frame, scene.broker.on("events"))
        assert (buried.identity, buried.kind) == (("rig-1", f"{1:016x}", "samples", 4), "tombstone")
        await scene.end()

    play(tmp_path, story)


def test_a_full_disk_holds_the_ring_and_recovers(tmp_path: Path) -> None:
    async def story(scene: Scene) -> None:
        store = FakeStore(scene)
        scene.start(stores=("lab",), keep_after_watermark_s=0, outbox_full_bytes=200_000, poll_s=0.1)
        for _ in range(40):
            scene.write(20)
            await scene.wait(0.2)
        assert scene.writer.used_fraction > 0
        assert "full" in scene.status()["fault"]
        await store.serve(30)
        assert store.has == {(1, "samples"): set(range(800))}
        assert scene.writer.used_fraction == 0.0
        await scene.wait(11)
        assert scene.status()["fault"] is None
        await scene.end()

    logs = play(tmp_path, story)
    assert any("works again" in entry["event"] for entry in logs)


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """While its one element is true, nothing can be committed."""
    commit = OutboxFile.commit
    broken = [True]

    def failing(file: OutboxFile, rows: object, streams: object) -> object:
        if broken[0] and rows:
            with file._transaction():
                raise sqlite3.OperationalError("disk I/O error")
        return commit(file, rows, streams)  # type: ignore[arg-type]  # handed on as they are

    monkeypatch.setattr(OutboxFile, "commit", failing)
    return broken


@pytest.mark.parametrize("early", [False, True])
def test_a_ring_released_before_the_commit_would_lose_what_the_next_life_needs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: list[bool], early: bool
) -> None:
    # The removal test of Outbox.floor: an uplink that ends before it could commit, and the one after it.
    if early:
        monkeypatch.setattr(Outbox, "floor", lambda _self, cursor: cursor)

    async def story(scene: Scene) -> None:
        scene.start()
        scene.write(10)
        await scene.wait(5)
        await scene.end()
        broken[0] = False
        scene.start()
        await scene.wait(3)
        assert scene.broker.numbers() == ([] if early else list(range(10)))
        await scene.end()

    play(tmp_path, story)


def test_without_a_disk_nothing_is_sent_and_the_ring_keeps_it(tmp_path: Path, broken: list[bool]) -> None:
    async def story(scene: Scene) -> None:
        scene.start()
        scene.write(10)
        await scene.wait(5)
        assert scene.broker.numbers() == []
        assert scene.writer.used_fraction > 0
        broken[0] = False
        await scene.wait(3)
        assert scene.broker.numbers() == list(range(10))
        assert scene.writer.used_fraction == 0.0
        await scene.end()

    play(tmp_path, story)


def budget(scene: Scene, frames: int) -> None:
    for _ in range(frames):
        scene.event(scene.frames, size=20_000)
        scene.frames += 1


def test_at_the_budget_the_ring_is_left_alone_and_alarms_came_long_before(tmp_path: Path) -> None:
    async def story(scene: Scene) -> None:
        store = FakeStore(scene)
        scene.start(stores=("lab",), keep_after_watermark_s=0, budget_bytes=MIB)
        for _ in range(70):
            budget(scene, 1)
            await scene.wait(0.1)
        await scene.wait(2)
        assert scene.writer.used_fraction > 0
        assert "nothing more is taken" in scene.status()["outbox"]["alarm"]
        assert scene.status()["outbox_budget_used"] >= 1
        await store.serve(5)
        assert store.has == {(1, "events"): set(range(70))}
        assert scene.writer.used_fraction == 0.0
        await scene.wait(11)
        assert scene.status()["outbox"]["alarm"] is None
        await scene.end()

    logs = play(tmp_path, story)
    assert [entry["event"][20:23] for entry in logs if "of its budget" in entry["event"]] == ["50%", "80%"]


def test_at_the_budget_what_every_store_has_goes_before_its_time(tmp_path: Path) -> None:
    async def story(scene: Scene) -> None:
        store = FakeStore(scene)
        scene.start(stores=("lab",), keep_after_watermark_s=1e6, budget_bytes=MIB)
        for _ in range(200):
            budget(scene, 1)
            await store.serve(0.2)
        await store.serve(1)
        assert store.has == {(1, "events"): set(range(200))}
        assert 10 < scene.status()["outbox_frames"] < 60
        await scene.end()

    play(tmp_path, story)


def test_without_stores_the_oldest_acknowledged_go_at_the_budget_and_never_others(tmp_path: Path) -> None:
    async def story(scene: Scene) -> None:
        scene.start(budget_bytes=MIB)
        for _ in range(30):
            budget(scene, 5)
            await scene.wait(0.5)
        assert len(scene.broker.on("events")) == 150
        await scene.wait(11)
        assert scene.status()["outbox_frames"] < 60
        scene.broker.up = False
        scene.broker.drop()
        for _ in range(20):
            budget(scene, 1)
            await scene.wait(0.5)
        scene.broker.up = True
        await scene.wait(20)
        assert {decode_frame(payload).seq for payload in scene.broker.on("events")} == set(range(scene.frames))
        await scene.end()

    play(tmp_path, story)


def test_thinning_puts_tombstones_where_the_oldest_samples_were_and_leaves_events(tmp_path: Path) -> None:
    async def story(scene: Scene) -> None:
        scene.broker.up = False
        scene.start(budget_bytes=MIB, policy="thin", poll_s=0.05)
        for seq in range(300):
            scene.write(1, samples=200)
            scene.event(seq)
            await scene.wait(0.1)
        await scene.wait(1)
        assert scene.writer.used_fraction == 0.0
        scene.broker.up = True
        await scene.wait(30)
        thinned = [frame for frame in map(decode_frame, scene.broker.on("events")) if frame.kind == "tombstone"]
        events = [frame for frame in map(decode_frame, scene.broker.on("events")) if frame.kind == "event"]
        assert [frame.seq for frame in events] == list(range(300))
        numbers = scene.broker.numbers()
        assert sorted([*numbers, *(frame.seq for frame in thinned)]) == list(range(300))
        assert len(thinned) > 100
        # The oldest, and each says what it was.
        assert max(frame.seq for frame in thinned) < min(numbers)
        first = thinned[0]
        assert first.doc is not None
        assert (first.stream, first.doc["cause"], first.doc["n"], first.doc["from"]) == ("samples", "thinned", 200, 0)
        assert scene.status()["outbox"]["thinned"] == len(thinned)
        await scene.end()

    play(tmp_path, story)
