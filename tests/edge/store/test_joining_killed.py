"""A join that is interrupted at every single step, and readers at every single step: nothing lost, nothing twice."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path

import duckdb
import pytest

from edge.store import joined
from edge.store.backend import StoreError
from edge.store.catalogue import JOINING, read_contents
from edge.store.disk import RealDisk
from edge.store.joiner import LINGER_S
from edge.store.query import open_tables
from edge.store.verify import import_frames
from tests.edge.store.joinable import EACH, EVENTS, SAMPLES, SEGMENTS, filled, globbed, is_whole, names, opened, viewed
from tests.edge.store.made import many, received, verified
from tests.edge.store.memory_backend import MemoryBackend
from tests.edge.store.power_cut import CuttableDisk, PowerCutError

LONG = os.environ.get("TIPGUARD_LONG") == "1"
STRIDE = 1 if LONG else 30
"""Of the writes of a joined file, of which there are many."""
FRAMES = SEGMENTS * EACH
Fold = Callable[[str], Path]


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return filled(tmp_path_factory.mktemp("small"))


@pytest.fixture
def copied(small: Path, tmp_path: Path) -> Fold:
    """Copies of the same store, by name; as it was, with nothing joined."""

    def copy(name: str) -> Path:
        return Path(shutil.copytree(small, tmp_path / name))

    return copy


def live(folder: Path, disk: CuttableDisk) -> None:
    """A start, a join of all, and an end."""
    store = None
    try:
        store = opened(folder, disk=disk)
        assert store.join() == 4
        store.close()
    except PowerCutError:
        if store is not None:
            store._release()  # as the kernel does
        raise


def cut_at(folder: Path, step: int) -> None:
    disk = CuttableDisk(random.Random(step), step)
    with pytest.raises(PowerCutError):
        live(folder, disk)
    disk.go_dark()


def steps(folder: Path) -> list[int]:
    """Return the steps at which to cut: all but some of the writes."""
    disk = CuttableDisk(random.Random(0))
    live(folder, disk)
    assert is_whole(folder)
    writes = [step for step, kind in enumerate(disk.kinds, 1) if kind == "write"]
    others = [step for step, kind in enumerate(disk.kinds, 1) if kind != "write"]
    assert {disk.kinds[step - 1] for step in others} == {
        *("append_to", "sync", "make_twin", "link", "exchange", "remove_folder", "put")
    }
    return sorted([*writes[::STRIDE], *others])


@pytest.mark.timeout(600 if LONG else 120)
def test_killed_or_without_power_at_every_step(copied: Fold) -> None:
    left = set()
    for step in steps(copied("uncut")):
        folder = copied(str(step))
        cut_at(folder, step)
        # Before anybody starts a store again, and after.
        assert is_whole(folder), step
        left.add(((folder / JOINING).exists(), len(names(folder))))
        store = opened(folder)
        assert not (folder / JOINING).exists()
        # The rigs send everything again.
        store.commit(SAMPLES + EVENTS, [])
        assert not store.rotate()
        store.join()
        store.close()
        assert is_whole(folder), step
        assert len(names(folder)) == 4
        shutil.rmtree(folder)
    # It was met before, in the midst of, and behind each of the four.
    assert left >= {(True, files) for files in (16, 13, 10, 7, 4)}


def loses(folder: Path) -> bool:
    try:
        return not is_whole(folder)
    except (StoreError, duckdb.Error):
        return True


def loses_at(copied: Fold, step: int) -> bool:
    folder = copied(str(step))
    disk = CuttableDisk(random.Random(step), step)
    # A mutation may have fewer steps.
    with contextlib.suppress(PowerCutError):
        live(folder, disk)
    disk.go_dark()
    return loses(folder)


def test_what_is_removed_before_the_new_is_in_place_is_a_loss(copied: Fold, monkeypatch: pytest.MonkeyPatch) -> None:
    """The order protects: with the old files removed a step before the exchange, the same cuts lose frames."""
    exchange = CuttableDisk.exchange

    def turned_round(self: CuttableDisk, path: Path, other: Path) -> None:
        for old in path.glob("*.parquet"):
            old.unlink()
        exchange(self, path, other)

    cuts = steps(copied("uncut"))
    monkeypatch.setattr(CuttableDisk, "exchange", turned_round)
    assert any(loses_at(copied, step) for step in cuts)


def test_without_its_sync_the_joined_file_is_lost(copied: Fold, monkeypatch: pytest.MonkeyPatch) -> None:
    cuts = steps(copied("uncut"))
    monkeypatch.setattr("edge.store.joiner._Sink.sync", lambda sink: None)
    assert any(loses_at(copied, step) for step in cuts)


class Watched(RealDisk):
    """Lets readers look before and after everything that is done."""

    def __init__(self, look: Callable[[], None]) -> None:
        self.looks = 0
        self._writes = 0
        self._look = look

    def _seen(self) -> None:
        self.looks += 1
        self._look()

    def write(self, descriptor: int, data: bytes) -> None:
        super().write(descriptor, data)
        self._writes += 1
        if self._writes % STRIDE == 0:
            self._seen()

    def make_twin(self, path: Path, like: Path) -> None:
        super().make_twin(path, like)
        self._seen()

    def link(self, paths: Iterable[Path], folder: Path) -> None:
        for path in list(paths):
            super().link([path], folder)
            self._seen()
        super().link([], folder)
        self._seen()

    def exchange(self, path: Path, other: Path) -> None:
        self._seen()
        super().exchange(path, other)
        self._seen()

    def remove_folder(self, path: Path) -> None:
        for one in sorted(path.iterdir()) if path.exists() else ():
            one.unlink()
            self._seen()
        super().remove_folder(path)
        self._seen()


def test_whoever_reads_meanwhile_finds_each_row_once(copied: Fold) -> None:
    folder = copied("store")
    seen = []
    disk = Watched(lambda: seen.append(is_whole(folder)))
    store = opened(folder, disk=disk)
    assert store.join() == 4
    store.close()
    assert len(seen) == disk.looks > 40
    assert all(seen)


def test_folders_that_change_places_in_two_steps_are_seen_to_miss(
    copied: Fold, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = copied("store")
    seen = []

    def in_two(self: Watched, path: Path, other: Path) -> None:
        aside = other.with_name("aside")
        path.rename(aside)
        self._seen()
        other.rename(path)
        aside.rename(other)

    monkeypatch.setattr(Watched, "exchange", in_two)

    store = opened(folder, disk=Watched(lambda: seen.append(loses(folder))))
    store.join()
    store.close()
    assert any(seen)


def test_files_joined_beside_those_they_are_of_are_seen_twice(copied: Fold, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a join in the folder itself would do: the file gets its place, then the others are removed."""
    folder = copied("store")
    most = []

    def in_place(self: RealDisk, path: Path, other: Path) -> None:
        for one in other.glob("*-*.parquet"):
            shutil.copy(one, path)
        most.append(max(globbed(folder).values()))

    monkeypatch.setattr(RealDisk, "exchange", in_place)
    store = opened(folder)
    for _ in range(4):
        store._join_one()
    store.close()
    assert max(most) == 2


@pytest.mark.parametrize("read", [0, 1, 4, 11, 13, 23])
def test_a_reading_that_began_before_goes_on_and_finds_the_rest_in_the_joined_file(copied: Fold, read: int) -> None:
    folder = copied("store")
    frames = read_contents(folder).raw_frames()
    found = [next(frames) for _ in range(read)]
    store = opened(folder)
    assert store.join() == 4
    # What came after it began is not of it, though it be joined with the rest.
    store.commit(many("rig-1", "samples", range(FRAMES, FRAMES + 6)), [])
    store.rotate()
    store.compact()
    assert store.join() == 2
    found += frames
    store.close()
    assert Counter((key, seq) for key, seq, _ in found) == Counter((one.key, one.seq) for one in SAMPLES + EVENTS)


@pytest.mark.parametrize("half", [1, 4])
def test_a_list_that_tells_half_of_a_folder_is_made_again(
    copied: Fold, monkeypatch: pytest.MonkeyPatch, half: int
) -> None:
    """As one does that began before an exchange, and ends when what was there before is being removed."""
    folder = copied("store")
    contents = read_contents(folder)
    listed = joined.stored
    left = [half]

    def in_part(place: Path) -> list[joined.Stored]:
        left[0] -= 1
        return listed(place)[:1] if left[0] >= 0 else listed(place)

    monkeypatch.setattr(joined, "stored", in_part)
    assert len(list(contents.raw_frames())) == 2 * FRAMES
    left[0] = 1000
    with pytest.raises(StoreError, match="is gone"):
        list(contents.raw_frames())


def test_what_was_joined_stays_for_those_who_list_it_and_is_not_work(copied: Fold) -> None:
    folder = copied("store")
    exchanged: list[Path] = []
    rests: list[tuple[float, int]] = []
    times = {"s": 0.0}

    class Told(RealDisk):
        def exchange(self, path: Path, other: Path) -> None:
            super().exchange(path, other)
            exchanged.append(path)

    def rest(seconds: float) -> bool:
        # Behind each exchange, with all that was there before.
        rests.append((seconds, len(list((folder / JOINING).iterdir()))))
        times["s"] += seconds
        return len(rests) < 4

    store = opened(folder, disk=Told(), now_s=lambda: times["s"])
    store._joiner._rest = rest
    assert store.join() == 4
    store.close()
    assert len(exchanged) == 4
    assert rests == [(LINGER_S, SEGMENTS)] * 4
    # The fourth was cut short by the end of the store: the next start removes it.
    assert (folder / JOINING).exists()
    assert is_whole(folder)
    opened(folder).close()
    assert not (folder / JOINING).exists()


def test_an_import_that_began_before(copied: Fold) -> None:
    folder = copied("store")
    contents = read_contents(folder)
    store = opened(folder)
    store.join()
    target = MemoryBackend()
    assert import_frames(contents, target).read == 2 * FRAMES
    assert len(target.held) == 2 * FRAMES
    store.close()


def test_a_view_opened_before_says_so_and_is_opened_again(copied: Fold) -> None:
    folder = copied("store")
    db = open_tables(folder)
    before = Counter(db.sql("SELECT rig, epoch, seq, index FROM samples").fetchall())
    store = opened(folder)
    store.join()
    with pytest.raises(duckdb.IOException):
        db.sql("FROM samples").fetchall()
    assert viewed(folder) == before
    store.close()


def test_views_opened_while_files_are_joined_are_opened_again_by_themselves(
    copied: Fold, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = copied("store")
    store = opened(folder)
    read = read_contents
    calls: list[int] = []

    def and_join(where: Path) -> object:
        contents = read(where)
        if not calls:
            store.join()
        calls.append(1)
        return contents

    monkeypatch.setattr("edge.store.query.read_contents", and_join)
    assert len(viewed(folder)) == 3 * FRAMES
    assert len(calls) == 2
    # Files that are gone for good are no endless loop.
    store.close()
    for path in folder.glob("samples/*/*/*.parquet"):
        path.unlink()
    with pytest.raises(StoreError, match="No files found"):
        open_tables(folder)


def test_a_segment_compacted_and_joined_while_it_is_read_counts_once(
    copied: Fold, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = copied("store")
    store = opened(folder)
    late = [received("rig-1", "samples", FRAMES)]
    store.commit(late, [])
    from edge.store import catalogue

    read = catalogue._read_journal
    done: list[int] = []

    def and_join(paths: Iterable[Path]) -> object:
        found = read(paths)
        if not done:
            done.append(1)
            store.rotate()
            store.compact()
            store.join()
        return found

    monkeypatch.setattr("edge.store.catalogue._read_journal", and_join)
    assert set(viewed(folder).values()) == {1}
    assert len(viewed(folder)) == 3 * (FRAMES + 1)
    store.close()
    assert verified(folder).good


def test_without_the_look_at_the_journal_that_segment_is_there_twice(
    copied: Fold, monkeypatch: pytest.MonkeyPatch
) -> None:
    from edge.store import catalogue

    look = catalogue._listed
    monkeypatch.setattr("edge.store.catalogue._listed", lambda folder, entries, fresh: look(folder, entries, set()))
    with pytest.raises(AssertionError):
        test_a_segment_compacted_and_joined_while_it_is_read_counts_once(copied, monkeypatch)


def test_a_disk_that_fails_in_the_midst_leaves_everything_as_it_was(
    copied: Fold, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = copied("store")
    before = names(folder)

    class Failing(RealDisk):
        writes = 0

        def write(self, descriptor: int, data: bytes) -> None:
            self.writes += 1
            if self.writes > 5:
                super().write(descriptor, data[: len(data) // 2])
                raise OSError(28, "No space left on device")
            super().write(descriptor, data)

    store = opened(folder, disk=Failing())
    assert store.join() == 0
    assert names(folder) == before
    assert not (folder / JOINING).exists()
    store.close()
    assert is_whole(folder)
