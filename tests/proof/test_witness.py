"""The witness of a busy host counts its disk, too, and what has not ended yet."""

from __future__ import annotations

import threading
import time
from pathlib import Path

from tests.proof.witness import Witness

STALL_S = 0.3


class Disk:
    """A disk whose first sync ends when it is let."""

    def __init__(self) -> None:
        self.asked, self.let, self.again = threading.Event(), threading.Event(), threading.Event()

    def sync(self, _descriptor: int) -> None:
        if not self.asked.is_set():
            self.asked.set()
            assert self.let.wait(10)
        else:
            self.again.set()


def test_a_disk_that_stalls_is_lateness_while_it_does_and_afterwards(tmp_path: Path) -> None:
    disk = Disk()
    with Witness(tmp_path / "new", disk.sync) as witness:
        assert disk.asked.wait(10)
        since_s = time.monotonic()
        assert not disk.again.wait(STALL_S)
        assert witness.late_s() >= STALL_S
        disk.let.set()
        stalled_s = time.monotonic() - since_s
        # Not only in the turn that is late.
        assert disk.again.wait(10)
        assert stalled_s <= witness.late_s() + 0.01


def test_a_real_disk_is_synced(tmp_path: Path) -> None:
    with Witness(tmp_path) as witness:
        pass
    assert (tmp_path / "witness").exists()
    assert witness.late_s() >= 0.0
