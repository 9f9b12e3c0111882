"""The ring as the uplink meets it: absent, present, removed, replaced, damaged."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edge.errors import RingError
from edge.ring import Record
from edge.ring_runs import RunReader, SampleRun


class Source:
    """Reads the ring that is at a path now, and the one before it to its end."""

    def __init__(self, path: Path, *, log: Any) -> None:  # noqa: ANN401 - structlog's loggers share no type
        """Open nothing yet; :meth:`look_after` does."""
        self._path = path
        self._log = log
        self._reader: RunReader | None = None
        self._said = ""
        self._stuck_at: int | None = None
        self.drained = False
        """The last :meth:`read` found nothing."""
        self.skipped_bytes = 0

    @property
    def cursor(self) -> int:
        """Position behind the last record read; 0 without a ring."""
        return self._reader.cursor if self._reader else 0

    @property
    def capacity_bytes(self) -> int:
        """Bytes of records the ring has room for; 0 without a ring."""
        return self._reader.capacity_bytes if self._reader else 0

    @property
    def used_fraction(self) -> float | None:
        """Share of the ring that is not released; None without a ring."""
        return self._reader.used_fraction if self._reader else None

    def read(self) -> Record | SampleRun | None:
        """Return the next record, or run of samples; None when there is none or no ring."""
        record = self._reader.read_run() if self._reader else None
        self.drained = record is None
        return record

    def release_to(self, pos: int) -> None:
        """Give back everything before ``pos``."""
        if self._reader is not None:
            self._reader.release_to(pos)

    def look_after(self) -> bool:
        """Open the ring if there is one, skip damage; to be called about twice a second.

        True: a successor is in place and this ring is read to its end. Close the open frame, and :meth:`switch` once
        nothing of it is held.
        """
        if self._reader is None:
            self._open()
        elif not self._reader.replaced():
            self._unstick(self._reader)
        elif not self._path.exists():
            # Whoever writes it still can, and we read on; but nobody who starts now will find it.
            self._say("the ring's file was removed; it is read to its end, restart the controller for a new one")
        else:
            return self.drained
        return False

    def switch(self) -> None:
        """Let go of this ring and open its successor."""
        self.close()
        self._open()

    def close(self) -> None:
        """Unmap."""
        if self._reader is not None:
            self._reader.close()
            self._reader = None

    def _open(self) -> None:
        try:
            self._reader = RunReader(self._path)
        except RingError as error:
            self._say(f"waiting for the ring: {error}")
            return
        self._said = ""
        self.drained = False
        self._log.info("ring opened", used=round(self._reader.used_fraction, 4))

    def _say(self, what: str) -> None:
        if what != self._said:
            self._said = what
            self._log.warning(what)

    def _unstick(self, reader: RunReader) -> None:
        # Stuck at the same place twice, half a second apart, is no record in the making.
        if not reader.stuck():
            self._stuck_at = None
        elif self._stuck_at != reader.cursor:
            self._stuck_at = reader.cursor
        else:
            skipped = reader.resync()
            self.skipped_bytes += skipped
            self._log.error("ring damaged: skipped to the next whole record; something is missing", bytes=skipped)
