"""When the worker beats into the monostable: whenever its control task is alive and nothing forbids it.

So silence is the cut: of a worker that hangs, was killed or stopped, of a host that is gone, of a wire that broke. The
timer is one of the loop's own; a loop that does not turn gives no beat, and a control task that does not stamp its page
gets none. What decides a beat is read here and nowhere kept; a replay has no beats, and nothing recorded depends on one
but what the instrument says.
"""

from __future__ import annotations

from typing import Final

from edge.clock import Clock, TimerHandle
from edge.controller.page import Page
from edge.guard.states import State, StateMachine
from edge.instruments.actuators import GpioActuator
from edge.instruments.link import Link

STAMP_NS: Final = 60_000_000
"""Oldest stamp of the control task, three ticks, that still allows a beat."""
_SILENT: Final = frozenset({State.UNKNOWN, State.TRIPPED})
_WATCHED: Final = frozenset({State.ENERGISED, State.CUTTING})


class Heartbeat:
    """Beats once per ``gpio.beat_s`` while it may."""

    def __init__(self, actuator: GpioActuator, machine: StateMachine, page: Page, link: Link, clock: Clock) -> None:
        """``clock``: one whose readings are on no tape. Nothing begins before :meth:`start`."""
        self._actuator = actuator
        self._machine = machine
        self._page = page
        self._link = link
        self._clock = clock
        self._beat_ns = int(actuator.config.beat_s * 1e9)
        self._due_ns = 0
        self._timer: TimerHandle | None = None

    def start(self) -> None:
        """Begin; needs a running loop."""
        self._due_ns = self._clock.now_ns()
        self._turn()

    def stop(self) -> None:
        """Fall silent."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def silent_because(self, now_ns: int) -> str:
        """Say why there is no beat now; empty where there is one."""
        state = self._machine.state
        if state in _SILENT or self._machine.protective:
            return f"state {state.value}"
        if now_ns - self._page.heartbeat_ns > STAMP_NS:
            return "the control task is late"
        if state in _WATCHED and self._link.outstanding and now_ns > self._link.deadline_ns:
            return "a reply is past its deadline"
        return "held for a test" if self._actuator.held else ""

    def _turn(self) -> None:
        now_ns = self._clock.now_ns()
        # A beat that is late is not made up for: the next one is due a period from now.
        self._due_ns = max(self._due_ns + self._beat_ns, now_ns + self._beat_ns // 2)
        self._timer = self._clock.call_at(self._due_ns, self._turn)
        if not self.silent_because(now_ns):
            self._actuator.beat()
