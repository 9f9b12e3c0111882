"""Between twin and firmware in real time, with the firmware's side of the memory moved by hand."""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from pathlib import Path

import pytest

from firmware_proto.frontend import bench_layout as layout
from hil.frontend.bench_memory import BYTES, BenchMemory
from hil.frontend.feed import CLOSED_LOOK_NS, OPEN_LOOK_NS, Feed, code_of
from hil.twin.full import Site
from hil.twin.ohmic import OhmicLoad
from hil.twin.site import SwitchingSite
from hil.twin.terminals import SourcedLoad

MS = 1_000_000
CODE_PA = 40_000


class Firmware:
    """The firmware's side of the memory."""

    def __init__(self, path: Path) -> None:
        with path.open("r+b") as file:
            self.memory = mmap.mmap(file.fileno(), BYTES)

    def close_switch(self) -> None:
        layout.SWITCH_PIN.write(self.memory, 1)

    def open_switch(self, index: int, ticks: int) -> None:
        layout.SWITCH_PIN.write(self.memory, 0)
        layout.OPEN_INDEX.write(self.memory, index)
        layout.OPEN_TICKS.write(self.memory, ticks)
        layout.OPENS.write(self.memory, layout.OPENS.read(self.memory) + 1)

    def ramp(self) -> tuple[int, int, int, int]:
        slots = layout.T0_TICKS, layout.CODE0, layout.T1_TICKS, layout.CODE1
        first, second, third, fourth = (slot.read(self.memory) for slot in slots)
        return first, second, third, fourth


@pytest.fixture
def block(tmp_path: Path) -> Iterator[BenchMemory]:
    with BenchMemory.created(tmp_path / "bench") as memory:
        yield memory


@pytest.fixture
def chip(block: BenchMemory, tmp_path: Path) -> Iterator[Firmware]:
    del block
    firmware = Firmware(tmp_path / "bench")
    yield firmware
    firmware.memory.close()


def feed_of(load: SourcedLoad, block: BenchMemory, *, same_clock: bool = True) -> Feed:
    feed = Feed(load, block, code_pa=CODE_PA, same_clock=same_clock)
    feed.step(0)
    return feed


def test_codes_are_rounded_and_end_at_full_scale() -> None:
    assert [code_of(amps, CODE_PA) for amps in (0.0, 41e-9, -61e-9, 1.0, -1.0)] == [0, 1, -2, 32767, -32767]


def test_the_path_is_the_pins_from_the_beginning(block: BenchMemory, chip: Firmware) -> None:
    load = OhmicLoad(1e5)
    feed = feed_of(load, block)
    assert (feed.next_ns, feed.closed) == (OPEN_LOOK_NS, False)
    load.set_source(MS, 1.0, 1e-3, connected=True)
    assert load.terminal_current_a == 0.0
    chip.close_switch()
    feed.step(2 * MS)
    assert load.path_closed
    assert feed.next_ns == 2 * MS + CLOSED_LOOK_NS
    (entry,) = load.truth.events("switch_closed")
    assert (entry["t_ns"], entry["seen_ns"]) == (2 * MS, 2 * MS)


def test_an_opening_counts_from_the_devices_own_time_of_it(block: BenchMemory, chip: Firmware) -> None:
    load = OhmicLoad(1e5)
    feed = feed_of(load, block)
    chip.close_switch()
    feed.step(2 * MS)
    load.set_source(2 * MS, 1.0, 1e-3, connected=True)
    chip.open_switch(77, 2 * MS + 123_456)
    feed.step(3 * MS)
    assert load.charge_c == pytest.approx(1e-5 * 123_456e-9)
    (entry,) = load.truth.events("switch_open")
    assert (entry["t_ns"], entry["seen_ns"], entry["sample_index"]) == (2 * MS + 123_456, 3 * MS, 77)


def test_whoever_lets_the_twin_live_looks_at_the_pin_first(block: BenchMemory, chip: Firmware) -> None:
    """A reading of the 2400 must not see a current at a time at which the path was open."""
    load = OhmicLoad(1e5)
    feed = feed_of(load, block)
    chip.close_switch()
    feed.step(2 * MS)
    load.set_source(2 * MS, 1.0, 1e-3, connected=True)
    chip.open_switch(1, 2 * MS + 500)
    load.advance(2 * MS + 900_000)
    assert load.terminal_current_a == 0.0
    assert load.charge_c == pytest.approx(1e-5 * 500e-9)
    # Without that look it has lived on as if the path were closed.
    load = OhmicLoad(1e5)
    layout.OPENS.write(chip.memory, 0)
    feed = feed_of(load, block)
    chip.close_switch()
    feed.step(2 * MS)
    load.set_source(2 * MS, 1.0, 1e-3, connected=True)
    load.before = None
    chip.open_switch(1, 2 * MS + 500)
    load.advance(2 * MS + 900_000)
    assert load.charge_c == pytest.approx(1e-5 * 900e-6)


def test_an_opening_before_what_has_been_lived_counts_from_there(block: BenchMemory, chip: Firmware) -> None:
    load = OhmicLoad(1e5)
    feed = feed_of(load, block)
    chip.close_switch()
    feed.step(2 * MS)
    load.advance(5 * MS)
    chip.open_switch(1, 3 * MS)
    feed.step(6 * MS)
    assert load.truth.events("switch_open")[0]["t_ns"] == 5 * MS


def test_opened_and_closed_between_two_looks_are_both_there(block: BenchMemory, chip: Firmware) -> None:
    load = OhmicLoad(1e5)
    feed = feed_of(load, block)
    chip.close_switch()
    feed.step(2 * MS)
    chip.open_switch(1, 2 * MS + 100)
    chip.close_switch()
    feed.step(3 * MS)
    names = [entry["event"] for entry in load.truth.entries if str(entry["event"]).startswith("switch")]
    assert names == ["switch_closed", "switch_open", "switch_closed"]


def test_every_change_of_the_twin_is_a_step_at_its_own_time(block: BenchMemory, chip: Firmware) -> None:
    load = SwitchingSite("gb", u_median_v=0.05, series_ohm=10_000.0, seed=3)
    feed = feed_of(load, block)
    chip.close_switch()
    feed.step(2 * MS)
    load.set_source(2 * MS, -0.5, 1e-3, connected=True)
    onset_ns = load.next_change_ns
    assert feed.next_ns == min(onset_ns, 2 * MS + CLOSED_LOOK_NS)
    feed.step(max(onset_ns, 3 * MS))
    code = code_of(load.terminal_current_a, CODE_PA)
    assert code < -100
    assert chip.ramp() == (onset_ns - 1, 0, onset_ns, code)
    assert layout.RAMP_SEQ.read(chip.memory) % 2 == 0


def test_a_current_that_relaxes_is_told_at_every_look(block: BenchMemory, chip: Firmware) -> None:
    load = Site("gb", u_median_v=50.0, series_ohm=1_000.0, seed=1)
    feed = feed_of(load, block)
    chip.close_switch()
    feed.step(2 * MS)
    load.set_source(2 * MS, -5.0, 1e-3, connected=True)
    # The cable is charged: what flows through the terminals falls to what the site takes.
    codes = []
    for n in range(1, 40):
        feed.step(2 * MS + n * 20_000)
        codes.append(layout.ADC_CODE.read(chip.memory))
    assert abs(codes[0]) > 500
    assert abs(codes[-1]) < 5
    assert len(set(codes)) > 5


def test_without_a_common_clock_the_converter_reads_what_flows_now(block: BenchMemory, chip: Firmware) -> None:
    load = OhmicLoad(1e5)
    feed = feed_of(load, block, same_clock=False)
    chip.close_switch()
    feed.step(2 * MS)
    load.set_source(2 * MS, 1.0, 1e-3, connected=True)
    assert layout.ADC_CODE.read(chip.memory) == 250
    assert layout.RAMP_SEQ.read(chip.memory) == 0
    chip.open_switch(4, 99)
    feed.step(3 * MS)
    assert load.truth.events("switch_open")[0]["t_ns"] == 3 * MS


def test_a_contact_that_is_stuck_stays_closed_and_is_told_once(block: BenchMemory, chip: Firmware) -> None:
    load = OhmicLoad(1e5)
    feed = feed_of(load, block)
    chip.close_switch()
    feed.step(2 * MS)
    told: list[str] = []
    feed.stick(2 * MS, stuck=True, told=lambda _t_ns, detail: told.append(detail))
    chip.open_switch(42, 3 * MS)
    feed.step(4 * MS)
    feed.step(5 * MS)
    assert told == ["the pin is open at sample 42, the contact is not"]
    assert load.path_closed
    assert block.stuck
    feed.stick(6 * MS, stuck=False, told=None)
    assert not load.path_closed


def test_a_converter_that_hangs_is_told_once_the_truth_is_another(block: BenchMemory, chip: Firmware) -> None:
    load = OhmicLoad(1e5)
    feed = feed_of(load, block)
    chip.close_switch()
    feed.step(2 * MS)
    load.set_source(2 * MS, 1.0, 1e-3, connected=True)
    told: list[str] = []
    feed.hold(3 * MS, held=True, told=lambda _t_ns, detail: told.append(detail))
    assert not told
    load.set_source(4 * MS, 2.0, 1e-3, connected=True)
    load.set_source(5 * MS, 3.0, 1e-3, connected=True)
    assert told == ["the converter gives 250, 500 in truth"]
    assert chip.ramp()[3] == 250
    feed.hold(6 * MS, held=False, told=None)
    assert chip.ramp()[3] == 750


def test_a_device_that_starts_again_counts_its_openings_from_none(block: BenchMemory, chip: Firmware) -> None:
    load = OhmicLoad(1e5)
    feed = feed_of(load, block)
    for _ in range(3):
        chip.close_switch()
        feed.step(load.lived_ns + MS)
        chip.open_switch(1, load.lived_ns + 1)
        feed.step(load.lived_ns + MS)
    block.unpowered()
    feed.restarted()
    chip.close_switch()
    feed.step(load.lived_ns + MS)
    assert load.path_closed
    assert len(load.truth.events("switch_open")) == 3
