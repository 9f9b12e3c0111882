"""Waveforms for the detector, drawn from a seed: every reason, every shape a current takes, and quiet ones.

What a device should do with each is not known here: the model says it (``firmware_proto.frontend.detector_model``).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from firmware_proto.frontend.messages import Config, Stream

FULL_SCALE: Final = 32767
Codes = npt.NDArray[np.int16]
Floats = npt.NDArray[np.float64]
LENGTHS: Final = (120, 480)
"""Samples of a waveform, shortest and longest."""


@dataclass(frozen=True, slots=True)
class Waveform:
    """Codes from the first sample of the wave on; before it the first one is held."""

    name: str
    config: Config
    codes: Codes


def _step(rng: random.Random, n: int) -> Floats:
    wave = np.full(n, rng.uniform(-40, 40))
    wave[rng.randrange(n // 4, n) :] += rng.choice((-1, 1)) * rng.uniform(20, 30_000)
    return wave


def _ramp(rng: random.Random, n: int) -> Floats:
    return np.linspace(rng.uniform(-300, 300), rng.choice((-1, 1)) * rng.uniform(500, 32_000), n)


def _surge(rng: random.Random, n: int) -> Floats:
    """An exponential growth out of the floor, as a filament forms: e-folds in 1 to 40 samples."""
    at, tau = rng.randrange(n // 4, n), rng.uniform(1, 40)
    rise = np.exp(np.minimum((np.arange(n) - at) / tau, 20.0))
    return rng.uniform(-30, 30) + rng.choice((-1, 1)) * np.minimum(rng.uniform(2, 60) * rise, 40_000)


def _glitch(rng: random.Random, n: int) -> Floats:
    """Single samples far away; LEVEL with level_n > 1 must not take them for a level."""
    wave = np.full(n, rng.uniform(-200, 200))
    for _ in range(rng.randrange(1, 6)):
        wave[rng.randrange(n)] = rng.choice((-1, 1)) * rng.uniform(100, 30_000)
    return wave


def _plateaus(rng: random.Random, n: int) -> Floats:
    """Levels that are held for a while, some too short for level_n."""
    wave, at = np.zeros(n), 0
    while at < n:
        width = rng.randrange(1, 12)
        wave[at : at + width] = rng.uniform(-1, 1) * rng.choice((200, 2_000, 12_000))
        at += width
    return wave


def _sine(rng: random.Random, n: int) -> Floats:
    phase = np.arange(n, dtype=np.float64) * rng.uniform(0.005, 1.0) + rng.uniform(0, 6)
    wave: Floats = np.sin(phase) * rng.uniform(100, 20_000)
    return wave


def _extremes(rng: random.Random, n: int) -> Floats:
    """Codes at the ends of the converter and beside them."""
    wave = np.zeros(n)
    wave[rng.randrange(n // 4, n)] = rng.choice((32767, 32766, -32767, -32766, -32768))
    return wave


def _quiet(rng: random.Random, n: int) -> Floats:
    return np.full(n, rng.uniform(-20, 20))


SHAPES: Final[dict[str, Callable[[random.Random, int], Floats]]] = {
    "step": _step,
    "ramp": _ramp,
    "surge": _surge,
    "glitch": _glitch,
    "plateaus": _plateaus,
    "sine": _sine,
    "extremes": _extremes,
    "quiet": _quiet,
}


def _config(rng: random.Random, number: int) -> Config:
    """Draw limits; each test is off in some, so that every one gets to be the first."""
    return Config(
        config_seq=number & 0xFFFF,
        hard_code=rng.choice((FULL_SCALE, rng.randrange(500, FULL_SCALE))),
        level_code=rng.choice((0, rng.randrange(100, 20_000))),
        level_n=rng.randrange(1, 9),
        jump_code=rng.choice((0, rng.randrange(20, 5_000))),
        jump_ratio_q8=rng.choice((0, 256, rng.randrange(257, 4_096))),
        baseline_shift=rng.randrange(0, 7),
        rate_code=rng.choice((0, rng.randrange(20, 10_000))),
        rate_n=rng.randrange(1, 33),
        pre_n=rng.randrange(0, 64),
        post_n=rng.randrange(0, 16),
        stream=Stream.OFF,
        decimation=1,
    )


def waveforms(n: int, seed: int) -> Iterator[Waveform]:
    """Draw ``n`` of them; the same seed draws the same, whatever ``n``."""
    names = list(SHAPES)
    for number in range(n):
        rng = random.Random(f"{seed}/{number}")
        name = names[number % len(names)]
        length = rng.randrange(*LENGTHS)
        wave = SHAPES[name](rng, length)
        noise = np.random.default_rng(rng.randrange(1 << 32)).normal(0, rng.choice((0.0, 1.0, 15.0)), length)
        if name != "extremes":
            wave = wave + noise
        codes = np.clip(np.rint(wave), -32768, 32767).astype(np.int16)
        yield Waveform(f"{number}-{name}", _config(rng, number), codes)
