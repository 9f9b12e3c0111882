"""An event loop whose time is a tape's: no waiting, every turn at the moment at which it was.

Two kinds of tape. Where a real loop recorded, its turns are marked, and each turn here is one of those: timers then
run in the turn they ran in, however late that was. Where virtual time recorded there are no marks: timers were never
late, and time goes to whatever comes first, a timer or the tape's next input.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable

from edge.tape import IN, LOST_IN, SMU, VERB, Entry, time_of
from hil.replay.world import INPUTS, World, code_of

MOST_AFTER = 1000
"""Turns of the loop behind the tape's last entry."""
Deliver = Callable[[int, Entry], None]
"""Gets an input and where it stands on the tape."""


class TapeSelector(selectors.EpollSelector):
    """Never waits: gives out the tape's inputs where a real selector would have returned."""

    def __init__(self, *, turns: bool) -> None:
        """``turns``: the tape has marks."""
        super().__init__()
        self._turns = turns
        self.world: World | None = None
        self.deliver: Deliver = lambda _at, _entry: None
        self.ended: Callable[[], None] = lambda: None
        self.loop: asyncio.AbstractEventLoop | None = None
        self._hold = 0
        self._after = 0

    def play(self, world: World, deliver: Deliver, ended: Callable[[], None], *, hold: int = 0) -> None:
        """Begin to play ``world``, ``hold`` polls from now. ``ended`` is called behind the last entry, once."""
        self.world, self.deliver, self.ended = world, deliver, ended
        self._hold = hold
        self._after = 0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Go to the next moment and let happen what happened then; a difference is the end."""
        if self.world is None:
            return []
        if self.world.difference is not None:
            self._end()
            return []
        if self._hold:
            self._hold -= 1
        elif self._turns:
            self._next_turn(self.world, timeout)
        else:
            self._next_moment(self.world, timeout)
        return []

    def _end(self) -> None:
        self.world = None
        self.ended()

    # -- a tape with marks

    def _next_turn(self, world: World, timeout: float | None) -> None:
        """Serve what was served inside the poll, then go to the turn's mark and queue what its readers got."""
        entries = world.entries
        at = world.at
        while at < len(entries):
            entry = entries[at]
            if isinstance(entry, int) and entry < 0:
                break
            # What stands before the mark and was not met yet came inside the poll.
            if code_of(entry) in INPUTS:
                self._hand_over(world, at, entry)
            at = max(at + 1, world.at)
        world.check_missing(at, late=True)
        if at >= len(entries):
            if timeout is not None and timeout <= 0 and self._after < MOST_AFTER:
                # What the last inputs set going comes to its end.
                self._after += 1
                return
            world.check_missing(at, late=False)
            self._end()
            return
        world.go_to(at)
        loop = self.loop
        at += 1
        while loop is not None and at < len(entries):
            entry = entries[at]
            if isinstance(entry, int):
                if entry < 0:
                    break
            elif entry[0] == VERB or (entry[0] in (IN, LOST_IN) and entry[2] != SMU):
                loop.call_soon(self._hand_over, world, at, entry)
            at += 1

    def _hand_over(self, world: World, at: int, entry: Entry) -> None:
        if at < world.at:
            return
        world.at = at
        self.deliver(at, entry)
        # Whoever had no use for it has seen it all the same.
        world.go_to(at)

    # -- a tape without

    def _next_moment(self, world: World, timeout: float | None) -> None:
        entries = world.entries
        if timeout is not None and timeout <= 0:
            return
        timer_ns = None if timeout is None else world.now_ns + round(timeout * 1e9)
        at, input_ns, ours_first = world.at, None, False
        while at < len(entries):
            entry = entries[at]
            t_ns = time_of(entry)
            if code_of(entry) in INPUTS:
                input_ns = t_ns
                break
            # At the same moment: what our side did before the input came, a timer of ours had begun.
            ours_first = t_ns is not None and t_ns == timer_ns
            at += 1
        first = timer_ns is None or (input_ns is not None and (input_ns, ours_first) <= (timer_ns, False))
        if input_ns is not None and first:
            world.check_missing(at, late=False)
            self._hand_over(world, at, entries[at])
            return
        if input_ns is None and (timer_ns is None or timer_ns > world.last_ns):
            world.check_missing(len(entries), late=False)
            self._end()
        elif timer_ns is not None:
            world.now_ns = max(world.now_ns, timer_ns)


class TapeLoop(asyncio.SelectorEventLoop):
    """A loop on a :class:`TapeSelector`; its time is the tape's."""

    def __init__(self, selector: TapeSelector) -> None:
        """Time begins with the first tape that is played."""
        self._tape_selector = selector
        self._time_ns = 0
        self.failure: BaseException | None = None
        super().__init__(selector)
        selector.loop = self

    def time(self) -> float:
        """Return the tape's time in s."""
        world = self._tape_selector.world
        if world is not None:
            self._time_ns = max(self._time_ns, world.now_ns)
        return self._time_ns / 1e9
