"""Who there is on a broker, and what each is called in a certificate.

The common name is what the broker takes for the user name (use_identity_as_username), so it decides what the access
list allows: ``rig-1`` for a rig, ``store-lab``, ``user-ana``, ``viewer-hall``; for a broker, its host name.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from edge.errors import ConfigError, LocalError


class CertsError(LocalError):
    """The folder of certificates is not as it would have to be; nothing was changed."""


class Role(StrEnum):
    """What somebody is on the broker."""

    RIG = "rig"
    STORE = "store"
    USER = "user"
    VIEWER = "viewer"
    BROKER = "broker"


AUTHORITY_NAME: Final = "ca"
REPLY: Final = "reply"
"""Second level of the topics on which answers go to users; so no rig can be called that."""

_PREFIXED: Final = (Role.STORE, Role.USER, Role.VIEWER)
_TAKEN: Final = frozenset({AUTHORITY_NAME, REPLY})
_RIG: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,31}")
_USER: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.@-]{0,57}")
_HOST_LABEL: Final = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_MAX_NAME: Final = 64
"""Of a common name, RFC 5280 appendix A (ub-common-name)."""


@dataclass(frozen=True, slots=True)
class Identity:
    """One who may connect. Made by :func:`identity`, which checks."""

    role: Role
    name: str
    """Without the role's prefix: ``lab``, ``ana``."""

    @property
    def common_name(self) -> str:
        """The name in the certificate, on the broker, and of its files."""
        return f"{self.role}-{self.name}" if self.role in _PREFIXED else self.name


def identity(role: Role, name: str) -> Identity:
    """Return the identity of that name. Raises :class:`ConfigError` for a name that cannot work."""
    if role is Role.BROKER:
        host(name)
        fits = len(name) <= _MAX_NAME
        expected = f"a host name or address of at most {_MAX_NAME} characters, as the rigs' files have it"
    elif role in (Role.USER, Role.VIEWER):
        fits = bool(_USER.fullmatch(name))
        expected = "letters, digits, and _ . @ - after the first; at most 58"
    else:
        fits = bool(_RIG.fullmatch(name))
        expected = "lower-case letters, digits, hyphens; at most 32"
    if not fits:
        raise ConfigError(f"{role} {name!r}: expected {expected}", key="name")
    if role is Role.RIG and (name in _TAKEN or name.startswith(tuple(f"{other}-" for other in _PREFIXED))):
        raise ConfigError(f"rig {name!r}: on the broker that is the name of somebody else; choose another", key="name")
    if role in _PREFIXED and name.lower().startswith(f"{role}-"):
        raise ConfigError(
            f"{role} {name!r} would become {role}-{name}; give the name without its role: {name[len(role) + 1 :]}",
            key="name",
        )
    return Identity(role, name)


def of_common_name(role: Role, common_name: str) -> Identity:
    """Return whom a certificate names. Raises :class:`ConfigError` if its role and name do not fit together."""
    if role not in _PREFIXED:
        return identity(role, common_name)
    prefix = f"{role}-"
    if not common_name.startswith(prefix):
        raise ConfigError(f"{common_name!r}: a {role}'s name begins with {prefix}", key="name")
    return identity(role, common_name.removeprefix(prefix))


def host(name: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | str:
    """Return an address, or a host name in lower case. Raises :class:`ConfigError` for anything else."""
    try:
        return ipaddress.ip_address(name)
    except ValueError:
        pass
    labels = name.split(".")
    if len(name) > 253 or not all(_HOST_LABEL.fullmatch(label) for label in labels) or labels[-1].isdecimal():
        raise ConfigError(
            f"broker {name!r}: expected a host name in lower case or an address, without port, path or wildcard; "
            "exactly as the rigs' files have it in uplink.host",
            key="name",
        )
    return name
