"""The heartbeat page: what the keeper must know when the worker can no longer say it. Standard library only.

A page of shared memory on tmpfs, made of aligned 64-bit words; each is written whole by one store. The worker writes
all but the words named *keeper*. Nothing in it is trusted further than it must be: an unknown cut form is cut with
the lines that are right for any rig.
"""

from __future__ import annotations

import mmap
import os
from pathlib import Path
from typing import Final

from edge.errors import RingError
from edge.guard.states import State

SIZE: Final = mmap.PAGESIZE
STATES: Final = tuple(state.value for state in State)
MAGIC: Final = 0x54_47_50_41_47_45_00_01
(
    _MAGIC,
    _HEARTBEAT_NS,
    _ENERGISED,
    _QUERY_OUTSTANDING,
    _EPOCH,
    _WORKER_PID,
    _CUTS,
    _KEEPER_HEARTBEAT_NS,
    _KEEPER_PID,
    _RESTARTS,
    _STATE,
) = range(11)


class Page:
    """One mapped page; the keeper creates it, the worker and readers open it."""

    def __init__(self, path: Path, *, create: bool = False) -> None:
        """Map ``path``; raise :class:`RingError` if it is not a page, or there is none and none can be made."""
        try:
            fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | (os.O_CREAT if create else 0), 0o600)
        except OSError as error:
            raise RingError(f"{path}: no heartbeat page ({error.strerror}); the controller makes it") from error
        try:
            if create:
                os.ftruncate(fd, SIZE)
                # Reserved now: on a full tmpfs the first store would be a SIGBUS.
                os.posix_fallocate(fd, 0, SIZE)
            elif os.fstat(fd).st_size != SIZE:
                raise RingError(f"{path}: not a heartbeat page; stop the controller and start it again")
            self._map = mmap.mmap(fd, SIZE)
        except OSError as error:
            raise RingError(f"{path}: no heartbeat page can be made ({error.strerror})") from error
        finally:
            os.close(fd)
        self._bytes = memoryview(self._map)
        self._words = self._bytes.cast("Q")
        if create:
            for index in range(16):
                self._words[index] = 0
            self._words[_MAGIC] = MAGIC
        elif self._words[_MAGIC] != MAGIC:
            self.close()
            raise RingError(f"{path}: not a heartbeat page of this version; stop the controller and start it again")

    def close(self) -> None:
        """Unmap."""
        self._words.release()
        self._bytes.release()
        self._map.close()

    def begin_worker(self, pid: int, epoch: int, now_ns: int) -> None:
        """Start a worker's life: its first stamp, nothing energised, nothing outstanding."""
        words = self._words
        words[_ENERGISED] = 0
        words[_QUERY_OUTSTANDING] = 0
        words[_STATE] = 0
        words[_EPOCH] = epoch
        # The stamp before the pid: a pid with an old stamp would look like a hang.
        words[_HEARTBEAT_NS] = now_ns
        words[_WORKER_PID] = pid

    def stamp(self, now_ns: int) -> None:
        """Say that the control task is alive and no exchange is past its read deadline."""
        self._words[_HEARTBEAT_NS] = now_ns

    @property
    def heartbeat_ns(self) -> int:
        """Last stamp, CLOCK_MONOTONIC."""
        return self._words[_HEARTBEAT_NS]

    @property
    def energised(self) -> bool:
        """True from before the output-on command to after the verified output-off."""
        return bool(self._words[_ENERGISED])

    @energised.setter
    def energised(self, value: bool) -> None:
        self._words[_ENERGISED] = 1 if value else 0

    @property
    def query_outstanding(self) -> bool:
        """True from before a question is written until its reply was seen: then a cut needs an abort first."""
        return bool(self._words[_QUERY_OUTSTANDING])

    def set_query_outstanding(self, value: bool) -> None:
        """See :attr:`query_outstanding`; a method, because the link calls it."""
        self._words[_QUERY_OUTSTANDING] = 1 if value else 0

    @property
    def epoch(self) -> int:
        """Random id of this worker's life; 0 before the first."""
        return self._words[_EPOCH]

    @property
    def worker_pid(self) -> int:
        """Process id of the worker; 0 when none runs."""
        return self._words[_WORKER_PID]

    @worker_pid.setter
    def worker_pid(self, pid: int) -> None:
        self._words[_WORKER_PID] = pid

    @property
    def state(self) -> str:
        """What the worker last called its state, "" before it called itself anything."""
        code = self._words[_STATE]
        return STATES[code - 1] if 0 < code <= len(STATES) else ""

    @state.setter
    def state(self, name: str) -> None:
        self._words[_STATE] = STATES.index(name) + 1

    @property
    def keeper_heartbeat_ns(self) -> int:
        """Last stamp of the keeper, CLOCK_MONOTONIC."""
        return self._words[_KEEPER_HEARTBEAT_NS]

    def keeper_stamp(self, now_ns: int, pid: int) -> None:
        """Keeper only."""
        self._words[_KEEPER_HEARTBEAT_NS] = now_ns
        self._words[_KEEPER_PID] = pid

    def count_keeper_cut(self) -> int:
        """Keeper only: count a cut made by the keeper and return the total."""
        self._words[_CUTS] += 1
        return self._words[_CUTS]

    def count_restart(self) -> int:
        """Keeper only: count a worker restart and return the total."""
        self._words[_RESTARTS] += 1
        return self._words[_RESTARTS]

    @property
    def keeper_cuts(self) -> int:
        """Cuts made by the keeper since it started."""
        return self._words[_CUTS]

    @property
    def restarts(self) -> int:
        """Worker restarts since the keeper started."""
        return self._words[_RESTARTS]
