"""Faults in the 2400, in the stage and at the tip, on whole benches; triggers that look at the run; what is missed."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from edge.errors import LinkLostError
from edge.experiments.iv import IvPlan
from edge.experiments.memristor import MemristorPlan
from firmware_proto.keithley2400.status import StatusWord
from hil.devices.keithley2400 import Keithley2400
from hil.errors import BenchFaultError, BenchOptionError
from hil.faults.injector import Applied, Injector
from hil.faults.kinds import KINDS
from hil.faults.phases import PHASES, PhaseWatch
from hil.faults.plan import parse_plan
from hil.line.memory import MemoryLine
from hil.rig import config_for
from hil.twin.full import Site
from hil.twin.ohmic import OhmicLoad
from hil.twin.site import SwitchingSite
from hil.twin.terminals import SourcedLoad
from hil.twin.truth import TruthRecord
from hil.virtual import VirtualClock, run_virtual
from hil.virtual_bench import VirtualBench, on_bench

MS = 1_000_000
SETUP = (
    "*RST",
    ":FORM:ELEM CURR,STAT",
    ":SOUR:VOLT:RANG 20",
    ":SENS:CURR:PROT 0.001",
    ":SENS:CURR:RANG 0.001",
    ":SENS:CURR:NPLC 0.01",
    ":SYST:AZER OFF",
    ":SYST:RWL ON",
    ":OUTP ON",
)


@dataclass
class Seen:
    """What came of a conversation with a 2400."""

    injector: Injector
    replies: list[tuple[int, str]] = field(default_factory=list)
    device: Keithley2400 | None = None
    truth: TruthRecord = field(default_factory=TruthRecord)

    @property
    def applied(self) -> Applied:
        (applied,) = self.injector.applied
        return applied

    def reading(self, n: int) -> tuple[float, int]:
        amps, stat = self.replies[n][1].split(",")
        return float(amps), int(float(stat))

    def period_ns(self, n: int) -> int:
        return self.replies[n][0] - self.replies[n - 1][0]


def read(
    *faults: str,
    load: Callable[[TruthRecord], SourcedLoad] = lambda truth: OhmicLoad(1e5, truth=truth),
    volts: float = -1.0,
    count: int = 10,
    setup: tuple[str, ...] = SETUP,
    patience_ms: int = 400,
) -> Seen:
    """Set a 2400 up as the controller does, bias the load, read ``count`` times; arm behind ``:OUTP ON``."""
    seen = Seen(Injector(parse_plan("\n".join(f"[[fault]]\n{fault}" for fault in faults))))

    async def main(clock: VirtualClock) -> None:
        sample = load(seen.truth)
        seen.device = device = Keithley2400(sample, noise=False)
        line = MemoryLine(device, clock, 0)
        seen.injector.plug_smu(line, device, sample)
        device.advance(clock.now_ns())
        text = bytearray()
        line.transport.on_readable(lambda: text.extend(line.transport.read()))

        async def send(message: str, *, reply: bool) -> None:
            text.clear()
            line.transport.write(message.encode() + b"\n")
            end_ns = clock.now_ns() + patience_ms * MS
            while clock.now_ns() < end_ns and (b"\r" not in text if reply else device.busy):
                await clock.sleep_until(clock.now_ns() + MS // 10)
            if reply and text:
                seen.replies.append((clock.now_ns(), text.decode("latin-1").strip()))

        for message in setup:
            await send(message, reply=False)
        seen.injector.arm(clock.now_ns())
        await send(f":SOUR:VOLT {volts}", reply=False)
        for _ in range(count):
            await send(":READ?", reply=True)
        sample.close(clock.now_ns())

    run_virtual(main)
    return seen


# In the 2400


def test_a_range_stall_makes_one_reading_late() -> None:
    clean, seen = read(), read('kind = "range_stall"\nat_sample = 4\nduration_s = 0.065')
    assert seen.period_ns(4) - clean.period_ns(4) == pytest.approx(65 * MS, abs=MS)
    assert seen.period_ns(5) == pytest.approx(clean.period_ns(5), abs=MS)
    assert seen.applied.detail == "the reading takes 65 ms more"
    assert seen.applied.sample == 5


def test_an_autozero_gap_takes_the_conversions_of_an_autozero() -> None:
    clean = read()
    seen = read('kind = "autozero_gap"\nat_sample = 4\ntimes = 2\napertures = 20\nduration_s = 0.01')
    extra_ns = seen.period_ns(4) - clean.period_ns(4)
    assert extra_ns == pytest.approx(14 * MS, abs=MS)  # 20 apertures of 0.2 ms and 10 ms
    assert seen.period_ns(5) - clean.period_ns(5) == pytest.approx(14 * MS, abs=MS)
    assert seen.period_ns(6) == pytest.approx(clean.period_ns(6), abs=MS)
    assert len(seen.injector.applied) == 2


@pytest.mark.parametrize("oflo", [True, False])
def test_an_overflow_is_told_with_or_without_its_bit(oflo: bool) -> None:
    seen = read(f'kind = "overflow"\nat_sample = 4\ntimes = 2\noflo = {str(oflo).lower()}')
    for n in range(10):
        amps, stat = seen.reading(n)
        assert (amps == 9.9e37) == (n in (4, 5))
        assert bool(stat & StatusWord.OVERFLOW) == (oflo and n in (4, 5))
    assert [applied.sample for applied in seen.injector.applied] == [5, 6]


def test_compliance_is_told_though_nothing_clamps_or_not_told_though_it_does() -> None:
    stuck = read('kind = "stuck_compliance"\nat_sample = 4')
    assert [bool(stuck.reading(n)[1] & StatusWord.COMPLIANCE) for n in range(10)] == [False] * 4 + [True] * 6
    assert stuck.applied.detail == "compliance told, nothing clamps"
    once = read('kind = "stuck_compliance"\nat_sample = 4\ntimes = 1')
    assert [n for n in range(10) if once.reading(n)[1] & StatusWord.COMPLIANCE] == [4]
    clamped: dict[str, Any] = {"load": lambda truth: OhmicLoad(100.0, truth=truth)}
    never = read('kind = "stuck_compliance"\nat_sample = 4\non = false', **clamped)
    assert [bool(never.reading(n)[1] & StatusWord.COMPLIANCE) for n in range(10)] == [True] * 4 + [False] * 6
    assert never.applied.detail == "the output clamps, and no compliance is told"


def test_a_stuck_bit_that_says_the_truth_is_not_applied() -> None:
    seen = read('kind = "stuck_compliance"\nat_sample = 4\non = false')
    assert seen.injector.missed() == ("stuck_compliance-1",)


def test_a_reset_puts_the_unit_back_to_power_on() -> None:
    seen = read('kind = "reset"\nat_sample = 4\nduration_s = 1.0', patience_ms=100)
    assert seen.device is not None
    assert not seen.device.output_on
    assert len(seen.replies) == 4
    assert seen.applied.detail == "mains interrupted"
    assert any(row.note == "the instrument is starting" for row in seen.injector.trace)


AT_THE_PANEL = {
    "output_key": ("", "output on -> off"),
    "panel_limit": ("value = 0.01", "limit 0.001 A -> 0.01 A"),
    "panel_range": ("value = 0.0001", "range 0.001 A -> 0.0001 A"),
    "panel_off_mode": ('mode = "HIMP"', "off state NORM -> HIMP"),
    "panel_level": ("value = -1.5", "level -1 -> -1.5"),
    "oe_open": ("", "output on -> off"),
}


@pytest.mark.parametrize("kind", AT_THE_PANEL)
def test_somebody_changes_the_unit_behind_the_clients_back(kind: str) -> None:
    options, detail = AT_THE_PANEL[kind]
    seen = read(f'kind = "{kind}"\nat_sample = 4\n{options}', patience_ms=100)
    assert seen.applied.detail == detail
    assert seen.applied.kind == kind


def test_every_kind_in_the_2400_is_tested_here() -> None:
    others = {"range_stall", "autozero_gap", "overflow", "stuck_compliance", "reset"}
    assert {name for name, kind in KINDS.items() if kind.group == "smu"} == others | set(AT_THE_PANEL)


def test_a_locked_panel_that_holds_makes_a_fault_that_was_not_applied() -> None:
    seen = read('kind = "panel_limit"\nat_sample = 4\nforce = false')
    assert seen.injector.missed() == ("panel_limit-1",)
    assert seen.injector.applied == []


def test_a_level_the_panel_refuses_is_not_applied() -> None:
    assert read('kind = "panel_level"\nat_sample = 4\nvalue = 200').injector.missed() == ("panel_level-1",)


# At the tip


LOADS: dict[str, Callable[[TruthRecord], SourcedLoad]] = {
    "ohmic": lambda truth: OhmicLoad(1e5, 1000.0, truth=truth),
    "plain": lambda truth: SwitchingSite("gi", series_ohm=1000.0, truth=truth),
    "full": lambda truth: Site("gi", series_ohm=1000.0, truth=truth),
}


def currents(seen: Seen) -> list[float]:
    return [abs(seen.reading(n)[0]) for n in range(len(seen.replies))]


@pytest.mark.parametrize("load", LOADS)
def test_a_filament_that_is_stuck_on_is_an_onset_with_its_dose_and_stays(load: str) -> None:
    seen = read('kind = "stuck_on"\nat_sample = 4', load=LOADS[load], volts=-0.5)
    after = currents(seen)[5:]
    assert all(amps == pytest.approx(0.5 / 1100, rel=0.02) for amps in after)
    (onset,) = seen.truth.events("set_onset")
    assert onset["r_on_ohm"] == 100.0
    assert onset["t_ns"] == seen.applied.t_ns
    summary = seen.truth.events("summary")[0]
    lived_s = (int(summary["t_ns"] or 0) - seen.applied.t_ns) * 1e-9
    assert float(summary["charge_c"] or 0) == pytest.approx(0.5 / 1100 * lived_s, rel=0.05)


def test_a_stuck_filament_survives_a_reset() -> None:
    seen = read('kind = "stuck_on"\nat_sample = 2', load=LOADS["full"], volts=0.9, count=20)
    assert currents(seen)[-1] == pytest.approx(0.9 / 1100, rel=0.02)
    assert seen.truth.events("reset") == []


@pytest.mark.parametrize("load", LOADS)
def test_an_open_tip_conducts_nothing_from_then_on(load: str) -> None:
    filament = 'kind = "stuck_on"\nat_sample = 1'
    seen = read(filament, 'kind = "open_tip"\nat_sample = 4', load=LOADS[load], volts=-0.5)
    amps = currents(seen)
    assert amps[3] > 1e-4
    assert all(value < 1e-7 for value in amps[5:])
    assert [applied.kind for applied in seen.injector.applied] == ["stuck_on", "open_tip"]
    assert seen.injector.applied[1].detail.startswith("the tip is open, -4.5")


@pytest.mark.parametrize("load", LOADS)
def test_telegraph_noise_has_two_levels_and_ends(load: str) -> None:
    noisy = 'kind = "telegraph"\nat_sample = 4\nvalue = 1e-5\nrate_hz = 500\nduration_s = 0.4'
    seen = read(noisy, load=LOADS[load], volts=-0.5, count=120)
    amps = currents(seen)
    base, high = amps[0], amps[0] + 0.5 * 1e-5
    during = amps[5:40]
    assert sum(abs(value - high) < 0.05 * high for value in during) >= 3
    assert sum(abs(value - base) < 0.05 * high for value in during) >= 3
    assert all(value == pytest.approx(base, abs=2e-8) for value in amps[-10:])
    again = read(noisy, load=LOADS[load], volts=-0.5, count=120)
    assert currents(again) == amps


@pytest.mark.parametrize("load", LOADS)
def test_a_glitch_is_one_pulse_of_real_current(load: str) -> None:
    seen = read(
        'kind = "glitch"\nat_sample = 4\nvalue = 1e-4\nduration_s = 0.05', load=LOADS[load], volts=-0.5, count=20
    )
    amps = currents(seen)
    assert max(amps) == pytest.approx(1e-4, rel=0.02)
    assert amps[-1] == pytest.approx(amps[0], abs=2e-8)
    assert float(seen.truth.events("summary")[0]["peak_current_a"] or 0) == pytest.approx(1e-4, rel=0.02)
    assert "ohm beside the sample for 0.05 s" in seen.applied.detail


def test_a_glitch_waits_for_a_voltage_that_drives_it() -> None:
    seen = read('kind = "glitch"\nat_sample = 0\nvalue = 1e-4', volts=0.0)
    assert seen.injector.missed() == ("glitch-1",)


def test_only_a_tip_that_a_stage_moves_can_drift() -> None:
    with pytest.raises(BenchOptionError, match="fault 'drift-1': drift: only a tip that a stage moves"):
        read('kind = "drift"\nat_sample = 0')


def test_a_fault_for_a_stage_that_is_not_there_is_refused() -> None:
    with pytest.raises(BenchOptionError, match="port = 'stage': this bench has smu"):
        read('kind = "mute"\nport = "stage"\nat_s = 1')


# Triggers that look at the run


def run_with(
    tmp_path: Path, *faults: str, plan: IvPlan | None = None, load: str = "full", seconds: float = 20.0
) -> tuple[Injector, dict[str, Any]]:
    """Run the controller as shipped on a bench with faults; return the injector and the run's map."""
    injector = Injector(parse_plan("\n".join(f"[[fault]]\n{fault}" for fault in faults)))
    found: dict[str, Any] = {}

    async def work(bench: VirtualBench) -> None:
        injector.arm(bench.clock.now_ns())
        bench.start(plan or IvPlan(to_v=-0.6, step_v=0.01, dwell_s=0.02))
        end_ns = bench.clock.now_ns() + int(seconds * 1e9)
        while bench.clock.now_ns() < end_ns and not found:
            run = bench.rig.worker.runner.run or {}
            if run.get("status") not in (None, "running"):
                found.update(run)
            await bench.clock.sleep_until(bench.clock.now_ns() + 10 * MS)
        found["truth"] = bench.truth
        found["events"] = bench.events()

    loads: dict[str, Callable[[TruthRecord], SourcedLoad]] = {
        "full": lambda truth: Site("gb", series_ohm=1000.0, seed=4, truth=truth),
        "ohmic": lambda truth: OhmicLoad(1e6, 1000.0, truth=truth),
    }
    on_bench(tmp_path, work, load=loads[load], injector=injector)
    return injector, found


SEEN_IN = {
    "setup": "setup",
    "energised": "energised",
    "seek": "seek",
    "onset": "seek",
    "cutting": "cutting",
    "off": "off",
}


@pytest.mark.parametrize("phase", SEEN_IN)
def test_a_fault_at_a_phase_acts_in_it(tmp_path: Path, phase: str) -> None:
    injector, run = run_with(tmp_path, f'kind = "stuck_on"\nat_phase = "{phase}"')
    (applied,) = injector.applied
    assert applied.phase == SEEN_IN[phase]
    if phase == "onset":
        # The sample is asked at the very nanosecond, not when the next reading happens to look.
        assert applied.t_ns == run["truth"].events("set_onset")[0]["t_ns"]


@pytest.mark.parametrize("phase", ["reset", "lrs_read", "hrs_read"])
def test_the_phases_of_a_memristor_are_told_apart(tmp_path: Path, phase: str) -> None:
    injector = Injector(parse_plan(f'[[fault]]\nkind = "double"\nat_phase = "{phase}"\nnth = 2\nlate_s = 0.001'))
    entered: list[str] = []

    async def work(bench: VirtualBench) -> None:
        injector.arm(bench.clock.now_ns())
        bench.start(MemristorPlan(cycles=2, set_v=-0.25, zero=False))
        await bench.until(lambda: bool(injector.applied) or bench.rig.worker.runner.run is None, 120)
        settings = bench.rig.device.settings
        entered.extend((f"{settings.curr_sense.range:g}", f"{settings.nplc:g}"))

    config = config_for(series_ohm=1500.0, limits={"voltage_v": 1.0})
    on_bench(
        tmp_path,
        work,
        load=lambda truth: Site("gb", series_ohm=1500.0, seed=1, truth=truth),
        config=config,
        injector=injector,
    )
    (applied,) = injector.applied
    assert applied.phase == phase
    assert entered == {"reset": ["0.001", "0.01"], "lrs_read": ["0.0001", "1"], "hrs_read": ["1e-06", "1"]}[phase]


def test_a_fault_at_the_cut_meets_the_message_that_cuts(tmp_path: Path) -> None:
    injector, run = run_with(tmp_path, 'kind = "drop"\nto = "device"\nat_phase = "cutting"\noffset = 5\ncount = 2')
    (applied,) = injector.applied
    assert applied.phase == "cutting"
    changed = next(row for row in injector.trace if row.note)
    assert changed.sent == b":SOUR:VOLT 0\n"
    assert changed.arrived == b":SOUROLT 0\n"
    assert run["status"] in ("completed", "tripped")


def test_phases_are_told_from_the_settings_alone() -> None:
    seen = read(count=1)
    assert seen.device is not None
    watch = PhaseWatch(seen.device)
    assert set(PHASES) == {"setup", "energised", "seek", "onset", "reset", "lrs_read", "hrs_read", "cutting", "off"}
    assert watch.message("SENS:CURR:RANG 0.001") == ["setup"]
    assert watch.message("SOUR:VOLT 0") == []
    assert watch.step() == ["energised", "seek"]
    assert watch.phase == "seek"
    settings = seen.device.settings
    settings.volt_source.level = 1.0
    assert watch.step() == ["reset"]
    settings.nplc = 1.0
    assert watch.step() == ["lrs_read"]
    settings.curr_sense.range = 1e-6
    assert watch.step() == ["hrs_read"]
    assert watch.message("SOUR:VOLT 0.0000") == []
    assert watch.message("READ?") == []
    assert watch.message("SOUR:VOLT 0") == ["cutting"]
    assert watch.message("OUTP OFF") == []
    assert watch.step() == []
    assert watch.phase == "cutting"


def test_at_sample_counts_readings_with_the_output_on(tmp_path: Path) -> None:
    injector, _ = run_with(tmp_path, 'kind = "truncate"\nat_sample = 5\ncount = 3', load="ohmic")
    (applied,) = injector.applied
    assert applied.sample == 6
    assert applied.phase == "seek"


def test_the_same_plan_and_seed_fault_the_same_run_alike(tmp_path: Path) -> None:
    def once(name: str) -> tuple[list[Applied], str]:
        injector, run = run_with(
            tmp_path / name, 'kind = "telegraph"\nat_phase = "seek"', 'kind = "flip"\nat_sample = 20', load="ohmic"
        )
        return injector.applied, run["status"]

    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    assert once("a") == once("b")


def test_an_unplugged_rig_tells_its_controller(tmp_path: Path) -> None:
    with pytest.raises(LinkLostError, match="unplugged"):
        run_with(tmp_path, 'kind = "unplug"\nat_phase = "seek"')


def test_a_plan_is_armed_once(tmp_path: Path) -> None:
    async def work(bench: VirtualBench) -> None:
        injector.arm(bench.clock.now_ns())
        with pytest.raises(BenchFaultError, match="armed already"):
            injector.arm(bench.clock.now_ns())

    injector = Injector(parse_plan(""))
    on_bench(tmp_path, work, injector=injector)


def test_demanding_what_is_not_on_demand_is_refused() -> None:
    plan = """
        [[fault]]
        name = "later"
        kind = "mute"
        at_s = 1
        [[fault]]
        name = "hush"
        kind = "mute"
        on_demand = true
    """
    injector = Injector(parse_plan(plan))
    with pytest.raises(BenchOptionError, match="'later': its trigger is at_s; on demand: hush"):
        injector.demand("later", 0)
    with pytest.raises(BenchOptionError, match="'nope': no such fault; on demand: hush"):
        injector.demand("nope", 0)
    with pytest.raises(BenchOptionError, match="'hush': the plan is not armed yet"):
        injector.demand("hush", 0)


def test_applied_is_told_as_it_happens_with_every_field() -> None:
    told: list[Applied] = []
    seen = Seen(Injector(parse_plan('[[fault]]\nkind = "overflow"\nat_sample = 0'), told.append))

    async def main(clock: VirtualClock) -> None:
        load = OhmicLoad(1e6)
        device = Keithley2400(load)
        line = MemoryLine(device, clock, 0)
        seen.injector.plug_smu(line, device, load)
        seen.injector.arm(clock.now_ns())
        line.transport.write(b"*RST\n:OUTP ON\n:READ?\n")
        await clock.sleep_until(clock.now_ns() + 1000 * MS)

    run_virtual(main)
    assert told == seen.injector.applied
    document = told[0].document()
    assert document["applied"] == "overflow-1"
    assert set(document) == {"applied", "kind", "port", "t_ns", "byte", "frame", "sample", "phase", "detail"}
    assert not math.isnan(float(document["t_ns"]))


def test_a_phase_is_counted(tmp_path: Path) -> None:
    plan = "\n".join(
        f'[[fault]]\nname = "{n}"\nkind = "late"\nat_phase = "reset"\nnth = {n}\nlate_s = 0.0002' for n in (1, 2)
    )
    injector = Injector(parse_plan(plan))

    async def work(bench: VirtualBench) -> None:
        injector.arm(bench.clock.now_ns())
        bench.start(MemristorPlan(cycles=2, set_v=-0.25, zero=False))
        await bench.until(lambda: len(injector.applied) == 2 or bench.rig.worker.runner.run is None, 120)

    on_bench(
        tmp_path,
        work,
        load=lambda truth: Site("gb", series_ohm=1500.0, seed=1, truth=truth),
        config=config_for(series_ohm=1500.0, limits={"voltage_v": 1.0}),
        injector=injector,
    )
    first, second = injector.applied
    assert (first.name, second.name) == ("1", "2")
    assert second.t_ns - first.t_ns > 100 * MS
