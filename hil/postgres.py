"""A PostgreSQL server of our own for tests and benches: in a temporary folder, on a Unix socket, not for data to keep.

PostgreSQL refuses to run as root; there it runs as the user ``postgres``, or ``nobody``. Only its own user and root can
reach the socket, so nobody needs a password.
"""

from __future__ import annotations

import contextlib
import functools
import os
import pwd
import select
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from hil.broker import free_port
from hil.errors import BenchFaultError, BenchOptionError
from hil.server import Server

USER: Final = "tipguard"
NEEDED: Final = ("initdb", "postgres", "createdb", "dropdb", "pg_dump", "pg_restore")

_TOOL_S: Final = 300.0
_PLACES: Final = ("/usr/lib/postgresql", "/usr/local/pgsql", "/usr/pgsql-17", "/usr/pgsql-16", "/usr/pgsql-15")

_HBA: Final = "local all all trust\n"
_SETTINGS: Final[Mapping[str, str]] = {
    "listen_addresses": "''",
    "max_connections": "60",
    "shared_buffers": "64MB",
    "log_min_messages": "fatal",
    "timezone": "UTC",
}
_NOT_DURABLE: Final[Mapping[str, str]] = {"fsync": "off", "full_page_writes": "off"}


@functools.cache
def programs() -> Path | None:
    """Return the folder of the newest server's programs, or None; Debian keeps them off the PATH."""
    found = [path for place in _PLACES for path in (*Path(place).glob("*/bin"), Path(place, "bin"))]
    found.sort(key=_version, reverse=True)
    if on_path := shutil.which("initdb"):
        found.append(Path(on_path).resolve().parent)
    return next((path for path in found if all((path / name).is_file() for name in NEEDED)), None)


def _version(folder: Path) -> int:
    digits = folder.parent.name.rpartition("-")[2]
    return int(digits) if digits.isdecimal() else 0


class Postgres(Server):
    """A server process, started on entry and ended on exit; after :meth:`kill` it may be started again with its data.

    :attr:`folder` has its socket, log and (in ``data``) its cluster.
    """

    _PREFIX = "tipguard-pg-"
    _START_S = 30.0
    _STOP_S = 10.0
    _POLITE = signal.SIGINT
    """Its clients are disconnected."""

    def __init__(self, *, durable: bool = False, settings: Mapping[str, str] | None = None) -> None:
        """``durable``: with fsync, as in production; without, a killed server keeps everything, a power cut would not.

        ``settings``: more of ``postgresql.conf``. Raises :class:`BenchOptionError` when PostgreSQL is not installed.
        """
        super().__init__()
        folder = programs()
        if folder is None:
            raise BenchOptionError("PostgreSQL is not installed: apt-get install postgresql")
        self._programs = folder
        self._settings = {**_SETTINGS, **({} if durable else _NOT_DURABLE), **(settings or {})}
        self._owner = _owner()
        self.port = free_port()
        """Only the name of the socket."""

    def _made(self, folder: Path) -> None:
        if self._owner:
            os.chown(folder, self._owner.pw_uid, self._owner.pw_gid)

    def url(self, database: str = "postgres") -> str:
        """Return the address of a database, as ``tipguard store --to`` takes it."""
        return f"postgresql://{USER}@/{database}?host={quote(str(self.folder), safe='')}&port={self.port}"

    def start(self) -> None:
        """Start it and return once it takes connections. Raises :class:`BenchFaultError` if it does not."""
        if self._process is not None:
            return
        data = self.folder / "data"
        if not (data / "PG_VERSION").is_file():
            self._initialise(data)
        command = [str(self._programs / "postgres"), "-D", str(data), "-k", str(self.folder), "-p", str(self.port)]
        self._launch("PostgreSQL", command, lambda pid: _ready(data / "postmaster.pid", pid), self._identity())

    def _initialise(self, data: Path) -> None:
        self._tool("initdb", "-D", str(data), "-U", USER, "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync")
        lines = "".join(f"{name} = {value}\n" for name, value in self._settings.items())
        with (data / "postgresql.conf").open("a", encoding="utf-8") as file:
            file.write(lines)
        (data / "pg_hba.conf").write_text(_HBA, encoding="utf-8")

    def _identity(self) -> dict[str, Any]:
        if self._owner is None:
            return {}
        return {"user": self._owner.pw_uid, "group": self._owner.pw_gid, "extra_groups": []}

    def _tool(self, name: str, *arguments: str) -> None:
        done = subprocess.run(
            [self._programs / name, *arguments],
            capture_output=True,
            text=True,
            check=False,
            timeout=_TOOL_S,
            cwd=self.folder,
            **self._identity(),
        )
        if done.returncode:
            raise BenchFaultError(f"{name} ended with code {done.returncode}: {done.stderr[-500:].strip()}")

    def _client(self, name: str, *arguments: str) -> None:
        self._tool(name, "-h", str(self.folder), "-p", str(self.port), "-U", USER, *arguments)

    def create(self, database: str) -> str:
        """Create an empty database and return its address. Raises :class:`BenchFaultError` if it exists."""
        self._client("createdb", database)
        return self.url(database)

    def drop(self, database: str) -> None:
        """Drop a database, whoever is connected to it."""
        self._client("dropdb", "--if-exists", "--force", database)

    def dump(self, database: str, name: str) -> Path:
        """Write a backup of ``database`` (``pg_dump``, custom format) below :attr:`folder`; return where."""
        path = self.folder / name
        self._client("pg_dump", "--format=custom", "--file", str(path), database)
        return path

    def restore(self, database: str, dump: Path) -> str:
        """Create ``database`` from a backup and return its address."""
        self._client("createdb", database)
        self._client("pg_restore", "--exit-on-error", "--dbname", database, str(dump))
        return self.url(database)

    def restore_over(self, database: str, dump: Path) -> None:
        """Restore a backup into a database that has its tables already: they are dropped and made again."""
        self._client("pg_restore", "--exit-on-error", "--clean", "--if-exists", "--dbname", database, str(dump))

    def kill(self) -> None:
        """End it and all its processes as a power cut would."""
        process, self._process = self._process, None
        if process is None:
            return
        # Stopped first, so that it starts no more of them meanwhile. Orphans would keep the next start out.
        process.send_signal(signal.SIGSTOP)
        with contextlib.ExitStack() as stack:
            family = _opened(_children(process.pid), stack)
            process.kill()
            for descriptor in family:
                with contextlib.suppress(ProcessLookupError):
                    signal.pidfd_send_signal(descriptor, signal.SIGKILL)
            process.wait(self._STOP_S)
            # As long as one of them lives, the shared memory is in use, and the next start is refused.
            _wait_ended(family, self._STOP_S)


def _owner() -> pwd.struct_passwd | None:
    """Return whom the server runs as; None: as ourselves."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name)
    raise BenchOptionError("PostgreSQL does not run as root, and there is no user postgres or nobody")


def _children(pid: int) -> list[int]:
    with contextlib.suppress(FileNotFoundError):
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()]
    return []


def _opened(pids: list[int], stack: contextlib.ExitStack) -> list[int]:
    """Return descriptors of those processes that have not ended yet."""
    found = []
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            descriptor = os.pidfd_open(pid)
            stack.callback(os.close, descriptor)
            found.append(descriptor)
    return found


def _wait_ended(descriptors: list[int], timeout_s: float) -> None:
    """Wait until all these processes have ended; raise BenchFaultError after ``timeout_s``."""
    poller = select.poll()
    for descriptor in descriptors:
        poller.register(descriptor, select.POLLIN)
    until_s = time.monotonic() + timeout_s
    left = len(descriptors)
    while left:
        ended = poller.poll(max(0.0, until_s - time.monotonic()) * 1000)
        if not ended:
            raise BenchFaultError(f"{left} processes of PostgreSQL live {timeout_s:g} s after SIGKILL")
        for descriptor, _ in ended:
            poller.unregister(descriptor)
        left -= len(ended)


def _ready(pid_file: Path, pid: int) -> bool:
    """Return whether the server ``pid`` says in its own file that it is ready; an older life's file does not count."""
    try:
        lines = pid_file.read_text(encoding="utf-8").splitlines()
    except OSError:
        return False
    return len(lines) >= 8 and lines[0].strip() == str(pid) and lines[7].strip() == "ready"
