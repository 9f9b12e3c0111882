"""A disk on which the power fails at a chosen step, and with it goes what was not synced.

The model: a write that is not synced may be there in part, or as zeros; a step that was interrupted happened or did
not; what a method has returned from is durable exactly as far as :class:`edge.store.disk.Disk` promises.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

from edge.store.disk import PARTIAL, RealDisk


class PowerCutError(BaseException):
    """The power is gone; nobody handles this."""


class CuttableDisk(RealDisk):
    """Counts its steps, and fails at ``cut_at``; :meth:`go_dark` then leaves what a disk may hold."""

    def __init__(self, rng: random.Random, cut_at: int = -1, *, syncs: bool = True) -> None:
        self.steps = 0
        self.kinds: list[str] = []
        """Of each step, which method it was."""
        self._rng = rng
        self._cut_at = cut_at
        self._syncs = syncs
        self._paths: dict[int, Path] = {}
        self._durable: dict[Path, int] = {}

    def _step(self, half: Callable[[], object] = lambda: None) -> None:
        self.steps += 1
        self.kinds.append(sys._getframe(1).f_code.co_name)
        if self.steps == self._cut_at:
            if self._rng.random() < 0.5:
                half()
            raise PowerCutError

    def make_folder(self, path: Path) -> None:
        if not path.exists():
            self._step(lambda: RealDisk.make_folder(self, path))
        super().make_folder(path)

    def append_to(self, path: Path) -> int:
        self._step(path.touch)
        descriptor = super().append_to(path)
        self._paths[descriptor] = path
        # What was there before this run of the program is not known to be durable, unless it was synced in it.
        self._durable.setdefault(path, 0)
        return descriptor

    def write(self, descriptor: int, data: bytes) -> None:
        # put() of the real disk writes by this, too: that is one step of its own, and durable at its end.
        if descriptor in self._paths:
            part = data[: self._rng.randrange(len(data) + 1)]
            self._step(lambda: RealDisk.write(self, descriptor, part))
        super().write(descriptor, data)

    def sync(self, descriptor: int) -> None:
        self._step()
        if self._syncs:
            super().sync(descriptor)
            path = self._paths[descriptor]
            self._durable[path] = path.stat().st_size

    def cut_back(self, descriptor: int, size: int) -> None:
        self._step(lambda: RealDisk.cut_back(self, descriptor, size))
        super().cut_back(descriptor, size)

    def close(self, descriptor: int) -> None:
        self._paths.pop(descriptor, None)
        super().close(descriptor)

    def put(self, path: Path, data: bytes) -> None:
        def half() -> None:
            if self._rng.random() < 0.5:
                RealDisk.put(self, path, data)
                self._durable[path] = len(data)
            else:
                path.with_name(path.name + PARTIAL).write_bytes(data[: self._rng.randrange(len(data) + 1)])

        self._step(half)
        super().put(path, data)
        self._durable[path] = len(data)

    def rename(self, path: Path, to: Path) -> None:
        self._step(lambda: RealDisk.rename(self, path, to))
        super().rename(path, to)
        self._durable.pop(path, None)

    def remove(self, path: Path) -> None:
        self._step(lambda: RealDisk.remove(self, path))
        super().remove(path)
        self._durable.pop(path, None)

    def make_twin(self, path: Path, like: Path) -> None:
        self._step(lambda: RealDisk.make_twin(self, path, like))
        super().make_twin(path, like)

    def link(self, paths: Iterable[Path], folder: Path) -> None:
        names = list(paths)
        self._step(lambda: RealDisk.link(self, names[: self._rng.randrange(len(names) + 1)], folder))
        super().link(names, folder)

    def exchange(self, path: Path, other: Path) -> None:
        self._step(lambda: self._exchange(path, other))
        self._exchange(path, other)

    def _exchange(self, path: Path, other: Path) -> None:
        super().exchange(path, other)
        # What was written in one of them and not synced is now in the other.
        moved = {path: other, other: path}
        self._durable = {
            moved[at.parent] / at.name if at.parent in moved else at: durable for at, durable in self._durable.items()
        }

    def remove_folder(self, path: Path) -> None:
        def half() -> None:
            for one in sorted(path.iterdir())[self._rng.randrange(2) :: 2]:
                one.unlink()

        if path.exists():
            self._step(half)
        super().remove_folder(path)
        self._durable = {at: durable for at, durable in self._durable.items() if at.parent != path}

    def go_dark(self) -> None:
        """Lose what was written and not synced, or a part of it."""
        for path, durable in self._durable.items():
            if not path.exists():
                continue
            data = path.read_bytes()
            end = self._rng.randrange(durable, len(data) + 1) if durable <= len(data) else len(data)
            tail = data[durable:end]
            if self._rng.random() < 0.3:
                tail = bytes(len(tail))
            path.write_bytes(data[:durable] + tail)
