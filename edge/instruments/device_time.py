"""Device ticks to host time, with an uncertainty that is stated and meant.

Each PING and its PONG say two things that no delay can make wrong: the device took the question after we began to send
it, and made its answer before we had it. So host time of that tick lies in an interval, however unlike the two ways
are. The estimate is a decayed regression through the middles of the shortest such intervals; the uncertainty reaches
to the ends of what all intervals together allow. Nothing is averaged away: half a round trip stays half a round trip.

What it rests on: both clocks together run within PRIOR_PPM of their nominal rate, and their ratio changes by at most
WANDER_PPM_S. A host clock that is slewed harder is found out by the next exchange that does not fit; what was learnt is
then dropped and counted in ``slips``. Until that exchange the uncertainty is too small by what the slew amounts to.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from edge.errors import InstrumentError

PRIOR_PPM: Final = 600.0
"""Crystal and host oscillator 50 ppm each, and the kernel's slew of CLOCK_MONOTONIC by adjtime, up to 500 ppm."""
WANDER_PPM_S: Final = 0.2
"""Change of the rate in ppm per s: a crystal at 1 ppm/K warming by 0.1 K/s, twice."""
KEPT: Final = 32
"""Exchanges remembered: about half a minute of them."""
DECAY_S: Final = 10.0
"""An exchange so old weighs 1/e in the regression."""
RTT_FACTOR: Final = 1.5
RTT_SLACK_NS: Final = 20_000
"""A round trip beyond RTT_FACTOR times the shortest remembered one and this is not remembered, unless it says more than
is known by then: after some time without a short one, a long one does."""


@dataclasses.dataclass(frozen=True, slots=True)
class _Exchange:
    """Host time of ``ticks`` is in [lo_ns, hi_ns]."""

    ticks: int
    lo_ns: float
    hi_ns: float

    @property
    def width_ns(self) -> float:
        return self.hi_ns - self.lo_ns


class DeviceTime:
    """The mapping of one boot of one device; feed it exchanges in the order of their times."""

    def __init__(self, tick_hz: int, *, prior_ppm: float = PRIOR_PPM, wander_ppm_s: float = WANDER_PPM_S) -> None:
        """``tick_hz``: nominal rate of the device's counter, 1..2**32-1."""
        self.tick_hz = tick_hz
        self.exchanges = 0
        self.skipped = 0
        """Exchanges whose round trip was too long to be of use."""
        self.slips = 0
        """Times that what was learnt did not fit any more, and was dropped."""
        self._tick_ns = 1e9 / tick_hz
        self._prior = prior_ppm * 1e-6
        self._wander_ns = wander_ppm_s * 1e-15
        """Change of the rate per ns."""
        self._kept: list[_Exchange] = []
        self._rate_lo, self._rate_hi = 1 - self._prior, 1 + self._prior
        self._lo_ns = self._hi_ns = 0.0
        """What all exchanges together allow at the newest one's tick."""
        self._mid_ns = 0.0
        self._rate = 1.0
        self._base_ns = 0
        """Host times are kept as differences to this: 64 bits of ns do not fit into a float."""

    @property
    def known(self) -> bool:
        """Whether there was an exchange at all."""
        return bool(self._kept)

    def exchange(self, t_tx_ns: int, ticks_rx: int, ticks_tx: int, t_rx_ns: int) -> bool:
        """Take a PING sent at ``t_tx_ns`` (before its first byte), and its PONG, there at ``t_rx_ns``.

        Return whether it was of use; if not, the line was slow just then, and the next one may say more.

        ``ticks_rx``, ``ticks_tx``: the device's own times in between. Times that go backwards are ignored: no device
        that is in its senses sends them.
        """
        if not self._kept:
            self._base_ns = t_tx_ns
        # A counter is read down to whole ticks, a clock to whole ns.
        lo_ns = t_tx_ns - self._base_ns - self._tick_ns
        hi_ns = t_rx_ns - self._base_ns + 1.0 - (ticks_tx - ticks_rx) * self._tick_ns * (1 - self._prior)
        if ticks_tx < ticks_rx or hi_ns < lo_ns or (self._kept and ticks_rx <= self._kept[-1].ticks):
            self.skipped += 1
            return False
        self.exchanges += 1
        new = _Exchange(ticks_rx, lo_ns, hi_ns)
        if self._kept:
            lo, hi = self._bounds(ticks_rx)
            if lo > new.hi_ns or hi < new.lo_ns:
                self._slip(new)
                return True
            shortest = min(one.width_ns for one in self._kept)
            if new.width_ns > RTT_FACTOR * shortest + RTT_SLACK_NS and new.width_ns >= hi - lo:
                self.skipped += 1
                return False
        self._kept = [*self._kept[1 - KEPT :], new]
        if not self._learn():
            self._slip(new)
        return True

    def _slip(self, new: _Exchange) -> None:
        self.slips += 1
        self._kept = [new]
        self._learn()

    def _learn(self) -> bool:
        """Draw rate, bounds and regression from what is kept; False where it contradicts itself."""
        kept, newest = self._kept, self._kept[-1]
        extent_ns = (newest.ticks - kept[0].ticks) * self._tick_ns
        loose = self._wander_ns * extent_ns
        rate_lo, rate_hi = 1 - self._prior, 1 + self._prior
        for one in kept[:-1]:
            apart_ns = (newest.ticks - one.ticks) * self._tick_ns
            rate_lo = max(rate_lo, (newest.lo_ns - one.hi_ns) / apart_ns - loose)
            rate_hi = min(rate_hi, (newest.hi_ns - one.lo_ns) / apart_ns + loose)
        if rate_lo > rate_hi:
            return False
        self._rate_lo, self._rate_hi = rate_lo, rate_hi
        lo_ns, hi_ns = newest.lo_ns, newest.hi_ns
        for one in kept[:-1]:
            apart_ns = (newest.ticks - one.ticks) * self._tick_ns
            lo_ns = max(lo_ns, one.lo_ns + apart_ns * rate_lo)
            hi_ns = min(hi_ns, one.hi_ns + apart_ns * rate_hi)
        if lo_ns > hi_ns:
            return False
        self._lo_ns, self._hi_ns = lo_ns, hi_ns
        self._regress()
        return True

    def _regress(self) -> None:
        """Fit a line through the middles; a rate beyond the allowed is not believed.

        The newest weigh most, and the shortest: a round trip twice as long is four times as unsure. That the rate is
        nominal within PRIOR_PPM counts as one more observation, or the first few pings would say anything of it.
        """
        newest = self._kept[-1]
        x = np.array([(one.ticks - newest.ticks) * self._tick_ns for one in self._kept])
        off = np.array([(one.lo_ns + one.hi_ns) / 2 for one in self._kept]) - x
        width = np.array([one.width_ns for one in self._kept])
        weight = np.exp(x / (DECAY_S * 1e9)) / np.maximum(width, 1.0) ** 2
        total = float(weight.sum())
        x_mean, off_mean = float(weight @ x) / total, float(weight @ off) / total
        spread = float(weight @ (x - x_mean) ** 2) + 0.25 / self._prior**2
        rate = 1.0 + float(weight @ ((x - x_mean) * (off - off_mean))) / spread
        self._rate = min(max(rate, self._rate_lo), self._rate_hi)
        self._mid_ns = off_mean - (self._rate - 1.0) * x_mean

    def _bounds(self, ticks: int) -> tuple[float, float]:
        """Return what is allowed for host time of ``ticks``, less the base."""
        newest = self._kept[-1]
        ahead_ns = (ticks - newest.ticks) * self._tick_ns
        if ahead_ns >= 0:
            loose = self._wander_ns * ahead_ns
            return (
                self._lo_ns + ahead_ns * max(self._rate_lo - loose, 1 - self._prior),
                self._hi_ns + ahead_ns * min(self._rate_hi + loose, 1 + self._prior),
            )
        loose = self._wander_ns * max(0.0, (self._kept[0].ticks - ticks) * self._tick_ns)
        rate_lo = max(self._rate_lo - loose, 1 - self._prior)
        rate_hi = min(self._rate_hi + loose, 1 + self._prior)
        lo_ns, hi_ns = -math.inf, math.inf
        for one in self._kept:
            off_ns = (ticks - one.ticks) * self._tick_ns
            slow, fast = (rate_lo, rate_hi) if off_ns >= 0 else (rate_hi, rate_lo)
            lo_ns = max(lo_ns, one.lo_ns + off_ns * slow)
            hi_ns = min(hi_ns, one.hi_ns + off_ns * fast)
        return lo_ns, hi_ns

    def to_host(self, ticks: int) -> tuple[int, int]:
        """Return host time of ``ticks`` on CLOCK_MONOTONIC and the half width of its uncertainty, both in ns.

        Raises InstrumentError before the first exchange.
        """
        self._need()
        lo_ns, hi_ns = self._bounds(ticks)
        line_ns = self._mid_ns + (ticks - self._kept[-1].ticks) * self._tick_ns * self._rate
        at_ns = min(max(line_ns, lo_ns), hi_ns)
        unc_ns = max(hi_ns - at_ns, at_ns - lo_ns)
        return self._base_ns + round(at_ns), math.ceil(unc_ns) + 1

    def to_host_array(self, first: int, offsets: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return :meth:`to_host` of ``first + offsets``, in ticks, which rise; as two arrays of ns.

        Raises InstrumentError before the first exchange.
        """
        self._need()
        kept = self._kept
        from_newest = float(first - kept[-1].ticks)
        # Integers first: what is left is small enough for a float.
        ahead_ns = (from_newest + offsets) * self._tick_ns
        oldest_ns = (kept[0].ticks - kept[-1].ticks) * self._tick_ns
        loose = self._wander_ns * np.maximum(0.0, np.maximum(ahead_ns, oldest_ns - ahead_ns))
        rate_lo = np.maximum(self._rate_lo - loose, 1 - self._prior)
        rate_hi = np.minimum(self._rate_hi + loose, 1 + self._prior)
        lo_ns = np.where(ahead_ns >= 0, self._lo_ns + ahead_ns * rate_lo, -np.inf)
        hi_ns = np.where(ahead_ns >= 0, self._hi_ns + ahead_ns * rate_hi, np.inf)
        past = ahead_ns < 0
        for one in kept if bool(past.any()) else ():
            off_ns = ahead_ns + (kept[-1].ticks - one.ticks) * self._tick_ns
            later = off_ns >= 0
            least = one.lo_ns + off_ns * np.where(later, rate_lo, rate_hi)
            most = one.hi_ns + off_ns * np.where(later, rate_hi, rate_lo)
            lo_ns = np.where(past, np.maximum(lo_ns, least), lo_ns)
            hi_ns = np.where(past, np.minimum(hi_ns, most), hi_ns)
        at_ns = np.minimum(np.maximum(self._mid_ns + ahead_ns * self._rate, lo_ns), hi_ns)
        unc_ns = np.ceil(np.maximum(hi_ns - at_ns, at_ns - lo_ns)) + 1
        return self._base_ns + np.rint(at_ns).astype(np.int64), unc_ns.astype(np.int64)

    def ticks_before(self, t_ns: int) -> int:
        """Return the device's tick that is certainly not after ``t_ns``, as late as that can be said; at least 0.

        Raises InstrumentError before the first exchange.
        """
        self._need()
        left_ns = t_ns - self._base_ns - self._hi_ns
        loose = self._wander_ns * max(0.0, left_ns)
        rate = min(self._rate_hi + 2 * loose, 1 + self._prior) if left_ns >= 0 else self._rate_lo
        return max(0, self._kept[-1].ticks + math.floor(left_ns / (self._tick_ns * rate)))

    def _need(self) -> None:
        if not self._kept:
            raise InstrumentError("the front end's time is not known: no ping was answered yet")

    def describe(self) -> dict[str, Any]:
        """Return what a status shows; plain values. ``unc_s``: at the newest exchange."""
        if not self._kept:
            return {"known": False}
        _, unc_ns = self.to_host(self._kept[-1].ticks)
        return {
            "known": True,
            "unc_s": unc_ns / 1e9,
            "rate_ppm": (self._rate - 1) * 1e6,
            "rate_unc_ppm": max(self._rate_hi - self._rate, self._rate - self._rate_lo) * 1e6,
            "exchanges": self.exchanges,
            "skipped": self.skipped,
            "slips": self.slips,
        }
