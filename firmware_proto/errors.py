"""Errors of the wire protocols: what we tried to send was wrong, or what came back was."""

from __future__ import annotations


class ProtocolError(Exception):
    """Root of all errors raised by :mod:`firmware_proto`; never raised itself."""

    def __init__(self, message: str, *, data: bytes = b"") -> None:
        if type(self) is ProtocolError:
            raise TypeError("raise LocalProtocolError or RemoteProtocolError")
        super().__init__(message)
        self.data = data


class LocalProtocolError(ProtocolError, ValueError):
    """We tried to encode something the protocol forbids; a bug or a bad argument on this side."""


class RemoteProtocolError(ProtocolError, ValueError):
    """Bytes from the other end cannot be understood. ``data`` holds them, cut to 200 bytes."""
