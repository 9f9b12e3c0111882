"""What an instrument can tell, with its output off, of what happened to it while it was on.

A reading that never comes has many reasons, and the guard cuts without asking which. Once the output is verified off
there is time to ask: an event register tells a power-on, the error queue tells a question that came while the output
was off.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from edge.errors import InstrumentError
from edge.instruments.link import Link
from firmware_proto.errors import RemoteProtocolError
from firmware_proto.keithley2400 import commands, replies
from firmware_proto.keithley2400.status import ErrorCode

REPLY_TIMEOUT_S: Final = 1.0
MAX_ENTRIES: Final = 11
"""Depth of the 2400's error queue (User's Manual 15-19) and its end."""
POWER_ON: Final = 1 << 7
"""PON in the standard event register (User's Manual section 15); ``*CLS`` of the set-up cleared it."""


class Aftermath(NamedTuple):
    """What was told. ``refused``: entries of the error queue, as the instrument words them, oldest first."""

    was_reset: bool
    was_off: bool
    refused: tuple[str, ...]


async def look_back(link: Link) -> Aftermath:
    """Ask a 2400, with its output verified off; both questions clear what they tell.

    Raises ReplyTimeoutError, LinkLostError, or InstrumentError for a reply that is none.
    """
    try:
        register = replies.parse_float(await link.query(commands.EVENT_STATUS, REPLY_TIMEOUT_S))
        entries = []
        for _ in range(MAX_ENTRIES):
            entry = replies.parse_error(await link.query(commands.ERROR_QUERY, REPLY_TIMEOUT_S))
            if entry.code == ErrorCode.NO_ERROR:
                break
            entries.append(entry)
    except RemoteProtocolError as error:
        raise InstrumentError(f"{link.transport.name}: asked what happened, it answers {error}") from error
    codes = {entry.code for entry in entries}
    return Aftermath(
        was_reset=bool(int(register) & POWER_ON),
        was_off=ErrorCode.NOT_PERMITTED_WITH_OUTPUT_OFF in codes,
        refused=tuple(f'{entry.code},"{entry.text}"' for entry in entries if not 0 < entry.code < 200),
    )
