"""The front end's driver: a microcontroller in series with the tip, which trips by itself and is closed on a lease.

What it does unasked is :mod:`edge.instruments.frontend_reader`. What is awaited here may lose frames in either
direction and is asked again. ARM and LEASE go out in :meth:`Frontend.renew` and nowhere else, with a permission that
only the control task can have been given (:mod:`edge.instruments.lease`).
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable
from typing import Any, Final

import numpy as np

from edge.clock import Clock
from edge.config import Config
from edge.errors import LimitReadbackError, ReplyTimeoutError
from edge.instruments.frontend_limits import check_line, device_config, differences
from edge.instruments.frontend_reader import FrontendReader
from edge.instruments.frontend_values import (
    NO_CODE,
    BlackBox,
    FrontendError,
    FrontendMismatchError,
    FrontendRefusedError,
    Trip,
)
from edge.instruments.lease import LeaseRefusedError, Permission
from edge.instruments.transport import Transport
from firmware_proto.frontend import messages, session
from firmware_proto.frontend.messages import Refusal, State

HELLO_S: Final = 0.2
HELLOS: Final = 10
ANSWER_S: Final = 0.15
"""Longer than the period of STATUS: what was asked may be answered by the next one."""
TRIES: Final = 5
BURST: Final = 8
"""Pings at the beginning of a session, one after the other."""
LEASE_GUARD_NS: Final = 100_000
"""Off every lease: clocks that differ by 600 ppm must not make a whole one too long for the device."""
LEFT_S: Final = 0.03
"""Least that may be left of a lease where the device's time is uncertain: one turn of the control task, and a half."""
ARM_AGAIN_NS: Final = 60_000_000
BOX_CODES: Final = 240
"""Asked for at a time; fits one BOX."""
BOX_MOST: Final = 65_535


class Frontend(FrontendReader):
    """One front end on its line. ``connect`` again after silence or a reboot; a new object after a port was gone.

    What is awaited raises FrontendError or one of its kinds, ReplyTimeoutError, or LinkLostError.
    """

    def __init__(
        self,
        transport: Transport,
        clock: Clock,
        config: Config,
        *,
        nonce: int,
        redeem: Callable[[Permission], int],
    ) -> None:
        """See FrontendReader. ``redeem``: of :class:`edge.instruments.lease.Permissions`."""
        super().__init__(transport, clock, config, nonce=nonce)
        self.in_force: messages.ConfigIs | None = None
        """What was read back at the last ``configure``."""
        self.recording = "off"
        """What is in force of [frontend].recording, or "off"."""
        self.lease_until_ns = 0
        """End of the lease that was given last, CLOCK_MONOTONIC; 0: none in this session."""
        self._redeem = redeem
        self._lock = asyncio.Lock()
        self._config_seq = 0
        self._arming = False
        self._arm_ns = 0

    async def connect(self) -> None:
        """Begin a session: HELLO until WELCOME, pings for the time, a STATUS.

        A device that is ARMED takes a HELLO for a lost host and trips. With one of another schema the session stands,
        too: ``mismatch`` says so, everything but ``trip`` is refused. A trip in place is told by ``on_tripped``.
        """
        async with self._lock:
            if self._line.lost is not None:
                raise self._line.lost
            self._up = False
            self._arming = False
            # A device that is ARMED trips at HELLO.
            self._tripping_over()
            self.in_force = None
            self.recording = "off"
            self.lease_until_ns = 0
            await self._asking.ask("HELLO", self._hello, _is(session.Welcome), timeout_s=HELLO_S, tries=HELLOS)
            if self.mismatch:
                return
            for _ in range(BURST):
                await self._ask("PING", self._ping, self._is_pong)
            await self._ask("GET_STATUS", self._get_status, _is(session.Status))

    def _hello(self) -> None:
        self._line.write(self.session.hello())

    def _is_pong(self, event: session.Event) -> session.Pong | None:
        return event if isinstance(event, session.Pong) and event.message.token == self._token else None

    def _get_status(self) -> int:
        return self._send(self.session.get_status())

    def _send(self, data: bytes) -> int:
        self._line.write(data)
        return self.session.sent_seq

    async def _ask(
        self, what: str, send: Callable[[], int | None], accept: Callable[[session.Event], Any], *, tries: int = TRIES
    ) -> Any:  # noqa: ANN401 - what accept returns
        if self._line.lost is not None:
            raise self._line.lost
        if not self._up:
            raise FrontendError(f"{self.name}: no session with the front end stands; it was not connected, or rebooted")
        return await self._asking.ask(what, send, accept, timeout_s=ANSWER_S, tries=tries)

    def _must_fit(self) -> None:
        if self.mismatch:
            raise FrontendMismatchError(
                f"{self.name}: {self.mismatch}; load the firmware that belongs to this program. Nothing was armed"
            )

    # -- what is in force

    async def configure(self, recording: str | None = None, *, surge: bool = True) -> None:
        """Upload thresholds, black box and stream, read back what is in force and compare it. Only while SAFE.

        ``recording``: None for that of [frontend], else one of its values, or "off". ``surge`` False: HARD alone, for a
        phase in which a filament is there already. Raises ConfigError where the device cannot do what is asked,
        LimitReadbackError where something else is in force.
        """
        self._must_fit()
        async with self._lock:
            self.in_force = None
            if self.welcome is None:
                raise FrontendError(f"{self.name}: no session with the front end stands; connect comes first")
            wanted = self.section.recording if recording is None else recording
            self._config_seq = (self._config_seq + 1) & 0xFFFF
            section = self.section if surge else self.section.hard_alone
            config = device_config(section, self.welcome, wanted, self._config_seq)
            if not self.emulated:
                check_line(config, self.welcome, self._line.transport.baud, wanted)

            def taken(event: session.Event) -> messages.ConfigIs | None:
                mine = isinstance(event, session.ConfigIs) and (
                    event.message.config_seq == config.config_seq or event.message.result != Refusal.NONE
                )
                return event.message if mine and isinstance(event, session.ConfigIs) else None

            got: messages.ConfigIs = await self._ask(
                "CONFIG", lambda: self._send(self.session.configure(config)), taken
            )
            if got.result != Refusal.NONE:
                raise FrontendRefusedError(
                    f"{self.name}: the front end refuses CONFIG: {got.result.name}", why=got.result
                )
            wrong = differences(config, got)
            if got.config_crc != session.config_crc(config):
                wrong.append(f"config_crc is {got.config_crc:08x}, sent {session.config_crc(config):08x}")
            if wrong:
                raise LimitReadbackError(
                    f"{self.name}: the front end has other limits in force than were sent: {'; '.join(wrong)}. Nothing "
                    "was armed"
                )
            self.in_force, self.recording = got, wanted

    # -- closing and opening

    async def arm(self) -> None:
        """Close the switch; returns once STATUS says ARMED and its sense says closed.

        ARM itself goes out with the next ``renew``: raises LeaseRefusedError where none came in time.
        """
        self._must_fit()
        async with self._lock:
            if self.in_force is None:
                raise FrontendError(f"{self.name}: nothing was read back as in force; configure comes first")
            if self.trip_now is not None:
                raise FrontendError(
                    f"{self.name}: the front end is tripped ({self.trip_now.reason.name}); rearm comes first"
                )
            self._check_time()
            self._arming, self._arm_ns = True, 0
            try:
                await self._be_armed()
            finally:
                self._arming = False

    async def _be_armed(self) -> None:
        try:
            await self._ask("ARM", self._look, self._is_armed)
        except ReplyTimeoutError:
            if not self._arm_ns:
                raise LeaseRefusedError(
                    f"{self.name}: the control task gave no permission to energise; the front end stays open"
                ) from None
            if self.armed and not self.closed:
                raise FrontendError(
                    f"{self.name}: the front end is ARMED, and its switch still reads open; is the switch powered, or "
                    "broken?"
                ) from None
            raise
        except FrontendRefusedError as error:
            if error.why != Refusal.STATE:
                raise
            # The first ARM did it, its STATUS was lost, and the second found nothing to do.
            await self._ask("GET_STATUS", self._get_status, _is(session.Status))
            if not self.armed:
                raise
            await self._ask("ARM", self._look, self._is_armed)

    def _look(self) -> None:
        """Ask for a STATUS; a refusal of the question is nobody's."""
        self._get_status()

    def _check_time(self) -> None:
        _, unc_ns = (0, 0) if self.time is None or self.status is None else self.time.to_host(self.status.ticks)
        # The device is told the earliest tick that the end of a lease can be: all of the uncertainty is taken off it.
        left_s = self.section.lease_s - 2e-9 * unc_ns
        if left_s < LEFT_S:
            raise FrontendError(
                f"{self.name}: the front end's time is known to {unc_ns / 1e6:.3g} ms only, so of a lease of "
                f"{self.section.lease_s * 1e3:g} ms {max(0.0, left_s) * 1e3:.3g} ms are left; {LEFT_S * 1e3:g} ms are "
                "needed. Is the line too slow, or this computer too busy? Nothing was armed"
            )

    def _is_armed(self, event: session.Event) -> bool | None:
        if isinstance(event, session.Tripped):
            self._asking.fail(FrontendError(f"{self.name}: the front end tripped while it was armed"))
        if not isinstance(event, session.Status) or event.message.state != State.ARMED:
            return None
        if event.message.switch_sense:
            return True
        # Its sense is read at each sample; the first one may not have been yet.
        self._get_status()
        return None

    def renew(self, permission: Permission) -> None:
        """Lengthen the lease while ARMED; close the switch where ``arm`` waits for it. Called by the control task.

        ``permission``: issued in this turn. Raises LeaseRefusedError for one that is not good; never for the line. The
        lease ends when the permission does, whatever the line makes of it, the device's time taken as its uncertainty
        has it at worst.
        """
        until_ns = self._redeem(permission)
        now_ns = self._clock.now_ns()
        if not self.connected or self.mismatch or self.time is None or not self.time.known:
            return
        if self._tripping or self.trip_now is not None:
            # Were every TRIP lost: the lease runs out.
            return
        end_ns = min(until_ns, now_ns + int(self.section.lease_s * 1e9)) - LEASE_GUARD_NS
        deadline = self.time.ticks_before(end_ns)
        if not self.armed and self._arming and self.in_force is not None and now_ns - self._arm_ns >= ARM_AGAIN_NS:
            self._arm_ns = now_ns
            self._asking.sent("ARM", self._send(self.session.arm(deadline)))
        elif self.armed or (self._arming and self._arm_ns):
            # Also while it is not known that the ARM has done it: its lease runs already.
            self._send(self.session.lease(deadline))
        else:
            return
        self.lease_until_ns = end_ns

    async def open(self) -> None:
        """Open the switch in the normal way, with the output verified off; returns once STATUS says it is open."""
        async with self._lock:
            self._arming = False

            def is_open(event: session.Event) -> bool | None:
                if not isinstance(event, session.Status) or event.message.state == State.ARMED:
                    return None
                return None if event.message.switch_sense else True

            try:
                await self._ask("OPEN", lambda: self._send(self.session.open()), is_open)
            except ReplyTimeoutError:
                if self.closed and not self.armed:
                    raise FrontendError(
                        f"{self.name}: the front end's switch conducts although it is told to be open; only the "
                        "source-measure unit can take the bias away"
                    ) from None
                raise

    # -- after a trip

    async def black_box(self, trip: Trip) -> BlackBox:
        """Fetch what the device kept around a trip; it stays there until ``release``. Empty where there is none."""
        async with self._lock:
            trip = await self._reported(trip)
            codes: list[np.ndarray[Any, np.dtype[np.int16]]] = []
            offset = 0
            while offset < BOX_MOST:
                part = await self._box_part(trip.trip_id, offset)
                codes.append(np.frombuffer(part.codes, "<i2"))
                offset += part.count
                if part.count < BOX_CODES:
                    break
        return self._box_of(trip, np.concatenate(codes))

    async def _reported(self, trip: Trip) -> Trip:
        """Return what the trip's own report says; a STATUS may have told of it first."""
        if trip.reported:
            return trip

        def told(event: session.Event) -> bool | None:
            mine = isinstance(event, session.Tripped) and event.message.trip_id == trip.trip_id
            return True if mine else None

        if self.trip_now is None or not self.trip_now.reported:
            await self._ask("GET_STATUS", self._look, told)
        now = self.trip_now
        return trip if now is None or now.trip_id != trip.trip_id else now

    async def _box_part(self, trip_id: int, offset: int) -> messages.Box:
        def part(event: session.Event) -> messages.Box | None:
            if not isinstance(event, session.BoxPart):
                return None
            box = event.message
            return box if box.trip_id == trip_id and box.offset == offset else None

        # A box that still fills answers when it has what was asked for.
        tries = TRIES + int(self.section.post_s / ANSWER_S)
        got: messages.Box = await self._ask(
            "BOX_READ", lambda: self._send(self.session.read_box(trip_id, offset, BOX_CODES)), part, tries=tries
        )
        return got

    def _box_of(self, trip: Trip, codes: np.ndarray[Any, np.dtype[np.int16]]) -> BlackBox:
        if self._stream is None or self.time is None:
            raise FrontendError(f"{self.name}: no session with the front end stands; connect comes first")
        current_a = codes.astype(np.float64) * self._stream.current_per_code_a
        current_a[codes == NO_CODE] = np.nan
        offsets = np.arange(-trip.box_trip_at, len(codes) - trip.box_trip_at, dtype=np.float64)
        offsets *= self._stream.period_ticks
        t_ns, t_unc_ns = self.time.to_host_array(trip.ticks, offsets)
        t_now_ns, unc_now_ns = self.time.to_host(trip.ticks)
        # Pings since the report have made the time better known.
        trip = dataclasses.replace(trip, t_ns=t_now_ns, t_unc_ns=unc_now_ns)
        return BlackBox(trip=trip, trip_at=trip.box_trip_at, t_ns=t_ns, t_unc_ns=t_unc_ns, current_a=current_a)

    async def release(self, trip: Trip) -> None:
        """Let the device forget the black box of a trip; asked for twice, it is no fault."""
        async with self._lock:
            # There is no answer but to a mistake: a STATUS that was asked for behind it says that it was heard.
            def send() -> int:
                number = self._send(self.session.done(trip.trip_id))
                self._get_status()
                return number

            await self._ask("BOX_DONE", send, _is(session.Status))

    async def rearm(self, trip: Trip) -> None:
        """Leave TRIPPED for SAFE, its box released; returns once STATUS says SAFE. The switch stays open."""
        async with self._lock:

            def is_safe(event: session.Event) -> bool | None:
                return True if isinstance(event, session.Status) and event.message.state == State.SAFE else None

            def send() -> int:
                self._send(self.session.ack(trip.trip_id))
                return self._send(self.session.rearm(trip.trip_id))

            try:
                await self._ask("REARM", send, is_safe)
            except FrontendRefusedError as error:
                if self.stuck:
                    raise FrontendRefusedError(
                        "its switch conducts although it is open: repair it; until then the output stays off",
                        why=error.why,
                    ) from error
                # The first REARM did it, its STATUS was lost, and the second found nothing to do.
                if self.state != State.SAFE:
                    raise


def _is(kind: type[Any]) -> Callable[[session.Event], Any]:
    return lambda event: event if isinstance(event, kind) else None
