"""The broker's access list: who may write and read which topics, for Mosquitto's ``acl_file``.

Written from the list of identities, name by name. Mosquitto's ``pattern`` lines would save that, but they hold for
everybody: one that lets ``store-lab`` write its watermark lets a rig of that name write frames. What is not allowed
here is denied, topics of later versions included.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from edge.certs.identities import REPLY, Identity, Role

FRAMES: Final = ("samples", "events", "runs")
PUBLISHED: Final = (*FRAMES, "status", "live", "json/#")
"""Below ``tipguard/<rig>/``: what a rig writes; docs/data.md."""
READABLE: Final = (*PUBLISHED, "watermark/#")
"""What people read: everything but commands."""

_HEADER: Final = """\
# Who may do what on the lab's broker. Written by `tipguard certs acl` from the certificates: do not edit, run it again.
# Whoever is not named here may connect with a valid certificate, and neither write nor read anything.
"""


def acl_text(identities: Iterable[Identity]) -> str:
    """Return the access list of these identities, sorted by role and name; brokers need no lines."""
    order = list(Role)
    chosen = sorted(set(identities), key=lambda who: (order.index(who.role), who.name))
    return _HEADER + "".join(_section(who) for who in chosen if who.role is not Role.BROKER)


def _section(who: Identity) -> str:
    may_write, may_read = writes(who), reads(who)
    both = [topic for topic in may_write if topic in may_read]
    lines = [f"\nuser {who.common_name}"]
    lines += [f"topic readwrite {topic}" for topic in both]
    lines += [f"topic write {topic}" for topic in may_write if topic not in both]
    lines += [f"topic read {topic}" for topic in may_read if topic not in both]
    return "\n".join(lines) + "\n"


def writes(who: Identity) -> tuple[str, ...]:
    """Return the topics this identity may publish to."""
    match who.role:
        case Role.RIG:
            # Answers to commands, below the level that names this rig: nobody answers in another's name.
            return (*(f"tipguard/{who.name}/{topic}" for topic in PUBLISHED), f"tipguard/{REPLY}/+/{who.name}/#")
        case Role.STORE:
            return (f"tipguard/+/watermark/{who.name}",)
        case Role.USER:
            return (f"tipguard/+/cmd/{who.name}",)
        case Role.VIEWER | Role.BROKER:
            return ()


def reads(who: Identity) -> tuple[str, ...]:
    """Return the topics whose messages reach this identity."""
    match who.role:
        case Role.RIG:
            # Its own, too, so that `tipguard watch` works on the rig's computer; it knows them anyway.
            return tuple(f"tipguard/{who.name}/{topic}" for topic in (*PUBLISHED, "cmd/#", "watermark/#"))
        case Role.STORE:
            return tuple(f"tipguard/+/{topic}" for topic in FRAMES)
        case Role.USER:
            return (*(f"tipguard/+/{topic}" for topic in READABLE), f"tipguard/{REPLY}/{who.name}/#")
        case Role.VIEWER:
            return tuple(f"tipguard/+/{topic}" for topic in READABLE)
        case Role.BROKER:
            return ()
