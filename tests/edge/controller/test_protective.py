"""Everything that cuts, latches, refuses or escalates, on the emulated 2400 in virtual time.

Each check that protects the tip comes with a test that takes the check away and sees the harm.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgpack
import pytest

from edge.config import Config
from edge.controller import engine as engine_module
from edge.controller.host_watch import HostWatch
from edge.controller.mirror import CLEAN, DIRTY, TRIPPED, Latch, Mirror
from edge.controller.page import Page
from edge.errors import BusyError, PlanRefusedError, WrongInstrumentError
from edge.experiments.iv import IvPlan
from edge.experiments.steps import Arm, Energise, Program, Ramp
from edge.guard.cut import Cut
from edge.guard.states import State
from edge.guard.verdicts import Verdict
from edge.ring import Kind
from edge.samples import Phase
from firmware_proto.keithley2400.replies import Verification
from hil.protocols import Wire
from hil.rig import VirtualRig, config_for
from hil.twin.ohmic import OhmicLoad
from hil.twin.site import SwitchingSite
from hil.twin.terminals import SourcedLoad
from hil.twin.truth import TruthRecord
from hil.virtual import VirtualClock, run_virtual

SLOW = IvPlan(to_v=-0.5, step_v=0.01, dwell_s=0.02, back_scan=False)
"""50 levels, then back: about two seconds."""
MS = 1_000_000


class EditedWire:
    """Stands between the instrument and its line and edits, drops or adds replies."""

    def __init__(self, wire: Wire) -> None:
        self.wire = wire
        self.edit: Callable[[bytes], bytes] = lambda data: data

    def send(self, t_ns: int, data: bytes) -> None:
        edited = self.edit(data)
        if edited:
            self.wire.send(t_ns, edited)

    def discard(self, t_ns: int) -> None:
        self.wire.discard(t_ns)


class Bench:
    """A rig under way, with its load and truth, and its reply line in our hands."""

    def __init__(self, rig: VirtualRig, clock: VirtualClock, load: SourcedLoad, truth: TruthRecord) -> None:
        self.rig = rig
        self.clock = clock
        self.load = load
        self.truth = truth
        self.engine = rig.worker.engine
        wire = rig.device._wire
        assert wire is not None
        self.replies = EditedWire(wire)
        rig.device.attach(self.replies)

    def start(self, plan: IvPlan = SLOW) -> None:
        self.rig.worker.runner.start(plan, by="test")

    async def until(self, condition: Callable[[], bool], timeout_s: float = 30.0) -> None:
        end = self.clock.now_ns() + int(timeout_s * 1e9)
        while not condition():
            assert self.clock.now_ns() < end, f"waited {timeout_s} s; state {self.engine.state}"
            await self.clock.sleep_until(self.clock.now_ns() + MS)

    async def until_live(self, least_v: float = 0.1) -> None:
        await self.until(lambda: abs(self.load.v_tip) >= least_v)

    async def ended(self) -> dict[str, Any]:
        await self.rig.worker.runner.wait()
        run = self.rig.worker.runner.run
        assert run is not None
        return run

    def at_the_panel(self, message: bytes) -> None:
        """Do to the instrument what a person at its panel would."""
        self.rig.device.receive(self.clock.now_ns(), message + b"\n")
        self.rig.line.poke()

    def events(self) -> list[dict[str, Any]]:
        return [msgpack.unpackb(r.payload) for r in self.rig.records() if r.kind == Kind.EVENT]

    def safe_after(self, t_ns: int) -> float | None:
        """Return s from ``t_ns`` to the twin's first safe after it, if it stayed so."""
        after = [e for e in self.truth.entries if e["event"] in ("safe", "live") and int(e["t_ns"] or 0) >= t_ns]
        if not after or after[-1]["event"] != "safe":
            return None
        return (int(after[-1]["t_ns"] or 0) - t_ns) / 1e9


def on_bench(
    directory: Path,
    test: Callable[[Bench], Awaitable[None]],
    *,
    load: Callable[[TruthRecord], SourcedLoad] = lambda truth: OhmicLoad(1e6, 1000.0, truth=truth),
    **options: Any,  # noqa: ANN401 - VirtualRig's own
) -> None:
    async def main(clock: VirtualClock) -> None:
        truth = TruthRecord()
        sample = load(truth)
        async with VirtualRig.running(clock, sample, directory, **options) as rig:
            await test(Bench(rig, clock, sample, truth))

    run_virtual(main)


def assert_off(bench: Bench) -> None:
    assert not bench.rig.device.output_on
    assert abs(bench.load.v_tip) < 1e-3
    assert not bench.rig.page.energised


# -- the line --


def test_a_mute_instrument_is_cut_within_the_read_deadline(tmp_path: Path) -> None:
    async def test(bench: Bench) -> None:
        bench.start()
        await bench.until_live()
        quiet_ns = bench.clock.now_ns()
        bench.replies.edit = lambda data: b""
        # Mute but executing: the bias is gone although nothing confirms it.
        await bench.until(lambda: bench.engine.state is State.CUTTING)
        await bench.until(lambda: bench.engine.report.alarm is not None)
        assert "CUT_UNVERIFIED" in str(bench.engine.report.alarm)
        safe_s = bench.safe_after(quiet_ns)
        assert safe_s is not None
        assert safe_s < 0.150 + 0.040
        assert bench.engine.state is State.CUTTING, "no time-out may leave CUTTING"
        bench.replies.edit = lambda data: data
        run = await bench.ended()
        assert run["status"] == "tripped"
        assert bench.engine.report.trip_verdict is Verdict.STALE
        assert bench.engine.report.alarm is None
        assert_off(bench)

    on_bench(tmp_path, test)


def test_without_the_read_deadline_a_mute_instrument_stays_live(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_module, "DEADLINE_MAX_S", 1e6)
    monkeypatch.setattr(engine_module, "DEADLINE_MARGIN_S", 1e6)

    async def test(bench: Bench) -> None:
        bench.start()
        await bench.until_live()
        quiet_ns = bench.clock.now_ns()
        bench.replies.edit = lambda data: b""
        await bench.clock.sleep_until(quiet_ns + 3_000 * MS)
        assert abs(bench.load.v_tip) > 0.05

    on_bench(tmp_path, test)


@pytest.mark.parametrize(
    "edit",
    [
        lambda data: data[:-9] + data[-1:],
        lambda data: b"K" + data,
        lambda data: data.replace(b"E-", b"E-3") if b"," in data else data,
        lambda data: data.replace(b"+2.0484", b"+2.048e"),
        lambda data: data.replace(b",", b"\x00\x00 "),
        lambda data: b"+1.80e-310," + data,
    ],
    ids=["truncated", "doubled-first", "three-digit-exponent", "letters", "no-comma", "denormal"],
)
def test_a_reply_that_is_no_reading_cuts_and_becomes_no_number(tmp_path: Path, edit: Callable[[bytes], bytes]) -> None:
    async def test(bench: Bench) -> None:
        bench.start()
        await bench.until_live()
        once = iter([edit])
        bench.replies.edit = lambda data: next(once, lambda same: same)(data)
        run = await bench.ended()
        assert run["status"] == "tripped"
        assert bench.engine.report.trip_verdict is Verdict.UNPARSABLE
        assert_off(bench)
        samples = bench.rig.samples()
        assert samples[-1].current_a != samples[-1].current_a, "an untrusted reading became a number"

    on_bench(tmp_path, test)


def test_a_line_nobody_asked_for_cuts(tmp_path: Path) -> None:
    async def test(bench: Bench) -> None:
        bench.start()
        await bench.until_live()
        once = iter([b"-1.000000E-07,+2.048400E+04\r"])
        # Doubled: from here on, which answer belongs to which question is not known.
        bench.replies.edit = lambda data: data + next(once, b"")
        run = await bench.ended()
        assert run["status"] == "tripped"
        assert bench.engine.report.trip_verdict is Verdict.UNPARSABLE
        assert_off(bench)

    on_bench(tmp_path, test)


def test_a_deaf_instrument_stays_in_cutting_and_is_cut_when_it_hears_again(tmp_path: Path) -> None:
    async def test(bench: Bench) -> None:
        bench.start()
        await bench.until_live()
        bench.rig.line.limit_next_writes(0)
        await bench.until(lambda: bench.engine.report.alarm is not None)
        assert bench.engine.state is State.CUTTING
        assert bench.rig.device.output_on
        heard_ns = bench.clock.now_ns()
        bench.rig.line.limit_next_writes(None)
        await bench.ended()
        safe_s = bench.safe_after(heard_ns)
        assert safe_s is not None
        assert safe_s < 0.4
        assert bench.engine.report.trip_verdict is Verdict.STALE

    on_bench(tmp_path, test)


def test_unplugged_is_link_lost_with_an_alarm(tmp_path: Path) -> None:
    async def test(bench: Bench) -> None:
        bench.start()
        await bench.until_live()
        bench.rig.line.unplug()
        await bench.until(lambda: bench.engine.report.alarm is not None)
        assert "LINK_LOST" in str(bench.engine.report.alarm) or "CUT_UNVERIFIED" in str(bench.engine.report.alarm)
        assert bench.engine.state is State.CUTTING
        assert bench.rig.page.energised, "the keeper must still count it as live"

    on_bench(tmp_path, test)


# -- the panel --


@pytest.mark.parametrize(
    "change",
    [b":SENS:CURR:PROT 0.00002", b":SENS:CURR:RANG 0.00001", b":OUTP:SMOD HIMP"],
    ids=["limit", "range", "off"],
)
def test_a_limit_changed_at_the_panel_is_found_within_16_samples(tmp_path: Path, change: bytes) -> None:
    async def test(bench: Bench) -> None:
        bench.start()
        await bench.until_live(0.05)
        before = bench.rig.worker.recorder.samples
        bench.at_the_panel(change)
        run = await bench.ended()
        assert run["status"] == "tripped"
        assert bench.engine.report.trip_verdict is Verdict.LIMIT_CHANGED
        assert bench.rig.worker.recorder.samples - before <= engine_module.CHECK_EVERY + 1
        assert_off(bench)

    on_bench(tmp_path, test)


def test_without_the_check_query_a_raised_limit_goes_unseen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_module, "CHECK_EVERY", 10**9)

    async def test(bench: Bench) -> None:
        bench.start()
        await bench.until_live(0.05)
        bench.at_the_panel(b":SENS:CURR:PROT 0.1")
        run = await bench.ended()
        assert run["status"] == "completed", "a tip ran a whole sweep behind a hundredfold limit"

    on_bench(tmp_path, test)


def test_output_off_at_the_panel_ends_the_run_within_the_read_deadline(tmp_path: Path) -> None:
    async def test(bench: Bench) -> None:
        bench.start()
        await bench.until_live()
        pressed_ns = bench.clock.now_ns()
        bench.rig.device.press_output_key(pressed_ns)
        bench.rig.line.poke()
        run = await bench.ended()
        assert run["status"] == "tripped"
        assert bench.engine.report.trip_verdict is Verdict.STALE
        assert bench.clock.now_ns() - pressed_ns < 400 * MS
        assert_off(bench)

    on_bench(tmp_path, test)


def test_output_on_at_the_panel_while_safe_is_cut_within_a_second_and_latches(tmp_path: Path) -> None:
    async def test(bench: Bench) -> None:
        assert bench.engine.state is State.SAFE
        pressed_ns = bench.clock.now_ns()
        bench.rig.device.press_output_key(pressed_ns)
        bench.rig.line.poke()
        await bench.until(lambda: bench.rig.device.output_on)
        await bench.until(lambda: bench.engine.state is State.TRIPPED)
        assert bench.engine.report.trip_verdict is Verdict.OUTPUT_CHANGED
        assert bench.clock.now_ns() - pressed_ns < 1_200 * MS
        assert_off(bench)

    on_bench(tmp_path, test)


# -- start, restart, latch --


def test_another_serial_number_is_refused_and_never_energised(tmp_path: Path) -> None:
    async def main(clock: VirtualClock) -> None:
        load = OhmicLoad(1e6, 1000.0)
        with pytest.raises(WrongInstrumentError, match=r"1304207.*9999999"):
            async with VirtualRig.running(clock, load, tmp_path, config=config_for(serial_number="9999999")):
                raise AssertionError("started on a stranger")
        assert load.truth.events("live") == []

    run_virtual(main)


def test_a_unit_exchanged_between_two_runs_is_refused_before_its_output_goes_on(tmp_path: Path) -> None:
    async def test(bench: Bench) -> None:
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
    async def test(bench: Bench) -> None:
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

    async def test(bench: Bench) -> None:
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
    async def test(bench: Bench) -> None:
        assert bench.truth.events("live") == []

    for _ in range(100):
        on_bench(tmp_path, test)
        (tmp_path / "ring").unlink()


# -- runs --


def test_stop_cuts_latches_and_names_who(tmp_path: Path) -> None:
    async def test(bench: Bench) -> None:
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
    async def test(bench: Bench) -> None:
        bench.start(IvPlan(to_v=-0.6, back_scan=False))
        await bench.until(lambda: bench.engine.state is State.CUTTING, 60)
        assert not bench.engine.guard.machine.protective
        held = iter(range(3))
        # Readings come, the first confirmations do not.
        bench.replies.edit = lambda data: b"" if data.count(b";") == 2 and next(held, None) is not None else data
        run = await bench.ended()
        assert run["status"] == "tripped"
        event = bench.events()[-1]
        assert event["escalated"]
        assert not event["planned"]
        assert event["rounds"] >= 2
        assert_off(bench)

    on_bench(tmp_path, test, load=lambda truth: SwitchingSite("gb", series_ohm=1000.0, seed=4, truth=truth))


def test_believing_an_untagged_reply_would_call_a_live_tip_safe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The removal test of the tag: a stale "output off" from earlier, an instrument that hears nothing.
    def gullible(self: Cut, _line: bytes, now_ns: int) -> bool:
        self.verified_ns = now_ns
        return True

    async def test(bench: Bench) -> None:
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


def test_rearms_are_spent_and_then_refused(tmp_path: Path) -> None:
    async def test(bench: Bench) -> None:
        bench.start(IvPlan(to_v=-0.1, cycles=10, on_trigger="continue", back_scan=False))
        run = await bench.ended()
        assert run["status"] == "failed"
        assert "rearms_per_run" in str(run["reason"])
        assert bench.engine.report.planned_cuts == 3
        assert bench.engine.state is State.SAFE

    # 10 kohm conducts more than the 1e-5 S that end a search: every cycle triggers.
    on_bench(
        tmp_path,
        test,
        load=lambda truth: OhmicLoad(1e4, 1000.0, truth=truth),
        config=config_for(limits={"rearms_per_run": 2}),
    )


def test_back_scan_measures_what_formed(tmp_path: Path) -> None:
    async def test(bench: Bench) -> None:
        bench.start(IvPlan(to_v=-0.6))
        run = await bench.ended()
        assert run["status"] == "completed", run["reason"]
        [trigger] = run["results"]["triggers"]
        site = bench.load
        assert isinstance(site, SwitchingSite)
        # Two-wire: filament plus series resistor, on the 100 uA range at 1 PLC.
        assert trigger["lrs"]["resistance_ohm"] == pytest.approx(site.r_on_ohm + 1000.0, rel=0.02)
        assert trigger["lrs"]["n"] == 9
        phases = [sample.phase for sample in bench.rig.samples()]
        assert phases.count(Phase.LRS_READ) == 9

    on_bench(tmp_path, test, load=lambda truth: SwitchingSite("gb", series_ohm=1000.0, seed=4, truth=truth))


def test_ohmic_cycles_complete_without_a_trigger(tmp_path: Path) -> None:
    async def test(bench: Bench) -> None:
        bench.start(IvPlan(to_v=-0.1, step_v=0.005, cycles=3))
        run = await bench.ended()
        assert run["status"] == "completed"
        assert run["results"] == {"cycles_done": 3, "triggers_found": 0, "triggers": []}
        samples = bench.rig.samples()
        assert len(samples) >= 3 * 41
        for sample in samples:
            assert sample.current_a == pytest.approx(sample.bias_v / 1.001e6, abs=6e-8)
            assert 0 < sample.t_rx_ns - sample.t_ns < 20 * MS

    on_bench(tmp_path, test)


@pytest.mark.parametrize("used", [0.85, 0.96])
def test_a_filling_ring_makes_the_plan_wait_and_at_last_trips(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, used: float
) -> None:
    level = [0.0]
    monkeypatch.setattr("edge.controller.recorder.Recorder.ring_used", property(lambda _self: level[0]))

    async def test(bench: Bench) -> None:
        bench.start(IvPlan(to_v=-0.1, step_v=0.005, cycles=2, back_scan=False))
        await bench.until_live(0.05)
        level[0] = used
        if used >= engine_module.RING_FULL_AT:
            await bench.ended()
            assert bench.engine.report.trip_verdict is Verdict.RING_FULL
            assert_off(bench)
            return
        # At 80 % the cycle is finished, then the plan waits, safe.
        await bench.until(lambda: bench.engine.state is State.SAFE)
        await bench.clock.sleep_until(bench.clock.now_ns() + 5_000 * MS)
        assert bench.engine.state is State.SAFE
        assert "ring" in str((bench.rig.worker.runner.run or {})["text"])
        level[0] = 0.1
        assert (await bench.ended())["status"] == "completed"

    on_bench(tmp_path, test)


def test_a_plan_whose_code_breaks_leaves_nothing_energised(tmp_path: Path) -> None:
    class Broken(IvPlan):
        __slots__ = ()

        def program(self) -> Program:
            steps = IvPlan.program(self)
            for _ in range(3):
                yield next(steps)
            raise ZeroDivisionError

    async def test(bench: Bench) -> None:
        bench.start(Broken(to_v=-0.2))
        run = await bench.ended()
        assert run["status"] == "failed"
        assert "ZeroDivisionError" in str(run["reason"])
        assert_off(bench)
        assert bench.engine.report.trip_verdict is Verdict.SHUTDOWN
        # The cut belongs to the run that caused it.
        assert f"{bench.events()[-1]['run']:016x}" == run["uid"]

    on_bench(tmp_path, test)


def test_a_pause_cut_short_does_not_step_a_later_run(tmp_path: Path) -> None:
    async def test(bench: Bench) -> None:
        # Each level of the first run lasts 4.003 s: readings, then a pause of a few ms that a stop can hit.
        bench.start(IvPlan(to_v=-0.1, step_v=0.05, dwell_s=4.003, back_scan=False))
        await bench.until(lambda: bench.engine._pause is not None)
        bench.rig.worker.runner.stop(by="test")
        await bench.ended()
        assert bench.engine._pause is None
        bench.engine.rearm(by="test")
        bench.rig.records()
        bench.start(IvPlan(to_v=-0.1, step_v=0.01, dwell_s=0.02, back_scan=False))
        assert (await bench.ended())["status"] == "completed"
        assert len({round(s.bias_v, 6) for s in bench.rig.samples()}) == 11

    on_bench(tmp_path, test)


def test_a_plan_of_many_levels_never_holds_the_loop(tmp_path: Path) -> None:
    async def test(bench: Bench) -> None:
        bench.start(IvPlan(to_v=-1.0, step_v=1e-4, dwell_s=0.001, back_scan=False))
        await bench.until(lambda: bench.rig.page.energised)
        longest = 0.0
        # Wall time between two turns of the virtual clock, over the first readings: far below the keeper's 100 ms.
        for _ in range(200):
            began = time.perf_counter()
            await bench.clock.sleep_until(bench.clock.now_ns() + MS)
            longest = max(longest, time.perf_counter() - began)
        assert longest < 0.050
        bench.rig.worker.runner.stop(by="test")
        await bench.ended()

    on_bench(tmp_path, test)


@pytest.mark.parametrize("level", [-0.9, float("nan"), float("inf")])
def test_a_level_that_was_not_declared_is_refused_at_the_step(tmp_path: Path, level: float) -> None:
    class Liar(IvPlan):
        __slots__ = ()

        def levels_v(self) -> tuple[float, ...]:
            return (0.0, level, 0.0)

    async def test(bench: Bench) -> None:
        bench.start(Liar(to_v=-0.2))
        run = await bench.ended()
        assert run["status"] == "failed"
        assert "armed for 0.2 V" in str(run["reason"])
        await bench.engine.until_off()
        assert_off(bench)
        assert bench.truth.events("live") == []

    on_bench(tmp_path, test)


def test_the_panel_is_given_back_when_the_controller_ends(tmp_path: Path) -> None:
    async def test(bench: Bench) -> None:
        bench.start(IvPlan(to_v=-0.1, step_v=0.02, back_scan=False))
        await bench.ended()
        written: list[bytes] = []

        def note(_n: int, data: bytes) -> bytes:
            written.append(data)
            return data

        bench.rig.line.tamper(note)
        assert await bench.rig.worker.shut_down(Verdict.SHUTDOWN, by="test")
        assert b":SYST:LOC" in b"".join(written)
        assert b":OUTP ON" not in b"".join(written)
        await bench.clock.sleep_until(bench.clock.now_ns() + 100 * MS)
        assert bench.rig.device.error_queue == ()
        assert_off(bench)

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

    async def test(bench: Bench) -> None:
        with pytest.raises(PlanRefusedError, match="voltage_v"):
            await bench.engine.arm(Phase.SEEK, asked_v)
        bench.start(Liar(to_v=-0.02))
        assert (await bench.ended())["status"] == "failed"
        assert bench.truth.events("live") == []
        assert_off(bench)

    on_bench(tmp_path, test, config=config_for(limits={"voltage_v": ceiling_v}))


def test_a_limit_below_the_range_is_a_refusal_with_the_key(tmp_path: Path) -> None:
    async def test(bench: Bench) -> None:
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

    async def test(bench: Bench) -> None:
        bench.start(Mixed(to_v=-0.5))
        assert (await bench.ended())["status"] == "failed"
        assert bench.truth.events("live") == []

    on_bench(tmp_path, test)


def test_a_mirror_that_cannot_be_written_loses_no_event_and_no_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test(bench: Bench) -> None:
        bench.start()
        await bench.until_live()

        def full(_self: Mirror, _latch: Latch) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(Mirror, "write", full)
        bench.rig.worker.runner.stop(by="test")
        assert (await bench.ended())["status"] == "tripped"
        assert bench.events()[-1]["verdict"] == "OPERATOR"
        assert "MIRROR" in bench.engine.report.alarms
        assert_off(bench)
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
    async def test(bench: Bench) -> None:
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
        assert_off(bench)

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
    async def test(bench: Bench) -> None:
        bench.start()
        await bench.until_live()
        # The question that should follow is lost, as by a timer that never fires.
        bench.engine._go_on = lambda: None  # type: ignore[method-assign]
        assert (await bench.ended())["status"] == "tripped"
        assert bench.engine.report.trip_verdict is Verdict.STALE
        assert_off(bench)

    on_bench(tmp_path, test)


def test_a_plan_for_a_tip_is_refused_on_a_cell(tmp_path: Path) -> None:
    cell = Config.model_validate(
        {
            "rig": {"id": "cell", "kind": "cell", "series_resistor_ohm": 1000.0},
            "ports": {"smu": {"path": "memory"}},
            "smu": {"serial_number": "1304207"},
        }
    )

    async def test(bench: Bench) -> None:
        with pytest.raises(PlanRefusedError, match="cell"):
            bench.start()

    on_bench(tmp_path, test, config=cell)


def test_real_hardware_without_a_profile_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hil.line.memory.MemoryTransport.emulated", property(lambda _self: False))
    Mirror(tmp_path).write(Latch(CLEAN))

    async def test(bench: Bench) -> None:
        with pytest.raises(PlanRefusedError, match="commission"):
            bench.start()
        assert bench.truth.events("live") == []

    on_bench(tmp_path, test)


def test_a_sample_carries_the_bias_that_was_sent(tmp_path: Path) -> None:
    async def test(bench: Bench) -> None:
        sent: list[float] = []

        def note(_n: int, data: bytes) -> bytes:
            if data.startswith(b":SOUR:VOLT ") and b"READ?" in data:
                sent.append(float(data[11 : data.index(b";")]))
            return data

        bench.rig.line.tamper(note)
        # A third of a volt in sevenths of 10 mV: no level is a whole number of 0.1 mV.
        bench.start(IvPlan(to_v=-1 / 3, step_v=0.01 / 7 * 10, dwell_s=0.001, back_scan=False))
        assert (await bench.ended())["status"] == "completed"
        assert [s.bias_v for s in bench.rig.samples()] == sent

    on_bench(tmp_path, test)
