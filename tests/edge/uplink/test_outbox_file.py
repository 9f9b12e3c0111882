"""The outbox's file: what is committed, what is read back, how full, damaged and foreign files are told."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge.uplink.outbox_file import (
    MAX_SEQ,
    READ_BYTES,
    OutboxDamagedError,
    OutboxError,
    OutboxFile,
    Row,
    StreamRow,
    row_id,
)

EPOCH = 0xFFFF_FFFF_FFFF_FFFE
STREAM = StreamRow(1, EPOCH, "samples", b"state")


def some(count: int, first: int = 0, size: int = 4096, sid: int = 1) -> list[Row]:
    return [Row.of(row_id(sid, seq), 0, seq.to_bytes(4, "little") * (size // 4)) for seq in range(first, first + count)]


@pytest.fixture
def file(tmp_path: Path) -> Iterator[OutboxFile]:
    made = OutboxFile(tmp_path / "deep" / "outbox.sqlite")
    assert made.open() == []
    yield made
    made.close()


def test_what_is_committed_is_there_for_the_next_process(file: OutboxFile) -> None:
    file.commit(some(40), [STREAM])
    file.close()
    again = OutboxFile(file.path)
    assert again.open() == [STREAM]
    assert again.ends(1) == (0, 39)
    assert again.ends(2) == (-1, -1)
    rows = again.read(1, 0, MAX_SEQ, 1000)
    assert rows == some(40)
    assert all(row.whole for row in rows)
    again.close()


def test_it_is_committed_when_commit_returns_not_when_it_is_closed(tmp_path: Path) -> None:
    program = (
        "import os, sys; from pathlib import Path; from edge.uplink.outbox_file import *\n"
        "file = OutboxFile(Path(sys.argv[1])); file.open()\n"
        "rows = [Row.of(row_id(1, seq), 0, bytes(4096)) for seq in range(32)]\n"
        "file.commit(rows, [StreamRow(1, 5, 'samples', b'')])\n"
        "os._exit(9)"
    )
    path = tmp_path / "outbox.sqlite"
    assert subprocess.run([sys.executable, "-c", program, str(path)], check=False).returncode == 9
    file = OutboxFile(path)
    file.open()
    assert file.ends(1)[1] == 31
    file.close()


def test_committed_twice_is_there_once_and_the_first_stays(file: OutboxFile) -> None:
    file.commit(some(10), [STREAM])
    other = [Row.of(row.id, 1, b"another") for row in some(12)]
    file.commit(other, ())
    assert file.read(1, 0, 9, 100) == some(10)
    assert file.ends(1)[1] == 11


def test_streams_do_not_meet(file: OutboxFile) -> None:
    file.commit([*some(5), *some(5, sid=2)], [STREAM, StreamRow(2, 7, "events", b"")])
    assert [row.id for row in file.read(1, 0, MAX_SEQ, 100)] == [row_id(1, seq) for seq in range(5)]
    file.delete([(1, 0, MAX_SEQ)], ())
    assert (file.ends(1), file.ends(2)) == ((-1, -1), (0, 4))


def test_a_page_ends_with_its_size_but_holds_one_row_at_least(file: OutboxFile) -> None:
    file.commit(some(8, size=READ_BYTES // 4), [STREAM])
    assert len(file.read(1, 0, 7, 100)) == 4
    file.commit(some(1, first=8, size=2 * READ_BYTES), ())
    assert len(file.read(1, 8, 20, 100)) == 1
    assert len(file.read(1, 0, 7, 2)) == 2


def test_deleted_and_its_state_are_one_transaction(file: OutboxFile) -> None:
    file.commit(some(10), [STREAM])
    file.delete([(1, 2, 4), (1, 8, 20)], [StreamRow(1, EPOCH, "samples", b"less")])
    file.close()
    assert file.open() == [StreamRow(1, EPOCH, "samples", b"less")]
    assert [row.id & MAX_SEQ for row in file.read(1, 0, 20, 100)] == [0, 1, 5, 6, 7]


def test_room_that_was_given_back_is_used_again(file: OutboxFile) -> None:
    file.commit(some(1000), [STREAM])
    full = file.usage()
    freed = file.delete([(1, 0, 989)], ())
    assert freed.used_bytes < full.used_bytes / 10
    for first in range(1000, 1900, 100):
        file.commit(some(100, first=first), ())
    file.checkpoint()
    assert file.usage().file_bytes <= 1.1 * full.file_bytes


def test_a_full_disk_refuses_and_harms_nothing(tmp_path: Path) -> None:
    file = OutboxFile(tmp_path / "outbox.sqlite", max_bytes=400_000)
    file.open()
    file.commit(some(50), [STREAM])
    with pytest.raises(OutboxError, match=r"full.*outbox\.directory"):
        file.commit(some(100, first=50), ())
    assert file.ends(1)[1] == 49
    file.delete([(1, 0, 40)], ())
    file.commit(some(20, first=50), ())
    assert file.ends(1)[1] == 69
    file.close()


def test_a_second_uplink_is_told_that_there_is_a_first(file: OutboxFile, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge.uplink.outbox_file.LOCK_WAIT_S", 0.0)
    file.commit(some(1), [STREAM])
    with pytest.raises(OutboxError, match="another uplink"):
        OutboxFile(file.path).open()
    # It was not taken for damage.
    assert [path.name for path in file.path.parent.glob("*damaged*")] == []


@pytest.mark.parametrize("content", [b"no database at all, but long enough to look at" * 100, bytes(8192)])
def test_what_is_no_outbox_is_damage(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "outbox.sqlite"
    path.write_bytes(content)
    with pytest.raises(OutboxDamagedError):
        OutboxFile(path).open()


def test_another_programs_database_is_not_taken_for_ours(tmp_path: Path) -> None:
    path = tmp_path / "outbox.sqlite"
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE frames (id)")
    db.close()
    with pytest.raises(OutboxDamagedError, match="version 1"):
        OutboxFile(path).open()


def test_an_unusable_directory_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutboxError, match=r"file/outbox.*outbox\.directory"):
        OutboxFile(tmp_path / "file" / "outbox.sqlite").open()


def test_sealed_it_is_whole_without_its_log(file: OutboxFile) -> None:
    file.commit(some(5), [STREAM])
    file.seal()
    assert [path.name for path in file.path.parent.iterdir()] == ["outbox.sqlite"]
    assert file.open() == [STREAM]
    assert file.read(1, 0, MAX_SEQ, 100) == some(5)


def test_streams_that_have_rows_are_found_whether_they_are_streams_or_not(file: OutboxFile) -> None:
    assert file.sids() == []
    last = [Row.of(row_id(2, MAX_SEQ), 0, b"")]
    file.commit([*some(3, sid=7), *last, *some(1, sid=3)], [STREAM])
    assert file.sids() == [2, 3, 7]


def a_day(file: OutboxFile, frames: int, size: int) -> float:
    """Commit frames one by one, as a rig does that measures slowly; return the bytes written for each."""
    before = file.usage()
    for seq in range(frames):
        file.commit(some(1, first=seq, size=size), [STREAM] if seq % 2 == 0 else ())
    after = file.usage()
    assert after.commits - before.commits == frames
    assert after.syncs - before.syncs < 1.1 * frames
    return (after.written_bytes - before.written_bytes) / frames


def test_an_sd_card_lives_for_years(file: OutboxFile) -> None:
    # One frame of 256 samples a second, day and night, each committed by itself.
    per_frame = a_day(file, 600, 11_000)
    assert per_frame * 86_400 < 5e9
    # 32 GB that stand 1000 overwrites, which is little: more than ten years of it.
    years = 32e9 * 1000 / (per_frame * 86_400 * 365)
    assert years > 10


def test_the_bytes_that_are_claimed_are_those_that_are_written(file: OutboxFile) -> None:
    def written() -> int:
        lines = Path("/proc/self/io").read_text(encoding="ascii").splitlines()
        return int(next(line for line in lines if line.startswith("wchar")).split()[1])

    file.checkpoint()
    before, claimed = written(), file.usage().written_bytes
    for first in range(0, 3200, 32):
        file.commit(some(32, first=first), ())
    file.checkpoint()
    assert file.usage().written_bytes - claimed == pytest.approx(written() - before, rel=0.1)
