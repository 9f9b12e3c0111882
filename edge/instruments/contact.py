"""Contact by a deflection signal on an analog input of the stage controller: for PI's, ``TAV?``, in volts.

Not every PI controller has ``TAV?``: the C-863 does (MS249E p. 197), the E-727 has ``TAD?``, ``TNS?`` and ``TSP?``
instead (E727T0005 p. 93), whose numbers are not volts. docs/stage.md says more.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Final

from edge.clock import Clock
from edge.errors import InstrumentError
from edge.instruments.gcs_controller import GcsController
from firmware_proto.gcs2 import commands, replies

HOLD_S: Final = 0.020
"""How long the signal must stay above its threshold: longer than a bump while the tip is dragged or snaps."""
POLL_S: Final = 0.002
MIN_READINGS: Final = 3
"""Fewer readings than this prove nothing, however far apart they are."""


class SignalContact(ABC):
    """Contact told by a signal above a threshold; whoever knows how to read the signal derives from it.

    ``threshold_v``: ``contact.threshold_v``, finite, within +-10 V; ValueError otherwise.
    """

    def __init__(self, clock: Clock, threshold_v: float) -> None:
        """Take the threshold."""
        if not (math.isfinite(threshold_v) and abs(threshold_v) <= 10.0):
            raise ValueError(f"threshold_v must be within +-10 V, not {threshold_v!r}")
        self._clock = clock
        self._threshold_v = threshold_v

    @abstractmethod
    async def signal_v(self) -> float:
        """See Contact."""

    async def in_contact(self) -> bool:
        """See Contact."""
        clock = self._clock
        readings = 0
        first_ns = 0
        while True:
            asked_ns = clock.now_ns()
            if not await self.signal_v() > self._threshold_v:
                return False
            readings += 1
            if readings == 1:
                # A reading was taken between question and reply: the span counts from the first reply to the last
                # question, which is never too long.
                first_ns = clock.now_ns()
            elif readings >= MIN_READINGS and asked_ns - first_ns >= HOLD_S * 1e9:
                return True
            await clock.sleep_until(asked_ns + int(POLL_S * 1e9))


class AnalogContact(SignalContact):
    """Implements :class:`edge.instruments.stage.Contact` on a controller's analog input.

    ``channel``: 1..16. ``threshold_v``: ``contact.threshold_v``, finite, within +-10 V; ValueError otherwise.
    """

    def __init__(self, controller: GcsController, *, channel: int = 1, threshold_v: float) -> None:
        """Bind to a controller whose ``discover`` has run before the first question."""
        if not 1 <= channel <= commands.MAX_ITEMS:
            raise ValueError(f"channel must be 1..{commands.MAX_ITEMS}, not {channel!r}")
        super().__init__(controller.link.clock, threshold_v)
        self._controller = controller
        self._channel = str(channel)
        self._question = commands.query("TAV?", [self._channel])

    async def signal_v(self) -> float:
        """See Contact."""
        controller = self._controller
        if "TAV?" not in controller.functions:
            raise InstrumentError(
                f"{controller.name}: this controller has no TAV?, so it cannot tell contact; wire the deflection "
                "signal to something that can"
            )
        async with controller.link.lock:
            values = await controller.ask(self._question, lambda reply: replies.parse_values(reply, [self._channel]))
        return values[self._channel]
