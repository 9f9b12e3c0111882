"""What a front end's driver does by itself: read, acknowledge, give credit, keep time, notice silence, repeat a trip.

Nothing here closes the switch or lengthens a lease; that is :mod:`edge.instruments.frontend`, and takes a permission.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Final

from edge.clock import Clock, TimerHandle
from edge.config import Config
from edge.errors import ConfigError, LinkLostError, RemoteError
from edge.instruments.device_time import DeviceTime
from edge.instruments.frontend_ask import Asking
from edge.instruments.frontend_limits import unusable
from edge.instruments.frontend_line import FrontendLine
from edge.instruments.frontend_stream import Stream
from edge.instruments.frontend_values import NO_CODE, FrontendSilentError, MinMaxBlock, SampleBlock, Trip
from edge.instruments.transport import Transport
from firmware_proto.frontend import messages, session
from firmware_proto.frontend.messages import Reason, State

SILENT_S: Final = 0.35
"""Three STATUS in a row that did not come."""
TEND_NS: Final = 50_000_000
STALLED_NS: Final = 100_000_000
"""A turn so late says that this process stood still, not that the line did: what is silence counts from then on."""
PING_NS: Final = 983_000_000
"""No round number, so that pings do not keep step with anything else that is periodic."""
PING_SOON_NS: Final = 100_000_000
PINGS_FIRST: Final = 16
PINGS_OUT: Final = 8
TRIP_AGAIN_NS: Final = 10_000_000
TRIPS_SENT: Final = 50
STATUS_LATE_NS: Final = 150_000_000
"""A trip that is known by STATUS alone was at most so long before it: its period, and some for the line."""


def _ignore(_: object) -> None:
    """Nobody listens."""


class FrontendReader:
    """See :class:`edge.instruments.frontend.Frontend`, which is this and what is asked of it.

    Callbacks run in the reader's own call stack: ``on_tripped`` once per trip, also for one found in place at
    ``connect``; ``on_lost`` with LinkLostError for a line that is gone, with FrontendSilentError each time the device
    falls silent; ``on_rebooted`` where the device has started anew, in words; ``on_samples``, ``on_minmax``,
    ``on_status`` with what they are called.
    """

    def __init__(self, transport: Transport, clock: Clock, config: Config, *, nonce: int) -> None:
        """Take over ``transport``'s readable callback; sends nothing. Raises ConfigError without a [frontend].

        ``nonce``: 32 bits that are others in each life of this process.
        """
        if config.frontend is None:
            raise ConfigError("frontend: is missing; the rig's file names no front end", key="frontend")
        self.section = config.frontend
        self.on_tripped: Callable[[Trip], None] = _ignore
        self.on_lost: Callable[[LinkLostError | RemoteError], None] = _ignore
        self.on_rebooted: Callable[[str], None] = _ignore
        self.on_samples: Callable[[SampleBlock], None] = _ignore
        self.on_minmax: Callable[[MinMaxBlock], None] = _ignore
        self.on_status: Callable[[messages.Status], None] = _ignore
        self.welcome: messages.Welcome | None = None
        """What the device said of itself at the last ``connect``."""
        self.mismatch = ""
        """Why it must not be armed, in words: another schema or version, or a device that no rig can rely on. Empty
        where it fits. ``trip`` works."""
        self.status: messages.Status | None = None
        """The last STATUS of this session; ``status_ns``: when it was there."""
        self.status_ns = 0
        self.trip_now: Trip | None = None
        """The trip that is latched in the device."""
        self.time: DeviceTime | None = None
        self.session = session.HostSession(nonce)
        self.silences = 0
        self.stalls = 0
        """Turns of this process that were so late that a silence would have been its own."""
        self._clock = clock
        self._line = FrontendLine(transport, clock, self._feed)
        self._line.on_lost = self._gone
        self._asking = Asking(transport.name, clock)
        self._stream: Stream | None = None
        self._up = False
        self._silent = False
        self._told_rebooted = False
        self._heard_ns = 0
        self._pings: dict[int, int] = {}
        self._token = 0
        self._ping_ns = 0
        self._ping_soon = False
        """The last one was of no use."""
        self._timer: TimerHandle | None = None
        self._due_ns = 0
        self._tripping = False
        """The host has said TRIP, and the device not that it has: no lease meanwhile."""
        self._trips_left = 0
        self._trip_timer: TimerHandle | None = None

    # -- what is known

    @property
    def name(self) -> str:
        """The port."""
        return self._line.transport.name

    @property
    def emulated(self) -> bool:
        """See Transport."""
        return self._line.transport.emulated

    @property
    def connected(self) -> bool:
        """A session stands, and the device was heard within SILENT_S."""
        return self._up and not self._silent and self._line.lost is None

    @property
    def lost_because(self) -> str:
        """Why it is not to be reached, in words; empty where it is, or was not connected yet."""
        if self._line.lost is not None:
            return str(self._line.lost)
        if self._silent:
            return f"nothing heard for {SILENT_S:g} s"
        return "it has started anew" if self._told_rebooted else ""

    @property
    def stuck(self) -> bool:
        """The device says that its switch conducts though open: only the source-measure unit can cut."""
        status = self.status
        return status is not None and status.state == State.TRIPPED and status.trip_reason == Reason.SWITCH_STUCK

    @property
    def state(self) -> State | None:
        """The device's state as it said last; None before the first STATUS of a session."""
        return None if self.status is None else self.status.state

    @property
    def armed(self) -> bool:
        """The device said last that it is ARMED."""
        return self.state == State.ARMED

    @property
    def closed(self) -> bool:
        """The device said last that its switch conducts."""
        return self.status is not None and bool(self.status.switch_sense)

    @property
    def room(self) -> bool:
        """Whether samples are taken; False lets the device drop and count what it would send."""
        return self._stream is None or not self._stream.held

    @room.setter
    def room(self, room: bool) -> None:
        if self._stream is not None:
            self._stream.held = not room
            self._give_credit()

    # -- the host's own trip

    def trip(self) -> None:
        """Trip the device now, before anything that waits to be sent; again and again until it says that it has.

        Needs no session, schema or permission. Never waits, never raises.
        """
        self._tripping = True
        self._trips_left = TRIPS_SENT
        self._send_trip()

    def _send_trip(self) -> None:
        if self._trip_timer is not None:
            self._trip_timer.cancel()
            self._trip_timer = None
        if not self._trips_left:
            return
        self._trips_left -= 1
        self._line.urgent(self.session.trip())
        if self._line.lost is None:
            self._trip_timer = self._clock.call_at(self._clock.now_ns() + TRIP_AGAIN_NS, self._trip_again)

    def _trip_again(self) -> None:
        self._trip_timer = None
        self._send_trip()

    def _tripping_over(self) -> None:
        self._tripping = False
        self._trips_left = 0
        if self._trip_timer is not None:
            self._trip_timer.cancel()
            self._trip_timer = None

    # -- the reader

    def _feed(self, data: bytes, now_ns: int) -> None:
        for event in self.session.feed(data, now_ns):
            self._take(event, now_ns)
            self._asking.bring(event)

    def _take(self, event: session.Event, now_ns: int) -> None:
        if isinstance(event, session.BadFrame):
            return
        self._heard_ns = now_ns
        self._silent = False
        match event:
            case session.Samples() | session.MinMax():
                self._bulk(event)
            case session.Tripped():
                self._tripped(event)
            case session.Status():
                self._said(event)
            case session.Pong():
                self._pong(event)
            case session.Welcome():
                self._welcomed(event)
            case session.Rebooted():
                self._rebooted()
            case _:
                pass

    def _bulk(self, event: session.Samples | session.MinMax) -> None:
        stream = self._stream
        if stream is None:
            return
        if isinstance(event, session.Samples):
            block = stream.samples(event)
            if block is not None:
                self.on_samples(block)
        else:
            pairs = stream.minmax(event)
            if pairs is not None:
                self.on_minmax(pairs)
        self._give_credit()

    def _give_credit(self) -> None:
        total = None if self._stream is None else self._stream.credit()
        if total is not None and self._up:
            self._line.write(self.session.credit(total))

    def _tripped(self, event: session.Tripped) -> None:
        report = event.message
        self._tripping_over()
        known = self.trip_now is not None and self.trip_now.trip_id == report.trip_id
        trip = self.trip_now = self._trip_of(report, event.t_rx_ns)
        if not known:
            # Whoever cuts goes first; the device can wait 20 ms to be told that it was heard.
            self.on_tripped(trip)
        if self._up:
            self._line.write(self.session.ack(report.trip_id))

    def _trip_of(self, report: messages.TripReport, t_rx_ns: int) -> Trip:
        t_ns, unc_ns = self._host_time(report.ticks)
        code_a = self._code_a
        return Trip(
            trip_id=report.trip_id,
            reason=report.reason,
            sample_index=report.sample_index,
            ticks=report.ticks,
            t_ns=t_ns,
            t_unc_ns=unc_ns,
            t_rx_ns=t_rx_ns,
            current_a=math.nan if report.code == NO_CODE else report.code * code_a,
            threshold_a=report.threshold * abs(code_a) if report.threshold else math.nan,
            baseline_a=report.baseline * code_a,
            switch_closed=bool(report.switch_pin),
            reported=True,
            box_n=report.box_n,
            box_trip_at=report.box_trip_at,
        )

    def _said(self, event: session.Status) -> None:
        status = event.message
        self.status, self.status_ns = status, event.t_rx_ns
        if status.state == State.TRIPPED:
            self._tripping_over()
            if self.trip_now is None or self.trip_now.trip_id != status.trip_id:
                # The report itself was lost, and comes again; what to do is known now.
                self.trip_now = self._trip_by_status(status, event.t_rx_ns)
                self.on_tripped(self.trip_now)
        else:
            self.trip_now = None
        self.on_status(status)
        if self._stream is not None and self._up:
            self._give_credit()
            if (total := self._stream.again()) is not None:
                self._line.write(self.session.credit(total))

    def _trip_by_status(self, status: messages.Status, t_rx_ns: int) -> Trip:
        t_ns, unc_ns = self._host_time(status.ticks)
        return Trip(
            trip_id=status.trip_id,
            reason=status.trip_reason,
            sample_index=status.sample_index,
            ticks=status.ticks,
            t_ns=t_ns,
            t_unc_ns=unc_ns + STATUS_LATE_NS,
            t_rx_ns=t_rx_ns,
            current_a=math.nan,
            threshold_a=math.nan,
            baseline_a=math.nan,
            switch_closed=bool(status.switch_pin),
            reported=False,
            box_n=0,
            box_trip_at=0,
        )

    @property
    def _code_a(self) -> float:
        return math.nan if self._stream is None else self._stream.current_per_code_a

    def _host_time(self, ticks: int) -> tuple[int, int]:
        return (0, 0) if self.time is None or not self.time.known else self.time.to_host(ticks)

    def _welcomed(self, event: session.Welcome) -> None:
        welcome = event.message
        self.welcome, self.mismatch = welcome, event.mismatch or unusable(welcome)
        self.status = None
        self._stream = None
        if not self.mismatch:
            if self.time is None or self.time.tick_hz != welcome.tick_hz:
                self.time = DeviceTime(welcome.tick_hz)
            self._stream = Stream(self.session, welcome, self.time, invert=self.section.invert)
        self._told_rebooted = False
        self._up = True
        self._due_ns = event.t_rx_ns
        self._turn()

    def _rebooted(self) -> None:
        self.time = None
        self.trip_now = None
        self.status = None
        self._up = False
        if not self._told_rebooted:
            self._told_rebooted = True
            self.on_rebooted(
                f"{self.name}: the front end has started anew: it is open, and knows nothing of what was before"
            )

    def _pong(self, event: session.Pong) -> None:
        sent_ns = self._pings.pop(event.message.token, None)
        if sent_ns is not None and self.time is not None:
            pong = event.message
            self._ping_soon = not self.time.exchange(sent_ns, pong.ticks_rx, pong.ticks_tx, event.t_rx_ns)

    # -- what comes by itself

    def _ping(self) -> int | None:
        """Ask for the device's time; return the question's number."""
        if self._line.backlog:
            # It would wait here, and its answer say less.
            return None
        self._token += 1
        while len(self._pings) >= PINGS_OUT:
            del self._pings[next(iter(self._pings))]
        self._ping_ns = self._pings[self._token] = self._clock.now_ns()
        self._line.write(self.session.ping(self._token))
        return self._token

    def _turn(self) -> None:
        """Once per TEND_NS while a session stands."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not self._up or self._line.lost is not None:
            return
        now_ns = self._clock.now_ns()
        if now_ns - self._due_ns > STALLED_NS:
            self.stalls += 1
            self._heard_ns = now_ns
        self._due_ns = now_ns + TEND_NS
        self._timer = self._clock.call_at(self._due_ns, self._turn)
        if self.mismatch:
            return
        if not self._silent and now_ns - self._heard_ns > SILENT_S * 1e9:
            self._fall_silent()
        soon = self._ping_soon or self.time is None or self.time.exchanges < PINGS_FIRST
        if now_ns - self._ping_ns >= (PING_SOON_NS if soon else PING_NS):
            self._ping()

    def _fall_silent(self) -> None:
        self._silent = True
        self.silences += 1
        error = FrontendSilentError(
            f"{self.name}: the front end has said nothing for {SILENT_S:g} s; it opens by itself when its lease is over"
        )
        self._asking.fail(error)
        self.on_lost(error)

    def _gone(self, error: LinkLostError) -> None:
        self._up = False
        self._asking.fail(error)
        self.on_lost(error)

    def close(self) -> None:
        """Stop timers and let go of the line; changes nothing in the device, whose lease runs out."""
        self._up = False
        self._tripping_over()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._line.close()

    def describe(self) -> dict[str, Any]:
        """Return what a status shows; plain values."""
        status, welcome = self.status, self.welcome
        return {
            "port": self.name,
            "emulated": self.emulated,
            "connected": self.connected,
            "mismatch": self.mismatch or None,
            "state": None if status is None else status.state.name,
            "closed": None if status is None else self.closed,
            "trip": None if self.trip_now is None else _trip_words(self.trip_now),
            "board": None if welcome is None else welcome.board,
            "build_id": None if welcome is None else f"{welcome.build_id:08x}",
            "reset_cause": None if welcome is None else welcome.reset_cause.name,
            "sample_hz": None if welcome is None else welcome.sample_hz,
            "time": None if self.time is None else self.time.describe(),
            "silences": self.silences,
            "stalls": self.stalls,
            "stuck": self.stuck,
            "lost": self.lost_because or None,
            "host": self._host_counters(),
            "device": None if status is None else _device_counters(status),
        }

    def _host_counters(self) -> dict[str, int]:
        counters = self.session.counters
        return {
            "frames": self.session.frames,
            "sessions": counters.sessions,
            "reboots": counters.reboots,
            "gaps": counters.gaps,
            "missing_samples": counters.missing,
            "doubled_blocks": counters.doubled,
            "unsent": self._line.dropped,
            **self.session.refused,
        }


def _trip_words(trip: Trip) -> dict[str, Any]:
    return {"trip_id": trip.trip_id, "reason": trip.reason.name, "t_ns": trip.t_ns, "surge": trip.surge}


DEVICE_COUNTERS: Final = (
    "rx_frames",
    "rx_bad_cobs",
    "rx_bad_length",
    "rx_bad_crc",
    "rx_unknown",
    "rx_stale",
    "rx_gaps",
    "tx_frames",
    "bulk_sent",
    "drop_no_credit",
    "drop_tx_full",
    "late_samples",
    "overruns",
)


def _device_counters(status: messages.Status) -> dict[str, int]:
    return {name: getattr(status, name) for name in DEVICE_COUNTERS}
