"""Ways to take the bias away. Third parties add one by the entry point ``tipguard.actuator``."""

from __future__ import annotations

from typing import Protocol


class CutActuator(Protocol):
    """Something that takes the bias away by itself, faster or surer than the serial line.

    The serial cut is always there (:mod:`edge.guard.cut`); actuators come on top, fastest first, for protective cuts.
    """

    name: str
    expected_s: float
    """Time from :meth:`cut` to no bias at the tip; decides the order."""

    def cut(self) -> None:
        """Take the bias away now; must not block and must not raise."""

    def release(self) -> bool:
        """Allow bias again after a person re-armed; False while something at the bench still has to be done."""
