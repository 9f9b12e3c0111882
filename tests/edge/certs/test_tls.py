"""edge.tls: what a context is made of, and what each wrong file is told."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from edge.certs.authority import Authority
from edge.certs.identities import Role, identity
from edge.errors import ConfigError
from edge.tls import (
    TlsFiles,
    about,
    client_context,
    expires_utc,
    find_file,
    read_secret,
    refuse_foreign,
    refuse_plain,
    tls_files,
)
from edge.x509 import about_der
from tests.edge.certs.moment import NOW


def test_a_context_is_tls_1_3_with_the_name_checked_and_trusts_the_lab_only(rig_files: Path) -> None:
    context = client_context(rig_files / "ca.pem", rig_files / "rig-1.pem", rig_files / "rig-1.key")
    assert context.minimum_version == ssl.TLSVersion.TLSv1_3
    assert context.check_hostname
    assert context.verify_mode == ssl.CERT_REQUIRED
    (trusted,) = context.get_ca_certs()
    assert "tipguard CA of Bench" in str(trusted["subject"])


def broken(folder: Path, name: str, text: str | bytes) -> None:
    (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("ca.pem", "", r"ca_file: .*ca\.pem: no certificate"),
        ("ca.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", r"ca\.pem: no certificate"),
        ("ca.pem", b"\xff\xfe", r"ca\.pem: not UTF-8"),
        ("rig-1.pem", "garbage", r"cert_file: .*rig-1\.pem: no certificate; expected NAME\.pem"),
        ("rig-1.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", r"rig-1\.pem: damaged"),
        ("rig-1.key", "garbage", r"key_file: .*rig-1\.key: no private key"),
        ("rig-1.key", "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n", "pass phrase"),
        ("rig-1.key", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", r"rig-1\.key cannot be used"),
        ("rig-1.key", b"x" * (1 << 20) + b"x", "more than 1048576 bytes"),
    ],
)
def test_a_wrong_file_is_named_with_what_was_expected(rig_files: Path, name: str, text: str | bytes, told: str) -> None:
    broken(rig_files, name, text)
    with pytest.raises(ConfigError, match=told):
        client_context(rig_files / "ca.pem", rig_files / "rig-1.pem", rig_files / "rig-1.key")


@pytest.mark.parametrize("name", ["ca.pem", "rig-1.pem", "rig-1.key"])
def test_an_absent_file_is_named(rig_files: Path, name: str) -> None:
    (rig_files / name).unlink()
    with pytest.raises(ConfigError, match=f"{name}: No such file"):
        client_context(rig_files / "ca.pem", rig_files / "rig-1.pem", rig_files / "rig-1.key")


def test_a_key_that_everybody_may_read_is_refused(rig_files: Path) -> None:
    (rig_files / "rig-1.key").chmod(0o644)
    with pytest.raises(ConfigError, match="chmod o-rwx"):
        client_context(rig_files / "ca.pem", rig_files / "rig-1.pem", rig_files / "rig-1.key")
    # The service's group may: root owns the file, and the service reads it.
    (rig_files / "rig-1.key").chmod(0o640)
    client_context(rig_files / "ca.pem", rig_files / "rig-1.pem", rig_files / "rig-1.key")


def test_a_key_of_somebody_else_is_refused(rig_files: Path, authority: Authority) -> None:
    authority.issue(identity(Role.RIG, "rig-2"), days=5, now=NOW)
    with pytest.raises(ConfigError, match=r"rig-2\.key does not belong to it"):
        client_context(rig_files / "ca.pem", rig_files / "rig-1.pem", rig_files / "rig-2.key")


def test_half_of_a_pair_is_refused(rig_files: Path) -> None:
    with pytest.raises(ConfigError, match="belong together"):
        client_context(rig_files / "ca.pem", rig_files / "rig-1.pem")
    with pytest.raises(ConfigError, match=r"expected ca\.pem"):
        tls_files(None, rig_files / "rig-1.pem", rig_files / "rig-1.key")
    assert tls_files(None) is None


def test_a_certificate_of_another_rig_is_refused(rig_files: Path) -> None:
    files = TlsFiles(rig_files / "ca.pem", rig_files / "rig-1.pem", rig_files / "rig-1.key")
    refuse_foreign(files, "rig-1")
    refuse_foreign(TlsFiles(rig_files / "ca.pem"), "rig-2")
    with pytest.raises(ConfigError, match=r"made for 'rig-1', not for the rig 'rig-2'"):
        refuse_foreign(files, "rig-2")


def test_a_stamp_tells_a_replaced_file_from_the_same(rig_files: Path, authority: Authority) -> None:
    files = TlsFiles(rig_files / "ca.pem", rig_files / "rig-1.pem", rig_files / "rig-1.key")
    before = files.stamp()
    assert files.stamp() == before
    authority.renew("rig-1", days=9, now=NOW)
    assert files.stamp() != before
    (rig_files / "rig-1.pem").unlink()
    assert files.stamp()[1] == (0, 0, 0)


# ----------------------------------------------------------------------------------------- what a certificate says


@pytest.mark.parametrize("year", [2026, 2049, 2050, 2400, 9998])
def test_name_and_end_are_read_as_the_library_reads_them(folder: Path, year: int) -> None:
    end = datetime(year, 12, 31, 23, 59, 58, tzinfo=UTC)
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COUNTRY_NAME, "CN"), x509.NameAttribute(NameOID.COMMON_NAME, "rig-ä")])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW - timedelta(days=20_000))
        .not_valid_after(end)
        .sign(key, hashes.SHA256())
    )
    (folder / "x.pem").write_bytes(b"some words first\n" + made.public_bytes(serialization.Encoding.PEM))
    said = about(folder / "x.pem")
    assert said == ("rig-ä", made.not_valid_before_utc, end)
    assert expires_utc(folder / "x.pem") == end


@given(st.binary(max_size=200))
def test_garbage_gives_a_value_error_and_nothing_else(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        about_der(data)


def test_a_certificate_cut_or_changed_anywhere_gives_an_answer_or_a_value_error(rig_files: Path) -> None:
    der = ssl.PEM_cert_to_DER_cert((rig_files / "rig-1.pem").read_text(encoding="ascii"))
    for at in range(len(der)):
        with pytest.raises(ValueError, match=r"\w"):
            about_der(der[:at])
        for change in (0x00, 0x7F, 0x80, 0xFF):
            try:
                about_der(der[:at] + bytes((change,)) + der[at + 1 :])
            except ValueError:
                continue


# ----------------------------------------------------------------------------------------- secrets, and no TLS


def test_a_credential_of_systemd_comes_before_a_file_beside_the_rig_s(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    assert find_file("secret", tmp_path) == tmp_path / "secret"
    assert find_file("secret") == Path("secret")
    credentials = tmp_path / "credentials"
    credentials.mkdir()
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(credentials))
    assert find_file("secret", tmp_path) == tmp_path / "secret"
    (credentials / "secret").write_text("s3cret\n", encoding="utf-8")
    assert find_file("secret", tmp_path) == credentials / "secret"
    assert find_file("/etc/secret", tmp_path) == Path("/etc/secret")


@pytest.mark.parametrize(("text", "secret"), [(b"one\ntwo\n", "one"), (b"one", "one"), ("ünlü".encode(), "ünlü")])
def test_a_secret_is_the_first_line(tmp_path: Path, text: bytes, secret: str) -> None:
    (tmp_path / "secret").write_bytes(text)
    assert read_secret(tmp_path / "secret", "uplink.password_file") == secret


@pytest.mark.parametrize(("text", "told"), [(b"", "is empty"), (b"\nsecond", "is empty"), (b"\xff", "not UTF-8 text")])
def test_no_secret_is_told_with_key_and_file_and_without_its_content(tmp_path: Path, text: bytes, told: str) -> None:
    (tmp_path / "secret").write_bytes(text)
    with pytest.raises(ConfigError, match=f"uplink.password_file: .*secret: .*{told}") as caught:
        read_secret(tmp_path / "secret", "uplink.password_file")
    assert "second" not in str(caught.value)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost"])
def test_plain_mqtt_stays_on_this_computer(host: str) -> None:
    refuse_plain(host, tls=False)


@pytest.mark.parametrize("host", ["broker.lab", "192.168.1.5", "0.0.0.0", "", "localhost.lab"])  # noqa: S104
def test_plain_mqtt_to_another_computer_has_to_be_said(host: str) -> None:
    with pytest.raises(ConfigError, match="anywhere"):
        refuse_plain(host, tls=False)
    refuse_plain(host, tls=True)
    refuse_plain(host, tls=False, plain="anywhere")
