"""The bytes that trip a front end, for whoever has nothing but its port. Standard library only.

A constant: no session, number or schema is asked for them. A delimiter goes before, so that half a frame that another
process left on the line cannot swallow them.
"""

from __future__ import annotations

from typing import Final

from firmware_proto.frontend.wire import DELIMITER, frame

TRIP_ID: Final = 0x06
TRIP: Final = DELIMITER + frame(TRIP_ID, 0, 0)
"""As :data:`firmware_proto.frontend.framing.TRIP_BYTES`, which brings all other messages along."""
BAUD: Final = 921_600
"""Of a port whose rate nobody told."""
