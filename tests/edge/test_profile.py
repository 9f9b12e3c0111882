"""The rig profile: what is read, what is refused with words, and that the emulator reads the same file."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edge.config import Config, load, template
from edge.errors import ConfigError
from edge.profile import RigProfile, load_profile
from hil.devices.keithley2400.profile import parse_profile

TIMES = {"p50": 0.0129, "p99": 0.0131, "max": 0.02, "n": 300}
WHOLE: dict[str, Any] = {
    "v": 1,
    "serial_number": "1304207",
    "firmware": "C31 May 28 2010",
    "terminator": "CR",
    "line_freq_hz": 50.0,
    "baud": 57600,
    "sign": 1,
    "series_ohm": 9990.0,
    "abort_s": 0.001,
    "sample_period_s": {"constant": TIMES, "ramp": TIMES},
    "check_period_s": TIMES,
    "cut_latency_s": TIMES,
    "current": [{"range_a": 1e-6, "nplc": 1.0, "offset_a": 1e-11, "sigma_a": 1e-11, "n": 40}],
    "timing_s": {"query_s": 0.001, "reply_s": 0.002},
    "measured_utc": "2026-01-02T03:04:05Z",
    "tipguard": "0.1",
}


def whole(**changes: object) -> dict[str, Any]:
    return {**json.loads(json.dumps(WHOLE)), **changes}


def written(path: Path, data: object) -> Path:
    path.write_text(data if isinstance(data, str) else json.dumps(data), encoding="utf-8")
    return path


@pytest.fixture
def rig(tmp_path: Path) -> Path:
    """A rig's file, with nothing beside it."""
    text = template(path="/dev/serial/by-id/usb-1", serial_number="1304207", series_ohm=10_000.0)
    return written(tmp_path / "rig.toml", text)


def test_what_is_written_is_what_is_read(tmp_path: Path) -> None:
    profile = RigProfile.model_validate(WHOLE)
    again = load_profile(written(tmp_path / "p.json", profile.to_json()))
    assert again == profile
    assert again.current[0].n == 40
    assert again.sample_period_s.constant.p99 == 0.0131


def test_the_emulator_reads_the_same_file() -> None:
    profile = parse_profile(json.loads(RigProfile.model_validate(WHOLE).to_json()), "p")
    assert profile.serial_number == "1304207"
    assert profile.timing.reply_s == 0.002
    assert profile.timing.abort_s == 0.001
    assert profile.converter is not None
    assert profile.converter.offset_a(1e-6, 1.0) == 1e-11


@pytest.mark.parametrize(
    ("data", "key", "says"),
    [
        ("{", "", "not JSON"),
        ("[]", "", "one object"),
        (whole(v=2), "v", "value 2: this program knows version 1"),
        (whole(v=True), "v", "value True"),
        ({key: value for key, value in WHOLE.items() if key != "baud"}, "baud", "field required"),
        (whole(sign=0), "sign", "value 0"),
        (whole(series_ohm=-1.0), "series_ohm", "greater than or equal to 0"),
        (whole(surprise=1), "surprise", "not permitted"),
        (whole(cut_latency_s={**TIMES, "p99": 0.01}), "cut_latency_s", "p50 <= p99 <= max"),
        (whole(cut_latency_s={**TIMES, "n": 0}), "cut_latency_s.n", "value 0"),
        (whole(abort_s=61.0), "abort_s", "less than or equal to 60"),
        (whole(serial_number="12 34"), "serial_number", "pattern"),
        (whole(measured_utc="yesterday"), "measured_utc", "pattern"),
    ],
)
def test_what_is_no_profile_is_refused_with_file_key_and_what_to_do(
    tmp_path: Path, data: object, key: str, says: str
) -> None:
    file = written(tmp_path / "p.json", data)
    with pytest.raises(ConfigError) as found:
        load_profile(file)
    assert found.value.key == key
    for part in (str(file), says, "tipguard commission"):
        assert part in str(found.value)
    assert "\n" not in str(found.value)


# --------------------------------------------------------------------------------------------- beside the rig's file


def test_a_rig_without_a_profile_has_none(rig: Path) -> None:
    config = load(rig)
    assert config.profile is None
    assert config.own_profile is None
    assert config.profile_fault is None


def test_the_profile_beside_the_file_is_read_and_travels_with_the_configuration(rig: Path) -> None:
    written(rig.parent / "rig-profile.json", WHOLE)
    config = load(rig)
    assert config.profile == RigProfile.model_validate(WHOLE)
    # As the flight record has it.
    assert Config.model_validate(json.loads(json.dumps(config.model_dump(mode="json")))) == config


def test_another_place_is_relative_to_the_rig_s_file(rig: Path) -> None:
    text = rig.read_text(encoding="utf-8")
    marked = '# profile_file = "rig-profile.json"'
    assert text.count(marked) == 1
    written(rig, text.replace(marked, 'profile_file = "measured/a.json"'))
    assert load(rig).profile is None
    (rig.parent / "measured").mkdir()
    written(rig.parent / "measured" / "a.json", WHOLE)
    assert load(rig).profile is not None


def test_a_broken_profile_is_not_passed_over(rig: Path) -> None:
    written(rig.parent / "rig-profile.json", whole(v=7))
    with pytest.raises(ConfigError, match=r"rig-profile.json: v: value 7"):
        load(rig)


def test_a_profile_in_the_rig_s_own_file_is_refused(rig: Path) -> None:
    # Nobody types in what only measuring can tell.
    written(rig, rig.read_text(encoding="utf-8") + "\n[profile]\nv = 1\n")
    with pytest.raises(ConfigError, match="profile_file") as found:
        load(rig)
    assert found.value.key == "profile"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"serial_number": "7"}, "serial number 7, this rig's is 1304207"),
        ({"baud": 9600}, "baud rate 9600, this rig's is 57600"),
        ({"line_freq_hz": 60.0}, "line frequency 60.0, this rig's is 50"),
    ],
)
def test_another_rig_s_profile_is_known_as_such(rig: Path, change: dict[str, object], says: str) -> None:
    written(rig.parent / "rig-profile.json", whole(**change))
    config = load(rig)
    assert config.profile is not None
    assert config.own_profile is None
    assert config.profile_fault == says


def test_every_key_of_a_profile_is_known_to_the_emulator() -> None:
    # Each key alone: what it does not use it passes over, and what nobody knows it refuses.
    data = json.loads(RigProfile.model_validate(WHOLE).to_json())
    parse: Callable[[dict[str, Any]], object] = lambda part: parse_profile({"v": 1, **part}, "p")  # noqa: E731
    for key, value in data.items():
        parse({key: value})
    with pytest.raises(ValueError, match="surprise"):
        parse({"surprise": 1})
