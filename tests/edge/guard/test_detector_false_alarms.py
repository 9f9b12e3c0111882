"""False alarms over the nuisances of a real bench: 3e5 readings here, 5e6 in the long rounds.

The nuisances are those of ``tipguard bench detector``, on both ranges of a search: hil/bench/detector/nuisance.py.
"""

from __future__ import annotations

import collections
import os
import random

import pytest

from edge.guard.detector import Detector, DetectorSettings
from edge.guard.phases import phase_spec
from edge.guard.verdicts import Verdict
from edge.samples import Phase
from hil.bench.detector.nuisance import GAPS, LOADS, ohmic, sweep


def false_alarms(readings: int, seed: int) -> tuple[collections.Counter[tuple[str, Verdict]], int]:
    """(false alarms by load and verdict, readings judged)."""
    rng = random.Random(seed)
    alarms: collections.Counter[tuple[str, Verdict]] = collections.Counter()
    judged = 0
    while judged < readings:
        spec = phase_spec(Phase.SEEK, rng.choice([0.3, 10.0]))
        series_ohm = 1500.0 if spec.range_a < 5e-4 else 9.9e3
        settings = DetectorSettings.for_phase(spec, i_limit_a=1e-3, tau_cut_s=0.04, series_ohm=series_ohm)
        detector = Detector(settings, spec.tests)
        make = rng.choice(LOADS)
        for reading in sweep(rng, spec, make(rng), hard_a=settings.hard_a, gaps=rng.choice(GAPS)):
            judged += 1
            verdict = detector.step(reading.sample)
            if verdict is not None:
                alarms[make.__name__, verdict] += 1
                break
    return alarms, judged


def test_none_in_3e5_readings() -> None:
    alarms, judged = false_alarms(300_000, seed=20)
    assert judged >= 300_000
    assert not alarms


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.skipif(os.environ.get("TIPGUARD_LONG") != "1", reason="long rounds: TIPGUARD_LONG=1")
def test_at_most_one_per_million_in_5e6_readings() -> None:
    alarms, judged = false_alarms(5_000_000, seed=21)
    assert alarms.total() <= judged / 1e6, dict(alarms)


def test_the_nuisances_bite() -> None:
    """The same readings judged without what guards against them do give alarms: the set is not a harmless one."""
    rng = random.Random(22)
    alarms = 0
    for _ in range(60):
        spec = phase_spec(Phase.SEEK, 0.3)
        settings = DetectorSettings.for_phase(spec, i_limit_a=1e-3, tau_cut_s=0.04)
        naive = Detector(
            DetectorSettings(
                hard_a=settings.hard_a,
                limit_a=settings.limit_a,
                sigma0_a=settings.sigma0_a / 10.0,
                offset_a=0.0,
                tau_cut_s=0.04,
                jump_samples=1,
            ),
            spec.tests,
        )
        source = sweep(rng, spec, ohmic(rng), hard_a=settings.hard_a, gaps="range change")
        alarms += any(naive.step(reading.sample) is not None for reading in source)
    assert alarms > 20
