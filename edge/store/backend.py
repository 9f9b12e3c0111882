"""What a store is to the service that feeds it: something that commits frames and knows what it holds.

Two are in the box: a directory (:mod:`edge.store.directory`) and PostgreSQL (:mod:`edge.store.postgres`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import NamedTuple, Protocol

from edge.errors import LocalError, RemoteError
from edge.frames import Frame
from edge.watermark import Mark


class StoreError(RemoteError):
    """The store cannot take or give anything at present: disk full, database away. Nothing was acknowledged."""


class StoreUnusableError(LocalError):
    """What the store is kept in is not one of ours, or of a version this program does not know."""


class Key(NamedTuple):
    """What ``seq`` counts in."""

    rig: str
    epoch: int
    """0..2**64-1."""
    stream: str


class Received(NamedTuple):
    """One frame, decoded and checked; ``payload`` as it came, to be kept byte by byte."""

    rig: str
    epoch: int
    stream: str
    seq: int
    payload: bytes
    frame: Frame

    @property
    def key(self) -> Key:
        """What its ``seq`` counts in."""
        return Key(self.rig, self.epoch, self.stream)


class Unreadable(NamedTuple):
    """One message that is no frame this program knows; it is kept as it came, and no mark covers it."""

    topic: str
    payload: bytes
    why: str
    content_type: str | None


class Backend(Protocol):
    """Where frames are kept for good. All calls come from one thread, and may block."""

    store: str
    """Name of the store, as in its watermark's topic."""
    generation: str
    """16 hex digits, drawn when what is kept was created or restored from a backup."""

    def commit(self, frames: Sequence[Received], unreadable: Sequence[Unreadable]) -> Mapping[Key, Mark]:
        """Keep both, durably on return; return the marks of every key touched, by frames already held too.

        Of frames with the same identity the first is kept, within one call as well. Raises :class:`StoreError`: try
        again later; none, some or all may have been kept, and nothing may be acknowledged.
        """

    def recent_marks(self, rig: str) -> Mapping[Key, Mark]:
        """Return the marks of the keys of ``rig`` touched in the last 24 h, the newest 256 at most.

        Raises :class:`StoreError`.
        """

    def rigs(self) -> Collection[str]:
        """Return the rigs whose keys were touched in the last 24 h. Raises :class:`StoreError`."""

    def renew(self) -> None:
        """Draw a new generation: what is kept here was restored from a backup. Raises :class:`StoreError`."""

    def raw_frames(self) -> Iterator[tuple[Key, int, bytes]]:
        """Yield (key, seq, payload) of every frame held, each once, in no order. Raises :class:`StoreError`."""

    def close(self) -> None:
        """Let go of it; a second call does nothing."""
