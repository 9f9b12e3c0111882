"""An MQTT broker of our own for the demo and the tests: on 127.0.0.1 only, without persistence, never for data to keep.

Mosquitto where it is installed, else iotcore (extra ``demo``). Both speak MQTT 5; Mosquitto speaks 3.1.1 on the same
port. iotcore would on another, but its 3.1.1 side breaks down (0.4.0) at the first message with a content type, which
ours all have; so it is not started.
"""

from __future__ import annotations

import contextlib
import getpass
import importlib.util
import os
import random
import shutil
import signal
import socket
import sys
from collections.abc import Callable
from typing import Final, Literal

from hil.errors import BenchFaultError, BenchOptionError
from hil.server import Server

HOST: Final = "127.0.0.1"
MAX_PAYLOAD: Final = 1 << 20
Kind = Literal["mosquitto", "iotcore"]

_PORTS: Final = range(20_000, 32_000)

_MOSQUITTO = """\
# Written by hil.broker; gone with it.
user {user}
persistence false
# Not 0, "no limit": then 2.0.11 takes every refused publish for a full queue, and closes the connection.
max_queued_messages 100000000
message_size_limit {max_payload}
allow_anonymous true
log_type error
log_type warning
{extra}
listener {port} {host}
"""

_IOTCORE = """\
# Written by hil.broker; gone with it.
id = 0
[router]
id = 0
max_connections = 100
max_outgoing_packet_count = 200
max_segment_size = 104857600
max_segment_count = 10
[v5.1]
name = "v5"
listen = "{host}:{port}"
next_connection_delay_ms = 1
[v5.1.connections]
connection_timeout_ms = 5000
max_payload_size = {max_payload}
max_inflight_count = 100
"""


def mosquitto_path() -> str | None:
    """Return where Mosquitto is, or None; Debian keeps it off a user's PATH."""
    return shutil.which("mosquitto", path=os.pathsep.join((os.environ.get("PATH", ""), "/usr/local/sbin", "/usr/sbin")))


def available() -> list[Kind]:
    """Return the brokers this host can start, the preferred one first."""
    kinds: list[Kind] = []
    if mosquitto_path():
        kinds.append("mosquitto")
    if importlib.util.find_spec("iotcore"):
        kinds.append("iotcore")
    return kinds


def free_port() -> int:
    """Return a loopback port that was free a moment ago, below the kernel's ephemeral range.

    Inside that range a client that keeps trying a stopped broker's port may in the end connect to itself.
    """
    for port in random.sample(_PORTS, 100):
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind((HOST, port))
            return port
    raise BenchFaultError(f"no free port found in {_PORTS.start}..{_PORTS.stop - 1}")


class Broker(Server):
    """A broker process, started on entry and ended on exit; :meth:`kill` and :meth:`start` again keep its ports."""

    _PREFIX = "tipguard-broker-"

    def __init__(
        self,
        *,
        prefer: Kind | None = None,
        port: int = 0,
        mosquitto_lines: str = "",
        configuration: Callable[[Broker], str] | None = None,
    ) -> None:
        """Choose a broker. ``port`` 0: a free one. ``mosquitto_lines``: more of its configuration, e.g. ``acl_file``.

        ``configuration``: writes all of Mosquitto's configuration at each start, for listeners with TLS or an access
        list; it must listen on :attr:`host` and :attr:`port`, and its files may be in :attr:`folder`.

        Raises :class:`BenchOptionError` when the preferred broker, or any, is not installed.
        """
        super().__init__()
        kinds = available()
        if not kinds or (prefer and prefer not in kinds):
            raise BenchOptionError(
                f"broker {prefer or 'mosquitto or iotcore'} is not installed: apt-get install mosquitto, or "
                "`make setup`"
            )
        self.kind: Kind = prefer or kinds[0]
        if (mosquitto_lines or configuration) and self.kind != "mosquitto":
            raise BenchOptionError("mosquitto_lines and configuration need prefer='mosquitto'")
        if mosquitto_lines and configuration:
            raise BenchOptionError("mosquitto_lines are part of our configuration; expected one of the two")
        self.host = HOST
        self.port = port or free_port()
        self.speaks_311 = self.kind == "mosquitto"
        self._extra = mosquitto_lines
        self._configuration = configuration

    def start(self) -> None:
        """Start it and return once it accepts connections. Raises :class:`BenchFaultError` if it does not."""
        if self._process is None:
            self._launch(self.kind, self._command(), lambda _pid: _accepts(self.port))

    def _command(self) -> list[str]:
        config = self.folder / "config.toml"
        if self.kind == "mosquitto":
            if self._configuration is not None:
                text = self._configuration(self)
            else:
                text = _MOSQUITTO.format(
                    user=getpass.getuser(), host=HOST, port=self.port, max_payload=MAX_PAYLOAD, extra=self._extra
                )
            config.write_text(text, encoding="utf-8")
            return [mosquitto_path() or "mosquitto", "-c", str(config)]
        config.write_text(_IOTCORE.format(host=HOST, port=self.port, max_payload=MAX_PAYLOAD), encoding="utf-8")
        # -P: a folder named iotcore where we were started is not the package. Its router logs every packet as an error.
        return [sys.executable, "-P", "-m", "iotcore", "--config", str(config), "--log-level", "CRITICAL"]

    def reload(self) -> None:
        """Let Mosquitto read its access list and certificates again, as `systemctl reload` does."""
        if self._process is not None:
            self._process.send_signal(signal.SIGHUP)


def _accepts(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection((HOST, port), timeout=1.0):
        return True
    return False
