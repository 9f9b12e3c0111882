"""Where a run is, as the bench sees it: from the 2400's settings and output, and from the messages that reach it.

The controller's own idea of its phase is never asked: what is tested must not say when. Signs are the instrument's:
with ``wiring.hi = "sample"`` a search runs at positive levels and counts as reset here.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

from hil.devices.keithley2400.settings import Settings

PHASES: Final = ("setup", "energised", "seek", "onset", "reset", "lrs_read", "hrs_read", "cutting", "off")
"""What ``at_phase`` can name; each begins, and counts for ``nth``, when it is entered."""


@dataclass(frozen=True, slots=True)
class _Row:
    phase: str
    holds: Callable[[Settings, float], bool]


# With the output on, from top to bottom, the first that holds; else "energised". The settings are those of the
# guard's phase table (edge.guard.phases): 1 uA and a long integration read an HRS, a long one alone an LRS.
_ROWS: Final = (
    _Row("hrs_read", lambda settings, _level: settings.curr_sense.range <= 1e-6),
    _Row("lrs_read", lambda settings, _level: settings.nplc >= 0.5),
    _Row("reset", lambda _settings, level: level > 0),
    _Row("seek", lambda _settings, level: level < 0),
)
# "setup" is the first of these that arrives with the output off; "cutting" the first of those while there is a bias,
# or the output going off without a message. A ramp of the controller's own passes 0 V, too, as a line of its own, and
# is no cut: it writes every level with four decimals, ``SOUR:VOLT 0.0000``, and its cuts, as most scripts, without. A
# script that ends its bias with exactly those four decimals is taken for a ramp until its output goes off.
_SETUP: Final = re.compile(r"(\*RST|SOUR|SENS|ROUT|FORM|TRIG|ARM)[^?]*", re.IGNORECASE)
_CUT: Final = re.compile(
    r"(SOUR(CE)?:(VOLT|CURR)(AGE|ENT)?(:LEV(EL)?)?(:IMM(EDIATE)?)?(:AMPL(ITUDE)?)? +(?!0\.0000$)[+-]?0+(\.0*)?"
    r"|OUTP(UT)?(:STAT(E)?)? +(OFF|0))",
    re.IGNORECASE,
)


class Unit2400(Protocol):
    """What is looked at of an emulated 2400."""

    @property
    def output_on(self) -> bool:
        """Whether the output is on."""

    @property
    def settings(self) -> Settings:
        """The present settings."""


class PhaseWatch:
    """Follows one 2400; tells the phases it enters, in their order."""

    def __init__(self, unit: Unit2400) -> None:
        """Begin with the output off, whatever came before."""
        self._unit = unit
        self._on = False
        self._row = ""
        self._level = 0.0
        self._biased = False
        self._cutting = False
        self._setup = False

    @property
    def phase(self) -> str:
        """The present phase; "onset" is a moment and never present."""
        if not self._on:
            return "setup" if self._setup else "off"
        return "cutting" if self._cutting else self._row or "energised"

    def begin(self) -> None:
        """Take the present state for where it starts: only what changes from now on is entered."""
        self.step()

    def step(self) -> list[str]:
        """Look after the instrument did something; return the phases entered."""
        settings, on = self._unit.settings, self._unit.output_on
        level = settings.source_axis().level
        entered = []
        if on and not self._on:
            entered.append("energised")
            self._biased = self._cutting = self._setup = False
            self._row, self._level = "", 0.0
        elif self._on and not on:
            if self._biased and not self._cutting:
                entered.append("cutting")
            entered.append("off")
            self._row = ""
        self._on = on
        if on:
            if level and not self._level:
                self._biased, self._cutting = True, False
            self._level = level
            row = next((row.phase for row in _ROWS if row.holds(settings, level)), "")
            if row and row != self._row:
                entered.append(row)
            self._row = row or self._row
        return entered

    def message(self, text: str) -> list[str]:
        """Look at a message, without colon and terminator, that is about to go to the instrument."""
        if _CUT.fullmatch(text):
            if self._on and self._biased and not self._cutting:
                self._cutting = True
                return ["cutting"]
        elif not self._on and not self._setup and _SETUP.fullmatch(text):
            self._setup = True
            return ["setup"]
        return []
