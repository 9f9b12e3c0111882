"""FOCuS for an upward change of a known mean 0 and known variance 1: the exact likelihood ratio, over every onset.

The statistic after n readings is max over tau < n of (S_n - S_tau)^2 / (2 (n - tau)), over S_n > S_tau, which is the
maximum over all sizes of change and all onsets at once (Romano, Eckley, Fearnhead and Rigaill, JMLR 24(81), 2023).
For a change of size mu the best tau minimises S_tau - mu tau / 2; over all mu > 0 these are the corners of the lower
convex hull of the points (tau, S_tau) to the right of the lowest one: of order log n points.
"""

from __future__ import annotations


class Focus:
    """Page's CUSUM for every size of an upward change at once."""

    __slots__ = ("_n", "_s", "_sums", "_times")

    def __init__(self) -> None:
        """Start with nothing seen."""
        self.reset()

    def reset(self) -> None:
        """Forget everything."""
        self._n = 0
        self._s = 0.0
        self._times = [0]
        self._sums = [0.0]

    @property
    def candidates(self) -> int:
        """Onsets that can still become the best one."""
        return len(self._times)

    def step(self, z: float) -> float:
        """Take one standardised reading, finite; return the statistic, in units of log likelihood, 0 or more."""
        times, sums = self._times, self._sums
        self._n = n = self._n + 1
        self._s = s = self._s + z
        best = 0.0
        for tau, at in zip(times, sums, strict=True):
            rise = s - at
            if rise > 0.0:
                statistic = 0.5 * rise * rise / (n - tau)
                if statistic > best:
                    best = statistic
        # The newest point joins the hull: corners that now lie above a chord go.
        while len(times) > 1 and (s - sums[-1]) * (times[-1] - times[-2]) <= (sums[-1] - sums[-2]) * (n - times[-1]):
            times.pop()
            sums.pop()
        if len(times) == 1 and s <= sums[0]:
            times[0], sums[0] = n, s
        else:
            times.append(n)
            sums.append(s)
        return best
