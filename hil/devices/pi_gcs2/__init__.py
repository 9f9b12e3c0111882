"""An emulated PI stage controller with the General Command Set 2.0: motion, servo, on-target, limits, errors.

Sources: PI user manuals MS249E (C-863.12) and E727T0005 (E-727); docs/stage.md says what is taken from where, and what
is not documented.
"""

from __future__ import annotations

from hil.devices.pi_gcs2.controller import PiController
from hil.devices.pi_gcs2.mechanics import FlatSurface, Mechanics
from hil.devices.pi_gcs2.model import AxisModel, Model

__all__ = ["AxisModel", "FlatSurface", "Mechanics", "Model", "PiController"]
