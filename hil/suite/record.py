"""What a controller has recorded, read from its ring by the one who reads it while there is no uplink."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgpack

from edge.errors import RingError
from edge.ring import Kind, RingReader, unpack_sample
from edge.samples import Sample


class RingRecord:
    """Samples, events and run documents as they come; read records are given back, so that the ring never fills.

    Not beside an uplink: the ring has one reader.
    """

    def __init__(self, path: Path) -> None:
        """Read nothing yet; the ring may be made later."""
        self._path = path
        self._reader: RingReader | None = None
        self.samples: list[tuple[int, Sample]] = []
        """Run id (0: none) and sample."""
        self.events: list[dict[str, Any]] = []
        self.documents: list[dict[str, Any]] = []

    def take(self) -> None:
        """Read what is there."""
        if self._reader is not None and self._reader.replaced():
            self.close()
        if self._reader is None:
            try:
                self._reader = RingReader(self._path)
            except RingError:
                return
        while (record := self._reader.read()) is not None:
            if record.kind == Kind.SAMPLE:
                _, run, sample = unpack_sample(record.payload)
                self.samples.append((run, sample))
            elif record.kind == Kind.EVENT:
                self.events.append(msgpack.unpackb(record.payload))
            elif record.kind == Kind.RUN:
                self.documents.append(msgpack.unpackb(record.payload))
        self._reader.release()

    def close(self) -> None:
        """Let go of the ring; what was read stays."""
        if self._reader is not None:
            self._reader.close()
            self._reader = None
