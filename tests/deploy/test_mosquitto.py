"""deploy/mosquitto on a real Mosquitto: who is let in, and what each may write and read, topic by topic."""

from __future__ import annotations

import contextlib
import re
import socket
import ssl
import subprocess
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import pytest
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from edge.certs.acl import acl_text
from edge.certs.authority import withdraw
from edge.certs.identities import Role, identity
from edge.tls import client_context, why_refused
from hil.broker import HOST, Broker, mosquitto_path
from hil.errors import BenchOptionError
from tests.deploy.lab_broker import BROKER, CONFIGURATION, NOT_AUTHORIZED, WAIT_S, Lab, Peer

pytestmark = [
    pytest.mark.processes,
    pytest.mark.skipif(mosquitto_path() is None, reason="needs mosquitto"),
]

DATA: Final = ("samples", "events", "runs")
SHOWN: Final = (*DATA, "status", "live", "json/status", "json/events", "json/runs")
TOPICS: Final = (
    *(f"tipguard/{rig}/{topic}" for rig in ("rig-1", "rig-2") for topic in SHOWN),
    *(f"tipguard/{rig}/cmd/{user}" for rig in ("rig-1", "rig-2") for user in ("ana", "bob")),
    *(f"tipguard/{rig}/watermark/{store}" for rig in ("rig-1", "rig-2") for store in ("lab", "spare")),
    *(f"tipguard/reply/{user}/{rig}/7" for user in ("ana", "bob") for rig in ("rig-1", "rig-2")),
    "tipguard/rig-1/new-in-a-later-version",
    "tipguard/rig-1",
    "tipguard/rig-1/cmd",
    "tipguard/rig-1/watermark/lab/x",
    "tipguard/store-lab/samples",
    "lab/lamp",
)
# Written down by hand from the contract, as patterns of whole topics: not from the code that writes the list.
MARKS: Final = r"tipguard/[^/]+/watermark/(lab|spare)(/x)?"
EVERY_RIG_S: Final = r"tipguard/[^/]+/(samples|events|runs|status|live|json/\w+)"
MAY_WRITE: Final = {
    "rig-1": r"tipguard/rig-1/(samples|events|runs|status|live|json/\w+)|tipguard/reply/(ana|bob)/rig-1/7",
    "rig-2": r"tipguard/rig-2/(samples|events|runs|status|live|json/\w+)|tipguard/reply/(ana|bob)/rig-2/7",
    "store-lab": r"tipguard/[^/]+/watermark/lab",
    "store-spare": r"tipguard/[^/]+/watermark/spare",
    "user-ana": r"tipguard/[^/]+/cmd/ana",
    "user-bob": r"tipguard/[^/]+/cmd/bob",
    "viewer-hall": r"(?!)",
}
MAY_READ: Final = {
    "rig-1": r"tipguard/rig-1/(samples|events|runs|status|live|json/\w+|cmd(/\w+)?|watermark/\w+(/x)?)",
    "rig-2": r"tipguard/rig-2/(samples|events|runs|status|live|json/\w+|cmd(/\w+)?|watermark/\w+(/x)?)",
    "store-lab": r"tipguard/[^/]+/(samples|events|runs)",
    "store-spare": r"tipguard/[^/]+/(samples|events|runs)",
    "user-ana": rf"{EVERY_RIG_S}|{MARKS}|tipguard/reply/ana/.*",
    "user-bob": rf"{EVERY_RIG_S}|{MARKS}|tipguard/reply/bob/.*",
    "viewer-hall": rf"{EVERY_RIG_S}|{MARKS}",
}
LAST_FOR: Final = {"rig-1": "tipguard/rig-1/cmd/end", "rig-2": "tipguard/rig-2/cmd/end"}
"""Topic of the message after which nothing more comes, for each; tipguard/end/runs for all others."""


def version() -> str:
    """Mosquitto's, in words; it tells with its help, and ends with 3."""
    path = mosquitto_path()
    said = "" if path is None else subprocess.run([path, "-h"], capture_output=True, text=True, check=False).stdout
    return said.partition("version ")[2].split("\n")[0].strip()


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    return Lab(tmp_path_factory.mktemp("lab"))


@pytest.fixture(scope="module")
def broker(lab: Lab) -> Iterator[Broker]:
    with lab.broker() as started:
        yield started


@pytest.fixture
def own_lab(tmp_path: Path) -> Lab:
    """For tests that change it."""
    return Lab(tmp_path / "lab")


@contextlib.contextmanager
def peer(lab: Lab, broker: Broker, name: str, **more: str) -> Iterator[Peer]:
    made = Peer(broker.port, lab.files(name).context(), **more)
    with contextlib.closing(made):
        yield made


@contextlib.contextmanager
def anybody(lab: Lab) -> Iterator[Peer]:
    with contextlib.closing(Peer(lab.open_port)) as made:
        yield made


# ----------------------------------------------------------------------------------------- who may do what


@pytest.mark.parametrize("name", MAY_WRITE)
def test_everybody_writes_their_own_topics_and_is_told_of_every_refusal(lab: Lab, broker: Broker, name: str) -> None:
    with peer(lab, broker, name) as made:
        refused = {topic for topic in TOPICS if made.publish(topic) == NOT_AUTHORIZED}
        # The connection outlives refusals: a rig denied one topic still sends the others.
        assert not made.ended.is_set()
    assert refused == {topic for topic in TOPICS if not re.fullmatch(MAY_WRITE[name], topic)}


@pytest.mark.parametrize("name", MAY_READ)
def test_everybody_gets_what_they_may_read_whatever_they_ask_for(lab: Lab, broker: Broker, name: str) -> None:
    last = LAST_FOR.get(name, "tipguard/end/runs")
    with peer(lab, broker, name) as made, anybody(lab) as speaker:
        # Granted, and filtered at delivery: Mosquitto 2.0 does not tell a subscriber.
        assert made.subscribe("#") < 0x80
        for topic in (*TOPICS, last):
            assert speaker.publish(topic) < 0x80
        assert sorted(made.until(last)) == sorted(topic for topic in TOPICS if re.fullmatch(MAY_READ[name], topic))


def test_stores_share_a_subscription(lab: Lab, broker: Broker) -> None:
    with peer(lab, broker, "store-lab") as one, peer(lab, broker, "store-lab") as two, anybody(lab) as speaker:
        for made in (one, two):
            assert made.subscribe("$share/lab/tipguard/+/samples") < 0x80
            assert made.subscribe("tipguard/+/runs") < 0x80
        for number in range(20):
            speaker.publish(f"tipguard/rig-{number}/samples")
        speaker.publish("tipguard/end/runs")
        shares = one.until("tipguard/end/runs"), two.until("tipguard/end/runs")
    assert sorted(shares[0] + shares[1]) == sorted(f"tipguard/rig-{number}/samples" for number in range(20))
    assert all(shares)


def test_a_user_name_in_the_connection_does_not_count(lab: Lab, broker: Broker) -> None:
    with peer(lab, broker, "rig-1", username="rig-2") as made:
        assert made.publish("tipguard/rig-2/samples") == NOT_AUTHORIZED
        assert made.publish("tipguard/rig-1/samples") < 0x80


@pytest.mark.parametrize(("rig", "comes"), [("rig-1", True), ("rig-2", False)])
def test_nobody_leaves_a_will_where_they_may_not_write(lab: Lab, broker: Broker, rig: str, comes: bool) -> None:
    with anybody(lab) as listener:
        listener.subscribe("tipguard/#")
        made = Peer(broker.port, lab.files("rig-1").context(), will=f"tipguard/{rig}/status")
        made.vanish()
        # A connection and its end, of one whose will is known to come, after it.
        other = Peer(broker.port, lab.files("rig-1").context(), will="tipguard/rig-1/json/status")
        other.vanish()
        assert listener.until("tipguard/rig-1/json/status") == ([f"tipguard/{rig}/status"] if comes else [])


# ----------------------------------------------------------------------------------------- who gets in at all


CONNECT: Final = bytes.fromhex("100e 0004 4d515454 05 02 003c 00 0001 78".replace(" ", ""))
"""MQTT 5, clean start, 60 s, client id x."""


def let_in(port: int, context: ssl.SSLContext | None) -> bool:
    """Whether the broker welcomes somebody. With TLS 1.3 a client hears of its refusal only when it reads."""
    with contextlib.ExitStack() as stack:
        made = stack.enter_context(socket.create_connection((HOST, port), WAIT_S))
        try:
            if context is not None:
                made = stack.enter_context(context.wrap_socket(made, server_hostname=BROKER))
            made.sendall(CONNECT)
            answer = made.recv(4)
        except (ssl.SSLError, ConnectionError):
            return False
    return len(answer) == 4 and answer[0] == 0x20 and answer[3] == 0


def told(port: int, context: ssl.SSLContext) -> str:
    """What the broker has against us, in our words: heard by one who says nothing first."""
    with (
        socket.create_connection((HOST, port), WAIT_S) as raw,
        context.wrap_socket(raw, server_hostname=BROKER) as made,
        pytest.raises(ssl.SSLError),
    ):
        made.recv(1)
    return why_refused(context, OSError("timed out"))


def test_a_certificate_of_the_lab_opens(lab: Lab, broker: Broker) -> None:
    assert let_in(broker.port, lab.files("viewer-hall").context())


def test_without_a_certificate_the_door_is_shut(lab: Lab, broker: Broker) -> None:
    context = client_context(lab.folder / "ca.pem")
    assert not let_in(broker.port, context)
    assert "wants a certificate of ours" in told(broker.port, context)


def test_without_tls_the_door_is_shut(broker: Broker) -> None:
    assert not let_in(broker.port, None)


def test_tls_1_2_is_refused(lab: Lab, broker: Broker) -> None:
    context = lab.files("viewer-hall").context()
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_2
    assert not let_in(broker.port, context)


def test_a_certificate_of_another_authority_is_refused(lab: Lab, broker: Broker, own_lab: Lab) -> None:
    context = lab.files("viewer-hall").context()
    other = own_lab.files("viewer-hall")
    assert other.cert_file is not None
    context.load_cert_chain(other.cert_file, other.key_file)
    assert not let_in(broker.port, context)
    assert "not of the broker's authority" in told(broker.port, context)


def test_the_broker_s_own_certificate_does_not_open(lab: Lab, broker: Broker) -> None:
    context = lab.files(BROKER).context()
    assert not let_in(broker.port, context)
    assert "not one for clients" in told(broker.port, context)


def test_an_expired_certificate_is_refused_and_a_renewed_one_opens(own_lab: Lab) -> None:
    own_lab.renew("viewer-hall", days=1, ago=timedelta(days=1, seconds=1))
    with own_lab.broker() as broker:
        context = own_lab.files("viewer-hall").context()
        assert not let_in(broker.port, context)
        assert "our certificate has expired" in told(broker.port, context)
        own_lab.renew("viewer-hall", days=1)
        assert let_in(broker.port, own_lab.files("viewer-hall").context())


def test_three_lines_are_what_keeps_strangers_out(own_lab: Lab) -> None:
    def text(broker: Broker) -> str:
        lines = own_lab.configuration(broker).replace("allow_anonymous false", "allow_anonymous true")
        for name in ("require_certificate", "use_identity_as_username"):
            assert f"{name} true" in lines
            lines = lines.replace(f"{name} true", f"{name} false")
        return lines

    with Broker(prefer="mosquitto", configuration=text) as broker:
        assert let_in(broker.port, client_context(own_lab.folder / "ca.pem"))


@pytest.mark.parametrize(("name", "why"), [("rig-1", "unsuitable certificate purpose"), ("elsewhere", "localhost")])
def test_a_broker_with_a_rig_s_certificate_or_another_name_is_not_believed(own_lab: Lab, name: str, why: str) -> None:
    own_lab.authority.issue(identity(Role.BROKER, "elsewhere"), days=1, now=datetime.now(UTC))

    def text(broker: Broker) -> str:
        return own_lab.configuration(broker).replace(f"{own_lab.folder / BROKER}.", f"{own_lab.folder / name}.")

    with Broker(prefer="mosquitto", configuration=text) as broker, pytest.raises(ssl.SSLError, match=why):
        shown(own_lab, broker)


# ----------------------------------------------------------------------------------------- while it runs


def test_a_new_list_and_a_renewed_certificate_count_after_a_reload(own_lab: Lab) -> None:
    with own_lab.broker() as broker, peer(own_lab, broker, "user-ana") as ana, anybody(own_lab) as witness:
        assert ana.publish("tipguard/rig-1/cmd/ana") < 0x80
        before = shown(own_lab, broker)
        withdraw(own_lab.folder, "user-ana")
        own_lab.write_acl()
        own_lab.renew(BROKER, days=31)
        broker.reload()
        # The signal is taken between two turns of its loop; each acknowledgement is one.
        until(lambda: ana.publish("tipguard/rig-1/cmd/ana") == NOT_AUTHORIZED, witness)
        assert not ana.ended.is_set()
        until(lambda: shown(own_lab, broker) != before, witness)


def shown(lab: Lab, broker: Broker) -> bytes | None:
    """The certificate the broker shows."""
    context = lab.files("viewer-hall").context()
    with (
        socket.create_connection((HOST, broker.port), WAIT_S) as raw,
        context.wrap_socket(raw, server_hostname=BROKER) as made,
    ):
        return made.getpeercert(binary_form=True)


def until(reached: Callable[[], bool], witness: Peer) -> None:
    """Try at most 1000 turns of the broker's loop."""
    for _ in range(1000):
        if reached():
            return
        assert witness.publish("lab/turn") < 0x80
    raise AssertionError("not reached")


def test_limits_precede_the_listener_and_none_is_zero() -> None:
    lines = [line.split() for line in CONFIGURATION.read_text(encoding="utf-8").splitlines()]
    names = [words[0] for words in lines if words and words[0] != "#"]
    assert names[0] == "per_listener_settings"
    for name in ("max_queued_messages", "max_queued_bytes", "max_packet_size", "persistent_client_expiration"):
        assert names.index(name) < names.index("listener")
    assert ["max_queued_messages", "0"] not in lines


@pytest.mark.skipif(version() != "2.0.11", reason="a fault of Mosquitto 2.0.11 only; this is another")
def test_a_queue_without_limit_would_cost_the_connection_at_every_refusal(own_lab: Lab) -> None:
    def text(broker: Broker) -> str:
        return re.sub(r"max_queued_messages \d+", "max_queued_messages 0", own_lab.configuration(broker))

    with Broker(prefer="mosquitto", configuration=text) as broker, peer(own_lab, broker, "viewer-hall") as made:
        made.client.publish("lab/lamp", b"x", 1)
        assert made.ended.wait(WAIT_S)


def test_what_waits_for_an_absent_store_is_more_than_the_default_of_1000_and_outlives_a_restart(own_lab: Lab) -> None:
    session = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]  # paho annotates no constructor here
    session.SessionExpiryInterval = 600
    context = own_lab.files("store-lab").context()
    with own_lab.broker() as broker:
        with contextlib.closing(Peer(broker.port, context, client_id="store", session=session)) as store:
            assert store.subscribe("tipguard/+/samples") < 0x80
        with anybody(own_lab) as speaker:
            for _ in range(1500):
                assert speaker.publish("tipguard/rig-1/samples") == 0
            speaker.publish("tipguard/rig-2/samples")
        broker.stop()
        broker.start()
        with contextlib.closing(Peer(broker.port, context, client_id="store", session=session)) as store:
            assert store.until("tipguard/rig-2/samples") == ["tipguard/rig-1/samples"] * 1500


@pytest.mark.parametrize("line", ["# use_username_as_clientid true", "use_username_as_clientid true"])
def test_throwing_off_another_by_its_client_id_ends_with_the_line_that_says_so(own_lab: Lab, line: str) -> None:
    def text(broker: Broker) -> str:
        lines = own_lab.configuration(broker)
        assert "\n# use_username_as_clientid true\n" in lines
        return lines.replace("\n# use_username_as_clientid true\n", f"\n{line}\n")

    with (
        Broker(prefer="mosquitto", configuration=text) as broker,
        peer(own_lab, broker, "rig-1", client_id="tipguard-rig-1") as rig,
        peer(own_lab, broker, "viewer-hall", client_id="tipguard-rig-1"),
    ):
        if line.startswith("#"):
            assert rig.ended.wait(WAIT_S)
        else:
            assert rig.publish("tipguard/rig-1/samples") < 0x80
            assert not rig.ended.is_set()


def test_a_broker_takes_lines_or_a_whole_configuration() -> None:
    with pytest.raises(BenchOptionError, match="one of the two"):
        Broker(prefer="mosquitto", mosquitto_lines="log_type all", configuration=lambda broker: "")


# ----------------------------------------------------------------------------------------- the committed list


def test_the_committed_list_is_what_the_verb_writes_for_its_four_names() -> None:
    people = ((Role.RIG, "rig-1"), (Role.STORE, "lab"), (Role.USER, "ana"), (Role.VIEWER, "hall"))
    text = (CONFIGURATION.parent / "acl").read_text(encoding="utf-8")
    assert text == acl_text(identity(role, name) for role, name in people)
