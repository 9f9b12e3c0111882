"""The worker's side of the flight record: what goes onto the tape, and where a replay can begin.

A replay begins at an epoch's start, or at a *checkpoint*: a moment at rest, with what the worker then knew. Drivers
keep what they learned to themselves, so a checkpoint carries the start-up dialogue too; a replay lives through that
first and then goes on from the state.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Final

from edge.clock import Clock
from edge.config import Config
from edge.controller.mirror import Latch
from edge.controller.recorder import Recorder
from edge.controller.tip import Tip
from edge.instruments.recording import RecordingClock, RecordingLoop, RecordingTransport, Tape
from edge.instruments.stage import StageStatus
from edge.instruments.transport import Transport
from edge.tape import FRONTEND, PORTS

CHECKPOINT_NS: Final = 10_000_000_000


@dataclasses.dataclass(slots=True)
class Pace:
    """Where the control task is: when its next tick and its next look are due, in ns; looks and samples so far."""

    due_ns: int
    watch_ns: int
    seconds: int = 0
    counted: int = 0


class Flight:
    """One worker's tape."""

    def __init__(self, clock: Clock, loop: RecordingLoop | None) -> None:
        """Begin a tape. ``loop``: marks its turns on it; None in virtual time, where timers are never late."""
        self.tape = Tape(clock)
        self.clock = RecordingClock(clock, self.tape)
        if loop is not None:
            loop.record(self.tape)
        self._checked_ns = 0

    def port(self, transport: Transport, port: int) -> RecordingTransport:
        """Return ``transport`` with its traffic on the tape as ``port`` (one of the three of :mod:`edge.tape`)."""
        return RecordingTransport(transport, self.tape, port)

    def begin(
        self,
        recorder: Recorder,
        config: Config,
        *,
        version: str,
        previous_epoch: int,
        latch: Latch | None,
        ports: tuple[Transport | None, Transport | None, Transport | None],
        watched: bool,
        unrecorded: str | None = None,
    ) -> None:
        """Write how the epoch begins. ``watched``: a keeper is there.

        ``unrecorded``: why this life cannot be replayed, in words; None where it can.
        """
        if recorder.tape_writer is None:
            return
        recorder.tape_writer.start(
            {
                "rig": config.rig.id,
                "version": version,
                "prev_epoch": previous_epoch,
                "t_ns": self.tape.clock.now_ns(),
                "config": config.model_dump(mode="json"),
                "turns": self.tape.turns,
                "latch": None if latch is None else dataclasses.asdict(latch),
                "watched": watched,
                "ports": {
                    name: None if port is None else {"name": port.name, "baud": port.baud, "emulated": port.emulated}
                    for name, port in zip(PORTS, ports, strict=True)
                    # What most rigs have not is not said, as it was not before there was any.
                    if port is not None or name != PORTS[FRONTEND]
                },
                **({} if unrecorded is None else {"unrecorded": unrecorded}),
            }
        )

    def checkpoint_due(self, now_ns: int) -> bool:
        """Tell whether one should be written at the next rest."""
        return now_ns - self._checked_ns >= CHECKPOINT_NS

    def checkpoint(
        self,
        now_ns: int,
        recorder: Recorder,
        engine_memory: dict[str, Any],
        tip: Tip | None,
        pace: Pace,
        nonces: list[list[Any]],
    ) -> None:
        """Write one; everything is at rest. ``nonces``: of remote commands, as they remember themselves."""
        self._checked_ns = now_ns
        writer = recorder.tape_writer
        if writer is None or not writer.can_checkpoint:
            return
        state = {
            "recorder": recorder.memory(),
            "engine": engine_memory,
            "tip": None if tip is None else tip_memory(tip),
            "pace": dataclasses.asdict(pace),
            "nonces": nonces,
        }
        writer.checkpoint(now_ns, state)


def tip_memory(tip: Tip) -> dict[str, Any]:
    """Return what a tip at rest knows, in plain values."""
    return {
        "surface_m": tip.surface_m,
        "lifted": tip.lifted,
        "position_m": tip.position_m,
        "status": None if tip.status is None else dataclasses.asdict(tip.status),
        **tip.memory(),
    }


def remember_tip(tip: Tip, memory: Mapping[str, Any]) -> None:
    """Take over what :func:`tip_memory` gave."""
    tip.surface_m = memory["surface_m"]
    tip.lifted = bool(memory["lifted"])
    tip.position_m = memory["position_m"]
    status = memory["status"]
    tip.status = None if status is None else StageStatus(**status)
    tip.remember(memory)
