"""A rig with a front end: its row beside the guard's, its layers, its words, and what a lost host leaves."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import pytest

from edge.cli.layout import grid
from edge.cli.words_envelope import envelope_rows, front_in_words, layer_rows, promised_in_words, wider_rows
from edge.config import Config
from edge.controller.checkup_protection import check_protection
from edge.controller.envelopes import Protection, for_plan, protection, to_document
from edge.controller.envelopes_frontend import declared, thresholds_of, told
from edge.experiments.iv import IvPlan
from edge.guard.envelope_frontend import FrontEndDevice
from edge.instruments.frontend_limits import device_config
from firmware_proto.frontend import messages
from hil.rig import config_for
from tests.edge.controller.test_envelopes import GPIO

FAST = FrontEndDevice(sample_hz=100e3, switch_open_s=300e-9, code_a=40e-9, lease_max_s=0.1)
SLOW = dataclasses.replace(FAST, sample_hz=10e3)


def rig(*, gpio: dict[str, Any] | None = None, **section: float) -> Config:
    more: dict[str, Any] = {} if gpio is None else {"gpio": gpio}
    ports = {"frontend": {"path": "memory-frontend"}}
    return config_for(ports=ports, frontend={"hard_a": 0.5e-3, **section}, **more)


def of(config: Config, device: FrontEndDevice | None = FAST) -> Protection:
    found = protection(config, device)
    assert found is not None
    return found


def texts(config: Config, device: FrontEndDevice | None = FAST) -> dict[str, tuple[str, str]]:
    layers = check_protection(config, protection(config, device))
    return {one.finding.what: (one.finding.grade, one.finding.text) for one in layers}


def welcome(**changes: int) -> messages.Welcome:
    fields: dict[str, Any] = {
        "schema_hash": 1,
        "host_nonce": 2,
        "boot_nonce": 3,
        "session": 4,
        "version": 1,
        "build_id": 5,
        "reset_cause": messages.ResetCause.POWER,
        "board": "bench",
        "tick_hz": 1_000_000_000,
        "sample_hz": 100_000,
        "code_pa": 40_000,
        "full_scale_code": 32767,
        "max_payload": 512,
        "credit_window": 8,
        "box_max": 2048,
        "lease_max_ms": 100,
        "switch_open_ns": 300,
        "safe_closed": 0,
        "state": messages.State.SAFE,
    }
    return messages.Welcome(**fields | changes)


def test_what_a_device_declares_is_taken_as_it_is() -> None:
    assert declared(welcome()) == FAST
    assert declared(welcome(sample_hz=10_000)) == SLOW
    # A device that says nonsense is promised nothing of.
    assert declared(welcome(sample_hz=0)) is None
    assert declared(welcome(code_pa=0)) is None


def test_the_file_s_limits_are_the_device_s() -> None:
    section = rig(level_a=50e-6, jump_a=5e-6, rate_a=20e-6, baseline_s=0.001).frontend
    assert section is not None
    found = thresholds_of(section, FAST)
    assert (found.hard_a, found.level_a, found.level_n, found.jump_a) == (0.5e-3, 50e-6, 3, 5e-6)
    # 1 ms are 100 samples: the next shorter power of two is 64; at 10 kS/s it is 8.
    assert found.baseline_shift == 6
    assert thresholds_of(section, SLOW).baseline_shift == 3
    bare = rig().frontend
    assert bare is not None
    assert (thresholds_of(bare, FAST).level_a, thresholds_of(bare, FAST).jump_a, thresholds_of(bare, FAST).rate_a) == (
        0,
        0,
        0,
    )


@pytest.mark.parametrize("baseline_s", [1e-6, 1e-3, 0.005, 0.0064, 0.2])
@pytest.mark.parametrize("sample_hz", [10_000, 100_000])
def test_the_limits_are_those_that_the_driver_uploads(sample_hz: int, baseline_s: float) -> None:
    section = rig(level_a=50e-6, jump_a=5e-6, jump_ratio=3.0, rate_a=20e-6, baseline_s=baseline_s).frontend
    device = declared(welcome(sample_hz=sample_hz))
    assert section is not None
    assert device is not None
    found, sent = thresholds_of(section, device), device_config(section, welcome(sample_hz=sample_hz), "off", 1)
    assert found.baseline_shift == sent.baseline_shift
    assert (found.level_n, found.rate_n, 256 * found.jump_ratio) == (sent.level_n, sent.rate_n, sent.jump_ratio_q8)
    for value_a, code in (
        (found.hard_a, sent.hard_code),
        (found.level_a, sent.level_code),
        (found.jump_a, sent.jump_code),
        (found.rate_a, sent.rate_code),
    ):
        assert 0 <= value_a / device.code_a - code < 1


def test_what_a_running_controller_tells_of_it() -> None:
    assert told({"declares": dataclasses.asdict(FAST), "board": "bench"}) == FAST
    assert [told(status) for status in (None, {}, {"declares": None}, "lost")] == [None] * 4


def test_a_rig_with_a_front_end_has_its_row_beside_the_guard_s() -> None:
    found = of(rig())
    alone = protection(config_for())
    assert alone is not None
    # The guard is what it was.
    assert [row.envelope for row in found.rows] == [row.envelope for row in alone.rows]
    high = found.rows[1]
    assert high.front is not None
    assert high.front.envelope.tau_min_s == pytest.approx(20.3e-6 / math.log(1e-3 / 500.2e-6))
    assert high.best is high.front.envelope
    # 0.5 mA are never reached where the range clamps at 100 uA: there the guard is all there is.
    low = found.rows[0]
    assert low.front is not None
    assert low.front.envelope.tau_min_s == math.inf
    assert low.best is low.envelope
    # One more front end would not widen it.
    assert not [one for one in found.wider if one.what.startswith("front end")]


def test_without_having_been_asked_nothing_is_promised_of_it() -> None:
    found = of(rig(), None)
    assert found.front is None
    assert [row.front for row in found.rows] == [None] * 3
    assert front_in_words(found) == []
    assert texts(rig(), None)["front end"] == ("warn", "did not say what it is: nothing is promised of it")
    assert texts(rig(), None)["HOST LOSS"][1].startswith("NOT PROTECTED: HOST LOSS")
    # A device without a section in the file is nobody's.
    assert of(config_for(), FAST).front is None


def test_the_lease_covers_the_loss_of_the_host() -> None:
    grade, text = texts(rig())["HOST LOSS"]
    assert (grade, text) == (
        "ok",
        "if this computer stops, the front end's lease ends, and the path is open 100.1 ms later",
    )
    assert "50.1 ms later" in texts(rig(lease_s=0.05))["HOST LOSS"][1]


def test_heartbeat_and_lease_are_both_told_the_faster_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge.controller.checkup_gpio.why_not", lambda _gpio, *, port_emulated: "")
    config = rig(gpio=GPIO)
    layers = check_protection(config, protection(config, FAST))
    assert layers[-1].acts_within_s == pytest.approx(0.0401)
    assert layers[-1].finding.text == (
        "if this computer stops, the heartbeat stops too, and the bias is off 40.1 ms later; besides, the front end's "
        "lease ends, and the path is open 100.1 ms later"
    )


@pytest.mark.parametrize("device", [FAST, SLOW])
def test_the_front_end_stands_where_its_speed_puts_it(device: FrontEndDevice) -> None:
    layers = check_protection(rig(), protection(rig(), device))[:-1]
    acts = [one.acts_within_s for one in layers if one.acts_within_s is not None]
    assert acts == sorted(acts)
    [front] = [one for one in layers if one.finding.what == "front end"]
    assert front.acts_within_s == pytest.approx(2 / device.sample_hz + 300e-9)
    names = [one.finding.what for one in layers]
    assert (names.index("front end") < names.index("SMU compliance")) is (device is FAST)


def test_the_words() -> None:
    said, plans = front_in_words(of(rig(jump_a=5e-6, jump_ratio=3.0)))
    assert said.startswith("Front end: 100 kS/s, trips by itself from 500 µA on (HARD), JUMP from 5.00 µA; one sample")
    assert "300 ns until its switch is open: 21 µs." in said
    assert "the path is open at most 110 ms later" in said
    assert "no more than 510 µA can flow for that long: 51 µC." in said
    assert "search to 1 V: it is not sure to see anything before 100 µA; the host guard's row is all there is." in plans
    assert "by JUMP in 1 sample; a short draws 10.0 mA for at most 21 µs, 210 nC, 2.1 µJ." in plans


def test_without_a_resistor_a_short_has_no_bound_until_the_clamp_acts() -> None:
    ports = {"frontend": {"path": "memory-frontend"}}
    found = of(config_for(series_ohm=0.0, ports=ports, frontend={"hard_a": 0.5e-3}))
    cells = [row.cells for row in envelope_rows(found) if row.cells[0] == "  front end"]
    assert [cell[4] for cell in cells][1] == "no bound"
    assert "a short draws" not in " ".join(front_in_words(found))


def test_the_page_shows_the_rows_as_they_are_printed() -> None:
    page = (Path(__file__).parents[3] / "docs" / "envelope.md").read_text(encoding="utf-8")
    printed = grid(envelope_rows(of(rig(level_a=20e-6))), 80).plain
    assert "\n".join(line.rstrip() for line in printed.splitlines()) in page


@pytest.mark.parametrize("device", [FAST, SLOW, None])
def test_everything_fits_80_columns(device: FrontEndDevice | None) -> None:
    found = of(rig(jump_a=5e-6, level_a=50e-6), device)
    for rows in (layer_rows(check_protection(rig(), found)), envelope_rows(found), wider_rows(found)):
        assert max(map(len, grid(rows, 80).plain.splitlines())) <= 80, rows


def test_a_plan_is_promised_the_faster_of_the_two() -> None:
    config = rig(level_a=20e-6, level_n=3)
    plan = IvPlan(to_v=-0.6).describe()
    found, without = for_plan("iv", plan, config, FAST), for_plan("iv", plan, config)
    assert found is not None
    assert without is not None
    assert (found["by"], without["by"]) == ("front end", "host guard")
    # Three samples, one to decide, the switch; five from 20 uA to 100 uA.
    assert found["tau_min_s"] == pytest.approx(40.3e-6 / math.log(100e-6 / 20.2e-6))
    assert "is cut before 100 µA by the front end; what is faster" in promised_in_words(found)
    assert "by the front end" not in promised_in_words(without)


def test_the_document_names_its_units() -> None:
    found = to_document(of(rig(jump_a=5e-6)))
    front = found["front_end"]
    units = ("_s", "_a", "_c", "_hz", "_n", "_shift", "_ratio")
    assert [key for key in front if key != "host_loss" and not key.endswith(units)] == []
    assert [key for key in front["host_loss"] if not key.endswith(units)] == []
    assert front["until_open_s"] == pytest.approx(20.3e-6)
    assert front["host_loss"]["open_after_s"] == pytest.approx(0.1000103)
    row = found["envelope"][1]["front_end"]
    assert (row["seen_by"], row["reason"]) == ("FRONTEND", "JUMP")
    assert {test["reason"] for test in row["tests"]} == {"HARD", "JUMP"}
    assert row["t_gap_s"] == pytest.approx(10e-6)
    without = to_document(of(config_for(), None))
    assert without["front_end"] is None
    assert [one["front_end"] for one in without["envelope"]] == [None] * 3
