"""``tipguard store --to DIR`` with one of its checks taken out: its name is the first word of the command line."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from edge.cli.main import main
from edge.store import directory, disk
from edge.store.backend import Key, Received, Unreadable
from edge.store.contiguity import Coverage
from edge.watermark import Mark
from tests.proof.mutations import change


def sync_nothing() -> None:
    """Appends are not waited for."""
    change(disk.RealDisk, "sync", lambda _self, _fd: None)


def say_before_the_commit() -> None:
    """A group is committed only with the next one, and its watermark goes out at once."""
    genuine = directory.DirectoryStore.commit
    kept: list[Received] = []

    def commit(
        self: directory.DirectoryStore, frames: Sequence[Received], unreadable: Sequence[Unreadable]
    ) -> Mapping[Key, Mark]:
        late, kept[:] = list(kept), frames
        genuine(self, late, unreadable)
        for frame in frames:
            self._held.setdefault(frame.key, Coverage()).add(frame.seq)
            self._touch(frame.key, self._now_s())
        return {frame.key: self._held[frame.key].mark(frame.key) for frame in frames}

    change(directory.DirectoryStore, "commit", commit)


def store_whatever_comes() -> None:
    """Frames that are held already are appended once more."""
    change(Coverage, "__contains__", lambda _self, _seq: False)


MUTATIONS: Final[dict[str, Callable[[], None]]] = {
    one.__name__: one for one in (sync_nothing, say_before_the_commit, store_whatever_comes)
}

if __name__ == "__main__":
    MUTATIONS[sys.argv.pop(1)]()
    main()
