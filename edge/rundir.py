"""The run directory: ring, control socket, locks, mirror of the latch. Standard library only: safe-off uses it too."""

from __future__ import annotations

import fcntl
import json
import os
from pathlib import Path
from typing import Any

from edge.errors import BusyError, ConfigError

SAFE_FILE = "safe.json"
STATE_FILE = "state.json"
RING_FILE = "ring"
PAGE_FILE = "page"
CONTROL_SOCKET = "control.sock"
LOCK_FILE = "lock"


def base_dir() -> Path:
    """Return the directory that holds all rigs' run directories; does not create it."""
    systemd = os.environ.get("RUNTIME_DIRECTORY")
    if systemd:
        return Path(systemd.split(":", 1)[0])
    system = Path("/run/tipguard")
    if os.access(system if system.exists() else system.parent, os.W_OK):
        return system
    user = os.environ.get("XDG_RUNTIME_DIR")
    if user and os.access(user, os.W_OK):
        return Path(user) / "tipguard"
    return Path(f"/dev/shm/tipguard-{os.getuid()}")  # noqa: S108 - tmpfs by design; the directory is 0700


def rig_dir(rig: str, *, create: bool = False) -> Path:
    """Return a rig's run directory.

    With ``create`` it is there afterwards, and this user's or root's; raises :class:`ConfigError` where it cannot be.
    """
    base = base_dir()
    path = base / rig
    if create:
        try:
            # One by one: parents=True would leave the base open to everybody, and /dev/shm is.
            base.mkdir(mode=0o700, parents=True, exist_ok=True)
            path.mkdir(mode=0o700, exist_ok=True)
            owners = {base.lstat().st_uid, path.lstat().st_uid}
        except OSError as error:
            raise ConfigError(
                f"run directory {path}: {error.strerror}; set RUNTIME_DIRECTORY to a directory this user may write"
            ) from error
        # Root may use whose it likes; anybody else could be led into a directory that another user controls.
        if os.getuid() != 0 and not owners <= {0, os.getuid()}:
            raise ConfigError(
                f"run directory {path}: belongs to another user; set RUNTIME_DIRECTORY to a directory of your own"
            )
    return path


def state_dir(what: str, rig: str, directory: str | None = None) -> Path:
    """Return where a rig keeps ``what`` on disk, "flight" or "outbox"; does not make it.

    ``directory``: what the configuration says. Else below the service's state directory ($STATE_DIRECTORY) or the
    user's ($XDG_STATE_HOME); where somebody named a run directory and neither of these, in there; else below
    ~/.local/state.
    """
    if directory is not None:
        return Path(directory) / rig
    service = os.environ.get("STATE_DIRECTORY")
    if service:
        return Path(service.split(":", 1)[0]) / what / rig
    user = os.environ.get("XDG_STATE_HOME")
    if user:
        return Path(user) / "tipguard" / what / rig
    run = os.environ.get("RUNTIME_DIRECTORY")
    if run:
        # No rig's own directory is called so: an id has no dot.
        return Path(run.split(":", 1)[0]) / f"{what}.d" / rig
    return Path.home() / ".local" / "state" / "tipguard" / what / rig


def write_json(path: Path, data: dict[str, Any]) -> None:
    """Replace a small file in one step, so that a reader never sees half of it."""
    partial = path.with_name(path.name + ".new")
    partial.write_text(json.dumps(data) + "\n", encoding="utf-8")
    partial.replace(path)


def read_json(path: Path) -> dict[str, Any] | None:
    """Return the map in ``path``, or None if it is absent or damaged."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return data if isinstance(data, dict) else None


class RigLock:
    """Held while a controller runs; released by the kernel when it dies."""

    def __init__(self, directory: Path) -> None:
        """Take the lock or raise :class:`BusyError`."""
        path = directory / LOCK_FILE
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.read(self._fd, 32).decode("ascii", "replace").strip()
            os.close(self._fd)
            raise BusyError(
                f"rig {directory.name}: a controller already runs (process {holder or '?'}); "
                "stop that one first, or give this rig another id"
            ) from error
        os.ftruncate(self._fd, 0)
        os.write(self._fd, f"{os.getpid()}\n".encode())

    def close(self) -> None:
        """Release the lock."""
        os.close(self._fd)


def controller_runs(directory: Path) -> bool:
    """Tell whether a controller holds the rig's lock."""
    try:
        fd = os.open(directory / LOCK_FILE, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False
