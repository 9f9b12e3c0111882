"""One mapping serves what is made in a moment, and no longer."""

from __future__ import annotations

from edge.frames import UtcMapping
from edge.uplink.recent_utc import HOLD_NS, RecentUtc


def test_it_is_asked_for_once_in_a_moment() -> None:
    now_ns = [0]
    asked = []

    def utc() -> UtcMapping:
        asked.append(now_ns[0])
        return UtcMapping(len(asked), valid=True, unc_ns=5)

    recent = RecentUtc(utc, lambda: now_ns[0])
    seen = []
    for now_ns[0] in (0, 1, HOLD_NS - 1, HOLD_NS, HOLD_NS + 1, 10 * HOLD_NS):
        seen.append(recent().offset_ns)
    assert seen == [1, 1, 1, 2, 2, 3]
    assert asked == [0, HOLD_NS, 10 * HOLD_NS]
