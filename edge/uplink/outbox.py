"""The outbox as the event loop sees it: frames in, and a call when they are on disk.

At most one job is with the thread for committing, so groups form by themselves: what comes while one is written is the
next. The ring may be released up to :attr:`Outbox.floor`; nothing is published before it is committed.
"""

from __future__ import annotations

import asyncio
import contextlib
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

from edge import frames
from edge.clock import Clock
from edge.uplink.assemble import Built
from edge.uplink.held import UNKNOWN_HIGH, Held
from edge.uplink.jobs import Jobs
from edge.uplink.outbox_file import (
    KINDS,
    MAX_SEQ,
    OutboxDamagedError,
    OutboxError,
    OutboxFile,
    OutboxUnreadableError,
    Row,
    StreamRow,
    Usage,
    row_id,
)
from edge.uplink.ranges import Ranges
from edge.uplink.salvage import Loaded, SalvageError, load
from edge.uplink.settings import UplinkSettings
from edge.uplink.thinning import thin

_T = TypeVar("_T")

FILE: Final = "outbox.sqlite"
GROUP: Final = 32
GROUP_NS: Final = 20_000_000
"""A frame that is not urgent waits so long for others to be committed with it."""
HELD_BACK: Final = 128
"""Frames waiting for their commit; beyond, the ring is not read."""
NOTE_NS: Final = 2_000_000_000
"""What the broker and the stores have is written so long after it changed, with the next commit if there is one."""
RETRY_NS: Final = 1_000_000_000
SALVAGE_RETRY_NS: Final = 64_000_000_000
"""A copy that fails is not begun again sooner, in the end: each writes as much as there is room for."""


class BegunAnewError(OutboxError):
    """A job was meant for a file that is no longer the outbox."""


@dataclass(slots=True, eq=False)
class Entry:
    """One frame on its way."""

    held: Held
    seq: int
    kind: str
    payload: bytes
    crc: int
    start: int | None = None
    """Where in the ring it begins; None for what comes from the disk."""

    @property
    def row(self) -> Row:
        """The frame as it lies on disk."""
        return Row(row_id(self.held.sid, self.seq), self.crc, KINDS.index(self.kind), self.payload)


class Outbox:
    """Holds frames until every store has them. All calls come from the event loop."""

    def __init__(
        self,
        settings: UplinkSettings,
        *,
        jobs: Jobs,
        clock: Clock,
        committed: Callable[[list[Entry]], None],
        opened: Callable[[], None],
        utc: Callable[[], frames.UtcMapping],
        wake: Callable[[], None],
        log: Any,  # noqa: ANN401 - structlog's loggers share no type
    ) -> None:
        """``committed``: called with each group on disk. ``opened``: when :attr:`streams` begin, or begin anew."""
        directory = settings.outbox_directory
        self.path = settings.ring_path.with_name(FILE) if directory is None else Path(directory) / FILE
        self._settings = settings
        self._redrive_ns = int(settings.redrive_s * 1e9)
        self._jobs = jobs
        self._clock = clock
        self._on_committed = committed
        self._on_opened = opened
        self._utc = utc
        self._wake = wake
        self._log = log
        self._file = OutboxFile(self.path, max_bytes=settings.outbox_full_bytes)
        self._waiting: list[Entry] = []
        self._group: list[Entry] = []
        self._newest: dict[Held, int] = {}
        self._busy = False
        self._urgent = False
        self._since_ns = 0
        self.retry_ns = 0
        """Until then a disk that failed is left alone."""
        self._dirty: dict[int, Held] = {}
        self.is_open = self._opening = False
        """Rows can be read and deleted; a full disk still takes no more."""
        self._damage: str | None = None
        self._salvage_pause_ns = RETRY_NS
        self._leaving = False
        self._generation = 0
        self.ready = False
        """It is open, and the disk took the last commit."""
        self.streams: dict[tuple[int, str], Held] = {}
        self.by_sid: dict[int, Held] = {}
        self.moved_ns: dict[str, int] = {}
        """By store: when it last said that it had something new."""
        self.usage = Usage()
        self.stuck: str | None = None
        """What keeps frames from being committed, in words."""
        self._unable: dict[str, str] = {}
        """What else cannot be done, and why."""
        self.quarantined: str | None = None
        """Where a damaged outbox was put, since this process began."""
        self.salvaged = 0
        self.declared = 0
        """Frames that were lost, each of which a tombstone stands for now; since this process began."""
        self.repeated = 0
        """Frames read from the ring that were here already."""
        self.failure: Exception | None = None
        """An error of ours in a job; to be raised where somebody sees it."""

    @property
    def fault(self) -> str | None:
        """What the disk does not do, in words; None when it does everything."""
        return self.stuck or next((f"{what}: {why}" for what, why in self._unable.items()), None)

    # -- opening

    def open(self, damage: str | None = None) -> None:
        """Begin to open the file; said in :attr:`ready`, and tried again for as long as it takes.

        ``damage``: what was found to be wrong with it, so that it is put aside.
        """
        self._damage = damage
        self._busy = self._opening = True
        self.is_open = self.ready = False
        job = partial(load, self._file, self._settings.rig, damage, lambda: self._leaving)
        self._jobs.submit(job, self._loaded)

    def _loaded(self, result: Loaded | Exception) -> None:
        self._busy = self._opening = False
        if isinstance(result, Exception):
            self._failed(result)
            if isinstance(result, SalvageError):
                self.retry_ns += self._salvage_pause_ns - RETRY_NS
                self._salvage_pause_ns = min(2 * self._salvage_pause_ns, SALVAGE_RETRY_NS)
            return
        self._salvage_pause_ns = RETRY_NS
        if result.aside is not None:
            self.quarantined = str(result.aside)
            self.salvaged = result.salvaged
            self.declared += result.declared
            self._log.error(
                "the outbox was damaged: put aside, and begun anew with what could be read of it",
                aside=str(result.aside),
                why=result.why,
                salvaged=result.salvaged,
                declared_missing=result.declared,
            )
        self.is_open = True
        self._damage = None
        self._generation = result.generation
        now_ns = self._clock.now_ns()
        self.streams.clear()
        self.by_sid.clear()
        self._dirty.clear()
        for row, ends in result.streams:
            self._adopt(Held.from_row(row, ends, self._redrive_ns, now_ns))
        self._take_back(self._group)
        self.usage = result.usage
        self._unable.clear()
        self._works()
        self._log.info(
            "outbox open",
            path=str(self.path),
            frames=sum(held.kept.count for held in self.by_sid.values()),
            to_send=sum(held.todo.count for held in self.by_sid.values()),
        )
        self._on_opened()
        self._wake()

    def _adopt(self, held: Held) -> Held:
        self.streams[held.epoch, held.stream] = held
        self.by_sid[held.sid] = held
        return held

    def _take_back(self, group: list[Entry]) -> None:
        """What was not committed waits again, in the streams as they are now."""
        waiting, self._waiting, self._group = [*group, *self._waiting], [], []
        self._newest.clear()
        for entry in waiting:
            entry.held = self._held(entry.held.epoch, entry.held.stream)
            if entry.held.fresh:
                entry.held.begins(entry.seq)
            if entry.seq not in entry.held.kept:
                self._newest[entry.held] = entry.seq
                self._waiting.append(entry)

    def _held(self, epoch: int, stream: str) -> Held:
        held = self.streams.get((epoch, stream))
        return held or self._adopt(Held(max(self.by_sid, default=0) + 1, epoch, stream, self._redrive_ns))

    # -- frames in

    @property
    def room(self) -> bool:
        """True while more frames should be read from the ring."""
        return self.ready and len(self._waiting) < HELD_BACK and self.usage.used_bytes < self._settings.budget_bytes

    @property
    def commits(self) -> int:
        """How many there were; counted as they are made, for saving a damaged outbox is one job of thousands."""
        return self._file.commits

    @property
    def uncommitted(self) -> int:
        """Frames taken and not on disk yet."""
        return len(self._waiting) + len(self._group)

    def put(self, built: Built, stream: str, now_ns: int) -> None:
        """Take a frame; one that is here already, read from the ring once more, is left."""
        held = self._held(built.epoch, stream)
        if held.fresh:
            held.begins(built.seq)
        if built.seq < held.high or built.seq <= self._newest.get(held, -1):
            self.repeated += 1
            return
        if built.seq > MAX_SEQ:
            self._log.error("a frame's number is beyond what the outbox can hold", seq=built.seq)
            return
        self._newest[held] = built.seq
        if not self._waiting:
            self._since_ns = now_ns
        self._urgent = self._urgent or built.kind not in frames.MEASURED
        self._waiting.append(Entry(held, built.seq, built.kind, built.payload, zlib.crc32(built.payload), built.start))

    def floor(self, cursor: int) -> int:
        """Return up to where the ring may be released, ``cursor`` being read up to."""
        # Not the first one's: an event that came while a frame was open is before that frame, and began behind it.
        starts = (entry.start for entry in (*self._group, *self._waiting) if entry.start is not None)
        return min(starts, default=cursor)

    def turn(self, now_ns: int, *, more: bool) -> None:
        """Commit what is due; ``more``: the ring has more frames right now."""
        if self.failure is not None:
            raise self.failure
        if self._busy or now_ns < self.retry_ns:
            return
        if not self.is_open:
            self.open(self._damage)
            return
        full = len(self._waiting) >= GROUP or self._urgent or now_ns - self._since_ns >= GROUP_NS
        notes = any(now_ns - held.noted_ns >= NOTE_NS for held in self._dirty.values())
        # Not ready: the disk is asked whether it is back.
        if (self._waiting and (full or not more)) or notes or not self.ready:
            self._commit(now_ns)

    def _commit(self, now_ns: int) -> None:
        self._group, self._waiting = self._waiting[:GROUP], self._waiting[GROUP:]
        self._urgent = any(entry.kind not in frames.MEASURED for entry in self._waiting)
        self._since_ns = now_ns
        self._busy = True
        rows = [entry.row for entry in self._group]
        job = self._of_this_file(partial(self._file.commit, rows, self._notes(now_ns)))
        self._jobs.submit(job, self._done, urgent=True)

    def _notes(self, now_ns: int, *, everything: bool = False) -> list[StreamRow]:
        """Return the states to be written now: of new streams, and of what changed a while ago."""
        noted = {id(entry.held): entry.held for entry in self._group if not entry.held.noted_ns}
        if everything:
            # How long is left of what is kept a while.
            self._dirty.update({held.sid: held for held in self.by_sid.values() if held.retired})
        for held in self._dirty.values():
            if everything or now_ns - held.noted_ns >= NOTE_NS:
                noted[id(held)] = held
        for held in noted.values():
            held.noted_ns = now_ns
            self._dirty.pop(held.sid, None)
        return [held.row(now_ns) for held in noted.values()]

    def touch(self, held: Held) -> None:
        """What is remembered of a stream has changed."""
        self._dirty[held.sid] = held

    def _done(self, result: Usage | Exception) -> None:
        if self._opening:
            # Whatever became of the group, it is asked for when the new file is open.
            return
        self._busy = False
        if isinstance(result, Exception):
            for entry in self._group:
                entry.held.noted_ns = 0
            self._take_back(self._group)
            self._failed(result)
            return
        self.usage = result
        self._works()
        group, self._group = self._group, []
        now_ns = self._clock.now_ns()
        first = 0
        for at, entry in enumerate(group):
            following = group[at + 1] if at + 1 < len(group) else None
            if following is None or following.held is not entry.held or following.seq != entry.seq + 1:
                entry.held.committed(group[first].seq, entry.seq, now_ns)
                # What is here is noted, too: were the file damaged, nobody else would know what is missing.
                self.touch(entry.held)
                first = at + 1
        if not self._waiting:
            self._newest.clear()
        if group:
            self._on_committed(group)
        if len(self._waiting) >= GROUP:
            self._commit(now_ns)
        self._wake()

    # -- everything else that goes to the disk

    def run(
        self,
        job: Callable[[], Any],
        then: Callable[[Any], None],
        failed: Callable[[], None],
        *,
        unreadable: Callable[[str], None] | None = None,
        what: str = "cannot tidy up",
    ) -> None:
        """Have ``job`` done with the file; ``then`` gets its result, or ``failed`` is called and the fault is kept.

        ``unreadable``: called instead, with why, when it is a part of the disk that cannot be read; who gives it says
        :meth:`able` himself. ``what`` cannot be done then, in words. Commits go on all the same: whoever asked tries
        again after a pause of his own.
        """

        def judge(result: object) -> None:
            if not isinstance(result, Exception):
                if unreadable is None:
                    self.able(what)
                then(result)
                return
            if unreadable is not None and isinstance(result, OutboxUnreadableError):
                unreadable(str(result))
            else:
                failed()
            if isinstance(result, BegunAnewError) or self._opening:
                return
            if isinstance(result, OutboxError):
                if self._unable.get(what) != str(result):
                    self._unable[what] = str(result)
                    self._log.error(f"{what}: {result}; it is tried again")
            else:
                self._failed(result)

        self._jobs.submit(self._of_this_file(job), judge)

    def able(self, what: str) -> None:
        """Forget that ``what`` could not be done: it can be, or need not be any more."""
        if said := self._unable.pop(what, None):
            self._log.info("the outbox works again", after=said)

    def now_ns(self) -> int:
        """Return the time, as the turns have it."""
        return self._clock.now_ns()

    def _of_this_file(self, job: Callable[[], _T]) -> Callable[[], _T]:
        """Return ``job``, which does nothing once the file is another: its numbers may stand for other frames there."""
        generation = self._generation

        def guarded() -> _T:
            if self._file.generation != generation:
                raise BegunAnewError(f"outbox {self.path} was begun anew")
            return job()

        return guarded

    def read(self, held: Held, first: int, last: int, limit: int) -> Callable[[], list[Row]]:
        """Return the job that reads these frames."""
        return partial(self._file.read, held.sid, first, last, limit)

    def _tombstone(self, held: Held, seq: int, cause: str, utc: frames.UtcMapping) -> Row:
        doc = {"stream": held.stream, "from": seq, "to": seq, "cause": cause}
        payload = frames.tombstone_in_place(self._settings.rig, held.epoch, held.stream, seq, doc, utc)
        return Row.of(row_id(held.sid, seq), KINDS.index("tombstone"), payload)

    def bury(self, held: Held, seq: int, cause: str) -> Callable[[], Usage]:
        """Return the job that puts a tombstone where a frame is that can no longer be read."""
        return partial(self._file.replace, [self._tombstone(held, seq, cause, self._utc())])

    def buried(self, held: Held, seq: int) -> None:
        """Say that it is there."""
        self._log.error(
            "a frame in the outbox is not what was written, or cannot be read: a tombstone has taken its place",
            stream=held.stream,
            seq=seq,
        )

    def damaged(self, why: str) -> None:
        """Give the file up: it is put aside, and begun anew with what can be read of it."""
        if self.is_open:
            self.open(why)

    def declare(self, held: Held, first: int, last: int, cause: str, now_ns: int) -> Callable[[], Usage]:
        """Note that these are lost, and return the job that puts tombstones in their places; with the stream's state.

        Where a frame is, it stays: the file takes no second one of a number.
        """
        utc = self._utc()
        rows = [self._tombstone(held, seq, cause, utc) for seq in range(first, last + 1)]
        held.declare(first, last)
        return partial(self._file.commit, rows, [held.row(now_ns)])

    def adopt(self, epoch: int, stream: str, absent: Ranges) -> Held:
        """Make a stream of an earlier epoch, of which nothing is here and these frames are missing."""
        held = self._held(epoch, stream)
        held.fresh = False
        # How many there were nobody knows any more; whatever a store says that it has can be true.
        held.high = UNKNOWN_HIGH
        held.absent = absent
        self.touch(held)
        return held

    def thin(self, held: Held, first: int, last: int) -> Callable[[], tuple[Usage, int, int]]:
        """Return the job that puts tombstones where sample frames are; see :func:`thin`."""
        return partial(thin, self._file, self._settings.rig, held, (first, last), self._utc())

    def delete(self, ranges: Sequence[tuple[Held, int, int]], now_ns: int) -> Callable[[], Usage]:
        """Forget these frames, and return the job that deletes them; with their states, so that neither is alone."""
        for held, first, last in ranges:
            held.deleted(first, last)
        rows = [held.row(now_ns) for held in {held.sid: held for held, _, _ in ranges}.values()]
        return partial(self._file.delete, [(held.sid, first, last) for held, first, last in ranges], rows)

    def _works(self) -> None:
        if self.stuck is not None:
            self._log.info("the outbox works again", after=self.stuck)
        self.stuck = None
        self.ready = True

    def _failed(self, error: Exception) -> None:
        self.retry_ns = self._clock.now_ns() + RETRY_NS
        if self._opening:
            return
        if isinstance(error, OutboxDamagedError):
            self.open(str(error))
        elif isinstance(error, OutboxError):
            self.ready = False
            if self.stuck != str(error):
                self.stuck = str(error)
                self._log.error(f"{error}; frames wait in the ring")
        else:
            self.failure = error
        self._wake()

    async def close(self) -> None:
        """Write what is known, and close the file; a copy that is being made of a damaged one is given up."""
        self._leaving = True
        done: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        notes = self._notes(self._clock.now_ns(), everything=True) if self.ready else []

        def end() -> None:
            # A disk that fails has said so already, or will at the next start: only repetitions depend on this.
            with contextlib.suppress(OutboxError, OutboxDamagedError):
                if notes:
                    self._file.commit((), notes)
            self._file.close()

        self._jobs.submit(end, lambda result: None if done.done() else done.set_result(result))
        await done
        await self._jobs.close()
