"""An emulated Keithley 2400 SourceMeter on RS-232: commands, status, trigger model, timing, noise.

Sources: 2400 Series SourceMeter User's Manual 2400S-900-01 (page numbers in this package are its), SPEC-2400 Rev. L.
"""

from __future__ import annotations

from hil.devices.keithley2400.emulator import Keithley2400
from hil.devices.keithley2400.timing import Timing

__all__ = ["Keithley2400", "Timing"]
