"""The detector: its definition in Python, its block form and the C code say the same of every sample."""

from __future__ import annotations

import os
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from firmware_proto.frontend import messages as m
from firmware_proto.frontend.detector_model import BlockDetector, Crossing, Detector, Limits, ModelError
from hil.frontend.lockstep import detect
from tests.hil.frontend.desk import CONFIG, needs_cc

pytestmark = needs_cc

LONG = os.environ.get("TIPGUARD_LONG") == "1"
FULL = 32_767
NONE = m.Reason.NONE

CODES = st.one_of(
    st.integers(-32_768, 32_767),
    st.integers(-300, 300),
    st.sampled_from([0, 1, -1, 255, 256, 32_766, 32_767, -32_767, -32_768]),
)
SIZES = st.one_of(st.integers(0, 400), st.integers(0, 32_767))
CONFIGS = st.builds(
    m.Config,
    config_seq=st.just(1),
    hard_code=st.one_of(st.integers(1, 500), st.integers(1, FULL)),
    level_code=SIZES,
    level_n=st.integers(1, 9),
    jump_code=SIZES,
    jump_ratio_q8=st.one_of(st.integers(0, 2000), st.integers(0, 65_535)),
    baseline_shift=st.integers(0, 12),
    rate_code=st.one_of(SIZES, st.integers(0, 65_535)),
    rate_n=st.integers(1, 32),
    pre_n=st.just(0),
    post_n=st.just(0),
    stream=st.just(m.Stream.OFF),
    decimation=st.just(1),
)


def model(config: m.Config, codes: list[int]) -> tuple[list[m.Reason], list[int]]:
    detector = Detector(Limits.of(config, FULL))
    reasons, baselines = [], []
    for code in codes:
        baselines.append(detector.baseline_q8)
        reasons.append(detector.step(code))
    return reasons, baselines


@given(config=CONFIGS, codes=st.lists(CODES, max_size=120))
@settings(max_examples=1000 if LONG else 100)
def test_the_c_code_says_the_same_of_every_sample(config: m.Config, codes: list[int]) -> None:
    reasons, baselines = model(config, codes)
    found, found_baselines = detect(config.pack(), FULL, np.array(codes, np.int16))
    assert found.tolist() == [int(reason) for reason in reasons]
    assert found_baselines.tolist() == baselines


@given(config=CONFIGS, codes=st.lists(CODES, max_size=120), cuts=st.lists(st.integers(0, 120), max_size=6))
@settings(max_examples=1000 if LONG else 100)
def test_blocks_say_the_same_in_whatever_pieces(config: m.Config, codes: list[int], cuts: list[int]) -> None:
    reasons, baselines = model(config, codes)
    blocks = BlockDetector(Limits.of(config, FULL))
    for begin, end in pairwise(sorted({0, len(codes), *(cut for cut in cuts if cut < len(codes))})):
        crossing = blocks.feed(np.array(codes[begin:end], np.int16))
        first = next((at for at in range(begin, end) if reasons[at] is not NONE), None)
        if first is None:
            assert crossing is None
        else:
            assert crossing == Crossing(first - begin, reasons[first], baselines[first] >> 8)


def test_a_long_stream_of_noise_and_steps() -> None:
    rng = np.random.default_rng(7)
    config = m.Config(1, 30_000, 9000, 4, 900, 512, 6, 4000, 8, 0, 0, m.Stream.OFF, 1)
    codes = np.cumsum(rng.integers(-40, 41, 20_000)).astype(np.int16)
    codes[5000:5003] += 5000
    codes[15_000:] += 9500
    reasons, baselines = model(config, codes.tolist())
    found, found_baselines = detect(config.pack(), FULL, codes)
    assert found.tolist() == [int(reason) for reason in reasons]
    assert found_baselines.tolist() == baselines
    assert {m.Reason.JUMP, m.Reason.RATE, m.Reason.LEVEL} <= set(reasons)


def first(config: m.Config, codes: list[int]) -> tuple[int, m.Reason] | None:
    """What the C code says, as a pair."""
    reasons, _ = detect(config.pack(), FULL, np.array(codes, np.int16))
    hits = np.flatnonzero(reasons)
    return (int(hits[0]), m.Reason(int(reasons[hits[0]]))) if hits.size else None


def limits(**changes: int) -> m.Config:
    return replace(CONFIG, **({"hard_code": FULL} | changes))  # type: ignore[arg-type]  # no test names the stream


def test_hard_and_saturated_at_their_limit_with_either_sign() -> None:
    assert first(limits(hard_code=500), [499, -499, 500]) == (2, m.Reason.HARD)
    assert first(limits(hard_code=500), [499, -499, -500]) == (2, m.Reason.HARD)
    assert first(limits(hard_code=500), [32_767]) == (0, m.Reason.SATURATED)
    assert first(limits(), [32_766, -32_767]) == (1, m.Reason.SATURATED)
    assert first(limits(), [-32_768]) == (0, m.Reason.SATURATED)


def test_level_counts_consecutive_samples() -> None:
    config = limits(level_code=100, level_n=3)
    assert first(config, [100, -100, 99, 100, 100, 99]) is None
    assert first(config, [100, -100, 99, 100, 100, -101]) == (5, m.Reason.LEVEL)


def test_jump_waits_for_its_baseline_and_needs_both_distance_and_ratio() -> None:
    config = limits(jump_code=100, jump_ratio_q8=512, baseline_shift=2)
    assert first(config, [0, 0, 0, 100]) is None, "three samples are no baseline of four"
    assert first(config, [0, 0, 0, 0, 100]) == (4, m.Reason.JUMP)
    assert first(config, [0, 0, 0, 0, 99]) is None
    assert first(config, [200] * 8 + [399]) is None, "less than twice"
    assert first(config, [200] * 8 + [400]) == (8, m.Reason.JUMP)
    assert first(config, [200] * 8 + [-400]) == (8, m.Reason.JUMP)


def test_rate_looks_back_exactly_rate_n() -> None:
    config = limits(rate_code=50, rate_n=3)
    assert first(config, [0, 60, 60]) is None, "nothing is three samples old yet"
    assert first(config, [0, 20, 40, 49]) is None
    assert first(config, [0, 20, 40, 50]) == (3, m.Reason.RATE)
    assert first(limits(rate_code=50, rate_n=32), [0] * 32 + [-50]) == (32, m.Reason.RATE)


def test_reasons_have_an_order() -> None:
    every = limits(hard_code=300, level_code=1, level_n=1, jump_code=1, baseline_shift=0, rate_code=1, rate_n=1)
    assert first(every, [0, 300]) == (1, m.Reason.HARD)
    assert first(every, [0, 200]) == (1, m.Reason.JUMP)
    assert first(limits(level_code=1, rate_code=1), [0, 5]) == (1, m.Reason.LEVEL)


@pytest.mark.parametrize(
    ("name", "value"),
    [("hard_code", 0), ("hard_code", 40_000), ("level_n", 0), ("baseline_shift", 13), ("rate_n", 33), ("rate_n", 0)],
)
def test_limits_out_of_range_are_an_error(name: str, value: int) -> None:
    with pytest.raises(ModelError, match=name):
        Limits.of(limits(**{name: value}), FULL)
