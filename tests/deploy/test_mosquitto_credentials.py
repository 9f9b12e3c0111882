"""Secrets of the uplink and of a store as systemd hands them over: from /etc/credstore, in the units as installed, on a
real systemd."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from edge.certs.authority import Authority
from edge.certs.identities import Role, identity
from edge.config import template
from hil.errors import BenchFaultError
from hil.processes import wait_for
from tests.deploy.own_systemd import OwnSystemd, missing

LONG = os.environ.get("TIPGUARD_LONG") == "1"
LACKS = missing() if LONG else None
pytestmark = [
    pytest.mark.processes,
    pytest.mark.timeout(240),
    pytest.mark.skipif(not LONG, reason="a real systemd with real units: TIPGUARD_LONG=1"),
    pytest.mark.skipif(LACKS is not None, reason=f"needs a systemd of its own as process 1, and there is no {LACKS}"),
]

UPLINK = "tipguard-uplink.service"
LOG = "/run/bench/uplink.log"
UNITS = {f"{UPLINK}.d/bench.conf": f"[Service]\nStandardOutput=append:{LOG}\nStandardError=append:{LOG}\n"}
PLAIN = '[uplink]\nhost = "127.0.0.1"\nport = 1883\n'
SECURE = """\
[uplink]
host = "broker.lab"
port = 8883
ca_file = "ca.pem"
cert_file = "uplink.pem"
key_file = "uplink.key"
"""


@pytest.fixture(scope="module")
def systemd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnSystemd]:
    with OwnSystemd(tmp_path_factory.mktemp("systemd"), UNITS) as made:
        done = made.call("bash", "/run/src/deploy/install.sh", "--no-packages")
        assert done.returncode == 0, done.stderr
        yield made


def write(systemd: OwnSystemd, path: str, text: str, mode: str) -> None:
    done = systemd.call(
        "sh", "-c", f"umask 077; mkdir -p $(dirname {path}); cat >{path} <<'END'\n{text}\nEND\nchmod {mode} {path}"
    )
    assert done.returncode == 0, done.stderr


def start(systemd: OwnSystemd, section: str) -> dict[str, str]:
    """Start the uplink with this section in its file, and return what the manager says once it has settled."""
    text = template(path="/dev/ttyUSB0", serial_number="1", series_ohm=1000.0)
    assert PLAIN in text
    systemd.call("systemctl", "stop", UPLINK)
    systemd.call("systemctl", "reset-failed", UPLINK)
    write(systemd, "/etc/tipguard/rig.toml", text.replace(PLAIN, section), "644")
    systemd.call("systemctl", "start", UPLINK)

    def settled() -> dict[str, str] | None:
        shown = systemd.show(UPLINK, "ActiveState", "MainPID", "ExecMainStatus", "StatusText")
        return shown if shown["ActiveState"] in ("active", "failed") else None

    try:
        return wait_for("the uplink to have started or failed", settled, 40)
    except BenchFaultError:
        pytest.fail(str(systemd.show(UPLINK, "ActiveState", "ExecMainStatus", "NRestarts", "Result")) + said(systemd))


def said(systemd: OwnSystemd) -> str:
    return systemd.call("cat", LOG).stdout


def test_without_any_secret_the_unit_starts(systemd: OwnSystemd) -> None:
    shown = start(systemd, PLAIN)
    assert shown["ActiveState"] == "active", said(systemd)


def test_a_rig_s_file_that_names_an_absent_secret_fails_once_and_says_which(systemd: OwnSystemd) -> None:
    shown = start(systemd, SECURE)
    assert (shown["ActiveState"], shown["ExecMainStatus"]) == ("failed", "2")
    assert "ca.pem: No such file" in said(systemd)


def test_secrets_from_the_store_are_the_service_s_and_nobody_else_s(systemd: OwnSystemd, tmp_path: Path) -> None:
    folder = tmp_path / "certs"
    made = Authority.create(folder, lab="tests", days=30, now=datetime.now(UTC))
    made.issue(identity(Role.RIG, "bench-1"), days=5, now=datetime.now(UTC))
    names = {"tipguard.ca.pem": "ca.pem", "tipguard.rig.pem": "bench-1.pem", "tipguard.rig.key": "bench-1.key"}
    for name, file in names.items():
        write(systemd, f"/etc/credstore/{name}", (folder / file).read_text(encoding="ascii"), "600")
    shown = start(systemd, SECURE)
    assert shown["ActiveState"] == "active", said(systemd)
    environment = systemd.call("cat", f"/proc/{shown['MainPID']}/environ").stdout.split("\0")
    (directory,) = [one.partition("=")[2] for one in environment if one.startswith("CREDENTIALS_DIRECTORY=")]
    inside = ("nsenter", "-t", shown["MainPID"], "--mount")
    listed = systemd.call(*inside, "ls", directory).stdout.split()
    assert listed == ["ca.pem", "uplink.key", "uplink.pem"]
    key = systemd.call(*inside, "cat", f"{directory}/uplink.key").stdout.strip()
    assert key == (folder / "bench-1.key").read_text(encoding="ascii").strip()
    other = systemd.call(*inside, "setpriv", "--reuid=nobody", "--clear-groups", "cat", f"{directory}/uplink.key")
    assert (other.returncode == 0, other.stdout) == (False, "")
    own = systemd.call("setpriv", "--reuid=tipguard", "--clear-groups", "cat", "/etc/credstore/tipguard.rig.key")
    assert own.returncode != 0, "the service reads copies, never the store"


def test_a_store_s_database_password_is_where_the_database_s_library_looks(systemd: OwnSystemd) -> None:
    unit = "tipguard-store@lab.service"
    line = "db.lab:5432:tipguard:tipguard:secret"
    write(systemd, "/etc/credstore/tipguard.store-lab.pgpass", line, "600")
    write(systemd, "/etc/tipguard/store-lab.env", "STORE_OPTIONS=--host 127.0.0.1", "644")
    systemd.call("systemctl", "start", unit)

    def active() -> dict[str, str] | None:
        shown = systemd.show(unit, "ActiveState", "MainPID", "Result")
        return shown if shown["ActiveState"] == "active" else None

    shown = wait_for("the store to have started", active, 60)
    environment = systemd.call("cat", f"/proc/{shown['MainPID']}/environ").stdout.split("\0")
    (file,) = [one.partition("=")[2] for one in environment if one.startswith("PGPASSFILE=")]
    inside = ("nsenter", "-t", shown["MainPID"], "--mount")
    assert systemd.call(*inside, "cat", file).stdout.strip() == line
    # libpq passes over a file that group or others may read.
    assert systemd.call(*inside, "stat", "-L", "-c", "%a", file).stdout.strip() in ("400", "600")
    systemd.call("systemctl", "stop", unit)
