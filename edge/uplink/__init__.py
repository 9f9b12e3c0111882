"""The uplink: a process that drains the ring and publishes it; it never touches an instrument.

``settings`` what it is told, ``mqtt`` the connection, ``assemble`` records to frames, ``window`` what is under way,
``documents`` the JSON side, ``service`` the process.
"""

from edge.uplink.service import run_uplink
from edge.uplink.settings import UplinkSettings

__all__ = ["UplinkSettings", "run_uplink"]
