"""What ``verify`` finds, and what ``import`` brings over."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from edge.errors import BusyError, ConfigError
from edge.frames import UtcMapping, doc_frame, tombstone_in_place
from edge.store import opening
from edge.store.backend import Key, StoreUnusableError
from edge.store.contiguity import Coverage
from edge.store.directory import DirectoryStore
from edge.store.verify import import_frames, verify
from tests.edge.store.made import EPOCH, ROWS, UTC, key, many, payload_of, verified
from tests.edge.store.memory_backend import MemoryBackend


class Listed:
    """Frames as a list has them."""

    def __init__(self, *frames: tuple[Key, int, bytes]) -> None:
        self.frames = frames

    def raw_frames(self) -> Iterator[tuple[Key, int, bytes]]:
        return iter(self.frames)


def frame(seq: int, stream: str = "samples") -> tuple[Key, int, bytes]:
    return key(stream=stream), seq, payload_of("rig-1", stream, seq)


def test_good() -> None:
    report = verify(Listed(frame(0), frame(1), frame(0, "events")), {key(): Coverage([(0, 1)])})
    assert (report.good, report.frames, report.named) == (True, 3, [])
    assert report.streams[key()].samples == 2 * ROWS
    assert report.to_map()["streams"][1]["holes"] == []


def test_twice_unreadable_misfiled_and_claimed() -> None:
    wrong_place = (key(), 9, payload_of("rig-1", "samples", 3))
    report = verify(
        Listed(frame(0), frame(0), (key(), 1, b"x"), wrong_place),
        {key(): Coverage([(0, 0), (5, 9)]), key("rig-2"): Coverage([(0, 0)])},
    )
    assert (report.good, report.doubled, report.unreadable, report.not_held) == (False, 1, 2, 5)
    assert any("there twice" in text for text in report.named)
    assert any("another frame's number" in text for text in report.named)
    assert any("rig-2" in text and "said to be held" in text for text in report.named)


def test_holes_and_samples_that_nobody_declared() -> None:
    report = verify(Listed(frame(0), frame(3)), {})
    (stream,) = report.to_map()["streams"]
    assert report.good
    assert (stream["holes"], stream["samples_missing"]) == ([[1, 2]], 2 * ROWS)


def test_a_tombstone_declares_what_is_missing() -> None:
    lost = {"stream": "samples", "from": ROWS, "to": 3 * ROWS - 1, "cause": "thinned"}
    tombstone = (key(stream="tombstones"), 0, doc_frame("tombstone", "rig-1", EPOCH, 0, lost, UTC))
    report = verify(Listed(frame(0), frame(3), tombstone), {})
    assert {stream["stream"]: stream["samples_missing"] for stream in report.to_map()["streams"]} == {
        "samples": 0,
        "tombstones": 0,
    }


def in_place(seq: int, **known: int) -> tuple[Key, int, bytes]:
    doc = {"stream": "samples", "from": seq, "to": seq, "cause": "thinned", **known}
    return key(), seq, tombstone_in_place("rig-1", EPOCH, "samples", seq, doc, UTC)


def test_a_tombstone_in_place_declares_the_samples_that_were_in_it() -> None:
    report = verify(Listed(frame(0), in_place(1, first=ROWS, n=ROWS), frame(3)), {})
    (stream,) = report.to_map()["streams"]
    # "from" and "to" are the number of a frame here: sample 1 is not what was lost.
    assert report.streams[key()].declared == [(ROWS, 2 * ROWS - 1)]
    assert (stream["holes"], stream["samples_missing"]) == ([[2, 2]], ROWS)


@pytest.mark.parametrize("order", [1, -1])
def test_where_nobody_knows_what_was_in_it_the_samples_between_its_neighbours_are_declared(order: int) -> None:
    frames = [in_place(0), frame(1), in_place(2), in_place(3), frame(4), frame(6), in_place(7), frame(9)]
    report = verify(Listed(*frames[::order]), {})
    (stream,) = report.to_map()["streams"]
    # Frame 5 never came, and 8, the neighbour of a lost one, did not either: neither is declared by anybody.
    assert stream["holes"] == [[5, 5], [8, 8]]
    assert stream["samples_missing"] == 3 * ROWS


def test_what_comes_between_two_readings_of_a_store_that_goes_on_is_not_of_the_report() -> None:
    class Growing(Listed):
        def raw_frames(self) -> Iterator[tuple[Key, int, bytes]]:
            yield from self.frames
            self.frames = (*self.frames, frame(5), (key("rig-2"), 0, payload_of("rig-2", "samples", 0)))

    growing = Growing(frame(0), in_place(1), frame(2))
    report = verify(growing, {})
    assert len(growing.frames) == 7
    assert set(report.streams) == {key()}
    assert (report.good, report.complete, report.frames) == (True, True, 3)


def test_an_import_may_be_repeated_and_sets_the_unreadable_aside() -> None:
    source = Listed(*(frame(seq) for seq in range(7)), (key(), 7, b"x"))
    target = MemoryBackend()
    for _ in range(2):
        done = import_frames(source, target, batch=3)
        assert (done.read, done.unreadable) == (8, 1)
    assert len(target.held) == 7
    assert target.unreadable[0].payload == b"x"


def test_from_one_directory_into_another_while_the_first_goes_on(tmp_path: Path) -> None:
    first = DirectoryStore(tmp_path / "one", "lab", compact_every_s=None)
    frames = many("rig-1", "samples", range(5)) + many("rig-2", "runs", range(2))
    first.commit(frames[:4], [])
    first.rotate()
    first.compact()
    first.commit(frames[4:], [])
    with opening.open_readable(str(tmp_path / "one")) as (source, claimed):
        assert len(claimed[key()]) == 5
        target = opening.open_store(str(tmp_path / "two"), "attic")
        import_frames(source, target)
        target.close()
    with pytest.raises(BusyError):
        opening.open_store(str(tmp_path / "one"), None)
    first.close()
    report = verified(tmp_path / "two")
    assert (report.good, report.frames) == (True, 7)


def test_addresses_of_other_kinds_are_refused() -> None:
    with pytest.raises(StoreUnusableError, match="expected a directory, or postgresql"):
        opening.open_store("mysql://db", "lab")
    assert opening.is_database("postgresql://db/x")
    assert not opening.is_database("/srv/postgresql")


def test_a_missing_package_is_named_with_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def absent(*_: object, **__: object) -> None:
        raise ModuleNotFoundError("No module named 'pyarrow'", name="pyarrow")

    monkeypatch.setattr("edge.store.directory.DirectoryStore.__init__", absent)
    with pytest.raises(ConfigError, match=r"pyarrow: `make setup` and deploy/install.sh install it"):
        opening.open_store(str(tmp_path), "lab")


def test_times_that_no_calendar_has_are_kept_without_a_date(tmp_path: Path) -> None:
    store = DirectoryStore(tmp_path, "lab", compact_every_s=None)
    for seq, offset in enumerate((-(2**63), 2**63 - 1, -5)):
        store.commit(many("rig-1", "samples", [seq], utc=UtcMapping(offset, valid=False, unc_ns=0)), [])
    store.rotate()
    assert store.compact() == 1
    store.close()
    assert verified(tmp_path).frames == 3
    from edge.store.query import open_tables

    rows = (
        open_tables(tmp_path)
        .sql("SELECT seq, t_utc IS NULL, count(*) FROM samples GROUP BY ALL ORDER BY ALL")
        .fetchall()
    )
    assert rows[0] == (0, True, ROWS)
    assert sum(row[2] for row in rows) == 3 * ROWS
