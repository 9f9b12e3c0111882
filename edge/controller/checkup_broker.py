"""What ``tipguard check`` says of the way out: the broker's port, its TLS, and whether a store is waited for."""

from __future__ import annotations

import contextlib
import socket
import ssl
from pathlib import Path
from typing import Final

from edge.config import Config
from edge.controller.findings import Finding
from edge.errors import ConfigError
from edge.tls import TlsFiles, find_file, refuse_foreign, why_refused

BROKER_TIMEOUT_S: Final = 1.0
REFUSAL_S: Final = 0.5
"""With TLS 1.3 a broker refuses a certificate after the handshake. It says nothing else before a client does."""


def check_broker(config: Config, folder: Path) -> Finding:
    """Reach the broker's port and, where the rig's file names a CA, shake hands with TLS; no MQTT is spoken.

    ``folder``: of the rig's file, where certificates are looked for.
    """
    uplink = config.uplink
    where = f"{uplink.host}:{uplink.port}"
    try:
        with socket.create_connection((uplink.host, uplink.port), timeout=BROKER_TIMEOUT_S) as plain:
            if uplink.ca_file is None:
                return Finding("broker", "ok", f"{where} accepts connections")
            return _shake_hands(config, folder, plain, where)
    except OSError as error:
        reason = error.strerror or str(error)
        return Finding("broker", "warn", f"{where}: {reason}; frames wait in the outbox until it is there")


def _shake_hands(config: Config, folder: Path, plain: socket.socket, where: str) -> Finding:
    uplink = config.uplink
    named = [name for name in (uplink.ca_file, uplink.cert_file, uplink.key_file) if name is not None]
    ca_file, *own = (find_file(name, folder) for name in named)
    context = None
    try:
        absent = [str(file) for file in (ca_file, *own) if not _readable(file)]
        if absent:
            text = (
                f"{where} accepts connections; TLS was not tried: no {', no '.join(absent)} that this user may read. "
                "If the service has them as credentials: does `systemctl status tipguard-uplink` say connected?"
            )
            return Finding("broker", "warn", text)
        files = TlsFiles(ca_file, *own)
        refuse_foreign(files, config.rig.id)
        context = files.context()
        with context.wrap_socket(plain, server_hostname=uplink.host) as secure:
            secure.settimeout(REFUSAL_S)
            with contextlib.suppress(TimeoutError):
                if not secure.recv(1):
                    return Finding("broker", "warn", f"{where}: ends the connection behind the TLS handshake")
    except ConfigError as error:
        return Finding("broker", "warn", f"{where}: {error}")
    except ssl.SSLError as error:
        return Finding("broker", "warn", f"{where}: TLS: {why_refused(context, error)}; frames wait in the outbox")
    taken = " and takes this rig's certificate" if own else ""
    return Finding("broker", "ok", f"{where} speaks TLS 1.3, is of the lab's authority{taken}")


def _readable(file: Path) -> bool:
    try:
        with file.open("rb"):
            return True
    except OSError:
        return False


def check_stores(config: Config) -> Finding:
    """Say whose word the rig waits for before it lets a frame go."""
    stores = config.outbox.stores
    if not stores:
        text = (
            "none is named: a broker's acknowledgement is all that is waited for, and that is not stored. "
            'Start `tipguard store`, and set stores = ["lab"] below [outbox]'
        )
        return Finding("stores", "warn", text)
    every = "it has" if len(stores) == 1 else "all of them have"
    return Finding("stores", "ok", f"{', '.join(stores)}: a frame stays on this disk until {every} stored it")
