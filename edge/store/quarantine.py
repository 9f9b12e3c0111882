"""What could not be read, as it came: for a person, or for a later version of this program.

No watermark covers it, so its sender keeps it and sends it again now and then; each message is kept once.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from itertools import count
from pathlib import Path
from typing import Any, Final

from edge.store.backend import Unreadable
from edge.store.disk import Disk
from edge.store.journal import Scan, Segment, encode_record, read_records

MAX_BYTES: Final = 1 << 30
"""More is not kept. Nothing is lost by it, see above."""
_FILE: Final = re.compile(r"(\d{8,})\.messages")


def read_quarantine(folder: Path) -> Iterator[dict[str, Any]]:
    """Yield every message: ``topic``, ``payload``, ``why``, ``content_type``, ``t_s`` (since 1970). Raises OSError."""
    for path in sorted(path for path in folder.iterdir() if _FILE.fullmatch(path.name)):
        for value in read_records(path.read_bytes(), Scan()):
            if isinstance(value, dict) and isinstance(value.get("payload"), bytes):
                yield value


def aside(folder: Path, name: str) -> Path:
    """Return where a file of that name can be put: what was set aside before stays."""
    names = (name if not again else f"{name}.{again}" for again in count())
    return next(path for path in (folder / name for name in names) if not path.exists())


class Quarantine:
    """The quarantine that is written to."""

    def __init__(self, disk: Disk, folder: Path, *, max_bytes: int = MAX_BYTES) -> None:
        """Read what is there. Raises OSError."""
        numbers = [int(match[1]) for path in folder.iterdir() if (match := _FILE.fullmatch(path.name))]
        self._known = {_digest(value.get("topic"), value["payload"]) for value in read_quarantine(folder)}
        self._bytes = sum(path.stat().st_size for path in folder.iterdir())
        self._max_bytes = max_bytes
        self._segment = Segment(disk, folder / f"{max(numbers, default=0) + 1:08d}.messages")
        self.left_out = 0
        """Messages not kept, for want of room."""

    def keep(self, messages: Sequence[Unreadable], t_s: float) -> int:
        """Keep those that are new, durably; return how many. Raises :class:`StoreError`."""
        fresh: dict[bytes, bytes] = {}
        size = self._bytes
        for message in messages:
            digest = _digest(message.topic, message.payload)
            if digest in self._known or digest in fresh:
                continue
            record = encode_record({**message._asdict(), "t_s": t_s})
            if size + len(record) > self._max_bytes:
                self.left_out += 1
                continue
            size += len(record)
            fresh[digest] = record
        if fresh:
            self._segment.append(list(fresh.values()))
            self._known.update(fresh)
            self._bytes = size
        return len(fresh)

    def close(self) -> None:
        """Close."""
        self._segment.close()


def _digest(topic: object, payload: bytes) -> bytes:
    return hashlib.sha256(f"{topic}\0".encode("utf-8", "replace") + payload).digest()
