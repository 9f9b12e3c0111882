"""What the uplink is told; the configuration file is read elsewhere."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

from edge.errors import ConfigError
from edge.tls import TlsFiles, refuse_plain

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
    outbox_directory: Path | None = None
    """Where ``outbox.sqlite`` is; None: beside the ring, for tests and trials: memory only, gone with the computer."""
    stores: tuple[str, ...] = ()
    """A frame is deleted only when all of these have committed it."""
    budget_bytes: int = 4 << 30
    """Of frames in the outbox."""
    policy: Literal["pause", "thin"] = "pause"
    """At the budget: stop draining the ring, or replace the oldest sample frames by tombstones."""
    outbox_full_bytes: int | None = None
    """For tests: the file takes no more than so much, as on a full disk."""
    keep_after_watermark_s: float = 172_800.0
    redrive_s: float = 30.0
    """Acknowledged, and not by every store for so long: sent again."""
    tls_ca_file: Path | None = None
    """The lab's CA; with it the connection is TLS 1.3."""
    tls_cert_file: Path | None = None
    tls_key_file: Path | None = None
    plain: Literal["loopback", "anywhere"] = "loopback"
    """Where MQTT without TLS may go to."""
    metrics_port: int | None = None
    """Prometheus metrics at 127.0.0.1; None: nowhere."""
    remote_users: frozenset[str] = frozenset()
    """Whose commands the worker takes; none: nobody's, and none is asked for. See edge.uplink.commands."""

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
            "budget_bytes",
            "redrive_s",
        ):
            if getattr(self, name) <= 0:
                raise ConfigError(f"uplink.{name} = {getattr(self, name)}: expected more than 0", key=f"uplink.{name}")
        refuse_plain(self.host, tls=self.tls is not None, plain=self.plain)

    @property
    def tls(self) -> TlsFiles | None:
        """The files TLS is made of; None: MQTT in the clear."""
        if self.tls_ca_file is None:
            return None
        return TlsFiles(self.tls_ca_file, self.tls_cert_file, self.tls_key_file)

    @property
    def identifier(self) -> str:
        """The MQTT client id."""
        return self.client_id or f"tipguard-{self.rig}"

    def topic(self, name: str) -> str:
        """Return the full topic of ``name``, e.g. ``samples`` or ``json/status``."""
        return f"tipguard/{self.rig}/{name}"
