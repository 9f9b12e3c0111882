"""Amperes and seconds to codes and samples: rounded so that the device trips no later than asked."""

from __future__ import annotations

import dataclasses
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.config_frontend import FrontendConfig
from edge.errors import ConfigError
from edge.instruments.frontend_limits import check_line, device_config, differences, stream_bytes_s, unusable
from firmware_proto.frontend.messages import Config, ConfigIs, Refusal, ResetCause, State, Stream, Welcome
from tests.edge.instruments.frontend.frontend_desk import section

PA = Fraction(1, 10**12)


def welcome(**fields: Any) -> Welcome:  # noqa: ANN401 - of the message
    values: dict[str, Any] = {
        "schema_hash": 1,
        "host_nonce": 1,
        "boot_nonce": 1,
        "session": 1,
        "version": 1,
        "build_id": 1,
        "reset_cause": ResetCause.POWER,
        "board": "desk",
        "tick_hz": 1_000_000_000,
        "sample_hz": 100_000,
        "code_pa": 40_000,
        "full_scale_code": 32_767,
        "max_payload": 512,
        "credit_window": 16,
        "box_max": 4096,
        "lease_max_ms": 100,
        "switch_open_ns": 500,
        "safe_closed": 0,
        "state": State.SAFE,
        **fields,
    }
    return Welcome(**values)


def made(config: FrontendConfig, recording: str = "event", **fields: Any) -> Config:  # noqa: ANN401 - of WELCOME
    return device_config(config, welcome(**fields), recording, 1)


def test_round_numbers_are_no_code_too_low_for_being_written_in_binary() -> None:
    config = made(section(hard_a=5e-4, level_a=2e-4, jump_a=1e-4, rate_a=4e-8, pre_s=0.005, post_s=0.002))
    assert (config.hard_code, config.level_code, config.jump_code, config.rate_code) == (12_500, 5000, 2500, 1)
    assert (config.pre_n, config.post_n) == (500, 200)


def test_a_test_that_is_not_asked_for_is_off() -> None:
    config = made(section())
    assert (config.level_code, config.jump_code, config.rate_code) == (0, 0, 0)


thresholds = st.floats(1e-7, 1e-3)


@given(hard=thresholds, share=st.floats(0.1, 1), code_pa=st.integers(1, 100_000), full=st.integers(1, 32_767))
def test_no_threshold_is_above_what_was_asked_nor_more_than_a_code_below(
    hard: float, share: float, code_pa: int, full: int
) -> None:
    asked = {"hard_a": hard, "level_a": hard * share, "jump_a": hard * share, "rate_a": hard * share}
    if min(Fraction(repr(one)) for one in asked.values()) < code_pa * PA:
        with pytest.raises(ConfigError, match="less than one code"):
            made(section(**asked, pre_s=0.0, post_s=0.0), code_pa=code_pa, full_scale_code=full)
        return
    config = made(section(**asked, pre_s=0.0, post_s=0.0), code_pa=code_pa, full_scale_code=full)
    for key, code in (
        ("hard_a", config.hard_code),
        ("level_a", config.level_code),
        ("jump_a", config.jump_code),
        ("rate_a", config.rate_code),
    ):
        # A magnitude of so many codes trips: that is at most what was asked for.
        assert code >= 1
        assert code * code_pa * PA <= Fraction(repr(asked[key]))
        most = min(32_767, full) if key == "hard_a" else 32_767
        assert code == most or (code + 1) * code_pa * PA > Fraction(repr(asked[key]))
    assert config.hard_code <= full


@pytest.mark.parametrize(
    ("asked", "shift"), [(1e-6, 0), (0.005, 8), (0.00512, 9), (0.0051, 8), (1.0, 12)], ids=lambda one: str(one)
)
def test_the_mean_is_the_next_shorter_power_of_two(asked: float, shift: int) -> None:
    assert made(section(baseline_s=asked)).baseline_shift == shift


def test_the_ratio_is_rounded_down() -> None:
    assert made(section(jump_ratio=2.0)).jump_ratio_q8 == 512
    assert made(section(jump_ratio=1.999)).jump_ratio_q8 == 511


@pytest.mark.parametrize("key", ["hard_a", "level_a", "jump_a", "rate_a"])
def test_less_than_a_code_is_refused_by_name(key: str) -> None:
    with pytest.raises(ConfigError, match=r"less than one code of this front end's converter, 4\.000E-8 A") as caught:
        made(section(**{key: 3.9e-8}))
    assert caught.value.key == f"frontend.{key}"
    assert "3.9e-08" in str(caught.value)


def test_a_box_that_does_not_fit_is_refused_with_what_does() -> None:
    made(section(pre_s=0.04, post_s=0.00095))
    with pytest.raises(ConfigError, match=r"4097 samples; .* holds 4096: expected a sum of at most 0\.04095 s"):
        made(section(pre_s=0.04, post_s=0.00096))


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"safe_closed": 1}, "closed at reset"),
        ({"lease_max_ms": 101}, "leases of 101 ms"),
        ({"tick_hz": 0}, "tick_hz 0"),
        ({"sample_hz": 0}, "sample_hz 0"),
        ({"sample_hz": 30_000}, "sample_hz 30000"),
        ({"code_pa": 0}, "code_pa 0"),
        ({"full_scale_code": 0}, "full_scale_code 0"),
        ({"full_scale_code": 40_000}, "full_scale_code 40000"),
    ],
)
def test_a_device_that_no_rig_can_rely_on_says_so_itself(fields: dict[str, int], words: str) -> None:
    assert unusable(welcome()) == ""
    assert words in unusable(welcome(**fields))


@pytest.mark.parametrize(
    ("recording", "stream", "decimation"),
    [
        ("off", Stream.OFF, 1),
        ("event", Stream.MINMAX, 100),
        ("decimated", Stream.MINMAX, 10),
        ("full", Stream.FULL, 1),
    ],
)
def test_what_is_recorded_is_what_streams(recording: str, stream: Stream, decimation: int) -> None:
    config = made(section(), recording)
    assert (config.stream, config.decimation) == (stream, decimation)


def test_what_is_in_force_is_compared_field_by_field() -> None:
    sent = made(section())
    values = {field.name: getattr(sent, field.name) for field in dataclasses.fields(sent)}
    same = ConfigIs(**values, config_crc=1, result=Refusal.NONE)
    assert differences(sent, same) == []
    for field in dataclasses.fields(sent):
        fields: dict[str, Any] = {field.name: 77}
        other = dataclasses.replace(same, **fields)
        assert differences(sent, other) == [f"{field.name} is 77, sent {getattr(sent, field.name)}"]


def test_what_a_line_does_not_carry_is_refused() -> None:
    config = made(section(), "full")
    assert 200_000 < stream_bytes_s(config, welcome()) < 220_000
    check_line(config, welcome(), 3_000_000, "full")
    with pytest.raises(ConfigError, match=r"a line of 921600 bit/s carries 92\.2 kB/s") as caught:
        check_line(config, welcome(), 921_600, "full")
    assert caught.value.key == "frontend.recording"
    check_line(made(section(), "event"), welcome(), 115_200, "event")
    check_line(made(section(), "off"), welcome(), 115_200, "off")
