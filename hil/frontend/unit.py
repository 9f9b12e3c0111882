"""What the bench asks of an emulated front end, whether it lives in real time or in virtual time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from firmware_proto.frontend.messages import ResetCause
from hil.protocols import Device

Told = Callable[[int, str], None]
"""Called with the time in ns and the words, once something really took effect."""


class FrontendUnit(Device, Protocol):
    """A front end with the real firmware in it, and what a bench can do to it. Times in ns of the bench."""

    @property
    def closed(self) -> bool:
        """Whether the contact in series with the tip conducts."""

    def freeze(self, t_ns: int) -> None:
        """Let the microcontroller stand still, its watchdog too: the pin stays what it is."""

    def thaw(self, t_ns: int) -> None:
        """Let it go on."""

    def reset(self, t_ns: int, *, off_ns: int = 0, cause: ResetCause = ResetCause.POWER) -> None:
        """Take its power, or reset it, for ``off_ns``: the pin opens, everything it knew is gone.

        ``cause``: what it then believes, where its port can tell causes apart.
        """

    def stick_switch(self, t_ns: int, *, stuck: bool, told: Told | None = None) -> None:
        """Let the contact stay closed, or work again; ``told`` once it did not obey the pin."""

    def silence_converter(self, t_ns: int, *, silent: bool) -> None:
        """Let the converter give no answer, or answer again."""

    def hold_converter(self, t_ns: int, *, held: bool, told: Told | None = None) -> None:
        """Let the converter give the last code again and again; ``told`` once the truth is another."""
