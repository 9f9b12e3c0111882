"""What is believed of the output enable line: only what the instrument shows. And the key that it wants after a cut.

Each check that protects the tip comes with a test that takes the check away and sees the harm.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from edge.controller.enable_line import EnableLine
from edge.errors import InterlockError
from edge.guard.states import State
from edge.guard.verdicts import Verdict
from edge.samples import Phase
from hil.devices.enable_line import Edge
from hil.devices.keithley2400.interlock import Rearm
from hil.rig import config_for
from hil.virtual_bench import MS, VirtualBench, on_bench
from tests.edge.controller.test_gpio import GPIO, freeze, thaw

Work = Callable[[VirtualBench], Awaitable[None]]


def wired(tmp_path: Path, work: Work, *, monostable_s: float | None = None, **gpio: str | float | None) -> None:
    config = config_for(series_ohm=1000.0, gpio={**GPIO, **gpio})
    on_bench(tmp_path, work, config=config, monostable_s=monostable_s)


async def refusal(bench: VirtualBench) -> str:
    """Try to arm; return why it was refused, nothing energised."""
    with pytest.raises(InterlockError) as caught:
        await bench.engine.arm(Phase.SEEK, 1.0)
    assert bench.engine.state is State.SAFE
    assert not bench.rig.device.output_on
    assert "\n" not in str(caught.value)
    assert bench.engine.enable.memory()["proven"] is False
    return str(caught.value)


# ---------------------------------------------------------------------------------------------------- the proof


def test_a_line_that_never_opens_is_found_before_anything_is_energised(tmp_path: Path) -> None:
    async def test(bench: VirtualBench) -> None:
        assert bench.rig.enable is not None
        bench.rig.enable.monostable.stuck = True
        assert "stays closed without a beat for 0.04 s" in await refusal(bench)

    wired(tmp_path, test)


def test_without_the_proof_a_line_that_never_opens_leaves_a_frozen_worker_s_tip_live(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The removal test of the proof.
    async def believe(*_args: object) -> None:
        """Look at nothing."""

    monkeypatch.setattr(EnableLine, "_prove", believe)

    async def test(bench: VirtualBench) -> None:
        assert bench.rig.enable is not None
        bench.rig.enable.monostable.stuck = True
        bench.start()
        await bench.until_live()
        freeze(bench)
        await bench.clock.sleep_until(bench.clock.now_ns() + 10_000 * MS)
        assert bench.rig.device.output_on
        assert abs(bench.load.v_tip) > 0.05
        thaw(bench)

    wired(tmp_path, test)


def test_a_monostable_that_is_slower_than_configured_is_found(tmp_path: Path) -> None:
    async def test(bench: VirtualBench) -> None:
        assert "slower than gpio.monostable_s" in await refusal(bench)

    wired(tmp_path, test, monostable_s=0.2)


def test_a_clear_that_is_not_wired_is_found(tmp_path: Path) -> None:
    async def test(bench: VirtualBench) -> None:
        enable = bench.rig.enable
        assert enable is not None
        edge = enable.edge
        enable.edge = lambda t_ns, kind: edge(t_ns, kind) if kind is Edge.BEAT else None  # type: ignore[method-assign]
        assert "Is gpio.clear_line 27 wired?" in await refusal(bench)

    wired(tmp_path, test)


def test_a_line_that_no_beat_closes_is_found(tmp_path: Path) -> None:
    async def test(bench: VirtualBench) -> None:
        assert bench.rig.gpio is not None
        bench.rig.gpio.broken = True
        told = await refusal(bench)
        assert "is open although the controller beats" in told
        assert "pin 8" in told
        assert bench.rig.worker.status()["gpio"]["line"] == "open"

    wired(tmp_path, test)


def test_a_monostable_without_its_supply_is_found(tmp_path: Path) -> None:
    async def test(bench: VirtualBench) -> None:
        assert bench.rig.enable is not None
        bench.rig.enable.monostable.broken = True
        bench.rig.enable.refresh(bench.clock.now_ns())
        assert "its supply" in await refusal(bench)

    wired(tmp_path, test)


def test_output_enable_that_does_not_stay_on_is_found(tmp_path: Path) -> None:
    async def test(bench: VirtualBench) -> None:
        run_to_arming(bench)
        with pytest.raises(Exception, match=r"output enable line was not switched on .*answered b'0'"):
            await bench.engine.arm(Phase.SEEK, 1.0)
        assert bench.engine.state is State.SAFE

    def run_to_arming(bench: VirtualBench) -> None:
        # The unit takes the command, and does nothing.
        bench.rig.device._unit.enable_output_line = lambda *, on: None  # type: ignore[method-assign]

    wired(tmp_path, test)


def test_silence_is_proven_once_in_a_life_and_the_line_looked_at_before_every_output_on(tmp_path: Path) -> None:
    async def test(bench: VirtualBench) -> None:
        asked: list[bytes] = []

        def look(_n: int, data: bytes) -> bytes:
            asked.append(data)
            return data

        bench.rig.line.tamper(look)
        for number in (1, 2):
            asked.clear()
            bench.start()
            assert (await bench.ended())["status"] == "completed"
            sent = b"".join(asked)
            # Closed, silent, closed again, cleared, closed again; then only: closed.
            assert sent.count(b":OUTP:ENAB:TRIP?") >= (5 if number == 1 else 1)
            assert number == 1 or sent.count(b":OUTP:ENAB:TRIP?") == 1
            assert sent.index(b":OUTP:ENAB ON") < sent.index(b":OUTP:ENAB?") < sent.index(b":OUTP:ENAB:TRIP?")
            assert sent.index(b":OUTP:ENAB:TRIP?") < sent.index(b":OUTP ON;")

    wired(tmp_path, test)


# ------------------------------------------------------------------------------------------------------ the key


async def cut_and_rearm(bench: VirtualBench) -> None:
    bench.start()
    await bench.until_live()
    bench.engine.trip(Verdict.OPERATOR)
    await bench.ended()
    bench.engine.rearm(by="anna")
    await bench.until(lambda: bool(bench.rig.enable and bench.rig.enable.closed), 0.1)


def press_key(bench: VirtualBench) -> None:
    bench.rig.device.press_output_key(bench.clock.now_ns())
    bench.rig.line.poke()


def test_after_a_cut_by_the_line_the_next_run_says_that_the_key_is_wanted(tmp_path: Path) -> None:
    async def test(bench: VirtualBench) -> None:
        await cut_and_rearm(bench)
        assert any("press the OUTPUT key" in note for note in bench.rig.worker.status()["notes"])
        assert bench.rig.worker.status()["gpio"]["key_awaited"]
        bench.start()
        run = await bench.ended()
        assert run["status"] == "failed"
        assert "press the OUTPUT key of the instrument once" in str(run["reason"])
        assert not bench.rig.device.output_on
        assert bench.engine.state is State.SAFE, "nothing to trip for"

    wired(tmp_path, test, rearm="key")


def test_the_key_that_is_pressed_is_seen_the_output_switched_off_again_and_runs_start(tmp_path: Path) -> None:
    async def test(bench: VirtualBench) -> None:
        await cut_and_rearm(bench)
        # The panel is unlocked within a second, without which the key may be dead.
        await bench.until(lambda: not bench.rig.device._unit.panel.locked, 2.0)
        await bench.clock.sleep_until(bench.clock.now_ns() + 100 * MS)
        press_key(bench)
        assert bench.rig.device.output_on
        assert abs(bench.load.v_tip) < 1e-3, "it comes on at the 0 V of the cut"
        pressed_ns = bench.clock.now_ns()
        await bench.until(lambda: not bench.rig.device.output_on, 2.0)
        assert bench.clock.now_ns() - pressed_ns < 1_100 * MS
        await bench.clock.sleep_until(bench.clock.now_ns() + 2_000 * MS)
        assert bench.engine.state is State.SAFE
        assert bench.rig.worker.status()["notes"] == []
        bench.start()
        assert (await bench.ended())["status"] == "completed"

    wired(tmp_path, test, rearm="key")


def test_an_output_that_is_switched_on_with_no_key_awaited_is_cut_as_ever(tmp_path: Path) -> None:
    async def test(bench: VirtualBench) -> None:
        press_key(bench)
        assert bench.rig.device.output_on
        await bench.until(lambda: bench.engine.state is State.TRIPPED, 3.0)
        assert bench.engine.report.trip_verdict is Verdict.OUTPUT_CHANGED

    wired(tmp_path, test, rearm="key")


def test_a_key_that_nobody_waited_for_is_wanted_once_more_after_its_cut(tmp_path: Path) -> None:
    # The cut of an output that somebody switched on while SAFE goes through the line, too.
    async def test(bench: VirtualBench) -> None:
        bench.start()
        assert (await bench.ended())["status"] == "completed"
        bench.rig.device.panel_output(bench.clock.now_ns(), force=True)
        bench.rig.line.poke()
        await bench.until(lambda: bench.engine.state is State.TRIPPED, 3.0)
        assert bench.rig.device._unit.interlock.latched
        bench.engine.rearm(by="anna")
        assert bench.rig.worker.status()["gpio"]["key_awaited"]

    wired(tmp_path, test, rearm="key")


def test_a_key_whose_output_does_not_go_off_again_is_a_protective_cut(tmp_path: Path) -> None:
    async def test(bench: VirtualBench) -> None:
        await cut_and_rearm(bench)
        await bench.until(lambda: not bench.rig.device._unit.panel.locked, 2.0)
        await bench.clock.sleep_until(bench.clock.now_ns() + 100 * MS)
        # The lines that switch it off again are damaged on their way; the question is not.
        bench.rig.line.tamper(lambda _n, data: b"\n" if data in (b":SOUR:VOLT 0\n", b":OUTP OFF\n") else data)
        press_key(bench)
        await bench.until(lambda: bench.engine.state is State.TRIPPED, 3.0)
        assert bench.engine.report.trip_verdict is Verdict.OUTPUT_CHANGED
        assert bench.off

    wired(tmp_path, test, rearm="key")


def test_with_remote_there_is_nothing_to_press(tmp_path: Path) -> None:
    async def test(bench: VirtualBench) -> None:
        await cut_and_rearm(bench)
        assert bench.rig.worker.status()["notes"] == []
        bench.start()
        assert (await bench.ended())["status"] == "completed"

    wired(tmp_path, test, rearm="remote")


@pytest.mark.parametrize("rearm", ["key", "remote"])
def test_an_output_on_that_the_line_refuses_is_told_in_plain_words(tmp_path: Path, rearm: str) -> None:
    # A life that knows nothing of the cut before, or a rig file that says "remote" of a unit that wants its key.
    async def test(bench: VirtualBench) -> None:
        assert bench.rig.worker.line is not None
        await cut_and_rearm(bench)
        bench.rig.device._unit.interlock.rearm = Rearm.KEY
        bench.rig.device._unit.interlock.latched = True
        bench.rig.worker.line.key_awaited = False
        bench.start()
        run = await bench.ended()
        assert run["status"] == "tripped"
        assert "refused to switch its output on (+802)" in str(run["reason"])
        assert "press the OUTPUT key" in str(run["reason"])
        assert not bench.rig.device.output_on
        bench.engine.rearm(by="anna")
        assert bench.rig.worker.status()["gpio"]["key_awaited"]

    wired(tmp_path, test, rearm=rearm)


def test_what_a_line_knows_is_remembered_by_a_replay_s_checkpoint(tmp_path: Path) -> None:
    async def test(bench: VirtualBench) -> None:
        await cut_and_rearm(bench)
        kept: dict[str, Any] = bench.engine.memory()["enable"]
        assert kept["proven"] is True
        assert kept["key_awaited"] is True
        bench.engine.enable.remember({"proven": False, "acts": False, "key_awaited": False, "panel_free": False})
        assert bench.engine.enable.notes == ()
        bench.engine.enable.remember(kept)
        assert bench.engine.enable.memory() == kept

    wired(tmp_path, test, rearm="key")
