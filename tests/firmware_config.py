"""The front end's limits as most tests want them: the hard limit alone, and a short black box."""

from __future__ import annotations

from firmware_proto.frontend.messages import Config, Stream


def only_hard(hard_code: int, pre_n: int, post_n: int, stream: Stream = Stream.OFF, decimation: int = 1) -> Config:
    """Return a configuration without LEVEL, JUMP and RATE."""
    return Config(
        config_seq=1,
        hard_code=hard_code,
        level_code=0,
        level_n=1,
        jump_code=0,
        jump_ratio_q8=0,
        baseline_shift=4,
        rate_code=0,
        rate_n=1,
        pre_n=pre_n,
        post_n=post_n,
        stream=stream,
        decimation=decimation,
    )
