"""TLS to the broker from three files: the lab's CA, our certificate, our key.

Nothing older than TLS 1.3, the broker's name is checked, and no other authority is trusted.

Also where secrets are (a systemd credential, or a file beside the rig's), what a certificate says about itself, and
the rule that MQTT in the clear stays on this computer. Standard library only: every process that talks to a broker
imports this; making certificates is :mod:`edge.certs`.
"""

from __future__ import annotations

import os
import re
import ssl
import stat
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from edge.errors import ConfigError
from edge.x509 import About, about_der

LOOPBACK: Final = frozenset({"127.0.0.1", "::1", "localhost"})
PLAIN_PORT: Final = 1883
TLS_PORT: Final = 8883
"""The registered ports of MQTT, in the clear and over TLS."""

PLAIN_ANYWHERE: Final = "anywhere"
"""What has to be said to send MQTT in the clear to another computer."""

# How OpenSSL's names of alerts end.
_ALERTS: Final = {
    "ALERT_CERTIFICATE_REQUIRED": "the broker wants a certificate of ours: cert_file and key_file",
    "ALERT_CERTIFICATE_EXPIRED": "our certificate has expired, says the broker: tipguard certs renew",
    "ALERT_UNKNOWN_CA": "our certificate is not of the broker's authority",
    "ALERT_BAD_CERTIFICATE": "the broker cannot use our certificate; has it begun, by the broker's clock?",
    "ALERT_UNSUPPORTED_CERTIFICATE": "our certificate is not one for clients",
}
_CREDENTIALS: Final = "CREDENTIALS_DIRECTORY"
_MAX_FILE: Final = 1 << 20
_PEM: Final = re.compile(r"-----BEGIN CERTIFICATE-----[A-Za-z0-9+/=\s]+-----END CERTIFICATE-----")


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """What a client needs. Read at every connection, so that a renewed certificate is taken up by reconnecting."""

    ca_file: Path
    cert_file: Path | None = None
    key_file: Path | None = None

    def context(self) -> ssl.SSLContext:
        """Return a context made of what the files hold now; see :func:`client_context`."""
        return client_context(self.ca_file, self.cert_file, self.key_file)

    def stamp(self) -> tuple[tuple[int, int, int], ...]:
        """Return something that differs once a file was written or replaced; (0, 0, 0) for one that is not there."""
        return tuple(_stamp(file) for file in (self.ca_file, self.cert_file, self.key_file) if file is not None)


class LabContext(ssl.SSLContext):
    """A context that remembers why the other side ended a connection; see :func:`why_refused`."""

    refusal: str | None = None
    """In words; None as long as nothing was said."""


class _Socket(ssl.SSLSocket):
    """A socket that does not outlive a failed handshake, and hears what a broker has against our certificate.

    paho lets go of it without closing it; and with TLS 1.3 a refusal comes after the handshake, where paho takes it for
    one more broken connection.
    """

    def do_handshake(self, block: bool = False) -> None:
        try:
            super().do_handshake(block)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise
        except OSError:
            self.close()
            raise

    def recv(self, buflen: int = 1024, flags: int = 0) -> bytes:
        try:
            return super().recv(buflen, flags)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise
        except ssl.SSLError as error:
            if isinstance(self.context, LabContext):
                self.context.refusal = _refusal(error.reason or str(error))
            raise


def _refusal(reason: str) -> str:
    """Return OpenSSL's name of an alert in words."""
    for alert, words in _ALERTS.items():
        if reason.endswith(alert):
            return f"{words} ({reason})"
    return f"the broker ended it: {reason}"


def why_refused(context: ssl.SSLContext | None, error: Exception) -> str:
    """Return why a connection failed: what the broker's TLS said, if it did, else the error."""
    refusal = context.refusal if isinstance(context, LabContext) else None
    return refusal or str(error.__cause__ or error)


def _stamp(file: Path) -> tuple[int, int, int]:
    try:
        found = file.stat()
    except OSError:
        return (0, 0, 0)
    return (found.st_mtime_ns, found.st_ino, found.st_size)


def tls_files(
    ca_file: Path | str | None, cert_file: Path | str | None = None, key_file: Path | str | None = None
) -> TlsFiles | None:
    """Return the files as given on a command line, None if there are none. Raises :class:`ConfigError` for a part."""
    if ca_file is None:
        if cert_file is not None or key_file is not None:
            raise ConfigError("certificate without the lab's CA: expected ca.pem, too", key="uplink.ca_file")
        return None
    cert, key = (None if file is None else Path(file) for file in (cert_file, key_file))
    return TlsFiles(Path(ca_file), cert, key)


def client_context(
    ca_file: Path | str, cert_file: Path | str | None = None, key_file: Path | str | None = None
) -> ssl.SSLContext:
    """Return a context for a client: TLS 1.3 at least, the broker's certificate and name checked against ``ca_file``.

    Raises :class:`ConfigError`, which names the file and what would mend it.
    """
    if (cert_file is None) != (key_file is None):
        raise ConfigError("certificate and key belong together: expected both or neither", key="uplink.cert_file")
    ca = _text(ca_file, "ca_file")
    # The files named here are all it trusts: the system's authorities may vouch for anybody.
    context = LabContext(ssl.PROTOCOL_TLS_CLIENT)
    context.sslsocket_class = _Socket
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    try:
        context.load_verify_locations(cadata=ca)
    except (ssl.SSLError, ValueError) as error:
        raise _wrong(ca_file, "ca_file", "no certificate; expected the lab's CA, ca.pem of `tipguard certs`") from error
    if cert_file is not None and key_file is not None:
        _load_identity(context, cert_file, key_file)
    return context


def _load_identity(context: ssl.SSLContext, cert_file: Path | str, key_file: Path | str) -> None:
    about(cert_file)
    key = _text(key_file, "key_file")
    if "PRIVATE KEY" not in key:
        raise _wrong(key_file, "key_file", "no private key; expected NAME.key of `tipguard certs`")
    if "ENCRYPTED" in key:
        # OpenSSL would ask for the pass phrase on the terminal, and a service has none.
        raise _wrong(key_file, "key_file", "the key has a pass phrase; a service needs one without, mode 0600")
    if Path(key_file).stat().st_mode & stat.S_IRWXO:
        raise _wrong(key_file, "key_file", "every user of this computer may read this key: chmod o-rwx it")
    try:
        context.load_cert_chain(cert_file, key_file)
    except ssl.SSLError as error:
        why = "does not belong to it" if error.reason == "KEY_VALUES_MISMATCH" else f"cannot be used: {error.reason}"
        raise _wrong(cert_file, "cert_file", f"the key {key_file} {why}; expected the pair of one name") from error


def refuse_foreign(files: TlsFiles, rig: str) -> None:
    """Raise :class:`ConfigError` for a certificate that names somebody else than the rig: the broker goes by it."""
    if files.cert_file is not None and (name := about(files.cert_file).name) != rig:
        raise _wrong(
            files.cert_file,
            "cert_file",
            f"made for {name!r}, not for the rig {rig!r}: the broker would refuse what it sends; expected {rig}.pem",
        )


def refuse_plain(host: str, *, tls: bool, plain: str = "loopback") -> None:
    """Raise :class:`ConfigError` for MQTT in the clear to another computer, unless ``plain`` says "anywhere"."""
    if not tls and plain != PLAIN_ANYWHERE and host not in LOOPBACK:
        raise ConfigError(
            f"host {host!r} without ca_file: MQTT without TLS goes to this computer only; give the lab's CA, or say "
            'plain = "anywhere"',
            key="uplink.ca_file",
        )


def find_file(name: Path | str, beside: Path | None = None) -> Path:
    """Return where a file named in a configuration is; it need not exist.

    An absolute name is that file. Any other is looked for in ``$CREDENTIALS_DIRECTORY``, where systemd puts what the
    unit's LoadCredential= names, then in ``beside``, the folder of the configuration, or else the working folder.
    """
    path = Path(name)
    if path.is_absolute():
        return path
    if credentials := os.environ.get(_CREDENTIALS):
        credential = Path(credentials) / path
        try:
            if credential.is_file():
                return credential
        except PermissionError:
            # It is told by whoever opens it, with this name.
            return credential
    return (beside or Path()) / path


def read_secret(file: Path, key: str) -> str:
    """Return the first line of a file. Raises :class:`ConfigError`, naming ``key``, if there is none."""
    line = _text(file, key).split("\n", 1)[0]
    if not line:
        raise ConfigError(f"{key}: {file}: its first line is empty; expected the secret there", key=key, file=str(file))
    return line


def _text(file: Path | str, key: str) -> str:
    """Read a small text file; whatever stands in the way is told with its name."""
    try:
        with Path(file).open("rb") as stream:
            data = stream.read(_MAX_FILE + 1)
    except OSError as error:
        raise _wrong(file, key, error.strerror or "cannot be read") from error
    if len(data) > _MAX_FILE:
        raise _wrong(file, key, f"more than {_MAX_FILE} bytes; expected a certificate, a key or a password")
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise _wrong(file, key, "not UTF-8 text") from error


def _wrong(file: Path | str, key: str, why: str) -> ConfigError:
    return ConfigError(f"{key}: {file}: {why}", key=key, file=str(file))


def expires_utc(cert_file: Path | str) -> datetime:
    """Return when a certificate ends. Raises :class:`ConfigError` if the file holds none."""
    return about(cert_file).expires_utc


def about(cert_file: Path | str) -> About:
    """Return what the first certificate of a PEM file says. Raises :class:`ConfigError` if it holds none."""
    found = _PEM.search(_text(cert_file, "cert_file"))
    if found is None:
        raise _wrong(cert_file, "cert_file", "no certificate; expected NAME.pem of `tipguard certs`")
    try:
        return about_der(ssl.PEM_cert_to_DER_cert(found[0]))
    except ValueError as error:
        raise _wrong(cert_file, "cert_file", f"damaged ({error}); copy it again, or renew it") from error
