"""What ``tipguard check`` says of the broker and of the stores: through the broker of deploy/mosquitto."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from edge.config import Config
from edge.controller.checkup_broker import check_broker, check_stores
from hil.broker import HOST, Broker, free_port, mosquitto_path
from hil.rig import config_for
from tests.deploy.lab_broker import BROKER, Lab

needs_mosquitto = pytest.mark.skipif(mosquitto_path() is None, reason="needs mosquitto")


def rig(port: int, **uplink: Any) -> Config:  # noqa: ANN401 - keys of [uplink]
    return config_for(series_ohm=1000.0, rig="rig-1", uplink={"host": BROKER, "port": port, **uplink})


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(tmp_path / "lab")


@pytest.fixture
def broker(lab: Lab) -> Iterator[Broker]:
    with lab.broker() as made:
        yield made


def with_files(port: int, name: str = "rig-1") -> Config:
    return rig(port, ca_file="ca.pem", cert_file=f"{name}.pem", key_file=f"{name}.key")


def test_nobody_there(tmp_path: Path) -> None:
    found = check_broker(rig(free_port()), tmp_path)
    assert (found.grade, "refused" in found.text, "frames wait in the outbox" in found.text) == ("warn", True, True)


@pytest.mark.processes
@needs_mosquitto
def test_without_tls_the_port_is_looked_at_and_no_more(lab: Lab, broker: Broker) -> None:
    found = check_broker(rig(lab.open_port), lab.folder)
    assert (found.grade, found.text) == ("ok", f"{BROKER}:{lab.open_port} accepts connections")


@pytest.mark.processes
@needs_mosquitto
def test_the_rig_s_certificate_is_tried(lab: Lab, broker: Broker) -> None:
    found = check_broker(with_files(broker.port), lab.folder)
    assert (found.grade, "takes this rig's certificate" in found.text) == ("ok", True), found


@pytest.mark.processes
@needs_mosquitto
@pytest.mark.parametrize("days", [90, 2])
def test_a_certificate_that_has_ended_is_refused_in_the_broker_s_own_words(lab: Lab, broker: Broker, days: int) -> None:
    lab.renew("rig-1", days=days, ago=timedelta(days=3))
    found = check_broker(with_files(broker.port), lab.folder)
    assert (found.grade, "has expired" in found.text) == (("warn", True) if days == 2 else ("ok", False)), found


@pytest.mark.processes
@needs_mosquitto
def test_without_a_certificate_of_ours_the_broker_says_that_it_wants_one(lab: Lab, broker: Broker) -> None:
    found = check_broker(rig(broker.port, ca_file="ca.pem"), lab.folder)
    assert (found.grade, "wants a certificate of ours" in found.text) == ("warn", True), found


def test_a_broker_that_asks_for_no_certificate_has_taken_none(lab: Lab) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(lab.folder / f"{BROKER}.pem", lab.folder / f"{BROKER}.key")

    def serve(server: socket.socket) -> None:
        with server.accept()[0] as plain, context.wrap_socket(plain, server_side=True) as secure:
            assert secure.recv(1) == b"", "nothing is asked of it"

    with socket.create_server((HOST, 0)) as server, ThreadPoolExecutor() as pool:
        served = pool.submit(serve, server)
        found = check_broker(rig(server.getsockname()[1], ca_file="ca.pem"), lab.folder)
        served.result(timeout=10)
    assert (found.grade, found.text.endswith("is of the lab's authority")) == ("ok", True), found


@pytest.mark.processes
@needs_mosquitto
def test_another_authority_s_broker_is_refused(broker: Broker, tmp_path: Path) -> None:
    found = check_broker(with_files(broker.port), Lab(tmp_path / "other").folder)
    assert (found.grade, "certificate verify failed" in found.text.lower()) == ("warn", True), found


@pytest.mark.processes
@needs_mosquitto
def test_another_rig_s_certificate_is_named_before_the_broker_sees_it(lab: Lab, broker: Broker) -> None:
    found = check_broker(with_files(broker.port, "rig-2"), lab.folder)
    assert (found.grade, "made for 'rig-2', not for the rig 'rig-1'" in found.text) == ("warn", True), found


@pytest.mark.processes
@needs_mosquitto
def test_files_that_only_the_service_has_are_said_to_be_untried(lab: Lab, broker: Broker, tmp_path: Path) -> None:
    found = check_broker(with_files(broker.port), tmp_path)
    assert found.grade == "warn"
    assert f"TLS was not tried: no {tmp_path}/ca.pem, no {tmp_path}/rig-1.pem, no {tmp_path}/rig-1.key" in found.text


def test_a_rig_that_waits_for_no_store_is_told_so() -> None:
    found = check_stores(config_for(series_ohm=1000.0))
    assert (found.grade, 'stores = ["lab"]' in found.text) == ("warn", True)


@pytest.mark.parametrize(("stores", "said"), [(["lab"], "until it has"), (["lab", "spare"], "until all of them have")])
def test_the_stores_it_waits_for_are_named(stores: list[str], said: str) -> None:
    found = check_stores(config_for(series_ohm=1000.0, outbox={"stores": stores}))
    assert (found.grade, said in found.text, found.text.startswith(", ".join(stores))) == ("ok", True, True)
