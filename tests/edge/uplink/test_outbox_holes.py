"""An outbox that is no more: what it held and no store has is declared, once, and nothing else is."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgpack
import pytest

from edge.frames import Frame, decode_frame, doc_frame
from edge.ring import Kind
from edge.uplink import holes
from edge.uplink.held import UNKNOWN_HIGH, Held
from edge.uplink.holes import CAUSE, CHUNK
from edge.uplink.outbox_file import KINDS, OutboxError, OutboxFile, Row, StreamRow, Usage, row_id
from edge.uplink.ranges import Ranges
from edge.uplink.salvage import load
from edge.watermark import Mark
from tests.edge.uplink.scene import UTC, FakeStore, Scene, play

WORDS: dict[str, Any] = {"keep_after_watermark_s": 0, "redrive_s": 5, "poll_s": 0.1, "status_period_s": 1}
LOST = "frames are lost"


def destroy(folder: Path) -> None:
    for path in folder.glob("outbox.sqlite*"):
        path.unlink()


def buried(scene: Scene) -> list[Frame]:
    """Return the tombstones that stand in the place of frames, as often as they were sent."""
    found = [decode_frame(payload) for payload in scene.broker.on("events")]
    return [frame for frame in found if frame.kind == "tombstone" and frame.stream != "tombstones"]


async def lose(
    scene: Scene, stores: Sequence[FakeStore], *, stored: int = 20, lost: int = 30, more: int = 5, keep_s: float = 0
) -> None:
    """Have ``stored`` frames stored and ``lost`` in the outbox only; destroy that, and give ``more``."""
    words = {**WORDS, "stores": tuple(store.name for store in stores), "keep_after_watermark_s": keep_s}
    scene.start(**words)
    scene.write(stored)
    await scene.wait(1)
    for store in stores:
        store.take()
        store.say()
    await scene.wait(1)
    scene.write(lost)
    await scene.wait(2)
    await scene.end()
    for store in stores:
        # The broker had it all, and forgot.
        store.looked_at = len(scene.broker.received)
    destroy(scene.path.parent)
    scene.start(**words)
    scene.write(more)
    await scene.wait(1)


async def serve(scene: Scene, stores: Sequence[FakeStore], seconds: int) -> None:
    """Go on measuring, one frame a second."""
    for _ in range(seconds):
        scene.write(1)
        for store in stores:
            store.take()
            store.say()
        await scene.wait(1)


@pytest.mark.parametrize("lost", [30, 3 * CHUNK + 7])
def test_what_no_store_has_is_declared_once_and_the_watermark_becomes_whole(tmp_path: Path, lost: int) -> None:
    async def story(scene: Scene) -> None:
        store = FakeStore(scene)
        await lose(scene, [store], lost=lost)
        await serve(scene, [store], 3)
        assert scene.status()["outbox"]["unaccounted"] == lost
        assert buried(scene) == []
        await serve(scene, [store], 30)
        found = buried(scene)
        assert Counter(frame.seq for frame in found) == dict.fromkeys(range(20, 20 + lost), 1)
        for frame in found:
            said = {"stream": "samples", "from": frame.seq, "to": frame.seq, "cause": CAUSE}
            assert (frame.doc, frame.epoch, frame.stream) == (said, f"{1:016x}", "samples")
        store.take()
        (mark,) = [mark for mark in store.marks() if mark.stream == "samples"]
        assert mark.holes == ()
        assert mark.contiguous == scene.frames
        outbox = scene.status()["outbox"]
        assert (outbox["declared_lost"], outbox["unaccounted"], outbox["elsewhere"]) == (lost, 0, {"lab": 0})
        assert scene.status()["outbox_frames"] <= 1
        await scene.end()
        # Nothing of it comes again with the next process.
        scene.start(stores=("lab",), **WORDS)
        await serve(scene, [store], 20)
        assert len(buried(scene)) == lost
        await scene.end()

    logs = play(tmp_path, story)
    (told,) = [entry for entry in logs if LOST in entry["event"]]
    assert (told["log_level"], told["first"], told["last"], told["frames"]) == ("error", 20, 19 + lost, lost)


def test_what_another_store_has_is_not_lost(tmp_path: Path) -> None:
    async def story(scene: Scene) -> None:
        lab, archive = FakeStore(scene), FakeStore(scene, "archive")
        await lose(scene, [lab, archive])
        lab.has[1, "samples"].update(range(20, 45))
        await serve(scene, [lab, archive], 20)
        # Nobody has the last five; the others are to be had.
        assert sorted(frame.seq for frame in buried(scene)) == list(range(45, 50))
        assert scene.status()["outbox"]["elsewhere"] == {"lab": 0, "archive": 25}
        archive.has[1, "samples"].update(range(20, 45))
        await serve(scene, [lab, archive], 12)
        assert scene.status()["outbox"]["elsewhere"] == {"lab": 0, "archive": 0}
        assert scene.status()["outbox"]["declared_lost"] == 5
        assert len(buried(scene)) == 5
        await scene.end()

    logs = play(tmp_path, story)
    (told,) = [entry for entry in logs if "store import" in entry["event"]]
    assert told["store"] == "archive"


def late_frames(path: Path) -> int:
    """Let a store come to frames that it was sent by the former life only after a while; return the tombstones."""
    count = []

    async def story(scene: Scene) -> None:
        store = FakeStore(scene)
        await lose(scene, [store])
        await serve(scene, [store], 3)
        store.has[1, "samples"].update(range(20, 50))
        await serve(scene, [store], 20)
        assert scene.status()["outbox"]["unaccounted"] == 0
        count.append(len(buried(scene)))
        await scene.end()

    play(path, story)
    return count[0]


def test_what_is_still_on_its_way_to_a_store_is_not_lost(tmp_path: Path) -> None:
    assert late_frames(tmp_path) == 0


def test_without_patience_what_is_on_its_way_is_declared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The removal: one word is enough.
    genuine = holes.Holes.__init__

    def hasty(self: holes.Holes, *args: Any, **more: Any) -> None:  # noqa: ANN401 - as the one it replaces
        genuine(self, *args, **more)
        self._patience_ns = 0

    monkeypatch.setattr(holes.Holes, "__init__", hasty)
    assert late_frames(tmp_path) > 0


def test_a_word_that_the_broker_repeats_is_no_second_word(tmp_path: Path) -> None:
    async def story(scene: Scene) -> None:
        store = FakeStore(scene)
        await lose(scene, [store])
        store.take()
        word = store.word()
        for _ in range(20):
            scene.broker.deliver("watermark/lab", word)
            await scene.wait(1)
        assert buried(scene) == []
        assert scene.status()["outbox"]["unaccounted"] == 30
        await serve(scene, [store], 3)
        assert len(buried(scene)) == 30
        await scene.end()

    play(tmp_path, story)


def test_a_store_with_nothing_to_say_is_asked(tmp_path: Path) -> None:
    async def story(scene: Scene) -> None:
        store = FakeStore(scene)
        await lose(scene, [store], keep_s=1000)
        # Nobody measures any more, and a store speaks when something comes.
        await store.serve(2)
        asked = Counter(scene.broker.numbers())
        await store.serve(20)
        assert len(buried(scene)) == 30
        again = Counter(scene.broker.numbers()) - asked
        assert again == {54: 1}
        await scene.end()

    play(tmp_path, story)


def test_a_store_that_is_silent_may_have_it(tmp_path: Path) -> None:
    async def story(scene: Scene) -> None:
        lab, archive = FakeStore(scene), FakeStore(scene, "archive")
        await lose(scene, [lab, archive])
        await serve(scene, [lab], 30)
        assert buried(scene) == []
        assert scene.status()["outbox"]["unaccounted"] == 30
        await serve(scene, [lab, archive], 12)
        assert len(buried(scene)) == 30
        await scene.end()

    play(tmp_path, story)


def test_a_store_that_does_not_speak_of_the_stream_may_have_it(tmp_path: Path) -> None:
    async def story(scene: Scene) -> None:
        lab, archive = FakeStore(scene), FakeStore(scene, "archive")
        await lose(scene, [lab, archive])
        # A word is of what was touched lately: of the samples the archive has said nothing yet.
        archive.takes = lambda frame: frame.stream != "samples"
        archive.has = {(1, "events"): set()}
        await serve(scene, [lab, archive], 30)
        assert buried(scene) == []
        assert scene.status()["outbox"]["unaccounted"] == 30
        await scene.end()

    play(tmp_path, story)


def test_a_frame_that_arrives_when_its_tombstone_is_on_the_way_is_no_lie(tmp_path: Path) -> None:
    async def story(scene: Scene) -> None:
        store = FakeStore(scene)
        await lose(scene, [store])
        await serve(scene, [store], 3)
        # The broker answers no more: what is declared now cannot go out.
        scene.broker.answers = False
        scene.write(40)
        for _ in range(8):
            store.say()
            await scene.wait(1)
        assert buried(scene) == []
        store.has[1, "samples"].add(20)
        store.say()
        await scene.wait(1)
        scene.broker.answers = True
        await scene.wait(12)
        assert scene.status()["outbox"]["declared_lost"] == 30
        assert scene.status()["outbox"]["marks_refused"] == 0
        assert {frame.seq for frame in buried(scene)} == set(range(20, 50))
        await scene.end()

    play(tmp_path, story)


def test_many_are_declared_a_part_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    genuine = OutboxFile.commit
    sizes: list[int] = []

    def commit(self: OutboxFile, rows: Sequence[Row], streams: Sequence[StreamRow]) -> Usage:
        if rows and KINDS[rows[0].kind] == "tombstone":
            sizes.append(len(rows))
        return genuine(self, rows, streams)

    monkeypatch.setattr(OutboxFile, "commit", commit)

    async def story(scene: Scene) -> None:
        store = FakeStore(scene)
        await lose(scene, [store], lost=2 * CHUNK + 3)
        await serve(scene, [store], 20)
        await scene.end()

    play(tmp_path, story)
    assert sizes == [CHUNK, CHUNK, 3]


def test_the_store_s_word_may_be_there_before_the_first_frame(tmp_path: Path) -> None:
    async def story(scene: Scene) -> None:
        store = FakeStore(scene)
        await lose(scene, [store], more=0)
        # As the broker retains it; nothing of the new life is in it.
        store.say()
        await scene.wait(10)
        assert buried(scene) == []
        await serve(scene, [store], 15)
        assert sorted(frame.seq for frame in buried(scene)) == list(range(20, 50))
        await scene.end()

    play(tmp_path, story)


@pytest.mark.parametrize(
    "mark",
    [Mark(1, "samples", 0, 39, ((0, 38),)), Mark(1, "samples", 5, 39, ((5, 9), (20, 30)))],
    ids=["all but one", "some"],
)
def test_where_a_frame_is_no_tombstone_comes(tmp_path: Path, mark: Mark) -> None:
    async def story(scene: Scene) -> None:
        store = FakeStore(scene)
        scene.start(stores=("lab",), **{**WORDS, "keep_after_watermark_s": 1000})
        scene.write(40)
        await scene.wait(1)
        for _ in range(10):
            store.say((mark,))
            scene.write(1)
            await scene.wait(2)
        assert buried(scene) == []
        outbox = scene.status()["outbox"]
        assert (outbox["declared_lost"], outbox["unaccounted"], outbox["of_unknown_epochs"]) == (0, 0, 0)
        await scene.end()

    logs = play(tmp_path, story)
    assert not [entry for entry in logs if LOST in entry["event"]]


def test_killed_behind_the_commit_the_next_process_sends_them_once(tmp_path: Path) -> None:
    copy = tmp_path.with_name(f"{tmp_path.name}-copy")

    async def story(scene: Scene) -> None:
        store = FakeStore(scene)
        await lose(scene, [store])
        # Tombstones go to the topic of the events: committed, and not to be had by the store.
        store.takes = lambda frame: frame.kind != "tombstone"
        scene.broker.reason = lambda publication: 0x87 if publication.topic.endswith("/events") else 0
        await serve(scene, [store], 20)
        sent = len(buried(scene))
        assert sent > 0
        # As a kill leaves it: with the log, without the last notes.
        shutil.copytree(tmp_path, copy)
        await scene.end()
        scene.broker.reason = lambda publication: 0
        scene.broker.received.clear()
        store.looked_at = 0
        store.takes = lambda frame: True
        scene.start(stores=("lab",), outbox_directory=copy, **WORDS)
        await serve(scene, [store], 20)
        assert {frame.seq for frame in buried(scene)} == set(range(20, 50))
        (mark,) = [mark for mark in store.marks() if mark.stream == "samples"]
        assert mark.holes == ()
        await scene.end()

    play(tmp_path, story)


def test_a_disk_that_does_not_take_the_tombstones_gets_them_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    genuine = OutboxFile.commit
    refused: list[int] = []

    def commit(self: OutboxFile, rows: Sequence[Row], streams: Sequence[StreamRow]) -> Usage:
        if rows and KINDS[rows[0].kind] == "tombstone" and len(refused) < 3:
            refused.append(len(rows))
            raise OutboxError("no room")
        return genuine(self, rows, streams)

    monkeypatch.setattr(OutboxFile, "commit", commit)

    async def story(scene: Scene) -> None:
        store = FakeStore(scene)
        await lose(scene, [store])
        await serve(scene, [store], 30)
        assert refused == [30, 30, 30]
        assert Counter(frame.seq for frame in buried(scene)) == dict.fromkeys(range(20, 50), 1)
        assert scene.status()["outbox"]["declared_lost"] == 30
        await scene.end()

    play(tmp_path, story)


def begin(scene: Scene, epoch: int, previous: int | None) -> None:
    doc = {"rig": "rig-1", "epoch": epoch, "prev_epoch": previous, "t_ns": 1, "version": "test"}
    assert scene.writer.write(Kind.EPOCH, epoch, 0, msgpack.packb(doc))


@pytest.mark.parametrize("ours", [True, False])
def test_an_epoch_that_has_ended_is_declared_only_if_it_was_this_rig_s(tmp_path: Path, ours: bool) -> None:
    async def story(scene: Scene) -> None:
        store = FakeStore(scene)
        store.takes = lambda frame: frame.seq not in range(10, 15) or frame.kind == "tombstone"
        scene.start(stores=("lab",), **WORDS)
        begin(scene, 1, None)
        scene.write(20)
        await scene.wait(1)
        store.take()
        await scene.end()
        destroy(tmp_path)
        scene.start(stores=("lab",), **WORDS)
        begin(scene, 2, 1 if ours else None)
        scene.frames = 0
        for _ in range(20):
            scene.write(1, epoch=2)
            store.take()
            store.say()
            await scene.wait(1)
        outbox = scene.status()["outbox"]
        if ours:
            assert sorted((frame.epoch, frame.seq) for frame in buried(scene)) == [
                (f"{1:016x}", seq) for seq in range(10, 15)
            ]
            assert (outbox["declared_lost"], outbox["of_unknown_epochs"]) == (5, 0)
        else:
            assert buried(scene) == []
            assert (outbox["declared_lost"], outbox["of_unknown_epochs"]) == (0, 5)
        await scene.end()

    logs = play(tmp_path, story)
    assert len([entry for entry in logs if "knows nothing of" in entry["event"]]) == (not ours)


def test_an_earlier_epoch_with_more_holes_than_could_be_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(holes, "MAX_ADOPTED", 100)

    async def story(scene: Scene) -> None:
        store = FakeStore(scene)
        scene.start(stores=("lab",), **WORDS)
        begin(scene, 2, 1)
        for first in range(20):
            scene.write(1, epoch=2)
            store.take()
            # Other words each time, of an epoch whose length nobody here knows.
            store.say((*store.marks(), Mark(1, "samples", first, 200, ((first, 199),))))
            await scene.wait(1)
        assert buried(scene) == []
        assert scene.status()["outbox"]["of_unknown_epochs"] == 181
        await scene.end()

    play(tmp_path, story)


def test_a_word_that_the_broker_kept_is_not_the_second_one(tmp_path: Path) -> None:
    async def story(scene: Scene) -> None:
        store = FakeStore(scene)
        await lose(scene, [store])
        await serve(scene, [store], 2)
        scene.broker.up = False
        scene.broker.drop()
        # A second after the first, and then nothing: it hangs, over what was sent to it.
        last_word = store.word()
        await scene.wait(40)
        scene.broker.up = True
        await scene.wait(15)
        scene.broker.deliver("watermark/lab", last_word)
        await scene.wait(20)
        assert scene.status()["stores"]["lab"]["heard_s"] > 0
        assert scene.status()["outbox"]["unaccounted"] == 30
        assert buried(scene) == []
        # It is asked for another, at rest as well.
        assert scene.broker.numbers().count(scene.frames - 1) > 1
        store.say()
        await scene.wait(2)
        assert len(buried(scene)) == 30
        await scene.end()

    play(tmp_path, story)


def test_what_the_ring_left_out_is_missing_too(tmp_path: Path) -> None:
    async def story(scene: Scene) -> None:
        store = FakeStore(scene)
        scene.start(stores=("lab",), **WORDS)
        scene.write(10)
        await scene.wait(1)
        # As if a damaged stretch of the ring had been passed over.
        scene.frames += 3
        await serve(scene, [store], 20)
        assert sorted(frame.seq for frame in buried(scene)) == [10, 11, 12]
        await scene.end()

    play(tmp_path, story)


def test_without_stores_nobody_knows_and_nothing_is_declared(tmp_path: Path) -> None:
    async def story(scene: Scene) -> None:
        scene.start(**WORDS)
        scene.frames = 20
        scene.write(5)
        await scene.wait(30)
        assert buried(scene) == []
        await scene.end()

    play(tmp_path, story)


@pytest.mark.parametrize("state_left", [True, False])
def test_of_a_damaged_outbox_what_is_neither_there_nor_declared_is_absent(tmp_path: Path, state_left: bool) -> None:
    file = OutboxFile(tmp_path / "outbox.sqlite")
    file.open()
    rows = [
        Row.of(row_id(1, seq), KINDS.index("event"), doc_frame("event", "rig-1", 7, seq, {"n": seq}, UTC))
        for seq in range(10, 15)
    ]
    state = msgpack.packb({"high": 15, "kept": [(0, 14)], "covered": {"lab": [(0, 4)]}}) if state_left else b"noise"
    file.commit(rows, [StreamRow(1, 7, "events", state)])
    loaded = load(file, "rig-1", "said to be damaged")
    ((row, ends),) = loaded.streams
    held = Held.from_row(row, ends, 1, 0)
    # One store of several has the first five; without the state nobody knows that any of the ten were there.
    assert loaded.declared == (5 if state_left else 0)
    assert list(held.absent) == [(0, 4 if state_left else 9)]
    assert list(held.kept) == [(5 if state_left else 10, 14)]
    file.close()


def test_what_is_absent_outlives_the_process() -> None:
    held = Held(3, 7, "samples", 1)
    held.begins(10)
    held.committed(10, 19, 0)
    held.committed(22, 29, 0)
    assert list(held.absent) == [(0, 9), (20, 21)]
    again = Held.from_row(held.row(0), (10, 29), 1, 0)
    assert again.absent == held.absent
    again.declare(4, 6)
    assert list(again.absent) == [(0, 3), (7, 9), (20, 21)]
    # Written with the rows; where the rows came through and the state did not, they are found by themselves.
    assert Held.from_row(again.row(0), (4, 29), 1, 0).absent == again.absent
    again.undeclare(4, 6)
    assert again.absent == held.absent
    again.todo.add(22, 25)
    again.vanished(22, 24)
    assert list(again.absent) == [(0, 9), (20, 24)]
    assert Ranges([(22, 24)]).both(again.kept) == Ranges()
    assert held.high < UNKNOWN_HIGH
