"""One line with its faults: both directions, and what happens at a time; a :class:`hil.line.duplex.Tap`."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Mapping
from typing import Protocol

from hil.faults.edits import inserted
from hil.faults.fault import Effect, Fault, Passed
from hil.faults.wire import FRAMES, LINES, Cutting, Direction
from hil.line.duplex import Duplex
from hil.line.pacing import NEVER


class Plug(Protocol):
    """A line that can be hung up: :class:`hil.line.memory.MemoryLine` and :class:`hil.line.pty.PtyLine`."""

    @property
    def duplex(self) -> Duplex:
        """Its two directions."""

    @property
    def plugged(self) -> bool:
        """Whether a client can be connected."""

    def hang_up(self, t_ns: int) -> None:
        """Pull the plug at ``t_ns``."""

    def plug_in(self) -> None:
        """Plug it in again."""

    def poke(self) -> None:
        """Look again when something happens next."""


class Owner(Protocol):
    """What a port asks of its injector."""

    def on_message(self, port: Port, t_ns: int, data: bytes) -> list[Fault]:
        """Look at a message to the device; set off what acts at once, return what acts once it has arrived."""

    def on_step(self, port: Port, t_ns: int) -> None:
        """The device did something."""

    def set_off(self, fault: Fault, t_ns: int) -> None:
        """Let a fault act at ``t_ns``, or later if it wants to."""

    def confirm(self, fault: Fault, t_ns: int, effect: Effect) -> None:
        """A fault took effect."""

    def keep(self, passed: Passed) -> None:
        """Keep what passed."""

    def watch_ns(self, port: Port) -> int:
        """When the sample on this line changes by itself and somebody waits for that, or NEVER."""

    def watch(self, port: Port, t_ns: int) -> None:
        """Let the sample live until ``t_ns``."""


class Port:
    """The faults of one line, ``name`` smu, stage or frontend."""

    def __init__(self, name: str, owner: Owner, plug: Plug) -> None:
        """Step into the line."""
        self.name = name
        self.cutting: Mapping[str, Cutting] = FRAMES if name == "frontend" else LINES
        self._owner = owner
        self._plug = plug
        self._duplex = plug.duplex
        self.host = Direction(self, "host", self._duplex.to_reader)
        self.device = Direction(self, "device", self._duplex.to_device)
        self._timers: list[tuple[int, int, Callable[[int], None]]] = []
        self._count = 0
        self._deaf_until_ns = 0
        self._duplex.tap(self)

    def direction(self, to: str) -> Direction:
        """Return a direction by its name."""
        return self.host if to == "host" else self.device

    # What the line asks and tells

    @property
    def next_ns(self) -> int:
        """When something is to happen next by itself."""
        due_ns = self._timers[0][0] if self._timers else NEVER
        return min(due_ns, self._owner.watch_ns(self))

    def act(self, t_ns: int) -> None:
        """Do what is due."""
        while self._timers and self._timers[0][0] <= t_ns:
            heapq.heappop(self._timers)[2](t_ns)
        if self._owner.watch_ns(self) <= t_ns:
            self._owner.watch(self, t_ns)

    def to_device(self, t_ns: int, data: bytes) -> None:
        """Take bytes of the client."""
        if t_ns < self._deaf_until_ns:
            self.trace(Passed(t_ns, self.name, "device", data, b"", "the instrument is starting"))
            return
        self.device.hand_over(t_ns, data)

    def to_reader(self, t_ns: int, data: bytes) -> None:
        """Take bytes of the instrument."""
        self.host.hand_over(t_ns, data)

    def discard(self, t_ns: int) -> None:
        """The instrument drops what it has not sent."""
        self.host.discard(t_ns)

    def cleared(self) -> None:
        """The plug was pulled."""
        self.host.cleared()
        self.device.cleared()

    def stepped(self, t_ns: int) -> None:
        """The instrument did something."""
        self._owner.on_step(self, t_ns)

    def received(self, t_ns: int, data: bytes) -> None:
        """The instrument got bytes."""
        self.device.delivered(t_ns, len(data))
        self._owner.on_step(self, t_ns)

    def delivered(self, t_ns: int, data: bytes) -> None:
        """The client gets bytes."""
        self.host.delivered(t_ns, len(data))

    # What its directions and its injector ask

    def message(self, t_ns: int, data: bytes) -> list[Fault]:
        """See :class:`hil.faults.wire.Surroundings`."""
        return self._owner.on_message(self, t_ns, data)

    def set_off(self, fault: Fault, t_ns: int) -> None:
        """See :class:`hil.faults.wire.Surroundings`."""
        self._owner.set_off(fault, t_ns)

    def confirm(self, fault: Fault, t_ns: int, effect: Effect) -> None:
        """See :class:`hil.faults.wire.Surroundings`."""
        self._owner.confirm(fault, t_ns, effect)

    def trace(self, passed: Passed) -> None:
        """See :class:`hil.faults.wire.Surroundings`."""
        self._owner.keep(passed)

    def later(self, t_ns: int, act: Callable[[int], None]) -> None:
        """See :class:`hil.faults.wire.Surroundings`."""
        self._count += 1
        heapq.heappush(self._timers, (t_ns, self._count, act))
        self._plug.poke()

    def begin(self, fault: Fault, t_ns: int) -> None:
        """Let a fault on the wire act from ``t_ns`` on."""
        fault.arm(t_ns)
        spec, name = fault.spec, fault.kind.name
        direction = self.direction(spec.to)
        on_its_message = spec.trigger == "at_command" and spec.to == "device" and not spec.after_s
        if name == "fifo":
            direction.surviving.append(fault)
        elif name == "unplug" and not on_its_message:
            self.hang_up(fault, t_ns, Effect("unplugged"))
        elif name in ("insert", "xoff") and not on_its_message:
            data = inserted(fault)
            direction.by_itself(t_ns, data, fault, f"{data!r} that nobody sent")
            if name == "xoff":
                direction.xon_later(fault, t_ns)
            self._plug.poke()
        elif name == "stale" and not spec.flag("instead") and direction.last(spec.whole("age")) and not on_its_message:
            data = direction.last(spec.whole("age"))
            direction.by_itself(t_ns, data, fault, f"{data!r} again, unasked")
            self._plug.poke()
        else:
            direction.active.append(fault)

    def hang_up(self, fault: Fault, t_ns: int, effect: Effect) -> None:
        """Pull the plug when the line is next at work, and plug it in again if the fault says so."""
        self.later(t_ns, lambda at_ns: self._hang_up(fault, at_ns, effect))

    def _hang_up(self, fault: Fault, t_ns: int, effect: Effect) -> None:
        if not self._plug.plugged:
            return  # nothing to pull
        self._plug.hang_up(t_ns)
        self._owner.confirm(fault, t_ns, effect)
        duration_ns = round(fault.spec.number("duration_s") * 1e9)
        if duration_ns:
            self.later(t_ns + duration_ns, lambda _at_ns: self._plug.plug_in())

    def deafen(self, t_ns: int) -> None:
        """Let nothing reach the instrument before ``t_ns``."""
        self._deaf_until_ns = t_ns
