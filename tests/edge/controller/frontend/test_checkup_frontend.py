"""What `tipguard check` and a plan's refusals say of a front end."""

from __future__ import annotations

import dataclasses
import os
import pty
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from edge.cli.words import front_end_in_words
from edge.config import Config
from edge.controller import checkup_frontend
from edge.controller.checkup_frontend import WHAT, Asked, ask_front, check_front_port, judge
from edge.controller.checkup_protection import check_protection
from edge.controller.envelopes import protection
from edge.controller.front_absent import AbsentFrontEnd, NoFrontEnd, front_end, why_unrecorded
from edge.controller.preflight import refuse_or_pass
from edge.errors import PlanRefusedError
from edge.experiments.iv import IvPlan
from firmware_proto.frontend.messages import ResetCause, Welcome
from hil.rig import config_for

LONG = IvPlan(to_v=-0.6, dwell_s=10.0)


def rig(**frontend: Any) -> Config:  # noqa: ANN401 - keys of [frontend]
    return config_for(frontend=frontend)


def moved(config: Config, **paths: str) -> Config:
    """Return the configuration with other paths of ports."""
    data = config.model_dump()
    for port, path in paths.items():
        data["ports"][port]["path"] = path
    return Config.model_validate(data)


def a_unit(**more: Any) -> Any:  # noqa: ANN401 - what judge looks at
    welcome = Welcome(
        schema_hash=1,
        host_nonce=1,
        boot_nonce=1,
        session=1,
        version=1,
        build_id=0xABC,
        reset_cause=ResetCause.POWER,
        board="mps2-an385",
        tick_hz=25_000_000,
        sample_hz=100_000,
        code_pa=40_000,
        full_scale_code=32767,
        max_payload=512,
        credit_window=64,
        box_max=2048,
        lease_max_ms=100,
        switch_open_ns=1000,
        safe_closed=0,
        state=0,  # type: ignore[arg-type]
    )
    return SimpleNamespace(**{"welcome": welcome, "mismatch": "", "emulated": True, "trip_now": None, **more})


# ------------------------------------------------------------------------------------------------------------- its port


def test_its_port_is_looked_at(tmp_path: Path) -> None:
    assert check_front_port(config_for()) == []
    (absent,) = check_front_port(rig())
    assert (absent.grade, "memory-frontend" in absent.text) == ("fail", True)
    ours, theirs = pty.openpty()
    name = os.ttyname(theirs)
    config = moved(config_for(port=name, frontend={}), frontend=name)
    (doubled,) = check_front_port(config)
    assert doubled.grade == "fail"
    assert "each has its own" in doubled.text
    other = moved(config, smu="/dev/null")
    (fine,) = check_front_port(other)
    assert fine.grade == "ok"
    for fd in (ours, theirs):
        os.close(fd)


# ----------------------------------------------------------------------------------------------------------- the device


def test_a_rig_without_one_asks_nobody() -> None:
    assert ask_front(config_for()) == Asked([])


def test_one_that_answers_is_told_with_what_its_recording_costs() -> None:
    asked = judge(rig(recording="full", full_max_s=60.0), a_unit())
    who, cost = asked.findings
    assert (who.grade, "100 kS/s" in who.text) == ("ok", True)
    assert "0.755 GB/h" in cost.text
    assert asked.device is not None
    assert (asked.device.sample_hz, asked.device.lease_max_s) == (100_000.0, 0.1)


def test_another_schema_and_a_section_that_does_not_fit_are_failures() -> None:
    (other,) = judge(rig(), a_unit(mismatch="the front end was built from schema 1")).findings
    assert other.grade == "fail"
    assert "never armed" in other.text
    (small,) = judge(rig(level_a=1e-9), a_unit()).findings
    assert small.grade == "fail"
    assert "frontend.level_a" in small.text


def test_one_whose_numbers_cannot_be_is_told() -> None:
    unit = a_unit()
    unit.welcome = dataclasses.replace(unit.welcome, code_pa=0)
    (wrong,) = judge(rig(), unit).findings
    assert (wrong.grade, "cannot be" in wrong.text) == ("fail", True)


def test_what_is_promised_of_the_rig_comes_from_what_the_device_declares() -> None:
    config = rig(level_a=1e-4)
    without = {layer.finding.what: layer.finding for layer in check_protection(config, protection(config))}
    assert without["front end"].grade == "warn"
    asked = judge(config, a_unit())
    layers = {one.finding.what: one for one in check_protection(config, protection(config, asked.device))}
    assert layers["front end"].finding.grade == "ok"
    assert layers["HOST LOSS"].finding.grade == "ok"
    assert layers["HOST LOSS"].acts_within_s == pytest.approx(0.1, abs=0.001)


def test_a_running_controller_is_asked_in_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge.rundir.controller_runs", lambda _directory: True)
    (unready,) = ask_front(rig()).findings
    assert (unready.what, unready.grade) == (WHAT, "fail")
    said = {"sample_hz": 1e5, "switch_open_s": 1e-6, "code_a": 4e-8, "lease_max_s": 0.1}
    monkeypatch.setattr(checkup_frontend, "_status_of", lambda _config: {"declares": said, "board": "b"})
    asked = ask_front(rig())
    assert [finding.grade for finding in asked.findings] == ["ok"]
    assert asked.device is not None


def test_a_person_is_told_in_a_line() -> None:
    base = {"board": "b", "sample_hz": 100_000, "recording": "event", "rows": 5, "rows_lost": 0, "spoken_to": True}
    live = {**base, "state": "ARMED", "closed": True, "trip": None}
    assert front_end_in_words(live) == "b, 100 kS/s; ARMED, its switch closed; recording event, 5 rows"
    assert "no run" in front_end_in_words({**live, "spoken_to": False})
    assert "2 LOST" in front_end_in_words({**live, "rows_lost": 2})
    assert "last trip HARD" in front_end_in_words({**live, "trip": {"reason": "HARD"}})
    assert front_end_in_words({"board": None}) == "has not answered yet"
    assert front_end_in_words({"lost": "gone"}) == "LOST: gone"
    assert "NEVER ARMED" in front_end_in_words({"mismatch": "schema"})


# ----------------------------------------------------------------------------------------------------------- refusals


def test_a_plan_of_hours_is_protected_by_the_lease() -> None:
    with pytest.raises(PlanRefusedError, match="NOT PROTECTED"):
        refuse_or_pass(LONG, config_for(), emulated=True)
    refuse_or_pass(LONG, rig(), emulated=True)


def test_what_stands_in_its_place() -> None:
    nothing = front_end(config_for(), None, None, None)  # type: ignore[arg-type] # looked at by nobody
    assert type(nothing) is NoFrontEnd
    assert nothing.describe() is None
    gone = front_end(rig(), None, None, None)  # type: ignore[arg-type]
    assert isinstance(gone, AbsentFrontEnd)
    assert "is gone" in str(gone.describe())


def test_only_what_would_fill_the_flight_record_is_left_out_of_it() -> None:
    assert why_unrecorded(config_for()) is None
    assert why_unrecorded(rig()) is None
    assert why_unrecorded(rig(recording="decimated")) is None
    assert "replayed" in str(why_unrecorded(rig(recording="full", full_max_s=1.0)))
