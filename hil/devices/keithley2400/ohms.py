"""The ohms function of the emulated 2400 (User's Manual section 4, 18-61 to 18-64).

Manual ohms is V over I of whatever is sourced. Auto ohms takes the source over: a current that belongs to the range,
voltage measured on 2 or 20 V, and until it ends source and ranges cannot be set (+825).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

RANGES_OHM: Final = (2e1, 2e2, 2e3, 2e4, 2e5, 2e6, 2e7, 2e8)
"""Nominal ranges of the 2400."""
TEST_CURRENTS_A: Final = dict(zip(RANGES_OHM, (0.1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6, 1e-6, 1e-7), strict=True))
"""Default test currents (table 4-1)."""
COMPLIANCE_V: Final = 21.0
"""Voltage limit of auto ohms. The manual gives none; full scale of the top range wants 21 V."""


@dataclass(slots=True)
class Ohms:
    """Settings of the ohms function; ``range`` is nominal, in ohm, and limits bound its autorange."""

    auto: bool = True
    range: float = 2e5
    auto_range: bool = True
    compensated: bool = False
    lower: float = RANGES_OHM[0]
    upper: float = RANGES_OHM[-1]
    volts_auto_range: bool | None = None
    """While auto ohms has the source: whether voltage was on autorange before, and will be again."""

    @property
    def test_current_a(self) -> float:
        """What auto ohms sources on the present range."""
        return TEST_CURRENTS_A[self.range]

    @property
    def volt_range(self) -> float:
        """Nominal voltage range of auto ohms at the present range."""
        full_scale_v = self.range * self.test_current_a
        return 2.0 if full_scale_v <= 2.0 * (1 + 1e-9) else 20.0
