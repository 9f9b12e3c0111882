"""The run directory: where it is, whose it is, files that are whole or absent, and one controller per rig."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from edge import rundir
from edge.errors import BusyError, ConfigError

HOLDER = """
import sys
from pathlib import Path
from edge.rundir import RigLock
lock = RigLock(Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run directory of this test's own, as systemd would name it."""
    path = tmp_path / "run"
    path.mkdir(mode=0o700)
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(path))
    return path


def no_access_to_run(path: str | Path, _mode: int) -> bool:
    return not str(path).startswith("/run")


# ------------------------------------------------------------------------------------------------------ where it is


def test_what_systemd_names_comes_first(base: Path) -> None:
    assert rundir.base_dir() == base
    assert rundir.rig_dir("bench-1") == base / "bench-1"


def test_of_several_that_systemd_names_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNTIME_DIRECTORY", "/run/a:/run/b")
    assert rundir.base_dir() == Path("/run/a")


def test_then_run_if_it_may_be_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RUNTIME_DIRECTORY", raising=False)
    monkeypatch.setattr(os, "access", lambda path, _mode: str(path) in {"/run", "/run/tipguard"})
    assert rundir.base_dir() == Path("/run/tipguard")


def test_then_the_users_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("RUNTIME_DIRECTORY", raising=False)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setattr(os, "access", no_access_to_run)
    assert rundir.base_dir() == tmp_path / "tipguard"


@pytest.mark.parametrize("xdg", ["", "/absent"])
def test_else_shared_memory_under_the_users_number(monkeypatch: pytest.MonkeyPatch, xdg: str) -> None:
    monkeypatch.delenv("RUNTIME_DIRECTORY", raising=False)
    monkeypatch.setenv("XDG_RUNTIME_DIR", xdg)
    monkeypatch.setattr(os, "access", lambda _path, _mode: False)
    monkeypatch.setattr(os, "getuid", lambda: 4711)
    assert rundir.base_dir() == Path("/dev/shm/tipguard-4711")  # noqa: S108 - that it is this one


def test_asking_for_it_makes_nothing(base: Path) -> None:
    rundir.rig_dir("bench-1")
    assert list(base.iterdir()) == []


def test_what_is_made_is_for_this_user_only(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    # The base as well: in /dev/shm everybody may look, and what lies open there everybody may connect to.
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path / "new" / "base"))
    before = os.umask(0)
    try:
        path = rundir.rig_dir("bench-1", create=True)
    finally:
        os.umask(before)
    for made in (path, path.parent):
        assert stat.S_IMODE(made.stat().st_mode) == 0o700
    assert rundir.rig_dir("bench-1", create=True) == path


def test_where_none_can_be_made_it_says_so_in_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_bytes(b"")
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(blocked))
    with pytest.raises(ConfigError, match=r"run directory .*file/bench-1: .*; set RUNTIME_DIRECTORY") as caught:
        rundir.rig_dir("bench-1", create=True)
    assert "\n" not in str(caught.value)


def test_another_users_directory_is_refused(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Made in /dev/shm before us, under our number.
    monkeypatch.setattr(os, "getuid", lambda: 4711)
    monkeypatch.setattr(Path, "lstat", lambda _path: os.stat_result([0o40700, 0, 0, 0, 4712, 0, 0, 0, 0, 0]))
    with pytest.raises(ConfigError, match="belongs to another user"):
        rundir.rig_dir("bench-1", create=True)


@pytest.mark.parametrize(("uid", "owner"), [(4711, 4711), (4711, 0), (0, 4711)])
def test_ones_own_directory_and_roots_are_not(
    base: Path, monkeypatch: pytest.MonkeyPatch, uid: int, owner: int
) -> None:
    monkeypatch.setattr(os, "getuid", lambda: uid)
    monkeypatch.setattr(Path, "lstat", lambda _path: os.stat_result([0o40700, 0, 0, 0, owner, 0, 0, 0, 0, 0]))
    assert rundir.rig_dir("bench-1", create=True) == base / "bench-1"


# --------------------------------------------------------------------------------------------------------- files


def test_what_is_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "safe.json"
    rundir.write_json(path, {"path": "/dev/ttyUSB0", "baud": 57600, "lines": ["0a"]})
    assert rundir.read_json(path) == {"path": "/dev/ttyUSB0", "baud": 57600, "lines": ["0a"]}
    rundir.write_json(path, {"n": 1})
    assert rundir.read_json(path) == {"n": 1}
    assert [entry.name for entry in tmp_path.iterdir()] == ["safe.json"]


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"null", b"1", b'"x"', b"\xff", b'{"n": 1} {"n": 2}', b"{'n': 1}"]
)
def test_what_is_no_map_is_nothing(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "state.json"
    path.write_bytes(content)
    assert rundir.read_json(path) is None


def test_what_is_absent_is_nothing(tmp_path: Path) -> None:
    assert rundir.read_json(tmp_path / "absent") is None
    assert rundir.read_json(tmp_path) is None


def test_a_writer_that_dies_in_the_middle_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "state.json"
    rundir.write_json(path, {"state": "dirty"})
    partial = path.with_name("state.json.new")
    partial.write_text('{"state": "cle', encoding="utf-8")
    assert rundir.read_json(path) == {"state": "dirty"}

    def die(_self: Path, _target: Path) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", die)
        with pytest.raises(KeyboardInterrupt):
            rundir.write_json(path, {"state": "clean"})
    assert rundir.read_json(path) == {"state": "dirty"}
    rundir.write_json(path, {"state": "clean"})
    assert rundir.read_json(path) == {"state": "clean"}


# ---------------------------------------------------------------------------------------------------------- the lock


def test_one_controller_per_rig_and_the_other_is_named(tmp_path: Path) -> None:
    rig = tmp_path / "bench-1"
    rig.mkdir()
    assert not rundir.controller_runs(rig)
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(rig)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        assert rundir.controller_runs(rig)
        with pytest.raises(BusyError, match=rf"rig bench-1: a controller already runs \(process {holder.pid}\)"):
            rundir.RigLock(rig)
        # Asking takes nothing away.
        assert rundir.controller_runs(rig)
        holder.kill()
    # The kernel releases what a dead process held.
    assert not rundir.controller_runs(rig)
    rundir.RigLock(rig).close()


def test_the_lock_is_released_by_closing_it(tmp_path: Path) -> None:
    lock = rundir.RigLock(tmp_path)
    assert rundir.controller_runs(tmp_path)
    assert (tmp_path / rundir.LOCK_FILE).read_text() == f"{os.getpid()}\n"
    with pytest.raises(BusyError):
        rundir.RigLock(tmp_path)
    lock.close()
    assert not rundir.controller_runs(tmp_path)


def test_a_shorter_process_number_leaves_nothing_of_a_longer_one(tmp_path: Path) -> None:
    (tmp_path / rundir.LOCK_FILE).write_text("12345678901234567890\n")
    lock = rundir.RigLock(tmp_path)
    assert (tmp_path / rundir.LOCK_FILE).read_text() == f"{os.getpid()}\n"
    lock.close()


def test_a_lock_held_by_nobody_known_says_so(tmp_path: Path) -> None:
    lock = rundir.RigLock(tmp_path)
    (tmp_path / rundir.LOCK_FILE).write_text("")
    with pytest.raises(BusyError, match=r"\(process \?\)"):
        rundir.RigLock(tmp_path)
    lock.close()


def test_other_rigs_are_not_locked(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    locks = [rundir.RigLock(tmp_path / "a"), rundir.RigLock(tmp_path / "b")]
    for lock in locks:
        lock.close()


def test_a_rig_that_never_ran_has_no_controller(tmp_path: Path) -> None:
    assert not rundir.controller_runs(tmp_path / "never")


def test_safe_off_can_import_it_without_anything_but_the_standard_library() -> None:
    code = (
        "import sys\nimport edge.rundir\n"
        "print(sorted(m for m in sys.modules if m.split('.')[0] in ('pydantic', 'msgpack', 'numpy', 'serial')"
        " or m.startswith('edge.')))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "['edge.errors', 'edge.rundir']"
