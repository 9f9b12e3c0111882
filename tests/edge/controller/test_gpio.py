"""The heartbeat into the output enable line, in virtual time, judged by the twin's own record: silence cuts.

Each check that protects the tip comes with a test that takes the check away and sees the harm.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from edge.controller.heartbeat import Heartbeat
from edge.experiments.iv import IvPlan
from edge.guard.states import State
from edge.guard.verdicts import Verdict
from hil.rig import config_for
from hil.twin.ohmic import OhmicLoad
from hil.twin.site import SwitchingSite
from hil.twin.terminals import SourcedLoad
from hil.twin.truth import TruthRecord
from hil.virtual_bench import MS, VirtualBench, on_bench

MONOSTABLE_NS = 40 * MS
BEAT_NS = 10 * MS
RESPONSE_NS = 100_000
GPIO: dict[str, Any] = {"chip": "memory", "heartbeat_line": 17, "clear_line": 27, "rearm": "remote"}
Work = Callable[[VirtualBench], Awaitable[None]]


def ohmic(truth: TruthRecord) -> SourcedLoad:
    return OhmicLoad(1e6, 1000.0, truth=truth)


def site(truth: TruthRecord) -> SourcedLoad:
    return SwitchingSite("gb", series_ohm=1000.0, seed=4, truth=truth)


def wired(
    tmp_path: Path, work: Work, *, clear: bool = True, load: Callable[[TruthRecord], SourcedLoad] = ohmic
) -> None:
    gpio = {**GPIO, "clear_line": 27 if clear else None}
    on_bench(tmp_path, work, load=load, config=config_for(series_ohm=1000.0, gpio=gpio))


def thaw(bench: VirtualBench) -> None:
    """Let somebody read what the instrument says again, so that the bench can end in order."""
    bench.rig.line.transport.on_readable(bench.rig.worker.link.readable)


def freeze(bench: VirtualBench) -> int:
    """Stop the worker as SIGSTOP would: nothing of it runs any more, what it had written stays written."""
    assert bench.rig.worker.heartbeat is not None
    assert bench.rig._control is not None
    bench.rig.worker.heartbeat.stop()
    bench.rig._control.cancel()
    bench.rig.line.transport.on_readable(None)
    return bench.clock.now_ns()


# ------------------------------------------------------------------------------------------------------ beats


def test_a_run_is_none_the_worse_for_the_line_and_it_stays_closed_to_the_end(tmp_path: Path) -> None:
    async def test(bench: VirtualBench) -> None:
        bench.start()
        run = await bench.ended()
        assert run["status"] == "completed", run["reason"]
        assert bench.rig.enable is not None
        assert bench.rig.enable.closed
        gpio = bench.rig.worker.status()["gpio"]
        assert gpio["beating"]
        assert gpio["line"] == "closed"
        assert gpio["proven"]
        assert gpio["lost"] is None

    wired(tmp_path, test)


def test_a_worker_that_is_frozen_is_cut_by_its_silence(tmp_path: Path) -> None:
    async def test(bench: VirtualBench) -> None:
        bench.start()
        await bench.until_live()
        frozen_ns = freeze(bench)
        await bench.until(lambda: not bench.rig.device.output_on, 1.0)
        safe_s = bench.safe_after(frozen_ns)
        assert safe_s is not None
        assert safe_s * 1e9 <= MONOSTABLE_NS + RESPONSE_NS
        assert safe_s * 1e9 >= MONOSTABLE_NS + RESPONSE_NS - BEAT_NS, "it was beating until then"
        thaw(bench)

    wired(tmp_path, test, clear=False)


def test_without_a_line_a_frozen_worker_leaves_the_tip_live(tmp_path: Path) -> None:
    async def test(bench: VirtualBench) -> None:
        bench.start()
        await bench.until_live()
        bench.rig._control.cancel()  # type: ignore[union-attr] # it was made by running()
        bench.rig.line.transport.on_readable(None)
        end_ns = bench.clock.now_ns() + 10_000 * MS
        await bench.clock.sleep_until(end_ns)
        assert bench.rig.device.output_on, "host loss is not protected, and is said to be so"
        thaw(bench)

    on_bench(tmp_path, test)


def test_a_control_task_that_hangs_gets_no_beats(tmp_path: Path) -> None:
    async def test(bench: VirtualBench) -> None:
        bench.start()
        await bench.until_live()
        hung_ns = hang(bench)
        await bench.until(lambda: not bench.rig.device.output_on, 1.0)
        safe_s = bench.safe_after(hung_ns)
        assert safe_s is not None
        # Three ticks until it counts as hung, then the monostable.
        assert safe_s < 0.110
        thaw(bench)

    wired(tmp_path, test, clear=False)


def test_a_control_task_that_hangs_gets_no_beats_though_readings_go_on(tmp_path: Path) -> None:
    async def test(bench: VirtualBench) -> None:
        bench.start()
        await bench.until_live()
        tick = bench.engine.tick
        bench.engine.tick = lambda: None  # type: ignore[method-assign]
        hung_ns, before = bench.clock.now_ns(), bench.rig.worker.recorder.samples
        await bench.until(lambda: not bench.rig.device.output_on, 1.0)
        assert bench.rig.worker.recorder.samples > before
        safe_s = bench.safe_after(hung_ns)
        assert safe_s is not None
        # Three ticks until it counts as hung, a beat, then the monostable.
        assert safe_s < 0.120
        bench.engine.tick = tick  # type: ignore[method-assign]

    wired(tmp_path, test, clear=False)


def test_a_rig_that_starts_tripped_is_silent(tmp_path: Path) -> None:
    async def test(bench: VirtualBench) -> None:
        assert bench.rig.enable is not None
        await bench.until(lambda: bench.rig.enable is not None and bench.rig.enable.closed, 1.0)
        bench.engine.latch_restart(None)
        assert bench.engine.state is State.TRIPPED
        await bench.clock.sleep_until(bench.clock.now_ns() + MONOSTABLE_NS + 2 * BEAT_NS)
        assert not bench.rig.enable.closed

    wired(tmp_path, test)


def hang(bench: VirtualBench) -> int:
    """Let the control task wait for ever, and nobody read what the instrument says; the loop goes on."""
    bench.rig.worker.engine.tick = lambda: None  # type: ignore[method-assign]
    bench.rig.line.transport.on_readable(None)
    return bench.clock.now_ns()


def test_beats_that_do_not_ask_for_the_control_task_keep_a_hung_worker_live(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The removal test of the beat's condition.
    monkeypatch.setattr(Heartbeat, "silent_because", lambda _self, _now_ns: "")

    async def test(bench: VirtualBench) -> None:
        bench.start()
        await bench.until_live()
        hang(bench)
        await bench.clock.sleep_until(bench.clock.now_ns() + 10_000 * MS)
        assert bench.rig.device.output_on
        assert abs(bench.load.v_tip) > 0.05
        thaw(bench)

    # Without the condition there is no proof of silence either, which would have refused the run.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("edge.controller.enable_line.EnableLine._prove", _believe)
        wired(tmp_path, test, clear=False)


async def _believe(*_args: object) -> None:
    """Stand in for a proof."""


def test_a_reply_past_its_deadline_ends_the_beats(tmp_path: Path) -> None:
    async def test(bench: VirtualBench) -> None:
        heartbeat, link = bench.rig.worker.heartbeat, bench.rig.worker.link
        assert heartbeat is not None
        bench.start()
        await bench.until_live()
        await bench.until(lambda: link.outstanding)
        assert heartbeat.silent_because(bench.clock.now_ns()) == ""
        assert heartbeat.silent_because(link.deadline_ns) != "a reply is past its deadline"
        bench.rig.page.stamp(link.deadline_ns + 1)
        assert heartbeat.silent_because(link.deadline_ns + 1) == "a reply is past its deadline"

    wired(tmp_path, test)


# ------------------------------------------------------------------------------------------------------ cuts


@pytest.mark.parametrize(("clear", "within_ns"), [(True, MS), (False, MONOSTABLE_NS + RESPONSE_NS)])
def test_a_protective_cut_is_safe_long_before_the_serial_line_can_be(
    tmp_path: Path, clear: bool, within_ns: int
) -> None:
    async def test(bench: VirtualBench) -> None:
        bench.start()
        await bench.until_live()
        # The serial line takes everything and carries nothing: what is left is the line.
        bench.rig.line.limit_next_writes(0)
        asked_ns = bench.clock.now_ns()
        assert bench.engine.trip(Verdict.OPERATOR)
        await bench.until(lambda: not bench.rig.device.output_on, 1.0)
        safe_s = bench.safe_after(asked_ns)
        assert safe_s is not None
        assert safe_s * 1e9 <= within_ns
        bench.rig.line.limit_next_writes(None)
        run = await bench.ended()
        assert run["status"] == "tripped"
        cut = [event for event in bench.events() if event["kind"] == "cut"][-1]
        assert [one["name"] for one in cut["actuators"]] == ["gpio", "serial"]
        assert cut["decided_ns"] <= cut["actuators"][0]["t_ns"] <= cut["actuators"][1]["t_ns"] == cut["written_ns"]
        assert cut["verified"]

    wired(tmp_path, test, clear=clear)


def test_tripped_stays_silent_until_a_person_rearms(tmp_path: Path) -> None:
    async def test(bench: VirtualBench) -> None:
        bench.start()
        await bench.until_live()
        bench.engine.trip(Verdict.OPERATOR)
        await bench.ended()
        assert bench.rig.enable is not None
        beats = bench.rig.enable.beats
        await bench.clock.sleep_until(bench.clock.now_ns() + 2_000 * MS)
        assert bench.engine.state is State.TRIPPED
        assert bench.rig.enable.beats == beats
        assert not bench.rig.enable.closed
        status = bench.rig.worker.status()["gpio"]
        assert not status["beating"]
        assert status["silent_because"] == "state TRIPPED"
        bench.engine.rearm(by="anna")
        await bench.until(lambda: bool(bench.rig.enable and bench.rig.enable.closed), 0.1)
        bench.start()
        assert (await bench.ended())["status"] == "completed"

    wired(tmp_path, test)


def test_a_planned_cut_leaves_the_relay_alone(tmp_path: Path) -> None:
    async def test(bench: VirtualBench) -> None:
        assert bench.rig.enable is not None
        bench.start(IvPlan(to_v=-0.6, back_scan=False))
        # Every change of the line from the first level on.
        await bench.until_live(0.01)
        moves: list[bool] = []
        bench.rig.device.output_enable_line = lambda t_ns, *, closed: moves.append(closed)  # type: ignore[method-assign]
        run = await bench.ended()
        assert run["status"] == "completed"
        assert bench.engine.report.planned_cuts == 1
        assert moves == []
        assert bench.rig.enable.closed
        cut = [event for event in bench.events() if event["kind"] == "cut"][-1]
        assert cut["planned"]
        assert [one["name"] for one in cut["actuators"]] == ["serial"]

    wired(tmp_path, test, load=site)


def test_a_planned_cut_that_is_not_confirmed_is_escalated_to_the_line(tmp_path: Path) -> None:
    async def test(bench: VirtualBench) -> None:
        bench.start(IvPlan(to_v=-0.6, back_scan=False))
        await bench.until(lambda: bench.engine.state is State.CUTTING, 60)
        assert not bench.engine.guard.machine.protective
        bench.replies.lose_confirmations(3)
        run = await bench.ended()
        assert run["status"] == "tripped"
        cut = [event for event in bench.events() if event["kind"] == "cut"][-1]
        assert cut["escalated"]
        assert [one["name"] for one in cut["actuators"]] == ["gpio", "serial"]
        assert cut["actuators"][0]["t_ns"] > cut["actuators"][1]["t_ns"], "the line came with the escalation"

    wired(tmp_path, test, load=site)


def test_wires_that_break_under_way_cut(tmp_path: Path) -> None:
    async def test(bench: VirtualBench) -> None:
        assert bench.rig.gpio is not None
        bench.start()
        await bench.until_live()
        bench.rig.gpio.broken = True
        broken_ns = bench.clock.now_ns()
        run = await bench.ended()
        safe_s = bench.safe_after(broken_ns)
        assert safe_s is not None
        assert safe_s * 1e9 <= MONOSTABLE_NS + RESPONSE_NS
        assert run["status"] == "tripped"

    wired(tmp_path, test)
