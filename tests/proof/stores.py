"""The kinds of stores that proofs run with: how each is started, and how what it holds is read when it is dead."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final, Protocol

from edge.store.opening import open_readable
from edge.store.verify import verify
from hil.balance import Held
from hil.errors import BenchFaultError
from tests.proof import plain_store

PYTHON: Final = (sys.executable, "-P", "-m")


class StoreKind(Protocol):
    """A kind of store; ``directory`` is one that only this store has."""

    def command(self, directory: Path, port: int, name: str) -> list[object]:
        """Return the command line of its process."""

    def held(self, directory: Path) -> Iterator[Held]:
        """Yield what it holds."""


class Plain:
    """The one of :mod:`tests.proof.plain_store`."""

    def __init__(self, *words: str) -> None:
        self._words = words

    def command(self, directory: Path, port: int, name: str) -> list[object]:
        words = [*PYTHON, "tests.proof.plain_store", "--directory", directory, "--port", port, "--name", name]
        return [*words, *self._words]

    def held(self, directory: Path) -> Iterator[Held]:
        return plain_store.held_in(directory)


class Ours:
    """``tipguard store``: in a directory, or in the database at ``url``."""

    def __init__(self, *words: str, url: str = "", mutate: str = "") -> None:
        """``mutate``: see :mod:`tests.proof.store_process`."""
        self._program = ["tests.proof.store_process", mutate] if mutate else ["edge.cli.main"]
        self._words: Sequence[str] = words
        self._url = url

    def _to(self, directory: Path) -> str:
        return self._url or str(directory)

    def command(self, directory: Path, port: int, name: str) -> list[object]:
        words: list[object] = [*PYTHON, *self._program, "store", "--to", self._to(directory), "--name", name]
        return [*words, "--port", port, *self._words]

    def held(self, directory: Path) -> Iterator[Held]:
        """As its own readers give it; first ``store verify`` must find nothing twice and nothing damaged."""
        with open_readable(self._to(directory)) as (readable, claimed):
            report: Any = verify(readable, claimed)
            if not report.good:
                raise BenchFaultError(f"store verify: {report.to_map()}")
            for key, seq, payload in readable.raw_frames():
                yield Held(key.rig, key.epoch, key.stream, seq, payload)
