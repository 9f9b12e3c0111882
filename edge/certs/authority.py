"""The authority: signs, renews, lists and withdraws. ECDSA on P-256 throughout.

Imports ``cryptography`` (extra ``certs``), and is imported only by the verb that needs it.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final, Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from edge.certs.files import make_folder, refuse_open_key, write_cert, write_key
from edge.certs.identities import AUTHORITY_NAME, CertsError, Identity, Role, host, of_common_name
from edge.errors import ConfigError

CERT: Final = ".pem"
KEY: Final = ".key"
WITHDRAWN: Final = "withdrawn"
"""Folder of the certificates that were taken back; their names are not given out again."""
CLOCK_SKEW: Final = timedelta(hours=1)
"""A certificate is valid from a little before it was made: the broker's clock may be behind."""

_UNIT: Final = "tipguard "


@dataclass(frozen=True, slots=True)
class Held:
    """A certificate in the folder."""

    who: Identity
    expires_utc: datetime
    serial: str
    """In hex, as the broker's log and OpenSSL print it."""
    hosts: tuple[str, ...]
    """Of a broker: under which names and addresses it may be reached."""


class Authority:
    """One lab's authority, in its folder. Every ``now`` is UTC. Raises :class:`CertsError` for what cannot be."""

    def __init__(self, folder: Path, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> None:
        """Not to be called: :meth:`create` or :meth:`open`."""
        self._folder = folder
        self._certificate = certificate
        self._key = key

    @classmethod
    def create(cls, folder: Path, *, lab: str, days: int, now: datetime) -> Self:
        """Make the authority's key and certificate. Refuses where there is one."""
        if not 1 <= len(lab) <= 40 or not lab.isprintable():
            raise ConfigError(f"lab {lab!r}: expected 1 to 40 printable characters", key="lab")
        for name in (AUTHORITY_NAME + KEY, AUTHORITY_NAME + CERT):
            if (folder / name).exists():
                raise CertsError(
                    f"{folder / name}: there is an authority already, and what it signed would be worth nothing with "
                    "another; choose another --dir, or `tipguard certs renew ca`"
                )
        make_folder(folder)
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name(
            [
                x509.NameAttribute(NameOID.COMMON_NAME, f"tipguard CA of {lab}"),
                x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, f"{_UNIT}{AUTHORITY_NAME}"),
            ]
        )
        write_key(folder / (AUTHORITY_NAME + KEY), _pem(key))
        certificate = _authority_certificate(subject, key, now, now + timedelta(days=days))
        write_cert(folder / (AUTHORITY_NAME + CERT), certificate.public_bytes(serialization.Encoding.PEM))
        return cls(folder, certificate, key)

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Open an authority to sign with it. Refuses a key that others may read, or that is not its own."""
        file = folder / (AUTHORITY_NAME + KEY)
        refuse_open_key(file)
        certificate = _load(folder / (AUTHORITY_NAME + CERT))
        try:
            key = serialization.load_pem_private_key(file.read_bytes(), None)
        except (OSError, ValueError, TypeError) as error:
            raise CertsError(f"{file}: no key that can be used: {error}") from error
        if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != certificate.public_key():
            raise CertsError(f"{file}: not the key of {AUTHORITY_NAME}{CERT}; expected the pair that init made")
        return cls(folder, certificate, key)

    @property
    def expires_utc(self) -> datetime:
        """When everything it signed stops being accepted."""
        return self._certificate.not_valid_after_utc

    def issue(self, who: Identity, *, days: int, now: datetime, hosts: Iterable[str] = ()) -> Held:
        """Make a key and a certificate; ``hosts``: further names and addresses of a broker."""
        further = tuple(hosts)
        if further and who.role is not Role.BROKER:
            raise ConfigError(f"--also is for brokers; a {who.role} is known by its name only", key="also")
        name = who.common_name
        if withdrawn := sorted((self._folder / WITHDRAWN).glob(f"{name}~*{CERT}")):
            raise CertsError(
                f"{name}: a certificate of that name was withdrawn ({withdrawn[0].name}); with the name back in the "
                "access list it would be let in again, too. Choose another name"
            )
        if (self._folder / (name + CERT)).exists():
            raise CertsError(f"{name}: has a certificate already; `tipguard certs renew {name}` extends it")
        key = ec.generate_private_key(ec.SECP256R1())
        # Signed first: what is refused must leave no key behind.
        signed = self._sign(who, key.public_key(), (who.name, *further), now, days)
        write_key(self._folder / (name + KEY), _pem(key))
        write_cert(self._folder / (name + CERT), signed.public_bytes(serialization.Encoding.PEM))
        return _held(signed)

    def renew(self, common_name: str, *, days: int, now: datetime) -> Held:
        """Sign the same key for a further while. The key is not needed, and nothing but the certificate is written."""
        file = self._folder / (common_name + CERT)
        old = _load(file)
        held = _held(old)
        public = old.public_key()
        if old.issuer != self._certificate.subject or not isinstance(public, ec.EllipticCurvePublicKey):
            raise CertsError(f"{file}: was not made by this authority; issue another certificate")
        new = self._sign(held.who, public, held.hosts, now, days)
        write_cert(file, new.public_bytes(serialization.Encoding.PEM))
        return _held(new)

    def renew_itself(self, *, days: int, now: datetime) -> None:
        """Extend the authority's own certificate; what it signed stays good. Everybody needs the new ``ca.pem``."""
        self._certificate = _authority_certificate(
            self._certificate.subject, self._key, now, now + timedelta(days=days)
        )
        file = self._folder / (AUTHORITY_NAME + CERT)
        write_cert(file, self._certificate.public_bytes(serialization.Encoding.PEM))

    def _sign(
        self, who: Identity, public: ec.EllipticCurvePublicKey, hosts: Iterable[str], now: datetime, days: int
    ) -> x509.Certificate:
        until = now + timedelta(days=days)
        if until > self.expires_utc:
            raise CertsError(
                f"{who.common_name}: {days} days reach past the end of the authority itself, "
                f"{self.expires_utc:%Y-%m-%d}; fewer --days, or `tipguard certs renew ca`"
            )
        broker = who.role is Role.BROKER
        usage = ExtendedKeyUsageOID.SERVER_AUTH if broker else ExtendedKeyUsageOID.CLIENT_AUTH
        name = x509.Name(
            [
                x509.NameAttribute(NameOID.COMMON_NAME, who.common_name),
                x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, f"{_UNIT}{who.role}"),
            ]
        )
        builder = (
            _builder(name, self._certificate.subject, public, now, until)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(signing=False), critical=True)
            # What is made for a client does not pass for a broker, and the other way round.
            .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
        )
        if broker:
            builder = builder.add_extension(
                x509.SubjectAlternativeName([_alternative(each) for each in dict.fromkeys(hosts)]), critical=False
            )
        return builder.sign(self._key, hashes.SHA256())


def held(folder: Path) -> list[Held]:
    """Return the certificates of a folder by role and name, without the authority's own; needs no key."""
    files = sorted(file for file in folder.glob(f"*{CERT}") if file.name != AUTHORITY_NAME + CERT)
    order = list(Role)
    return sorted((_held(_load(file)) for file in files), key=lambda one: (order.index(one.who.role), one.who.name))


def authority_expires_utc(folder: Path) -> datetime:
    """Return when the authority of a folder ends; needs no key."""
    return _load(folder / (AUTHORITY_NAME + CERT)).not_valid_after_utc


def withdraw(folder: Path, common_name: str) -> Path:
    """Take a certificate out of the list, for good; return where it is kept. The access list must be written anew."""
    file = folder / (common_name + CERT)
    one = _held(_load(file))
    make_folder(folder / WITHDRAWN)
    kept = folder / WITHDRAWN / f"{common_name}~{one.serial}{CERT}"
    try:
        # The key first: with the certificate gone the name could be issued again.
        key = folder / (common_name + KEY)
        if key.exists():
            key.replace(kept.with_suffix(KEY))
        return file.replace(kept)
    except OSError as error:
        raise CertsError(f"{file}: {error.strerror}") from error


def _held(certificate: x509.Certificate) -> Held:
    try:
        common_name = _attribute(certificate, NameOID.COMMON_NAME)
        role = Role(_attribute(certificate, NameOID.ORGANIZATIONAL_UNIT_NAME).removeprefix(_UNIT))
        who = of_common_name(role, common_name)
        hosts: tuple[str, ...] = ()
        if role is Role.BROKER:
            names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
            hosts = tuple(str(name.value) for name in names)
    except (ValueError, x509.ExtensionNotFound) as error:
        subject = certificate.subject.rfc4514_string()
        raise CertsError(f"certificate of {subject}: not made by `tipguard certs` ({error}); move it away") from error
    return Held(who, certificate.not_valid_after_utc, f"{certificate.serial_number:X}", hosts)


def _attribute(certificate: x509.Certificate, oid: x509.ObjectIdentifier) -> str:
    found = certificate.subject.get_attributes_for_oid(oid)
    if len(found) != 1:
        raise ValueError("its subject is not one of ours")
    return str(found[0].value)


def _load(file: Path) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(file.read_bytes())
    except OSError as error:
        raise CertsError(f"{file}: {error.strerror}") from error
    except ValueError as error:
        raise CertsError(f"{file}: no certificate: {error}") from error


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _authority_certificate(
    name: x509.Name, key: ec.EllipticCurvePrivateKey, now: datetime, until: datetime
) -> x509.Certificate:
    return (
        _builder(name, name, key.public_key(), now, until)
        # It signs certificates of clients and brokers, and no further authority.
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signing=True), critical=True)
        .sign(key, hashes.SHA256())
    )


def _builder(
    subject: x509.Name, issuer: x509.Name, public: ec.EllipticCurvePublicKey, now: datetime, until: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCK_SKEW)
        .not_valid_after(until)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
    )


def _usage(*, signing: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signing,
        key_cert_sign=signing,
        crl_sign=signing,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _alternative(name: str) -> x509.GeneralName:
    found = host(name)
    if isinstance(found, ipaddress.IPv4Address | ipaddress.IPv6Address):
        return x509.IPAddress(found)
    return x509.DNSName(found)
