"""What an instrument can tell, with its output off, of what happened to it while it was on.

A reading that never comes has many reasons, and the guard cuts without asking which. Once the output is verified off
there is time to ask: an event register tells a power-on, the error queue tells a question that came while the output
was off.
"""

from __future__ import annotations

from typing import NamedTuple


class Aftermath(NamedTuple):
    """What was told. ``refused``: entries of the error queue, as the instrument words them, oldest first."""

    was_reset: bool
    was_off: bool
    refused: tuple[str, ...]
