"""Starting, restarting, latching: what a worker finds decides whether it may be used, and nothing energises.

Each check that protects the tip comes with a test that takes the check away and sees the harm.
"""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

import pytest

from edge.controller.mirror import CLEAN, DIRTY, TRIPPED, Latch, Mirror
from edge.errors import BusyError, WrongInstrumentError
from edge.guard.states import State
from edge.guard.verdicts import Verdict
from hil.rig import VirtualRig, config_for
from hil.twin.ohmic import OhmicLoad
from hil.virtual import VirtualClock, run_virtual
from hil.virtual_bench import MS, VirtualBench, on_bench


def test_another_serial_number_is_refused_and_never_energised(tmp_path: Path) -> None:
    async def main(clock: VirtualClock) -> None:
        load = OhmicLoad(1e6, 1000.0)
        with pytest.raises(WrongInstrumentError, match=r"1304207.*9999999"):
            async with VirtualRig.running(clock, load, tmp_path, config=config_for(serial_number="9999999")):
                raise AssertionError("started on a stranger")
        assert load.truth.events("live") == []

    run_virtual(main)


def test_a_unit_exchanged_between_two_runs_is_refused_before_its_output_goes_on(tmp_path: Path) -> None:
    async def test(bench: VirtualBench) -> None:
        bench.replies.edit = lambda data: data.replace(b"1304207", b"7777777")
        bench.start()
        run = await bench.ended()
        assert run["status"] == "failed"
        assert "7777777" in str(run["reason"])
        assert bench.truth.events("live") == []
        assert bench.engine.state is State.SAFE

    on_bench(tmp_path, test)


@pytest.mark.parametrize("reply", [b"+1.050000E-04\r", b"+1.000000E-01\r", b"NORM\r"])
def test_a_limit_that_reads_back_wrong_is_never_energised(tmp_path: Path, reply: bytes) -> None:
    async def test(bench: VirtualBench) -> None:
        # The protection of a low-bias search is 100 uA, and its query is the first of the read-backs.
        bench.replies.edit = lambda data: reply if data == b"+1.000000E-04\r" else data
        bench.start()
        run = await bench.ended()
        assert run["status"] == "failed"
        assert "SENS:CURR:PROT reads back" in str(run["reason"])
        assert bench.truth.events("live") == []
        assert not bench.rig.device.output_on

    on_bench(tmp_path, test)


def test_an_output_left_on_is_cut_at_start_and_latches(tmp_path: Path) -> None:
    async def main(clock: VirtualClock) -> None:
        load = OhmicLoad(1e6, 1000.0)
        rig = VirtualRig(clock, load, tmp_path)
        rig.device.receive(clock.now_ns(), b":SOUR:VOLT -0.5\n:OUTP ON\n")
        rig.line.poke()
        await clock.sleep_until(clock.now_ns() + 50 * MS)
        assert abs(load.v_tip) > 0.4
        control = asyncio.get_running_loop().create_task(rig.worker.control())
        await rig.worker.start()
        assert rig.worker.engine.state is State.TRIPPED
        assert rig.worker.engine.report.trip_verdict is Verdict.RESTART
        assert abs(load.v_tip) < 1e-3
        control.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await control

    run_virtual(main)


@pytest.mark.parametrize(
    ("latch", "state"),
    [
        (Latch(CLEAN), State.SAFE),
        (Latch(DIRTY), State.TRIPPED),
        (Latch(TRIPPED, "STALE"), State.TRIPPED),
        (None, State.SAFE),
    ],
)
def test_the_mirror_decides_how_a_worker_starts(tmp_path: Path, latch: Latch | None, state: State) -> None:
    if latch is not None:
        Mirror(tmp_path).write(latch)

    async def test(bench: VirtualBench) -> None:
        assert bench.engine.state is state
        if state is State.TRIPPED:
            with pytest.raises(BusyError, match="rearm"):
                bench.start()
            bench.engine.rearm(by="test")
            bench.start()
            assert (await bench.ended())["status"] == "completed"

    on_bench(tmp_path, test)


def test_a_missing_mirror_on_real_hardware_starts_tripped(tmp_path: Path) -> None:
    async def main(clock: VirtualClock) -> None:
        rig = VirtualRig(clock, OhmicLoad(1e6, 1000.0), tmp_path)
        await rig.worker.engine.start(must_have_mirror=True)
        assert rig.worker.engine.state is State.TRIPPED
        assert rig.worker.engine.report.trip_verdict is Verdict.RESTART

    run_virtual(main)


def test_starting_a_hundred_times_never_energises(tmp_path: Path) -> None:
    async def test(bench: VirtualBench) -> None:
        assert bench.truth.events("live") == []

    for _ in range(100):
        on_bench(tmp_path, test)
        (tmp_path / "ring").unlink()
