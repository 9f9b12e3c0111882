"""What an X.509 certificate says about itself: for whom it is, and how long. Nothing here verifies anything.

The ssl module tells an end of validity only for the other side of an open connection, hence the few lines here.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Final, NamedTuple

# DER tags, RFC 5280 section 4.1.
_OID: Final = 0x06
_VERSION: Final = 0xA0
_UTC_TIME: Final = 0x17
_GENERALIZED_TIME: Final = 0x18
_COMMON_NAME: Final = bytes((0x55, 0x04, 0x03))
_LONG_LENGTH: Final = 0x80


class About(NamedTuple):
    """What a certificate says of itself; nothing here was verified."""

    name: str
    """Common name: who the broker takes its holder for. Empty if it has none."""
    from_utc: datetime
    expires_utc: datetime


def about_der(der: bytes) -> About:
    """Return what a DER certificate says. Raises ValueError for anything else."""
    (_, certificate), *_ = _items(der)
    (_, body), *_ = _items(certificate)
    fields = [item for item in _items(body) if item[0] != _VERSION]
    try:
        # serial, algorithm, issuer, validity, subject
        (_, validity), (_, subject) = fields[3], fields[4]
        begins, ends = list(_items(validity))
    except (IndexError, ValueError):
        raise ValueError("not an X.509 certificate") from None
    return About(_common_name(subject), _time(*begins), _time(*ends))


def _items(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield tag and content of what is in ``data``; tags of one byte, as certificates have."""
    at = 0
    while at < len(data):
        tag, head = data[at], data[at : at + 2]
        if len(head) < 2:
            raise ValueError("cut short")
        length, at = head[1], at + 2
        if length >= _LONG_LENGTH:
            size = length - _LONG_LENGTH
            if not 1 <= size <= 4:
                raise ValueError("a length that no certificate has")
            length, at = int.from_bytes(data[at : at + size]), at + size
        if at + length > len(data):
            raise ValueError("cut short")
        yield tag, data[at : at + length]
        at += length
    if not data:
        raise ValueError("empty")


def _common_name(subject: bytes) -> str:
    if not subject:
        return ""
    for _, names in _items(subject):
        for _, name in _items(names):
            parts = list(_items(name))
            if len(parts) == 2 and parts[0] == (_OID, _COMMON_NAME):
                return parts[1][1].decode(errors="replace")
    return ""


def _time(tag: int, text: bytes) -> datetime:
    if tag not in (_UTC_TIME, _GENERALIZED_TIME):
        raise ValueError("no time where one belongs")
    digits = text.decode("ascii", errors="replace")
    if tag == _UTC_TIME:
        # RFC 5280: two digits of the year mean 1950 to 2049.
        digits = ("19" if digits[:2] >= "50" else "20") + digits
    return datetime.strptime(digits, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC)
