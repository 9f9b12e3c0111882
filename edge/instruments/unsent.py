"""Bytes that a line has not taken yet: offered again by themselves until it has, and nobody waits."""

from __future__ import annotations

from collections.abc import Callable

from edge.clock import Clock, TimerHandle
from edge.errors import LinkLostError
from edge.instruments.transport import Transport


class Unsent:
    """One transport's; ``len()`` is how many bytes are left."""

    def __init__(
        self, transport: Transport, clock: Clock, retry_ns: int, on_lost: Callable[[LinkLostError], None]
    ) -> None:
        """``retry_ns``: between two offers. ``on_lost``: called when the transport is found to be gone; see clear."""
        self._transport = transport
        self._clock = clock
        self._retry_ns = retry_ns
        self._on_lost = on_lost
        self._data = b""
        self._retry: TimerHandle | None = None

    def __len__(self) -> int:
        """Return how many bytes are left."""
        return len(self._data)

    def add(self, data: bytes) -> None:
        """Send ``data`` behind what is left."""
        self._data += data
        self.offer()

    def replace(self, data: bytes) -> None:
        """Send ``data`` now, in the place of what is left."""
        self._data = data
        self.offer()

    def offer(self) -> None:
        """Offer the line what it has not taken; again later as long as something is left."""
        self._cancel()
        if not self._data:
            return
        try:
            taken = self._transport.write(self._data)
        except LinkLostError as error:
            self.clear()
            self._on_lost(error)
            return
        self._data = self._data[taken:]
        if self._data:
            self._retry = self._clock.call_at(self._clock.now_ns() + self._retry_ns, self.offer)

    def clear(self) -> None:
        """Give up what is left."""
        self._cancel()
        self._data = b""

    def _cancel(self) -> None:
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None
