"""The twin's own record of what happened at the tip, which no instrument's reading can colour.

One JSON object per event, with at least ``t_ns`` (the bench's clock: CLOCK_MONOTONIC on a pseudo-terminal, virtual
time in memory), ``event``, ``v_tip`` (V), ``i_a`` (A), ``peak_current_a`` (A), ``charge_c`` (C) and ``energy_j`` (J).
``hil.twin.terminals`` says what they mean, event by event.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TextIO, TypeAlias

from hil.errors import BenchOptionError

Entry: TypeAlias = dict[str, int | float | str | bool | None]


class TruthRecord:
    """JSON lines in a file, each flushed as it is written; without a path, ``entries`` in memory.

    A record belongs to one run: an existing file is emptied by ``begin``, or else by the first ``write``.
    """

    def __init__(self, path: Path | None = None) -> None:
        """Open ``path``, or record in memory; raises BenchOptionError if it cannot be opened."""
        self.entries: list[Entry] = []
        self._file: TextIO | None = None
        self._began = False
        if path is not None:
            try:
                # Line-buffered: a reader, or a kill, finds every event that has happened.
                self._file = path.open("a", encoding="utf-8", buffering=1)
            except OSError as error:
                raise BenchOptionError(
                    f"--truth {path}: cannot be written ({error.strerror}); name a file in a writable directory"
                ) from error

    def begin(self) -> None:
        """Empty the file of what an older run left; a no-op the second time."""
        if self._file is not None and not self._began:
            self._file.truncate(0)
        self._began = True

    def write(self, entry: Entry) -> None:
        """Add one event; in memory as ``entries[-1]``, or as a line of the file."""
        self.begin()
        if self._file is None:
            self.entries.append(entry)
        else:
            self._file.write(json.dumps(entry, allow_nan=False) + "\n")

    def events(self, name: str) -> list[Entry]:
        """Return the entries in memory with this event name, oldest first."""
        return [entry for entry in self.entries if entry["event"] == name]

    def close(self) -> None:
        """Close the file; what is in memory stays."""
        if self._file is not None:
            self._file.close()
