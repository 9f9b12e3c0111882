"""One value in shared memory at a fixed place; what the generated bench layout is made of."""

from __future__ import annotations

import mmap
import struct
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Slot:
    """A little-endian integer at byte ``at`` of the bench memory, in the form of a struct letter."""

    at: int
    letter: str
    _form: struct.Struct = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Prepare the form."""
        object.__setattr__(self, "_form", struct.Struct("<" + self.letter))

    def read(self, memory: mmap.mmap | bytearray | memoryview, base: int = 0) -> int:
        """Return the value; ``base`` is where the layout begins in ``memory``."""
        value: int = self._form.unpack_from(memory, base + self.at)[0]
        return value

    def write(self, memory: mmap.mmap | bytearray | memoryview, value: int, base: int = 0) -> None:
        """Set the value, in one store where the machine is little-endian; struct.error when it does not fit."""
        self._form.pack_into(memory, base + self.at, value)
