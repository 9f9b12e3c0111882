"""A damaged outbox: everything that can be read of it is in the next one, whatever happens on the way there."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import msgpack
import pytest

from edge.frames import decode_frame, doc_frame
from edge.uplink import aside, salvage
from edge.uplink.aside import KEEP_ASIDE
from edge.uplink.held import Held
from edge.uplink.outbox_file import (
    KINDS,
    MAX_SEQ,
    OutboxDamagedError,
    OutboxError,
    OutboxFile,
    Row,
    StreamRow,
    row_id,
)
from edge.uplink.salvage import Loaded, SalvageError, load
from tests.edge.uplink.scene import UTC, Scene, play

DAMAGE = "said to be damaged"
EVENTS, RUNS = range(7, 7 + 300), range(20)


def a_row(sid: int, stream: str, seq: int) -> Row:
    payload = doc_frame(stream.removesuffix("s"), "rig-1", 5, seq, {"n": seq, "trace": bytes(3000)}, UTC)
    return Row.of(row_id(sid, seq), KINDS.index(stream.removesuffix("s")), payload)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """An outbox as a killed uplink leaves it: some of it only in the log."""
    file = OutboxFile(tmp_path / "made" / "outbox.sqlite")
    file.open()
    state = msgpack.packb({"high": EVENTS[-1] + 1, "kept": [(EVENTS[0], EVENTS[-1])]})
    file.commit([a_row(1, "events", seq) for seq in EVENTS[:200]], [StreamRow(1, 5, "events", state)])
    file.checkpoint()
    file.commit([a_row(1, "events", seq) for seq in EVENTS[200:]], ())
    state = msgpack.packb({"high": 0})
    file.commit([a_row(2, "runs", seq) for seq in RUNS], [StreamRow(2, 5, "runs", state)])
    shutil.copytree(tmp_path / "made", tmp_path / "left")
    file.close()
    return tmp_path / "left" / "outbox.sqlite"


def names(path: Path) -> list[str]:
    """Return what lies beside the outbox; times and what SQLite itself makes left out."""
    found = [file.name for file in path.parent.iterdir() if not file.name.endswith(("-shm", "sqlite-wal"))]
    return sorted(name.partition("damaged-")[0] + "damaged" * ("damaged-" in name) for name in found)


def all_of_it(path: Path, loaded: Loaded, file: OutboxFile) -> bool:
    """Return True when every frame is there once, under its number, and the streams know them."""
    found = {}
    for row, ends in loaded.streams:
        held = Held.from_row(row, ends, 1, 0)
        rows: list[Row] = []
        while page := file.read(row.sid, (rows[-1].id & MAX_SEQ) + 1 if rows else 0, MAX_SEQ, 1000):
            rows += page
        frames = [decode_frame(one.payload) for one in rows]
        assert [one.id & MAX_SEQ for one in rows] == [frame.seq for frame in frames]
        assert {(int(frame.epoch, 16), frame.stream) for frame in frames} == {(row.epoch, row.stream)}
        assert [seq for first, last in held.kept for seq in range(first, last + 1)] == [frame.seq for frame in frames]
        found[row.stream] = [frame.seq for frame in frames]
    return found == {"events": list(EVENTS), "runs": list(RUNS)}


def test_all_of_it_is_there_and_the_damaged_one_is_as_it_was(path: Path) -> None:
    before = path.read_bytes(), path.with_name("outbox.sqlite-wal").read_bytes()
    file = OutboxFile(path)
    shutil.copytree(path.parent, path.parent.with_name("kept"))
    loaded = load(file, "rig-1", DAMAGE)
    assert (loaded.salvaged, loaded.declared, loaded.why) == (len(EVENTS) + len(RUNS), 0, DAMAGE)
    assert all_of_it(path, loaded, file)
    assert loaded.aside is not None
    assert (loaded.aside.read_bytes(), loaded.aside.with_name(loaded.aside.name + "-wal").read_bytes()) == before
    assert names(path) == ["outbox.sqlite", "outbox.sqlite.damaged", "outbox.sqlite.damaged"]
    file.close()


@pytest.mark.processes
@pytest.mark.parametrize("same", [False, True])
def test_killed_at_any_step_it_is_gone_on_from(path: Path, tmp_path: Path, same: bool) -> None:
    command = [sys.executable, "-m", "tests.edge.uplink.salvage_killed", str(path.parent), str(tmp_path / "killed")]
    done = subprocess.run([*command, *(["--same"] * same)], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    # Renaming, copying in six pages, renaming again.
    assert int(done.stdout) > (15 if same else 20)
    directories = sorted((tmp_path / "killed").iterdir())
    assert len(directories) == (1 if same else int(done.stdout))
    begun = 0
    for directory in directories:
        file = OutboxFile(directory / "outbox.sqlite")
        # Killed before the first renaming: nobody else knows that it is damaged.
        put_aside = names(file.path) != ["outbox.sqlite"]
        begun += put_aside
        for _ in range(2):
            loaded = load(file, "rig-1")
            assert all_of_it(file.path, loaded, file), directory.name
            assert names(file.path) == ["outbox.sqlite", *["outbox.sqlite.damaged"] * 2 * put_aside], directory.name
        logs = list(directory.glob("*Z-wal"))
        assert [log.with_name(log.name.removesuffix("-wal")).exists() for log in logs] == [True] * put_aside
        file.close()
    assert begun >= len(directories) - 4


@pytest.mark.parametrize("what", ["no room for the copy", "no room in mid-copy"])
def test_a_full_disk_keeps_all_of_it_for_when_there_is_room(
    path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    full = OutboxFile(path, max_bytes=400_000 if what.endswith("mid-copy") else None)
    if what.endswith("for the copy"):
        monkeypatch.setattr(salvage, "_free_bytes", lambda _directory: 900_000)
    for again in range(KEEP_ASIDE + 2):
        with pytest.raises(SalvageError, match=r"full|900000 bytes are free") as caught:
            load(full, "rig-1", None if again % 2 else DAMAGE)
        need = int(str(caught.value).partition("needs ")[2].partition(" bytes")[0])
        assert len(EVENTS) * 3000 < need < 2 * len(EVENTS) * 3000
        # What of the copy there was is gone: others need the room.
        assert names(path) == ["outbox.sqlite.salvage", "outbox.sqlite.salvage-wal"]
    monkeypatch.undo()
    file = OutboxFile(path)
    loaded = load(file, "rig-1", DAMAGE)
    assert all_of_it(path, loaded, file)
    assert names(path).count("outbox.sqlite.damaged") == 2
    file.close()


def failing(monkeypatch: pytest.MonkeyPatch, name: str, path: Path, times: int) -> None:
    """Have a method of the outbox's file at ``path`` fail so often."""
    left = [times]
    real = getattr(OutboxFile, name)

    def fail(file: OutboxFile, *args: object) -> object:
        if file.path == path and left[0]:
            left[0] -= 1
            raise OutboxError("disk I/O error")
        return real(file, *args)

    monkeypatch.setattr(OutboxFile, name, fail)


@pytest.mark.parametrize("name", ["open", "commit", "seal", "usage"])
def test_a_disk_that_fails_time_and_again_costs_time_only(
    path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    failing(monkeypatch, name, path if name == "usage" else path.with_name("outbox.sqlite.new"), KEEP_ASIDE + 2)
    file = OutboxFile(path)
    for _ in range(KEEP_ASIDE + 2):
        with pytest.raises(OutboxError, match="disk I/O error"):
            load(file, "rig-1", DAMAGE)
        assert path.with_name("outbox.sqlite.salvage").exists()
    loaded = load(file, "rig-1", DAMAGE)
    assert all_of_it(path, loaded, file)
    assert names(path).count("outbox.sqlite.damaged") == 2
    file.close()


def test_a_damaged_file_that_cannot_be_read_just_now_is_not_taken_for_an_empty_one(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(salvage, "LOCK_WAIT_S", 0.0)
    file = OutboxFile(path)
    # Somebody looks at it with a tool of his own.
    curious = OutboxFile(path.with_name("outbox.sqlite.salvage"))
    path.rename(curious.path)
    path.with_name("outbox.sqlite-wal").rename(path.with_name("outbox.sqlite.salvage-wal"))
    curious.open()
    curious.commit((), [StreamRow(2, 5, "runs", b"")])
    with pytest.raises(SalvageError, match="cannot be read"):
        load(file, "rig-1")
    curious.close()
    loaded = load(file, "rig-1")
    assert all_of_it(path, loaded, file)
    file.close()


def test_rows_of_no_stream_are_damage(path: Path) -> None:
    # As a copy of former versions that was cut short: a later stream would be given their number.
    with sqlite3.connect(path) as db:
        db.execute("DELETE FROM streams")
    db.close()
    file = OutboxFile(path)
    loaded = load(file, "rig-1")
    assert "streams that are not in it" in loaded.why
    assert all_of_it(path, loaded, file)
    file.close()


def test_the_newest_damaged_files_stay(path: Path) -> None:
    put_aside = []
    file = OutboxFile(path)
    for _ in range(KEEP_ASIDE + 2):
        loaded = load(file, "rig-1", DAMAGE)
        assert loaded.aside is not None
        put_aside.append(loaded.aside)
    assert sorted(path.parent.glob("outbox.sqlite.damaged-*Z")) == put_aside[-KEEP_ASIDE:]
    assert all_of_it(path, loaded, file)
    file.close()


def test_one_is_not_salvaged_by_two(path: Path) -> None:
    file = OutboxFile(path)
    with aside.Places(path).alone(), pytest.raises(OutboxError, match="another uplink"):
        load(file, "rig-1", DAMAGE)
    load(file, "rig-1", DAMAGE)
    file.close()


def test_a_copy_is_given_up_when_the_uplink_ends(path: Path) -> None:
    file = OutboxFile(path)
    with pytest.raises(SalvageError, match="ends"):
        load(file, "rig-1", DAMAGE, lambda: True)
    loaded = load(file, "rig-1")
    assert all_of_it(path, loaded, file)
    file.close()


def test_an_uplink_that_ends_says_so_to_whoever_copies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Callable[[], bool]] = []

    def loading(file: OutboxFile, rig: str, why: str | None, ending: Callable[[], bool]) -> Loaded:
        asked.append(ending)
        return load(file, rig, why, ending)

    monkeypatch.setattr("edge.uplink.outbox.load", loading)

    async def story(scene: Scene) -> None:
        scene.start()
        await scene.wait(1)
        assert [ending() for ending in asked] == [False]
        await scene.end()
        assert [ending() for ending in asked] == [True]

    play(tmp_path, story)


def test_a_copy_that_cannot_be_read_back_is_made_again(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aside.Places, "finish", lambda _self: pytest.fail("the copy was taken for whole"))

    def sids(_file: OutboxFile) -> list[int]:
        raise OutboxDamagedError("noise")

    monkeypatch.setattr(OutboxFile, "sids", sids)
    file = OutboxFile(path)
    with pytest.raises(SalvageError, match="noise"):
        load(file, "rig-1", DAMAGE)
    monkeypatch.undo()
    loaded = load(file, "rig-1", DAMAGE)
    assert all_of_it(path, loaded, file)
    file.close()


def test_an_uplink_without_room_for_the_copy_says_so_and_takes_nothing_until_there_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = [10_000]
    tries = []

    def free_bytes(_directory: Path) -> int:
        tries.append(free[0])
        return free[0]

    monkeypatch.setattr(salvage, "_free_bytes", free_bytes)

    async def story(scene: Scene) -> None:
        await scene.unsent(400, stores=("lab",))
        with sqlite3.connect(tmp_path / "outbox.sqlite") as db:
            db.execute("DELETE FROM streams")
        db.close()
        scene.start(stores=("lab",))
        scene.write(5)
        await scene.wait(300)
        assert "10000 bytes are free" in scene.status()["fault"]
        assert "free so many" in scene.status()["fault"]
        assert scene.status()["outbox"]["quarantined"] is None
        # Not once a second: each try might write as much as there is room for.
        assert 5 < len(tries) < 15
        assert scene.broker.numbers() == []
        assert scene.writer.used_fraction > 0
        assert (tmp_path / "outbox.sqlite.salvage").exists()
        free[0] = 1 << 30
        await scene.wait(75)
        assert scene.status()["fault"] is None
        assert set(scene.broker.numbers()) == set(range(405))
        assert scene.writer.used_fraction == 0.0
        await scene.end()

    logs = play(tmp_path, story)
    assert len([entry for entry in logs if "put aside" in entry["event"]]) == 1


@pytest.mark.parametrize("where", ["outbox.sqlite.new", "outbox.sqlite"])
def test_damage_in_use_and_a_disk_that_fails_meanwhile_lose_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    async def story(scene: Scene) -> None:
        await scene.unsent(400, stores=("lab",))
        scene.broker.up = False
        scene.start(stores=("lab",))
        await scene.wait(1)
        commit, damaged = OutboxFile.commit, [True]

        def damage_once(file: OutboxFile, rows: list[Row], streams: list[StreamRow]) -> object:
            if rows and damaged[0]:
                damaged[0] = False
                failing(monkeypatch, "open", tmp_path / where, KEEP_ASIDE + 2)
                raise OutboxDamagedError("database disk image is malformed")
            return commit(file, rows, streams)

        monkeypatch.setattr(OutboxFile, "commit", damage_once)
        scene.write(5)
        await scene.wait(200)
        scene.broker.up = True
        await scene.wait(30)
        assert not damaged[0]
        assert scene.status()["outbox"]["salvaged"] == 400
        assert set(scene.broker.numbers()) == set(range(405))
        await scene.end()

    play(tmp_path, story)
    assert len(list(tmp_path.glob("outbox.sqlite.damaged-*Z"))) == 1
