"""Damage on the line of a described stage: no digit, byte or reply that is lost makes a wrong move count."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.errors import (
    InstrumentError,
    TipguardError,
)
from edge.instruments.scpi_stage import ScpiStage
from edge.instruments.stage import (
    StageStalledError,
    TargetReadbackError,
)
from firmware_proto.stage_map import StageMap
from hil.described_bench import DescribedBench, on_described_bench
from tests.edge.instruments.test_scpi_stage import (
    FAST,
    FASTER,
    MS,
    ODD,
    S,
    first,
    scpi,
)

# Damage on the wire


def damaged(bench: DescribedBench, damage: Callable[[bytes], bytes]) -> None:
    """Damage what moves: MOVE:ABS without a question mark, or G with axes."""

    def tamper(_n: int, data: bytes) -> bytes:
        return damage(data) if data.startswith((b"MOVE:ABS ", b"GA")) else data

    bench.line.tamper(tamper)


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "lost digit": lambda data: data.replace(b"61.5", b"6.5").replace(b"61500", b"6150"),
    "other digit": lambda data: data.replace(b"61.5", b"61.4").replace(b"61500", b"61501"),
    "one digit more": lambda data: data.replace(b"61.5", b"61.5001").replace(b"61500", b"71500"),
    "other axis": lambda data: data.replace(b"X,", b"Y,").replace(b"GA", b"GB"),
}


@pytest.mark.parametrize("what", DAMAGE)
@FASTER
def test_a_target_that_changed_on_its_way_is_found_and_stopped(rules: StageMap, what: str) -> None:
    async def main(bench: DescribedBench) -> None:
        damaged(bench, DAMAGE[what])
        name = first(bench)
        before = bench.true_um(name)
        with pytest.raises(TargetReadbackError, match=rf"axis {name}: target 61"):
            await bench.stage.move_to({name: 61.5e-6})
        await bench.pause(10 * MS)
        assert not bench.moving()
        await bench.stage.stopped()
        # What the read-back costs on this line: up to 20 ms of a 1 mm/s move.
        assert abs(bench.true_um(name) - before) < 20
        assert (await bench.stage.status()).error == 0

    on_described_bench(rules, main)


@FASTER
def test_without_the_read_back_it_goes_where_it_was_never_sent(
    rules: StageMap, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def no_read_back(*_args: object) -> None:
        return None

    monkeypatch.setattr(ScpiStage, "_read_back", no_read_back)

    async def main(bench: DescribedBench) -> None:
        damaged(bench, DAMAGE["lost digit"])
        name = first(bench)
        with contextlib.suppress(StageStalledError):
            await bench.stage.move_to({name: 61.5e-6})
        assert bench.true_um(name) == pytest.approx(6.5 if rules is FAST else 6.15, abs=0.1)

    on_described_bench(rules, main)


def unverified(data: dict[str, Any]) -> None:
    data["target"] = {"verify": "position"}
    data["emulated"]["processing_s"] = 0.001


def test_without_a_query_for_targets_the_way_is_watched_and_a_person_is_told() -> None:
    rules = scpi(unverified)

    async def main(bench: DescribedBench) -> None:
        (remark,) = bench.stage.remarks
        assert remark.startswith("targets cannot be verified: this controller does not read them back")
        assert "at 200 um/s a damaged target goes 6 um wrong" in remark
        await bench.stage.move_to({"x": 60e-6, "z": 40e-6})
        assert bench.true_um("x") == pytest.approx(60, abs=0.008)
        damaged(bench, lambda data: data.replace(b"61.5", b"6.5"))
        with pytest.raises(TargetReadbackError, match=r"axis x is at .* off its way from 60"):
            await bench.stage.move_to({"x": 61.5e-6})
        await bench.stage.stopped()
        assert abs(bench.true_um("x") - 60) < 8
        # The next one is judged by its own way.
        bench.line.tamper(None)
        await bench.stage.move_to({"x": 61.5e-6})

    on_described_bench(rules, main)


def test_without_watching_the_way_it_goes_all_of_the_wrong_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ScpiStage, "_watch", lambda *_args: None)

    async def main(bench: DescribedBench) -> None:
        damaged(bench, lambda data: data.replace(b"61.5", b"6.5"))
        with pytest.raises(StageStalledError):
            await bench.stage.move_to({"x": 61.5e-6})
        assert bench.true_um("x") == pytest.approx(6.5, abs=0.1)

    on_described_bench(scpi(unverified), main)


def test_another_axis_that_moves_is_off_its_way() -> None:
    async def main(bench: DescribedBench) -> None:
        damaged(bench, lambda data: data.replace(b"X,", b"Z,"))
        with pytest.raises(TargetReadbackError, match="axis z is at"):
            await bench.stage.move_to({"x": 60e-6})
        await bench.stage.stopped()
        assert abs(bench.true_um("z") - 50) < 8

    on_described_bench(scpi(unverified), main)


@FASTER
def test_a_lost_end_of_line_executes_nothing(rules: StageMap) -> None:
    async def main(bench: DescribedBench) -> None:
        damaged(bench, lambda data: data.rstrip(b"\r\n"))
        name = first(bench)
        before = bench.true_um(name)
        with pytest.raises(InstrumentError):
            await bench.stage.move_to({name: 61.5e-6})
        await bench.pause(S)
        assert bench.true_um(name) == before

    on_described_bench(rules, main)


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from([FAST, ODD]),
    st.integers(0, 40),
    st.sampled_from(["drop", "flip", "cut", "double"]),
    st.integers(0, 7),
)
def test_no_single_damage_makes_a_wrong_move_count(rules: StageMap, at: int, kind: str, bit: int) -> None:
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

    async def main(bench: DescribedBench) -> None:
        damaged(bench, damage)
        a, b, c = bench.stage.axes
        before = bench.true_um(c)
        try:
            await bench.stage.move_to({a: 61.25e-6, b: 7.5e-6})
        except TipguardError:
            bench.line.tamper(None)
            with contextlib.suppress(InstrumentError):
                await bench.stage.stopped()
            await bench.pause(S)
            assert not bench.moving()
        else:
            assert bench.true_um(a) == pytest.approx(61.25, abs=0.01)
            assert bench.true_um(b) == pytest.approx(7.5, abs=0.01)
            assert bench.true_um(c) == before

    on_described_bench(rules, main)


@settings(max_examples=60, deadline=None)
@given(st.sampled_from([FAST, ODD]), st.integers(0, 400), st.integers(0, 7), st.booleans())
def test_damaged_replies_never_make_a_move_arrive_that_did_not(rules: StageMap, at: int, bit: int, drop: bool) -> None:
    async def main(bench: DescribedBench) -> None:
        name = first(bench)
        seen = 0
        wire = bench.unit._wire
        assert wire is not None
        send = wire.send

        def noisy(t_ns: int, data: bytes) -> None:
            nonlocal seen
            k = at - seen
            seen += len(data)
            if 0 <= k < len(data):
                changed = b"" if drop else bytes((data[k] ^ 1 << bit,))
                data = data[:k] + changed + data[k + 1 :]
            if data:
                send(t_ns, data)

        bench.unit._wire = type("Noisy", (), {"send": staticmethod(noisy), "discard": wire.discard})()
        try:
            position = await bench.stage.move_to({name: 61.25e-6})
        except TipguardError:
            with contextlib.suppress(InstrumentError):
                await bench.stage.stopped()
            await bench.pause(S)
            assert not bench.moving()
        else:
            assert bench.true_um(name) == pytest.approx(61.25, abs=0.02)
            # The position that is returned is the last thing told, and one damaged digit of it cannot be seen.
            assert set(position) == set(bench.stage.axes)

    on_described_bench(rules, main)


@settings(max_examples=80, deadline=None)
@given(st.sampled_from([FAST, ODD]), st.integers(0, 60), st.sampled_from(["double", "lose", "stale", "late"]))
def test_replies_too_many_or_too_few_never_make_a_move_arrive_that_did_not(rules: StageMap, at: int, kind: str) -> None:
    """Replies have no tag; a doubled one is found by the form of the next, a late one by the silence it breaks."""

    async def main(bench: DescribedBench) -> None:
        name = first(bench)
        wire = bench.unit._wire
        assert wire is not None
        send, sent = wire.send, 0
        last = b""

        def noisy(t_ns: int, data: bytes) -> None:
            nonlocal sent, last
            sent += 1
            if sent - 1 == at and kind == "late":
                bench.clock.call_at(t_ns + 350 * MS, lambda: send(bench.clock.now_ns(), data))
            elif sent - 1 == at and kind != "lose":
                send(t_ns, last or data)
                send(t_ns, data)
            elif sent - 1 != at:
                send(t_ns, data)
            last = data if kind == "double" and sent == at else last or data

        bench.unit._wire = type("Noisy", (), {"send": staticmethod(noisy), "discard": wire.discard})()
        try:
            await bench.stage.move_to({name: 61.25e-6})
        except TipguardError:
            with contextlib.suppress(InstrumentError):
                await bench.stage.stopped()
            await bench.pause(S)
            assert not bench.moving()
        else:
            assert bench.true_um(name) == pytest.approx(61.25, abs=0.02)
        # Afterwards the line is understood again: at most one more question goes wrong.
        bench.unit._wire = wire
        with contextlib.suppress(InstrumentError):
            await bench.stage.status()
        status = await bench.stage.status()
        assert (status.moving, status.servo_on) == (False, True)

    on_described_bench(rules, main)
