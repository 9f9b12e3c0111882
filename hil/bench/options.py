"""What every bench takes: how much to measure, where to put its plots, whom to tell how far it is."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path


def _silent(_done: float, _what: str) -> None:
    """Tell nobody."""


@dataclasses.dataclass(frozen=True, slots=True)
class BenchOptions:
    """``quick``: fewer samples, to see that it works; its figures are not for the record.

    ``plots``: a directory for PNG pictures, made if absent; None: none are drawn. ``progress`` is called with the
    fraction done (0 to 1) and what is under way.
    """

    quick: bool = False
    plots: Path | None = None
    progress: Callable[[float, str], None] = _silent
