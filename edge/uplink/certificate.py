"""The client certificate while the uplink runs: how long it lasts, and whether a renewed one was put in its place.

A broker looks at a certificate only when a connection is made. So an expired one is noticed at the next reconnection,
at night; this tells before. A renewed one is taken up by reconnecting, which costs no frame, and only once the new
files fit together: between two copied files the connection stays as it is.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from edge.errors import ConfigError
from edge.frames import UtcMapping
from edge.tls import TlsFiles, about, refuse_foreign
from edge.uplink.documents import utc_text

SOON_DAYS: Final = 30
"""From here on the status says so; the renewed one may still come by post."""
_WARN_DAYS: Final = (SOON_DAYS, 14, 7, 3, 1, 0)
_NS_PER_DAY: Final = 86_400_000_000_000


class Certificate:
    """Looks after the files of one client; without a certificate it has nothing to say."""

    def __init__(self, tls: TlsFiles | None, *, rig: str, log: Any) -> None:  # noqa: ANN401 - structlog's loggers share no type
        """Reads nothing yet; files that cannot be read are a fault, told in :meth:`document`."""
        self._tls = tls if tls is not None and tls.cert_file is not None else None
        self._rig = rig
        self._log = log
        self._stamp = None if self._tls is None else self._tls.stamp()
        self._name = ""
        self._from_ns = 0
        self._expires_ns: int | None = None
        self._days: float | None = None
        self._warned = SOON_DAYS + 1
        self.fault: str | None = None
        """What is wrong with the files as they are now, or None."""
        self._read()

    @property
    def days_left(self) -> float | None:
        """Days until it expires, negative afterwards; None without one, and while the host's clock is not set.

        Not set is: before the certificate was made.
        """
        return self._days

    def look(self, utc: UtcMapping, now_ns: int) -> bool:
        """Look at files and clock; return True when there are new files that can be used: time to reconnect."""
        if self._tls is None:
            return False
        renewed = False
        stamp = self._tls.stamp()
        if stamp != self._stamp or self.fault is not None:
            renewed = self._take(stamp)
        self._days = None
        utc_ns = now_ns + utc.offset_ns
        # A clock that starts in 1970 would give it decades.
        if self._expires_ns is not None and utc_ns >= self._from_ns:
            self._days = round((self._expires_ns - utc_ns) / _NS_PER_DAY, 2)
            self._warn(self._days)
        return renewed

    def _take(self, stamp: tuple[tuple[int, int, int], ...]) -> bool:
        if not self._read():
            return False
        changed, self._stamp = stamp != self._stamp, stamp
        if changed:
            self._warned = SOON_DAYS + 1
            self._log.info("renewed certificate found; reconnecting with it", name=self._name)
        return changed

    def _read(self) -> bool:
        if self._tls is None or self._tls.cert_file is None:
            return False
        fault = None
        try:
            found = about(self._tls.cert_file)
            self._name, self._from_ns, self._expires_ns = found.name, _ns(found.from_utc), _ns(found.expires_utc)
            self._tls.context()
            refuse_foreign(self._tls, self._rig)
        except ConfigError as error:
            fault = str(error)
        if fault is not None and fault != self.fault:
            self._log.warning("certificate cannot be used; a connection that stands is kept", why=fault)
        self.fault = fault
        return fault is None

    def _warn(self, days: float) -> None:
        reached = [limit for limit in _WARN_DAYS if days < limit]
        if reached and min(reached) < self._warned:
            self._warned = min(reached)
            self._log.warning(
                "certificate expired; the next connection will fail" if days < 0 else "certificate expires soon",
                name=self._name,
                days_left=days,
                do=f"tipguard certs renew {self._name}, and copy {self._name}.pem here",
            )

    def document(self) -> dict[str, Any] | None:
        """Return what the status document says of it; None without a certificate."""
        if self._tls is None:
            return None
        days = self._days
        state = "unknown" if days is None else "expired" if days < 0 else "expires soon" if days < SOON_DAYS else "ok"
        return {
            "name": self._name,
            "expires_utc": None if self._expires_ns is None else utc_text(self._expires_ns),
            "days_left": days,
            "state": state,
            "fault": self.fault,
        }


def _ns(moment: datetime) -> int:
    return int(moment.timestamp()) * 1_000_000_000
