"""The images that are proofs: the golden vectors on the Cortex-M3."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from hil.frontend import build

PROOFS: Final = build.PORTS / "mps2_an385" / "proofs"
_GOLDEN: Final = build.FIRMWARE / "golden"
_BARE: Final = ("startup.c", "memory.c")
"""What of the port a bare image keeps."""


def golden_image(edits: Sequence[build.Edit] = ()) -> Path:
    """Build encoder, decoder and all vectors; exit code 0, or how many failed. ``edits`` break the codec on purpose."""
    port = [path.name for path in (build.PORTS / "mps2_an385").glob("*.c")]
    return build.mps2(
        spin=True,
        extra=[PROOFS / "golden_main.c", _GOLDEN / "tg_golden.c", build.GENERATED / "tg_golden_vectors.c"],
        without=sorted(set(port) - set(_BARE)),
        edits=edits,
    )
