"""Killed or cut at every byte offset of every command that the driver can have in flight.

A first run records what the driver writes. Then, for one message of every shape and for every number of its bytes,
the same run is repeated with the line broken there, and either the process is killed (the keeper's cut follows on
the same line) or it lives on (its own read deadline cuts). The level never exceeds what the plan asked; the cut still
works. The twin's record is the judge.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
import re
from pathlib import Path

import pytest

from edge.errors import TipguardError
from edge.experiments.iv import IvPlan
from edge.guard.cut import Cut, CutForm
from edge.guard.states import State
from firmware_proto.scpi import LineSplitter, Overlong
from hil.rig import VirtualRig
from hil.twin.ohmic import OhmicLoad
from hil.twin.truth import TruthRecord
from hil.virtual import VirtualClock, run_virtual

LONG = os.environ.get("TIPGUARD_LONG") == "1"
SERIES_OHM = 10_000.0
PLAN = IvPlan(to_v=-10.0, step_v=0.5, dwell_s=0.001, back_scan=False)
# The same tests in both suites; every offset of the set-up in the long one.
pytestmark = [pytest.mark.timeout(600), *([pytest.mark.long] if LONG else [])]


@dataclasses.dataclass(frozen=True)
class Broken:
    """What came of one broken message."""

    peak_v: float
    verified: bool
    output_on: bool
    v_tip: float
    state: State


def load_and_truth() -> tuple[OhmicLoad, TruthRecord]:
    truth = TruthRecord()
    # 10 Mohm: no test of the detector minds it, so that whatever cuts is the broken line.
    return OhmicLoad(1e7, SERIES_OHM, truth=truth), truth


def written(directory: Path) -> list[bytes]:
    """Return every write of an undisturbed run, in order."""
    log: list[bytes] = []

    async def main(clock: VirtualClock) -> None:
        load, _ = load_and_truth()
        rig = VirtualRig(clock, load, directory)

        def note(_n: int, data: bytes) -> bytes:
            log.append(data)
            return data

        rig.line.tamper(note)
        control = asyncio.get_running_loop().create_task(rig.worker.control())
        await rig.worker.start()
        run = await rig.run(PLAN)
        assert run["status"] == "completed", run["reason"]
        control.cancel()

    run_virtual(main)
    return log


def shapes(log: list[bytes]) -> dict[bytes, int]:
    """Return the index of the last write of every shape; levels of different lengths are different shapes."""
    return {re.sub(rb"[0-9]", b"#", data): index for index, data in enumerate(log)}


async def keeper_cut(rig: VirtualRig, clock: VirtualClock, *, query_outstanding: bool) -> bool:
    """Cut as the keeper does, on the line the worker left; return whether it was verified in three rounds."""
    cut = Cut(
        CutForm.TIP.lines,
        wants_zero=True,
        abort=b"\x03",
        query_outstanding=query_outstanding,
        baud=57600,
        first_tag=77,
    )
    splitter = LineSplitter()
    transport = rig.line.transport
    while not cut.verified and cut.rounds < 3:
        transport.write(cut.next_round(clock.now_ns()))
        while cut.verified_ns is None and clock.now_ns() < cut.due_ns:
            await clock.sleep_until(min(cut.due_ns, clock.now_ns() + 1_000_000))
            for line in splitter.feed(transport.read()):
                if not isinstance(line, Overlong):
                    cut.feed(line, clock.now_ns())
    return cut.verified


def break_at(directory: Path, index: int, offset: int, *, killed: bool, abort: bool = True) -> Broken:
    """Repeat the run with only ``offset`` bytes of write ``index`` reaching the instrument.

    Without ``abort`` the keeper's cut begins with its newline, which completes whatever half message is there: the
    worst case, a unit whose abort leaves its input alone.
    """
    directory.mkdir(exist_ok=True)
    for name in ("ring", "state.json"):
        (directory / name).unlink(missing_ok=True)
    load, truth = load_and_truth()

    async def main(clock: VirtualClock) -> Broken:
        rig = VirtualRig(clock, load, directory)
        broke: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def hook(n: int, data: bytes) -> bytes:
            if n != index:
                # A killed process writes nothing more; one that lives goes on.
                return b"" if killed and n > index else data
            if not broke.done():
                broke.set_result(None)
            return data[:offset]

        rig.line.tamper(hook)
        loop = asyncio.get_running_loop()
        control = loop.create_task(rig.worker.control())

        async def work() -> None:
            await rig.worker.start()
            await rig.run(PLAN)

        task = loop.create_task(work())
        verified = True
        if killed:
            await broke
            # Death comes while the bytes are on the wire; the keeper sees it within 10 ms.
            control.cancel()
            task.cancel()
            rig.line.transport.on_readable(None)
            outstanding = rig.page.query_outstanding and abort
            await clock.sleep_until(clock.now_ns() + 10_000_000)
            rig.line.tamper(None)
            verified = await keeper_cut(rig, clock, query_outstanding=outstanding)
        else:
            with contextlib.suppress(TipguardError):
                await task
            await rig.worker.engine.until_off()
            control.cancel()
        for unfinished in (control, task):
            with contextlib.suppress(asyncio.CancelledError, TipguardError):
                await unfinished
        rig.device.advance(clock.now_ns())
        load.close(clock.now_ns())
        rig.page.close()
        summary = truth.events("summary")[-1]
        return Broken(
            float(summary["peak_v"]),  # type: ignore[arg-type]
            verified,
            rig.device.output_on,
            load.v_tip,
            rig.worker.engine.state,
        )

    return run_virtual(main)


def cases(log: list[bytes]) -> list[tuple[int, int, bytes]]:
    found = [
        (index, offset, log[index]) for index in sorted(shapes(log).values()) for offset in range(len(log[index]) + 1)
    ]
    # In the quick suite every second offset of what can be in flight while energised, every sixth of the set-up (not
    # the same ones of each message), and the whole of each.
    energised = (b":SOUR:VOLT ", b":READ?", b":OUTP ON", b":SENS:CURR:", b":OUTP:SMOD?", b"\n")
    return [
        (index, offset, message)
        for index, offset, message in found
        if LONG or offset == len(message) or (index + offset) % (2 if message.startswith(energised) else 6) == 0
    ]


@pytest.mark.parametrize(
    ("killed", "abort"), [(True, True), (True, False), (False, True)], ids=["killed", "killed-no-abort", "alive"]
)
def test_level_never_exceeds_the_plan_and_the_cut_works(tmp_path: Path, killed: bool, abort: bool) -> None:
    log = written(tmp_path)
    assert len(shapes(log)) > 30
    tried = 0
    for index, offset, message in cases(log):
        got = break_at(tmp_path / "broken", index, offset, killed=killed, abort=abort)
        told = (message, offset, got)
        # Never above what was asked up to and including this message, whatever prefix of it arrived.
        asked = [float(m) for data in log[: index + 1] for m in re.findall(rb":SOUR:VOLT (-?[0-9.]+)", data)]
        assert got.peak_v <= max((abs(v) for v in asked), default=0.0) + 1e-9 or not killed, told
        assert got.peak_v <= PLAN.v_max_v + 1e-9, told
        assert got.verified, told
        assert not got.output_on, told
        assert abs(got.v_tip) < 1e-3, told
        if not killed:
            assert got.state in (State.SAFE, State.TRIPPED, State.UNKNOWN), told
        tried += 1
    print(f"\n{tried} broken messages of {len(shapes(log))} shapes")


def test_with_exponents_a_broken_level_would_exceed_the_plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The removal test: the same run with levels written as %.4E, as many scripts do.
    from firmware_proto.keithley2400 import commands

    monkeypatch.setattr(commands, "level", lambda v: f"{v:.4E}")
    plan = IvPlan(to_v=-0.5, step_v=0.1, dwell_s=0.001, back_scan=False)
    monkeypatch.setattr("test_every_byte_offset.PLAN", plan)
    log = written(tmp_path)
    index = max(n for n, data in enumerate(log) if b"1.0000E-01" in data)
    cut_before_the_exponent = log[index].index(b"E-01")
    got = break_at(tmp_path / "broken", index, cut_before_the_exponent, killed=True, abort=False)
    assert got.peak_v > plan.v_max_v, got
