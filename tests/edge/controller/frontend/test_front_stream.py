"""Blocks put together, holes declared, crossings found again: the parts that no bench is needed for."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.config_frontend import FrontendConfig
from edge.controller.front_check import GRACE_BLOCKS, GRACE_SAMPLES, CrossingWatch
from edge.controller.front_stream import FLUSH_NS, FrontStream, bytes_per_s, cost_in_words, merged
from edge.controller.recorder import Recorder
from edge.front_block import FULL, MAX_ROWS, FrontBlock, unpack_front
from edge.instruments.frontend_values import NO_CODE, MinMaxBlock, SampleBlock
from edge.ring import Kind, RingReader, RingWriter
from edge.samples import Sample
from firmware_proto.frontend.detector_model import Detector, Limits
from firmware_proto.frontend.messages import Reason
from hil.virtual import VirtualClock, run_virtual

STEP_NS = 10_000.0
EVENT = FrontendConfig(hard_a=5e-4)
FULL_HALF = FrontendConfig(hard_a=5e-4, recording="full", full_max_s=0.01)


class Kept:
    """A recorder on a ring of its own, and a stream into it."""

    def __init__(self, folder: Path, section: FrontendConfig = EVENT, ring_bytes: int = 1 << 20) -> None:
        self.writer = RingWriter(folder / "ring", ring_bytes)
        self.reader = RingReader(folder / "ring")
        self.recorder: Recorder
        self.stream: FrontStream

        async def make(clock: VirtualClock) -> None:
            self.recorder = Recorder(self.writer, rig="r", clock=clock)
            self.stream = FrontStream(section, self.recorder)

        run_virtual(make)
        self.stream.begin()

    def read(self) -> tuple[list[FrontBlock], list[dict[str, Any]]]:
        blocks, holes = [], []
        while (record := self.reader.read()) is not None:
            if record.kind == Kind.FRONT:
                blocks.append(unpack_front(record.payload))
            elif record.kind == Kind.TOMBSTONE:
                holes.append(msgpack.unpackb(record.payload))
        return blocks, holes


def samples(index: int, codes: list[int] | np.ndarray[Any, Any], *, missing: int = 0, unc: int = 100) -> SampleBlock:
    t_ns = int(index * STEP_NS)
    return SampleBlock(index, t_ns, t_ns, unc, STEP_NS, 4e-8, missing, np.asarray(codes, "<i2"))


def pairs(index: int, rows: int, *, missing: int = 0, peak: int = 0) -> MinMaxBlock:
    t_ns = int(index * STEP_NS)
    table = np.zeros((rows, 2), "<i2")
    table[-1, 1] = peak
    return MinMaxBlock(index, t_ns, t_ns, 100, 100 * STEP_NS, 100, 4e-8, missing, table)


# -------------------------------------------------------------------------------------------------------------- blocks


@settings(max_examples=40, deadline=None)
@given(sizes=st.lists(st.integers(1, 700), min_size=1, max_size=40))
def test_samples_come_out_as_they_went_in_whatever_the_pieces(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int]
) -> None:
    kept = Kept(tmp_path_factory.mktemp("kept"))
    codes = np.arange(sum(sizes), dtype="<i2")
    at = 0
    for size in sizes:
        kept.stream.samples(samples(at, codes[at : at + size]), 0)
        at += size
    kept.stream.end()
    blocks, holes = kept.read()
    assert b"".join(block.data for block in blocks) == codes.tobytes()
    assert holes == []
    assert all(block.rows <= MAX_ROWS and block.columns == FULL for block in blocks)
    assert [block.first for block in blocks] == [block.index for block in blocks]
    assert kept.recorder.front_rows == len(codes)


def test_what_is_missing_is_a_declared_hole_between_two_blocks(tmp_path: Path) -> None:
    kept = Kept(tmp_path)
    kept.stream.samples(samples(0, [1] * 10), 0)
    kept.stream.samples(samples(15, [2] * 10, missing=5), 0)
    kept.stream.end()
    (before, after), (hole,) = kept.read()
    assert (before.first, before.rows, after.first, after.index) == (0, 10, 15, 15)
    assert (hole["stream"], hole["from"], hole["to"]) == ("frontend", 10, 14)
    assert "not sent" in hole["cause"]
    assert kept.recorder.front_lost == 5


def test_the_first_block_of_an_arming_misses_nothing(tmp_path: Path) -> None:
    kept = Kept(tmp_path)
    kept.stream.minmax(pairs(5_000, 3, missing=5_000), 0)
    kept.stream.minmax(pairs(5_500, 3, missing=200), 0)
    kept.stream.end()
    _, (hole,) = kept.read()
    assert (hole["from"], hole["to"]) == (3, 4)


def test_a_block_that_is_a_quarter_of_a_second_old_is_written(tmp_path: Path) -> None:
    kept = Kept(tmp_path)
    for number in range(20):
        kept.stream.minmax(pairs(2_500 * number, 25), 0)
    kept.stream.minmax(pairs(50_000, 5), 0)
    blocks, _ = kept.read()
    assert [block.rows for block in blocks] == [250, 250]
    # Nothing more comes, and what there is does not wait for it.
    kept.stream.tick(blocks[1].t_ns + 4 * FLUSH_NS)
    (rest,), _ = kept.read()
    assert rest.rows == 5


def test_the_uncertainty_of_a_block_covers_every_estimate_of_its_rows(tmp_path: Path) -> None:
    kept = Kept(tmp_path)
    kept.stream.samples(samples(0, [1] * 10), 0)
    # The clock's estimate has moved by 2 us between two frames of the device.
    moved = samples(10, [1] * 10, unc=150)
    kept.stream.samples(SampleBlock(10, 0, moved.t_ns + 2_000, 150, STEP_NS, 4e-8, 0, moved.codes), 0)
    kept.stream.end()
    (block,), _ = kept.read()
    assert block.t_unc_ns == 2_150


def test_a_clock_that_jumps_begins_another_block(tmp_path: Path) -> None:
    kept = Kept(tmp_path)
    kept.stream.samples(samples(0, [1] * 10), 0)
    kept.stream.samples(SampleBlock(10, 0, 1_000_000, 100, STEP_NS, 4e-8, 0, np.ones(10, "<i2")), 0)
    kept.stream.end()
    blocks, holes = kept.read()
    assert [(block.rows, block.t_ns) for block in blocks] == [(10, 0), (10, 1_000_000)]
    assert holes == []


def test_behind_its_time_full_is_thinned_without_a_seam(tmp_path: Path) -> None:
    kept = Kept(tmp_path, FULL_HALF)
    codes = np.arange(3000, dtype="<i2")
    for at in range(0, 3000, 250):
        kept.stream.samples(samples(at, codes[at : at + 250]), int(at * STEP_NS))
    kept.stream.end()
    blocks, holes = kept.read()
    full, thinned = blocks
    assert holes == []
    assert full.step == 1
    assert thinned.step == 100
    assert thinned.index == full.rows
    table = np.frombuffer(thinned.data, "<i2").reshape(-1, 2)
    assert table[0].tolist() == [full.rows, full.rows + 99]
    assert thinned.period_ns == 100 * STEP_NS


@given(
    sizes=st.lists(st.integers(1, 50), min_size=1, max_size=20),
    missing=st.lists(st.sampled_from([0, 0, 0, 3]), min_size=20, max_size=20),
    moved=st.lists(st.integers(-200, 200), min_size=20, max_size=20),
)
def test_blocks_merge_without_losing_a_sample_or_a_bound(
    sizes: list[int], missing: list[int], moved: list[int]
) -> None:
    blocks, at = [], 0
    for size, gap, off_ns in zip(sizes, missing, moved, strict=False):
        at += gap
        plain = samples(at, np.arange(at, at + size), missing=gap)
        blocks.append(dataclasses.replace(plain, t_ns=plain.t_ns + off_ns))
        at += size
    whole = merged(blocks)
    assert (
        np.concatenate([block.codes for block in whole]).tolist()
        == np.concatenate([block.codes for block in blocks]).tolist()
    )
    assert [block.missing for block in whole[1:]] == [block.missing for block in blocks[1:] if block.missing]
    for block in blocks:
        [of] = [one for one in whole if one.index <= block.index < one.index + len(one.codes)]
        said_ns = of.t_ns + round((block.index - of.index) * STEP_NS)
        assert abs(block.t_ns - said_ns) + block.t_unc_ns <= of.t_unc_ns


# ---------------------------------------------------------------------------------------------------------- a full ring


def test_blocks_give_way_to_the_instrument_s_samples_and_say_so(tmp_path: Path) -> None:
    kept = Kept(tmp_path, ring_bytes=1 << 16)
    for number in range(40):
        kept.stream.samples(samples(500 * number, [number] * 500), 0)
        kept.stream.flush()
    lost = kept.recorder.front_lost
    assert lost > 0
    assert kept.recorder.ring_used < 0.65
    for number in range(100):
        kept.recorder.sample(Sample(number, 1, number, 0.0, 0.0, 0, 1))
    assert kept.recorder.samples_lost == 0
    blocks, _ = kept.read()
    kept.reader.release()
    kept.stream.samples(samples(20_000, [7] * 500), 0)
    kept.stream.end()
    (after,), (hole,) = kept.read()
    assert hole["cause"] == "ring full"
    assert (hole["from"], hole["to"]) == (blocks[-1].first + 500, after.first - 1)
    assert hole["to"] - hole["from"] + 1 == lost


def test_numbers_go_on_where_a_checkpoint_left_them(tmp_path: Path) -> None:
    kept = Kept(tmp_path)
    assert "front" not in kept.recorder.memory(), "a rig without one remembers what it always did"
    kept.stream.samples(samples(0, [1] * 10), 0)
    kept.stream.end()
    memory = msgpack.unpackb(msgpack.packb(kept.recorder.memory()), strict_map_key=False)
    (tmp_path / "next").mkdir()
    following = Kept(tmp_path / "next")
    following.recorder.remember(memory)
    following.stream.samples(samples(10, [1] * 10), 0)
    following.stream.end()
    (block,), _ = following.read()
    assert block.first == 10


# ------------------------------------------------------------------------------------------------------- what it costs


def test_what_a_recording_costs_is_said_in_gb_per_hour() -> None:
    assert cost_in_words(FULL_HALF, 100_000.0) == (
        "recording full: 0.755 GB/h at 100 kS/s, for 0.01 s of a run (0.0021 MB), then as event"
    )
    assert bytes_per_s(EVENT, 100_000.0, "event") == 5600
    assert "0.02" in cost_in_words(EVENT, 100_000.0)


# ------------------------------------------------------------------------------------------------------------ crossings

LIMITS = Limits(
    full_scale_code=32767,
    hard_code=1000,
    level_code=500,
    level_n=3,
    jump_code=100,
    jump_ratio_q8=512,
    baseline_shift=4,
    rate_code=300,
    rate_n=2,
)


@settings(max_examples=25, deadline=None)
@given(
    codes=st.lists(st.integers(-400, 400), min_size=200, max_size=400),
    surge=st.integers(600, 32767),
    cut=st.integers(1, 50),
)
def test_a_crossing_is_the_first_that_the_device_itself_would_have_made(codes: list[int], surge: int, cut: int) -> None:
    limits = Limits(full_scale_code=32767, hard_code=1000, level_code=500, level_n=3, rate_code=900, rate_n=2)
    wave = [*codes, surge, surge, surge]
    model = Detector(limits)
    first = next((n for n, code in enumerate(wave) if model.step(code) is not Reason.NONE), None)
    watch = CrossingWatch(limits, 0)
    for at in range(0, len(wave), cut):
        watch.samples(samples(at, wave[at : at + cut]))
    assert (None if watch.crossed is None else watch.crossed[0]) == first


def test_a_crossing_is_let_pass_only_when_its_report_is_overdue() -> None:
    watch = CrossingWatch(LIMITS, 0)
    watch.samples(samples(0, [0] * 50))
    watch.samples(samples(50, [2000] * 50))
    assert watch.crossed == (50, Reason.HARD)
    said = []
    for at in range(100, 50 + GRACE_SAMPLES, 50):
        watch.samples(samples(at, [0] * 50))
        said.append(watch.let_pass)
    watch.samples(samples(50 + GRACE_SAMPLES, [0]))
    assert (set(said), watch.let_pass) == ({False}, True)
    pair_wise, said = CrossingWatch(LIMITS, 0), []
    for number in range(GRACE_BLOCKS + 2):
        pair_wise.minmax(pairs(300 * number, 3, peak=1000))
        said.append(pair_wise.let_pass)
    assert said == [False] * (GRACE_BLOCKS + 1) + [True]


def test_what_the_device_did_not_judge_is_not_held_against_it() -> None:
    watch = CrossingWatch(LIMITS, 80)
    watch.samples(samples(0, [2000] * 50))
    watch.samples(samples(50, [2000] * 30 + [0] * 20))
    assert watch.crossed is None


def test_behind_a_gap_no_mean_is_believed_before_it_has_settled() -> None:
    watch = CrossingWatch(LIMITS, 0)
    watch.samples(samples(0, [0] * 200))
    # The device's mean is near 0 still; what came in the gap may have carried it anywhere.
    watch.samples(samples(1200, [150] * 60, missing=1000))
    assert watch.crossed is None
    watch.samples(samples(1260, [150] * 200))
    watch.samples(samples(1460, [299] * 5))
    assert watch.crossed is None, "150 % of the mean is below the ratio"
    watch.samples(samples(1465, [0] * 200))
    watch.samples(samples(1665, [250]))
    assert watch.crossed == (1665, Reason.JUMP)


def test_a_sample_without_a_code_crosses_nothing() -> None:
    watch = CrossingWatch(LIMITS, 0)
    watch.samples(samples(0, [NO_CODE] * 5))
    watch.minmax(
        MinMaxBlock(5, 0, 0, 1, STEP_NS, 1, 4e-8, 0, np.full((3, 2), NO_CODE, "<i2")),
    )
    assert watch.crossed is None


def test_of_pairs_what_one_sample_decides_is_seen() -> None:
    watch = CrossingWatch(LIMITS, 0)
    watch.minmax(pairs(0, 3, peak=999))
    assert watch.crossed is None
    watch.minmax(pairs(300, 3, peak=1000))
    assert watch.crossed == (500, Reason.HARD)
