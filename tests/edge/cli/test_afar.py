"""Where a verb goes: to this computer's rig, or over a broker to another; and what half an address is told."""

from __future__ import annotations

import getpass
import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from edge.cli.afar import CHOSEN, Afar, afar
from edge.cli.app import build_app
from edge.errors import ConfigError
from edge.tls import PLAIN_PORT, TLS_PORT
from hil.broker import free_port

VERBS = (("status",), ("stop",), ("rearm",))


@pytest.fixture(autouse=True)
def _place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path / "run"))
    for name in ("TIPGUARD_VIA", "TIPGUARD_CERTS"):
        monkeypatch.delenv(name, raising=False)


def tipguard(*words: str) -> Result:
    return CliRunner().invoke(build_app(with_hil=False, with_demo=False), list(words))


def to(via: str, **other: Any) -> tuple[str, int]:  # noqa: ANN401 - afar's own
    values = {"rig": "rig-1", "user": None, "certs": None, "password": None, **other}
    found = afar(via=via, **values)
    assert found is not None
    return found.host, found.port


@pytest.mark.parametrize(
    ("via", "expected"),
    [
        ("broker.lab", ("broker.lab", PLAIN_PORT)),
        ("broker.lab:", ("broker.lab", PLAIN_PORT)),
        ("broker.lab:1884", ("broker.lab", 1884)),
        ("::1", ("::1", PLAIN_PORT)),
        ("[::1]", ("::1", PLAIN_PORT)),
        ("[::1]:1884", ("::1", 1884)),
    ],
)
def test_an_address_is_a_host_with_or_without_a_port(via: str, expected: tuple[str, int]) -> None:
    assert to(via) == expected


def test_with_certificates_the_port_is_that_of_tls() -> None:
    assert to("broker.lab", certs=Path("certs")) == ("broker.lab", TLS_PORT)


@pytest.mark.parametrize("via", [":1883", "broker:x", "broker:0", "broker:65536", "broker:-1", "[::1]:x", "["])
def test_what_is_no_address_is_told(via: str) -> None:
    with pytest.raises(ConfigError, match="expected HOST or HOST:PORT"):
        to(via)


def test_who_asks_is_who_is_named_or_who_types() -> None:
    for user, expected in (("ana", "ana"), (None, getpass.getuser())):
        found = afar("rig-1", "host", user, None, None)
        assert isinstance(found, Afar)
        assert found.user == expected


def test_without_a_rig_the_way_in_the_environment_is_not_meant(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIPGUARD_VIA", "broker.lab")
    for verb in (*VERBS, ("run", "iv")):
        done = tipguard(*verb)
        assert "rig.toml: No such file" in done.stderr, (verb, done.stderr)
    assert CHOSEN.get() is None


@pytest.mark.parametrize("verb", [*VERBS, ("run",)])
def test_half_an_address_is_no_way(verb: tuple[str, ...]) -> None:
    more = ("iv",) if verb == ("run",) else ()
    done = tipguard(*verb, "--rig", "rig-1", *more)
    assert (done.exit_code, "expected --via HOST[:PORT]" in done.stderr) == (2, True)
    done = tipguard(*verb, "--as", "ana", *more)
    assert (done.exit_code, "expected --rig NAME" in done.stderr) == (2, True)


@pytest.mark.parametrize("verb", [*VERBS, ("run", "iv")])
def test_no_broker_is_told_in_one_line(verb: tuple[str, ...]) -> None:
    way = ("--rig", "rig-1", "--via", f"127.0.0.1:{free_port()}")
    words = ("run", *way, "iv") if verb[0] == "run" else (*verb, *way)
    done = tipguard(*words, "--json")
    assert done.exit_code == 1
    assert json.loads(done.stdout)["error"]["reason"] == "NoBrokerError"
    assert done.stderr.count("\n") == 1
    assert "is it running there?" in done.stderr


def test_another_computer_is_not_talked_to_in_the_clear() -> None:
    done = tipguard("stop", "--rig", "rig-1", "--via", "broker.lab")
    assert done.exit_code == 2
    assert "MQTT without TLS goes to this computer only" in done.stderr


def test_certificates_that_are_not_there_are_named(tmp_path: Path) -> None:
    done = tipguard("stop", "--rig", "rig-1", "--via", "broker.lab", "--certs", str(tmp_path))
    assert done.exit_code == 2
    assert "ca.pem" in done.stderr
