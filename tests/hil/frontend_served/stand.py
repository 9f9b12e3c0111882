"""A front end in series with a load, on a line with its faults, a host at the other end; in virtual time, no loop."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from firmware_proto.frontend import messages
from firmware_proto.frontend.messages import State
from firmware_proto.frontend.session import Event, HostSession, RefusedByDevice, Status, Tripped
from hil.faults.injector import Injector
from hil.faults.plan import parse_plan
from hil.frontend.lockstep import LockstepFrontend
from hil.frontend.lockstep_device import LockstepDevice
from hil.line.duplex import Duplex
from hil.twin.terminals import SourcedLoad
from hil.twin.truth import Entry
from tests.firmware_config import only_hard

US: Final = 1_000
MS: Final = 1_000_000
BEGIN_NS: Final = 5_000 * MS
LEASE_NS: Final = 90 * MS
CONFIG: Final = only_hard(2_000, pre_n=20, post_n=20, decimation=10)


class Stand:
    """``load`` is driven by whoever has it; the host renews the lease each 30 ms while ``renewing``."""

    def __init__(
        self,
        load: SourcedLoad,
        *,
        plan: str = "",
        baud: int = 0,
        library: Path | None = None,
        config: messages.Config = CONFIG,
    ) -> None:
        self.t_ns = BEGIN_NS
        self.load = load
        self.core = LockstepFrontend(library=library)
        self.device = LockstepDevice(self.core, load)
        self.got = bytearray()
        self.duplex = Duplex(self.device, baud, "frame", lambda _t_ns, data: self.got.extend(data))
        self.device.on_line(self)
        self.plugged = True
        self.session = HostSession(0x5EED)
        self.events: list[Event] = []
        self.status: messages.Status | None = None
        self.renewing = True
        self.config = config
        self.injector = Injector(parse_plan(plan))
        self.injector.plug_frontend(self, self.device)
        self._renew_ns = 0

    # A line that can be hung up

    def hang_up(self, t_ns: int) -> None:
        self.plugged = False
        self.duplex.clear(t_ns)
        self.got.clear()

    def plug_in(self) -> None:
        self.plugged = True

    def poke(self) -> None:
        """The loop looks again by itself."""

    # The host

    def write(self, data: bytes) -> None:
        if self.plugged:
            self.duplex.write(self.t_ns, data)

    def go(self, ns: int) -> list[Event]:
        """Live for so long; return what was heard."""
        end_ns = self.t_ns + ns
        before = len(self.events)
        while self.t_ns < end_ns:
            self.t_ns = min(end_ns, self.t_ns + MS)
            self.duplex.run_until(self.t_ns)
            if self.plugged:
                for event in self.session.feed(bytes(self.got), self.t_ns):
                    self.events.append(event)
                    if isinstance(event, Status):
                        self.status = event.message
            self.got.clear()
            if self._renew_ns and self.renewing and self.t_ns >= self._renew_ns:
                self._renew_ns += 30 * MS
                self.write(self.session.lease(self.core.now_ticks + LEASE_NS))
        return self.events[before:]

    def armed(self) -> Stand:
        """Begin a session, configure and arm; return itself."""
        self.hello()
        self.write(self.session.configure(self.config))
        self.go(20 * MS)
        self.write(self.session.arm(self.core.now_ticks + LEASE_NS))
        self._renew_ns = self.t_ns + 30 * MS
        self.go(20 * MS)
        assert self.status is not None
        assert self.status.state == State.ARMED, self.events
        assert self.load.path_closed
        return self

    def hello(self) -> None:
        self._renew_ns = 0
        self.write(self.session.hello())
        self.go(20 * MS)
        assert self.session.welcome is not None

    # What came of it

    def trips(self) -> list[messages.TripReport]:
        """Return the reports of trips, each once."""
        return [event.message for event in self.events if isinstance(event, Tripped) and event.first]

    def refusals(self) -> list[messages.Refused]:
        return [event.message for event in self.events if isinstance(event, RefusedByDevice)]

    def truth(self, name: str) -> list[Entry]:
        return self.load.truth.events(name)


def drive(stand: Stand, level_v: float, *, limit_a: float = 1e-3) -> None:
    """Let the source be at ``level_v`` from now on."""
    stand.load.set_source(stand.t_ns, level_v, limit_a, connected=True)
