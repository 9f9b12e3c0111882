"""What a host was late for is begun again, a bounded number of times, and nothing else is."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from _pytest.outcomes import Failed

from hil.errors import BenchFaultError
from hil.processes import BenchRig, RigSpec, wait_for
from tests import live_runs
from tests.live_runs import TooLateError, ended, flowing, on_a_rig, rearm_after_lateness, sweep

OHMIC = RigSpec(load="ohmic:1e6")
DEADLINE_S = 0.1
"""More than the 40 ms after which a reading is due."""


class Told:
    """A rig whose runs end as told: with a verdict, or None for a current that flows."""

    def __init__(self, *runs: str | None) -> None:
        self._runs = iter(runs)
        self.verdict: str | None = None
        self.state = "SAFE"
        self.begun = 0
        self.sample: dict[str, Any] | None = None

    def start_run(self, plan: str, **parameters: Any) -> str:  # noqa: ANN401 - as a rig's
        assert (plan, self.state) == ("iv", "SAFE")
        self.begun += 1
        self.verdict = next(self._runs)
        self.state = "ENERGISED" if self.verdict is None else "TRIPPED"
        if self.verdict is None:
            self.sample = {"t_ns": time.monotonic_ns(), "current_a": -1e-6}
        return f"run {self.begun}"

    def status(self) -> dict[str, Any]:
        return {"state": self.state, "verdict": self.verdict, "sample": self.sample}

    def wait_state(self, *states: str) -> dict[str, Any]:
        assert self.state in states
        return self.status()

    def call(self, verb: str, /) -> dict[str, Any]:
        assert (verb, self.state) == ("rearm", "TRIPPED")
        self.state = "SAFE"
        return {"ok": True}


@pytest.mark.parametrize(("runs", "begun"), [([None], 1), (["STALE", None], 2), (["LEASE", "STALE", None], 3)])
def test_a_sweep_that_the_host_was_late_for_is_begun_again(
    runs: Iterable[str | None], begun: int, capsys: pytest.CaptureFixture[str]
) -> None:
    rig = Told(*runs)
    assert sweep(rig) == f"run {begun}"
    assert rig.begun == begun
    assert capsys.readouterr().out.count("another try") == begun - 1


@pytest.mark.parametrize("verdict", ["SURGE_JUMP", "OPERATOR", "LINK_LOST", "RESTART", "CUT_UNVERIFIED", None])
def test_any_other_trip_fails_at_once(verdict: str | None) -> None:
    rig = Told()
    rig.state, rig.verdict = "TRIPPED", verdict
    with pytest.raises(Failed, match=f"tripped by {verdict}, which is not"):
        rearm_after_lateness(rig)
    assert rig.state == "TRIPPED"


def test_a_host_that_is_always_late_fails() -> None:
    rig = Told(*["STALE"] * 9)
    with pytest.raises(Failed, match="late 5 times"):
        sweep(rig)
    assert rig.begun == 5


def test_the_last_run_s_current_is_not_this_one_s(monkeypatch: pytest.MonkeyPatch) -> None:
    rig = Told()
    rig.sample = {"t_ns": time.monotonic_ns(), "current_a": -1e-6}

    def begin() -> None:
        rig.state = "ENERGISED"

    monkeypatch.setattr(live_runs, "FLOWS_S", 0.05)
    with pytest.raises(BenchFaultError, match="a current of"):
        flowing(rig, begin)


@pytest.mark.processes
def test_an_instrument_that_waited_for_its_core_is_told_from_one_that_is_broken(tmp_path: Path) -> None:
    tried: list[str] = []

    def begin(rig: BenchRig) -> str:
        tried.append(rig.start_run("iv", to_v=-1.0, step_v=0.01, dwell_s=0.02, back_scan=False))
        if len(tried) == 1:
            wait_for_its_core(rig)
        return tried[-1]

    with BenchRig.running(tmp_path / "rig", OHMIC) as rig:
        assert flowing(rig, lambda: begin(rig)) == tried[-1]
        assert len(tried) >= 2
        wait_for_its_core(rig)
        with pytest.raises(TooLateError, match="STALE"):
            ended(rig, tried[-1], 20)


def wait_for_its_core(rig: BenchRig) -> None:
    """Keep the instrument from running for a moment in which a reading is due."""
    rig.wait_state("ENERGISED")
    rig.smu.send_signal(signal.SIGSTOP)
    until_s = time.monotonic() + DEADLINE_S
    wait_for("the deadline to pass", lambda: time.monotonic() > until_s, 5)
    rig.smu.send_signal(signal.SIGCONT)


def test_work_that_was_too_late_gets_another_rig_a_few_times(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(BenchRig, "start", lambda self: None)
    made: list[Path] = []

    def work(rig: BenchRig) -> str:
        made.append(rig.directory)
        if len(made) in (1, 2, 4, 5, 6, 7, 8):
            raise TooLateError("STALE")
        return "done"

    assert on_a_rig(tmp_path, OHMIC, work) == "done"
    assert made == [tmp_path / f"rig{number}" for number in range(3)]
    with pytest.raises(Failed, match="each of 5 rigs"):
        on_a_rig(tmp_path, OHMIC, work)
    assert len(made) == 8
