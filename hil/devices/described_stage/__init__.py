"""An emulated stage controller whose vocabulary comes from a command map, on the axes of the PI one.

It reads the map from the controller's end: what the driver writes by a template, this understands by it. How it judges
spacing, case, ranges and errors is its own, and declared in the map's [emulated].
"""

from __future__ import annotations

from hil.devices.described_stage.controller import DescribedStage
from hil.devices.described_stage.model import axis_models

__all__ = ["DescribedStage", "axis_models"]
