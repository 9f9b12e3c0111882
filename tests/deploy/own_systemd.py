"""A systemd of our own as process 1 of its own namespaces: real units on this machine, and nothing of it is changed.

It sees this machine's files read-only but for /etc, /opt, /var and /run, which are its own copies in memory; it has its
own processes, control groups and no network. Ending it ends everything in it.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from hil.errors import BenchFaultError
from hil.processes import wait_for

SYSTEMD: Final = next(
    (path for path in ("/usr/lib/systemd/systemd", "/lib/systemd/systemd") if Path(path).exists()), ""
)
TREE: Final = Path(__file__).resolve().parents[2]
START_S: Final = 20.0
PYTHON_FROM: Final = "PYTHONPATH=/run/src:/run/site LD_LIBRARY_PATH=/run/python/lib"
"""Where this tree, its packages and a Python's own library are in there."""
STUBS: Final = {
    # What every service asks for by default, without what a whole machine would bring along.
    **{f"{name}.target": "[Unit]\nDefaultDependencies=no\n" for name in ("sysinit", "basic", "shutdown", "network")},
    **{f"{name}.target": "[Unit]\nDefaultDependencies=no\n" for name in ("local-fs", "multi-user", "ours")},
    "modprobe@.service": "[Unit]\nDefaultDependencies=no\n[Service]\nType=oneshot\nExecStart=/bin/true\n",
}
ENTER: Final = """
set -e
mount --make-rprivate /
mount -t tmpfs -o mode=755 own /run
mkdir -p /run/systemd /run/lock /run/src /run/site /run/python
mkdir -m 1777 /run/bench
mount --bind "$1" /run/src
mount --bind "$2" /run/site
for part in etc opt var; do
    mkdir -p /run/over/$part/up /run/over/$part/work
    mount -t overlay -o lowerdir=/$part,upperdir=/run/over/$part/up,workdir=/run/over/$part/work own /$part
done
mkdir -p /etc/systemd/system /opt/tipguard/bin
mount -t tmpfs own /etc/systemd/system
cp -r "$3"/units/. /etc/systemd/system
install -m 755 "$3/tipguard" /opt/tipguard/bin/tipguard
mount --bind "$5" /run/python
mount -t tmpfs -o mode=1777 own /tmp
umount -l /sys/fs/cgroup
mount -t cgroup2 own /sys/fs/cgroup
mount --bind /proc/sys /proc/sys
mount -o remount,bind,ro /proc/sys
mount -o remount,bind,ro /
# Shared among themselves, as on a whole machine: a service's credentials are mounted by a child of systemd's.
mount --make-rshared /
export SYSTEMD_UNIT_PATH=/etc/systemd/system container=tipguard-test
exec "$4" --system --unit=ours.target --log-target=console --log-level=warning --show-status=no
"""


def cgroup2() -> Path | None:
    """Return where control groups of version 2 are mounted."""
    for line in Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines():
        _, where, kind, *_ = line.split()
        if kind == "cgroup2" and os.access(where, os.W_OK):
            return Path(where)
    return None


def missing() -> str | None:
    """Return what is not here that this needs, in words; None if it can be tried."""
    if os.geteuid() != 0:
        return "root"
    if not SYSTEMD:
        return "systemd"
    for program in ("unshare", "nsenter", "setpriv", "systemctl", "systemd-sysusers"):
        if shutil.which(program) is None:
            return program
    if cgroup2() is None:
        return "a writable hierarchy of control groups, version 2"
    if "\toverlay\n" not in Path("/proc/filesystems").read_text(encoding="ascii"):
        return "overlayfs"
    wanted = ["unshare", "--mount", "--pid", "--fork", "--cgroup", "--net", "mount", "-t", "tmpfs", "own", "/run"]
    done = subprocess.run(wanted, capture_output=True, text=True, check=False)
    return None if done.returncode == 0 else f"namespaces and mounts of one's own ({done.stderr.strip()})"


class OwnSystemd:
    """One such systemd, from entering to leaving."""

    def __init__(self, directory: Path, units: dict[str, str]) -> None:
        """``units``: more unit files by name."""
        self._directory = directory
        self._units = {**STUBS, **units}
        self._group: Path | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._first = 0
        self.log = directory / "systemd.log"

    def __enter__(self) -> Self:
        """Start it and wait until it answers; raise BenchFaultError if it does not."""
        above = cgroup2()
        assert above is not None
        folder = self._directory / "units"
        folder.mkdir(parents=True)
        for name, text in self._units.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        # Not through .venv, and Python from a place of its own: the service's user may not enter the folders of ours.
        python = f"/run/python/bin/{Path(sys.executable).resolve().name}"
        words = f'#!/bin/sh\nexport {PYTHON_FROM}\nexec {python} -P -m edge.cli.main "$@"\n'
        (self._directory / "tipguard").write_text(words, encoding="utf-8")
        self._group = above / f"tipguard-test-{os.getpid()}"
        self._group.mkdir()
        inner = f"echo $$ >{self._group}/cgroup.procs; exec setpriv --pdeathsig KILL unshare --mount --pid --fork"
        inner += ' --kill-child --mount-proc --cgroup --uts --ipc --net bash -c "$0" enter "$@"'
        site = sysconfig.get_path("purelib")
        command = ["bash", "-c", inner, ENTER, str(TREE), site, str(self._directory), SYSTEMD, sys.base_prefix]
        with self.log.open("wb") as out:
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out)
        try:
            wait_for("our systemd", self._answers, START_S)
        except BenchFaultError:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """See close."""
        self.close()

    def _answers(self) -> bool:
        process = self._process
        assert process is not None
        if process.poll() is not None:
            raise BenchFaultError(
                f"our systemd ended: {self.log.read_text(encoding='utf-8', errors='replace')[-2000:]}"
            )
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        pids = children.read_text(encoding="ascii").split()
        if not pids or Path(f"/proc/{pids[0]}/exe").resolve() != Path(SYSTEMD).resolve():
            return False
        self._first = int(pids[0])
        return self.call("systemctl", "is-active", "ours.target").returncode == 0

    def call(self, *command: str, timeout_s: float = 60.0) -> subprocess.CompletedProcess[str]:
        """Run a command in there, as root."""
        inside = ["nsenter", "-t", str(self._first), "--mount", "--pid", "--uts", "--ipc", "--net", "--cgroup"]
        # Never with this test's own run directory, nor its virtual environment.
        environment = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/var/lib"}
        return subprocess.run(
            [*inside, *command],
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout_s,
            env=environment,
            stdin=subprocess.DEVNULL,
        )

    def show(self, unit: str, *keys: str) -> dict[str, str]:
        """Return a unit's properties."""
        done = self.call("systemctl", "show", unit, f"--property={','.join(keys)}")
        return dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)

    def pid_outside(self, inside: str) -> int:
        """Return the process id that this machine gives to one of its processes."""
        for status in Path("/proc").glob("[0-9]*/status"):
            with contextlib.suppress(OSError):
                for line in status.read_text(encoding="utf-8", errors="replace").splitlines():
                    if line.startswith("NSpid:"):
                        ids = line.split()[1:]
                        if len(ids) > 1 and ids[1] == inside and self._is_ours(int(ids[0])):
                            return int(ids[0])
        raise BenchFaultError(f"no process {inside} in there")

    def _is_ours(self, pid: int) -> bool:
        return Path(f"/proc/{pid}/ns/pid").readlink() == Path(f"/proc/{self._first}/ns/pid").readlink()

    def close(self) -> None:
        """End all of it, and take its control groups away."""
        if self._process is not None:
            # The kernel ends a namespace's processes with its first.
            self._process.kill()
            self._process.wait()
            self._process = None
        if self._group is not None:
            group, self._group = self._group, None
            wait_for("the control group to be empty", lambda: _populated(group) is False, 10)
            for folder in sorted(group.rglob("*/"), key=lambda path: len(path.parts), reverse=True):
                if folder.is_dir():
                    folder.rmdir()
            group.rmdir()


def _populated(group: Path) -> bool:
    return "populated 1" in (group / "cgroup.events").read_text(encoding="ascii")
