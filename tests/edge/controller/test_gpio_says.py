"""What is said of the heartbeat: by check, by status, and by the refusal of long plans on a host nothing watches."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest

from edge.cli.words import heartbeat_in_words
from edge.config import Config
from edge.controller import checkup
from edge.controller.checkup_gpio import CHIP, LINE, check_gpio, check_gpio_held
from edge.controller.preflight import UNPROTECTED_HOST_S, refuse_or_pass
from edge.errors import PlanRefusedError
from edge.experiments.iv import IvPlan
from hil.rig import config_for

LONG = IvPlan(to_v=-0.5, step_v=0.01, dwell_s=15.0)
STATUS: dict[str, Any] = {
    "beating": True,
    "silent_because": None,
    "lost": None,
    "line": "closed",
    "proven": True,
    "key_awaited": False,
}


def wired(chip: str = "/dev/no-such-chip", port: str = "memory") -> Config:
    return config_for(port=port, series_ohm=1000.0, gpio={"chip": chip, "heartbeat_line": 17})


def test_a_long_plan_passes_with_a_heartbeat_and_is_refused_without() -> None:
    assert LONG.duration_s() > UNPROTECTED_HOST_S
    refuse_or_pass(LONG, wired(), emulated=True)
    with pytest.raises(PlanRefusedError, match="NOT PROTECTED") as caught:
        refuse_or_pass(LONG, config_for(series_ohm=1000.0), emulated=True)
    assert caught.value.reason == "unprotected_host"


def test_check_looks_at_the_chip(tmp_path: Path) -> None:
    assert check_gpio(config_for(series_ohm=1000.0)) == []
    [absent] = check_gpio(wired())
    assert (absent.what, absent.grade) == (CHIP, "fail")
    assert "/dev/no-such-chip: there is no such GPIO chip" in absent.text
    path = tmp_path / "oe"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as bench:
        bench.bind(str(path))
        [there] = check_gpio(wired(str(path)))
        assert (there.grade, there.text) == ("ok", f"{path}: the socket of an emulated bench")
        # Any character device that is no pseudo-terminal stands for a real port here.
        [beside_a_real_port] = check_gpio(wired(str(path), port="/dev/null"))
        assert beside_a_real_port.grade == "fail"
        assert "the instrument is real" in beside_a_real_port.text


def test_check_has_the_chip_among_its_findings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path / "run"))
    found = {one.what: one for one in checkup.check(wired(port=str(tmp_path / "absent")), tmp_path / "rig.toml")}
    assert found[CHIP].grade == "fail"
    assert "NOT PROTECTED" in found["HOST LOSS"].text, "a heartbeat that cannot be had is none"


@pytest.mark.parametrize(
    ("change", "grade", "told"),
    [
        ({}, "ok", "silence was seen to open it"),
        ({"proven": False}, "ok", "not tried yet"),
        ({"key_awaited": True}, "warn", "wants its OUTPUT key"),
        ({"lost": "Connection refused"}, "fail", "no beat goes out: Connection refused"),
    ],
)
def test_check_says_what_the_running_controller_saw(change: dict[str, Any], grade: str, told: str) -> None:
    [found] = check_gpio_held({"gpio": {**STATUS, **change}})
    assert (found.what, found.grade) == (LINE, grade)
    assert told in found.text


def test_a_controller_without_a_heartbeat_says_nothing_of_one() -> None:
    assert check_gpio_held({"gpio": None}) == []
    assert check_gpio_held({}) == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({}, "beating; silence was seen to cut"),
        (
            {"beating": False, "silent_because": "state TRIPPED", "line": "open"},
            "silent (state TRIPPED), the line was open when last looked at; silence was seen to cut",
        ),
        (
            {"proven": False, "line": None, "lost": "Device or resource busy"},
            "NOTHING GOES OUT: Device or resource busy; not tried yet: that comes before the first output-on",
        ),
    ],
)
def test_status_says_it_in_words(change: dict[str, Any], words: str) -> None:
    assert heartbeat_in_words({**STATUS, **change}) == words
