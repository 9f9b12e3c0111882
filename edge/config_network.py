"""The sections of the rig's file that are about the network: the way to the broker, the outbox, remote commands."""

from __future__ import annotations

from typing import Annotated, Literal, Self

import pydantic
from pydantic import Field

from edge.config_base import Section
from edge.tls import LOOPBACK, PLAIN_PORT, TLS_PORT

FilePath = Annotated[str, Field(min_length=1, max_length=4096)]
StoreName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,31}$")]
UserName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.@-]{0,63}$")]
Verb = Literal["status", "stop", "run", "rearm"]


class UplinkConfig(Section):
    """Where frames go, and who says so."""

    host: Annotated[str, Field(min_length=1)] = "127.0.0.1"
    port: Annotated[int, Field(ge=1, le=65_535)] = PLAIN_PORT
    """Where it is not given: 8883 with ``ca_file``, 1883 without."""
    username: str | None = None
    password_file: FilePath | None = None
    """Relative names are looked for in $CREDENTIALS_DIRECTORY first, then beside the rig's file."""
    ca_file: FilePath | None = None
    """The lab's CA; with it the connection is TLS 1.3. `tipguard certs` makes one."""
    cert_file: FilePath | None = None
    key_file: FilePath | None = None
    plain: Literal["loopback", "anywhere"] = "loopback"
    """Where MQTT without TLS may go to; "anywhere" sends samples and passwords in the clear."""
    metrics_port: Annotated[int, Field(ge=1, le=65_535)] | None = None
    """Prometheus metrics at http://127.0.0.1:<port>/metrics."""

    @pydantic.model_validator(mode="before")
    @classmethod
    def _usual_port(cls, data: object) -> object:
        return {"port": TLS_PORT, **data} if isinstance(data, dict) and data.get("ca_file") else data

    @pydantic.model_validator(mode="after")
    def _fits(self) -> Self:
        if (self.cert_file is None) != (self.key_file is None):
            raise ValueError("cert_file and key_file belong together: expected both or neither")
        if self.cert_file is not None and self.ca_file is None:
            raise ValueError("cert_file without ca_file: expected the lab's CA, too, or the broker could be anybody")
        if self.ca_file is None and self.plain == "loopback" and self.host not in LOOPBACK:
            raise ValueError(
                f"host {self.host!r} without ca_file: plain MQTT goes to this computer only; name ca_file, or say "
                'plain = "anywhere"'
            )
        return self


class OutboxConfig(Section):
    """What is kept on this rig's disk until every store has it."""

    stores: tuple[StoreName, ...] = ()
    """A frame is deleted only when all of these have committed it. None named: see docs/data.md."""
    directory: FilePath | None = None
    """Default: the state directory of this service or user."""
    budget_bytes: Annotated[int, Field(ge=1 << 20, le=1 << 44)] = 4 << 30
    policy: Literal["pause", "thin"] = "pause"
    """At the budget. pause: the ring fills, and plans wait; thin: the oldest sample frames become tombstones."""
    keep_after_watermark_s: Annotated[float, Field(ge=0, le=366 * 86400)] = 172_800.0
    """For a store that is restored from last night's backup."""
    redrive_s: Annotated[float, Field(ge=1, le=86_400)] = 30.0
    """Acknowledged, and by no store for so long: sent again."""

    @pydantic.field_validator("stores", mode="before")
    @classmethod
    def _listed(cls, value: object) -> object:
        # TOML has lists, not tuples; and this model is strict.
        return tuple(value) if isinstance(value, list) else value

    @pydantic.model_validator(mode="after")
    def _once(self) -> Self:
        if len(set(self.stores)) != len(self.stores):
            raise ValueError("stores: a name twice; expected each store once")
        return self


class RemoteConfig(Section):
    """Commands over MQTT. Nobody may by default."""

    users: dict[UserName, tuple[Verb, ...]] = Field(default_factory=dict)
    """Who may what: user name to verbs."""
    allow_energise: bool = False
    """The local switch: without it a remote run is refused, whoever asks."""

    @pydantic.field_validator("users", mode="before")
    @classmethod
    def _listed(cls, value: object) -> object:
        if not isinstance(value, dict):
            return value
        return {user: tuple(verbs) if isinstance(verbs, list) else verbs for user, verbs in value.items()}
