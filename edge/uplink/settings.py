"""What the uplink is told; the configuration file is read elsewhere."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from edge.errors import ConfigError

_RIG: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,31}")


@dataclass(frozen=True, slots=True)
class UplinkSettings:
    """One rig's way to its broker. Raises :class:`ConfigError` for values that cannot work."""

    rig: str
    ring_path: Path
    host: str = "127.0.0.1"
    port: int = 1883
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    client_id: str = ""
    """Empty: ``tipguard-<rig>``. Two uplinks with one id throw each other off the broker."""
    live_hz: float = 2.0
    status_period_s: float = 10.0
    window: int = 20
    """Publishes under way without an acknowledgement; a broker may ask for fewer."""
    pending_frames: int = 64
    """Frames read ahead of their acknowledgement; the rest stays in the ring."""
    poll_s: float = 0.02
    backoff_min_s: float = 0.25
    backoff_max_s: float = 10.0
    connect_timeout_s: float = 5.0
    ack_timeout_s: float = 10.0
    """A broker that acknowledges nothing for so long is left and tried again."""
    keepalive_s: int = 15
    stop_flush_s: float = 2.0
    """At a stop, wait so long for what is under way."""
    flight_directory: Path | None = None
    """Where segments of the flight record go; None: nowhere."""
    flight_keep_bytes: int = 256 * 1024 * 1024
    flight_segment_bytes: int = 4 * 1024 * 1024

    def __post_init__(self) -> None:
        """Check what would fail late or fail silently."""
        if not _RIG.fullmatch(self.rig):
            raise ConfigError(
                f"rig {self.rig!r}: expected lower-case letters, digits, hyphens; at most 32", key="rig.id"
            )
        for name in (
            "live_hz",
            "status_period_s",
            "window",
            "pending_frames",
            "poll_s",
            "backoff_min_s",
            "backoff_max_s",
            "connect_timeout_s",
            "ack_timeout_s",
            "keepalive_s",
        ):
            if getattr(self, name) <= 0:
                raise ConfigError(f"uplink.{name} = {getattr(self, name)}: expected more than 0", key=f"uplink.{name}")

    @property
    def identifier(self) -> str:
        """The MQTT client id."""
        return self.client_id or f"tipguard-{self.rig}"

    def topic(self, name: str) -> str:
        """Return the full topic of ``name``, e.g. ``samples`` or ``json/status``."""
        return f"tipguard/{self.rig}/{name}"
