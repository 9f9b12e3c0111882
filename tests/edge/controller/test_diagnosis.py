"""Why it had to be cut: the verdict of the moment, and what the instrument tells once its output is off."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge.controller import diagnosis
from edge.controller.mirror import Mirror
from edge.guard.states import State
from edge.guard.verdicts import Verdict
from edge.instruments.aftermath import Aftermath
from hil.virtual_bench import VirtualBench, on_bench

NOTHING = Aftermath(was_reset=False, was_off=False, refused=())


@pytest.mark.parametrize(
    ("verdict", "told", "becomes", "says"),
    [
        (Verdict.STALE, NOTHING._replace(was_off=True), Verdict.OUTPUT_CHANGED, "its output was off"),
        (Verdict.STALE, NOTHING._replace(was_reset=True, was_off=True), Verdict.DEVICE_RESET, "powered on"),
        (Verdict.LIMIT_CHANGED, NOTHING._replace(was_reset=True), Verdict.DEVICE_RESET, "powered on"),
        (Verdict.STALE, NOTHING._replace(refused=('-113,"Undefined header"',)), Verdict.STALE, "-113"),
    ],
)
def test_what_a_verdict_becomes(verdict: Verdict, told: Aftermath, becomes: Verdict, says: str) -> None:
    found = diagnosis.judge(verdict, told)
    assert found is not None
    assert found.verdict is becomes
    assert says in found.says


def test_nothing_told_changes_nothing() -> None:
    assert diagnosis.judge(Verdict.STALE, NOTHING) is None
    assert diagnosis.judge(Verdict.UNPARSABLE, NOTHING._replace(was_off=True)) is None


def test_a_power_cycle_is_cut_as_stale_and_told_as_a_reset(tmp_path: Path) -> None:
    async def test(bench: VirtualBench) -> None:
        bench.start()
        await bench.until_live()
        bench.rig.device.power_cycle(bench.clock.now_ns())
        bench.rig.line.poke()
        run = await bench.ended()
        assert run["reason"] == "DEVICE_RESET"
        events = {event["kind"]: event for event in bench.events()}
        assert events["diagnosis"]["instead_of"] == events["cut"]["verdict"] == "STALE"
        assert events["diagnosis"]["cut_ns"] == events["cut"]["decided_ns"]
        latch = Mirror(bench.rig.directory).read()
        assert latch is not None
        assert latch.verdict == "DEVICE_RESET", "a restart must know it, too"
        assert bench.off

    on_bench(tmp_path, test)


@pytest.mark.parametrize(("line", "verdict"), [(b":SOUR:VOLT", "UNPARSABLE"), (b":READ?", "STALE")])
def test_a_message_the_instrument_did_not_understand_is_told(tmp_path: Path, line: bytes, verdict: str) -> None:
    async def test(bench: VirtualBench) -> None:
        bench.start()
        await bench.until_live()
        bench.rig.line.tamper(lambda n, data: data.replace(line, b"?" + line) if n <= 1 else data)
        run = await bench.ended()
        assert run["reason"] == verdict
        told = next(event for event in bench.events() if event["kind"] == "diagnosis")
        assert "Undefined header" in told["says"] or "Invalid character" in told["says"] or "Syntax" in told["says"]

    on_bench(tmp_path, test)


def test_an_instrument_that_does_not_answer_leaves_the_verdict_as_it_is(tmp_path: Path) -> None:
    async def test(bench: VirtualBench) -> None:
        bench.start()
        await bench.until_live()
        bench.replies.edit = lambda data: data if data.count(b";") == 2 else b""
        run = await bench.ended()
        assert run["status"] == "tripped"
        assert run["reason"] == "STALE"
        assert bench.engine.state is State.TRIPPED
        assert not [event for event in bench.events() if event["kind"] == "diagnosis"]
        assert any(what == "no diagnosis" for what, _ in bench.engine.report.notices)

    on_bench(tmp_path, test)


def test_a_stop_by_a_person_is_not_questioned(tmp_path: Path) -> None:
    async def test(bench: VirtualBench) -> None:
        bench.start()
        await bench.until_live()
        bench.rig.worker.runner.stop(by="anna")
        await bench.ended()
        assert [event["kind"] for event in bench.events()] == ["cut"]

    on_bench(tmp_path, test)


def test_an_imitation_that_words_its_errors_otherwise_is_understood_too(tmp_path: Path) -> None:
    async def test(bench: VirtualBench) -> None:
        bench.start()
        await bench.until_live()
        # No quotes, no plus sign: as the set-up accepts it, so does this.
        bench.replies.edit = lambda data: data.replace(b'+803,"', b"803,").replace(b'"', b"")
        bench.rig.device.press_output_key(bench.clock.now_ns())
        bench.rig.line.poke()
        assert (await bench.ended())["reason"] == "OUTPUT_CHANGED"

    on_bench(tmp_path, test)
