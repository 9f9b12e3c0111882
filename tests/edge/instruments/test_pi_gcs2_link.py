"""The stage's link, and contact, on an emulated controller: late, missing, damaged and noisy replies."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.errors import InstrumentError, LinkLostError, ReplyTimeoutError, TipguardError
from edge.instruments.contact import HOLD_S, AnalogContact
from edge.instruments.gcs_link import MAX_UNSENT
from firmware_proto.gcs2 import commands
from hil.stage_bench import StageBench, on_stage_bench
from hil.virtual import VirtualClock, run_virtual

MS = 1_000_000
S = 1_000_000_000


# The link


def test_a_late_reply_is_not_the_answer_to_the_next_question() -> None:
    async def main(bench: StageBench) -> None:
        # The controller answers POS? 0.7 s after it was asked, in the middle of the next question.
        held = bench.unit._processing_ns
        bench.unit._processing_ns = 700 * MS
        with pytest.raises(ReplyTimeoutError):
            await bench.stage.position()
        bench.unit._processing_ns = held
        await bench.stage.move_to({"1": 60e-6})
        assert bench.true_um("1") == pytest.approx(60, abs=0.01)
        assert bench.link.strays == 1

    on_stage_bench(main)


def test_a_doubled_reply_puts_the_line_out_of_step_for_one_question_only() -> None:
    async def main(bench: StageBench) -> None:
        wire = bench.unit._wire
        assert wire is not None
        send = wire.send

        def twice(t_ns: int, data: bytes) -> None:
            send(t_ns, data)
            send(t_ns, data)

        bench.unit._wire = type("Twice", (), {"send": staticmethod(twice), "discard": wire.discard})()
        await bench.stage.position()
        bench.unit._wire = wire
        # The second copy is taken for the answer to #5, and is none.
        with pytest.raises(InstrumentError):
            await bench.stage.status()
        status = await bench.stage.status()
        assert (status.moving, status.on_target) == (False, True)

    on_stage_bench(main)


def test_an_unplugged_cable_is_a_lost_link_and_a_stop_does_not_raise() -> None:
    async def main(bench: StageBench) -> None:
        told: list[LinkLostError] = []
        bench.link.on_lost = told.append
        task = asyncio.ensure_future(bench.at(20 * MS, bench.line.unplug))
        with pytest.raises(LinkLostError):
            await bench.stage.move_to({"1": 100e-6})
        await task
        bench.stage.stop()
        with pytest.raises(LinkLostError):
            await bench.stage.position()
        assert len(told) == 1

    on_stage_bench(main)


def test_two_askers_take_turns() -> None:
    async def main(bench: StageBench) -> None:
        results = await asyncio.gather(
            bench.stage.move_to({"1": 60e-6}), bench.stage.status(), bench.contact.signal_v(), bench.stage.position()
        )
        assert results[0]["1"] == pytest.approx(60e-6, abs=10e-9)
        assert results[2] == pytest.approx(0.02)
        assert bench.link.strays == 0

    on_stage_bench(main)


def test_a_second_question_without_the_lock_is_a_bug_that_shows() -> None:
    async def main(bench: StageBench) -> None:
        first = asyncio.ensure_future(bench.link.query(b"POS?\n", 1.0))
        await asyncio.sleep(0)
        with pytest.raises(InstrumentError, match="before the last one was answered"):
            await bench.link.query(b"POS?\n", 1.0)
        await first

    on_stage_bench(main)


def test_a_line_that_takes_little_or_nothing() -> None:
    async def main(bench: StageBench) -> None:
        bench.line.short_writes(0)
        for _ in range(5000):
            bench.stage.stop()
        assert len(bench.link._unsent) <= MAX_UNSENT + 1
        bench.line.short_writes(None)
        await bench.stage.stopped()
        await bench.stage.move_to({"1": 60e-6})

    on_stage_bench(main)


def test_a_stop_that_the_line_did_not_take_goes_out_once_it_does() -> None:
    async def main(bench: StageBench) -> None:
        bench.link.write(commands.move({"1": 100.0}))
        await bench.pause(10 * MS)
        bench.line.short_writes(0)
        bench.stage.stop()
        await bench.pause(10 * MS)
        assert bench.moving()
        bench.line.short_writes(None)
        await bench.pause(10 * MS)
        assert not bench.moving()

    on_stage_bench(main)


def test_a_line_of_noise_is_given_up() -> None:
    async def main(bench: StageBench) -> None:
        stop = asyncio.Event()

        async def noise() -> None:
            while not stop.is_set():
                bench.line.transport._arrive(b"x")
                await bench.pause(50 * MS)

        bench.line.tamper(lambda _n, _data: b"")
        with pytest.raises(ReplyTimeoutError):
            await bench.stage.position()
        bench.line.tamper(None)
        task = asyncio.ensure_future(noise())
        with pytest.raises(InstrumentError, match="does not get quiet"):
            await bench.stage.position()
        stop.set()
        await task
        await bench.pause(S)
        assert (await bench.stage.position())["1"] == pytest.approx(50e-6, abs=2e-9)

    on_stage_bench(main)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.binary(min_size=1, max_size=20), min_size=1, max_size=6))
def test_any_garbage_for_a_reply_is_a_typed_error_of_ours(garbage: list[bytes]) -> None:
    async def main(bench: StageBench) -> None:
        pieces = list(garbage)

        def answer(_n: int, _data: bytes) -> bytes:
            if pieces:
                bench.clock.call_at(bench.clock.now_ns() + MS, lambda: bench.line.transport._arrive(pieces.pop(0)))
            return b""

        bench.line.tamper(answer)
        with pytest.raises(TipguardError):
            await bench.stage.move_to({"1": 60e-6})

    on_stage_bench(main)


# Contact


def test_contact_holds_for_20_ms() -> None:
    async def main(bench: StageBench) -> None:
        assert not await bench.contact.in_contact()
        await bench.stage.move_to({"3": 50.05e-6})
        began_ns = bench.clock.now_ns()
        assert await bench.contact.in_contact()
        assert bench.clock.now_ns() - began_ns >= HOLD_S * S
        await bench.stage.move_to({"3": 49e-6})
        assert not await bench.contact.in_contact()

    on_stage_bench(main)


@pytest.mark.parametrize(("bump_ms", "contact"), [(5, False), (15, False), (60, True)])
def test_a_bump_is_no_contact(bump_ms: int, contact: bool) -> None:
    async def main(bench: StageBench) -> None:
        bench.surface.idle_v = 2.0

        def fall() -> None:
            bench.surface.idle_v = 0.02

        task = asyncio.ensure_future(bench.at(bump_ms * MS, fall))
        assert await bench.contact.in_contact() is contact
        await task

    on_stage_bench(main)


def test_without_tav_contact_is_unknown_not_absent() -> None:
    async def main(bench: StageBench) -> None:
        with pytest.raises(InstrumentError, match=r"has no TAV\?"):
            await bench.contact.in_contact()

    on_stage_bench(main, analog_inputs=0)


def test_a_mute_input_is_an_error_not_air() -> None:
    async def main(bench: StageBench) -> None:
        bench.line.tamper(lambda _n, data: b"" if data.startswith(b"TAV?") else data)
        with pytest.raises(ReplyTimeoutError):
            await bench.contact.in_contact()

    on_stage_bench(main)


@pytest.mark.parametrize(
    "options", [{"channel": 0, "threshold_v": 1.0}, {"threshold_v": float("nan")}, {"threshold_v": 11.0}]
)
def test_thresholds_and_channels_that_cannot_be(options: dict[str, Any]) -> None:
    async def main(clock: VirtualClock) -> None:
        with pytest.raises(ValueError, match="must be"):
            AnalogContact(StageBench(clock).controller, **options)

    run_virtual(main)
