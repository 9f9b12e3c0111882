"""The whole controller on slow look-alikes: measured and waited for, or refused; the bound of a cut stays.

And the cuts of keeper and safe-off, which know nothing of a unit's habits: verified, or said not to be.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from edge.controller import cutting
from edge.guard.cut import Cut
from edge.guard.states import State
from edge.guard.verdicts import Verdict
from hil.devices.lookalike import Personality
from hil.lookalike_bench import SWEEP, Meeting, meet, refused_at_start
from hil.virtual_bench import MS

# --------------------------------------------------------------------------------------------------------------- slow


@pytest.mark.parametrize("delay_s", [0.02, 0.05, 0.1])
def test_slow_replies_are_measured_and_waited_for(tmp_path: Path, delay_s: float) -> None:
    async def work(met: Meeting) -> None:
        await met.sweep()
        await met.sweep()

    met = meet(tmp_path, Personality(delay_s=delay_s), work)
    assert [run["status"] for run in met.runs] == ["completed"] * 2, met.run["reason"]
    (note,) = met.notes
    told_ms = float(note.removeprefix("replies take ").split(" ")[0])
    assert delay_s * 1e3 <= told_ms <= delay_s * 1e3 + 5
    assert met.bench.engine.state is State.SAFE


@pytest.mark.parametrize("delay_s", [0.13, 0.2, 0.5])
def test_replies_too_slow_for_the_deadline_are_refused_with_both_times(tmp_path: Path, delay_s: float) -> None:
    met = meet(tmp_path, Personality(delay_s=delay_s))
    assert met.run["status"] == "failed"
    assert re.search(
        rf"takes up to \d+ ms, of which {delay_s * 1e3 + 1:.0f} ms are the replies' own delay; a reading must be "
        r"there within 150 ms\. Nothing was energised",
        met.run["reason"],
    )
    assert not met.ever_live


def test_a_slow_unit_that_falls_silent_is_cut_within_the_same_bound(tmp_path: Path) -> None:
    async def work(met: Meeting) -> None:
        bench = met.bench
        bench.start(SWEEP)
        await bench.until_live()
        quiet_ns = bench.clock.now_ns()
        bench.replies.edit = lambda data: b""
        await bench.until(lambda: bench.engine.state is State.CUTTING)
        await bench.clock.sleep_until(bench.clock.now_ns() + 100 * MS)
        safe_s = bench.safe_after(quiet_ns)
        assert safe_s is not None
        assert safe_s < 0.150 + 0.040
        bench.replies.edit = lambda data: data
        met.runs.append(await bench.ended())

    met = meet(tmp_path, Personality(delay_s=0.1), work)
    assert met.bench.engine.report.trip_verdict is Verdict.STALE


def test_a_reply_later_than_usual_is_stale_and_no_later_ones_number(tmp_path: Path) -> None:
    async def work(met: Meeting) -> None:
        bench = met.bench
        bench.start(SWEEP)
        await bench.until_live(0.1)
        object.__setattr__(met.device.personality, "delay_s", 0.4)
        met.runs.append(await bench.ended())

    met = meet(tmp_path, Personality(delay_s=0.02), work)
    assert met.run["status"] == "tripped"
    assert met.bench.engine.report.trip_verdict is Verdict.STALE


def test_without_waiting_for_slow_proofs_every_sweep_would_end_latched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def hasty(*args: Any, reply_ns: int, **rest: Any) -> Cut:  # noqa: ANN401 - Cut's own
        return Cut(*args, **rest)

    monkeypatch.setattr(cutting, "Cut", hasty)
    met = meet(tmp_path, Personality(delay_s=0.1))
    assert met.run["status"] == "tripped"


def test_without_measuring_them_slow_replies_would_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge.instruments.keithley2400_talk.Talk.extra_s", property(lambda _self: 0.0))
    met = meet(tmp_path, Personality(delay_s=0.1))
    assert met.run["status"] == "tripped"
    assert met.bench.engine.report.trip_verdict is Verdict.STALE


def test_a_unit_that_answers_after_the_time_out_is_not_started_on(tmp_path: Path) -> None:
    assert re.search(r"no reply to '\*IDN\?' in 1 s", refused_at_start(tmp_path, Personality(delay_s=1.2)))


def test_a_unit_that_never_wakes_up_is_not_started_on(tmp_path: Path) -> None:
    assert re.search(r"no reply to '\*IDN\?' in 1 s", refused_at_start(tmp_path, Personality(deaf_first=9)))
