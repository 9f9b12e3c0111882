"""What a run on a 2400 needs of the unit behind the port, and what it means where the unit does not know the rest.

NEEDED: a refusal ends the set-up. CONSEQUENCES: a refusal becomes a note. UNKNOWN: a query left unanswered becomes a
note; where it *is* answered, the answer must be right.
"""

from __future__ import annotations

from typing import Final

NEEDED: Final = frozenset({b"*RST", b":OUTP", b":SOUR:VOLT", b":SENS:CURR:PROT"})
"""By header. In addition the off state of a cell, and rear terminals."""

CONSEQUENCES: Final[dict[bytes, str]] = {
    b"*CLS": "old entries may stand in its error queue",
    b":SYST:BEEP:STAT": "it may beep",
    b":FORM:ELEM": "the elements of a reading are what it sends by itself; others than current and status are refused",
    b":ROUT:TERM": "it is taken to have front terminals only",
    b":SYST:RSEN": "it is taken to sense with two wires",
    b":OUTP:SMOD": "what its output does when off is not known",
    b":SOUR:FUNC": "that it sources volts is told by the status word of each reading alone",
    b":SOUR:VOLT:MODE": "it is taken to know fixed levels only",
    b":SOUR:VOLT:RANG": "the resolution of a level is not known",
    b":SOUR:DEL": "the first reading after a step may see the cable charging",
    b":SOUR:CLE:AUTO": "it is taken to leave its output on between readings",
    b":SENS:FUNC:CONC": "it is taken to measure current alone",
    b":SENS:FUNC": "that it measures current is told by the status word of each reading alone",
    b":SENS:CURR:RANG": "noise, offset and overflow are those of another range than the detector is set for",
    b":SENS:CURR:NPLC": "the aperture is not known and taken as at least one power-line cycle",
    b":SENS:AVER": "a filter may hide the first readings of a surge",
    b":SYST:AZER": "readings may take three apertures",
    b":TRIG:DEL": "it is taken to have no trigger delay",
    b":ARM:COUN": "it is taken to send one reading for one question",
    b":TRIG:COUN": "it is taken to send one reading for one question",
    b":DISP:ENAB": "the display costs time",
    b":SYST:RWL": "its panel is not locked; limit, range and off state are still looked at within 16 readings",
}

UNKNOWN: Final[dict[str, str]] = {
    ":SENS:CURR:RANG": "the measure range is not known; noise and offset may be another range's",
    ":SENS:CURR:RANG:AUTO": "autorange is not known to be off: readings may take longer, and too long for the deadline",
    ":OUTP:SMOD": "what its output does when off is not known",
    ":SOUR:FUNC": "that it sources volts is told by the status word of each reading alone",
    ":SOUR:VOLT:RANG": "the resolution of a level is not known",
    ":SENS:CURR:NPLC": "the aperture is not known and taken as at least one power-line cycle",
    ":FORM:ELEM": "the elements of a reading are told by the reading itself",
    ":ARM:COUN": "that one question gives one reading is told by the reading itself",
    ":TRIG:COUN": "that one question gives one reading is told by the reading itself",
}
