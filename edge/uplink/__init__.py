"""The uplink: a process that drains the ring into the outbox and publishes from there; it never touches an instrument.

``service`` is the process, ``settings`` what it is told.

* in: ``source`` and ``assemble``, ring to frames
* on disk: ``outbox_file`` rows, ``outbox`` groups, ``jobs`` the thread, ``salvage`` what damage leaves, ``aside``
  where it is meanwhile
* known of them: ``held`` one stream, by ``ranges`` and ``spans``
* out: ``lanes`` what is next, ``window`` what is under way, ``mqtt`` and ``keeper`` the connection
* gone: ``redrive`` what stores have and lack, ``retention`` what is deleted, ``thinning``
* said and heard: ``documents``, ``figures``, ``metrics``, ``commands``
"""

from edge.uplink.service import run_uplink
from edge.uplink.settings import UplinkSettings

__all__ = ["UplinkSettings", "run_uplink"]
