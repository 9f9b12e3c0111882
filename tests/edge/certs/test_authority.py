"""The authority: what it signs, what it never overwrites, and what it refuses."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from edge.certs.authority import Authority, authority_expires_utc, held, withdraw
from edge.certs.files import write_cert, write_key
from edge.certs.identities import CertsError, Role, identity
from edge.errors import ConfigError
from tests.edge.certs.moment import NOW

RIG = identity(Role.RIG, "rig-1")


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def certificate(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(path.read_bytes())


def test_the_authority_signs_certificates_and_no_further_authority(folder: Path) -> None:
    made = certificate(folder / "ca.pem")
    assert made.extensions.get_extension_for_class(x509.BasicConstraints).value == x509.BasicConstraints(True, 0)
    key = made.public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    assert key.curve.name == "secp256r1"
    assert made.not_valid_after_utc == NOW + timedelta(days=3650)


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_keys_are_for_their_owner_and_certificates_for_everybody(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        folder = tmp_path / "certs"
        made = Authority.create(folder, lab="Bench", days=10, now=NOW)
        made.issue(RIG, days=5, now=NOW)
    finally:
        os.umask(before)
    assert mode(folder) == 0o700
    assert {mode(folder / name) for name in ("ca.key", "rig-1.key")} == {0o600}
    assert {mode(folder / name) for name in ("ca.pem", "rig-1.pem")} == {0o644}


def test_a_client_s_certificate_is_for_clients_and_names_it(folder: Path, authority: Authority) -> None:
    authority.issue(RIG, days=730, now=NOW)
    made = certificate(folder / "rig-1.pem")
    assert made.subject.rfc4514_string() == "OU=tipguard rig,CN=rig-1"
    usage = made.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [ExtendedKeyUsageOID.CLIENT_AUTH]
    assert not made.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert made.not_valid_before_utc < NOW
    made.verify_directly_issued_by(certificate(folder / "ca.pem"))


def test_a_broker_s_certificate_is_for_brokers_and_names_every_way_to_it(folder: Path, authority: Authority) -> None:
    authority.issue(
        identity(Role.BROKER, "broker.lab"), days=9, now=NOW, hosts=["192.168.1.5", "fd00::1", "broker.lab"]
    )
    made = certificate(folder / "broker.lab.pem")
    names = made.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert [str(name.value) for name in names] == ["broker.lab", "192.168.1.5", "fd00::1"]
    usage = made.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [ExtendedKeyUsageOID.SERVER_AUTH]


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs the program openssl")
def test_openssl_agrees(folder: Path, authority: Authority) -> None:
    authority.issue(RIG, days=730, now=NOW)
    authority.issue(identity(Role.BROKER, "broker.lab"), days=730, now=NOW)
    at = str(int(NOW.timestamp()))
    for name, purpose, good in (
        ("rig-1", "sslclient", True),
        ("rig-1", "sslserver", False),
        ("broker.lab", "sslserver", True),
        ("broker.lab", "sslclient", False),
    ):
        command = ["openssl", "verify", "-x509_strict", "-attime", at, "-purpose", purpose]
        done = subprocess.run(
            [*command, "-CAfile", folder / "ca.pem", folder / f"{name}.pem"], capture_output=True, check=False
        )
        assert (done.returncode == 0) is good, done.stderr


# ----------------------------------------------------------------------------------------- never overwritten


def test_a_second_authority_in_the_same_folder_is_refused(folder: Path) -> None:
    before = (folder / "ca.key").read_bytes()
    with pytest.raises(CertsError, match="there is an authority already"):
        Authority.create(folder, lab="Other", days=10, now=NOW)
    (folder / "ca.pem").unlink()
    with pytest.raises(CertsError, match="there is an authority already"):
        Authority.create(folder, lab="Other", days=10, now=NOW)
    assert (folder / "ca.key").read_bytes() == before


def files(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def test_issuing_twice_is_refused_and_changes_nothing(folder: Path, authority: Authority) -> None:
    authority.issue(RIG, days=5, now=NOW)
    before = files(folder)
    with pytest.raises(CertsError, match="renew rig-1"):
        authority.issue(RIG, days=9, now=NOW)
    assert files(folder) == before
    # Its certificate lost, the key is still in the way.
    (folder / "rig-1.pem").unlink()
    del before["rig-1.pem"]
    with pytest.raises(CertsError, match="a key is never overwritten"):
        authority.issue(RIG, days=9, now=NOW)
    assert files(folder) == before


def test_a_key_is_written_once_and_not_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "target").write_text("precious", encoding="utf-8")
    (tmp_path / "rig-1.key").symlink_to(tmp_path / "target")
    with pytest.raises(CertsError, match="never overwritten"):
        write_key(tmp_path / "rig-1.key", b"new")
    assert (tmp_path / "target").read_text(encoding="utf-8") == "precious"


def test_a_certificate_is_replaced_whole_also_over_what_an_attempt_left(tmp_path: Path) -> None:
    (tmp_path / ".rig-1.pem.new").write_bytes(b"half")
    for text in (b"one", b"two"):
        write_cert(tmp_path / "rig-1.pem", text)
        assert [(file.name, file.read_bytes()) for file in tmp_path.iterdir()] == [("rig-1.pem", text)]


def test_what_cannot_be_written_is_told_with_its_name(tmp_path: Path) -> None:
    for write in (write_key, write_cert):
        with pytest.raises(CertsError, match="rig-1"):
            write(tmp_path / "absent" / "rig-1.pem", b"x")


# ----------------------------------------------------------------------------------------- renewal


def test_renewing_keeps_the_key_and_needs_none(folder: Path, authority: Authority) -> None:
    authority.issue(identity(Role.BROKER, "broker.lab"), days=5, now=NOW, hosts=["10.0.0.1"])
    old, key = certificate(folder / "broker.lab.pem"), folder / "broker.lab.key"
    key.unlink()
    later = NOW + timedelta(days=300)
    renewed = authority.renew("broker.lab", days=400, now=later)
    new = certificate(folder / "broker.lab.pem")
    assert new.public_key() == old.public_key()
    assert new.serial_number != old.serial_number
    assert renewed.expires_utc == new.not_valid_after_utc == later + timedelta(days=400)
    assert renewed.hosts == ("broker.lab", "10.0.0.1")
    assert not key.exists()


def test_the_authority_renews_itself_and_what_it_signed_stays_good(folder: Path, authority: Authority) -> None:
    authority.issue(RIG, days=5, now=NOW)
    authority.renew_itself(days=5000, now=NOW)
    assert authority_expires_utc(folder) == NOW + timedelta(days=5000)
    certificate(folder / "rig-1.pem").verify_directly_issued_by(certificate(folder / "ca.pem"))
    Authority.open(folder).issue(identity(Role.RIG, "rig-2"), days=4000, now=NOW)


def test_nobody_outlives_the_authority(authority: Authority, folder: Path) -> None:
    with pytest.raises(CertsError, match="renew ca"):
        authority.issue(RIG, days=3651, now=NOW)
    assert not (folder / "rig-1.key").exists()


def test_a_certificate_of_another_authority_is_not_renewed(folder: Path, authority: Authority, tmp_path: Path) -> None:
    other = Authority.create(tmp_path / "other", lab="Other", days=10, now=NOW)
    other.issue(RIG, days=5, now=NOW)
    (folder / "rig-1.pem").write_bytes((tmp_path / "other" / "rig-1.pem").read_bytes())
    with pytest.raises(CertsError, match="not made by this authority"):
        authority.renew("rig-1", days=5, now=NOW)


# ----------------------------------------------------------------------------------------- list and withdraw


def test_the_list_is_what_the_certificates_say(folder: Path, authority: Authority) -> None:
    for role, name in ((Role.VIEWER, "hall"), (Role.RIG, "rig-2"), (Role.RIG, "rig-1"), (Role.STORE, "lab")):
        authority.issue(identity(role, name), days=5, now=NOW)
    found = held(folder)
    assert [(one.who.role.value, one.who.common_name) for one in found] == [
        ("rig", "rig-1"),
        ("rig", "rig-2"),
        ("store", "store-lab"),
        ("viewer", "viewer-hall"),
    ]
    assert {one.expires_utc for one in found} == {NOW + timedelta(days=5)}


def test_what_is_withdrawn_leaves_the_list_and_its_name_is_not_given_again(folder: Path, authority: Authority) -> None:
    ana = identity(Role.USER, "ana")
    authority.issue(ana, days=5, now=NOW)
    authority.issue(identity(Role.USER, "ana.b"), days=5, now=NOW)
    kept = withdraw(folder, "user-ana")
    assert [one.who.common_name for one in held(folder)] == ["user-ana.b"]
    assert kept.exists()
    assert kept.with_suffix(".key").exists()
    with pytest.raises(CertsError, match="was withdrawn"):
        authority.issue(ana, days=5, now=NOW)
    # A name that only begins alike is another's.
    authority.issue(identity(Role.USER, "anab"), days=5, now=NOW)


# ----------------------------------------------------------------------------------------- what is not right


def test_a_key_that_others_may_read_is_not_used(folder: Path) -> None:
    (folder / "ca.key").chmod(0o640)
    with pytest.raises(CertsError, match="chmod 600"):
        Authority.open(folder)


def test_a_key_of_another_authority_is_not_used(folder: Path, tmp_path: Path) -> None:
    Authority.create(tmp_path / "other", lab="Other", days=10, now=NOW)
    (folder / "ca.key").write_bytes((tmp_path / "other" / "ca.key").read_bytes())
    with pytest.raises(CertsError, match=r"not the key of ca\.pem"):
        Authority.open(folder)


@pytest.mark.parametrize("text", ["", "garbage", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"])
def test_garbage_for_a_key_is_refused(folder: Path, text: str) -> None:
    (folder / "ca.key").write_text(text, encoding="utf-8")
    with pytest.raises(CertsError, match=r"ca\.key"):
        Authority.open(folder)


def test_an_empty_folder_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(CertsError, match="certs init"):
        Authority.open(tmp_path)
    with pytest.raises(CertsError, match=r"ca\.pem"):
        authority_expires_utc(tmp_path)


def test_a_foreign_certificate_in_the_folder_is_named(folder: Path) -> None:
    (folder / "strange.pem").write_bytes((folder / "ca.pem").read_bytes())
    with pytest.raises(CertsError, match="tipguard CA of Bench"):
        held(folder)
    (folder / "strange.pem").write_text("no certificate", encoding="utf-8")
    with pytest.raises(CertsError, match=r"strange\.pem"):
        held(folder)


@pytest.mark.parametrize("lab", ["", "x" * 41, "two\nlines"])
def test_a_lab_needs_a_name(tmp_path: Path, lab: str) -> None:
    with pytest.raises(ConfigError, match="lab"):
        Authority.create(tmp_path / "certs", lab=lab, days=5, now=NOW)
    assert not (tmp_path / "certs").exists()


def test_further_names_are_for_brokers(authority: Authority, folder: Path) -> None:
    with pytest.raises(ConfigError, match="--also"):
        authority.issue(RIG, days=5, now=NOW, hosts=["rig.lab"])
    with pytest.raises(ConfigError, match="host name"):
        authority.issue(identity(Role.BROKER, "broker.lab"), days=5, now=NOW, hosts=["broker.lab:8883"])
    assert sorted(file.name for file in folder.iterdir()) == ["ca.key", "ca.pem"]


def test_times_need_their_zone(authority: Authority) -> None:
    made = authority.issue(RIG, days=5, now=NOW)
    assert made.expires_utc.tzinfo is not None
    assert isinstance(made.expires_utc, datetime)
