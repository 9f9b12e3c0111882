"""The disk that forgets is itself checked: what it keeps, what it does not, and that SQLite's commits survive on it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.proof.disk import Disk

SCRIPT = """
import os, sqlite3, sys
from pathlib import Path
here = Path(sys.argv[1])
def folder_sync():
    fd = os.open(here, os.O_RDONLY)
    os.fsync(fd)
def put(name, data, sync):
    fd = os.open(here / name, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(fd, data)
    if sync:
        os.fdatasync(fd)
"""


@pytest.fixture
def disk(tmp_path: Path, shim: Path) -> Disk:
    return Disk(tmp_path / "disk", shim)


def run(disk: Disk, script: str) -> subprocess.CompletedProcess[str]:
    command = [*disk.words, sys.executable, "-c", SCRIPT + script, str(disk.directory)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=20)


def names(disk: Disk) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in disk.directory.iterdir()}


def test_what_was_synced_survives_a_power_cut_and_nothing_else(disk: Disk) -> None:
    done = run(disk, "put('a', b'one', True); put('a', b'two', False); put('b', b'lost', False)")
    assert done.returncode == 0, done.stderr
    assert names(disk) == {"a": b"onetwo", "b": b"lost"}
    disk.power_cut()
    assert names(disk) == {"a": b"one"}


def test_a_rename_survives_once_its_directory_is_synced(disk: Disk) -> None:
    run(disk, "put('new', b'one', True); os.rename(here / 'new', here / 'final')")
    disk.power_cut()
    assert names(disk) == {"new": b"one"}
    run(disk, "os.rename(here / 'new', here / 'final'); folder_sync()")
    disk.power_cut()
    assert names(disk) == {"final": b"one"}


def test_a_second_power_cut_finds_what_the_first_left(disk: Disk) -> None:
    run(disk, "put('a', b'one', True)")
    disk.power_cut()
    disk.power_cut()
    assert names(disk) == {"a": b"one"}


def test_a_full_disk_takes_nothing_and_then_again(disk: Disk) -> None:
    disk.fill()
    assert "No space left" in run(disk, "put('a', b'one', True)").stderr
    disk.free()
    assert run(disk, "put('a', b'one', True)").returncode == 0


@pytest.mark.parametrize(("synchronous", "survives"), [("FULL", True), ("OFF", False)])
def test_an_sqlite_commit_survives_as_far_as_sqlite_syncs(disk: Disk, synchronous: str, *, survives: bool) -> None:
    script = """
db = sqlite3.connect(here / "db", isolation_level=None)
db.execute("PRAGMA journal_mode = WAL")
db.execute("PRAGMA synchronous = FULL")
db.execute("CREATE TABLE t (n)")
db.execute("PRAGMA synchronous = CHOSEN")
db.execute("INSERT INTO t VALUES (42)")
os._exit(0)
""".replace("CHOSEN", synchronous)
    assert run(disk, script).returncode == 0
    disk.power_cut()
    done = run(disk, "print(sqlite3.connect(here / 'db').execute('SELECT n FROM t').fetchall())")
    assert done.stdout.strip() == ("[(42,)]" if survives else "[]"), done.stderr
