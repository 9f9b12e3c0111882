"""Reading the ring by runs: the sample records of one frame that stand one behind the other, checked in one pass.

Read one at a time, 96 samples (a frame of 4 KiB) cost as much as the rest of their way to the broker; so an uplink that
has a full ring to work off would be held up by it. A run is checked as strictly as a record is: the position, epoch and
number of every record, and its CRC. What is no whole record of the same frame ends the run, and is left to
:meth:`edge.ring.RingReader.read`.
"""

from __future__ import annotations

import functools
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from edge.ring import PAGE, Kind, Record, RingReader

HEADER_BYTES: Final = 32
PAYLOAD_BYTES: Final = 55
STORED_BYTES: Final = HEADER_BYTES + PAYLOAD_BYTES
RECORD_BYTES: Final = 88
"""Of a sample record, with its padding."""
RECORD: Final = np.dtype(
    {
        "names": ["index", "run", "t_ns", "t_unc_ns", "t_rx_ns", "bias_v", "current_a", "flags", "phase"],
        "formats": ["<u8", "<u8", "<i8", "<u4", "<i8", "<f8", "<f8", "<u2", "<u1"],
        "offsets": [32, 40, 48, 56, 60, 68, 76, 84, 86],
        "itemsize": RECORD_BYTES,
    }
)
"""A sample record as it stands in the ring; see :mod:`edge.ring` for the header, which is left out."""
MOST: Final = 256
"""Samples in a run at most; a frame of a rig has no more."""

_KIND_LENGTH: Final = int(Kind.SAMPLE) << 24 | PAYLOAD_BYTES
_CRC_BYTES: Final = 4
_TOGETHER: Final = 8
"""Fewer records are quicker checked one by one."""
_PLACES: Final = ((np.arange(MOST)[::-1, np.newaxis] * _CRC_BYTES + np.arange(_CRC_BYTES)) * 256).ravel()
"""Where in :func:`_moved` the bytes of the CRCs are looked up: those of the last record last."""
_WORDS: Final = RECORD_BYTES // 8
_STEPS: Final = np.arange(MOST, dtype=np.uint64)[:, np.newaxis] * np.array([RECORD_BYTES, 0, 0], np.uint64)
"""By how much position, epoch and number of a run's records are above those of its first."""
_INDEX: Final = struct.Struct("<Q")
_CHECKED: Final = struct.Struct("<I83sx")
"""crc32, and what it is of."""


class SampleRun(NamedTuple):
    """Samples of one frame as they stand in the ring. ``pos``: where the first starts; ``data``: whole records."""

    pos: int
    epoch: int
    seq: int
    data: bytes

    @property
    def samples(self) -> int:
        """Samples in it, 1..256."""
        return len(self.data) // RECORD_BYTES

    @property
    def first(self) -> int:
        """The first sample's index."""
        (index,) = _INDEX.unpack_from(self.data, HEADER_BYTES)
        return int(index)

    @property
    def end(self) -> int:
        """Position behind the last record."""
        return self.pos + len(self.data)

    def records(self) -> Iterator[Record]:
        """Return the same samples as :meth:`edge.ring.RingReader.read` would have."""
        for at in range(0, len(self.data), RECORD_BYTES):
            payload = self.data[at + HEADER_BYTES : at + STORED_BYTES]
            yield Record(self.pos + at, Kind.SAMPLE, self.epoch, self.seq, payload)


def rows(data: bytes) -> npt.NDArray[Any]:
    """Return sample records as an array of :data:`RECORD`, read-only, without a copy."""
    return np.frombuffer(data, RECORD)


def as_stored(payload: bytes) -> bytes:
    """Return a sample record's payload where :func:`rows` looks for it; the header is zeros."""
    return bytes(HEADER_BYTES) + payload + bytes(RECORD_BYTES - STORED_BYTES)


class RunReader(RingReader):
    """A :class:`edge.ring.RingReader` that can also take samples by runs."""

    def __init__(self, path: Path) -> None:
        """See :class:`edge.ring.RingReader`."""
        super().__init__(path)
        # One frame is mostly as long as the one before it; what is beyond would be looked at in vain.
        self._likely = MOST

    def read_run(self) -> SampleRun | Record | None:
        """Return the next record, or with a sample those of its frame behind it; None when there is none yet."""
        run = self._run(self._lap_start(self._cursor))
        if run is None:
            return self.read()
        self._cursor = run.end
        return run

    def _run(self, pos: int) -> SampleRun | None:
        lap_offset = pos % self.capacity_bytes
        at = PAGE + lap_offset
        most = min((self.capacity_bytes - lap_offset) // RECORD_BYTES, MOST)
        if most == 0 or self._u32[at // 4 + 1] != _KIND_LENGTH:
            return None
        room = min(most, self._likely)
        # Checked is the copy that is handed out, whatever becomes of the memory.
        data = self._map[at : at + room * RECORD_BYTES]
        heads = np.frombuffer(data, "<u8").reshape(room, _WORDS)
        kinds = np.frombuffer(data, "<u4").reshape(room, 2 * _WORDS)[:, 1] == _KIND_LENGTH
        alike = heads[:, 1:4] - heads[0, 1:4] == _STEPS[:room]
        count = room
        if int(heads[0, 1]) != pos:
            count = 0
        elif not (kinds.all() and alike.all()):
            # Where the first stands that is not.
            count = int((kinds & alike.all(axis=1)).argmin())
        goes_on = count == room < most and self._u32[(at + len(data)) // 4 + 1] == _KIND_LENGTH
        self._likely = MOST if goes_on else max(count, _TOGETHER)
        size = self._whole(data, count) * RECORD_BYTES
        return SampleRun(pos, int(heads[0, 2]), int(heads[0, 3]), data[:size]) if size else None

    def _whole(self, data: bytes, count: int) -> int:
        """Return how many of the first ``count`` records have their CRC, up to the first that has not."""
        seed, crc32 = self._seed, zlib.crc32
        if count >= _TOGETHER and _crc_of_all(data, count, seed):
            return count
        records = _CHECKED.iter_unpack(data[: count * RECORD_BYTES])
        return next((number for number, (crc, stored) in enumerate(records) if crc32(stored, seed) != crc), count)


def _crc_of_all(data: bytes, count: int, seed: int) -> bool:
    """Return whether all records have their CRC, asked of all at once.

    CRC-32 is linear. With M for what 83 bytes of zeros make of a CRC, all bodies one behind the other, begun with the
    seed s, come to s ^ M^(n-1) (c_0 ^ s) ^ ... ^ M (c_(n-2) ^ s) ^ (c_(n-1) ^ s), where c_i is what stands in record
    i. As M loses nothing, a single record without its CRC always shows; of several, all but one in 2^32.
    """
    said = np.frombuffer(data, "<u4", count * RECORD_BYTES // 4)[:: RECORD_BYTES // 4] ^ np.uint32(seed)
    places = _PLACES[-len(said) * _CRC_BYTES :] + said.view(np.uint8)
    together = int(np.bitwise_xor.reduce(_moved().take(places)))
    stored = np.frombuffer(data, np.uint8, count * RECORD_BYTES).reshape(count, RECORD_BYTES)
    bodies = stored[:, _CRC_BYTES:STORED_BYTES].tobytes()
    return zlib.crc32(bodies, seed) == together ^ seed


@functools.lru_cache(maxsize=1)
def _moved() -> npt.NDArray[np.uint32]:
    """Return M^j of every value of each of a CRC's four bytes: by j, byte, value. 1 MiB, made when first needed."""
    zeros = bytes(STORED_BYTES - _CRC_BYTES)
    of_none = zlib.crc32(zeros, 0)
    bits = [1 << bit for bit in range(32)]
    table = np.zeros((MOST, _CRC_BYTES, 256), np.uint32)
    values = np.arange(256)
    for power in table:
        for bit, moved in enumerate(bits):
            power[bit // 8, values >> bit % 8 & 1 == 1] ^= np.uint32(moved)
        bits = [zlib.crc32(zeros, moved) ^ of_none for moved in bits]
    return table.ravel()
