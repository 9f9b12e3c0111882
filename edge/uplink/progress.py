"""Whether the uplink gets anywhere, for a watchdog: an uplink that turns without moving anything is hung, too.

Three things count: the ring was read to its end, something moved since the last turn, or there is no broker to send to.
The last is no fault that another process would mend, and has its own alarm, the ring filling up.
"""

from __future__ import annotations

from edge.notify import Notifier


class Progress:
    """Feeds the watchdog once per turn, or not."""

    def __init__(self, notifier: Notifier) -> None:
        """Say nothing yet."""
        self._notifier = notifier
        self._mark: object = None

    def turned(self, now_ns: int, *, drained: bool, connected: bool, mark: object, status: str) -> None:
        """Judge a turn. ``mark``: what changes when something moves; ``status``: how things are, for a person."""
        moved, self._mark = mark != self._mark, mark
        self._notifier.ready(status)
        self._notifier.status(status)
        if drained or moved or not connected:
            self._notifier.alive(now_ns)

    def stopping(self) -> None:
        """Say that the end has begun."""
        self._notifier.stopping("stopping: sending what is under way")
