"""What all generated messages and enums share: packing, exact lengths, ids that nobody knows."""

from __future__ import annotations

import enum
import struct
from collections.abc import Callable
from typing import Any, ClassVar, Final, Self, cast

from firmware_proto.frontend.errors import FrameError
from firmware_proto.frontend.wire import MAX_PAYLOAD

TEXT_SIZE: Final = 16


class Coded(enum.IntEnum):
    """An enum of frozen ids, one byte each.

    A byte that the schema does not know becomes a member ``UNKNOWN_<id>``, equal to none that has a name: a device of
    another schema must not raise in the reader.
    """

    @classmethod
    def _missing_(cls, value: object) -> Self | None:
        if not isinstance(value, int) or not 0 <= value <= 255:
            return None
        member = int.__new__(cls, value)
        member._name_ = f"UNKNOWN_{value}"
        member._value_ = value
        return cast("Self", cls._value2member_map_.setdefault(value, member))


class Message:
    """One message; its subclasses are generated. The bytes of ``pack`` are a payload, without header and CRC."""

    __slots__ = ()

    ID: ClassVar[int]
    NAME: ClassVar[str]
    """As the schema has it."""
    LAYOUT: ClassVar[struct.Struct]
    """Of the fixed part; its last value is the count where an array follows."""
    ITEM: ClassVar[int] = 0
    """Bytes per item of the array; 0: there is none."""
    URGENT: ClassVar[bool] = False
    """Sent behind an extra delimiter, so that half a frame before it cannot swallow it."""
    ENUMS: ClassVar[dict[int, type[Coded]]] = {}
    TEXTS: ClassVar[tuple[int, ...]] = ()

    @property
    def count(self) -> int:
        """Items of the array; 0 where there is none."""
        return len(getattr(self, self._names()[-1])) // self.ITEM if self.ITEM else 0

    @classmethod
    def _names(cls) -> tuple[str, ...]:
        return cast("tuple[str, ...]", vars(cls)["__match_args__"])

    def pack(self) -> bytes:
        """Return the payload; FrameError names the message whose field does not fit."""
        values = [getattr(self, name) for name in self._names()]
        tail = b""
        if self.ITEM:
            tail = bytes(values.pop())
            if len(tail) % self.ITEM:
                raise FrameError(f"{self.NAME}: {len(tail)} bytes are not whole items of {self.ITEM}")
            values.append(len(tail) // self.ITEM)
        for at in self.TEXTS:
            values[at] = _text(self.NAME, values[at])
        try:
            payload = self.LAYOUT.pack(*values) + tail
        except struct.error as error:
            raise FrameError(f"{self.NAME}: {error}") from error
        if len(payload) > MAX_PAYLOAD:
            raise FrameError(f"{self.NAME}: {len(payload)} bytes; at most {MAX_PAYLOAD} fit a frame")
        return payload

    @classmethod
    def fits(cls, payload: bytes) -> bool:
        """Say whether ``payload`` has exactly the length that this message has."""
        fixed = cls.LAYOUT.size
        if not cls.ITEM:
            return len(payload) == fixed
        if len(payload) < fixed:
            return False
        return len(payload) == fixed + cls.ITEM * (payload[fixed - 2] | payload[fixed - 1] << 8)

    @classmethod
    def unpack(cls, payload: bytes) -> Self:
        """Return the message whose payload this is; FrameError when the length is not exactly its own."""
        if not cls.fits(payload):
            raise FrameError(f"{cls.NAME}: a payload of {len(payload)} bytes is not of its length", data=payload[:200])
        values: list[Any] = list(cls.LAYOUT.unpack_from(payload))
        if cls.ITEM:
            values[-1] = payload[cls.LAYOUT.size :]
        for at, kind in cls.ENUMS.items():
            values[at] = kind(values[at])
        for at in cls.TEXTS:
            values[at] = values[at].rstrip(b"\0").decode("ascii", "backslashreplace")
        return cast("Callable[..., Self]", cls)(*values)


def _text(name: str, text: str) -> bytes:
    try:
        raw = text.encode("ascii")
    except UnicodeEncodeError as error:
        raise FrameError(f"{name}: {text!r} is not ASCII") from error
    if len(raw) > TEXT_SIZE:
        raise FrameError(f"{name}: {text!r} is longer than {TEXT_SIZE} characters")
    return raw.ljust(TEXT_SIZE, b"\0")
