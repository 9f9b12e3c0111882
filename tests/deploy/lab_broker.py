"""A lab with its authority and its broker, run from the files in deploy/mosquitto as they are."""

from __future__ import annotations

import getpass
import queue
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from edge.certs.acl import acl_text
from edge.certs.authority import Authority, held
from edge.certs.identities import Role, identity
from edge.tls import TlsFiles
from hil.broker import HOST, Broker, free_port

CONFIGURATION: Final = Path(__file__).resolve().parents[2] / "deploy" / "mosquitto" / "mosquitto.conf"
BROKER: Final = "localhost"
NOT_AUTHORIZED: Final = 0x87
WAIT_S: Final = 10.0
PEOPLE: Final = (
    (Role.RIG, "rig-1"),
    (Role.RIG, "rig-2"),
    (Role.STORE, "lab"),
    (Role.STORE, "spare"),
    (Role.USER, "ana"),
    (Role.USER, "bob"),
    (Role.VIEWER, "hall"),
)


class Lab:
    """A folder with an authority, everybody's certificates and the access list; a broker from our configuration."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.authority = Authority.create(folder, lab="tests", days=3650, now=datetime.now(UTC))
        self.authority.issue(identity(Role.BROKER, BROKER), days=30, now=datetime.now(UTC), hosts=[HOST])
        for role, name in PEOPLE:
            self.authority.issue(identity(role, name), days=90, now=datetime.now(UTC))
        self.write_acl()
        self.open_port = free_port()

    def write_acl(self) -> None:
        (self.folder / "acl").write_text(acl_text(one.who for one in held(self.folder)), encoding="utf-8")

    def files(self, name: str) -> TlsFiles:
        return TlsFiles(self.folder / "ca.pem", self.folder / f"{name}.pem", self.folder / f"{name}.key")

    def renew(self, name: str, *, days: int, ago: timedelta = timedelta()) -> None:
        self.authority.renew(name, days=days, now=datetime.now(UTC) - ago)

    def configuration(self, broker: Broker) -> str:
        """The committed text with this host's paths, port and user, and nothing else changed."""
        text = CONFIGURATION.read_text(encoding="utf-8")
        for there, here in (
            ("/var/lib/mosquitto/", f"{broker.folder}/"),
            ("user mosquitto", f"user {getpass.getuser()}"),
            ("log_dest syslog", "log_dest stderr"),
            ("listener 8883", f"listener {broker.port} {HOST}"),
            ("/etc/mosquitto/tipguard/ca.pem", str(self.folder / "ca.pem")),
            ("/etc/mosquitto/tipguard/broker.", f"{self.folder / BROKER}."),
            ("/etc/mosquitto/tipguard/acl", str(self.folder / "acl")),
        ):
            assert there in text, there
            text = text.replace(there, here)
        return text

    def with_open_door(self, broker: Broker) -> str:
        """The same, and beside it a listener where the tests may publish and read everything."""
        door = f"listener {broker.port} {HOST}\n"
        # Before the other: the broker is waited for at that one.
        return self.configuration(broker).replace(
            door, f"listener {self.open_port} {HOST}\nallow_anonymous true\n{door}"
        )

    @contextmanager
    def broker(self, *, open_door: bool = True) -> Iterator[Broker]:
        with Broker(prefer="mosquitto", configuration=self.with_open_door if open_door else self.configuration) as made:
            yield made


class Peer:
    """A client that shares nothing with us but the topics: plain paho, in its own thread."""

    def __init__(self, port: int, context: ssl.SSLContext | None = None, **more: Any) -> None:  # noqa: ANN401 - as paho
        self.received: queue.SimpleQueue[mqtt.MQTTMessage] = queue.SimpleQueue()
        self._answers: queue.SimpleQueue[tuple[int, int]] = queue.SimpleQueue()
        self.ended = threading.Event()
        will, username = more.get("will"), more.get("username")
        client = mqtt.Client(
            CallbackAPIVersion.VERSION2,
            more.get("client_id", ""),
            protocol=MQTTProtocolVersion.MQTTv5,
            reconnect_on_failure=False,
        )
        self.client = client
        if context is not None:
            client.tls_set_context(context)
        if username is not None:
            client.username_pw_set(username, "secret")
        if will is not None:
            client.will_set(will, b"will", 1)
        client.on_connect = lambda _c, _u, _f, reason, _p: self._answers.put((0, reason.value))
        client.on_publish = lambda _c, _u, mid, reason, _p: self._answers.put((mid, reason.value))
        client.on_subscribe = lambda _c, _u, mid, reasons, _p: self._answers.put((mid, reasons[0].value))
        client.on_message = lambda _c, _u, message: self.received.put(message)
        client.on_disconnect = lambda *_: self.ended.set()
        session = more.get("session")
        client.connect(BROKER if context is not None else HOST, port, clean_start=session is None, properties=session)
        client.loop_start()
        assert self._answer(0) == 0

    def _answer(self, mid: int) -> int:
        found, reason = self._answers.get(timeout=WAIT_S)
        assert found == mid
        return reason

    def publish(self, topic: str, payload: bytes = b"x") -> int:
        """Publish at QoS 1 and return the reason code of the acknowledgement."""
        return self._answer(self.client.publish(topic, payload, 1).mid)

    def subscribe(self, topic: str) -> int:
        """Subscribe at QoS 1 and return the reason code."""
        mid = self.client.subscribe(topic, 1)[1]
        assert mid is not None
        return self._answer(mid)

    def until(self, topic: str) -> list[str]:
        """Return the topics of what arrives up to the first message on ``topic``, that one left out."""
        seen = []
        while (message := self.received.get(timeout=WAIT_S)).topic != topic:
            seen.append(message.topic)
        return seen

    def vanish(self) -> None:
        """End as a broken line does: no goodbye, so that the broker publishes the will."""
        found = self.client.socket()
        assert isinstance(found, socket.socket)
        found.shutdown(socket.SHUT_RDWR)
        self.client.loop_stop()

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()
