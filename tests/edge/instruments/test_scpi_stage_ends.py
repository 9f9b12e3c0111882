"""How moves of a described stage end otherwise: stalls, stops, errors, a mute or lost line, odd vocabularies."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.errors import (
    ConfigError,
    InstrumentError,
    LinkLostError,
    ReplyTimeoutError,
)
from edge.instruments.stage import (
    StageError,
    StageRefusedError,
    StageStalledError,
    StageStoppedError,
)
from firmware_proto.stage_map import StageMap
from hil.described_bench import DescribedBench, map_from, on_described_bench
from hil.virtual import VirtualClock, run_virtual
from tests.edge.instruments.test_scpi_stage import (
    DIALECTS,
    FAST,
    FASTER,
    MS,
    ODD,
    ODD_FILE,
    SCPI,
    SCPI_FILE,
    S,
    faster,
    first,
    quick,
    scpi,
)
from tests.edge.instruments.test_scpi_stage_damage import damaged

# Stalls, stops, errors on the way


@FASTER
def test_a_jam_is_a_stall_within_its_deadline_and_is_stopped(rules: StageMap) -> None:
    async def main(bench: DescribedBench) -> None:
        name = first(bench)
        bench.unit.stall(bench.clock.now_ns(), name)
        began_ns = bench.clock.now_ns()
        with pytest.raises(StageStalledError, match="not on target after"):
            await bench.stage.move_to({name: 60e-6})
        assert bench.clock.now_ns() - began_ns < (rules.move.settle_s + 0.3) * S
        await bench.stage.stopped()

    on_described_bench(rules, main)


@FASTER
def test_an_error_on_the_way_ends_the_move_at_once(rules: StageMap) -> None:
    async def main(bench: DescribedBench) -> None:
        name = first(bench)
        task = asyncio.ensure_future(bench.at(20 * MS, lambda: bench.unit.stall(bench.clock.now_ns(), name, error=77)))
        began_ns = bench.clock.now_ns()
        with pytest.raises(StageError, match="went wrong") as caught:
            await bench.stage.move_to({name: 88e-6})
        await task
        assert caught.value.code == (77 if rules is FAST else 0x1000)
        assert bench.clock.now_ns() - began_ns < 90 * MS

    on_described_bench(rules, main)


@FASTER
def test_a_servo_that_opens_on_the_way_is_a_stall(rules: StageMap) -> None:
    async def main(bench: DescribedBench) -> None:
        name = first(bench)
        task = asyncio.ensure_future(bench.at(20 * MS, lambda: bench.unit.open_servo(bench.clock.now_ns(), name)))
        with pytest.raises(StageStalledError):
            await bench.stage.move_to({name: 88e-6})
        await task

    on_described_bench(rules, main)


def test_a_controller_that_calls_the_last_target_its_own_has_not_arrived() -> None:
    """On target and at rest for 30 ms after a move was sent, as a controller that begins late: the position tells."""

    async def main(bench: DescribedBench) -> None:
        unit = bench.unit._unit
        until_ns = bench.clock.now_ns() + 60 * MS
        truly = unit.on_target, unit.moves
        late: Any = unit
        late.on_target = lambda axes: True if unit.now_ns < until_ns else truly[0](axes)
        late.moves = lambda axes: False if unit.now_ns < until_ns else truly[1](axes)
        bench.unit._vocabulary = type(bench.unit._vocabulary)(FAST, unit)
        position = await bench.stage.move_to({"x": 90e-6})
        assert position["x"] == pytest.approx(90e-6, abs=10e-9)

    on_described_bench(FAST, main)


@settings(max_examples=60, deadline=None)
@given(st.sampled_from([FAST, ODD]), st.integers(1, 45_000))
def test_a_stop_at_any_time_stops(rules: StageMap, delay_us: int) -> None:
    """Also between the move, its acknowledgement and its read-back."""

    async def main(bench: DescribedBench) -> None:
        name = first(bench)
        move = asyncio.ensure_future(bench.stage.move_to({name: 89e-6}))
        await bench.pause(delay_us * 1000)
        now_ns = bench.clock.now_ns()
        bench.stage.stop()
        assert bench.clock.now_ns() == now_ns
        with pytest.raises(StageStoppedError):
            await move
        await bench.stage.stopped()
        here = bench.true_um(name)
        await bench.pause(S)
        assert bench.true_um(name) == here
        status = await bench.stage.status()
        assert (status.moving, status.error) == (False, 0)
        assert bench.link.strays == 0
        await bench.stage.move_to({name: 60e-6})

    on_described_bench(rules, main)


@FASTER
def test_a_cancelled_move_is_stopped(rules: StageMap) -> None:
    async def main(bench: DescribedBench) -> None:
        name = first(bench)
        move = asyncio.ensure_future(bench.stage.move_to({name: 89e-6}))
        await bench.pause(30 * MS)
        assert bench.moving()
        move.cancel()
        with pytest.raises(asyncio.CancelledError):
            await move
        await bench.pause(10 * MS)
        assert not bench.moving()
        await bench.stage.stopped()

    on_described_bench(rules, main)


def test_a_stop_that_leaves_an_error_code_behind_is_no_error_and_somebody_else_s_is() -> None:
    rules = quick(lambda data: data["error"].update(stopped=[-310]))

    async def main(bench: DescribedBench) -> None:
        bench.stage.stop()
        await bench.stage.stopped()
        assert (await bench.stage.status()).error == 0
        task = asyncio.ensure_future(
            bench.at(20 * MS, lambda: bench.unit.receive(bench.clock.now_ns(), b"MOVE:STOP\n"))
        )
        with pytest.raises(StageStoppedError, match="somebody else"):
            await bench.stage.move_to({"x": 100e-6})
        await task

    on_described_bench(rules, main)


@DIALECTS
def test_an_error_is_kept_until_somebody_deals_with_it(rules: StageMap) -> None:
    async def main(bench: DescribedBench) -> None:
        name = first(bench)
        bench.unit.fail(bench.clock.now_ns(), 55)
        code = (await bench.stage.status()).error
        assert code == (55 if rules is SCPI else 0x1000)
        assert (await bench.stage.status()).error == code
        with pytest.raises(StageRefusedError, match="was not dealt with"):
            await bench.stage.move_to({name: 60e-6})
        assert await bench.stage.take_error() == code
        assert await bench.stage.take_error() == 0
        await bench.stage.move_to({name: 60e-6})

    on_described_bench(rules, main)


def test_a_queue_of_errors_is_asked_until_there_is_none() -> None:
    async def main(bench: DescribedBench) -> None:
        for code in (5, 6, 7):
            bench.unit.fail(bench.clock.now_ns(), code)
        assert await bench.stage.take_error() == 5
        assert (await bench.stage.status()).error == 0

    on_described_bench(SCPI, main)


# Late, mute, unplugged


@FASTER
def test_a_late_reply_is_not_the_answer_to_the_next_question(rules: StageMap) -> None:
    async def main(bench: DescribedBench) -> None:
        name = first(bench)
        # Later than its time-out, in the silence that follows, where it is a stray.
        late_ns = int((rules.line.reply_timeout_s + 0.2) * S)
        held, bench.unit._processing_ns = bench.unit._processing_ns, late_ns
        with pytest.raises(ReplyTimeoutError):
            await bench.stage.position()
        bench.unit._processing_ns = held
        await bench.stage.move_to({name: 60e-6})
        assert bench.true_um(name) == pytest.approx(60, abs=0.01)
        assert bench.link.strays == 1

    on_described_bench(rules, main)


@FASTER
def test_a_mute_controller_is_a_time_out_and_the_stop_was_sent(rules: StageMap) -> None:
    async def main(bench: DescribedBench) -> None:
        name = first(bench)
        wire, bench.unit._wire = bench.unit._wire, None
        with pytest.raises(ReplyTimeoutError):
            await bench.stage.move_to({name: 60e-6})
        bench.unit._wire = wire
        move = asyncio.ensure_future(bench.stage.move_to({name: 88e-6}))
        await bench.pause(400 * MS if rules is FAST else 320 * MS)
        bench.unit._wire = None
        with pytest.raises((ReplyTimeoutError, StageStoppedError)):
            await asyncio.wait_for(move, 30)
        await bench.pause(20 * MS)
        assert not bench.moving()

    on_described_bench(slower_of(rules), main)


def slower_of(rules: StageMap) -> StageMap:
    """The same dialect at 20 um/s: a move that is still under way when the line goes mute."""

    def change(data: dict[str, Any]) -> None:
        for axis in data["axes"].values():
            axis["velocity_m_s"] = 20e-6

    return map_from(SCPI_FILE if rules is FAST else ODD_FILE, change)


@DIALECTS
def test_an_unplugged_cable_is_a_lost_link_and_a_stop_does_not_raise(rules: StageMap) -> None:
    async def main(bench: DescribedBench) -> None:
        told: list[LinkLostError] = []
        bench.link.on_lost = told.append
        task = asyncio.ensure_future(bench.at(20 * MS, bench.line.unplug))
        with pytest.raises(LinkLostError):
            await bench.stage.move_to({first(bench): 89e-6})
        await task
        bench.stage.stop()
        with pytest.raises(LinkLostError):
            await bench.stage.position()
        assert len(told) == 1

    on_described_bench(rules, main)


@DIALECTS
def test_garbage_on_the_line_is_an_error_and_not_a_number(rules: StageMap) -> None:
    async def main(bench: DescribedBench) -> None:
        wire = bench.unit._wire
        assert wire is not None
        for junk in (b"\xff\xfe\r\n", b"x" * 5000 + b"\r\n", b"nan\r\n", b"1e999\r\n"):
            position = asyncio.ensure_future(bench.stage.position())
            await bench.pause(100_000)
            wire.send(bench.clock.now_ns(), junk)
            with pytest.raises(InstrumentError):
                await position
            await bench.pause(S)
        assert first(bench) in await bench.stage.position()

    on_described_bench(rules, main)


def test_a_power_cycle_in_the_middle_of_a_move_is_never_an_arrival() -> None:
    async def main(bench: DescribedBench) -> None:
        task = asyncio.ensure_future(bench.at(30 * MS, lambda: bench.unit.power_cycle(bench.clock.now_ns())))
        with pytest.raises(StageError):
            await bench.stage.move_to({"x": 100e-6})
        await task
        assert not bench.moving()

    on_described_bench(FAST, main)


# Contact


@DIALECTS
def test_contact_is_a_voltage_above_the_threshold_for_its_time(rules: StageMap) -> None:
    async def main(bench: DescribedBench) -> None:
        z = list(bench.stage.axes)[-1]
        surface_m = bench.surface.surface_m
        await bench.stage.move_to({z: surface_m - 1e-6})
        assert await bench.contact.signal_v() == pytest.approx(0.02, abs=1e-4)
        assert not await bench.contact.in_contact()
        await bench.stage.move_to({z: surface_m + 20e-9})
        began_ns = bench.clock.now_ns()
        assert await bench.contact.in_contact()
        assert bench.clock.now_ns() - began_ns >= 20 * MS
        bench.unit._unit.mechanics = bench.surface
        bench.line.tamper(lambda _n, _data: b"")
        with pytest.raises(InstrumentError):
            await bench.contact.in_contact()

    on_described_bench(rules, main)


# Controllers that can say less


def test_on_target_only() -> None:
    async def main(bench: DescribedBench) -> None:
        assert any("whether it moves" in remark for remark in bench.stage.remarks)
        await bench.stage.move_to({"x": 60e-6})
        move = asyncio.ensure_future(bench.stage.move_to({"x": 100e-6}))
        await bench.pause(25 * MS)
        assert (await bench.stage.status()).moving
        bench.stage.stop()
        with pytest.raises(StageStoppedError):
            await move
        await bench.stage.stopped()

    on_described_bench(quick(lambda data: data.pop("moving")), main)


@pytest.mark.parametrize("readback", [True, False])
def test_moving_only(*, readback: bool) -> None:
    def change(data: dict[str, Any]) -> None:
        faster(data)
        del data["on_target"]
        if not readback:
            data["target"] = {"verify": "position"}

    async def main(bench: DescribedBench) -> None:
        assert any("whether it is on target" in remark for remark in bench.stage.remarks)
        assert (await bench.stage.status()).on_target
        await bench.stage.move_to({"x": 60e-6})
        assert bench.true_um("x") == pytest.approx(60, abs=0.02)
        # Jammed short of its target: at rest, and not on target.
        task = asyncio.ensure_future(bench.at(15 * MS, lambda: bench.unit.stall(bench.clock.now_ns(), "x")))
        with pytest.raises(StageStalledError):
            await bench.stage.move_to({"x": 100e-6})
        await task

    on_described_bench(scpi(change), main)


def test_no_servo_in_the_map_is_told() -> None:
    async def main(bench: DescribedBench) -> None:
        assert any("loops are closed" in remark for remark in bench.stage.remarks)
        assert (await bench.stage.status()).servo_on

    on_described_bench(scpi(lambda data: data.pop("servo")), main)


# Echo


def test_a_controller_that_echoes_and_what_an_echo_shows() -> None:
    rules = quick(lambda data: data["line"].update(echo=True))

    async def main(bench: DescribedBench) -> None:
        await bench.stage.move_to({"x": 61.5e-6})
        assert bench.link.strays == 0
        bench.stage.stop()
        await bench.stage.stopped()
        assert bench.link.strays == 0
        damaged(bench, lambda data: data.replace(b"71.5", b"7.5"))
        with pytest.raises(InstrumentError, match=r"'MOVE:ABS X,71\.5' comes back as b'MOVE:ABS X,7\.5'"):
            await bench.stage.move_to({"x": 71.5e-6})
        await bench.pause(10 * MS)
        assert not bench.moving()
        bench.line.tamper(None)
        await bench.stage.stopped()
        await bench.stage.move_to({"x": 60e-6})

    on_described_bench(rules, main)


# Acknowledged stops


def acknowledged(data: dict[str, Any]) -> None:
    faster(data)
    data["acknowledge"] = {"ok": "0", "error": "{code}"}


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 45_000))
def test_the_acknowledgement_of_a_stop_is_never_the_answer_to_a_question(delay_us: int) -> None:
    """The acknowledgement is "0" here, and so is "does not move"."""

    async def main(bench: DescribedBench) -> None:
        move = asyncio.ensure_future(bench.stage.move_to({"x": 100e-6}))
        await bench.pause(delay_us * 1000)
        bench.stage.stop()
        bench.stage.stop()
        with pytest.raises(StageStoppedError):
            await move
        await bench.stage.stopped()
        assert not bench.moving()
        assert bench.link.strays == 0
        await bench.stage.move_to({"x": 60e-6})
        assert bench.true_um("x") == pytest.approx(60, abs=0.01)

    on_described_bench(scpi(acknowledged), main)


def test_a_lost_acknowledgement_of_a_stop_costs_one_time_out_at_most() -> None:
    async def main(bench: DescribedBench) -> None:
        bench.line.tamper(lambda _n, data: b"" if data.startswith(b"MOVE:STOP") else data)
        bench.stage.stop()
        bench.line.tamper(None)
        # "0" would be the answer, and is what the stop still owes: whose it is cannot be told, so it is nobody's.
        with pytest.raises(ReplyTimeoutError):
            await bench.stage.on_target()
        bench.line.tamper(lambda _n, data: b"" if data.startswith(b"MOVE:STOP") else data)
        bench.stage.stop()
        bench.line.tamper(None)
        # "50.0000" is no acknowledgement: there the answer is known.
        assert (await bench.stage.position())["x"] == pytest.approx(50e-6, abs=5e-9)
        await bench.stage.move_to({"x": 60e-6})

    on_described_bench(scpi(acknowledged), main)


def test_an_open_stage_without_a_map_is_a_configuration_error() -> None:
    from edge.instruments.drivers import make_stage
    from hil.map_bench import map_config

    async def main(clock: VirtualClock) -> None:
        bench = DescribedBench(clock, SCPI)
        config = map_config(stage={"driver": "scpi-stage"})
        with pytest.raises(ConfigError, match=r"stage\.command_map: is missing"):
            make_stage(bench.line.transport, clock, config)
        config = map_config(stage={"driver": "scpi-stage", "command_map": str(SCPI_FILE)})
        stage, contact = make_stage(bench.line.transport, clock, config)
        assert (await stage.start()).model == "SPM-4"
        assert await contact.signal_v() == pytest.approx(0.02)

    run_virtual(main)
