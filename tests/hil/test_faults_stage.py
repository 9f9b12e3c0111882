"""Faults in the stage and of the tip that it moves, on a bench with both instruments."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from hil.errors import BenchOptionError
from hil.faults.injector import Injector
from hil.faults.plan import parse_plan
from hil.map_bench import MapBench, on_map_bench
from hil.twin.truth import TruthRecord

MS = 1_000_000


def on_map(tmp_path: Path, injector: Injector, work: Callable[[MapBench], Awaitable[None]]) -> None:
    on_map_bench(tmp_path, work, injector=injector)


def stage_injector(*faults: str) -> Injector:
    return Injector(parse_plan("\n".join(f"[[fault]]\n{fault}" for fault in faults)))


IN_THE_STAGE = {
    "stage_stall": ('axis = "1"', "axis 1 jammed"),
    "stage_servo_off": ('axis = "2"', "servo of axis 2 open"),
    "stage_error": ("error = 1024", "error 1024"),
    "stage_reset": ("", "mains interrupted"),
}


@pytest.mark.parametrize("kind", IN_THE_STAGE)
def test_a_fault_of_the_stage_is_seen_by_the_controller(tmp_path: Path, kind: str) -> None:
    options, detail = IN_THE_STAGE[kind]
    injector = stage_injector(f'kind = "{kind}"\nat_s = 0.2\n{options}')

    async def work(bench: MapBench) -> None:
        injector.arm(bench.clock.now_ns())
        await bench.clock.sleep_until(bench.clock.now_ns() + 190 * MS)
        assert bench.stage.servo_on("2")
        await bench.clock.sleep_until(bench.clock.now_ns() + 20 * MS)
        if kind == "stage_servo_off":
            assert not bench.stage.servo_on("2")
        if kind == "stage_error":
            assert bench.stage.error == 1024 or injector.applied

    on_map(tmp_path, injector, work)
    (applied,) = injector.applied
    assert (applied.detail, applied.port) == (detail, "stage")


def test_a_dead_deflection_counts_once_it_hides_a_contact(tmp_path: Path) -> None:
    injector = stage_injector('kind = "stage_contact_lost"\nat_s = 0.1')

    async def work(bench: MapBench) -> None:
        injector.arm(bench.clock.now_ns())
        await bench.clock.sleep_until(bench.clock.now_ns() + 200 * MS)
        assert injector.missed() == ("stage_contact_lost-1",)  # in the air it says nothing wrong
        bench.at_the_stage(b"MOV 3 50.01")
        await bench.clock.sleep_until(bench.clock.now_ns() + 500 * MS)
        bench.at_the_stage(b"TAV? 1")
        await bench.clock.sleep_until(bench.clock.now_ns() + 100 * MS)
        assert bench.touching()

    on_map(tmp_path, injector, work)
    assert injector.missed() == ()
    assert injector.applied[0].detail.startswith("deflection signal dead, 0.1")


def test_the_sample_drifts_under_the_tip(tmp_path: Path) -> None:
    injector = stage_injector('kind = "drift"\nat_s = 0.1\nx_nm_s = 500\ny_nm_s = -100')

    async def work(bench: MapBench) -> None:
        start_ns = bench.clock.now_ns()
        injector.arm(start_ns)
        assert bench.sample.under((5e-5, 5e-5), start_ns + 100 * MS) == (5e-5, 5e-5)
        await bench.clock.sleep_until(start_ns + 1_100 * MS)
        x_m, y_m = bench.sample.under((5e-5, 5e-5), start_ns + 1_100 * MS)
        assert x_m - 5e-5 == pytest.approx(500e-9)
        assert y_m - 5e-5 == pytest.approx(-100e-9)

    on_map(tmp_path, injector, work)
    assert injector.applied[0].detail == "drift of 500, -100 nm/s"


def test_a_tip_that_opens_waits_for_contact_and_stays_open_at_the_next_landing(tmp_path: Path) -> None:
    injector = stage_injector('kind = "open_tip"\nat_s = 0.1')

    async def work(bench: MapBench) -> None:
        injector.arm(bench.clock.now_ns())
        await bench.clock.sleep_until(bench.clock.now_ns() + 200 * MS)
        assert injector.missed() == ("open_tip-1",)
        for z in (b"50.01", b"49.5", b"50.01"):
            bench.at_the_stage(b"MOV 3 " + z)
            await bench.clock.sleep_until(bench.clock.now_ns() + 500 * MS)
        assert bench.touching()

    found: list[TruthRecord] = []

    async def kept(bench: MapBench) -> None:
        await work(bench)
        found.append(bench.truth)

    on_map(tmp_path, injector, kept)
    first, second = found[0].events("landing")
    assert (first["state"], second["state"]) == ("hrs", "open")
    assert int(first["t_ns"] or 0) <= injector.applied[0].t_ns < int(first["t_ns"] or 0) + 2 * MS


def test_a_spot_that_is_stuck_on_stays_so_and_another_one_is_not(tmp_path: Path) -> None:
    injector = stage_injector('kind = "stuck_on"\nat_s = 0.1')
    found: list[TruthRecord] = []

    async def work(bench: MapBench) -> None:
        injector.arm(bench.clock.now_ns())
        for move in (b"3 50.01", b"3 49.5", b"3 50.01", b"3 49.5", b"1 60", b"3 50.01"):
            bench.at_the_stage(b"MOV " + move)
            await bench.clock.sleep_until(bench.clock.now_ns() + 500 * MS)
        found.append(bench.truth)

    on_map(tmp_path, injector, work)
    assert [entry["state"] for entry in found[0].events("landing")] == ["hrs", "stuck_on", "hrs"]


def test_an_axis_that_is_not_there_is_refused(tmp_path: Path) -> None:
    injector = stage_injector('kind = "stage_stall"\nat_s = 1\naxis = "7"')

    async def work(bench: MapBench) -> None:
        with pytest.raises(BenchOptionError, match="axis = '7': want one of 1, 2, 3"):
            injector.arm(bench.clock.now_ns())

    on_map(tmp_path, injector, work)
