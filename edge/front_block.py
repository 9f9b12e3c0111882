"""A stretch of what the front end in series with the tip measured: evenly spaced rows of converter codes.

Every sample, or the smallest and the largest of each so many. Codes stay as the converter gave them, two bytes each,
with what one is worth beside them: so 100 000 samples a second fit where their currents as numbers would take four
times as much. In the ring a block is one record of kind FRONT, and one frame later on.
"""

from __future__ import annotations

import dataclasses
import struct
from typing import Final

from edge.errors import RingError

FULL: Final = ("code",)
"""Columns of a block with every sample."""
MINMAX: Final = ("code_min", "code_max")
"""Columns of a block with the smallest and the largest of each ``step`` samples."""
MAX_ROWS: Final = 4096
"""As many as a frame takes."""
_FORMS: Final = {1: FULL, 2: MINMAX}
_NUMBERS: Final = {columns: number for number, columns in _FORMS.items()}
_HEAD: Final = struct.Struct("<QQQqIIddIHBx")
"""first u64, run u64, index u64, t_ns i64, t_unc_ns u32, step u32, period_ns f64, code_a f64, boot u32, rows u16, form
u8; then ``rows`` times as many i16 as the form has columns."""
CODE_BYTES: Final = 2


@dataclasses.dataclass(frozen=True, slots=True)
class FrontBlock:
    """Consecutive rows. Row k belongs to ``t_ns + k * period_ns`` +- ``t_unc_ns``, CLOCK_MONOTONIC of the host, in ns.

    ``first``: number of the first row in its epoch, those that are missing counted too. ``index``: the device's number
    of its first sample since the boot named by ``boot``; each row covers ``step`` samples from its time on. ``data``:
    rows of little-endian int16, in the order of ``columns``; a current in A is a code times ``code_a``, which may be
    negative. ``run``: id of the run, 0 for none.
    """

    first: int
    run: int
    index: int
    t_ns: int
    t_unc_ns: int
    step: int
    period_ns: float
    code_a: float
    boot: int
    columns: tuple[str, ...]
    data: bytes

    @property
    def rows(self) -> int:
        """Rows in it, 1..4096."""
        return len(self.data) // (CODE_BYTES * len(self.columns))

    def pack(self) -> bytes:
        """Return the payload of a FRONT record. Raises :class:`RingError` for a number that has no place there."""
        form = _NUMBERS[self.columns]
        if not 0 < self.rows <= MAX_ROWS:
            raise RingError(f"front end: a block of {self.rows} rows; 1..{MAX_ROWS}")
        try:
            head = _HEAD.pack(
                *(self.first, self.run, self.index, self.t_ns, min(self.t_unc_ns, 0xFFFFFFFF), self.step),
                *(self.period_ns, self.code_a, self.boot, self.rows, form),
            )
        except struct.error as error:
            raise RingError(f"front end: block {self.first} fits no record: {error}") from error
        return head + self.data


def unpack_front(payload: bytes) -> FrontBlock:
    """Return the block of a FRONT record's payload. Raises :class:`RingError` for what is none."""
    if len(payload) < _HEAD.size:
        raise RingError(f"front end record of {len(payload)} bytes: written by another version")
    first, run, index, t_ns, t_unc_ns, step, period_ns, code_a, boot, rows, form = _HEAD.unpack_from(payload)
    columns = _FORMS.get(form)
    data = payload[_HEAD.size :]
    if columns is None or not 0 < rows <= MAX_ROWS or len(data) != rows * CODE_BYTES * len(columns):
        raise RingError(f"front end record: form {form}, {rows} rows, {len(data)} bytes: written by another version")
    return FrontBlock(first, run, index, t_ns, t_unc_ns, step, period_ns, code_a, boot, columns, data)
