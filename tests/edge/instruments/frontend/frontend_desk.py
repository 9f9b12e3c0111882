"""A front end on a desk, in virtual time: the real firmware core behind a line that may delay, lose and garble."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from edge.config import Config, load, template
from edge.config_frontend import FrontendConfig, FrontendPort
from edge.errors import LinkLostError, RemoteError
from edge.instruments.frontend import Frontend
from edge.instruments.frontend_values import MinMaxBlock, SampleBlock, Trip
from edge.instruments.lease import Permissions
from firmware_proto.frontend import messages
from hil.frontend.lockstep import LockstepFrontend
from hil.virtual import VirtualClock, run_virtual

needs_cc = pytest.mark.skipif(
    shutil.which("cc") is None and shutil.which("gcc") is None, reason="no C compiler: apt-get install gcc"
)
"""The firmware is compiled on the spot."""
NONCE = 0x1234_5678
STEP_NS = 500_000
"""How often the desk lives."""
HOP_NS = 200_000
"""A way, in either direction."""
SAMPLE_HZ = 10_000


def section(**values: Any) -> FrontendConfig:  # noqa: ANN401 - the section's own
    return FrontendConfig(**{"hard_a": 5e-4, "pre_s": 0.01, "post_s": 0.005, **values})


def rig(tmp: Path, frontend: FrontendConfig | None = None) -> Config:
    """Return the configuration of a rig with a front end."""
    file = tmp / "rig.toml"
    file.write_text(template(path="/dev/x", serial_number="1", series_ohm=10e3), encoding="utf-8")
    config = load(file)
    ports = config.ports.model_copy(update={"frontend": FrontendPort(path="/dev/y")})
    return config.model_copy(update={"frontend": frontend or section(), "ports": ports})


class Line:
    """Both ends of the line; the host's is a Transport. ``current_a``: through the closed switch."""

    name = "/dev/frontend"
    emulated = True
    baud = 0

    def __init__(self, clock: VirtualClock, core: LockstepFrontend) -> None:
        self.clock = clock
        self.core = core
        self.current_a: Callable[[int], float] = lambda _t_ns: 0.0
        self.up_ns = self.down_ns = HOP_NS
        self.cut = False
        """Nothing passes."""
        self.skew = 0.0
        """How much faster the device's clock runs than the host's; what the core says of its times is then its own."""
        self._behind_ns = 0
        self._start_ns = self._last_up_ns = self._last_down_ns = clock.now_ns()
        self.gone = False
        self.to_device: Callable[[bytes], bytes] = bytes
        self.to_host: Callable[[bytes], bytes] = bytes
        self.sent: list[bytes] = []
        self.opened_ns: int | None = None
        """When the switch was last seen to have opened, at the core's own nanosecond."""
        self.room: int | None = None
        """The line takes at most so many bytes per write; None: all."""
        self._opens = core.opens
        self._arrived = bytearray()
        self._callback: Callable[[], None] | None = None
        self._live()

    def _live(self) -> None:
        self.pump()
        self.clock.call_at(self.clock.now_ns() + STEP_NS, self._live)

    def pump(self) -> None:
        core = self.core
        now_ns = self.clock.now_ns()
        core.advance_to(now_ns + round((now_ns - self._start_ns) * self.skew) - self._behind_ns, self.current_a)
        if self._opens != core.opens:
            self._opens, self.opened_ns = core.opens, core.open_ticks
        if data := core.take():
            # A line is first in, first out, also where its way has become shorter.
            at_ns = self._last_up_ns = max(self._last_up_ns, now_ns + self.up_ns)
            self.clock.call_at(at_ns, lambda: self._arrive(self.to_host(data)))

    def _arrive(self, data: bytes) -> None:
        if data and not self.cut:
            self._arrived += data
            if self._callback is not None:
                self._callback()

    def _deliver(self, data: bytes) -> None:
        if not self.cut and data:
            self.pump()
            self.core.receive(data)
            self.pump()

    # -- the host's end

    def read(self) -> bytes:
        if self.gone:
            raise LinkLostError(5, "port /dev/frontend is gone")
        data = bytes(self._arrived[:4096])
        del self._arrived[:4096]
        return data

    def write(self, data: bytes) -> int:
        if self.gone:
            raise LinkLostError(5, "port /dev/frontend is gone")
        taken = data if self.room is None else data[: self.room]
        if taken:
            self.sent.append(taken)
            at_ns = self._last_down_ns = max(self._last_down_ns, self.clock.now_ns() + self.down_ns)
            self.clock.call_at(at_ns, lambda: self._deliver(self.to_device(taken)))
        return len(taken)

    def unsent(self) -> int:
        return 0

    def on_readable(self, callback: Callable[[], None] | None) -> None:
        self._callback = callback

    def close(self) -> None:
        self._callback = None

    def restart(self, core: LockstepFrontend) -> None:
        """Put another life of the device at the end of the line, its ticks from where it says they begin."""
        self.core, self._opens = core, core.opens
        self._behind_ns = self.clock.now_ns() - core.now_ticks

    def pull(self) -> None:
        """Take the adapter away."""
        self.gone = True
        if self._callback is not None:
            self._callback()


class Desk:
    """A front end, its driver, and what its driver told."""

    def __init__(self, clock: VirtualClock, config: Config, **core: Any) -> None:  # noqa: ANN401 - of LockstepFrontend
        if config.frontend is None:
            raise ValueError("a rig with a front end is wanted")
        self.clock = clock
        self.core = LockstepFrontend(**{"sample_hz": SAMPLE_HZ, "start_ns": clock.now_ns(), **core})
        self.line = Line(clock, self.core)
        self.permissions = Permissions(clock, config.frontend.lease_s)
        self.frontend = Frontend(self.line, clock, config, nonce=NONCE, redeem=self.permissions.redeem)
        self.trips: list[Trip] = []
        self.lost: list[LinkLostError | RemoteError] = []
        self.rebooted: list[str] = []
        self.samples: list[SampleBlock] = []
        self.pairs: list[MinMaxBlock] = []
        self.statuses: list[messages.Status] = []
        self.well = True
        """The control task gives permissions."""
        self._control: asyncio.Task[None] | None = None
        frontend = self.frontend
        frontend.on_tripped = self.trips.append
        frontend.on_lost = self.lost.append
        frontend.on_rebooted = self.rebooted.append
        frontend.on_samples = self.samples.append
        frontend.on_minmax = self.pairs.append
        frontend.on_status = self.statuses.append

    def control(self) -> None:
        """Start the control task: a turn each 20 ms."""
        self._control = asyncio.get_running_loop().create_task(self._turns(), name="control")

    async def _turns(self) -> None:
        self.permissions.adopt()
        while True:
            if self.well:
                self.frontend.renew(self.permissions.issue())
            await self.clock.sleep_until(self.clock.now_ns() + 20_000_000)

    def closed(self) -> bool:
        """The pin, at the device."""
        return self.core.closed

    def state(self) -> messages.State:
        """The device's own."""
        return self.core.state

    def connected(self) -> bool:
        """What the driver says."""
        return self.frontend.connected

    def has_room(self) -> bool:
        """What the driver says."""
        return self.frontend.room

    async def sleep(self, seconds: float) -> None:
        await self.clock.sleep_until(self.clock.now_ns() + round(seconds * 1e9))

    async def armed(self) -> None:
        """Connect, configure, arm."""
        await self.frontend.connect()
        await self.frontend.configure()
        self.control()
        await self.frontend.arm()


def on_desk(config: Config, body: Callable[[Desk], Awaitable[None]], **core: Any) -> Desk:  # noqa: ANN401
    """Run ``body`` at a desk in virtual time and return it."""
    made: list[Desk] = []

    async def main(clock: VirtualClock) -> None:
        desk = Desk(clock, config, **core)
        made.append(desk)
        await body(desk)

    run_virtual(main)
    return made[0]
