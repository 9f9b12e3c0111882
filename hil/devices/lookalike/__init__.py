"""Instruments that say they are a 2400 and are something less, something more, or something else."""

from __future__ import annotations

from hil.devices.lookalike.device import LookAlike
from hil.devices.lookalike.personality import NumberStyle, Personality

__all__ = ["LookAlike", "NumberStyle", "Personality"]
