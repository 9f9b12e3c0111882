"""Rehearsing a cut: the real code runs, none of the real objects is touched."""

from __future__ import annotations

import copy
import os
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from edge.clock import Clock
from edge.controller import realtime
from edge.controller import rehearsal as module
from edge.controller.enable_line import Unwired
from edge.controller.rehearsal import Rehearsal
from edge.guard.states import Cause, State
from edge.guard.verdicts import Verdict
from edge.samples import Flag, Phase, Sample
from firmware_proto.keithley2400 import commands
from hil.rig import VirtualRig
from hil.twin.ohmic import OhmicLoad
from hil.virtual import VirtualClock, run_virtual


class Wall:
    """CLOCK_MONOTONIC, without a loop."""

    now_ns = staticmethod(time.monotonic_ns)

    def call_at(self, _t_ns: int, _callback: Callable[[], None]) -> Any:  # noqa: ANN401 - never called
        raise NotImplementedError

    async def sleep_until(self, t_ns: int) -> None:
        raise NotImplementedError


WALL: Clock = Wall()


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """What was written to nowhere."""
    written: list[bytes] = []

    def write(_self: object, data: bytes) -> int:
        written.append(data)
        return len(data)

    monkeypatch.setattr(module._Nowhere, "write", write)
    monkeypatch.setattr(module, "REST_NS", 0)
    return written


@asynccontextmanager
async def energised(clock: VirtualClock, directory: Path, phase: Phase) -> AsyncIterator[VirtualRig]:
    """A rig that awaits a reading under bias."""
    async with VirtualRig.running(clock, OhmicLoad(1e6, 1000.0), directory) as rig:
        engine = rig.worker.engine
        await engine.arm(phase, 0.1)
        await engine.energise()
        engine.smu.link.ask(b"?\n", lambda _line, _t_ns: None, clock.now_ns() + 1_000_000_000)
        yield rig
        engine.smu.link.forget()


def known(rig: VirtualRig) -> dict[str, Any]:
    """Everything a rehearsal could have touched."""
    worker, guard = rig.worker, rig.worker.guard
    detector = guard._detector
    assert detector is not None
    assert worker.flight is not None
    return {
        "state": guard.snapshot(),
        "detector": {name: getattr(detector, name) for name in type(detector).__slots__},
        "captured": len(guard._capture._before),
        "record": worker.engine._cutter._record,
        "report": copy.deepcopy(worker.engine.report),
        "smu": worker.engine.smu.memory(),
        "line of the driver": worker.engine.smu.link is worker.link,
        "ring": worker.recorder._ring.head,
        "samples": worker.recorder.samples,
        "tape": len(worker.flight.tape.entries),
        "page": (rig.page.energised, rig.page.query_outstanding, rig.page.epoch, rig.page.worker_pid),
        "mirror": rig.mirror.read(),
        "outstanding": worker.link.outstanding,
        "files": sorted(path.name for path in rig.directory.iterdir()),
    }


@pytest.mark.parametrize("phase", [Phase.SEEK, Phase.RESET, Phase.LRS_READ])
def test_the_cut_is_gone_through_and_nothing_real_is_touched(tmp_path: Path, said: list[bytes], phase: Phase) -> None:
    async def main(clock: VirtualClock) -> None:
        async with energised(clock, tmp_path, phase) as rig:
            rehearse = Rehearsal(rig.worker.engine, tmp_path, WALL)
            before = known(rig)
            for _ in range(50):
                rehearse()
            assert known(rig) == before
            cuts = [data for data in said if b":SOUR:VOLT 0\n" in data]
            assert len(cuts) == 50
            # In SEEK a planned one, elsewhere a protective one: what this phase would do.
            assert all((data == commands.ZERO) is (phase is Phase.SEEK) for data in cuts)

    run_virtual(main)


def test_it_leaves_actuators_alone(tmp_path: Path, said: list[bytes]) -> None:
    async def main(clock: VirtualClock) -> None:
        async with energised(clock, tmp_path, Phase.RESET) as rig:
            rehearse = Rehearsal(rig.worker.engine, tmp_path, WALL)
            rehearse()
            stage = rehearse._stage
            assert stage is not None
            assert type(stage._engine.enable) is Unwired
            assert stage._engine._cutter._actuators == ()
            assert said

    run_virtual(main)


def test_only_while_a_reading_is_awaited_under_bias(tmp_path: Path, said: list[bytes]) -> None:
    async def main(clock: VirtualClock) -> None:
        async with VirtualRig.running(clock, OhmicLoad(1e6, 1000.0), tmp_path) as rig:
            engine, link = rig.worker.engine, rig.worker.link
            rehearse = Rehearsal(engine, tmp_path, WALL)
            rehearse()
            await engine.arm(Phase.SEEK, 0.1)
            link.ask(b"?\n", lambda _line, _t_ns: None, 0)
            rehearse()
            assert engine.state is State.ARMED
            link.forget()
            engine.guard.machine.move(Cause.OUTPUT_ON_SENT)
            rehearse()
            assert said == []
            link.ask(b"?\n", lambda _line, _t_ns: None, clock.now_ns() + 1_000_000_000)
            rehearse()
            assert said != []
            link.forget()
            rig.page.energised = True
            engine._cutter.protective(Verdict.OPERATOR, clock.now_ns())
            count = len(said)
            rehearse()
            assert len(said) == count
            await engine.until_off()

    run_virtual(main)


def test_it_rests_in_between(tmp_path: Path, said: list[bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "REST_NS", 1 << 62)

    async def main(clock: VirtualClock) -> None:
        async with energised(clock, tmp_path, Phase.SEEK) as rig:
            rehearse = Rehearsal(rig.worker.engine, tmp_path, WALL)
            rehearse._done_ns = -(1 << 62)
            for _ in range(5):
                rehearse()
            assert said.count(commands.ZERO) == 1

    run_virtual(main)


def test_a_driver_that_reads_another_form_is_left_alone(tmp_path: Path, said: list[bytes]) -> None:
    # Its readings are not the rehearsal's line; nothing may be learnt from that, on either object.
    async def main(clock: VirtualClock) -> None:
        async with energised(clock, tmp_path, Phase.SEEK) as rig:
            smu = rig.worker.engine.smu

            def foreign(line: bytes, t_rx_ns: int, bias_v: float, phase: int) -> Sample:
                assert line
                return Sample(t_rx_ns, 0, t_rx_ns, bias_v, float("nan"), int(Flag.UNPARSABLE), phase)

            smu.sample = foreign  # type: ignore[method-assign] # a driver of another form
            memory = smu.memory()
            rehearse = Rehearsal(rig.worker.engine, tmp_path, WALL)
            for _ in range(5):
                rehearse()
            assert rehearse._stage is None
            assert said == []
            assert smu.memory() == memory

    run_virtual(main)


def test_where_the_hard_limit_is_beyond_the_range_there_is_nothing_to_rehearse(
    tmp_path: Path, said: list[bytes]
) -> None:
    async def main(clock: VirtualClock) -> None:
        async with energised(clock, tmp_path, Phase.HRS_READ) as rig:
            rehearse = Rehearsal(rig.worker.engine, tmp_path, WALL)
            rehearse()
            assert rehearse._stage is None
            assert said == []

    run_virtual(main)


def test_a_rehearsal_that_goes_wrong_is_given_up(tmp_path: Path, said: list[bytes]) -> None:
    async def main(clock: VirtualClock) -> None:
        async with energised(clock, tmp_path, Phase.SEEK) as rig:
            rehearse = Rehearsal(rig.worker.engine, tmp_path, WALL)
            rehearse()
            stage = rehearse._stage
            assert stage is not None
            stage._link.transport._inner.line = b"+0.000000E+00,+1.000000E-09,+2.048400E+04\r"  # type: ignore[attr-defined]
            before = known(rig)
            rehearse()
            assert rehearse._stage is None
            count = len(said)
            rehearse()
            assert len(said) == count
            assert known(rig) == before

    run_virtual(main)


def test_priority_is_told_from_none() -> None:
    if realtime.set_fifo(realtime.WORKER_PRIORITY) is not None:
        assert not realtime.has_fifo()
        pytest.skip("no real-time priority here")
    try:
        assert realtime.has_fifo()
    finally:
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
    assert not realtime.has_fifo()
