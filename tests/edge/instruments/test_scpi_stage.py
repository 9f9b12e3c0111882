"""The driver of a command map on an emulated controller, in virtual time: two dialects, the same promises."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edge.errors import (
    InstrumentError,
    ReplyTimeoutError,
    WrongInstrumentError,
)
from edge.instruments.stage import (
    Contact,
    Remarking,
    Stage,
    StageError,
    StageRefusedError,
    TargetOutsideError,
)
from firmware_proto.stage_map import StageMap
from hil.described_bench import DescribedBench, map_from, on_described_bench
from hil.virtual import VirtualClock, run_virtual

MS = 1_000_000
S = 1_000_000_000
ROOT = Path(__file__).resolve().parents[3]
SCPI_FILE = ROOT / "deploy/examples/stage-scpi.toml"
ODD_FILE = Path(__file__).parent / "maps/odd.toml"
SCPI, ODD = map_from(SCPI_FILE), map_from(ODD_FILE)
DIALECTS = pytest.mark.parametrize("rules", [SCPI, ODD], ids=["scpi", "odd"])


def scpi(change: Callable[[dict[str, Any]], object]) -> StageMap:
    return map_from(SCPI_FILE, change)


def faster(data: dict[str, Any]) -> None:
    """1 mm/s, as the stage of the PI tests: a move is over in tenths of a second."""
    for axis in data["axes"].values():
        axis["velocity_m_s"] = 1000e-6
    data["emulated"]["processing_s"] = 0.001


FAST = scpi(faster)
FASTER = pytest.mark.parametrize("rules", [FAST, ODD], ids=["scpi", "odd"])


def noted(sent: list[bytes], data: bytes) -> bytes:
    sent.append(data)
    return data


def quick(change: Callable[[dict[str, Any]], object]) -> StageMap:
    """The fast one, changed."""

    def both(data: dict[str, Any]) -> None:
        faster(data)
        change(data)

    return scpi(both)


def first(bench: DescribedBench) -> str:
    return next(iter(bench.stage.axes))


def test_it_satisfies_the_protocols() -> None:
    async def main(bench: DescribedBench) -> None:
        stage: Stage = bench.stage
        contact: Contact = bench.contact
        assert isinstance(stage, Remarking)
        assert contact is bench.contact

    on_described_bench(SCPI, main)


# Start, looks, moves


@DIALECTS
def test_identity_axes_and_moves_in_si(rules: StageMap) -> None:
    async def main(bench: DescribedBench) -> None:
        identity = await bench.stage.start()
        told = rules.emulated
        assert (identity.model, identity.serial_number, identity.firmware) == (told.model, told.serial, told.firmware)
        assert list(bench.stage.axes) == list(rules.axes)
        for name, axis in bench.stage.axes.items():
            described = rules.axes[name]
            assert axis.low_m == pytest.approx(described.low_m, abs=1e-12)
            assert axis.high_m == pytest.approx(described.high_m, abs=1e-12)
            assert axis.velocity_m_s == pytest.approx(described.velocity_m_s)
            for target_m in (axis.high_m, axis.low_m, axis.low_m + 23.4567e-6):
                position = await bench.stage.move_to({name: target_m})
                assert position[name] == pytest.approx(target_m, abs=10e-9)
                assert bench.true_um(name) == pytest.approx(target_m * 1e6, abs=0.008)
                assert await bench.stage.on_target()
        status = await bench.stage.status()
        assert (status.moving, status.on_target, status.servo_on, status.error) == (False, True, True, 0)
        assert bench.link.strays == 0
        assert bench.stage.remarks == ()

    on_described_bench(rules, main)


@FASTER
def test_several_axes_move_at_once(rules: StageMap) -> None:
    async def main(bench: DescribedBench) -> None:
        a, b, _ = bench.stage.axes
        began_ns = bench.clock.now_ns()
        await bench.stage.move_to({a: 5e-6, b: 85e-6})
        assert bench.clock.now_ns() - began_ns < 0.2 * S
        assert bench.true_um(a) == pytest.approx(5, abs=0.008)
        assert bench.true_um(b) == pytest.approx(85, abs=0.008)

    on_described_bench(rules, main)


@DIALECTS
def test_a_status_is_dated_before_its_first_question_and_costs_less_than_an_interlock_has(rules: StageMap) -> None:
    async def main(bench: DescribedBench) -> None:
        asked_ns = bench.clock.now_ns()
        status = await bench.stage.status()
        assert status.t_ns == asked_ns < bench.clock.now_ns()
        assert bench.clock.now_ns() - asked_ns < 50 * MS

    on_described_bench(rules, main)


@DIALECTS
def test_start_asks_everything_and_sets_nothing(rules: StageMap) -> None:
    async def main(clock: VirtualClock) -> None:
        sent: list[bytes] = []
        bench = DescribedBench(clock, rules)
        bench.line.tamper(lambda _n, data: noted(sent, data))
        await bench.stage.start()
        said = b"".join(sent).decode("ascii")
        assert rules.stop.message.decode("latin-1") not in said
        assert rules.move.command.head.strip(" ,") + " " not in said.replace("?", " ?").replace(" ?", "?")
        for template in (rules.identify.query, rules.position.query.head, rules.contact.query.head):
            assert template in said
        assert not bench.moving()

    run_virtual(main)


@DIALECTS
def test_what_an_earlier_client_left_is_not_executed(rules: StageMap) -> None:
    async def main(clock: VirtualClock) -> None:
        bench = DescribedBench(clock, rules)
        name = next(iter(rules.axes))
        before = bench.true_um(name)
        left = rules.line.encode(rules.move.messages({name: "8"}, rules.wires)[0][0])[:-1]
        bench.link.write(left)
        await bench.ready()
        await bench.stage.take_error()
        assert bench.true_um(name) == before
        await bench.stage.move_to({name: 10e-6})

    run_virtual(main)


def test_nobody_there() -> None:
    async def main(clock: VirtualClock) -> None:
        bench = DescribedBench(clock, SCPI)
        bench.line.tamper(lambda _n, _data: b"")
        began_ns = clock.now_ns()
        with pytest.raises(ReplyTimeoutError, match="is the stage controller on"):
            await bench.stage.start()
        assert clock.now_ns() - began_ns < 3 * S

    run_virtual(main)


def test_another_model_is_refused() -> None:
    async def main(clock: VirtualClock) -> None:
        bench = DescribedBench(clock, scpi(lambda data: data["emulated"].update(model="SPM-5")), of_client=SCPI)
        with pytest.raises(WrongInstrumentError, match="model 'SPM-5' answers, the command map is for 'SPM-4'"):
            await bench.stage.start()

    run_virtual(main)


DIFFERENT: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "unit": (lambda data: data["axes"]["x"].update(unit_m=1e-9, reply_decimals=1), "not a number as"),
    "words": (lambda data: data["moving"].update(true=["Y"], false=["N"]), "not one of N, Y"),
    "contact": (lambda data: data["contact"].update(query="MEAS:CURR? {channel}"), "no reply to 'MEAS:CURR"),
    "target": (lambda data: data["target"].update(query="MOVE:TARG? {axis}"), "no reply to 'MOVE:TARG"),
    "error": (lambda data: data["error"].update(none=[1]), "does not end; is error.none right"),
    "end": (lambda data: data["line"].update(reply_end="CRLF"), "no reply to"),
}


@pytest.mark.parametrize("what", DIFFERENT)
def test_a_map_that_is_not_this_controller_s_fails_at_the_start(what: str) -> None:
    change, said = DIFFERENT[what]

    async def main(clock: VirtualClock) -> None:
        with pytest.raises(InstrumentError, match=said):
            await DescribedBench(clock, SCPI, of_client=scpi(change)).ready()

    run_virtual(main)


def test_a_unit_that_puts_an_axis_outside_its_travel_fails_at_the_start() -> None:
    def loose(data: dict[str, Any]) -> None:
        data["axes"]["x"] |= {"unit_m": 1e-5, "high_m": 100e-6}
        del data["limits"], data["axes"]["x"]["reply_decimals"]

    async def main(clock: VirtualClock) -> None:
        with pytest.raises(
            InstrumentError, match=r"axis x says 500\.\d+ um and its travel is 0 to 100 um; look at unit_m"
        ):
            await DescribedBench(clock, SCPI, of_client=scpi(loose)).ready()

    run_virtual(main)


def test_the_map_narrows_travel_and_velocity_and_never_widens_them() -> None:
    def wide(data: dict[str, Any]) -> None:
        data["axes"]["x"] |= {"low_m": 10e-6, "high_m": 300e-6, "velocity_m_s": 10e-6}
        data["axes"]["y"] |= {"velocity_m_s": 1.0}

    async def main(clock: VirtualClock) -> None:
        bench = await DescribedBench(clock, SCPI, of_client=scpi(wide)).ready()
        x, y = bench.stage.axes["x"], bench.stage.axes["y"]
        assert (x.low_m, x.high_m, x.velocity_m_s) == pytest.approx((10e-6, 100e-6, 10e-6))
        assert y.velocity_m_s == pytest.approx(200e-6)

    run_virtual(main)


# Refusals


@DIALECTS
def test_a_target_outside_is_refused_before_anything_is_sent(rules: StageMap) -> None:
    async def main(bench: DescribedBench) -> None:
        sent: list[bytes] = []
        bench.line.tamper(lambda _n, data: noted(sent, data))
        name, axis = next(iter(bench.stage.axes.items()))
        for target_m in (axis.high_m + 1e-9, axis.low_m - 1e-9, float("nan"), float("inf")):
            with pytest.raises(TargetOutsideError):
                await bench.stage.move_to({name: target_m})
        with pytest.raises(TargetOutsideError):
            await bench.stage.move_to({"Q": 0.0})
        assert sent == []

    on_described_bench(rules, main)


@DIALECTS
def test_what_the_controller_refuses_is_told_with_its_number_and_followed_by_a_stop(rules: StageMap) -> None:
    async def main(bench: DescribedBench) -> None:
        name = first(bench)
        bench.unit.open_servo(bench.clock.now_ns(), name)
        stops = bench.unit._unit._n_stops
        with pytest.raises(StageRefusedError, match="a move was refused") as caught:
            await bench.stage.move_to({name: 60e-6})
        # Where the error is a bit of a status word and the refusal came in the acknowledgement, it has its own number.
        assert caught.value.code == rules.emulated.state
        await bench.pause(20 * MS)
        assert bench.unit._unit._n_stops == stops + 1
        assert not bench.moving()
        assert (await bench.stage.status()).error == 0

    on_described_bench(rules, main)


def test_servos_are_set_and_read_back() -> None:
    async def main(bench: DescribedBench) -> None:
        await bench.stage.servo(on=False)
        assert not (await bench.stage.status()).servo_on
        await bench.stage.servo(on=True)
        assert (await bench.stage.status()).servo_on
        bench.line.tamper(lambda _n, data: b"" if data.startswith(b"CONT:LOOP Z") else data)
        with pytest.raises(StageError, match="a servo does not read back off"):
            await bench.stage.servo(on=False)

    on_described_bench(SCPI, main)


def test_a_map_without_servo_commands_says_so() -> None:
    async def main(bench: DescribedBench) -> None:
        with pytest.raises(StageError, match=r"no \[servo\]"):
            await bench.stage.servo(on=True)

    on_described_bench(ODD, main)


def test_axes_are_referenced_once() -> None:
    def incremental(data: dict[str, Any]) -> None:
        faster(data)
        data["reference"] = {
            "command": "MOVE:HOME {axis}",
            "query": "STAT:HOME? {axis}",
            "reply": "{state}",
            "true": ["1"],
            "false": ["0"],
        }

    async def main(bench: DescribedBench) -> None:
        with pytest.raises(StageRefusedError):
            await bench.stage.move_to({"x": 60e-6})
        await bench.stage.reference()
        assert bench.true_um("x") == pytest.approx(50, abs=0.5)
        await bench.stage.move_to({"x": 60e-6})
        await bench.stage.reference()
        assert bench.true_um("x") == pytest.approx(60, abs=0.01)

    on_described_bench(scpi(incremental), main, referenced=False)
