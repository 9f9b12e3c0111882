"""The C parts of the benches, compiled on the spot: the reference guard and the measuring peer's hot function."""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

from hil.errors import BenchFaultError, BenchOptionError

SOURCES: Final = Path(__file__).parent
FLAGS: Final = ("-O2", "-Wall", "-Wextra")
COMPILE_S: Final = 60.0
ROOM: Final = 512
"""Longest answer of one trial, bytes."""
PATIENCE_MS: Final = 1000
_DONE, _SILENT = 0, 1


class _Outcome(ctypes.Structure):
    _fields_ = (
        ("sent_ns", ctypes.c_longlong),
        ("first_ns", ctypes.c_longlong),
        ("line_ns", ctypes.c_longlong),
        ("heard", ctypes.c_longlong),
    )


class Trial(NamedTuple):
    """What the peer saw; CLOCK_MONOTONIC in ns. ``answer``: all bytes that had come when its first line had ended.

    ``sent_ns`` is taken just before the write that ends the reading, ``first_ns`` and ``line_ns`` behind the reads that
    brought the answer's first byte and the end of its first line.
    """

    sent_ns: int
    first_ns: int
    line_ns: int
    answer: bytes


class Peer:
    """The measuring end of a line; one for both sides of a comparison."""

    def __init__(self, library: Path) -> None:
        """Load it."""
        self._trial = ctypes.CDLL(str(library)).trial
        self._trial.restype = ctypes.c_int
        self._trial.argtypes = (
            ctypes.c_int,
            ctypes.c_char_p,
            ctypes.c_int,
            ctypes.c_longlong,
            ctypes.c_longlong,
            ctypes.c_int,
            ctypes.c_char_p,
            ctypes.c_int,
            ctypes.POINTER(_Outcome),
        )
        self._answer = ctypes.create_string_buffer(ROOM)
        self._outcome = _Outcome()

    def trial(self, fd: int, reading: bytes, *, gap_ns: int = 0, byte_ns: int = 0) -> Trial:
        """Wait ``gap_ns``, send ``reading`` to ``fd`` (a byte every ``byte_ns``; 0: at once), wait for the answer.

        Raises BenchFaultError where no line comes within a second.
        """
        out = self._outcome
        code = self._trial(
            fd, reading, len(reading), gap_ns, byte_ns, PATIENCE_MS, self._answer, ROOM, ctypes.byref(out)
        )
        answer = self._answer.raw[: out.heard]
        if code == _SILENT:
            raise BenchFaultError(f"no answer to {reading!r} within {PATIENCE_MS} ms; heard {answer!r}")
        if code != _DONE:
            raise BenchFaultError(f"the line broke in a trial; heard {answer!r}")
        return Trial(out.sent_ns, out.first_ns, out.line_ns, answer)


@dataclass(frozen=True, slots=True)
class Native:
    """What was compiled. ``compiler``: its first line about itself."""

    peer: Peer
    reference: Path
    compiler: str


@contextlib.contextmanager
def compiled() -> Iterator[Native]:
    """Compile both, and remove them at the end. Raises BenchOptionError where there is no compiler."""
    cc = compiler()
    with tempfile.TemporaryDirectory(prefix="tipguard-bench-") as name:
        folder = Path(name)
        reference, library = folder / "reference", folder / "peer.so"
        _compile(cc, "reference.c", reference)
        _compile(cc, "peer.c", library, "-shared", "-fPIC")
        says = subprocess.run([cc, "--version"], capture_output=True, text=True, check=False, timeout=COMPILE_S)
        yield Native(Peer(library), reference, says.stdout.partition("\n")[0])


def compiler() -> str:
    """Return the C compiler: ``$CC``, else cc or gcc."""
    for name in (os.environ.get("CC", ""), "cc", "gcc"):
        if name and (found := shutil.which(name)):
            return found
    raise BenchOptionError("this bench compiles its C reference on the spot and finds no compiler: apt install gcc")


def _compile(cc: str, source: str, to: Path, *flags: str) -> None:
    command = [cc, *FLAGS, *flags, "-o", str(to), str(SOURCES / source)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=COMPILE_S)
    if done.returncode:
        said = done.stderr.strip().partition("\n")[0]
        raise BenchOptionError(f"{source} does not compile ({said}): apt install gcc libc6-dev")
