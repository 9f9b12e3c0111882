"""A rig profile makes the emulated 2400 that rig's: identity, times, offsets, noise; and what it may not say."""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Any

import pytest

from hil.bench_rig import EmulatedRig, RigOptions
from hil.devices.keithley2400 import Timing
from hil.devices.keithley2400.desk import Desk
from hil.devices.keithley2400.profile import ConverterError, ConverterErrors, load_profile, parse_profile
from hil.errors import BenchOptionError
from hil.smu import SmuOptions, serve_smu
from hil.unit import unit_spec

WHOLE: dict[str, Any] = {
    "v": 1,
    "serial_number": "4088123",
    "firmware": "C34   Mar 10 2017 10:00:00/A02  /U/M",
    "terminator": "LF",
    "line_freq_hz": 60,
    "abort_s": 0.002,
    "abort_swallow_s": 0.005,
    "timing_s": {"query_s": 0.0021, "level_s": 0.0055},
    "current": [
        {"range_a": 1e-3, "nplc": 0.01, "offset_a": 2.5e-7, "sigma_a": 4e-8},
        {"range_a": 1e-3, "nplc": 1, "offset_a": 2e-8, "sigma_a": 5e-9},
        {"range_a": 1e-6, "nplc": 1, "offset_a": -3e-10, "sigma_a": 2e-11},
    ],
    "sign": 1,
    "series_ohm": 1e4,
    "sample_period_s": {"constant": 0.0102, "ramp": 0.0213},
    "cut_latency_s": {"p99": 0.031, "n": 300},
}


def written(path: Path, data: object) -> Path:
    path.write_text(json.dumps(data), encoding="utf-8")
    return path


def test_a_whole_profile_is_read(tmp_path: Path) -> None:
    profile = load_profile(written(tmp_path / "rig-profile.json", WHOLE))
    assert profile.serial_number == "4088123"
    assert profile.terminator == "LF"
    assert profile.timing == Timing(query_s=0.0021, level_s=0.0055, abort_s=0.002)
    assert profile.abort_swallow_s == 0.005
    assert len(profile.current) == 3


def test_an_empty_profile_is_the_default_unit() -> None:
    profile = parse_profile({"v": 1}, "p")
    assert profile.timing == Timing()
    assert profile.converter is None


def test_the_unit_of_a_profile(tmp_path: Path) -> None:
    path = written(tmp_path / "rig-profile.json", WHOLE)
    desk = Desk()
    unit = unit_spec(SmuOptions(link=tmp_path / "smu", profile=path)).build(desk.load, seed=0)
    unit.attach(desk.wire)
    desk.unit = unit
    desk.write("*IDN?")
    desk.settle()
    reply = b"KEITHLEY INSTRUMENTS INC.,MODEL 2400,4088123,C34   Mar 10 2017 10:00:00/A02  /U/M\n"
    assert desk.wire.sent == [(2_100_000, reply)]
    assert unit.abort_swallow_s == 0.005


def test_the_command_line_goes_before_the_profile(tmp_path: Path) -> None:
    path = written(tmp_path / "p.json", WHOLE)
    options = SmuOptions(
        link=tmp_path / "smu", profile=path, terminator="CRLF", serial_number="7", abort_swallow_ms=0.0, flow="xon-xoff"
    )
    spec = unit_spec(options)
    assert (spec.terminator, spec.serial_number, spec.abort_swallow_s, spec.flow.value) == (
        b"\r\n",
        "7",
        0.0,
        "xon-xoff",
    )


def test_hil_rig_takes_the_same(tmp_path: Path) -> None:
    path = written(tmp_path / "p.json", WHOLE)
    options = RigOptions(smu_link=tmp_path / "a", stage_link=tmp_path / "b", profile=path, flow="xon-xoff", seed=1)
    rig = EmulatedRig(options)
    assert rig.smu.xon_xoff
    assert rig.smu.abort_swallow_s == 0.005
    assert f"--profile {path} " in " ".join(options.words()) + " "


def errors_of(desk: Desk, range_a: str, nplc: str, count: int) -> tuple[float, float]:
    """Return mean and standard deviation of readings through 1 Gohm at 0 V."""
    desk.tell(f":SENS:CURR:PROT {range_a}", f":SENS:CURR:RANG {range_a};NPLC {nplc}", f":TRIG:COUN {count}")
    desk.tell(":OUTP ON", ":FORM:ELEM CURR", ":SYST:AZER OFF")
    values = desk.read()
    assert len(values) == count
    return statistics.fmean(values), statistics.stdev(values)


@pytest.mark.parametrize(
    ("range_a", "nplc", "offset_a", "sigma_a"),
    [
        ("1E-3", "0.01", 2.5e-7, 4e-8),
        ("1E-3", "1", 2e-8, 5e-9),
        ("1E-3", "0.02", 2.5e-7, 4e-8),
        ("1E-3", "0.2", 2e-8, 5e-9),
        ("1E-6", "0.01", -3e-10, 2e-11),
        ("1E-4", "1", 0.0, 0.5e-9),
    ],
)
def test_offset_and_noise_are_in_the_readings(range_a: str, nplc: str, offset_a: float, sigma_a: float) -> None:
    converter = parse_profile(WHOLE, "p").converter
    mean, deviation = errors_of(Desk(1e9, noise=True, converter=converter), range_a, nplc, 600)
    assert mean == pytest.approx(offset_a, abs=6 * sigma_a / 600**0.5 + 1e-12)
    assert deviation == pytest.approx(sigma_a, rel=0.25)


def test_the_offset_stays_without_noise() -> None:
    converter = ConverterErrors([ConverterError(1e-3, 1.0, 3e-7, 1e-9)])
    mean, deviation = errors_of(Desk(1e9, converter=converter), "1E-3", "1", 3)
    assert mean == pytest.approx(3e-7)
    assert deviation == 0.0


def without(key: str, value: object) -> dict[str, Any]:
    return {**WHOLE, key: value}


@pytest.mark.parametrize(
    ("data", "told"),
    [
        ([], "profile: []: want an object"),
        ({}, "v: None: want 1"),
        (without("v", 2), "v: 2: want 1"),
        (without("v", True), "v: True: want 1"),
        (without("colour", 1), "colour: unknown key; want one of abort_s, "),
        (without("serial_number", 12), "serial_number: 12: want 1 to 16 letters and digits"),
        (without("firmware", "C31\r"), "firmware: 'C31\\r': want 1 to 64 characters of printable ASCII"),
        (without("terminator", "NUL"), "terminator: 'NUL': want one of CR, LF, CRLF, LFCR"),
        (without("line_freq_hz", 16.7), "line_freq_hz: 16.7: want a frequency in Hz from 40 to 440"),
        (without("abort_swallow_s", 0.03), "abort_swallow_s: 0.03: want a time in s from 0 to 0.02"),
        (without("abort_s", -1), "abort_s: -1: want a time in s from 0 to 60"),
        (without("abort_s", "fast"), "abort_s: 'fast': want a time in s"),
        (without("timing_s", {"set": 1}), "timing_s.set: unknown key; want one of abort_s, "),
        (without("timing_s", {"set_s": True}), "timing_s.set_s: True: want a time in s from 0 to 60"),
        (without("timing_s", [1]), "timing_s: [1]: want an object"),
        (without("current", {}), "current: {}: want a list of objects"),
        (without("current", [{"range_a": 1e-3}]), "current[0]: ['range_a']: want the keys range_a, nplc, "),
        (
            without("current", [{"range_a": 2e-3, "nplc": 1, "offset_a": 0, "sigma_a": 0}]),
            "current[0].range_a: 0.002: want one of 1e-06, ",
        ),
        (
            without("current", [{"range_a": 1e-3, "nplc": 0, "offset_a": 0, "sigma_a": 0}]),
            "current[0].nplc: 0: want line cycles from 0.01 to 10",
        ),
        (
            without("current", [{"range_a": 1e-3, "nplc": 1, "offset_a": 0, "sigma_a": -1e-9}]),
            "current[0].sigma_a: -1e-09: want a current in A from 0 to 1",
        ),
        (
            without("current", [{"range_a": 1e-3, "nplc": 1, "offset_a": 0, "sigma_a": 0}] * 2),
            "current: (0.001, 1.0): want every pair of range_a and nplc once",
        ),
    ],
)
def test_what_a_profile_may_not_say_is_told_with_file_key_value_and_wish(
    tmp_path: Path, data: object, told: str
) -> None:
    path = written(tmp_path / "rig-profile.json", data)
    with pytest.raises(BenchOptionError) as refused:
        load_profile(path)
    assert str(refused.value).startswith(f"--profile {path}: {told}")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(("content", "told"), [(b"{", "not JSON: "), (b"\xff", "cannot be read: not UTF-8")])
def test_a_file_that_is_no_profile(tmp_path: Path, content: bytes, told: str) -> None:
    path = tmp_path / "p.json"
    path.write_bytes(content)
    with pytest.raises(BenchOptionError, match=told):
        load_profile(path)
    with pytest.raises(BenchOptionError, match="No such file"):
        load_profile(tmp_path / "absent")


@pytest.mark.parametrize("number", ["NaN", "Infinity", "1e999"])
def test_numbers_that_are_none_are_refused(tmp_path: Path, number: str) -> None:
    path = tmp_path / "p.json"
    path.write_text(f'{{"v": 1, "abort_s": {number}}}', encoding="utf-8")
    with pytest.raises(BenchOptionError, match="abort_s: "):
        load_profile(path)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"flow": "rts-cts"}, "--flow rts-cts: want one of none, xon-xoff"),
        ({"abort_swallow_ms": 20.1}, "--abort-swallow-ms 20.1: want a time in ms from 0 to 20"),
        ({"abort_swallow_ms": float("nan")}, "--abort-swallow-ms nan: want"),
        ({"profile": Path("/nonexistent/p.json")}, "--profile /nonexistent/p.json: cannot be read: No such file"),
    ],
)
def test_bad_options_are_told_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: dict[str, Any], told: str
) -> None:
    assert serve_smu(SmuOptions(**{"link": tmp_path / "smu", **options})) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"tipguard hil smu: {told}")
    assert err.count("\n") == 1
