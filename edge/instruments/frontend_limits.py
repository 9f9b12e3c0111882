"""The section [frontend] in the units of one device: codes and samples, so rounded that it trips no later than asked.

A threshold is rounded down to a whole code, a time of the black box up to a whole sample, a mean down to the next
shorter power of two. What the device then says is in force is compared field by field (:func:`differences`).
"""

from __future__ import annotations

import dataclasses
import math
from decimal import Decimal
from typing import Final

from edge.config_frontend import FrontendConfig
from edge.errors import ConfigError
from firmware_proto.frontend.messages import Config, ConfigIs, Stream, Welcome
from firmware_proto.frontend.vocabulary import BASELINE_SHIFT_MAX, LEASE_MAX_MS, SAFE_SWITCH

RATIO_ONE: Final = 256
CODE_MAX: Final = 32767
DECIMATION_MAX: Final = 65535
LINE_SHARE: Final = 0.8
"""Of a real line's rate that a stream may take; the rest is for what must not wait behind it."""
FRAME_OVERHEAD: Final = 9 + 20 + 4 + 4
"""Header, fixed fields of a block, CRC, COBS and delimiter; bytes per frame of samples."""


def unusable(welcome: Welcome) -> str:
    """Say why no rig can rely on a device that says this of itself; empty where nothing speaks against it."""
    if welcome.safe_closed != SAFE_SWITCH:
        return "the front end's switch is closed at reset: without its firmware nothing opens it"
    if welcome.lease_max_ms > LEASE_MAX_MS:
        return f"the front end grants leases of {welcome.lease_max_ms} ms; more than {LEASE_MAX_MS} ms is no protection"
    whole = welcome.sample_hz and not welcome.tick_hz % welcome.sample_hz
    if not (welcome.tick_hz and whole and welcome.code_pa and 1 <= welcome.full_scale_code <= CODE_MAX):
        return (
            f"the front end says of itself what cannot be: tick_hz {welcome.tick_hz}, sample_hz {welcome.sample_hz}, "
            f"code_pa {welcome.code_pa}, full_scale_code {welcome.full_scale_code}"
        )
    return ""


def device_config(section: FrontendConfig, welcome: Welcome, recording: str, config_seq: int) -> Config:
    """Return what to upload; ``recording`` is one of [frontend].recording, or "off".

    Raises ConfigError naming key, value and what this device can do.
    """
    codes = _Codes(welcome)
    hard = min(codes.of("hard_a", section.hard_a), welcome.full_scale_code)
    pre_n = math.ceil(_exact(section.pre_s) * welcome.sample_hz)
    post_n = math.ceil(_exact(section.post_s) * welcome.sample_hz)
    if pre_n + 1 + post_n > welcome.box_max:
        room_s = (welcome.box_max - 1) / welcome.sample_hz
        raise _wrong(
            "pre_s",
            f"value {section.pre_s!r} with post_s {section.post_s!r}: {pre_n + 1 + post_n} samples; the black box of "
            f"this front end holds {welcome.box_max}: expected a sum of at most {room_s:.6g} s",
        )
    stream, decimation = _stream(section, welcome, recording)
    return Config(
        config_seq=config_seq,
        hard_code=hard,
        level_code=codes.of("level_a", section.level_a),
        level_n=section.level_n,
        jump_code=codes.of("jump_a", section.jump_a),
        jump_ratio_q8=int(_exact(section.jump_ratio) * RATIO_ONE),
        baseline_shift=_shift(section.baseline_s, welcome.sample_hz),
        rate_code=codes.of("rate_a", section.rate_a),
        rate_n=section.rate_samples,
        pre_n=pre_n,
        post_n=post_n,
        stream=stream,
        decimation=decimation,
    )


def differences(sent: Config, got: ConfigIs) -> list[str]:
    """Return in words what is in force and was not sent, field by field; empty where nothing is."""
    wrong = []
    for field in dataclasses.fields(sent):
        asked, is_now = getattr(sent, field.name), getattr(got, field.name)
        if asked != is_now:
            wrong.append(f"{field.name} is {is_now}, sent {asked}")
    return wrong


def stream_bytes_s(config: Config, welcome: Welcome) -> float:
    """Return what a stream puts on the line, in bytes per s; 0 for none."""
    if config.stream == Stream.OFF:
        return 0.0
    per_item, hz = 2, float(welcome.sample_hz)
    if config.stream == Stream.MINMAX:
        per_item, hz = 4, hz / config.decimation
    items = max(1, (welcome.max_payload - 22) // per_item)
    return hz * per_item + hz / items * FRAME_OVERHEAD


def check_line(config: Config, welcome: Welcome, baud: int, recording: str) -> None:
    """Compare a stream with a real line of ``baud`` bit/s; raise ConfigError where it does not fit."""
    needs = stream_bytes_s(config, welcome)
    if needs > LINE_SHARE * baud / 10:
        raise _wrong(
            "recording",
            f"value {recording!r}: {needs / 1e3:.3g} kB/s; a line of {baud} bit/s carries {baud / 1e4:.3g} kB/s: "
            "expected a slower recording or a faster ports.frontend.baud",
        )


class _Codes:
    def __init__(self, welcome: Welcome) -> None:
        self._code_a = Decimal(welcome.code_pa) * Decimal("1e-12")

    def of(self, key: str, value_a: float | None) -> int:
        """Return a threshold in whole codes, down; 0 for None."""
        if value_a is None:
            return 0
        code = int(_exact(value_a) / self._code_a)
        if code < 1:
            raise _wrong(
                key, f"value {value_a!r}: less than one code of this front end's converter, {self._code_a:.3E} A"
            )
        return min(code, CODE_MAX)


def _exact(value: float) -> Decimal:
    """Return the number as it was written: 0.0005 is no binary fraction, and a code less would be a trip too early."""
    return Decimal(repr(value))


def _shift(baseline_s: float, sample_hz: int) -> int:
    samples = int(_exact(baseline_s) * sample_hz)
    return min(max(samples, 1).bit_length() - 1, BASELINE_SHIFT_MAX)


def _stream(section: FrontendConfig, welcome: Welcome, recording: str) -> tuple[Stream, int]:
    if recording == "off":
        return Stream.OFF, 1
    if recording == "full":
        return Stream.FULL, 1
    hz = section.pairs_hz(recording)
    return Stream.MINMAX, min(max(1, int(welcome.sample_hz / hz)), DECIMATION_MAX)


def _wrong(key: str, problem: str) -> ConfigError:
    return ConfigError(f"frontend.{key}: {problem}", key=f"frontend.{key}")
