"""The firmware in series with a load in the twin's own time: no line, no process, every sample where it belongs.

For whoever asks what the front end does for a tip, and not how its bytes travel: the proof of the envelope, the dose
bench. The core is the real one (:mod:`hil.frontend.lockstep`); who arms it and renews its lease is a host of the bench
(:class:`Hand`) with the controller's own session behind it.
"""

from __future__ import annotations

import dataclasses
from typing import Final

import numpy as np
import numpy.typing as npt

from firmware_proto.frontend import messages
from firmware_proto.frontend.session import HostSession, Tripped, Welcome
from hil.errors import BenchFaultError
from hil.frontend.feed import FULL_SCALE, code_of
from hil.frontend.lockstep import LockstepFrontend
from hil.twin.terminals import NEVER_NS, SourcedLoad

RENEW_NS: Final = 30_000_000
LEASE_NS: Final = 100_000_000
NONCE: Final = 0x7E57
_BLOCK: Final = 4096
"""Most samples in one piece, where nothing changes."""


class Hand:
    """A host that arms one core and renews its lease, in no time at all."""

    def __init__(self, core: LockstepFrontend, limits: messages.Config) -> None:
        """Shake hands and upload ``limits``; raises BenchFaultError where the device wants none of it."""
        self._core = core
        self._session = HostSession(NONCE)
        self.trip: messages.TripReport | None = None
        """The last report of a trip."""
        self._tell(self._session.hello())
        if self._session.welcome is None or self._session.mismatch:
            raise BenchFaultError(f"the front end does not answer: {self._session.mismatch or 'no WELCOME'}")
        self.welcome = self._session.welcome
        self._tell(self._session.configure(limits))
        if self._session.config is None:
            raise BenchFaultError("the front end does not take the limits")

    def arm(self) -> None:
        """Close the switch; raises BenchFaultError if it stays open."""
        self._tell(self._session.arm(self._core.now_ticks + LEASE_NS))
        if not self._core.closed:
            raise BenchFaultError("the front end does not arm")

    def renew(self) -> None:
        """Give another lease from now on."""
        self._tell(self._session.lease(self._core.now_ticks + LEASE_NS))

    def listen(self) -> None:
        """Take in what the device has said."""
        for event in self._session.feed(self._core.take(), 0):
            if isinstance(event, Tripped):
                self.trip = event.message
            elif isinstance(event, Welcome) and event.mismatch:
                raise BenchFaultError(event.mismatch)

    def _tell(self, data: bytes) -> None:
        self._core.receive(data)
        self.listen()


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Board:
    """What is around the core.

    ``late_samples``: from the aperture of a sample to the decision about it. ``open_ns``: from the decision to an open
    path. ``noise_codes``: peak of the converter's triangular noise. ``offset_codes``: its offset.
    """

    late_samples: float = 0.0
    open_ns: int = 0
    noise_codes: int = 0
    offset_codes: int = 0


class InSeries:
    """One front end, armed from the beginning, between the source and ``load``.

    It lives whenever the load does: before the load goes on until t, all samples that are due until then are taken.
    """

    def __init__(self, load: SourcedLoad, core: LockstepFrontend, hand: Hand, board: Board, *, seed: int = 0) -> None:
        """Take hold of the load; sampling begins with :meth:`begin`."""
        self._load = load
        self._core = core
        self._hand = hand
        self._board = board
        self._rng = np.random.default_rng(seed)
        self._code_pa = hand.welcome.code_pa
        self._period_ns = round(1e9 / hand.welcome.sample_hz)
        self._next_ns = NEVER_NS
        self._renew_ns = NEVER_NS
        self._open_ns = NEVER_NS
        self._busy = False
        self.renewing = True
        """Whether the host is alive."""
        self.ignored = False
        """Whether the switch does not obey, as one that is welded; for removal tests."""
        self.opened_ns: int | None = None
        """When the path opened; None while it is closed."""
        load.before = self._before

    def begin(self, t_ns: int) -> None:
        """Arm at ``t_ns``, on the clock that the core has; samples are taken from then on."""
        self._core.advance_to(t_ns, lambda _due_ns: 0.0)
        self._hand.arm()
        self._next_ns = self._core.due_ticks
        self._renew_ns = t_ns + RENEW_NS

    @property
    def reason(self) -> str:
        """Why the front end has tripped, as the firmware says; empty while it has not."""
        self._hand.listen()
        return "" if self._hand.trip is None else self._hand.trip.reason.name

    def release(self, t_ns: int) -> None:
        """Take the front end out: the path is closed at ``t_ns``, and nobody looks any more."""
        self._next_ns = self._open_ns = NEVER_NS
        self._load.switch_path(t_ns, closed=True)
        self._load.before = None

    def _before(self, t_ns: int) -> None:
        if self._busy:
            return
        self._busy = True
        try:
            self._live(t_ns)
        finally:
            self._busy = False

    def _live(self, until_ns: int) -> None:
        load = self._load
        while (due_ns := min(self._next_ns, self._open_ns)) <= until_ns:
            if self._open_ns <= self._next_ns:
                load.switch_path(due_ns, closed=False)
                self.opened_ns, self._open_ns = due_ns, NEVER_NS
                # Nothing more can happen: what is open and latched stays open.
                self._next_ns = NEVER_NS
                return
            load.advance(due_ns)
            self._sample(due_ns, until_ns)

    def _sample(self, at_ns: int, until_ns: int) -> None:
        """Take the sample that is due, and those behind it that cannot be another."""
        if at_ns >= self._renew_ns:
            if self.renewing:
                self._hand.renew()
            self._renew_ns += RENEW_NS
        load, core = self._load, self._core
        n = 1
        if load.steady:
            last_ns = min(until_ns, load.next_change_ns - 1, self._renew_ns - 1, self._open_ns - 1)
            n = min(_BLOCK, max(0, last_ns - at_ns) // self._period_ns + 1)
        code = code_of(load.terminal_current_a, self._code_pa)
        done = core.run(self._noisy(code, n))
        last_ns = at_ns + (done - 1) * self._period_ns
        self._next_ns = last_ns + self._period_ns
        if not core.closed and self._open_ns == NEVER_NS and not self.ignored:
            self._hand.listen()
            of_lease = self._hand.trip is not None and self._hand.trip.reason is messages.Reason.LEASE
            # The lease ends by the clock, which no converter holds up.
            late_ns = 0 if of_lease else round(self._board.late_samples * self._period_ns)
            self._open_ns = last_ns + late_ns + self._board.open_ns

    def _noisy(self, code: int, n: int) -> npt.NDArray[np.int16]:
        codes = np.full(n, code + self._board.offset_codes, np.int64)
        if peak := self._board.noise_codes:
            half = self._rng.uniform(-peak / 2, peak / 2, (2, n)).sum(axis=0)
            codes += np.rint(half).astype(np.int64)
        return np.clip(codes, -FULL_SCALE, FULL_SCALE).astype(np.int16)
