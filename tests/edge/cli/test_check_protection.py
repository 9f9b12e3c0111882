"""What ``check`` says about protection: layers, envelope, what would widen it; and that it fits a terminal."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from edge.cli.app import build_app
from edge.cli.layout import grid, wrap
from edge.cli.words_envelope import (
    bound,
    envelope_rows,
    layer_rows,
    plan_in_words,
    promised_in_words,
    times_in_words,
    wider_rows,
)
from edge.config import Config, template
from edge.controller.checkup import check_instrument, check_profile
from edge.controller.checkup_protection import check_protection
from edge.controller.envelopes import Protection, for_plan, protection
from edge.errors import InstrumentError
from edge.experiments.iv import IvPlan
from edge.profile import RigProfile
from hil.rig import config_for
from tests.edge.controller.test_envelopes import GPIO, a_profile, with_profile


@pytest.fixture(autouse=True)
def _place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path / "run"))


def check(*words: str, change: tuple[str, str] = ("", "")) -> Result:
    text = template(path="/dev/absent", serial_number="1304207", series_ohm=1000.0)
    Path("rig.toml").write_text(text.replace("port = 1883", "port = 9").replace(*change), encoding="utf-8")
    return CliRunner().invoke(build_app(with_hil=False, with_demo=False), ["check", *words])


def of(config: Config) -> Protection:
    found = protection(config)
    assert found is not None
    return found


def texts(config: Config) -> dict[str, tuple[str, str]]:
    layers = check_protection(config, protection(config))
    return {one.finding.what: (one.finding.grade, one.finding.text) for one in layers}


def sentences(config: Config, *, allow_clamp: bool = False) -> list[str]:
    return [plan_in_words(row, allow_clamp=allow_clamp) for row in of(config).rows]


def test_host_loss_stays_loud_without_a_heartbeat() -> None:
    assert texts(config_for())["HOST LOSS"] == (
        "warn",
        "NOT PROTECTED: HOST LOSS. If this computer stops, nothing cuts the bias",
    )
    assert "NOT PROTECTED: HOST LOSS" in check().stdout


@pytest.fixture
def _lines_to_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge.controller.checkup_gpio.why_not", lambda _gpio, *, port_emulated: "")


def test_a_heartbeat_that_cannot_be_had_protects_nothing() -> None:
    found = texts(config_for(gpio={**GPIO, "clear_line": 27}))
    assert found["/OE heartbeat"] == ("warn", "[gpio] cannot be used: see gpio chip")
    assert found["HOST LOSS"][1].startswith("NOT PROTECTED: HOST LOSS")


@pytest.mark.usefixtures("_lines_to_be_had")
def test_with_a_heartbeat_the_loss_of_the_host_has_a_time() -> None:
    found = texts(config_for(gpio={**GPIO, "clear_line": 27}))
    assert found["HOST LOSS"] == (
        "ok",
        "if this computer stops, the heartbeat stops too, and the bias is off 40.1 ms later",
    )
    grade, text = found["/OE heartbeat"]
    assert grade == "ok"
    assert "line 17: silence for 40 ms cuts; line 27 cuts at once where a cut protects" in text
    assert "no clear line" in texts(config_for(gpio=GPIO))["/OE heartbeat"][1]


@pytest.mark.usefixtures("_lines_to_be_had")
def test_layers_stand_in_the_order_of_their_speed() -> None:
    for config in (config_for(), config_for(gpio={**GPIO, "clear_line": 27})):
        layers = check_protection(config, protection(config))[:-1]
        acts = [one.acts_within_s for one in layers if one.acts_within_s is not None]
        assert acts == sorted(acts)


def test_the_words_of_a_plan_that_the_clamp_ends() -> None:
    low, high, reset = sentences(config_for())
    promised = [row.envelope for row in of(config_for()).rows]
    assert low.startswith(
        f"search to 1 V: A current that grows tenfold in less than {bound(promised[0].tenfold_s, 's')} can reach "
        "100 µA before the bias is off; the SMU's clamp then holds it at 100 µA, and for the first 30 µs the resistor "
        "at 1.00 mA."
    )
    assert "Sure to be seen from 7.4 µA on, by SURGE_JUMP in 2 readings." in high
    # A milliampere: as many microcoulombs as milliseconds, and ten volts.
    charge = math.ceil(promised[1].step_s * 1e3)
    assert f"A short draws 1.00 mA for at most {charge} ms: {charge} µC, " in high
    assert high.endswith("Refused on this rig: the resistor is below 10.0 kΩ.")
    assert "Refused" not in low
    assert reset.startswith("reset at 1 V: 1.00 kΩ lets no more than 1.00 mA through, however fast a current grows.")
    assert sentences(config_for(), allow_clamp=True)[1].endswith(
        "Runs with --accept-clamp only: the resistor is below 10.0 kΩ."
    )
    assert "30 µs late and behind the cable's charge" in sentences(config_for(series_ohm=0.0))[1]


def test_a_small_current_that_no_test_sees_is_said_so() -> None:
    reset = sentences(config_for(series_ohm=10_000.0))[2]
    assert "A short draws 100 µA, which no test takes for a surge." in reset
    [row] = [r for r in wider_rows(of(config_for(series_ohm=10_000.0))) if r.cells[0].startswith("as it is")]
    assert row.cells[-1] == "any, no cut"


@pytest.mark.parametrize(
    ("value", "says"),
    [(0.0471, "48 ms"), (0.048, "48 ms"), (0.04801, "49 ms"), (0.995, "1.0 s"), (1e-4, "100 µs"), (7.31e-6, "7.4 µs")],
)
def test_a_bound_is_rounded_up(value: float, says: str) -> None:
    assert bound(value, "s") == says
    assert bound(float("inf"), "s") == "n/a"
    assert bound(0.0, "s") == "0 s"


def test_where_the_times_come_from_is_said() -> None:
    assert "Nothing of this rig was measured" in times_in_words(of(config_for()))
    measured = with_profile(config_for(), a_profile())
    assert "measured on this rig, 2026-11-26T12:00:00Z" in times_in_words(of(measured))
    assert "measured 2026-11-26" in texts(measured)["host guard"][1]
    assert "not measured" in texts(config_for())["host guard"][1]


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"limits": {"voltage_v": 0.25, "current_a": 80e-6}},
        {"limits": {"voltage_v": 20.0, "allow_clamp": True}},
        {"gpio": {**GPIO, "clear_line": 27}},
        {"ports": {"smu": {"path": "memory", "baud": 9600}}},
    ],
)
def test_everything_fits_80_columns(changes: dict[str, Any]) -> None:
    config = config_for(**changes)
    found = of(config)
    for rows in (layer_rows(check_protection(config, found)), envelope_rows(found), wider_rows(found)):
        assert max(map(len, grid(rows, 80).plain.splitlines())) <= 80, rows


def test_a_quantity_is_not_broken_from_its_unit() -> None:
    assert wrap("a short of 73 µC and 730 µJ", 15) == ["a short of", "73 µC and", "730 µJ"]


def test_json_has_it_all() -> None:
    said = json.loads(check("--json").stdout)
    found = {one["what"] for one in said["findings"]}
    assert {one["layer"] for one in said["layers"]} <= found
    [low, high, reset] = said["protection"]["envelope"]
    assert 0.010 < low["tau_min_s"] < 0.025
    assert low["tenfold_s"] == pytest.approx(low["tau_min_s"] * math.log(10))
    assert (high["seen_by"], reset["seen_by"]) == ("SURGE_JUMP", "HARD_LIMIT")
    assert high["v_max_v"] == 10.0
    assert said["protection"]["widen"][1]["what"] == "9600 baud"
    # What has no end is null, not a word that JSON does not know.
    kohm = next(one for one in said["protection"]["widen"] if one["what"] == "10 kohm at the tip")
    assert kohm["plans"][2]["charge_c"] is None


def test_a_cell_is_told_that_there_are_no_plans() -> None:
    done = check(change=('kind = "tip" ', 'kind = "cell"'))
    assert "No plans exist yet for a rig of kind cell: there is no envelope." in done.stdout
    assert json.loads(check("--json", change=('kind = "tip" ', 'kind = "cell"')).stdout)["protection"] is None


def test_what_a_run_says_first() -> None:
    config = config_for()
    low = for_plan("iv", IvPlan(to_v=-0.6).describe(), config)
    assert low is not None
    assert promised_in_words(low) == (
        f"what takes {bound(low['tenfold_s'], 's')} or more to grow tenfold is cut before 100 µA; what is faster, the "
        "SMU's clamp holds"
    )
    held = for_plan("iv", IvPlan(to_v=-10.0, step_v=0.1).describe(), config_for(series_ohm=10_000.0))
    assert held is not None
    assert promised_in_words(held) == "the series resistor lets no more than 1.00 mA through"
    assert promised_in_words({**low, "seen_by": None}).startswith("nothing is sure to see a surge")


@pytest.mark.parametrize(
    ("profile", "emulated", "grade", "says"),
    [
        (None, True, None, ""),
        (None, False, "fail", "`run` refuses this port until `tipguard commission`"),
        (a_profile(), True, "ok", "measured 2026-11-26T12:00:00Z, serial 1304207"),
        (a_profile(), False, "ok", "measured 2026-11-26T12:00:00Z"),
        (a_profile(serial_number="7"), True, "warn", "not used: rig-profile.json was measured with"),
        (a_profile(serial_number="7"), False, "fail", "run `tipguard commission`"),
        (a_profile(baud=9600), False, "fail", "9600"),
    ],
)
def test_the_rig_profile_is_this_rig_s_or_is_not_used(
    profile: RigProfile | None,
    emulated: bool,
    grade: str | None,
    says: str,
) -> None:
    config = config_for() if profile is None else with_profile(config_for(), profile)
    found = check_profile(config, emulated=emulated)
    assert [one.grade for one in found] == ([] if grade is None else [grade])
    assert all(says in one.text for one in found)


def test_the_page_shows_the_tables_as_they_are_printed() -> None:
    page = (Path(__file__).parents[3] / "docs" / "envelope.md").read_text(encoding="utf-8")
    found = of(config_for())
    for rows in (envelope_rows(found), wider_rows(found)):
        assert f"```\n{grid(rows, 80).plain}\n```" in page


def test_an_adapter_that_holds_replies_back_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    class Late:
        emulated = False
        warning = "port /dev/x: FTDI FT232R (ftdi_sio): replies may come up to 16 ms late"

        def __init__(self, path: str, baud: int) -> None:
            self._ends = os.openpty()

        def fileno(self) -> int:
            return self._ends[1]

        def close(self) -> None:
            for end in self._ends:
                os.close(end)

    def mute(_link: object, _config: object) -> None:
        raise InstrumentError("nobody answers")

    monkeypatch.setattr("edge.controller.checkup.OpenPort", Late)
    monkeypatch.setattr("edge.controller.checkup.make_smu", mute)
    late, instrument = check_instrument(config_for())
    assert (late.what, late.grade) == ("adapter", "warn")
    assert late.text == "/dev/x: FTDI FT232R (ftdi_sio): replies may come up to 16 ms late"
    assert (instrument.what, instrument.grade) == ("instrument", "fail")
