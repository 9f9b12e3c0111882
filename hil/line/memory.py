"""The serial line in memory under a virtual clock, with the hooks that tests need to break it."""

from __future__ import annotations

from collections.abc import Callable

from edge.clock import Clock, TimerHandle
from edge.errors import LinkLostError
from hil.line.duplex import Duplex
from hil.line.pacing import NEVER, Chunk
from hil.protocols import Device

_READ_MAX = 4096


class MemoryTransport:
    """The edge's end of a :class:`MemoryLine`; implements :class:`edge.instruments.transport.Transport`."""

    def __init__(self, line: MemoryLine, name: str) -> None:
        """Lines make their own transports."""
        self._line = line
        self._name = name
        self._received = bytearray()
        self._callback: Callable[[], None] | None = None
        self._lost = ""

    @property
    def name(self) -> str:
        """Label of the line, for messages."""
        return self._name

    @property
    def emulated(self) -> bool:
        """Always True: it lives in memory."""
        return True

    @property
    def baud(self) -> int:
        """Line rate in bit/s; 0 where bytes take no time."""
        return self._line.baud

    def read(self) -> bytes:
        """Return what has arrived, at most 4096 bytes; raises LinkLostError once unplugged or closed."""
        self._check()
        received = self._received
        if len(received) <= _READ_MAX:
            data = bytes(received)
            received.clear()
            return data
        data = bytes(received[:_READ_MAX])
        del received[:_READ_MAX]
        self._line.call_soon(self._notify)
        return data

    def write(self, data: bytes) -> int:
        """Hand bytes to the line and return how many it took; raises LinkLostError once unplugged or closed."""
        self._check()
        return self._line._write(data)  # noqa: SLF001 - two ends of one thing

    def unsent(self) -> int:
        """Return how many accepted bytes have not begun on the wire; raises LinkLostError like ``write``."""
        self._check()
        return self._line._unsent()  # noqa: SLF001

    def on_readable(self, callback: Callable[[], None] | None) -> None:
        """Call ``callback`` whenever bytes have arrived, and once when the link is lost; None stops that, also then."""
        if callback is not None:
            self._check()
        self._callback = callback
        if callback is not None and self._received:
            self._line.call_soon(self._notify)

    def close(self) -> None:
        """Let go of the line. Accepted bytes still go out, the instrument lives on."""
        self._lost = self._lost or "closed by this side"
        self._callback = None

    def _check(self) -> None:
        if self._lost:
            raise LinkLostError(f"{self._name}: link is gone ({self._lost}); plug it in and open it again")

    def _notify(self) -> None:
        if self._callback is not None and (self._received or self._lost):
            self._callback()

    def _arrive(self, data: bytes) -> None:
        self._received += data
        if self._callback is not None:
            self._callback()

    def _lose(self, reason: str) -> None:
        if not self._lost:
            self._lost = reason
            if self._callback is not None:
                self._callback()


class MemoryLine:
    """A device on a paced serial line, all in memory; ``transport`` is the edge's end.

    Bytes reach the device at exactly their line times: control characters (terminators, aborts) each at its own,
    the bytes before one together with it. Replies reach ``transport`` and its callback at the time of the last byte
    of each ``chunk``. The device lives by the line's timers also while nobody reads, and after ``unplug``.
    """

    def __init__(
        self, device: Device, clock: Clock, baud: int = 57600, *, chunk: Chunk = "line", name: str = "memory"
    ) -> None:
        """Attach ``device`` to a line of ``baud`` bit/s (0: bytes take no time) that lives by ``clock``."""
        self._clock = clock
        self._name = name
        self._duplex = Duplex(device, baud, chunk, self._deliver)
        self._timer: TimerHandle | None = None
        self._timer_ns = 0
        self._running = False
        self._unplugged = False
        self._take_at_most: int | None = None
        self._reach_left: int | None = None
        self._tamper: Callable[[int, bytes], bytes] | None = None
        self._writes = 0
        self.on_plugged: Callable[[MemoryTransport], None] | None = None
        self.transport = MemoryTransport(self, name)
        self._arm()

    @property
    def baud(self) -> int:
        """Line rate in bit/s; 0 where bytes take no time."""
        return self._duplex.to_device.baud

    @property
    def device(self) -> Device:
        """The instrument at the far end."""
        return self._duplex.device

    @property
    def duplex(self) -> Duplex:
        """The two directions, for a tap."""
        return self._duplex

    def limit_next_writes(self, n_bytes: int | None) -> None:
        """Let only the first ``n_bytes`` written from now on reach the device; None lets all pass again.

        The writer notices nothing, as with a cable cut in the middle: its bytes are accepted and vanish.
        """
        self._reach_left = n_bytes

    def short_writes(self, at_most: int | None) -> None:
        """Let every write accept ``at_most`` bytes (0: none), as a full kernel buffer does; None accepts all."""
        self._take_at_most = at_most

    def tamper(self, hook: Callable[[int, bytes], bytes] | None) -> None:
        """Let ``hook(n, data)`` replace the bytes of the n-th write from now on (from 0); None stops that."""
        self._tamper = hook
        self._writes = 0

    def unplug(self) -> None:
        """Pull the plug now: the transport raises LinkLostError for good, bytes in flight are lost."""
        if self._unplugged:
            return
        self._unplugged = True
        now_ns = self._clock.now_ns()
        if not self._running:  # what was complete by now still counts
            self._run(now_ns)
        self._duplex.clear(now_ns)
        self._arm()
        self.transport._lose("unplugged")  # noqa: SLF001 - two ends of one thing

    def replug(self) -> MemoryTransport:
        """Plug in again and return the new ``transport``; the old one stays dead. The device never noticed."""
        self.transport._lose("plugged in anew")  # noqa: SLF001
        self._unplugged = False
        self.transport = MemoryTransport(self, self._name)
        self._arm()
        return self.transport

    @property
    def plugged(self) -> bool:
        """Whether the plug is in."""
        return not self._unplugged

    def hang_up(self, _t_ns: int) -> None:
        """Pull the plug, as :meth:`unplug` does; what a fault plan calls."""
        self.unplug()

    def plug_in(self) -> None:
        """Plug in again and hand the new transport to ``on_plugged``; a no-op while it is in."""
        if self._unplugged:
            transport = self.replug()
            if self.on_plugged is not None:
                self.on_plugged(transport)

    def poke(self) -> None:
        """Look again when the device acts next; needed after a test changed the device behind the line's back."""
        self._arm()

    def call_soon(self, callback: Callable[[], None]) -> None:
        """Call ``callback`` in the loop's next turn, at the present time."""
        self._clock.call_at(self._clock.now_ns(), callback)

    def _write(self, data: bytes) -> int:
        taken = data if self._take_at_most is None else data[: self._take_at_most]
        if not taken:
            return 0
        now_ns = self._clock.now_ns()
        reach = taken
        if self._tamper is not None:
            reach = self._tamper(self._writes, taken)
            self._writes += 1
        if self._reach_left is not None:
            reach = reach[: self._reach_left]
            self._reach_left -= len(reach)
        self._duplex.write(now_ns, reach)
        self._arm()
        return len(taken)

    def _unsent(self) -> int:
        return self._duplex.to_device.unstarted(self._clock.now_ns())

    def _deliver(self, _t_ns: int, data: bytes) -> None:
        if not self._unplugged:
            self.transport._arrive(data)  # noqa: SLF001 - two ends of one thing

    def _wake(self) -> None:
        self._timer = None
        self._run(self._clock.now_ns())
        self._arm()

    def _run(self, t_ns: int) -> None:
        self._running = True
        try:
            self._duplex.run_until(t_ns)
        finally:
            self._running = False

    def _arm(self) -> None:
        if self._running:
            return
        due_ns = self._duplex.next_ns()
        if self._timer is not None:
            if due_ns == self._timer_ns:
                return
            self._timer.cancel()
            self._timer = None
        if due_ns != NEVER:
            self._timer_ns = due_ns
            self._timer = self._clock.call_at(due_ns, self._wake)
