"""A backend in memory, which says of itself what was asked of it; it can be made to fail, or to wait."""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterator, Mapping, Sequence

from edge.store.backend import Key, Received, StoreError, Unreadable
from edge.store.contiguity import Coverage
from edge.watermark import Mark


class MemoryBackend:
    """:class:`edge.store.backend.Backend` without a disk."""

    def __init__(self, store: str = "lab") -> None:
        self.store = store
        self.generation = "0123456789abcdef"
        self.held: dict[tuple[Key, int], bytes] = {}
        self.unreadable: list[Unreadable] = []
        self.commits: list[int] = []
        """Frames of each commit."""
        self.failing = False
        self.threads: set[int] = set()
        self.gate = threading.Event()
        """A commit waits for it."""
        self.entered = threading.Event()
        self.gate.set()

    def commit(self, frames: Sequence[Received], unreadable: Sequence[Unreadable]) -> Mapping[Key, Mark]:
        self.threads.add(threading.get_ident())
        self.entered.set()
        self.gate.wait(20)
        if self.failing:
            raise StoreError("full")
        for frame in frames:
            self.held.setdefault((frame.key, frame.seq), frame.payload)
        self.unreadable.extend(unreadable)
        self.commits.append(len(frames))
        return {key: self._coverage(key).mark(key) for key in {frame.key for frame in frames}}

    def _coverage(self, key: Key) -> Coverage:
        return Coverage((seq, seq) for owner, seq in self.held if owner == key)

    def recent_marks(self, rig: str) -> Mapping[Key, Mark]:
        self.threads.add(threading.get_ident())
        keys = {key for key, _ in self.held if key.rig == rig}
        return {key: self._coverage(key).mark(key) for key in keys}

    def rigs(self) -> Collection[str]:
        return {key.rig for key, _ in self.held}

    def renew(self) -> None:
        self.generation = "fedcba9876543210"

    def raw_frames(self) -> Iterator[tuple[Key, int, bytes]]:
        for (key, seq), payload in self.held.items():
            yield key, seq, payload

    def close(self) -> None:
        """Nothing to let go of."""
