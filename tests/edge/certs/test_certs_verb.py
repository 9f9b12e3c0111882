"""`tipguard certs` as a lab engineer types it, and where the files go then."""

from __future__ import annotations

import json
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from edge.certs.authority import Authority
from edge.certs.identities import Role, identity
from edge.cli.app import build_app
from edge.cli.processes import uplink_settings
from edge.cli.watch import chosen
from edge.client import NoBrokerError, Subscriber
from edge.config import load, template
from edge.errors import ConfigError
from edge.tls import TlsFiles
from edge.uplink.settings import UplinkSettings

APP = build_app(with_hil=False, with_demo=False)


def certs(*arguments: str | Path) -> Result:
    return CliRunner().invoke(APP, ["certs", *map(str, arguments)])


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lab as the verb makes it."""
    folder = tmp_path_factory.mktemp("lab") / "certs"
    assert certs("init", "--dir", folder, "--lab", "Bench").exit_code == 0
    for who in (("broker", "broker.lab", "--also", "10.0.0.1"), ("rig", "rig-1"), ("user", "ana")):
        assert certs("issue", *who, "--dir", folder).exit_code == 0
    return folder


@pytest.fixture
def lab(first: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return shutil.copytree(first, tmp_path / "certs")


def test_a_lab_is_made_listed_and_renewed(lab: Path) -> None:
    listed = certs("list", "--dir", lab, "--json")
    assert listed.exit_code == 0
    rows = json.loads(listed.stdout)["certificates"]
    assert [(row["name"], row["days_left"]) for row in rows] == [
        ("ca", 3649),
        ("rig-1", 729),
        ("user-ana", 729),
        ("broker.lab", 729),
    ]
    assert certs("renew", "rig-1", "ca", "--days", "3000", "--dir", lab).exit_code == 0
    assert "rig-1                    rig " in certs("list", "--dir", lab).stdout


def test_a_daily_job_hears_of_what_ends_soon(lab: Path) -> None:
    Authority.open(lab).issue(identity(Role.RIG, "rig-2"), days=9, now=datetime.now(UTC))
    listed = certs("list", "--dir", lab)
    assert (listed.exit_code, "tipguard certs renew rig-2" in listed.stderr) == (1, True)
    assert certs("list", "--dir", lab, "--within-days", "5").exit_code == 0
    assert certs("renew", "rig-2", "--dir", lab).exit_code == 0
    assert certs("list", "--dir", lab).exit_code == 0
    Authority.open(lab).renew("rig-2", days=9, now=datetime.now(UTC) - timedelta(days=10))
    listed = certs("list", "--dir", lab, "--within-days", "0")
    assert (listed.exit_code, "EXPIRED" in listed.stdout) == (1, True)


def test_the_access_list_follows_the_certificates(lab: Path, tmp_path: Path) -> None:
    assert certs("acl", "--dir", lab).stdout.count("\nuser ") == 2
    assert certs("withdraw", "user-ana", "--dir", lab).exit_code == 0
    assert certs("acl", "--dir", lab, "-o", tmp_path / "acl").exit_code == 0
    text = (tmp_path / "acl").read_text(encoding="utf-8")
    assert "user rig-1" in text
    assert "ana" not in text


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["init"], 1, "there is an authority already"),
        (["issue", "rig", "rig-1"], 1, "renew rig-1"),
        (["issue", "rig", "Rig 1"], 2, "lower-case"),
        (["issue", "user", "user-bob"], 2, "without its role: bob"),
        (["issue", "broker", "tcp://x:1883"], 2, "without port"),
        (["issue", "rig", "rig-3", "--also", "x"], 2, "--also is for brokers"),
        (["renew", "nobody"], 1, "nobody.pem"),
        (["withdraw", "ca"], 1, "begin anew"),
        (["withdraw", "nobody"], 1, "nobody.pem"),
        (["issue", "rig", "rig-4", "--days", "3651"], 2, "3650"),
    ],
)
def test_mistakes_are_refused_in_a_line(lab: Path, arguments: list[str], code: int, told: str) -> None:
    before = sorted(file.name for file in lab.iterdir())
    done = certs(*arguments, "--dir", lab)
    assert (done.exit_code, told in done.stderr) == (code, True), done.stderr
    assert sorted(file.name for file in lab.iterdir()) == before


def test_without_the_package_it_says_how_to_get_it(lab: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    done = certs("list", "--dir", lab)
    assert (done.exit_code, "`make setup` installs it" in done.stderr) == (1, True)


# ----------------------------------------------------------------------------------------- in a rig's file


def rig_file(folder: Path, *lines: str) -> Path:
    text = template(path="/dev/ttyUSB0", serial_number="1", series_ohm=1e4)
    text = text.replace(
        '[uplink]\nhost = "127.0.0.1"\nport = 1883\n', "[uplink]\n" + "".join(f"{one}\n" for one in lines)
    )
    path = folder / "rig.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_rig_s_file_leads_to_files_beside_it_or_to_credentials(
    lab: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = load(rig_file(lab, 'host = "broker.lab"', "port = 8883", 'ca_file = "ca.pem"'))
    rig = config.rig.id
    assert certs("issue", "rig", rig, "--dir", lab).exit_code == (1 if rig == "rig-1" else 0)
    lines = ('host = "broker.lab"', "port = 8883", 'ca_file = "ca.pem"')
    path = rig_file(lab, *lines, f'cert_file = "{rig}.pem"', f'key_file = "{rig}.key"', 'password_file = "password"')
    (lab / "password").write_text("beside\n", encoding="utf-8")
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    made = uplink_settings(load(path), path.parent)
    assert made.tls == TlsFiles(lab / "ca.pem", lab / f"{rig}.pem", lab / f"{rig}.key")
    assert made.password == "beside"  # noqa: S105
    credentials = tmp_path / "credentials"
    credentials.mkdir()
    (credentials / "password").write_text("from systemd\n", encoding="utf-8")
    (lab / f"{rig}.key").rename(credentials / f"{rig}.key")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(credentials))
    made = uplink_settings(load(path), path.parent)
    assert made.tls == TlsFiles(lab / "ca.pem", lab / f"{rig}.pem", credentials / f"{rig}.key")
    assert made.password == "from systemd"  # noqa: S105


def test_the_uplink_does_not_start_with_another_s_certificate_or_none(lab: Path) -> None:
    lines = ('host = "broker.lab"', "port = 8883", 'ca_file = "ca.pem"')
    path = rig_file(lab, *lines, 'cert_file = "user-ana.pem"', 'key_file = "user-ana.key"')
    with pytest.raises(ConfigError, match="made for 'user-ana'"):
        uplink_settings(load(path), path.parent)
    path = rig_file(lab, *lines, 'cert_file = "absent.pem"', 'key_file = "absent.key"')
    with pytest.raises(ConfigError, match=r"absent\.pem: No such file"):
        uplink_settings(load(path), path.parent)


# ----------------------------------------------------------------------------------------- MQTT in the clear


def test_the_uplink_refuses_the_clear_to_another_computer() -> None:
    with pytest.raises(ConfigError, match="anywhere"):
        UplinkSettings("rig-1", Path("ring"), host="broker.lab")
    UplinkSettings("rig-1", Path("ring"), host="broker.lab", plain="anywhere")
    UplinkSettings("rig-1", Path("ring"), host="broker.lab", tls_ca_file=Path("ca.pem"))


def test_a_subscriber_refuses_it_too(lab: Path) -> None:
    with pytest.raises(ConfigError, match="anywhere"):
        Subscriber("broker.lab")
    Subscriber("broker.lab", plain="anywhere")
    Subscriber("broker.lab", ca_file=lab / "ca.pem")
    with pytest.raises(ConfigError, match="ca_file"):
        Subscriber("broker.lab", ca_file=lab / "absent.pem")


async def test_files_that_vanish_later_are_a_broker_that_cannot_be_reached(lab: Path) -> None:
    subscriber = Subscriber("127.0.0.1", 1, ca_file=lab / "ca.pem")
    (lab / "ca.pem").unlink()
    with pytest.raises(NoBrokerError, match=r"ca\.pem: No such file"):
        await subscriber.__aenter__()


def test_watch_takes_the_files_from_the_line_or_from_the_rig_s(lab: Path) -> None:
    with pytest.raises(ConfigError, match="anywhere"):
        chosen([], None, "broker.lab", None)
    assert chosen([], None, "broker.lab", None, plain=True)[0].port == 1883
    own = TlsFiles(lab / "ca.pem", lab / "user-ana.pem", lab / "user-ana.key")
    broker, _ = chosen([], None, "broker.lab", None, tls=own)
    assert (broker.port, broker.tls) == (8883, own)
    path = rig_file(lab, 'host = "broker.lab"', "port = 8883", 'ca_file = "ca.pem"')
    broker, _ = chosen([str(path)], None, None, None)
    assert (broker.host, broker.port, broker.tls) == ("broker.lab", 8883, TlsFiles(lab / "ca.pem"))
    broker, _ = chosen([], path, None, None, tls=own)
    assert broker.tls == own
