"""A front end as part of an emulated rig: the words for the emulator's command line, and its sections of the config."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

PORT_BAUD: Final = 921_600
"""What the configuration says where the emulator is told 0: a port has a rate, bytes take no time."""
DEFAULTS: Final[Mapping[str, float | str]] = {"hard_a": 5e-4, "level_a": 2e-4, "level_n": 3}


@dataclass(frozen=True, slots=True, kw_only=True)
class FrontendSpec:
    """``baud``, ``hz``, ``noise_a``, ``qemu``: as ``--frontend-...`` of ``tipguard hil smu``.

    ``settings``: fields of [frontend] that differ from :data:`DEFAULTS`, as ``{"recording": "decimated"}``; None takes
    one away.
    """

    baud: int = 0
    hz: int | None = None
    noise_a: float = 0.0
    late_ms: int = 60
    """More than the firmware's own: beside all else of a rig a process on a host of two cores is late at times."""
    qemu: bool = False
    settings: Mapping[str, float | str | bool | None] = field(default_factory=dict)

    def words(self, link: Path) -> list[str]:
        """Return the words that give an emulator a front end at ``link``."""
        values = {
            "--frontend": link,
            "--frontend-baud": self.baud,
            "--frontend-hz": self.hz,
            "--frontend-noise-a": self.noise_a,
            "--frontend-late-ms": self.late_ms,
        }
        words = [word for name, value in values.items() if value is not None for word in (name, str(value))]
        return [*words, *(["--frontend-qemu"] if self.qemu else [])]

    def tables(self, link: Path) -> str:
        """Return the sections of a configuration whose front end is at ``link``."""
        settings = {name: value for name, value in {**DEFAULTS, **self.settings}.items() if value is not None}
        # JSON's strings, numbers and booleans are TOML's.
        lines = "".join(f"{name} = {json.dumps(value)}\n" for name, value in settings.items())
        port = f"path = {json.dumps(str(link))}\nbaud = {self.baud or PORT_BAUD}\n"
        return f"\n[ports.frontend]\n{port}\n[frontend]\n{lines}"
