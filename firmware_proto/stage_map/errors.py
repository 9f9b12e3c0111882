"""The one error of a map that cannot be used."""

from __future__ import annotations

from firmware_proto.errors import LocalProtocolError


class MapError(LocalProtocolError):
    """A command map is wrong. ``key`` says where, dotted as in TOML; the message says value and expectation."""

    def __init__(self, key: str, message: str) -> None:
        super().__init__(f"{key}: {message}" if key else message)
        self.key = key
