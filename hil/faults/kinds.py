"""The kinds of faults and their parameters, in one table: the schema of plans, ``tipguard hil faults`` and the docs.

A kind acts on the wire between instrument and computer (``wire``), in the emulated 2400 (``smu``), in the emulated
stage (``stage``), in the front end (``frontend``) or between tip and sample (``tip``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

Group = Literal["wire", "smu", "stage", "frontend", "tip"]
Value: TypeAlias = float | int | bool | str


@dataclass(frozen=True, slots=True)
class Param:
    """One parameter of a kind. Numbers from ``low`` to ``high``, both included; texts one of ``choices``, if any."""

    name: str
    default: Value
    what: str
    low: float = 0.0
    high: float = 0.0
    choices: tuple[str, ...] = ()

    @property
    def expectation(self) -> str:
        """Say what the parameter wants, in words."""
        if isinstance(self.default, bool):
            return "true or false"
        if isinstance(self.default, str):
            if self.choices:
                return "one of " + ", ".join(self.choices)
            return "a text of 1 to 64 characters, each up to \\u00ff"
        kind = "an integer" if isinstance(self.default, int) else "a number"
        return f"{kind} from {self.low:g} to {self.high:g}"


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of fault. ``once``: one occasion per trigger, so that ``times`` is 1. ``times``: its default."""

    name: str
    group: Group
    what: str
    params: tuple[Param, ...] = ()
    times: int = 1
    once: bool = False


def _count(what: str, default: int = 1) -> Param:
    return Param("count", default, what, 1, 64)


def _duration(what: str, default: float, *, least: float = 1e-6) -> Param:
    return Param("duration_s", default, what, least, 3600.0)


_OFFSET: Final = Param("offset", -1, "which byte of the message (without at_byte); -1: drawn from the seed", -1, 4096)
_LATE: Final = Param("late_s", 0.5, "how late in s", 1e-6, 60.0)
_AXIS: Final = Param("axis", "3", "name of the axis")
_ERROR: Final = Param("error", 0, "what ERR? then says; 0: nothing", 0, 32767)
_FORCE: Final = Param("force", True, "although the panel is locked")
_STAYS: Final = "how long in s; 0: for good"

_WIRE: Final = (
    Kind("drop", "wire", "bytes vanish", (_count("how many bytes"), _OFFSET)),
    Kind(
        "flip",
        "wire",
        "a byte arrives changed",
        (Param("bit", -1, "which bit; -1: drawn from the seed", -1, 7), _OFFSET),
    ),
    Kind("duplicate", "wire", "a byte arrives more than once", (_count("how many times more"), _OFFSET)),
    Kind(
        "insert",
        "wire",
        "bytes arrive that nobody sent: before a byte or message, or at once where the trigger names none",
        (
            Param("data", "\0", "which bytes, a character each"),
            Param("offset", 0, "before which byte of the message (without at_byte); -1: drawn from the seed", -1, 4096),
        ),
    ),
    Kind(
        "stall", "wire", "the line stands still in the middle of a message", (_duration("how long in s", 0.5), _OFFSET)
    ),
    Kind(
        "split",
        "wire",
        "the bytes of a message arrive one by one",
        (Param("gap_s", 0.005, "from one byte to the next, in s", 1e-5, 1.0),),
    ),
    Kind("merge", "wire", "a message waits for the next one, and both arrive as one piece"),
    Kind("reorder", "wire", "a message and the next one arrive in the wrong order"),
    Kind(
        "truncate",
        "wire",
        "a message is cut short",
        (
            Param("count", -1, "how many bytes of it arrive; -1: drawn from the seed", -1, 4096),
            Param("terminator", True, "whether its terminator still arrives"),
        ),
    ),
    Kind("late", "wire", "a message arrives late, and everything behind it too", (_LATE,)),
    Kind(
        "stale",
        "wire",
        "an older message arrives again: instead of one, or before it (at once where the trigger names none)",
        (
            Param("age", 1, "how many messages ago it was sent", 1, 32),
            Param("instead", True, "in place of the right one"),
        ),
    ),
    Kind(
        "double",
        "wire",
        "a message arrives twice",
        (Param("late_s", 0.0, "how much later in s the second time", 0, 60),),
    ),
    Kind(
        "mute",
        "wire",
        "messages vanish, whoever sends them lives on",
        (_duration(_STAYS, 0.0, least=0.0),),
        times=0,
    ),
    Kind(
        "unplug",
        "wire",
        "the link is gone, bytes on the way are lost; duration_s later it is plugged in again",
        (_duration("after how long in s it is plugged in again; 0: never", 0.0, least=0.0),),
        once=True,
    ),
    Kind(
        "xoff",
        "wire",
        "a stray XOFF byte arrives",
        (_duration("after how long in s an XON follows; 0: never", 0.0, least=0.0),),
    ),
    Kind(
        "fifo",
        "wire",
        "a USB adapter's memory: replies survive the abort that discards them, and come late",
        (Param("late_s", 0.05, "how late in s", 1e-6, 60.0),),
        times=0,
    ),
)
_SMU: Final = (
    Kind(
        "reset",
        "smu",
        "the mains fail for a moment: output off, everything as at power-on",
        (_duration("for how long in s it hears nothing after that", 0.0, least=0.0),),
        once=True,
    ),
    Kind(
        "output_key",
        "smu",
        "OUTPUT ON/OFF is pressed at the panel; locked, it only switches off",
        (Param("force", False, "also on, although the panel is locked"),),
        once=True,
    ),
    Kind(
        "panel_limit",
        "smu",
        "the current compliance is changed at the panel",
        (Param("value", 0.1, "A", 1e-9, 1.05), _FORCE),
        once=True,
    ),
    Kind(
        "panel_range",
        "smu",
        "the current range is changed at the panel",
        (Param("value", 1e-2, "A", 1e-6, 1.05), _FORCE),
        once=True,
    ),
    Kind(
        "panel_off_mode",
        "smu",
        "the output-off state is changed at the panel",
        (Param("mode", "HIMP", "the new state", choices=("NORM", "ZERO", "GUAR", "HIMP")), _FORCE),
        once=True,
    ),
    Kind(
        "panel_level",
        "smu",
        "the source level is changed at the panel",
        (Param("value", 0.0, "V", -210.0, 210.0), _FORCE),
        once=True,
    ),
    Kind(
        "stuck_compliance",
        "smu",
        "the compliance bit says what it likes",
        (Param("on", True, "true: compliance although nothing clamps; false: never compliance"),),
        times=0,
    ),
    Kind(
        "autozero_gap",
        "smu",
        "a reading takes the conversions of an autozero that nobody asked for",
        (Param("apertures", 2, "how many more apertures", 0, 20), _duration("and how many s more", 0.0, least=0.0)),
    ),
    Kind(
        "range_stall",
        "smu",
        "a reading takes longer, as a change of range does",
        (_duration("how many s more", 0.065),),
    ),
    Kind(
        "overflow",
        "smu",
        "a reading overflows: +9.9E37",
        (Param("oflo", True, "whether the status word's overflow bit says so"),),
    ),
    Kind(
        "oe_open",
        "smu",
        "the output-enable line is released: the output goes off, and wants its key",
        (
            Param(
                "fitted",
                True,
                "the line is wired: closed until then, output enable on; else it acts only if :OUTP:ENAB is on",
            ),
            _duration("after how long in s it is closed again; 0: never", 0.0, least=0.0),
        ),
        once=True,
    ),
)
_STAGE: Final = (
    Kind("stage_stall", "stage", "an axis jams", (_AXIS, _ERROR, _duration(_STAYS, 0.0, least=0.0)), once=True),
    Kind("stage_servo_off", "stage", "a servo loop opens by itself", (_AXIS, _ERROR), once=True),
    Kind(
        "stage_error",
        "stage",
        "the controller has an error",
        (Param("error", 1024, "what ERR? then says", 1, 32767),),
        once=True,
    ),
    Kind("stage_reset", "stage", "the controller's mains fail for a moment", once=True),
    Kind(
        "stage_contact_lost",
        "stage",
        "the deflection signal is dead: it stays where it is in the air",
        (_duration(_STAYS, 0.0, least=0.0),),
        once=True,
    ),
)
_FRONTEND: Final = (
    Kind(
        "frontend_freeze",
        "frontend",
        "the microcontroller stands still: no sample, no byte, its pin stays what it is until its watchdog resets it",
        (
            _duration(_STAYS, 0.0, least=0.0),
            Param("watchdog", True, "whether the watchdog does, or stands still, too"),
        ),
        once=True,
    ),
    Kind(
        "frontend_reset",
        "frontend",
        "the microcontroller loses its power: its pin opens, and it starts anew",
        (_duration("for how long in s it has none", 0.0, least=0.0),),
        once=True,
    ),
    Kind(
        "switch_stuck",
        "frontend",
        "the switch in series with the tip stays closed, whatever its pin says",
        (_duration(_STAYS, 0.0, least=0.0),),
        once=True,
    ),
    Kind(
        "adc_silent",
        "frontend",
        "the converter gives no sample",
        (_duration(_STAYS, 0.0, least=0.0),),
        once=True,
    ),
    Kind(
        "adc_stuck",
        "frontend",
        "the converter gives its last code again and again",
        (_duration(_STAYS, 0.0, least=0.0),),
        once=True,
    ),
)
_TIP: Final = (
    Kind("open_tip", "tip", "the tip conducts nothing from now on", once=True),
    Kind("stuck_on", "tip", "100 ohm under the tip for good, whatever resets it", once=True),
    Kind(
        "telegraph",
        "tip",
        "a conductance beside the sample comes and goes at random",
        (
            Param("value", 1e-6, "conductance in S", 1e-12, 1.0),
            Param("rate_hz", 100.0, "changes per second, on the average", 0.1, 5000.0),
            _duration(_STAYS, 0.0, least=0.0),
        ),
        once=True,
    ),
    Kind(
        "glitch",
        "tip",
        "one pulse of current, as far as the circuit lets it through",
        (Param("value", 1e-4, "A", 1e-9, 1.0), _duration("s", 1e-3)),
        once=True,
    ),
    Kind(
        "drift",
        "tip",
        "the sample drifts under a tip that a stage moves",
        (Param("x_nm_s", 1.0, "nm/s", -1e4, 1e4), Param("y_nm_s", 0.0, "nm/s", -1e4, 1e4)),
        once=True,
    ),
)

KINDS: Final[dict[str, Kind]] = {kind.name: kind for kind in (*_WIRE, *_SMU, *_STAGE, *_FRONTEND, *_TIP)}
"""Every kind by its name."""


def told(param: Param) -> str:
    """Return one line about a parameter."""
    default = str(param.default).lower() if isinstance(param.default, bool) else repr(param.default)
    return f"{param.name}: {param.what} ({param.expectation}; default {default})"
