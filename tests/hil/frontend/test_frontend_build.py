"""Building the firmware on the spot: once, under a name that hangs on what went in, with errors that say what to do."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from hil.errors import BenchOptionError
from hil.frontend import build
from hil.frontend.build import Edit
from tests.hil.frontend.desk import needs_cc

pytestmark = needs_cc

QUICK = ("-O0",)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "tipguard" / "firmware"


def test_what_was_built_once_is_kept_and_another_build_is_another_file(cache: Path) -> None:
    one = build.lockstep(flags=QUICK)
    built = one.stat().st_mtime_ns
    assert build.lockstep(flags=QUICK) == one
    assert one.stat().st_mtime_ns == built
    other = build.lockstep(flags=QUICK, edits=[Edit("tg_detector.c", "size >= config->hard_code", "false")])
    assert other != one
    assert other.is_relative_to(cache)
    assert not list(cache.glob("build-*")), "nothing half is left"


def test_two_processes_build_it_once(cache: Path) -> None:
    program = "from hil.frontend import build; print(build.lockstep(flags=('-O0',)))"
    command = [sys.executable, "-c", program]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    said = [process.communicate(timeout=50)[0] for process in both]
    assert said[0] == said[1]
    assert len([path for path in cache.iterdir() if path.is_dir()]) == 1


def test_old_builds_are_forgotten(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "KEPT", 2)
    for number in range(4):
        old = cache / f"{number:024x}"
        old.mkdir(parents=True)
        os.utime(old, (number, number))
    new = build.lockstep(flags=QUICK)
    assert sorted(path for path in cache.iterdir() if path.is_dir()) == sorted([cache / f"{3:024x}", new.parent])


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (Edit("tg_core.c", "no such words", ""), "has 0 times"),
        (Edit("tg_core.c", "core", ""), "times, not once"),
        (Edit("nothing.c", "a", "b"), "no such source"),
    ],
)
def test_an_edit_that_does_not_fit_is_an_error(edit: Edit, words: str) -> None:
    with pytest.raises(BenchOptionError, match=words):
        build.lockstep(edits=[edit])


def test_what_does_not_compile_is_told_with_its_line(cache: Path) -> None:
    with pytest.raises(BenchOptionError, match=r"tg_box\.c:\d+.*nonsense"):
        build.lockstep(flags=QUICK, edits=[Edit("tg_box.c", "box->held = true;", "nonsense;")])


def test_a_missing_compiler_names_its_package(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.delenv("CC", raising=False)
    for make in (build.native, build.lockstep):
        with pytest.raises(BenchOptionError, match="apt-get install gcc"):
            make()
    with pytest.raises(BenchOptionError, match="apt-get install gcc-arm-none-eabi"):
        build.mps2()


def test_a_cache_that_cannot_be_written_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(BenchOptionError, match="XDG_CACHE_HOME"):
        build.lockstep(flags=QUICK)


def test_the_core_takes_no_memory_and_no_library() -> None:
    """No malloc, no libc: nothing from outside but the board's functions, and what gcc calls by itself."""
    if shutil.which("nm") is None:
        pytest.skip("needs nm: apt-get install binutils")
    objects = build.objects()
    outside: set[str] = set()
    inside: set[str] = set()
    for path in sorted(objects.glob("tg_*.o")):
        if path.stem == "tg_lockstep":
            continue
        for line in subprocess.run(["nm", str(path)], capture_output=True, text=True, check=True).stdout.splitlines():
            kind, name = line.split()[-2:]
            (outside if kind == "U" else inside).add(name)
    from_elsewhere = {name for name in outside - inside if not name.startswith("tg_port_")}
    assert from_elsewhere <= {"memset", "memcpy", "_GLOBAL_OFFSET_TABLE_", "__stack_chk_fail"}
    assert not [name for name in inside if name.startswith("tg_port_")]
