"""The front end in series with the tip, as the engine uses it: armed before the output goes on, renewed by the control
task, heard while a run goes on, opened behind a verified cut; its black box fetched before it may close again.

Order of an output-on: its limits set and read back (``prepare``), its switch closed and seen closed (``arm``), then the
instrument's output. Order of the way down: the instrument's output verified off, then its switch: an instrument that
looks at an open switch reads nothing and proves nothing. With no run under way it is not spoken to: its switch is open.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

from edge.clock import Clock
from edge.config import Config
from edge.config_frontend import FrontendConfig
from edge.controller.front_absent import ALARM, NoFrontEnd
from edge.controller.front_box import box_document, declares, trip_document
from edge.controller.front_check import CrossingWatch
from edge.controller.front_stream import FrontStream, cost_in_words, merged
from edge.controller.recorder import Recorder
from edge.controller.report import Report
from edge.errors import (
    ConfigError,
    InstrumentError,
    InterlockError,
    LinkLostError,
    PlanRefusedError,
    RemoteError,
)
from edge.guard.phases import SURGE_TESTS, PhaseSpec
from edge.instruments.drivers import make_frontend
from edge.instruments.frontend import Frontend
from edge.instruments.frontend_actuator import FrontendActuator
from edge.instruments.frontend_values import BlackBox, FrontendMismatchError, MinMaxBlock, SampleBlock, Trip
from edge.instruments.lease import LeaseRefusedError, Permissions
from edge.instruments.transport import Transport
from firmware_proto.frontend.detector_model import Limits
from firmware_proto.frontend.messages import Reason, State, Status

NONCE_STEP: Final = 0x9E3779B9
"""Odd: the nonces of 2**32 sessions of one epoch differ."""
LOSSES: Final = (InstrumentError, LinkLostError, InterlockError, ConfigError)
"""What asking the device may end in."""


class FrontEnd(NoFrontEnd):
    """The front end of a rig that has one."""

    def __init__(
        self, config: Config, section: FrontendConfig, transport: Transport, clock: Clock, recorder: Recorder
    ) -> None:
        """Sends nothing. ``clock``: the one that a replay has, too."""
        self.port = transport.name
        self.emulated = transport.emulated
        self.on_trip = lambda _trip: None
        self.on_fault = lambda _why: None
        self.report = Report()
        self.permissions = Permissions(clock, section.lease_s)
        self.stream = FrontStream(section, recorder)
        self._config = config
        self._section = section
        self._transport = transport
        self._clock = clock
        self._recorder = recorder
        self._opened = 0
        self._spoken_to = False
        self._unit = self._new_unit()
        # A device that is not spoken to takes its bytes all the same.
        self.actuator: FrontendActuator = FrontendActuator(self._unit, clock, baud=transport.baud)
        self._unit.close()
        self._last: dict[str, Any] | None = None
        """What it said last, before it was no longer spoken to."""
        self._talking = asyncio.Lock()
        """Held while it is looked at or prepared: a run may begin before the first look is over."""
        self._wanted = False
        """Its switch is to be closed: from the arming to the verified cut, or its trip."""
        self._recording = False
        """What it measures is kept: from the arming to the verified cut; behind an open switch there is nothing."""
        self._pending: list[SampleBlock] = []
        self._watch: CrossingWatch | None = None
        self._trip: Trip | None = None
        """Since the last arming."""
        self._box: BlackBox | None = None
        self._cut_ns: int | None = None
        """When the cut was decided whose event was written since the last arming."""
        self._cut_run = 0
        self._told: tuple[int, int] | None = None
        """Boot and number of the last trip whose black box is in an event."""
        self._work: asyncio.Task[None] | None = None
        self._stuck = False

    # -- a session, from the first arming of a run to its end

    async def look(self) -> None:
        """See NoFrontEnd. What a life before has left in the device, is fetched."""
        async with self._talking:
            try:
                await self._finish_trip(await self._session())
            except LOSSES as error:
                self._alarm(str(error))

    async def _session(self) -> Frontend:
        """Return the device with a session that stands."""
        if not self._spoken_to:
            self._unit = self.actuator.frontend = self._new_unit()
            self._spoken_to = True
        unit = self._unit
        if not unit.connected:
            await unit.connect()
        if unit.mismatch:
            raise FrontendMismatchError(f"{self.port}: {unit.mismatch}; it can be tripped, and is never armed")
        self.report.clear_alarm(ALARM)
        self.stream.boot = self._boot
        return unit

    @property
    def _boot(self) -> int:
        welcome = self._unit.welcome
        return 0 if welcome is None else welcome.boot_nonce

    def _new_unit(self) -> Frontend:
        epoch = self._recorder.epoch
        nonce = (epoch ^ epoch >> 32) + self._opened * NONCE_STEP
        self._opened += 1
        unit = make_frontend(
            self._transport, self._clock, self._config, nonce=nonce & 0xFFFFFFFF, permissions=self.permissions
        )
        unit.on_tripped = self._tripped
        unit.on_lost = self._lost
        unit.on_rebooted = self._rebooted
        unit.on_status = self._said
        unit.on_samples = self._samples
        unit.on_minmax = self._minmax
        return unit

    def rest(self) -> None:
        """See NoFrontEnd. It is not spoken to any more, and nothing of it is read: its switch is open."""
        if (
            not self._spoken_to
            or self._wanted
            or self._talking.locked()
            or (self._work is not None and not self._work.done())
        ):
            return
        self._spoken_to = False
        self._last = self._unit.describe()
        self._unit.close()

    def memory(self) -> dict[str, Any]:
        """See NoFrontEnd. At rest only: of a session nothing is kept."""
        return {"opened": self._opened, "told": self._told}

    def remember(self, memory: dict[str, Any]) -> None:
        """See NoFrontEnd."""
        self._opened = int(memory["opened"])
        told = memory["told"]
        self._told = None if told is None else (int(told[0]), int(told[1]))

    def close(self) -> None:
        """See NoFrontEnd."""
        if self._work is not None:
            self._work.cancel()
        self._spoken_to = False
        self._unit.close()

    # -- before an output-on

    async def prepare(self, spec: PhaseSpec) -> None:
        """See NoFrontEnd. Raises PlanRefusedError for a device of another schema, or what asking it may end in."""
        try:
            async with self._talking:
                unit = await self._session()
                await self._finish_trip(unit)
                self._trip = self._box = self._cut_ns = None
                if unit.state != State.SAFE:
                    await unit.open()
                # Where a filament is already there, a current is no surge: what is left is the limit.
                await unit.configure(surge=bool(spec.tests & SURGE_TESTS))
        except FrontendMismatchError as error:
            self._alarm(str(error))
            raise PlanRefusedError(f"{error}; nothing was energised (docs/frontend.md)", reason="frontend") from error

    async def arm(self) -> None:
        """See NoFrontEnd. The ARM itself goes out with the control task's next permission."""
        unit = self._unit
        if not self._spoken_to or unit.in_force is None or unit.welcome is None:
            raise InterlockError("the front end was not prepared: the output stays off")
        self._wanted = self._recording = True
        self.stream.begin()
        try:
            await unit.arm()
        except LOSSES as error:
            self.disarm()
            raise InterlockError(f"the front end did not close its switch ({error}): the output stays off") from error
        if not (unit.armed and unit.closed and self._trip is None):
            self.disarm()
            raise InterlockError("the front end does not say that its switch is closed: the output stays off")
        status = unit.status
        limits = Limits.of(unit.in_force.config, unit.welcome.full_scale_code)
        self._watch = CrossingWatch(limits, 0 if status is None else status.sample_index)

    def disarm(self) -> None:
        """See NoFrontEnd."""
        self._open()

    def tick(self, now_ns: int, *, well: bool) -> None:
        """See NoFrontEnd."""
        if not self._spoken_to:
            return
        if self._wanted and well:
            try:
                self._unit.renew(self.permissions.issue())
            except LeaseRefusedError as error:
                # Then it opens by itself, and says so.
                self.report.notice("lease not renewed", why=str(error))
        self._digest(now_ns)
        self.stream.tick(now_ns)

    def adopt(self) -> None:
        """See NoFrontEnd."""
        self.permissions.adopt()

    # -- behind a cut

    def after_cut(self) -> None:
        """See NoFrontEnd."""
        self._open()

    def _open(self) -> None:
        wanted, self._wanted = self._wanted, False
        self._watch = None
        if self._spoken_to:
            self._digest(self._clock.now_ns())
            self.stream.end()
        self._recording = False
        if wanted and self._trip is None:
            self._begin(self._opening(self._unit))

    def _begin(self, work: Any) -> None:  # noqa: ANN401 - a coroutine
        before = self._work
        self._work = asyncio.get_running_loop().create_task(_after(before, work), name="front end")

    async def _settled(self) -> None:
        """Wait for what is under way with the device."""
        if self._work is not None:
            await asyncio.shield(self._work)

    async def _opening(self, unit: Frontend) -> None:
        try:
            await unit.open()
            # What it trips for from now on has nothing to do with the cut behind which it opened.
            self._cut_ns = None
        except LOSSES as error:
            # Its lease is not renewed any more; whether it is open is asked before it is armed again.
            self.report.notice("front end not seen open", why=str(error))

    async def _fetching(self, unit: Frontend, trip: Trip) -> None:
        try:
            self._box = await unit.black_box(trip)
        except LOSSES as error:
            self.report.notice("black box not fetched yet", why=str(error))
            return
        self._tell_late()

    def _tell_late(self) -> None:
        """Write the black box into an event of its own, where that of its cut is written already."""
        if self._box is None or self._cut_ns is None or self._told == self._key(self._box.trip):
            return
        self._told = self._key(self._box.trip)
        self._recorder.event(
            {
                "kind": "black_box",
                "run": self._cut_run,
                "cut_ns": self._cut_ns or None,
                "t_ns": self._clock.now_ns(),
                "frontend": {**trip_document(self._box.trip), "box": box_document(self._box)},
            }
        )

    def _key(self, trip: Trip) -> tuple[int, int]:
        return self.stream.boot, trip.trip_id

    async def _finish_trip(self, unit: Frontend) -> None:
        """Let the device forget a trip, if there is one, its black box in an event. Raises what asking may end in."""
        await self._settled()
        trip = unit.trip_now
        if trip is None:
            return
        if self._told != self._key(trip):
            if self._box is None or self._box.trip.trip_id != trip.trip_id:
                self._box = await unit.black_box(trip)
            if self._cut_ns is None:
                # Of a life before, or with the output off: there was no cut to tell it with.
                self._cut_ns, self._cut_run = 0, self._recorder.run
            self._tell_late()
        await unit.release(trip)
        await unit.rearm(trip)

    def instead(self, *, onset_found: bool) -> dict[str, Any]:
        """See NoFrontEnd. Its sample is the first one behind the onset, where the instrument saw none."""
        trip = self._trip
        if onset_found or trip is None or not trip.surge or trip.current_a != trip.current_a:
            return {}
        return {"set_current_a": trip.current_a, "set_current_clamped": False, "charge_is_lower_bound": True}

    def in_event(self, cut_ns: int) -> dict[str, Any] | None:
        """See NoFrontEnd. A black box that is not here yet follows in an event of its own."""
        self._cut_ns, self._cut_run = cut_ns, self._recorder.run
        trip, now = self._trip, self._unit.trip_now
        if trip is None:
            return None
        if now is not None and now.trip_id == trip.trip_id:
            # Known by STATUS first, and by its report since.
            trip = self._trip = now
        if self._box is None:
            return trip_document(trip)
        self._told = self._key(trip)
        return {**trip_document(trip), "box": box_document(self._box)}

    # -- what the device says, in its reader's call stack

    def _tripped(self, trip: Trip) -> None:
        self._wanted = False
        self._watch = None
        self._trip, self._box = trip, None
        self.on_trip(trip)
        self.stream.boot = self._boot
        if self._told != self._key(trip):
            self.report.notice("front end tripped", reason=trip.reason.name)
            self._begin(self._fetching(self._unit, trip))

    def _said(self, status: Status) -> None:
        stuck = status.state == State.TRIPPED and status.trip_reason == Reason.SWITCH_STUCK
        if stuck and not self._stuck:
            why = "its switch conducts although it is open; only the instrument can take the bias away: repair it"
            self._fault(why)
        self._stuck = stuck

    def _lost(self, error: LinkLostError | RemoteError) -> None:
        self._fault(str(error))
        if isinstance(error, LinkLostError):
            self._spoken_to = False

    def _rebooted(self, why: str) -> None:
        self._fault(why)

    def _fault(self, why: str) -> None:
        live, self._wanted = self._wanted, False
        self._watch = None
        self.on_fault(why)
        self._alarm(why)
        if not live:
            self.report.notice("front end", why=why)

    def _alarm(self, why: str) -> None:
        self.report.raise_alarm(ALARM, why)

    def _samples(self, block: SampleBlock) -> None:
        if self._recording:
            # Four hundred frames a second are dealt with fifty times a second: what a block costs is mostly its own.
            self._pending.append(block)

    def _digest(self, now_ns: int) -> None:
        """Look at the samples that have come, and keep them."""
        pending, self._pending = self._pending, []
        for block in merged(pending):
            if self._watch is not None:
                self._watch.samples(block)
                self._judge(self._watch)
            self.stream.samples(block, now_ns)

    def _minmax(self, block: MinMaxBlock) -> None:
        if self._watch is not None:
            self._watch.minmax(block)
            self._judge(self._watch)
        if self._recording:
            self.stream.minmax(block, self._clock.now_ns())

    def _judge(self, watch: CrossingWatch) -> None:
        if watch.let_pass and watch.crossed is not None:
            index, reason = watch.crossed
            self._fault(f"it let sample {index} pass, which had to trip it ({reason.name})")

    # -- status

    @property
    def at_rest(self) -> bool:
        """See NoFrontEnd."""
        return not self._spoken_to

    @property
    def notes(self) -> tuple[str, ...]:
        """See NoFrontEnd."""
        hz = self.sample_hz
        return (cost_in_words(self._section, hz),) if hz and self._section.recording == "full" else ()

    @property
    def sample_hz(self) -> float | None:
        """What the device said it samples at; None before it was asked."""
        said = self._described()
        hz = None if said is None else said.get("sample_hz")
        return float(hz) if isinstance(hz, int) else None

    def _described(self) -> dict[str, Any] | None:
        return self._unit.describe() if self._spoken_to else self._last

    def describe(self) -> dict[str, Any]:
        """See NoFrontEnd."""
        return {
            **(self._described() or {"port": self.port, "emulated": self.emulated}),
            "spoken_to": self._spoken_to,
            "declares": declares(self._unit),
            "recording": self._section.recording,
            "rows": self._recorder.front_rows,
            "rows_lost": self._recorder.front_lost,
        }


async def _after(before: asyncio.Task[None] | None, work: Any) -> None:  # noqa: ANN401 - a coroutine
    if before is not None:
        await asyncio.gather(before, return_exceptions=True)
    await work
