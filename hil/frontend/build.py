"""The firmware of the front end, compiled on the spot: as a program, as a library, for a Cortex-M3.

What was compiled once is kept in a cache folder under a name that hangs on everything that went in: sources, flags and
the compiler's own word about itself. Two processes that want the same build it once.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, NamedTuple

import firmware_proto
from hil.errors import BenchOptionError

FIRMWARE: Final = Path(firmware_proto.__file__).parent / "frontend" / "firmware"
CORE: Final = FIRMWARE / "core"
GENERATED: Final = FIRMWARE / "generated"
PORTS: Final = FIRMWARE / "ports"

STRICT: Final = ("-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic")
HOST_ROOM: Final = ("-DTG_BOX_MAX=16384u", "-DTG_BULK_BLOCKS=64u", "-DTG_BULK_CODES=246u")
"""A host has more memory than a board: a black box of 16384 samples, 64 blocks of 246 codes on their way."""
CORTEX_M3: Final = ("-mcpu=cortex-m3", "-mthumb", "-Os", "-ffreestanding", "-ffunction-sections", "-fdata-sections")
COMPILE_S: Final = 120.0
OBJECTS: Final = "objects"
"""Name of the folder of object files that builds with an edit share."""
KEPT: Final = 256
"""Builds kept in the cache; the longest unused go first."""


class Edit(NamedTuple):
    """A change to one source before it is compiled, for a test that takes a check out and sees the harm."""

    source: str
    """Name of a ``.c`` file of core or port."""
    old: str
    """Has to stand in it exactly once."""
    new: str


@dataclass(frozen=True, slots=True)
class _Recipe:
    """What to compile; the program comes last."""

    compiler: str
    name: str
    port: str
    flags: tuple[str, ...]
    edits: tuple[Edit, ...] = ()
    link: tuple[str, ...] = ()
    script: Path | None = None
    """Of the linker."""
    shared: Path | None = None
    """Folder of another port whose headers this one includes."""
    extra: tuple[Path, ...] = ()
    """Sources beside core and port."""
    without: tuple[str, ...] = ()
    """Names of sources of the port that are left out."""

    def sources(self) -> list[Path]:
        """Return the C files, core first."""
        port = [path for path in sorted((PORTS / self.port).glob("*.c")) if path.name not in self.without]
        return [*sorted(CORE.glob("*.c")), *port, *self.extra]

    def fingerprint(self) -> str:
        """Return what names the build: the same on each machine with this compiler."""
        parts = [_version(self.compiler), *self.flags, *self.link, *map(repr, self.edits), *self.without]
        folders = [CORE, GENERATED, PORTS / self.port, *([self.shared] if self.shared else [])]
        folders += sorted({path.parent for path in self.extra} - set(folders))
        files = [path for folder in folders for path in sorted(folder.rglob("*")) if path.suffix in {".c", ".h", ".ld"}]
        digest = hashlib.sha256("\n".join([self.name, *parts]).encode())
        for path in [*files, *self.extra]:
            digest.update(path.name.encode() + b"\0" + path.read_bytes())
        return digest.hexdigest()[:24]


def native(sample_hz: int = 100_000, *, edits: Sequence[Edit] = ()) -> Path:
    """Return the port ``host`` as a program; ``sample_hz`` is what it samples at unless told otherwise.

    Raises BenchOptionError without a compiler.
    """
    flags = (*STRICT, "-O2", *HOST_ROOM, f"-DTG_SAMPLE_HZ={sample_hz}u", "-D_GNU_SOURCE")
    # What an emulated board reads from the bench memory is the same code on all of them.
    other = PORTS / "mps2_an385"
    extra = (other / "bench_side.c",)
    return _built(_Recipe(_host_compiler(), "tg-frontend", "host", flags, tuple(edits), shared=other, extra=extra))


def lockstep(*, edits: Sequence[Edit] = (), flags: Sequence[str] = ("-O2",)) -> Path:
    """Return the core as a shared library that the caller's clock drives (:mod:`hil.frontend.lockstep`).

    Raises BenchOptionError without a compiler.
    """
    every = (*STRICT, *flags, *HOST_ROOM, "-fPIC", "-shared", "-fvisibility=default")
    return _built(_Recipe(_host_compiler(), "tg-lockstep.so", "lockstep", every, tuple(edits)))


def objects() -> Path:
    """Return a folder of object files of the core and the port ``lockstep``, to look into; raises BenchOptionError."""
    every = (*STRICT, "-Os", "-fno-stack-protector", "-fPIC")
    return _built(_Recipe(_host_compiler(), OBJECTS, "lockstep", every))


def mps2(
    *,
    sample_hz: int = 10_000,
    spin: bool = False,
    defines: Sequence[str] = (),
    extra: Sequence[Path] = (),
    without: Sequence[str] = (),
    edits: Sequence[Edit] = (),
) -> Path:
    """Return the image for the Cortex-M3 of an MPS2 board, as ELF.

    ``spin``: idles in a loop, as QEMU's icount needs it. ``extra``: sources beside core and port, ``without``: names of
    sources of the port that they replace, as a test image has them. Raises BenchOptionError without the cross compiler.
    """
    compiler = arm_compiler()
    if compiler is None:
        raise BenchOptionError("no cross compiler for the Cortex-M3; on Debian: apt-get install gcc-arm-none-eabi")
    script = PORTS / "mps2_an385" / "link.ld"
    flags = (
        *(*STRICT, *CORTEX_M3, f"-DTG_SAMPLE_HZ={sample_hz}u", f"-DTG_SPIN_IDLE={int(spin)}"),
        *(f"-D{define}" for define in defines),
    )
    return _built(
        _Recipe(
            compiler,
            "tg-mps2.elf",
            "mps2_an385",
            flags,
            tuple(edits),
            link=("-nostdlib", "-nostartfiles", "-Wl,--gc-sections", "-Wl,--no-warn-rwx-segments"),
            script=script,
            extra=tuple(extra),
            without=tuple(without),
        )
    )


def arm_compiler() -> str | None:
    """Return the cross compiler's path, None where it is not installed."""
    return shutil.which("arm-none-eabi-gcc")


def cache_folder() -> Path:
    """Return where builds are kept: ``$XDG_CACHE_HOME``, else ``~/.cache``, below it ``tipguard/firmware``."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if base else Path.home() / ".cache") / "tipguard" / "firmware"


def _host_compiler() -> str:
    for name in (os.environ.get("CC", ""), "cc", "gcc"):
        if name and (found := shutil.which(name)):
            return found
    raise BenchOptionError("the firmware is compiled on the spot and there is no C compiler: apt-get install gcc")


@functools.cache
def _version(compiler: str) -> str:
    done = subprocess.run([compiler, "--version"], capture_output=True, text=True, check=False, timeout=COMPILE_S)
    return done.stdout.partition("\n")[0]


def _built(recipe: _Recipe) -> Path:
    folder = cache_folder()
    fingerprint = recipe.fingerprint()
    target = folder / fingerprint / recipe.name
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        os.utime(target.parent)
        if target.exists():
            return target
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _locked(folder / f"{fingerprint}.lock"):
            if not target.exists():
                _compile(recipe, target, int(fingerprint[:8], 16))
    except OSError as error:
        raise BenchOptionError(f"{folder}: {error.strerror}; XDG_CACHE_HOME names another folder for builds") from error
    _forget_old(folder)
    return target


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _compile(recipe: _Recipe, target: Path, build_id: int) -> None:
    """Make ``target``; with OBJECTS for a name it is a folder of them."""
    with tempfile.TemporaryDirectory(prefix="build-", dir=target.parents[1]) as name:
        folder = Path(name)
        whole = folder / recipe.name
        flags = [*recipe.flags, f"-DTG_BUILD_ID=0x{build_id:08X}u"]
        if recipe.name == OBJECTS:
            whole.mkdir()
            _run(recipe, whole, [*flags, "-c", *map(str, recipe.sources())])
        else:
            script = ["-T", str(recipe.script), "-lgcc"] if recipe.script else []
            _run(recipe, folder, [*flags, "-o", recipe.name, *map(str, _inputs(recipe, folder)), *recipe.link, *script])
        target.parent.mkdir(exist_ok=True)
        whole.replace(target)


def _run(recipe: _Recipe, folder: Path, arguments: list[str]) -> None:
    includes = [CORE, GENERATED, PORTS / recipe.port, *([recipe.shared] if recipe.shared else [])]
    includes += sorted({path.parent for path in recipe.extra} - set(includes))
    command = [recipe.compiler, *(f"-I{path}" for path in includes), *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=COMPILE_S)
    if done.returncode:
        said = next((line for line in done.stderr.splitlines() if "error" in line), done.stderr.strip()[:300])
        raise BenchOptionError(f"the firmware ({recipe.port}) does not compile: {said}")


def _inputs(recipe: _Recipe, folder: Path) -> list[Path]:
    """Return what to compile and link: all sources, or the edited ones and the objects of all others."""
    if not recipe.edits:
        return recipe.sources()
    objects = _built(replace(recipe, name=OBJECTS, edits=(), link=(), script=None))
    edited = _edited(recipe, folder)
    names = {path.stem for path in edited}
    return [*edited, *(path for path in sorted(objects.glob("*.o")) if path.stem not in names)]


def _edited(recipe: _Recipe, folder: Path) -> list[Path]:
    """Write the changed sources into ``folder`` and return them."""
    texts: dict[str, str] = {}
    known = {path.name: path for path in recipe.sources()}
    for edit in recipe.edits:
        if edit.source not in known:
            raise BenchOptionError(f"no such source to edit: {edit.source}")
        text = texts.get(edit.source) or known[edit.source].read_text("utf-8")
        if text.count(edit.old) != 1:
            raise BenchOptionError(f"{edit.source} has {text.count(edit.old)} times, not once: {edit.old!r}")
        texts[edit.source] = text.replace(edit.old, edit.new)
    for name, text in texts.items():
        (folder / name).write_text(text, "utf-8")
    return [folder / name for name in texts]


def _forget_old(folder: Path) -> None:
    """Remove the longest unused builds beyond KEPT; whoever removes the same at once is no trouble."""
    builds = [path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("build-")]
    if len(builds) <= KEPT:
        return
    with contextlib.suppress(FileNotFoundError):
        builds.sort(key=lambda path: path.stat().st_mtime)
        for path in builds[: len(builds) - KEPT]:
            shutil.rmtree(path, ignore_errors=True)
            path.with_suffix(".lock").unlink(missing_ok=True)
