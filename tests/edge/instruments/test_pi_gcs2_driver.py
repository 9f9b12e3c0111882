"""The stage driver on an emulated controller, in virtual time: what is told is verified, what fails is stopped."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.errors import InstrumentError, ReplyTimeoutError, TipguardError
from edge.instruments.stage import (
    Contact,
    Stage,
    StageError,
    StageRefusedError,
    StageStalledError,
    StageStoppedError,
    TargetOutsideError,
    TargetReadbackError,
)
from firmware_proto.gcs2 import commands
from firmware_proto.gcs2.errors import ErrorCode
from hil.devices.pi_gcs2 import AxisModel
from hil.stage_bench import StageBench, on_stage_bench
from hil.virtual import VirtualClock, run_virtual

MS = 1_000_000
S = 1_000_000_000


def test_it_satisfies_the_protocols() -> None:
    async def main(clock: VirtualClock) -> None:
        bench = StageBench(clock)
        stage: Stage = bench.stage
        contact: Contact = bench.contact
        assert stage is bench.stage
        assert contact is bench.contact

    run_virtual(main)


@pytest.mark.parametrize(
    "model",
    [{}, {"numbers": "exponent"}, {"unit": "mm"}, {"unit": "mm", "numbers": "exponent"}, {"processing_s": 0.03}],
)
def test_identity_axes_and_a_move_in_si(model: dict[str, Any]) -> None:
    async def main(bench: StageBench) -> None:
        identity = await bench.stage.start()
        assert identity.model == "E-727.3CD"
        assert list(bench.stage.axes) == ["1", "2", "3"]
        axis = bench.stage.axes["2"]
        assert (axis.low_m, axis.high_m, axis.velocity_m_s) == pytest.approx((0.0, 100e-6, 1e-3))
        for target_m in (100e-6, 0.0, 33.3333e-6):
            position = await bench.stage.move_to({"1": target_m})
            assert position["1"] == pytest.approx(target_m, abs=10e-9)
            assert bench.true_um("1") == pytest.approx(target_m * 1e6, abs=0.006)
            assert await bench.stage.on_target()
        status = await bench.stage.status()
        assert (status.moving, status.on_target, status.servo_on, status.error) == (False, True, True, 0)
        assert bench.link.strays == 0

    on_stage_bench(main, **model)


def test_several_axes_move_at_once() -> None:
    async def main(bench: StageBench) -> None:
        began_ns = bench.clock.now_ns()
        await bench.stage.move_to({"1": 10e-6, "3": 90e-6})
        assert bench.clock.now_ns() - began_ns < 0.2 * S
        assert bench.true_um("1") == pytest.approx(10, abs=0.006)
        assert bench.true_um("3") == pytest.approx(90, abs=0.006)

    on_stage_bench(main)


def test_a_status_is_dated_before_its_first_question() -> None:
    async def main(bench: StageBench) -> None:
        asked_ns = bench.clock.now_ns()
        status = await bench.stage.status()
        assert status.t_ns == asked_ns < bench.clock.now_ns()

    on_stage_bench(main)


# Start


def test_what_an_earlier_client_left_is_not_executed() -> None:
    async def main(clock: VirtualClock) -> None:
        bench = StageBench(clock, servo_on=True)
        bench.link.write(b"MOV 1 8")
        await bench.ready()
        assert bench.true_um("1") == pytest.approx(50.0, abs=1e-9)
        assert (await bench.stage.position())["1"] == pytest.approx(50e-6, abs=2e-9)

    run_virtual(main)


@pytest.mark.parametrize("missing", ["MOV?", "ONT?", "TMX?"])
def test_a_controller_that_lacks_what_is_needed_is_refused_by_name(missing: str) -> None:
    async def main(clock: VirtualClock) -> None:
        with pytest.raises(InstrumentError, match=rf"does not list {missing[:-1]}\? in HLP\?"):
            await StageBench(clock, without=frozenset({missing})).ready()

    run_virtual(main)


@pytest.mark.parametrize("without", [{"#5"}, {"#24"}, {"VEL", "VEL?", "PUN?"}, {"#24", "STP"}, {"#5", "#24", "VEL?"}])
def test_what_is_not_listed_is_done_without(without: set[str]) -> None:
    async def main(bench: StageBench) -> None:
        await bench.stage.move_to({"1": 60e-6})
        move = asyncio.ensure_future(bench.stage.move_to({"1": 100e-6}))
        await bench.pause(20 * MS)
        bench.stage.stop()
        with pytest.raises(StageStoppedError):
            await move
        await bench.stage.stopped()
        assert not bench.moving()
        assert bench.true_um("1") < 99
        assert (await bench.stage.status()).error == 0

    on_stage_bench(main, without=frozenset(without))


def test_nobody_there() -> None:
    async def main(clock: VirtualClock) -> None:
        bench = StageBench(clock)
        bench.line.tamper(lambda _n, _data: b"")
        began_ns = clock.now_ns()
        with pytest.raises(ReplyTimeoutError, match="is the stage controller on"):
            await bench.stage.start()
        assert clock.now_ns() - began_ns < 3 * S

    run_virtual(main)


@pytest.mark.parametrize("reply", ["garbage", "PUN", "travel"])
def test_a_controller_that_describes_nonsense_is_refused(reply: str) -> None:
    async def main(clock: VirtualClock) -> None:
        if reply == "PUN":
            bench = StageBench(clock)
            object.__setattr__(bench.unit.model, "unit", "furlong")
        elif reply == "travel":
            bench = StageBench(clock, axes=(AxisModel("1", low_um=0.0, high_um=1e-5),))
        else:
            bench = StageBench(clock, identity="(c) nobody")
        with pytest.raises(InstrumentError):
            await bench.ready()

    run_virtual(main)


# Refusals


def noted(sent: list[bytes], data: bytes) -> bytes:
    sent.append(data)
    return data


@pytest.mark.parametrize(
    ("targets", "axis"),
    [({"1": 100.1e-6}, "1"), ({"1": 1e-6, "2": -1e-9}, "2"), ({"Z": 0.0}, "Z"), ({"1": float("nan")}, "1"), ({}, "")],
)
def test_a_target_outside_is_refused_before_anything_is_sent(targets: dict[str, float], axis: str) -> None:
    async def main(bench: StageBench) -> None:
        sent: list[bytes] = []
        bench.line.tamper(lambda _n, data: noted(sent, data))
        with pytest.raises(TargetOutsideError) as caught:
            await bench.stage.move_to(targets)
        assert caught.value.axis == axis
        assert sent == []

    on_stage_bench(main)


def test_servo_off_is_a_refusal_with_its_number_and_no_stop() -> None:
    async def main(bench: StageBench) -> None:
        await bench.stage.servo(on=False)
        with pytest.raises(StageRefusedError, match="servo is off") as caught:
            await bench.stage.move_to({"1": 60e-6})
        assert caught.value.code == ErrorCode.NOT_REFERENCED_OR_SERVO_OFF
        await bench.pause(5 * MS)
        assert bench.unit.error == 0, "a stop would leave 10"
        assert not (await bench.stage.status()).servo_on
        await bench.stage.servo(on=True)
        await bench.stage.move_to({"1": 60e-6})

    on_stage_bench(main)


def test_a_servo_that_does_not_close_is_told() -> None:
    async def main(bench: StageBench) -> None:
        bench.line.tamper(lambda _n, data: b"" if data.startswith(b"SVO ") else data)
        with pytest.raises(StageError, match="servo of 1, 2, 3 reads back on"):
            await bench.stage.servo(on=False)

    on_stage_bench(main)


# Damage on the wire


def damaged(bench: StageBench, damage: Callable[[bytes], bytes]) -> None:
    bench.line.tamper(lambda _n, data: damage(data) if data.startswith(b"MOV ") else data)


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data.replace(b"61.5", b"6.5"),
        lambda data: data.replace(b"61.5", b"1.5"),
        lambda data: data.replace(b"61.5", b"61.6"),
        lambda data: data.replace(b"61.5", b"61.5001"),
        lambda data: data.replace(b"MOV 1 ", b"MOV 2 "),
        lambda _data: b"",
    ],
)
def test_a_target_that_changed_on_its_way_is_found_and_stopped(damage: Callable[[bytes], bytes]) -> None:
    async def main(bench: StageBench) -> None:
        damaged(bench, damage)
        with pytest.raises(TargetReadbackError, match=r"axis 1: target 61\.5 reads back"):
            await bench.stage.move_to({"1": 61.5e-6})
        await bench.pause(MS)
        assert not bench.moving()
        await bench.stage.stopped()
        # 5 to 10 ms of a 1 mm/s move: what the read-back costs on this line.
        assert abs(bench.true_um("1") - 50) < 10
        assert (await bench.stage.status()).error == 0

    on_stage_bench(main)


def test_a_lost_line_feed_executes_nothing() -> None:
    async def main(bench: StageBench) -> None:
        damaged(bench, lambda data: data.rstrip(b"\n"))
        with pytest.raises(InstrumentError):
            await bench.stage.move_to({"1": 60e-6})
        await bench.pause(S)
        assert bench.true_um("1") == pytest.approx(50.0, abs=1e-9)

    on_stage_bench(main)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 40), st.sampled_from(["drop", "flip", "cut", "double"]), st.integers(0, 7))
def test_no_single_damage_makes_a_wrong_move_count(at: int, kind: str, bit: int) -> None:
    """Whatever happens to one byte of a move: arrived where it was sent, or an error of ours and at rest."""

    def damage(data: bytes) -> bytes:
        k = at % len(data)
        if kind == "drop":
            return data[:k] + data[k + 1 :]
        if kind == "cut":
            return data[:k]
        if kind == "double":
            return data[: k + 1] + data[k:]
        return data[:k] + bytes((data[k] ^ 1 << bit,)) + data[k + 1 :]

    async def main(bench: StageBench) -> None:
        damaged(bench, damage)
        try:
            await bench.stage.move_to({"1": 61.25e-6, "2": 7.5e-6})
        except TipguardError:
            bench.line.tamper(None)
            with contextlib.suppress(ReplyTimeoutError):
                await bench.stage.stopped()
            await bench.pause(S)
            assert not bench.moving()
        else:
            assert bench.true_um("1") == pytest.approx(61.25, abs=0.01)
            assert bench.true_um("2") == pytest.approx(7.5, abs=0.01)
            assert bench.true_um("3") == pytest.approx(50.0, abs=1e-9)

    on_stage_bench(main)


# Stalls, stops, errors on the way


def test_a_jam_is_a_stall_within_its_deadline_and_is_stopped() -> None:
    async def main(bench: StageBench) -> None:
        bench.unit.stall(bench.clock.now_ns(), "1")
        began_ns = bench.clock.now_ns()
        with pytest.raises(StageStalledError, match=r"not on target after 1\.0"):
            await bench.stage.move_to({"1": 60e-6})
        assert bench.clock.now_ns() - began_ns < 1.3 * S
        await bench.stage.stopped()

    on_stage_bench(main)


def test_the_deadline_comes_from_distance_and_velocity() -> None:
    async def main(bench: StageBench) -> None:
        bench.link.write(commands.velocity({"1": 10.0}))
        await bench.stage.start()
        began_ns = bench.clock.now_ns()
        await bench.stage.move_to({"1": 100e-6})
        assert 5.0 * S < bench.clock.now_ns() - began_ns < 5.2 * S
        task = asyncio.ensure_future(bench.at(S, lambda: bench.unit.stall(bench.clock.now_ns(), "1")))
        began_ns = bench.clock.now_ns()
        with pytest.raises(StageStalledError):
            await bench.stage.move_to({"1": 50e-6})
        await task
        assert bench.clock.now_ns() - began_ns == pytest.approx((5.0 * 1.5 + 1.0) * S, rel=0.02)

    on_stage_bench(main)


def test_an_error_on_the_way_ends_the_move_at_once() -> None:
    async def main(bench: StageBench) -> None:
        task = asyncio.ensure_future(bench.at(20 * MS, lambda: bench.unit.stall(bench.clock.now_ns(), "1", error=1024)))
        began_ns = bench.clock.now_ns()
        with pytest.raises(StageError, match="went wrong: 1024") as caught:
            await bench.stage.move_to({"1": 100e-6})
        await task
        assert caught.value.code == 1024
        assert bench.clock.now_ns() - began_ns < 60 * MS

    on_stage_bench(main)


def test_a_servo_that_opens_on_the_way_is_a_stall() -> None:
    async def main(bench: StageBench) -> None:
        task = asyncio.ensure_future(bench.at(20 * MS, lambda: bench.unit.open_servo(bench.clock.now_ns(), "1")))
        with pytest.raises(StageStalledError):
            await bench.stage.move_to({"1": 100e-6})
        await task

    on_stage_bench(main)


def test_stop_returns_at_once_and_the_move_says_so() -> None:
    async def main(bench: StageBench) -> None:
        move = asyncio.ensure_future(bench.stage.move_to({"1": 100e-6}))
        await bench.pause(25 * MS)
        now_ns = bench.clock.now_ns()
        bench.stage.stop()
        assert bench.clock.now_ns() == now_ns
        await bench.pause(MS)
        assert not bench.moving()
        with pytest.raises(StageStoppedError):
            await move
        await bench.stage.stopped()
        assert bench.unit.error == 0, "the 10 of our own stop was taken"
        assert (await bench.stage.status()).error == 0
        await bench.stage.move_to({"1": 60e-6})

    on_stage_bench(main)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 55_000))
def test_a_stop_at_any_time_stops(delay_us: int) -> None:
    """Also between MOV, its ERR? and its read-back: a MOV that waits in the controller starts after the stop."""

    async def main(bench: StageBench) -> None:
        move = asyncio.ensure_future(bench.stage.move_to({"1": 100e-6}))
        await bench.pause(delay_us * 1000)
        bench.stage.stop()
        with pytest.raises(StageStoppedError):
            await move
        await bench.stage.stopped()
        here = bench.true_um("1")
        await bench.pause(S)
        assert bench.true_um("1") == here
        assert (await bench.stage.status()).error == 0

    on_stage_bench(main)


def test_a_move_that_was_on_its_way_is_stopped_by_the_second_look() -> None:
    async def main(bench: StageBench) -> None:
        bench.link.write(b"SVO 1 1\nSVO 2 1\nMOV 1 100\n")
        bench.stage.stop()
        await bench.stage.stopped()
        await bench.pause(S)
        assert bench.true_um("1") < 99

    on_stage_bench(main)


def test_stop_before_start_sends_all_it_has() -> None:
    async def main(clock: VirtualClock) -> None:
        sent: list[bytes] = []
        bench = StageBench(clock)
        bench.line.tamper(lambda _n, data: noted(sent, data))
        bench.stage.stop()
        assert b"".join(sent) == b"\x18STP\n"

    run_virtual(main)


def test_a_cancelled_move_is_stopped() -> None:
    async def main(bench: StageBench) -> None:
        move = asyncio.ensure_future(bench.stage.move_to({"1": 100e-6}))
        await bench.pause(30 * MS)
        assert bench.moving()
        move.cancel()
        with pytest.raises(asyncio.CancelledError):
            await move
        await bench.pause(MS)
        assert not bench.moving()
        await bench.stage.stopped()

    on_stage_bench(main)


def test_a_stop_before_the_move_was_sent_keeps_it_from_being_sent() -> None:
    async def main(bench: StageBench) -> None:
        sent: list[bytes] = []
        bench.line.tamper(lambda _n, data: noted(sent, data))
        move = asyncio.ensure_future(bench.stage.move_to({"1": 100e-6}))
        await bench.pause(MS)
        assert sent == [b"POS? 1 2 3\n"]
        bench.stage.stop()
        with pytest.raises(StageStoppedError):
            await move
        await bench.stage.stopped()
        assert not any(data.startswith(b"MOV ") for data in sent)

    on_stage_bench(main)


def test_somebody_else_s_stop_is_told_as_such() -> None:
    async def main(bench: StageBench) -> None:
        task = asyncio.ensure_future(bench.at(20 * MS, lambda: bench.unit.receive(bench.clock.now_ns(), b"\x18")))
        with pytest.raises(StageStoppedError, match="somebody else"):
            await bench.stage.move_to({"1": 100e-6})
        await task

    on_stage_bench(main)


def test_an_error_is_kept_until_somebody_deals_with_it() -> None:
    async def main(bench: StageBench) -> None:
        bench.unit.open_servo(bench.clock.now_ns(), "2", error=1024)
        assert (await bench.stage.status()).error == 1024
        status = await bench.stage.status()
        assert (status.error, status.servo_on, status.on_target) == (1024, False, False)
        await bench.stage.servo(on=True)
        with pytest.raises(StageRefusedError, match="1024"):
            await bench.stage.move_to({"1": 60e-6})
        assert await bench.stage.take_error() == 1024
        assert await bench.stage.take_error() == 0
        await bench.stage.move_to({"1": 60e-6})

    on_stage_bench(main)


def test_an_incremental_stage_is_referenced_once() -> None:
    async def main(bench: StageBench) -> None:
        with pytest.raises(StageRefusedError):
            await bench.stage.move_to({"1": 60e-6})
        await bench.stage.reference()
        assert bench.true_um("1") == pytest.approx(50, abs=0.5)
        await bench.stage.move_to({"1": 60e-6})
        await bench.stage.reference()
        assert bench.true_um("1") == pytest.approx(60, abs=0.01)

    on_stage_bench(main, referencing="required")


def test_an_absolute_stage_does_not_move_for_its_reference() -> None:
    async def main(bench: StageBench) -> None:
        await bench.stage.reference()
        assert not bench.moving()

    on_stage_bench(main)
