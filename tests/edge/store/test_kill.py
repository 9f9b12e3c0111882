"""A store's process is killed at random moments, compactor and joiner at work: 0 lost, 0 twice."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from edge.store.directory import DirectoryStore
from tests.edge.store.joinable import globbed
from tests.edge.store.made import key, verified

LONG = os.environ.get("TIPGUARD_LONG") == "1"
ROUNDS = 150 if LONG else 2
ROOT = Path(__file__).resolve().parents[3]


def writer(folder: Path, *numbers: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.edge.store.writer", str(folder), *map(str, numbers)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT)


def read_and_kill(process: subprocess.Popen[str], commits: int) -> int:
    """Kill it while it does what comes after so many commits; return what it said to have committed."""
    assert process.stdout is not None
    said = [process.stdout.readline() for _ in range(commits)]
    process.send_signal(signal.SIGKILL)
    # The pipe keeps what it said until then.
    rest, _ = process.communicate(timeout=20)
    return int([*said, *rest.split("\n")[:-1]][-1])


@pytest.mark.timeout(1200 if LONG else 60)
def test_killed_again_and_again(tmp_path: Path) -> None:
    rng = random.Random(20)
    first = 0
    for _ in range(ROUNDS):
        said = read_and_kill(writer(tmp_path, first), rng.randrange(1, 12))
        store = DirectoryStore(tmp_path, "lab", compact_every_s=None)
        mark = store.recent_marks("rig-1")[key()]
        assert mark.holes == ()
        assert mark.contiguous >= said
        # Half of the rounds begin again below it, as a rig does that has not heard of it.
        first = max(0, mark.contiguous - rng.choice([0, 10]))
        store.close()
    report = verified(tmp_path)
    assert report.good
    assert report.frames == mark.contiguous
    assert list(tmp_path.glob("frames/*/*/*.parquet"))
    assert set(globbed(tmp_path).values()) == {1}
    assert not LONG or list(tmp_path.glob("frames/*/*/*-*.parquet"))


def test_a_lock_goes_with_its_process(tmp_path: Path) -> None:
    process = writer(tmp_path, 0)
    assert process.stdout is not None
    process.stdout.readline()
    _, said = writer(tmp_path, 0).communicate(timeout=30)
    assert "BusyError" in said
    read_and_kill(process, 1)
    DirectoryStore(tmp_path, "lab", compact_every_s=None).close()


@pytest.mark.parametrize("file_bytes", [1_000, 2_500])
def test_files_that_cannot_grow(tmp_path: Path, file_bytes: int) -> None:
    """The kernel takes a part of a write, and then no more: what was acknowledged stays, and nothing else counts."""
    process = writer(tmp_path, 0, file_bytes)
    out, err = process.communicate(timeout=30)
    assert "StoreError" in err
    said = int(out.split()[-1]) if out else 0
    store = DirectoryStore(tmp_path, "lab", compact_every_s=None)
    assert sorted(seq for _, seq, _ in store.raw_frames()) == list(range(said))
    store.close()
    assert verified(tmp_path).good
