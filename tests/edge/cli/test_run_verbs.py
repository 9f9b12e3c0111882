"""``tipguard run trigger-map`` and ``run memristor`` as typed: what goes to the controller, and what never does."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from edge.cli import follow, run_map, run_memristor
from edge.cli.app import build_app
from edge.cli.follow import Request
from edge.cli.points import MapPoint, line_points
from edge.cli.points_file import parse_points
from edge.config import load, template
from edge.controller.plans import make_plan
from edge.errors import ConfigError, PlanRefusedError
from edge.experiments.memristor import MemristorPlan
from edge.experiments.trigger_map import MAX_POINTS, TriggerMapPlan

CSV = "# Monday\nx_um,y_um,kind,label\n1,2,gb,A\n3,4,gi,\n1,2,gb,B\n"


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Request]:
    """What the verbs would ask the controller; the folder has ``map.csv`` and ``rig.toml``."""
    requests: list[Request] = []

    def take(file: Path, request: Callable[[], Request], *, json: bool) -> None:
        del file, json
        requests.append(request())

    for module in (run_map, run_memristor):
        monkeypatch.setattr(module, "run", take)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "map.csv").write_text(CSV, encoding="utf-8")
    return requests


def tipguard(*words: str) -> Result:
    return CliRunner().invoke(build_app(with_hil=False, with_demo=False), list(words), catch_exceptions=False)


def request_of(asked: list[Request], *words: str) -> Request:
    done = tipguard("run", *words)
    assert done.exit_code == 0, done.output
    (request,) = asked
    # What is asked for is what the worker takes.
    make_plan(request.plan, request.parameters)
    return request


def defaults(kind: type) -> dict[str, Any]:
    return {
        name: parameter.default
        for name, parameter in inspect.signature(kind).parameters.items()
        if isinstance(parameter.default, int | float | str | None)
    }


# ------------------------------------------------------------------------------------------------------------ a map


def test_the_defaults_of_the_verbs_are_those_of_the_plans(asked: list[Request]) -> None:
    told = request_of(asked, "trigger-map", "--line", "1,2,3,4,5").parameters
    assert {name: told[name] for name in defaults(TriggerMapPlan)} == defaults(TriggerMapPlan)
    assert set(told) == set(inspect.signature(TriggerMapPlan).parameters)
    asked.clear()
    told = request_of(asked, "memristor").parameters
    assert told == defaults(MemristorPlan)


def test_a_file_with_a_sweep_for_each_kind(asked: list[Request]) -> None:
    words = ("--points", "map.csv", "--sweep", "GI:-10:1", "--sweep", "gb:-0.4:0.2", "--no-zero", "--max-invalid", "2")
    request = request_of(asked, "trigger-map", *words, "--order", "listed", "--no-electrical-check")
    assert request.plan == "trigger-map"
    assert request.parameters["points"] == [[1e-6, 2e-6, "gb", "A"], [3e-6, 4e-6, "gi", ""], [1e-6, 2e-6, "gb", "B"]]
    assert request.parameters["sweeps"] == {"gi": [-10.0, 1.0], "gb": [-0.4, 0.2]}
    assert (request.parameters["zero"], request.parameters["electrical_check"]) == (False, False)
    assert (request.parameters["max_invalid"], request.parameters["order"]) == (2, "listed")
    assert request.cuts == 3


def test_points_at_one_place_are_warned_of_by_their_lines(asked: list[Request]) -> None:
    done = tipguard("run", "trigger-map", "--points", "map.csv")
    assert "at the same place: line 5 as line 3; a second visit finds what the first one left" in done.stderr
    asked.clear()
    done = tipguard("run", "trigger-map", "--line", "1,1,1,1,9")
    assert "point 2 as point 1" in done.stderr
    assert "and 3 more" in done.stderr
    asked.clear()
    assert not tipguard("run", "trigger-map", "--line", "1,1,2,2,9").stderr


def test_a_line_and_a_grid_have_one_kind(asked: list[Request]) -> None:
    rows = request_of(asked, "trigger-map", "--grid", "1,1,2,2,2,2", "--kind", "HL").parameters["points"]
    assert [row[2] for row in rows] == ["hl"] * 4


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ((None, None, None, ""), "no points: expected one of --points FILE.csv, --line"),
        ((Path("map.csv"), "1,2,3,4,5", None, ""), "--points and --line exclude each other"),
        ((None, "1,2,3,4,5", "1,2,3,4,5,6", ""), "--line and --grid exclude each other"),
        ((Path("map.csv"), None, None, "gb"), "--kind: the kinds of --points stand in its file: map.csv"),
        ((Path("absent.csv"), None, None, ""), "absent.csv: No such file"),
    ],
)
def test_where_the_points_are_is_said_once(asked: list[Request], given: Any, says: str) -> None:  # noqa: ANN401
    del asked
    with pytest.raises(ConfigError) as found:
        run_map.chosen_points(*given)
    assert says in str(found.value)


@pytest.mark.parametrize(
    "text", ["", "gi", "gi:1", "gi:1:2:3", "bg:1:1", ":1:1", "gi:a:1", "gi:nan:1", "gi:1:inf", "gi:-1:-inf"]
)
def test_a_sweep_that_is_none(text: str) -> None:
    with pytest.raises(ConfigError, match=r"--sweep: value .* expected KIND:TO_V:RATE"):
        run_map.parse_sweep(text)


def test_a_sweep_that_no_point_would_get_is_refused() -> None:
    boundary, unknown = MapPoint(0.0, 0.0, "gb"), MapPoint(0.0, 0.0)
    assert run_map.sweeps_of(["gb:-1:1"], [boundary]) == {"gb": [-1.0, 1.0]}
    with pytest.raises(ConfigError, match="'gi:-10:1': no point is of this kind, they are of gb; see --kind"):
        run_map.sweeps_of(["gi:-10:1"], [boundary, unknown])
    with pytest.raises(ConfigError, match="they are of no kind"):
        run_map.sweeps_of(["gi:-10:1"], [unknown])
    with pytest.raises(ConfigError, match="there is one for gb already"):
        run_map.sweeps_of(["gb:-1:1", "GB:-2:1"], [boundary])


def test_a_refusal_names_the_lines_of_the_file() -> None:
    points = parse_points(CSV, "map.csv")
    refusal = PlanRefusedError("trigger-map: point 2: x is outside; point 30: y", reason="outside_travel")
    told = run_map.at_lines(refusal, points)
    assert str(told) == "trigger-map: point 2 (line 4): x is outside; point 30: y"
    assert told.reason == "outside_travel"
    assert str(run_map.at_lines(refusal, line_points("1,2,3,4,50"))) == str(refusal)


def test_points_that_do_not_fit_into_one_message() -> None:
    short, long = MapPoint(1.5e-6, 2.5e-6, "gb", "A" * 20), MapPoint(1.5e-6, 2.5e-6, "gb", "A" * 64)
    assert len(run_map.rows_of([short] * MAX_POINTS)) == MAX_POINTS
    with pytest.raises(ConfigError, match=r"4096 points with their labels take .* shorten the labels, or split"):
        run_map.rows_of([long] * MAX_POINTS)


def test_a_bad_file_is_told_in_lines_and_with_json_in_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rig.toml").write_text(template(path="/dev/x", serial_number="1", series_ohm=1e4), encoding="utf-8")
    (tmp_path / "map.csv").write_text("x_um,y_um\n1,a\n", encoding="utf-8")
    done = tipguard("run", "trigger-map", "--points", "map.csv", "--json")
    assert done.exit_code == 2
    assert done.stderr == (
        "tipguard: map.csv: 1 of 1 points cannot be read; nothing was moved\n"
        "  line 2, y_um: value 'a': expected a number in um, as 12.5\n"
    )
    assert done.stdout.count("\n") == 1


# ------------------------------------------------------------------------------------------------------ a memristor


def test_a_memristor_at_a_place(asked: list[Request]) -> None:
    request = request_of(asked, "memristor", "--at", "12.3,-4", "--cycles", "300", "--set-v", "-0.25", "--no-zero")
    parameters = request.parameters
    assert (parameters["x_m"], parameters["y_m"]) == (1.23e-05, -4e-06)
    assert (parameters["cycles"], parameters["set_v"], parameters["zero"]) == (300, -0.25, False)
    assert request.cuts == 300
    refusal = PlanRefusedError("memristor: point 1: x 500 um is outside the travel", reason="outside_travel")
    assert str(request.refused(refusal)) == "memristor: --at: x 500 um is outside the travel"


def test_without_a_stage_there_is_a_way_to_do_without(asked: list[Request]) -> None:
    refused = request_of(asked, "memristor").refused
    told = refused(PlanRefusedError("memristor: this rig has no stage", reason="no_stage"))
    assert str(told).endswith("no stage. --no-zero cycles where the tip stands and moves nothing")
    assert told.reason == "no_stage"
    other = PlanRefusedError("memristor: too much", reason="voltage_ceiling")
    assert refused(other) is other


# ----------------------------------------------------------------------------------------------------------- both


@pytest.mark.parametrize(("cuts", "warned"), [(0, False), (100, False), (101, True)])
def test_more_cuts_than_a_run_has_are_warned_of(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], cuts: int, warned: bool
) -> None:
    file = tmp_path / "rig.toml"
    file.write_text(template(path="/dev/x", serial_number="1", series_ohm=1e4), encoding="utf-8")
    follow.warn_of_rearms(Request("memristor", {}, cuts=cuts), load(file))
    assert ("limits.rearms_per_run = 100 ends the run" in capsys.readouterr().err) is warned


class Controller:
    """A controller's answers, one after the other; the last one goes on."""

    def __init__(self, *statuses: dict[str, Any]) -> None:
        self._statuses = list(statuses)

    def call(self, verb: str, **_args: object) -> dict[str, Any]:
        assert verb == "status"
        status = self._statuses.pop(0) if len(self._statuses) > 1 else self._statuses[0]
        return {"ok": True, "data": status}


def test_a_run_is_watched_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follow, "POLL_S", 0.0)
    run = {"uid": "1", "plan": "trigger-map", "status": "running", "progress": 0.0, "text": "point 1 of 2 (GB): moving"}
    status = {"state": "SAFE", "phase": "SEEK", "sample": None}
    ended = {**status, "run": {**run, "status": "completed"}}
    controller: Any = Controller({**status, "run": run}, {**status, "run": {**run, "progress": 0.5}}, ended)
    assert follow.follow(controller, "1", quiet=True) == ended
    other: Any = Controller({**status, "run": {**run, "uid": "2"}})
    assert follow.follow(other, "1", quiet=True)["run"]["uid"] == "2"


@pytest.mark.parametrize(("of", "told"), [("1", True), (None, True), ("0", False)])
def test_the_event_of_an_earlier_run_is_not_this_ones(of: str | None, told: bool) -> None:
    event = {"kind": "cut"} | ({"run": of} if of else {})
    status = {"run": {"uid": "1"}, "state": "SAFE", "verdict": None, "alarm": None, "last_event": event}
    assert (follow.summary(status)["event"] == event) is told
    assert follow.summary({**status, "last_event": None})["event"] is None
