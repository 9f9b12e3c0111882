"""install.sh and uninstall.sh in a tree of their own: twice is as once, and nobody's configuration is touched."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.deploy.unit_files import DEPLOY, install

SCRIPTS = ("common.sh", "install.sh", "uninstall.sh")
FAKE_PYTHON = """#!/bin/sh
# As much of a Python as an installer sees.
case "$*" in
    -V) echo "Python 3.11.9" ;;
    *-m\\ venv*) shift 2; mkdir -p "$1/bin"; cp "$0" "$1/bin/python" ;;
    *--no-build-isolation*) cp "$0" "${0%/*}/tipguard" ;;
    *-m\\ pip*) echo "$*" >>"${0%/*}/pip.log"; [ ! -e "@FAIL@" ] ;;
    *) exit 0 ;;
esac
"""


def tree(root: Path) -> dict[str, tuple[str, int, int]]:
    """Return what is below ``root``: content, mode and time of change of each file, target of each link."""
    found = {}
    for path in sorted(root.rglob("*")):
        info = path.lstat()
        what = f"-> {path.readlink()}" if path.is_symlink() else "folder"
        if path.is_file() and not path.is_symlink():
            what = hashlib.sha256(path.read_bytes()).hexdigest()
        found[str(path.relative_to(root))] = (what, info.st_mode, 0 if what == "folder" else info.st_mtime_ns)
    # sysusers opens its lock anew each time.
    found.pop("etc/.pwd.lock", None)
    return found


@pytest.fixture
def fake_python(tmp_path: Path) -> Path:
    path = tmp_path / "python"
    path.write_text(FAKE_PYTHON.replace("@FAIL@", str(tmp_path / "fail")), encoding="utf-8")
    path.chmod(0o755)
    return path


@pytest.mark.parametrize("name", SCRIPTS)
def test_the_shell_reads_it(name: str) -> None:
    done = subprocess.run(["bash", "-n", str(DEPLOY / name)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="needs shellcheck (package shellcheck)")
def test_shellcheck_has_nothing_to_say() -> None:
    names = [f"deploy/{name}" for name in SCRIPTS]
    command = ["shellcheck", "-x", "-P", ".", *names]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=DEPLOY.parent)
    assert (done.returncode, done.stdout) == (0, "")


def test_twice_is_as_once(tmp_path: Path) -> None:
    first = install(tmp_path, "--no-packages")
    assert first.returncode == 0, first.stderr
    before = tree(tmp_path)
    second = install(tmp_path, "--no-packages")
    assert second.returncode == 0, second.stderr
    assert tree(tmp_path) == before
    assert "written" not in second.stdout
    installed = {name for name, (what, _, _) in before.items() if what != "folder"}
    assert {
        "etc/systemd/system/tipguard-controller.service",
        "etc/systemd/system/tipguard-controller@.service",
        "etc/systemd/system/tipguard-uplink.service",
        "etc/systemd/system/tipguard-uplink@.service",
        "etc/systemd/system/tipguard-store@.service",
        "etc/udev/rules.d/60-tipguard.rules",
        "etc/sysusers.d/tipguard.conf",
        "etc/tmpfiles.d/tipguard.conf",
    } <= installed
    assert (tmp_path / "etc/systemd/system/tipguard-uplink.service").stat().st_mode & 0o777 == 0o644
    assert (tmp_path / "etc/tipguard").stat().st_mode & 0o777 == 0o750


def test_a_configuration_is_never_touched(tmp_path: Path) -> None:
    folder = tmp_path / "etc" / "tipguard"
    folder.mkdir(parents=True)
    (folder / "rig.toml").write_text("mine\n", encoding="utf-8")
    (folder / "rig.toml").chmod(0o600)
    before = (folder / "rig.toml").lstat()
    assert install(tmp_path, "--no-packages").returncode == 0
    assert install(tmp_path, program="uninstall.sh").returncode == 0
    after = (folder / "rig.toml").lstat()
    assert (after.st_mtime_ns, after.st_mode, after.st_ino) == (before.st_mtime_ns, before.st_mode, before.st_ino)


def test_a_dry_run_does_nothing(tmp_path: Path) -> None:
    done = install(tmp_path, "--dry-run")
    assert done.returncode == 0, done.stderr
    assert "would write  /etc/systemd/system/tipguard-controller.service" in done.stdout
    assert "would install the packages of requirements.lock" in done.stdout
    assert list(tmp_path.iterdir()) == []
    install(tmp_path, "--no-packages")
    before = tree(tmp_path)
    done = install(tmp_path, "--dry-run", "--purge", program="uninstall.sh")
    assert done.returncode == 0, done.stderr
    assert "would run: rm" in done.stdout
    assert tree(tmp_path) == before


def test_an_edited_unit_is_put_right(tmp_path: Path) -> None:
    install(tmp_path, "--no-packages")
    unit = tmp_path / "etc/systemd/system/tipguard-controller.service"
    before = unit.read_text(encoding="utf-8")
    unit.write_text(before.replace("WatchdogSec=1\n", ""), encoding="utf-8")
    done = install(tmp_path, "--no-packages")
    assert "written    /etc/systemd/system/tipguard-controller.service" in done.stdout
    assert unit.read_text(encoding="utf-8") == before


def test_uninstall_leaves_what_is_the_lab_s_until_told_otherwise(tmp_path: Path) -> None:
    install(tmp_path, "--no-packages")
    flight = tmp_path / "var/lib/tipguard/flight/rig/00000001.flight"
    flight.parent.mkdir(parents=True)
    flight.write_bytes(b"record")
    done = install(tmp_path, program="uninstall.sh")
    assert done.returncode == 0, done.stderr
    assert "kept" in done.stdout
    left = {name for name in tree(tmp_path) if "tipguard" in name}
    assert left == {
        "etc/tipguard",
        "var/lib/tipguard",
        "var/lib/tipguard/flight",
        "var/lib/tipguard/flight/rig",
        "var/lib/tipguard/flight/rig/00000001.flight",
    }
    assert install(tmp_path, program="uninstall.sh").returncode == 0
    assert install(tmp_path, "--purge", program="uninstall.sh").returncode == 0
    assert not {name for name in tree(tmp_path) if "tipguard" in name}
    again = install(tmp_path, "--purge", program="uninstall.sh")
    assert (again.returncode, again.stdout) == (0, "")


def test_what_a_store_has_is_never_removed(tmp_path: Path) -> None:
    install(tmp_path, "--no-packages")
    frames = tmp_path / "var/lib/tipguard-store/lab/journal/0001"
    frames.parent.mkdir(parents=True)
    frames.write_bytes(b"frames")
    done = install(tmp_path, "--purge", program="uninstall.sh")
    assert (done.returncode, frames.read_bytes()) == (0, b"frames")
    assert "kept: /var/lib/tipguard-store" in done.stdout


@pytest.mark.parametrize("file", ["outbox.sqlite", "outbox.sqlite.damaged-20260101T000000"])
def test_purge_leaves_an_outbox_which_may_hold_what_no_store_has(tmp_path: Path, file: str) -> None:
    assert install(tmp_path, "--no-packages").returncode == 0
    data = tmp_path / "var/lib/tipguard"
    outbox = data / "outbox" / "rig-1" / file
    outbox.parent.mkdir(parents=True)
    outbox.write_text("frames", encoding="utf-8")
    (data / "flight").mkdir()
    (data / "rig-profile.json").write_text("{}", encoding="utf-8")
    done = install(tmp_path, "--purge", program="uninstall.sh")
    assert done.returncode == 0, done.stderr
    assert [path.name for path in data.iterdir()] == ["outbox"]
    assert outbox.read_text(encoding="utf-8") == "frames"
    assert "kept: /var/lib/tipguard/outbox" in done.stdout


@pytest.mark.parametrize("options", [["--frobnicate"], ["--root"], ["--root", "relative"]])
@pytest.mark.parametrize("program", ["install.sh", "uninstall.sh"])
def test_what_cannot_be_meant_is_refused(tmp_path: Path, program: str, options: list[str]) -> None:
    done = install(tmp_path, *options, program=program)
    assert done.returncode == 1
    assert done.stderr.startswith(f"{program}: ")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.geteuid() == 0, reason="as root it would install")
@pytest.mark.parametrize("program", ["install.sh", "uninstall.sh"])
def test_without_root_nothing_begins(program: str) -> None:
    done = subprocess.run(["bash", str(DEPLOY / program)], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "needs root" in done.stderr


def test_the_program_is_put_beside_the_old_one_and_the_link_moved(tmp_path: Path, fake_python: Path) -> None:
    root = tmp_path / "root"
    options = ("--python", str(fake_python))
    first = install(root, *options)
    assert first.returncode == 0, first.stderr
    folder = root / "opt" / (root / "opt/tipguard").readlink()
    assert (folder / "bin/tipguard").exists()
    assert (root / "usr/local/bin/tipguard").readlink() == Path("/opt/tipguard/bin/tipguard")
    log = (folder / "bin/pip.log").read_text(encoding="utf-8")
    assert "--requirement" in log
    assert "requirements.lock" in log
    assert "index" not in log
    before = tree(root)
    assert install(root, *options).returncode == 0
    assert tree(root) == before
    # Another Python is another program; what ran before stays, what is older goes.
    olds = [folder]
    for patch in (10, 11):
        text = fake_python.read_text(encoding="utf-8").replace(f"3.11.{patch - 1}", f"3.11.{patch}")
        fake_python.write_text(text, encoding="utf-8")
        assert install(root, *options).returncode == 0
        olds.append(root / "opt" / (root / "opt/tipguard").readlink())
    assert len(set(olds)) == 3
    assert [old.exists() for old in olds] == [False, True, True]


def test_packages_that_cannot_be_had_change_nothing(tmp_path: Path, fake_python: Path) -> None:
    root = tmp_path / "root"
    options = ("--python", str(fake_python))
    assert install(root, *options).returncode == 0
    before = (root / "opt/tipguard").readlink()
    text = fake_python.read_text(encoding="utf-8").replace("3.11.9", "3.11.10")
    fake_python.write_text(text, encoding="utf-8")
    (tmp_path / "fail").touch()
    done = install(root, *options)
    assert done.returncode == 1
    assert "no network" in done.stderr
    assert (root / "opt/tipguard").readlink() == before
    # Half an installation is not taken for a whole one.
    (tmp_path / "fail").unlink()
    assert install(root, *options).returncode == 0
    assert (root / "opt/tipguard").readlink() != before
