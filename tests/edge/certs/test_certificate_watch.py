"""The uplink's look at its certificate: how long it lasts, and when a new one is taken up."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import structlog
from structlog.testing import LogCapture

from edge.certs.authority import Authority
from edge.certs.identities import Role, identity
from edge.frames import UtcMapping
from edge.tls import TlsFiles
from edge.uplink.certificate import Certificate
from tests.edge.certs.moment import NOW

DAY_NS = 86_400_000_000_000
UTC_NOW = UtcMapping(int(NOW.timestamp()) * 1_000_000_000, True, 0)


@pytest.fixture
def files(folder: Path, authority: Authority) -> TlsFiles:
    authority.issue(identity(Role.RIG, "rig-1"), days=90, now=NOW)
    return TlsFiles(folder / "ca.pem", folder / "rig-1.pem", folder / "rig-1.key")


@pytest.fixture
def logs() -> LogCapture:
    return LogCapture()


@pytest.fixture
def watched(files: TlsFiles, logs: LogCapture) -> Certificate:
    return Certificate(files, rig="rig-1", log=structlog.wrap_logger(None, processors=[logs]))


def test_it_says_how_long_it_lasts(watched: Certificate) -> None:
    assert not watched.look(UTC_NOW, 0)
    assert watched.days_left == 90.0
    assert watched.document() == {
        "name": "rig-1",
        "expires_utc": "2027-02-24T12:00:00.000+00:00",
        "days_left": 90.0,
        "state": "ok",
        "fault": None,
    }


@pytest.mark.parametrize(("days", "state"), [(60, "ok"), (61, "expires soon"), (89.9, "expires soon"), (91, "expired")])
def test_it_says_in_words_where_it_stands(watched: Certificate, days: float, state: str) -> None:
    watched.look(UTC_NOW, int(days * DAY_NS))
    document = watched.document()
    assert document is not None
    assert (document["state"], document["days_left"]) == (state, pytest.approx(90 - days))


def test_it_warns_once_at_each_step_and_not_every_time(watched: Certificate, logs: LogCapture) -> None:
    for hour in range(92 * 24):
        watched.look(UTC_NOW, hour * DAY_NS // 24)
    said = [(entry["event"].split(";")[0], entry["days_left"]) for entry in logs.entries]
    soon = "certificate expires soon"
    # The first look below each of 30, 14, 7, 3, 1 and 0 days.
    assert said == [
        *((soon, pytest.approx(d - 1 / 24, abs=0.01)) for d in (30, 14, 7, 3, 1)),
        ("certificate expired", -0.04),
    ]
    assert all("certs renew rig-1" in entry["do"] for entry in logs.entries)


def test_a_clock_that_is_not_set_gives_no_days(watched: Certificate) -> None:
    watched.look(UtcMapping(0, False, 0), 1)
    document = watched.document()
    assert document is not None
    assert (watched.days_left, document["state"]) == (None, "unknown")
    # Set, but by nobody who vouches for it, as in a lab without a time server: better than nothing.
    watched.look(UTC_NOW._replace(valid=False), 0)
    assert watched.days_left == 90.0


def test_a_renewed_certificate_is_taken_up_once(watched: Certificate, authority: Authority) -> None:
    watched.look(UTC_NOW, 60 * DAY_NS)
    authority.renew("rig-1", days=300, now=NOW)
    assert watched.look(UTC_NOW, 60 * DAY_NS)
    assert watched.days_left == 240.0
    assert not watched.look(UTC_NOW, 60 * DAY_NS)


def test_new_key_and_certificate_are_taken_up_only_when_both_are_there(
    watched: Certificate, files: TlsFiles, authority: Authority, folder: Path, logs: LogCapture
) -> None:
    assert files.cert_file is not None
    assert files.key_file is not None
    other = Authority.create(folder / "other", lab="Other", days=300, now=NOW)
    other.issue(identity(Role.RIG, "rig-1"), days=200, now=NOW)
    (folder / "other" / "rig-1.pem").replace(files.cert_file)
    for _ in range(3):
        assert not watched.look(UTC_NOW, 0)
    assert watched.fault is not None
    assert "does not belong" in watched.fault
    assert [entry["log_level"] for entry in logs.entries] == ["warning"]
    (folder / "other" / "rig-1.key").replace(files.key_file)
    assert watched.look(UTC_NOW, 0)
    document = watched.document()
    assert document is not None
    assert (document["fault"], document["days_left"]) == (None, 200.0)


@pytest.mark.parametrize("name", ["ca.pem", "rig-1.pem", "rig-1.key"])
def test_files_that_vanish_are_a_fault_and_their_return_is_none(watched: Certificate, folder: Path, name: str) -> None:
    kept = (folder / name).read_bytes()
    (folder / name).unlink()
    assert not watched.look(UTC_NOW, 0)
    assert watched.fault is not None
    assert f"{name}: No such file" in watched.fault
    (folder / name).write_bytes(kept)
    (folder / name).chmod(0o600)
    assert watched.look(UTC_NOW, 0)
    assert watched.fault is None


def test_a_certificate_of_another_rig_is_not_taken_up(
    watched: Certificate, files: TlsFiles, authority: Authority
) -> None:
    assert files.cert_file is not None
    authority.issue(identity(Role.RIG, "rig-2"), days=5, now=NOW)
    files.cert_file.write_bytes(files.cert_file.with_name("rig-2.pem").read_bytes())
    (files.ca_file.parent / "rig-1.key").write_bytes((files.ca_file.parent / "rig-2.key").read_bytes())
    assert not watched.look(UTC_NOW, 0)
    assert watched.fault is not None
    assert "made for 'rig-2'" in watched.fault


def test_without_a_certificate_there_is_nothing_to_say(folder: Path, logs: LogCapture) -> None:
    for tls in (None, TlsFiles(folder / "ca.pem")):
        watched = Certificate(tls, rig="rig-1", log=structlog.wrap_logger(None, processors=[logs]))
        assert not watched.look(UTC_NOW, 0)
        assert (watched.document(), watched.days_left, watched.fault) == (None, None, None)


def test_files_that_were_wrong_from_the_start_are_a_fault(folder: Path, logs: LogCapture) -> None:
    files = TlsFiles(folder / "ca.pem", folder / "rig-1.pem", folder / "rig-1.key")
    watched = Certificate(files, rig="rig-1", log=structlog.wrap_logger(None, processors=[logs]))
    assert watched.fault is not None
    document = watched.document()
    assert document is not None
    assert (document["expires_utc"], document["state"]) == (None, "unknown")
    made = Authority.open(folder)
    made.issue(identity(Role.RIG, "rig-1"), days=9, now=datetime.now(UTC) - timedelta(days=1))
    assert watched.look(UTC_NOW, 0)
    assert watched.fault is None
