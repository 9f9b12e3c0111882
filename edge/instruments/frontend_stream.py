"""A front end's samples on the host's clock, and the credit that lets it send them.

Credit is cumulative: what is allowed is what the device has sent, as far as is known, and a window on top. It is told
each time a quarter of the window is used up; a lost telling costs nothing but time, for the next one says it again.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from edge.instruments.device_time import DeviceTime
from edge.instruments.frontend_values import MinMaxBlock, SampleBlock
from firmware_proto.frontend import messages
from firmware_proto.frontend.session import HostSession, MinMax, Samples

SHARE: Final = 4


class Stream:
    """The bulk of one session."""

    def __init__(self, session: HostSession, welcome: messages.Welcome, time: DeviceTime, *, invert: bool) -> None:
        """``invert``: the converter counts against the source-measure unit's sign."""
        self.period_ticks = welcome.tick_hz // welcome.sample_hz
        self.current_per_code_a = welcome.code_pa * (-1e-12 if invert else 1e-12)
        self.held = False
        """No more credit for the moment: whoever takes the samples has no room."""
        self._session = session
        self._time = time
        self._window = welcome.credit_window
        self._allowed = 0

    def credit(self) -> int | None:
        """Return the total to allow now, or None where what was told is still good."""
        total = self._session.bulk + self._window
        if self.held or total - self._allowed < max(1, self._window // SHARE):
            return None
        self._allowed = total
        return total

    def again(self) -> int | None:
        """Return the total that was told last, for the telling may be what was lost; None: there was none."""
        return self._allowed or None

    def samples(self, event: Samples) -> SampleBlock | None:
        """Return a block on the host's clock; None of no samples, or while the device's time is unknown."""
        message = event.message
        placed = self._place(message.ticks, message.count, 1)
        if placed is None:
            return None
        t_ns, unc_ns, step_ns = placed
        return SampleBlock(
            index=message.index,
            ticks=message.ticks,
            t_ns=t_ns,
            t_unc_ns=unc_ns,
            step_ns=step_ns,
            current_per_code_a=self.current_per_code_a,
            missing=event.missing,
            codes=np.frombuffer(message.codes, "<i2"),
        )

    def minmax(self, event: MinMax) -> MinMaxBlock | None:
        """As :meth:`samples`."""
        message = event.message
        placed = self._place(message.ticks, message.count, message.decimation)
        if placed is None:
            return None
        t_ns, unc_ns, step_ns = placed
        return MinMaxBlock(
            index=message.index,
            ticks=message.ticks,
            t_ns=t_ns,
            t_unc_ns=unc_ns,
            step_ns=step_ns,
            decimation=message.decimation,
            current_per_code_a=self.current_per_code_a,
            missing=event.missing,
            pairs=np.frombuffer(message.pairs, "<i2").reshape(-1, 2),
        )

    def _place(self, ticks: int, count: int, each: int) -> tuple[int, int, float] | None:
        """Return time of the first, uncertainty of all, and the step between two, in ns."""
        if not count or not self._time.known:
            return None
        # Within one block the device's rate is a constant, so what holds at both ends holds between.
        t_ns, unc_ns = self._time.to_host(ticks)
        span = count * each * self.period_ticks
        end_ns, end_unc_ns = self._time.to_host(ticks + span)
        return t_ns, max(unc_ns, end_unc_ns) + 1, (end_ns - t_ns) / count
