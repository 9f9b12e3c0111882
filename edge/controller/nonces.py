"""Nonces of remote commands: drawn by the worker, each good for one command within 10 s.

A nonce shows that whoever quotes it has read this rig's status a moment ago. It is no secret; what a command may do is
a matter of user, verb and the rig's own file. Ages are of CLOCK_MONOTONIC: a step of the wall clock changes none.
"""

from __future__ import annotations

import re
from typing import Any, Final

from edge.controller.recorder import Outside

VALID_NS: Final = 10_000_000_000
EVERY_NS: Final = 4_000_000_000
"""A new one so often: whoever reads the status has at least VALID_NS - EVERY_NS, less the way, to use what it says."""
LEAST_NS: Final = 100_000_000
"""From one to the next, however fast they are spent."""
MOST: Final = 128
"""Kept, to tell used from unknown; at the fastest pace still longer than they are valid."""
_FORM: Final = re.compile(r"[0-9a-f]{32}")


class Nonces:
    """The nonces of one life of the worker."""

    def __init__(self, outside: Outside) -> None:
        """Draw none yet."""
        self._outside = outside
        self._drawn: dict[str, tuple[int, bool]] = {}
        """When each was drawn, and whether it was spent; oldest first."""
        self.newest: str | None = None

    @property
    def unspent(self) -> str | None:
        """The newest; None while there is none, or it is spent."""
        return None if self.newest is None or self._drawn[self.newest][1] else self.newest

    def tick(self, now_ns: int) -> None:
        """Draw a new one if the newest is spent or not fresh any more."""
        if self.newest is not None:
            drawn_ns, spent = self._drawn[self.newest]
            if now_ns - drawn_ns < (LEAST_NS if spent else EVERY_NS):
                return
        self.newest = f"{self._outside.new_id('nonce'):016x}{self._outside.new_id('nonce'):016x}"
        self._drawn[self.newest] = (now_ns, False)
        while len(self._drawn) > MOST:
            del self._drawn[next(iter(self._drawn))]

    def spend(self, nonce: str | None, now_ns: int) -> tuple[str, str] | None:
        """Use one up: None if it was good, else a stable word and a sentence why it is not; it is not good later."""
        if nonce is None or not _FORM.fullmatch(nonce):
            return "bad_nonce", "a nonce is 32 hexadecimal digits, as the rig's status says it"
        known = self._drawn.get(nonce)
        if known is None:
            return "unknown_nonce", "this nonce was never given out here, or long ago"
        drawn_ns, spent = known
        self._drawn[nonce] = (drawn_ns, True)
        if spent:
            return "used_nonce", "this nonce was used already: each is good for one command"
        if not 0 <= now_ns - drawn_ns <= VALID_NS:
            age_s, valid_s = (now_ns - drawn_ns) / 1e9, VALID_NS / 1e9
            return "stale_nonce", f"this nonce is {age_s:.1f} s old, and good for {valid_s:.0f} s"
        return None

    def memory(self) -> list[list[Any]]:
        """Return them in plain values."""
        return [[nonce, drawn_ns, spent] for nonce, (drawn_ns, spent) in self._drawn.items()]

    def remember(self, memory: list[list[Any]]) -> None:
        """Take over what :meth:`memory` gave."""
        self._drawn = {nonce: (drawn_ns, bool(spent)) for nonce, drawn_ns, spent in memory}
        self.newest = next(reversed(self._drawn), None)
