"""A short way for what nearly every acknowledgement is: a number. At full speed it saves a tenth of an uplink's time.

paho builds objects for the reason and the properties of each, which a plain one does not have. Where paho's inside is
not as expected, its own way is taken.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import paho.mqtt.client as paho

INSIDE: Final = (
    "_in_packet",
    "_out_messages",
    "_out_message_mutex",
    "_inflight_messages",
    "_update_inflight",
    "_handle_pubackcomp",
)
"""What the short way uses of a client."""
_PLAIN: Final = 2
"""Bytes of an acknowledgement that has only its number: success, and nothing to say."""


def shorten(client: Any, answered: Callable[[int], bool]) -> bool:  # noqa: ANN401 - its inside has no types
    """Have plain PUBACKs told to ``answered`` by their number; what that returns False to goes paho's way.

    Returns False, and changes nothing, where the client's inside is another.
    """
    if not all(hasattr(client, name) for name in INSIDE):
        return False
    theirs = client._handle_pubackcomp  # noqa: SLF001 - see the module's first lines

    def handle(command: str) -> Any:  # noqa: ANN401 - as paho has it
        packet = client._in_packet["packet"]  # noqa: SLF001 - as above
        if command != "PUBACK" or len(packet) != _PLAIN:
            return theirs(command)
        number = packet[0] << 8 | packet[1]
        if not answered(number):
            return theirs(command)
        with client._out_message_mutex:  # noqa: SLF001 - as above
            waiting = client._out_messages  # noqa: SLF001 - as above
            if waiting.pop(number, None) is not None:
                client._inflight_messages -= 1  # noqa: SLF001 - as above
            if len(waiting) > client._inflight_messages:  # noqa: SLF001 - as above
                # One waits for room in paho's own window.
                return client._update_inflight()  # noqa: SLF001 - as above
        return paho.MQTT_ERR_SUCCESS

    client._handle_pubackcomp = handle  # noqa: SLF001 - as above
    return True
