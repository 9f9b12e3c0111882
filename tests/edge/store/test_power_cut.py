"""The power fails at every single step of a store's life: what was acknowledged is there, once."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
from pathlib import Path

import pytest

from edge.store.backend import Received, Unreadable
from edge.store.compactor import Compactor
from edge.store.contiguity import Coverage
from edge.store.directory import DirectoryStore
from edge.store.disk import RealDisk
from tests.edge.store.made import key, many, received, verified
from tests.edge.store.power_cut import CuttableDisk, PowerCutError

LONG = os.environ.get("TIPGUARD_LONG") == "1"
SEEDS = range(12) if LONG else range(1)
STRIDE = 1 if LONG else 6

SAMPLES = many("rig-1", "samples", range(12))
EVENTS = [received("rig-2", "events", seq) for seq in range(6)]
ALL = SAMPLES + EVENTS
NO_FRAME = Unreadable("tipguard/rig-1/samples", b"garbage", "not one msgpack value", None)


def live(folder: Path, disk: RealDisk, acknowledged: list[Received]) -> None:
    """Two lives of a store, with commits, compactions, repetitions and something unreadable."""
    for begin in (0, 6):
        store = DirectoryStore(folder, "lab", disk=disk, compact_every_s=None)
        try:
            for at in range(begin, begin + 6, 2):
                batch = [*SAMPLES[max(0, at - 1) : at + 2], *EVENTS[at // 2 : at // 2 + 1]]
                store.commit(batch, [NO_FRAME])
                acknowledged.extend(batch)
                if at != begin:
                    store.rotate()
                    store.compact()
        except PowerCutError:
            store._release()  # as the kernel does
            raise
        store.close()


def check(folder: Path, acknowledged: list[Received]) -> None:
    store = DirectoryStore(folder, "lab", compact_every_s=None)
    held = {(found, seq): payload for found, seq, payload in store.raw_frames()}
    lost = [frame for frame in acknowledged if held.get((frame.key, frame.seq)) != frame.payload]
    assert lost == []
    for rig in store.rigs():
        for found, mark in store.recent_marks(rig).items():
            assert set(Coverage(mark.covered())) <= set(Coverage((seq, seq) for owner, seq in held if owner == found))
    # The rig sends everything again.
    store.commit(ALL, [NO_FRAME])
    store.rotate()
    store.compact()
    store.close()
    report = verified(folder)
    assert (report.good, report.frames) == (True, len(ALL))
    rows = folder.glob("samples/*/*/*.parquet")
    assert sum(_rows(path) for path in rows) == sum(frame.frame.n for frame in SAMPLES)


def _rows(path: Path) -> int:
    from pyarrow import parquet

    with parquet.ParquetFile(path) as file:
        return int(file.metadata.num_rows)


def steps(folder: Path) -> int:
    disk = CuttableDisk(random.Random(0))
    live(folder, disk, [])
    return disk.steps


@pytest.mark.timeout(1200 if LONG else 60)
@pytest.mark.parametrize("seed", SEEDS)
def test_at_every_step(tmp_path: Path, seed: int) -> None:
    count = steps(tmp_path / "uncut")
    assert count > 50
    for cut_at in range(1 + seed % STRIDE, count + 1, STRIDE):
        folder = tmp_path / str(cut_at)
        acknowledged: list[Received] = []
        disk = CuttableDisk(random.Random(1000 * seed + cut_at), cut_at)
        with pytest.raises(PowerCutError):
            live(folder, disk, acknowledged)
        disk.go_dark()
        check(folder, acknowledged)
        shutil.rmtree(folder)


def test_a_disk_that_lies_about_syncing_is_seen_to_lose(tmp_path: Path) -> None:
    losses = 0
    for cut_at in range(20, 60):
        if losses:
            break
        acknowledged: list[Received] = []
        disk = CuttableDisk(random.Random(cut_at), cut_at, syncs=False)
        with contextlib.suppress(PowerCutError):
            live(tmp_path / str(cut_at), disk, acknowledged)
        disk.go_dark()
        held = {(found, seq) for found, seq, _ in _raw(tmp_path / str(cut_at))}
        losses += any((frame.key, frame.seq) not in held for frame in acknowledged)
    assert losses


def _raw(folder: Path) -> list[tuple[object, int, bytes]]:
    store = DirectoryStore(folder, "lab", compact_every_s=None)
    found = list(store.raw_frames())
    store.close()
    return list(found)


def _killed_then_dark(folder: Path, disk: CuttableDisk) -> tuple[set[int], set[int]]:
    """A kill after the write and before the sync, a new start, then a power cut: what it claimed, what it has."""
    first = DirectoryStore(folder, "lab", disk=disk, compact_every_s=None)
    disk._cut_at = disk.steps + 3  # of a first commit: the segment made, written, and then the sync
    with pytest.raises(PowerCutError):
        first.commit(SAMPLES, [])
    first._release()
    second = DirectoryStore(folder, "lab", disk=disk, compact_every_s=None)
    mark = second.recent_marks("rig-1")[key()]
    disk.go_dark()
    second._release()
    claimed = {seq for frame in SAMPLES if mark.covers(seq := frame.seq)}
    return claimed, {seq for _, seq, _ in _raw(folder)}


def test_what_a_killed_writer_left_in_memory_is_synced_before_it_counts(tmp_path: Path) -> None:
    claimed, held = _killed_then_dark(tmp_path, CuttableDisk(random.Random(1)))
    assert claimed == set(range(12)) == held


def test_without_that_sync_a_claimed_frame_is_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CuttableDisk, "sync", lambda disk, descriptor: disk._step())
    claimed, held = _killed_then_dark(tmp_path, CuttableDisk(random.Random(1)))
    assert claimed - held


def test_a_segment_that_goes_before_its_files_are_there_is_a_loss(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The order of a compaction is what protects: turned round, the same steps lose frames."""
    whole = Compactor._compact

    def wrong_way_round(self: Compactor, number: int, path: Path) -> None:
        kept = path.rename(path.with_suffix(".kept"))
        self._disk._step()  # type: ignore[attr-defined]
        kept.rename(path)
        whole(self, number, path)

    monkeypatch.setattr(Compactor, "_compact", wrong_way_round)
    losses = 0
    for cut_at in range(20, 60):
        if losses:
            break
        acknowledged: list[Received] = []
        disk = CuttableDisk(random.Random(cut_at), cut_at)
        with contextlib.suppress(PowerCutError):
            live(tmp_path / str(cut_at), disk, acknowledged)
        held = {(found, seq) for found, seq, _ in _raw(tmp_path / str(cut_at))}
        losses += any((frame.key, frame.seq) not in held for frame in acknowledged)
    assert losses
