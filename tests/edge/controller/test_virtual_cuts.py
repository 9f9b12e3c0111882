"""Cuts and ceilings: planned, protective, escalated, refused; whatever the plan or the host does.

Each check that protects the tip comes with a test that takes the check away and sees the harm.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from edge.controller.host_watch import HostWatch
from edge.controller.mirror import DIRTY, Latch, Mirror
from edge.controller.page import Page
from edge.errors import BusyError, PlanRefusedError
from edge.experiments.iv import IvPlan
from edge.experiments.steps import Arm, Energise, Program, Ramp
from edge.guard.cut import Cut
from edge.guard.states import State
from edge.guard.verdicts import Verdict
from edge.samples import Phase
from firmware_proto.keithley2400.replies import Verification
from hil.rig import config_for
from hil.twin.site import SwitchingSite
from hil.virtual_bench import MS, VirtualBench, on_bench


def test_stop_cuts_latches_and_names_who(tmp_path: Path) -> None:
    async def test(bench: VirtualBench) -> None:
        bench.start()
        await bench.until_live()
        asked_ns = bench.clock.now_ns()
        assert bench.rig.worker.runner.stop(by="anna")
        run = await bench.ended()
        assert run["status"] == "tripped"
        assert "anna" in str(run["reason"])
        assert bench.engine.report.trip_verdict is Verdict.OPERATOR
        safe_s = bench.safe_after(asked_ns)
        assert safe_s is not None
        assert safe_s < 0.050
        with pytest.raises(BusyError):
            bench.start()

    on_bench(tmp_path, test)


def test_a_planned_cut_that_is_not_confirmed_becomes_a_protective_one(tmp_path: Path) -> None:
    async def test(bench: VirtualBench) -> None:
        bench.start(IvPlan(to_v=-0.6, back_scan=False))
        await bench.until(lambda: bench.engine.state is State.CUTTING, 60)
        assert not bench.engine.guard.machine.protective
        # Readings come, the first confirmations do not.
        bench.replies.lose_confirmations(3)
        run = await bench.ended()
        assert run["status"] == "tripped"
        event = bench.events()[-1]
        assert event["escalated"]
        assert not event["planned"]
        assert event["rounds"] >= 2
        assert bench.off

    on_bench(tmp_path, test, load=lambda truth: SwitchingSite("gb", series_ohm=1000.0, seed=4, truth=truth))


def test_believing_an_untagged_reply_would_call_a_live_tip_safe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The removal test of the tag: a stale "output off" from earlier, an instrument that hears nothing.
    def gullible(self: Cut, _line: bytes, now_ns: int) -> bool:
        self.verified_ns = now_ns
        return True

    async def test(bench: VirtualBench) -> None:
        bench.start()
        await bench.until_live()
        bench.rig.line.limit_next_writes(0)
        await bench.until(lambda: bench.engine.state is State.CUTTING)
        bench.replies.wire.send(bench.clock.now_ns(), b"+0.000000E+00;0;0\r")
        bench.rig.line.poke()
        await bench.clock.sleep_until(bench.clock.now_ns() + 100 * MS)
        live = abs(bench.load.v_tip) > 0.05
        assert live
        assert (bench.engine.state is State.TRIPPED) == (Cut.feed is gullible)

    on_bench(tmp_path, test)
    for name in ("ring", "state.json"):
        (tmp_path / name).unlink()
    monkeypatch.setattr(Cut, "feed", gullible)
    on_bench(tmp_path, test)


def test_a_stale_verification_is_counted_not_believed() -> None:
    cut = Cut((b":OUTP OFF\n",), wants_zero=True, abort=b"", query_outstanding=False, baud=0, first_tag=10)
    assert cut.next_round(0).endswith(b"*ESE 11;:SOUR:VOLT?;*ESE?;:OUTP?\n")
    assert not cut.feed(b"+0.000000E+00;10;0", 5)
    assert cut.stale_replies == 1
    assert cut.feed(b"+0.000000E+00;11;0", 6)
    assert Verification(11, False, 0.0).tag == 11


def test_a_plan_whose_code_breaks_leaves_nothing_energised(tmp_path: Path) -> None:
    class Broken(IvPlan):
        __slots__ = ()

        def program(self) -> Program:
            steps = IvPlan.program(self)
            for _ in range(3):
                yield next(steps)
            raise ZeroDivisionError

    async def test(bench: VirtualBench) -> None:
        bench.start(Broken(to_v=-0.2))
        run = await bench.ended()
        assert run["status"] == "failed"
        assert "ZeroDivisionError" in str(run["reason"])
        assert bench.off
        assert bench.engine.report.trip_verdict is Verdict.SHUTDOWN
        # The cut belongs to the run that caused it.
        assert f"{bench.events()[-1]['run']:016x}" == run["uid"]

    on_bench(tmp_path, test)


@pytest.mark.parametrize("level", [-0.9, float("nan"), float("inf")])
def test_a_level_that_was_not_declared_is_refused_at_the_step(tmp_path: Path, level: float) -> None:
    class Liar(IvPlan):
        __slots__ = ()

        def levels_v(self) -> tuple[float, ...]:
            return (0.0, level, 0.0)

    async def test(bench: VirtualBench) -> None:
        bench.start(Liar(to_v=-0.2))
        run = await bench.ended()
        assert run["status"] == "failed"
        assert "armed for 0.2 V" in str(run["reason"])
        await bench.engine.until_off()
        assert bench.off
        assert bench.truth.events("live") == []

    on_bench(tmp_path, test)


@pytest.mark.parametrize(("ceiling_v", "asked_v"), [(1.0, 2.0), (0.05, 0.1)])
def test_the_ceiling_is_held_by_the_engine_whatever_a_plan_says_of_itself(
    tmp_path: Path, ceiling_v: float, asked_v: float
) -> None:
    class Liar(IvPlan):
        __slots__ = ()

        @property
        def v_max_v(self) -> float:
            return 0.02

        def program(self) -> Program:
            yield Arm(Phase.SEEK, asked_v)
            yield Energise()
            yield Ramp((0.0, -asked_v, 0.0), 0.02)
            return {}

    async def test(bench: VirtualBench) -> None:
        with pytest.raises(PlanRefusedError, match="voltage_v"):
            await bench.engine.arm(Phase.SEEK, asked_v)
        bench.start(Liar(to_v=-0.02))
        assert (await bench.ended())["status"] == "failed"
        assert bench.truth.events("live") == []
        assert bench.off

    on_bench(tmp_path, test, config=config_for(limits={"voltage_v": ceiling_v}))


def test_a_limit_below_the_range_is_a_refusal_with_the_key(tmp_path: Path) -> None:
    async def test(bench: VirtualBench) -> None:
        bench.start()
        run = await bench.ended()
        assert run["status"] == "failed"
        assert "limits.current_a" in str(run["reason"])
        assert bench.truth.events("live") == []

    on_bench(tmp_path, test, config=config_for(series_ohm=1e9, limits={"current_a": 5e-8}))


def test_a_ramp_beyond_what_was_armed_is_refused(tmp_path: Path) -> None:
    class Mixed(IvPlan):
        __slots__ = ()

        def program(self) -> Program:
            # Armed as a read at 20 mV, used as a sweep: tests and ranges of another bias.
            yield Arm(Phase.LRS_READ, 0.02)
            yield Energise()
            yield Ramp((0.0, -0.5, 0.0), 0.02)
            return {}

    async def test(bench: VirtualBench) -> None:
        bench.start(Mixed(to_v=-0.5))
        assert (await bench.ended())["status"] == "failed"
        assert bench.truth.events("live") == []

    on_bench(tmp_path, test)


def test_a_mirror_that_cannot_be_written_loses_no_event_and_no_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test(bench: VirtualBench) -> None:
        bench.start()
        await bench.until_live()

        def full(_self: Mirror, _latch: Latch) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(Mirror, "write", full)
        bench.rig.worker.runner.stop(by="test")
        assert (await bench.ended())["status"] == "tripped"
        assert bench.events()[-1]["verdict"] == "OPERATOR"
        assert "MIRROR" in bench.engine.report.alarms
        assert bench.off
        latch = bench.rig.mirror.read()
        assert latch is not None
        assert latch.state == DIRTY, "the side on which the next start is latched"

    on_bench(tmp_path, test)


class FakeHost(HostWatch):
    def __init__(self) -> None:
        self.says: str | None = None

    def fault(self, now_ns: int) -> str | None:
        return self.says


def test_a_keeper_that_hangs_forbids_energising_and_cuts(tmp_path: Path) -> None:
    async def test(bench: VirtualBench) -> None:
        host = FakeHost()
        bench.engine._host = host
        host.says = "the keeper has not stirred"
        bench.start()
        run = await bench.ended()
        assert run["status"] == "failed"
        assert "keeper" in str(run["reason"])
        assert bench.truth.events("live") == []
        host.says = None
        bench.start()
        await bench.until_live()
        host.says = "the keeper has not stirred"
        assert (await bench.ended())["status"] == "tripped"
        assert bench.engine.report.trip_verdict is Verdict.SHUTDOWN
        assert "keeper" in str(bench.engine.report.alarm)
        assert bench.off

    on_bench(tmp_path, test)


def test_the_host_watch_sees_a_silent_keeper_and_a_sleep(tmp_path: Path) -> None:
    page = Page(tmp_path / "page", create=True)
    slept = [0]
    watch = HostWatch(page, lambda: slept[0])
    page.keeper_stamp(1_000 * MS, 1)
    assert watch.fault(1_100 * MS) is None
    assert "keeper" in str(watch.fault(1_600 * MS))
    page.keeper_stamp(1_700 * MS, 1)
    slept[0] = 3_600_000 * MS
    assert "slept for 3600" in str(watch.fault(1_710 * MS))
    assert watch.fault(1_720 * MS) is None
    page.close()


def test_a_level_that_stands_unread_is_cut(tmp_path: Path) -> None:
    async def test(bench: VirtualBench) -> None:
        bench.start()
        await bench.until_live()
        # The question that should follow is lost, as by a timer that never fires.
        bench.engine._go_on = lambda: None  # type: ignore[method-assign]
        assert (await bench.ended())["status"] == "tripped"
        assert bench.engine.report.trip_verdict is Verdict.STALE
        assert bench.off

    on_bench(tmp_path, test)
