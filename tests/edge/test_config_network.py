"""The sections about the network: what belongs together, and what is refused with its reason."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from edge.config import Config, load, template
from edge.errors import ConfigError

Load = Callable[[str], Config]


@pytest.fixture
def loaded(tmp_path: Path) -> Load:
    """Load the template with its [uplink] replaced by this text."""
    head, _, _ = template(path="/dev/x", serial_number="1", series_ohm=1000.0).partition("[uplink]")

    def read(text: str) -> Config:
        file = tmp_path / "rig.toml"
        file.write_text(head + text, encoding="utf-8")
        return load(file)

    return read


def test_nothing_said_is_this_computer_no_store_and_nobody(loaded: Load) -> None:
    config = loaded("")
    assert (config.uplink.host, config.uplink.port, config.uplink.plain) == ("127.0.0.1", 1883, "loopback")
    assert config.outbox.stores == ()
    assert config.outbox.policy == "pause"
    assert config.remote.users == {}
    assert not config.remote.allow_energise


@pytest.mark.parametrize(
    ("text", "port"), [("", 1883), ('ca_file = "ca.pem"', 8883), ('ca_file = "ca.pem"\nport = 1', 1)]
)
def test_the_usual_port_goes_with_the_authority(loaded: Load, text: str, port: int) -> None:
    assert loaded(f"[uplink]\n{text}\n").uplink.port == port


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost"])
def test_this_computer_needs_no_authority(loaded: Load, host: str) -> None:
    assert loaded(f'[uplink]\nhost = "{host}"\n').uplink.host == host


def test_another_computer_needs_one_or_the_words(loaded: Load) -> None:
    with pytest.raises(ConfigError, match=r"broker\.lab.*plain MQTT goes to this computer only"):
        loaded('[uplink]\nhost = "broker.lab"\n')
    assert loaded('[uplink]\nhost = "broker.lab"\nca_file = "ca.pem"\n').uplink.ca_file == "ca.pem"
    assert loaded('[uplink]\nhost = "broker.lab"\nplain = "anywhere"\n').uplink.plain == "anywhere"


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ('ca_file = "ca.pem"\ncert_file = "c.pem"', "cert_file and key_file belong together"),
        ('ca_file = "ca.pem"\nkey_file = "c.key"', "cert_file and key_file belong together"),
        ('cert_file = "c.pem"\nkey_file = "c.key"', "cert_file without ca_file"),
        ('plain = "everywhere"', "'loopback' or 'anywhere'"),
        ("metrics_port = 0", "greater than or equal to 1"),
    ],
)
def test_half_of_what_belongs_together_is_refused(loaded: Load, text: str, names: str) -> None:
    with pytest.raises(ConfigError, match=names) as caught:
        loaded(f"[uplink]\n{text}\n")
    assert "uplink" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ('stores = ["lab", "lab"]', "a name twice"),
        ('stores = ["Lab"]', "pattern"),
        ('stores = "lab"', "tuple"),
        ("budget_bytes = 1000", "1048576"),
        ('policy = "drop"', "'pause' or 'thin'"),
        ("keep_after_watermark_s = -1", "greater than or equal to 0"),
        ("redrive_s = 0.5", "greater than or equal to 1"),
        ("keep_s = 1", "expected one of: budget_bytes, directory"),
    ],
)
def test_an_outbox_that_cannot_be_is_refused(loaded: Load, text: str, names: str) -> None:
    with pytest.raises(ConfigError, match=names) as caught:
        loaded(f"[outbox]\n{text}\n")
    assert "outbox" in str(caught.value)


def test_users_and_their_verbs(loaded: Load) -> None:
    remote = loaded('[remote]\nallow_energise = true\nusers = { ana = ["status", "stop"], bo = [] }\n').remote
    assert remote.users == {"ana": ("status", "stop"), "bo": ()}
    assert remote.allow_energise


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ('users = { ana = ["energise"] }', "'status', 'stop', 'run' or 'rearm'"),
        ('users = { "ana/+" = ["stop"] }', "pattern"),
        ('users = ["ana"]', "dictionary"),
        ("allow_energise = 1", "boolean"),
    ],
)
def test_a_user_that_no_topic_can_name_is_refused(loaded: Load, text: str, names: str) -> None:
    with pytest.raises(ConfigError, match=names):
        loaded(f"[remote]\n{text}\n")
