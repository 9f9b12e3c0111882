"""The line of a GCS 2.0 controller: replies of several lines, see :mod:`edge.instruments.stage_link`.

GCS replies carry no tag, and those to ``POS?`` and ``MOV?`` look alike.
"""

from __future__ import annotations

from edge.clock import Clock
from edge.errors import InstrumentError
from edge.instruments.stage_link import MAX_UNSENT, NOISY_S, QUIET_S, RETRY_NS, StageLink
from edge.instruments.transport import Transport
from firmware_proto.gcs2.replies import Overlong, Reply, ReplySplitter

__all__ = ["MAX_UNSENT", "NOISY_S", "QUIET_S", "RETRY_NS", "GcsLink"]


class GcsLink(StageLink[Reply | Overlong]):
    """One controller's line, shared by the drivers on it (stage, contact). Hold ``lock`` around an exchange."""

    def __init__(self, transport: Transport, clock: Clock) -> None:
        """Take over ``transport``'s readable callback; sends nothing."""
        super().__init__(transport, clock, ReplySplitter())

    async def query(self, message: bytes, timeout_s: float) -> Reply:
        """Ask and return the whole reply; call it with ``lock`` held.

        Raises ReplyTimeoutError, LinkLostError, or InstrumentError for a reply without an end.
        """
        reply = await super().query(message, timeout_s)
        # An over-long one was refused below; the type checker does not know that.
        assert isinstance(reply, Reply)  # noqa: S101
        return reply

    def _refuse(self, event: Reply | Overlong, asked: str) -> None:
        if isinstance(event, Overlong):
            raise InstrumentError(f"{self.transport.name}: the reply to {asked!r} has no end: {event.head[:80]!r}")
