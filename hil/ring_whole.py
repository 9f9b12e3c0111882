"""All that a ring was ever given, released or not: what tests look at beside an uplink that empties it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from edge.ring import Record, RingReader
from hil.errors import BenchFaultError


def whole_ring(path: Path) -> Iterator[Record]:
    """Yield the records of the ring at ``path`` from its first on; releases nothing.

    Raises BenchFaultError where the beginning is gone: written over, in a ring too small for what was to be seen.
    """
    reader = RingReader(path)
    try:
        # Positions begin at the capacity (the ring's own description); a reader begins at what was not released.
        reader._cursor = reader.capacity_bytes  # noqa: SLF001 - no program but a test may go back
        first = reader.read()
        if first is None and reader.tail > reader.capacity_bytes:
            raise BenchFaultError(f"ring {path}: its beginning was written over")
        while first is not None:
            yield first
            first = reader.read()
    finally:
        reader.close()
