"""Errors of the front end's protocol. What comes in never raises: it is refused and counted (:mod:`.framing`)."""

from __future__ import annotations

from firmware_proto.errors import LocalProtocolError


class FrameError(LocalProtocolError):
    """A message cannot be put on the wire: a field out of its type's range, an array too long or of half an item."""


class SchemaError(LocalProtocolError):
    """schema.toml says something that cannot be generated; the message names the table and the key."""
