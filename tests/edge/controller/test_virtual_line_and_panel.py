"""The line and the panel: what is lost, garbled, unasked for or changed behind our back cuts, in virtual time.

Each check that protects the tip comes with a test that takes the check away and sees the harm.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import pytest

from edge.controller import engine as engine_module
from edge.controller import exchanges
from edge.errors import InstrumentError
from edge.guard.states import State
from edge.guard.verdicts import Verdict
from hil.virtual_bench import MS, VirtualBench, on_bench


def test_a_mute_instrument_is_cut_within_the_read_deadline(tmp_path: Path) -> None:
    async def test(bench: VirtualBench) -> None:
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
        assert bench.off

    on_bench(tmp_path, test)


def test_without_the_read_deadline_a_mute_instrument_stays_live(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exchanges, "DEADLINE_MAX_S", 1e6)
    monkeypatch.setattr(exchanges, "DEADLINE_MARGIN_S", 1e6)

    async def test(bench: VirtualBench) -> None:
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
    async def test(bench: VirtualBench) -> None:
        bench.start()
        await bench.until_live()
        once = iter([edit])
        bench.replies.edit = lambda data: next(once, lambda same: same)(data)
        run = await bench.ended()
        assert run["status"] == "tripped"
        assert bench.engine.report.trip_verdict is Verdict.UNPARSABLE
        assert bench.off
        samples = bench.rig.samples()
        assert samples[-1].current_a != samples[-1].current_a, "an untrusted reading became a number"

    on_bench(tmp_path, test)


def test_a_line_nobody_asked_for_cuts(tmp_path: Path) -> None:
    async def test(bench: VirtualBench) -> None:
        bench.start()
        await bench.until_live()
        once = iter([b"-1.000000E-07,+2.048400E+04\r"])
        # Doubled: from here on, which answer belongs to which question is not known.
        bench.replies.edit = lambda data: data + next(once, b"")
        run = await bench.ended()
        assert run["status"] == "tripped"
        assert bench.engine.report.trip_verdict is Verdict.UNPARSABLE
        assert bench.off

    on_bench(tmp_path, test)


def test_a_deaf_instrument_stays_in_cutting_and_is_cut_when_it_hears_again(tmp_path: Path) -> None:
    async def test(bench: VirtualBench) -> None:
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
    async def test(bench: VirtualBench) -> None:
        bench.start()
        await bench.until_live()
        bench.rig.line.unplug()
        await bench.until(lambda: bench.engine.report.alarm is not None)
        assert "LINK_LOST" in str(bench.engine.report.alarm) or "CUT_UNVERIFIED" in str(bench.engine.report.alarm)
        assert bench.engine.state is State.CUTTING
        assert bench.rig.page.energised, "the keeper must still count it as live"

    on_bench(tmp_path, test)


@pytest.mark.parametrize(
    "change",
    [b":SENS:CURR:PROT 0.00002", b":SENS:CURR:RANG 0.00001", b":OUTP:SMOD HIMP"],
    ids=["limit", "range", "off"],
)
def test_a_limit_changed_at_the_panel_is_found_within_16_samples(tmp_path: Path, change: bytes) -> None:
    async def test(bench: VirtualBench) -> None:
        bench.start()
        await bench.until_live(0.05)
        before = bench.rig.worker.recorder.samples
        bench.at_the_panel(change)
        run = await bench.ended()
        assert run["status"] == "tripped"
        assert bench.engine.report.trip_verdict is Verdict.LIMIT_CHANGED
        assert bench.rig.worker.recorder.samples - before <= exchanges.CHECK_WITHIN + 1
        assert bench.off

    on_bench(tmp_path, test)


@pytest.mark.parametrize("watched", [1, 2, 3])
def test_limit_range_and_off_mode_are_each_asked_within_16_samples(tmp_path: Path, watched: int) -> None:
    async def test(bench: VirtualBench) -> None:
        smu = bench.engine.smu
        plan = bench.engine._times.plan

        def fewer() -> None:
            # A unit that does not know the rest.
            smu.check_messages = smu.check_messages[:watched]
            plan()

        bench.engine._times.plan = fewer  # type: ignore[method-assign]
        samples_at: dict[bytes, list[int]] = {}

        def note(_n: int, data: bytes) -> bytes:
            if bench.engine.state is State.ENERGISED and data in smu.check_messages:
                samples_at.setdefault(data, []).append(bench.rig.worker.recorder.samples)
            return data

        before = bench.rig.worker.recorder.samples
        bench.rig.line.tamper(note)
        bench.start()
        assert (await bench.ended())["status"] == "completed"
        assert tuple(samples_at) == smu.check_messages, "limit first"
        assert len(samples_at) == watched
        assert samples_at[smu.check_messages[0]][0] - before <= exchanges.CHECK_EVERY == 5
        for asked in samples_at.values():
            assert len(asked) > 5
            assert all(later - earlier <= exchanges.CHECK_WITHIN == 16 for earlier, later in itertools.pairwise(asked))
            assert asked[0] - before <= exchanges.CHECK_WITHIN
            assert bench.rig.worker.recorder.samples - asked[-1] <= exchanges.CHECK_WITHIN

    on_bench(tmp_path, test)


@pytest.mark.parametrize("wanted", [0, 4])
def test_a_driver_whose_questions_do_not_come_round_in_time_is_refused(tmp_path: Path, wanted: int) -> None:
    async def test(bench: VirtualBench) -> None:
        bench.engine.smu.check_messages = bench.engine.smu.check_messages[:1] * wanted
        with pytest.raises(InstrumentError, match=f"{wanted} questions in turn .* within 16 samples"):
            bench.engine._times.plan()

    on_bench(tmp_path, test)


def test_without_the_check_query_a_raised_limit_goes_unseen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_module, "CHECK_EVERY", 10**9)

    async def test(bench: VirtualBench) -> None:
        bench.start()
        await bench.until_live(0.05)
        bench.at_the_panel(b":SENS:CURR:PROT 0.1")
        run = await bench.ended()
        assert run["status"] == "completed", "a tip ran a whole sweep behind a hundredfold limit"

    on_bench(tmp_path, test)


def test_output_off_at_the_panel_ends_the_run_within_the_read_deadline(tmp_path: Path) -> None:
    async def test(bench: VirtualBench) -> None:
        bench.start()
        await bench.until_live()
        pressed_ns = bench.clock.now_ns()
        bench.rig.device.press_output_key(pressed_ns)
        bench.rig.line.poke()
        run = await bench.ended()
        assert run["status"] == "tripped"
        assert bench.engine.report.trip_verdict is Verdict.OUTPUT_CHANGED
        assert run["reason"] == "OUTPUT_CHANGED"
        cut = next(event for event in bench.events() if event["kind"] == "cut")
        assert cut["verdict"] == "STALE", "what was known when it had to be cut"
        assert cut["verified_ns"] - pressed_ns < 200 * MS
        assert bench.clock.now_ns() - pressed_ns < 600 * MS
        assert bench.off

    on_bench(tmp_path, test)


def test_output_on_at_the_panel_while_safe_is_cut_within_a_second_and_latches(tmp_path: Path) -> None:
    async def test(bench: VirtualBench) -> None:
        assert bench.engine.state is State.SAFE
        pressed_ns = bench.clock.now_ns()
        bench.rig.device.press_output_key(pressed_ns)
        bench.rig.line.poke()
        await bench.until(lambda: bench.rig.device.output_on)
        await bench.until(lambda: bench.engine.state is State.TRIPPED)
        assert bench.engine.report.trip_verdict is Verdict.OUTPUT_CHANGED
        assert bench.clock.now_ns() - pressed_ns < 1_200 * MS
        assert bench.off

    on_bench(tmp_path, test)
