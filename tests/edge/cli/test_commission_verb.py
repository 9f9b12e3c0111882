"""``tipguard commission`` as typed: what a person is asked, what goes to the controller, what is written and said."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from edge.cli import commission
from edge.cli.app import build_app
from edge.config import Config, load, template
from edge.controller.plans import make_plan
from edge.profile import load_profile

TIMES = {"p50": 0.0129, "p99": 0.0131, "max": 0.02, "n": 300}
FOUND: dict[str, dict[str, Any]] = {
    "10kohm": {
        "load": "10kohm",
        "total_ohm": 20_010.0,
        "total_n": 30,
        "sign": 1,
        "instrument": {
            "terminator": "CR",
            "query_s": TIMES,
            "set_s": TIMES,
            "level_s": TIMES,
            "output_s": TIMES,
            "abort_s": {"p50": 0.0, "p99": 0.0, "max": 0.0, "n": 30},
            "abort_pause_s": 0.0,
            "serial_number": "1304207",
            "firmware": "C31   May 28 2010 10:34:39/A02  /R/J",
        },
        "constant_s": TIMES,
        "ramp_s": {**TIMES, "p50": 0.01301},
        "check_s": {"p50": 0.038, "p99": 0.038, "max": 0.038, "n": 38},
        "cut_latency_s": TIMES,
    },
    "10Mohm": {"load": "10Mohm", "total_ohm": 10.01e6, "total_n": 30},
    "open": {"current": [{"range_a": 1e-6, "nplc": 1.0, "offset_a": 1e-11, "sigma_a": 1e-11, "n": 40}]},
}


class Controller:
    """Answers what the verb asks; runs end at once."""

    def __init__(self) -> None:
        self.emulated = True
        self.runs: list[dict[str, Any]] = []
        self.ends: dict[str, dict[str, Any]] = {}
        self.state = "SAFE"

    def call(self, verb: str, **args: Any) -> dict[str, Any]:  # noqa: ANN401 - as the client's
        if verb == "run":
            # What is asked for is what the worker takes.
            make_plan(args["plan"], args["parameters"])
            self.runs.append(args)
            return {"ok": True, "data": {"uid": f"{len(self.runs):016x}"}}
        assert verb == "status"
        run = None
        if self.runs:
            name = self.runs[-1]["parameters"]["load"]
            run = {"uid": f"{len(self.runs):016x}", "status": "completed", "reason": None, "results": FOUND[name]}
            run |= self.ends.get(name, {})
        verdict = "HARD_LIMIT" if self.state == "TRIPPED" else None
        return {
            "ok": True,
            "data": {"emulated": self.emulated, "run": run, "state": self.state, "verdict": verdict, "sample": None},
        }


@pytest.fixture
def controller(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Controller:
    text = template(path="/dev/serial/by-id/usb-1", serial_number="1304207", series_ohm=10_000.0)
    (tmp_path / "rig.toml").write_text(text, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    fake = Controller()

    @contextmanager
    def client(_config: Config) -> Iterator[Controller]:
        yield fake

    monkeypatch.setattr(commission, "client_for", client)
    return fake


def tipguard(*words: str, answers: str = "") -> Result:
    app = build_app(with_hil=False, with_demo=False)
    return CliRunner().invoke(app, ["commission", *words], input=answers, catch_exceptions=False)


YES = "y\n" * 4
FILE = Path("rig-profile.json")


# ------------------------------------------------------------------------------------------------ a person is asked


def test_a_person_is_led_through_three_loads_and_gets_a_table(controller: Controller) -> None:
    controller.emulated = False
    done = tipguard(answers=YES)
    assert done.exit_code == 0, done.output
    assert [one["parameters"]["load"] for one in controller.runs] == ["10kohm", "10Mohm", "open"]
    assert done.stderr.count("The TIP IS NOT connected") == 3
    for part in ("resistor of 10 kohm", "put 10 Mohm", "leave the contacts open", "HI terminal lead to the tip's end"):
        assert part in done.stderr
    for part in ("10.01 kohm", "the file says 10000 ohm", "78 readings/s", "an upper bound", "wrote rig-profile.json"):
        assert part in done.stdout
    assert "restart the controller" in done.stdout
    assert "Without a rig profile nothing else runs on this port" in done.stderr
    assert load(Path("rig.toml")).profile == load_profile(FILE)


@pytest.mark.parametrize("answers", ["y\nn\n", "y\ny\nn\n", "y\ny\ny\nn\n"])
def test_without_a_yes_nothing_more_is_energised_and_nothing_written(controller: Controller, answers: str) -> None:
    done = tipguard(answers=answers)
    assert done.exit_code == 1
    assert len(controller.runs) == answers.count("y") - 1
    assert "nothing was written" in done.stderr
    assert not FILE.exists()


def test_nobody_there_is_no_yes(controller: Controller) -> None:
    assert tipguard().exit_code == 130
    assert tipguard(answers="y\n").exit_code == 130
    assert tipguard(answers="\n").exit_code == 1
    assert controller.runs == []


def test_a_flipped_wiring_is_told_with_what_to_write(controller: Controller) -> None:
    done = tipguard(answers="n\n")
    assert done.exit_code == 1
    assert 'put wiring.hi = "sample"' in done.stderr
    assert controller.runs == []


def test_on_real_hardware_nobody_answers_for_a_person(controller: Controller) -> None:
    controller.emulated = False
    for words in (("--yes",), ("--swap", "somewhere")):
        done = tipguard(*words, answers=YES)
        assert done.exit_code == 2
        assert words[0] in done.stderr
    assert controller.runs == []


# ------------------------------------------------------------------------------------------------- what is written


def test_the_json_report_is_one_object_with_everything(controller: Controller) -> None:
    done = tipguard("--yes", "--json")
    assert done.exit_code == 0
    report = json.loads(done.stdout)
    assert report["profile"] == json.loads(FILE.read_text(encoding="utf-8"))
    assert report["loads"] == FOUND
    assert (report["deviations"], report["kept"], report["file"]) == ([], None, "rig-profile.json")
    assert controller.runs[0]["parameters"]["series_ohm"] == 10_000.0


def test_a_profile_is_not_measured_over_without_being_asked_for(controller: Controller) -> None:
    assert tipguard("--yes").exit_code == 0
    before = FILE.read_bytes()
    done = tipguard("--yes")
    assert done.exit_code == 2
    assert "--force" in done.stderr
    assert len(controller.runs) == 3, "refused before anything was energised"
    done = tipguard("--yes", "--force")
    assert done.exit_code == 0
    (kept,) = Path().glob("rig-profile-until-*.json")
    assert kept.read_bytes() == before
    assert kept.name in done.stdout


def test_a_deviation_is_said(controller: Controller, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(FOUND, "10kohm", {**FOUND["10kohm"], "total_ohm": 21_500.0})
    done = tipguard("--yes")
    assert "NOTE: series resistance: 11.50 kohm measured" in done.stdout
    assert controller.runs


# -------------------------------------------------------------------------------------------------- what goes wrong


def test_a_wrong_load_ends_it_with_the_controller_s_words(controller: Controller) -> None:
    controller.ends["10Mohm"] = {"status": "failed", "reason": "what is connected instead of 10Mohm conducts"}
    done = tipguard("--yes")
    assert done.exit_code == 1
    assert "instead of 10Mohm conducts" in done.stderr
    assert "nothing was written" in done.stderr
    done = tipguard("--yes", "--json")
    assert json.loads(done.stdout)["error"]["reason"] == "wrong_load"
    assert not FILE.exists()


def test_a_trip_is_told_as_what_it_is(controller: Controller) -> None:
    controller.ends["10kohm"] = {"status": "tripped", "reason": "HARD_LIMIT", "results": None}
    controller.state = "TRIPPED"
    done = tipguard("--yes")
    assert done.exit_code == 3
    assert "A resistor does not do that" in done.stderr
    assert "tipguard rearm" in done.stderr
    done = tipguard("--yes", "--json")
    assert (done.exit_code, json.loads(done.stdout)["error"]["reason"]) == (3, "tripped")
    assert not FILE.exists()


def test_figures_of_another_instrument_are_not_written(controller: Controller, monkeypatch: pytest.MonkeyPatch) -> None:
    told = {**FOUND["10kohm"]["instrument"], "serial_number": "7"}
    monkeypatch.setitem(FOUND, "10kohm", {**FOUND["10kohm"], "instrument": told})
    done = tipguard("--yes")
    assert done.exit_code == 1
    assert "serial number '7' was measured" in done.stderr
    assert controller.runs
    assert not FILE.exists()


# ------------------------------------------------------------------------------------------------------ the bias


@pytest.mark.parametrize(
    ("series_ohm", "limits", "bias_v"),
    [
        (10_000.0, {}, 0.4),
        (0.0, {}, 0.36),
        (10_000.0, {"voltage_v": 0.2}, 0.2),
        (0.0, {"current_a": 40e-6}, 0.144),
        (0.0, {"hard_limit_a": 20e-6}, 0.144),
    ],
)
def test_the_bias_stays_below_what_would_trip(series_ohm: float, limits: dict[str, float], bias_v: float) -> None:
    config = Config.model_validate(
        {
            "rig": {"id": "b", "kind": "tip", "series_resistor_ohm": series_ohm},
            "ports": {"smu": {"path": "x"}},
            "smu": {"serial_number": "1"},
            "limits": limits,
        }
    )
    assert commission.bias_v(config) == pytest.approx(bias_v)


def test_limits_too_low_for_any_measurement_are_said(controller: Controller) -> None:
    text = Path("rig.toml").read_text(encoding="utf-8")
    Path("rig.toml").write_text(text.replace("current_a = 0.001", "current_a = 0.000005"), encoding="utf-8")
    done = tipguard("--yes")
    assert done.exit_code == 2
    assert "would trip" in done.stderr
    assert controller.runs == []
