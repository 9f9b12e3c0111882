"""Which switch moves when: armed and seen closed before the output goes on, opened behind the output verified off.

Each check comes with a test that takes it away and sees the harm.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest

from edge.controller.cutting import Cutter
from edge.controller.front_end import FrontEnd
from edge.errors import BusyError, InterlockError
from edge.experiments.iv import IvPlan
from edge.guard.states import State
from edge.guard.verdicts import Verdict
from firmware_proto.frontend import messages
from firmware_proto.frontend.messages import State as DeviceState
from firmware_proto.frontend.wire import cobs_decode
from hil.virtual_bench import MS
from tests.edge.controller.frontend.series_bench import QUIET, SeriesBench, in_series, needs_cc, site

pytestmark = needs_cc
SLOW = 10_000
SWEEP = IvPlan(to_v=-0.3, step_v=0.05, dwell_s=0.02, back_scan=False)
ON = b":OUTP ON"


def deaf_to(bench: SeriesBench, kind: type[messages.Arm | messages.Open]) -> None:
    """Let the device never hear one kind of message."""
    receive = bench.core.receive
    held = b""

    def listen(data: bytes) -> None:
        nonlocal held
        *frames, held = (held + data).split(b"\0")
        kept = [piece for piece in frames if piece and (cobs_decode(piece) or b"\0")[0] != kind.ID]
        receive(b"".join(b"\0" + piece + b"\0" for piece in kept))

    bench.core.receive = listen  # type: ignore[method-assign] # what the wire lost


# ------------------------------------------------------------------------------------------------- before an output-on


def test_the_output_goes_on_behind_a_switch_that_was_read_back_closed(tmp_path: Path) -> None:
    async def test(bench: SeriesBench) -> None:
        at_on: list[tuple[bool, DeviceState]] = []
        receive = bench.rig.device.receive

        def listen(t_ns: int, data: bytes) -> None:
            if ON in data:
                at_on.append((bench.core.sense, bench.core.state))
            receive(t_ns, data)

        bench.rig.device.receive = listen  # type: ignore[method-assign] # a look at the moment
        bench.start(SWEEP)
        run = await bench.ended()
        assert run["status"] == "completed", run["reason"]
        assert at_on == [(True, DeviceState.ARMED)]

    in_series(tmp_path, test, sample_hz=SLOW)


def test_a_device_that_does_not_arm_keeps_the_output_off(tmp_path: Path) -> None:
    async def test(bench: SeriesBench) -> None:
        deaf_to(bench, messages.Arm)
        bench.start(SWEEP)
        run = await bench.ended()
        assert run["status"] == "failed"
        assert "did not close its switch" in run["reason"]
        assert ON not in bench.heard
        assert bench.engine.state is State.SAFE

    in_series(tmp_path, test, sample_hz=SLOW)


def test_without_the_arm_read_back_a_bias_stands_that_nothing_but_the_host_guards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def believe(self: FrontEnd) -> None:
        self._wanted = True

    monkeypatch.setattr(FrontEnd, "arm", believe)

    async def test(bench: SeriesBench) -> None:
        # A switch that was bridged by hand: the path is closed, and the device judges nothing.
        bench.unit.stick_switch(bench.clock.now_ns(), stuck=True)
        monkeypatch.setattr(FrontEnd, "_finish_trip", lambda _self, _unit: bench.clock.sleep_until(0))
        monkeypatch.setattr("edge.instruments.frontend.Frontend.open", lambda _self: bench.clock.sleep_until(0))
        monkeypatch.setattr(
            "edge.instruments.frontend.Frontend.configure", lambda _self, **_: bench.clock.sleep_until(0)
        )
        bench.start(SWEEP)
        await bench.until_live(0.05)
        assert ON in bench.heard
        assert bench.core.state is not DeviceState.ARMED, "live, and no lease, no detector"

    in_series(tmp_path, test, sample_hz=SLOW)


def test_nothing_is_armed_whose_limits_were_not_read_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    true: Callable[..., messages.ConfigIs] = messages.ConfigIs.unpack.__func__  # type: ignore[attr-defined] # a classmethod

    def other(cls: type[messages.ConfigIs], payload: bytes) -> messages.ConfigIs:
        said = true(cls, payload)
        return dataclasses.replace(said, hard_code=said.hard_code + 1)

    monkeypatch.setattr(messages.ConfigIs, "unpack", classmethod(other))

    async def test(bench: SeriesBench) -> None:
        bench.start(SWEEP)
        run = await bench.ended()
        assert run["status"] == "failed"
        assert "hard_code" in run["reason"]
        assert ON not in bench.heard
        assert bench.core.state is DeviceState.SAFE

    in_series(tmp_path, test, sample_hz=SLOW)


def test_a_stop_while_the_switch_closes_stops(tmp_path: Path) -> None:
    async def test(bench: SeriesBench) -> None:
        bench.start(SWEEP)
        await bench.until(lambda: bench.front._wanted)
        bench.rig.worker.runner.stop(by="ana")
        run = await bench.ended()
        assert run["status"] == "stopped", run["reason"]
        assert ON not in bench.heard
        await bench.until(lambda: not bench.core.closed, 0.5)

    in_series(tmp_path, test, sample_hz=SLOW)


def test_the_engine_arms_nothing_by_itself(tmp_path: Path) -> None:
    async def test(bench: SeriesBench) -> None:
        with pytest.raises(BusyError):
            await bench.engine.energise()
        with pytest.raises(InterlockError, match="not prepared"):
            await FrontEnd.arm(bench.front)

    in_series(tmp_path, test, sample_hz=SLOW)


# ------------------------------------------------------------------------------------------------------- the way down


async def path_in_a_cut(bench: SeriesBench) -> list[bool]:
    """Run a search that the instrument's own reading ends; return whether the path was closed, ms by ms of the cut."""
    closed: list[bool] = []

    def look() -> bool:
        if bench.engine.state is State.CUTTING:
            closed.append(bench.core.sense)
        return not bench.rig.worker.runner.busy

    bench.start(IvPlan(to_v=-0.6, back_scan=False))
    await bench.until(look)
    assert bench.cut()["verdict"] == "CONDUCTANCE"
    return closed


def test_the_switch_opens_behind_the_verified_cut_and_not_before(tmp_path: Path) -> None:
    async def test(bench: SeriesBench) -> None:
        closed = await path_in_a_cut(bench)
        assert len(closed) > 20
        assert all(closed), "its readings at 0 V, and its proof, were taken through a closed path"
        await bench.until(lambda: not bench.core.sense, 0.1)
        assert bench.opened_ns() >= bench.cut()["verified_ns"]
        assert bench.core.state is DeviceState.SAFE
        assert "frontend" not in bench.cut()

    in_series(tmp_path, test, load=site, frontend=QUIET, sample_hz=SLOW)


def test_a_switch_opened_with_the_cut_leaves_it_readings_of_an_open_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    planned = Cutter.planned

    def hasty(self: Cutter, verdict: Verdict, reading_ns: int, **times: int) -> None:
        planned(self, verdict, reading_ns, **times)
        self._front.after_cut()

    monkeypatch.setattr(Cutter, "planned", hasty)

    async def test(bench: SeriesBench) -> None:
        closed = await path_in_a_cut(bench)
        assert not any(closed[5:]), "whatever flows at 0 V, the instrument cannot see it"

    in_series(tmp_path, test, load=site, frontend=QUIET, sample_hz=SLOW)


def test_an_open_that_is_lost_leaves_the_lease_to_run_out(tmp_path: Path) -> None:
    async def test(bench: SeriesBench) -> None:
        deaf_to(bench, messages.Open)
        bench.start(SWEEP)
        run = await bench.ended()
        assert run["status"] == "completed", run["reason"]
        await bench.until(lambda: not bench.core.sense, 0.2)
        # A trip with the output verified off is nothing to cut for, and its black box is kept all the same.
        assert bench.engine.state is State.SAFE
        bench.start(SWEEP)
        run = await bench.ended()
        assert run["status"] == "completed", run["reason"]
        assert bench.documents("black_box")[0]["frontend"]["reason"] == "LEASE"

    in_series(tmp_path, test, sample_hz=SLOW)


def test_what_a_life_before_left_in_the_device_is_fetched_at_the_start(tmp_path: Path) -> None:
    async def test(bench: SeriesBench) -> None:
        bench.start(SWEEP)
        await bench.until_live(0.05)
        # A worker that dies: nothing of it is heard any more, and the next one finds a device that has tripped.
        bench.front._unit.trip()
        await bench.ended()
        bench.front.close()
        bench.front._told = None
        bench.front._cut_ns = None
        bench.front._box = None
        await bench.front.look()
        *_, late = bench.documents("black_box")
        assert late["cut_ns"] is None
        assert late["frontend"]["reason"] == "HOST"
        assert late["frontend"]["box"]["n"] > 0
        assert bench.core.state is DeviceState.SAFE
        await bench.clock.sleep_until(bench.clock.now_ns() + MS)

    in_series(tmp_path, test, sample_hz=SLOW)
