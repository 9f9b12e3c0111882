"""A planned cut held at 0 V: the output stays on where a reading says 0 V and no current, and only there."""

from __future__ import annotations

import collections
from pathlib import Path
from typing import Any

import pytest

from edge.controller.cutting import CUT_READINGS, Cutter
from edge.errors import PlanRefusedError
from edge.experiments.iv import IvPlan
from edge.guard.states import State
from hil.rig import config_for
from hil.twin.site import SwitchingSite
from hil.twin.truth import TruthRecord
from hil.virtual_bench import VirtualBench, on_bench

HELD: dict[str, Any] = {"on_trigger": "continue", "back_scan": False, "after_cut": "hold_0v"}
PLAN = IvPlan(to_v=-0.6, cycles=3, **HELD)


def site(truth: TruthRecord) -> SwitchingSite:
    return SwitchingSite("gb", series_ohm=1000.0, seed=4, truth=truth)


class Heard:
    """The lines that the instrument was sent."""

    def __init__(self, bench: VirtualBench, monkeypatch: pytest.MonkeyPatch) -> None:
        device = bench.rig.device
        receive = device.receive
        self.bytes = b""

        def listen(t_ns: int, data: bytes) -> None:
            self.bytes += data
            receive(t_ns, data)

        monkeypatch.setattr(device, "receive", listen)

    def count(self, line: bytes) -> int:
        return collections.Counter(self.bytes.split(b"\n"))[line]


def test_the_output_stays_on_between_triggers_and_goes_off_at_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test(bench: VirtualBench) -> None:
        heard = Heard(bench, monkeypatch)
        bench.start(PLAN)
        run = await bench.ended()
        assert run["status"] == "completed", run["reason"]
        assert run["results"]["triggers_found"] == 3
        assert heard.bytes.count(b":OUTP ON") == 1
        cuts = [event for event in bench.events() if event["kind"] == "cut"]
        assert [cut["held"] for cut in cuts] == [True] * 3
        assert all(cut["verified"] and cut["planned"] and cut["rounds"] == 0 for cut in cuts)
        # Each is an event of its own, with what was before it and nothing of the one before.
        assert all(cut["setting"] is not None for cut in cuts)
        assert bench.off
        assert bench.engine.state is State.SAFE

    on_bench(tmp_path, test, load=site)


def test_without_it_every_trigger_switches_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(bench: VirtualBench) -> None:
        heard = Heard(bench, monkeypatch)
        bench.start(IvPlan(to_v=-0.6, cycles=3, on_trigger="continue", back_scan=False))
        await bench.ended()
        assert heard.bytes.count(b":OUTP ON") == 3
        assert all("held" not in event for event in bench.events())

    on_bench(tmp_path, test, load=site)


def test_a_current_that_does_not_fall_is_switched_off(tmp_path: Path) -> None:
    # Readings at 0 V that show a current far above the floor: the wire adds what a stuck charge would.
    def loaded(data: bytes) -> bytes:
        level, _, rest = data.partition(b",")
        if data.count(b",") == 2 and float(level) == 0.0:
            return level + b",-4.000000E-05," + rest.split(b",")[1]
        return data

    async def test(bench: VirtualBench) -> None:
        bench.start(PLAN)
        await bench.until(lambda: bench.engine.state is State.CUTTING, 60)
        bench.replies.edit = loaded
        await bench.until(lambda: bench.engine.state is not State.CUTTING)
        bench.replies.edit = lambda data: data
        cut = next(event for event in bench.events() if event["kind"] == "cut")
        assert "held" not in cut
        assert cut["rounds"] >= 1
        assert bench.engine.report.planned_cuts + bench.engine.report.protective_cuts >= 1
        await bench.ended()
        assert bench.off

    assert CUT_READINGS == 3
    on_bench(tmp_path, test, load=site)


def test_held_without_looking_a_filament_would_stand_under_current(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The removal test: taken on the first reading, whatever it says, a cut that the instrument never heard is "held".
    reading = Cutter._on_reading

    def careless(self: Cutter, line: bytes, t_ns: int) -> None:
        if self.hold:
            self._held(t_ns)
        else:
            reading(self, line, t_ns)

    def lose_zero(bench: VirtualBench) -> None:
        device = bench.rig.device
        receive = device.receive
        held = b""

        def deaf(t_ns: int, data: bytes) -> None:
            # The first one only; the rounds of the protective cut that follows are heard.
            nonlocal held
            held += data
            if not held.endswith(b"\n"):
                return
            if b":SOUR:VOLT 0\n" in held:
                monkeypatch.setattr(device, "receive", receive)
            receive(t_ns, held.replace(b":SOUR:VOLT 0\n", b"\n"))
            held = b""

        monkeypatch.setattr(device, "receive", deaf)

    async def held_under_bias(bench: VirtualBench) -> bool:
        bench.start(PLAN)
        await bench.until(lambda: bench.engine.state is State.CUTTING, 60)
        # Its line is still on the wire.
        lose_zero(bench)
        await bench.until(lambda: bench.engine.state is not State.CUTTING)
        live = bench.engine.state is State.ENERGISED and abs(bench.load.v_tip) > 1e-3
        monkeypatch.undo()
        bench.rig.worker.runner.stop(by="test")
        await bench.ended()
        return live

    async def with_the_check(bench: VirtualBench) -> None:
        assert not await held_under_bias(bench)

    async def without(bench: VirtualBench) -> None:
        monkeypatch.setattr(Cutter, "_on_reading", careless)
        assert await held_under_bias(bench)

    for name, test in (("with", with_the_check), ("without", without)):
        (tmp_path / name).mkdir()
        on_bench(tmp_path / name, test, load=site)


def test_a_stop_during_such_a_cut_is_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(bench: VirtualBench) -> None:
        heard = Heard(bench, monkeypatch)
        bench.start(PLAN)
        await bench.until(lambda: bench.engine.state is State.CUTTING, 60)
        levels = heard.bytes.count(b":SOUR:VOLT -")
        bench.rig.worker.runner.stop(by="anna")
        run = await bench.ended()
        assert run["status"] in ("stopped", "tripped")
        assert heard.bytes.count(b":SOUR:VOLT -") == levels
        assert bench.off

    on_bench(tmp_path, test, load=site)


def test_re_arms_are_counted_and_bounded(tmp_path: Path) -> None:
    async def test(bench: VirtualBench) -> None:
        bench.start(IvPlan(to_v=-0.6, cycles=10, **HELD))
        run = await bench.ended()
        assert run["status"] == "failed"
        assert "rearms_per_run" in run["reason"]
        assert bench.off

    on_bench(tmp_path, test, load=site, config=config_for(limits={"rearms_per_run": 1}))


@pytest.mark.parametrize("change", [{"on_trigger": "stop"}, {"back_scan": True}, {"after_cut": "hold"}])
def test_what_does_not_go_with_it_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(PlanRefusedError, match="after_cut"):
        IvPlan(to_v=-0.6, **{**HELD, **change})
