"""The Keithley 2400 as an :class:`edge.instruments.smu.Smu`.

Never ``MEAS?`` or ``CONF`` (they switch the output on and reset limits, manual 17-2), never more than one reading per
acquisition (while the trigger model runs, ``:OUTP OFF`` is only queued, manual 11-11).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any, Final, TypeVar

from edge.config import Config
from edge.errors import InstrumentError, LimitReadbackError
from edge.instruments.aftermath import Aftermath
from edge.instruments.keithley2400_needs import CONSEQUENCES, NEEDED, UNKNOWN
from edge.instruments.keithley2400_talk import Talk, header
from edge.instruments.keithley2400_times import (
    CHECK_REPLY_BYTES,
    QUERY_PROCESSING_S,
    READ_PROCESSING_S,
    READ_REPLY_BYTES,
    SOURCE_DELAY_S,
    processing,
)
from edge.instruments.link import Link
from edge.instruments.smu import CheckResult, Learning, Setup, SmuIdentity
from edge.samples import Flag, Sample
from firmware_proto.errors import RemoteProtocolError
from firmware_proto.keithley2400 import commands, leniency, replies
from firmware_proto.keithley2400.forms import CANONICAL, ReadingForm, form_of
from firmware_proto.keithley2400.status import OVERRANGE, OutputOff, StatusWord

T = TypeVar("T")

AUTO_DELAY_S: Final = 0.003
"""The longest automatic source delay, of a unit that refuses another one (manual 3-13)."""
AUTORANGE_S: Final = 0.065
"""A reading on a unit whose autorange is not known to be off may take so much longer (specifications, Rev. L)."""
TRIED_LEVEL_V: Final = -0.01
"""Read back once with the output off: negative, and small enough for every range and every sample."""
TRIALS: Final = 3
"""Readings at 0 V that must be written alike before another form than the 2400's is believed."""
CLAMPED_FROM: Final = 0.99
"""Of the limit: from here on a current counts as clamped, whatever the status word says."""
_OFF_PATTERNS: Final = {
    OutputOff.NORMAL: "NORMal",
    OutputOff.ZERO: "ZERO",
    OutputOff.HIGH_IMPEDANCE: "HIMPedance",
    OutputOff.GUARD: "GUARd",
}
_WATCHED: Final = {
    "SENS:CURR:PROT": commands.LIMIT_QUERY,
    "SENS:CURR:RANG": commands.RANGE_QUERY,
    "OUTP:SMOD": commands.OFF_MODE_QUERY,
}
"""Asked in turn while energised, as far as the unit knows them; the limit always."""
_NEEDED_ANSWERS: Final = frozenset({"SENS:CURR:PROT", "SOUR:VOLT", "OUTP"})
_EXPECTED_READING: Final = (
    "three numbers of constant length, level, current and status word, such as "
    "-1.000000E-01,-1.234567E-07,+2.048400E+04"
)
_ELEMENTS: Final = ("VOLTage", "CURRent", "STATus")
LEVEL_STEP_OF_RANGE: Final = 5e-5
"""What the echoed level of a reading may differ by, of the source range: twice the resolution it is programmed with on
the 2 V and 20 V ranges (50 uV, 500 uV; specifications, Rev. L)."""
_COMPLIANCE: Final = int(StatusWord.COMPLIANCE)
_RANGE_COMPLIANCE: Final = int(StatusWord.RANGE_COMPLIANCE)
_ANY_COMPLIANCE: Final = _COMPLIANCE | _RANGE_COMPLIANCE
_new: Final = tuple.__new__
_F_NONE: Final = 0
_F_OVERFLOW: Final = int(Flag.OVERFLOW)
_F_NOT_MEASURED: Final = int(Flag.NOT_MEASURED)
_F_UNPARSABLE: Final = int(Flag.UNPARSABLE)
_F_COMPLIANCE: Final = int(Flag.COMPLIANCE | Flag.BIAS_NOT_HELD)
_F_RANGE_COMPLIANCE: Final = int(Flag.RANGE_COMPLIANCE | Flag.BIAS_NOT_HELD)


class Keithley2400:
    """Driver. Bias is always tip against Li/Li+; ``wiring.hi = "sample"`` flips volts and amperes together."""

    read_message = commands.READ
    output_on_message = commands.OUTPUT_ON
    release_message = commands.RELEASE_PANEL

    def __init__(self, link: Link, config: Config) -> None:
        """Bind to a link; sends nothing."""
        self.link = link
        self._smu = config.smu
        self._output_off = OutputOff.HIGH_IMPEDANCE if config.rig.kind == "cell" else OutputOff.NORMAL
        self._sign = 1.0 if config.wiring.hi == "tip" else -1.0
        self._setup: Setup | None = None
        self._check_protection_a = math.nan
        self._check_range_a = math.nan
        self._byte_s = 10 / link.transport.baud if link.transport.baud else 0.0
        self._processing = processing(config, self._byte_s)
        self._aperture_s = 0.0
        self._to_middle_ns = 0
        self._t_unc_ns = 0
        self._talk = Talk(link, commands.ABORT[config.smu.abort])
        self._refused: dict[bytes, str] = {}
        self._answers: dict[str, bytes] = {}
        self._proven = False
        self._autozero_stays = False
        self._delay_s = SOURCE_DELAY_S
        self._ranging_s = 0.0
        self._clamp_a = math.inf
        self._level_tolerance_v = 0.0
        self._parse_reading: Callable[[bytes], replies.Reading] = replies.parse_reading
        self._reading_bytes = READ_REPLY_BYTES
        self._form: ReadingForm | None = None
        self._trials: list[ReadingForm] = []
        self.check_messages: tuple[bytes, ...] = tuple(_WATCHED.values())
        self.notes: tuple[str, ...] = ()
        self.reply_extra_s = 0.0
        self.why_not = ""

    async def identify(self) -> SmuIdentity:
        """See Smu."""
        line = await self._talk.greet()
        identity = self._parse(replies.parse_identity, line, "*IDN?")
        return SmuIdentity(identity.model, identity.serial_number, identity.firmware)

    async def output_on(self) -> bool:
        """See Smu."""
        return self._parse(replies.parse_bool, await self._talk.output(), ":OUTP?")

    def _parse(self, parser: Callable[[bytes], T], line: bytes, asked: str) -> T:
        try:
            return parser(line)
        except RemoteProtocolError as error:
            raise InstrumentError(
                f"{self.link.transport.name}: the reply to {asked} is {error}. If it echoes commands, sends prompts or "
                "words for numbers, switch that off at the instrument"
            ) from error

    async def enable_by_line(self) -> None:
        """See EnabledByLine."""
        refused = await self._talk.tell((commands.LINE_ENABLES,))
        line = b"" if refused else await self._talk.read_back(commands.LINE_ENABLES_QUERY, needed=True)
        if line != b"1":
            why = "; ".join(refused.values()) or f":OUTP:ENAB? is answered {line!r:.60}, expected 1"
            raise LimitReadbackError(
                f"{self.link.transport.name}: the output enable line was not switched on ({why}); nothing was "
                "energised. [gpio] needs a unit that has one"
            )

    async def line_closed(self) -> bool:
        """See EnabledByLine."""
        line = await self._talk.ask(commands.LINE_QUERY)
        return self._parse(replies.parse_bool, line, ":OUTP:ENAB:TRIP?")

    async def configure(self, setup: Setup) -> None:
        """See Smu."""
        self._setup = None
        messages = commands.configure(
            source_range_v=setup.source_range_v,
            sense_range_a=setup.range_a,
            protection_a=setup.protection_a,
            nplc=setup.nplc,
            autozero=setup.autozero,
            output_off=self._output_off,
            source_delay_s=SOURCE_DELAY_S,
            rear_terminals=self._smu.terminals == "rear",
        )
        self.notes = ()
        try:
            await self._talk.meet()
            self._refused = await self._talk.tell(messages)
            self._refuse_errors(messages)
            await self._read_back(setup)
            await self._prove(setup)
        except InstrumentError:
            # What was found out about the unit's manners may be what is wrong: the next set-up begins with them.
            self._talk.met = False
            raise
        self._setup = setup
        self._level_tolerance_v = setup.source_range_v * LEVEL_STEP_OF_RANGE
        # A programmed clamp lies within 0.3 % of its range (specifications, Rev. L).
        self._clamp_a = CLAMPED_FROM * min(self._check_protection_a, setup.range_a * OVERRANGE)
        self._time_map(setup)
        self.notes = self._notes()

    def _refuse_errors(self, sent: tuple[bytes, ...]) -> None:
        """Stop at the refusal of a command that no run can do without."""
        needed = set(NEEDED)
        if self._output_off is OutputOff.HIGH_IMPEDANCE:
            needed.add(b":OUTP:SMOD")
        if self._smu.terminals == "rear":
            needed.add(b":ROUT:TERM")
        errors = [f"{name.decode()}: {error}" for name, error in self._refused.items() if name in needed]
        if errors:
            among = b" ".join(message.strip() for message in sent if header(message) in self._refused).decode("ascii")
            raise InstrumentError(
                f"{self.link.transport.name}: the instrument refused part of the set-up ({'; '.join(errors)}) among: "
                f"{among}. Nothing was energised; compare its model and firmware with `tipguard check`"
            )

    async def _read_back(self, setup: Setup) -> None:
        """Ask for everything a run depends on; stop at what differs, and at what no run can do without."""
        volts = setup.source_range_v * OVERRANGE
        off_mode = _OFF_PATTERNS[self._output_off]
        wanted: tuple[tuple[str, Callable[[bytes], bool], str], ...] = (
            ("SENS:CURR:PROT", _near(setup.protection_a, 1e-3), f"{setup.protection_a:g} A"),
            ("SENS:CURR:RANG", _near(setup.range_a * OVERRANGE, 0.06), f"{setup.range_a:g} A"),
            ("SENS:CURR:RANG:AUTO", leniency.says_off, "0"),
            ("OUTP:SMOD", lambda line: leniency.says(line, off_mode), self._output_off.value),
            ("SOUR:FUNC", lambda line: leniency.says(line, "VOLTage"), "VOLT"),
            ("SOUR:VOLT", _near(0.0, 0.0), "0 V"),
            ("SOUR:VOLT:RANG", _near(volts, 0.06), f"{setup.source_range_v:g} V"),
            ("SENS:CURR:NPLC", _near(setup.nplc, 1e-3), f"{setup.nplc:g}"),
            ("FORM:ELEM", lambda line: leniency.says_list(line, _ELEMENTS), "VOLT,CURR,STAT"),
            ("ARM:COUN", _near(1.0, 0.0), "1"),
            ("TRIG:COUN", _near(1.0, 0.0), "1"),
            ("OUTP", lambda line: line == b"0", "0 (off)"),
        )
        self._answers = {}
        for query, (name, holds, expected) in zip(commands.READBACKS, wanted, strict=True):
            needed = name in _NEEDED_ANSWERS or (name == "OUTP:SMOD" and self._output_off is OutputOff.HIGH_IMPEDANCE)
            line = await self._talk.read_back(query, needed=needed)
            if line is None:
                continue
            if not holds(line):
                got = line[:60].decode("ascii", "replace")
                because = [f"{cmd.decode()}: {err}" for cmd, err in self._refused.items() if _about(cmd, name)]
                why = f" (the instrument refused {'; '.join(because)})" if because else ""
                raise LimitReadbackError(
                    f"{self.link.transport.name}: {name} reads back {got!r}, expected {expected}{why}; nothing was "
                    "energised. Look at the instrument: was it changed at the panel, or is another model behind the "
                    "port?"
                )
            self._answers[name] = line
            if name == "SENS:CURR:PROT":
                self._check_protection_a = leniency.number(line)
            if name == "SENS:CURR:RANG":
                self._check_range_a = leniency.number(line)

    async def _prove(self, setup: Setup) -> None:
        """Once in a life, before anything is energised: a cut can be proven on this unit, and its limit be watched."""
        watched = [name for name in _WATCHED if name in self._answers]
        self.check_messages = tuple(_WATCHED[name] for name in watched)
        if self._proven:
            return
        await self._look_once(setup)
        await self._try_level()
        # Not always the same: an old answer is none.
        tag = len(b";".join(self._answers[name] for name in watched)) % 100 + 100
        line = await self._talk.ask(commands.tagged_query(tag))
        try:
            proof = replies.parse_verification(line)
            proven = proof.tag == tag and not proof.output_on and proof.level_v == 0.0
        except RemoteProtocolError:
            proven = False
        if not proven:
            got = line[:60].decode("ascii", "replace")
            raise LimitReadbackError(
                f"{self.link.transport.name}: the question that proves a cut is answered {got!r}, expected "
                f"'+0.000000E+00;{tag};0': no cut could be verified on this unit; nothing was energised. It cannot be "
                "used with this controller"
            )
        for name in watched:
            if await self._talk.ask(_WATCHED[name]) != self._answers[name]:
                raise LimitReadbackError(
                    f"{self.link.transport.name}: {name}? is not answered the same twice; nothing was energised"
                )
        self._proven = True

    async def _try_level(self) -> None:
        """See that a level is set as it is written, sign and all; the output is off, and the level 0 V again after it.

        Not on a cell, whose level is not for trying.
        """
        if self._output_off is OutputOff.HIGH_IMPEDANCE:
            return
        # In one message, so that nothing can come between the level and 0 V.
        tried = commands.set_level(TRIED_LEVEL_V).rstrip() + b";:SOUR:VOLT?;:SOUR:VOLT 0;:SOUR:VOLT?\n"
        line = await self._talk.ask(tried)
        first, _, second = line.partition(b";")
        if not (_near(TRIED_LEVEL_V, 1e-3)(first) and _near(0.0, 0.0)(second)):
            raise LimitReadbackError(
                f"{self.link.transport.name}: levels of {TRIED_LEVEL_V:g} V and 0 V read back "
                f"{line[:60].decode('ascii', 'replace')!r} (output off); nothing was energised. This unit does not set "
                "what it is told"
            )

    async def _look_once(self, setup: Setup) -> None:
        """See that a unit does not ignore in silence what it was told; what it does not know is left to the notes."""
        setup_terminals = "REAR" if self._smu.terminals == "rear" else "FRONt"
        wanted: tuple[tuple[Callable[[bytes], bool], str], ...] = (
            (leniency.says_off, "0: with the sense leads open the output would run to its limit"),
            (lambda line: leniency.says(line, setup_terminals), f"{self._smu.terminals} terminals"),
            (leniency.says_off, "0: the output would switch by itself"),
            (leniency.says_off, "0: a filter would hide the first readings of a surge"),
            (lambda _line: True, ""),
        )
        for query, (holds, expected) in zip(commands.ONCE_READ_BACK, wanted, strict=True):
            line = await self._talk.read_back(query, needed=False)
            if line is not None and not holds(line):
                raise LimitReadbackError(
                    f"{self.link.transport.name}: {query.strip().decode()} is answered "
                    f"{line[:60].decode('ascii', 'replace')!r}, expected {expected}; nothing was energised"
                )
            if query == b":SYST:AZER?\n":
                self._autozero_stays = line is not None and not setup.autozero and not leniency.says_off(line)

    def _notes(self) -> tuple[str, ...]:
        """Say what this unit does not know, and what that means for a run."""
        notes = [
            f"{name.decode()} refused ({error}): {CONSEQUENCES[name]}" for name, error in sorted(self._refused.items())
        ]
        if not self._talk.has_error_queue:
            notes.append(":SYST:ERR? unanswered: what the unit refuses is not known; only what was read back counts")
        for query in sorted(self._talk.unanswered):
            name = query.rstrip(b"?\n").decode()
            notes.append(f"{name}? unanswered: {UNKNOWN.get(name, 'it is taken as set')}")
        if self._autozero_stays and b":SYST:AZER" not in self._refused:
            notes.append(":SYST:AZER OFF is ignored: readings take three apertures")
        if self.link.acknowledgements is not None:
            text = self.link.acknowledgements.text.decode("ascii", "replace")
            notes.append(f"it acknowledges commands with {text!r}: as many such lines as are owed are dropped")
        if self.reply_extra_s:
            notes.append(
                f"replies take {self.reply_extra_s * 1e3:.0f} ms: readings, checks and cuts wait so much longer"
            )
        if self._form is not None:
            notes.append(f"readings are written with {self._form.describe()}; every other line is refused")
            if self._form.coarse_status:
                notes.append("its status word is rounded: compliance is told by the current alone")
        return tuple(notes)

    def _time_map(self, setup: Setup) -> None:
        """Set the way back from a reading's last byte to the middle of its aperture.

        Where in the unit's ~4 ms of processing the aperture lies is not documented, so the uncertainty covers all of
        it: those of the specifications, or what a rig profile says that a reading usually takes here.
        """
        # What could not be switched off or set is taken as the instrument has it after *RST, where that takes longer.
        autozero = setup.autozero or self._autozero_stays or b":SYST:AZER" in self._refused
        nplc = setup.nplc if "SENS:CURR:NPLC" in self._answers else max(setup.nplc, 1.0)
        self._aperture_s = nplc / self._smu.line_frequency_hz * (3 if autozero else 1)
        self._delay_s = AUTO_DELAY_S if b":SOUR:DEL" in self._refused else SOURCE_DELAY_S
        self._ranging_s = 0.0 if "SENS:CURR:RANG:AUTO" in self._answers else AUTORANGE_S
        self.reply_extra_s = self._talk.extra_s
        usual_s = self._processing.usual_read_s
        if self.reply_extra_s:
            # A profile may hold it already.
            usual_s = max(usual_s, READ_PROCESSING_S + self.reply_extra_s)
        inside_s = usual_s + self._delay_s + self._aperture_s + self._ranging_s
        self._to_middle_ns = int((self._reading_bytes * self._byte_s + inside_s / 2) * 1e9)
        self._t_unc_ns = int((inside_s / 2 + self._byte_s) * 1e9)

    async def aftermath(self) -> Aftermath:
        """See Smu."""
        return await self._talk.look_back()

    def level_message(self, bias_v: float) -> bytes:
        """See Smu."""
        return commands.level_and_read(bias_v * self._sign)

    def programmed_v(self, bias_v: float) -> float:
        """See Smu: steps of 0.1 mV, rounded towards zero."""
        return float(commands.level(bias_v)) + 0.0

    def sample(self, line: bytes, t_rx_ns: int, bias_v: float, phase: int) -> Sample:
        """See Smu."""
        try:
            current_a, status, overflow, not_measured, level_v = self._parse_reading(line)
            if not abs(level_v - bias_v * self._sign) <= self._level_tolerance_v:
                # A true reading, of another question: an old one, a doubled one, or of a level damaged on its way.
                raise RemoteProtocolError(f"a reading taken at {level_v} V, not {bias_v * self._sign} V", data=line)
        except RemoteProtocolError:
            return Sample(t_rx_ns - self._to_middle_ns, self._t_unc_ns, t_rx_ns, bias_v, math.nan, _F_UNPARSABLE, phase)
        flags = _F_NONE
        if overflow:
            flags = _F_OVERFLOW
        elif not_measured:
            flags = _F_NOT_MEASURED
        if status & _ANY_COMPLIANCE:
            flags |= _F_COMPLIANCE if status & _COMPLIANCE else _F_RANGE_COMPLIANCE
        elif current_a >= self._clamp_a or current_a <= -self._clamp_a:
            # The number says so, whatever the status word does.
            flags |= _F_COMPLIANCE
        # Without the frame that the named tuple's own __new__ takes: a surge waits for it.
        return _new(
            Sample,
            (t_rx_ns - self._to_middle_ns, self._t_unc_ns, t_rx_ns, bias_v, current_a * self._sign, flags, phase),
        )

    def judge_check(self, line: bytes, asked: bytes) -> CheckResult:
        """See Smu. Only the very answer that was read back is unchanged; the rest says which cut it is."""
        name = next((name for name, query in _WATCHED.items() if query == asked), "")
        if self._setup is not None and line == self._answers.get(name):
            return CheckResult.UNCHANGED
        if asked == commands.OFF_MODE_QUERY:
            other = any(leniency.says(line, pattern) for pattern in _OFF_PATTERNS.values())
        else:
            in_force_a = self._check_protection_a if asked == commands.LIMIT_QUERY else self._check_range_a
            try:
                # The number in force, written otherwise than before, is a damaged reply.
                other = leniency.number(line) != in_force_a or self._setup is None
            except RemoteProtocolError:
                other = False
        return CheckResult.LIMIT_CHANGED if other else CheckResult.UNPARSABLE

    def learn(self, line: bytes) -> Learning:
        """See Smu: three readings in a row that are written alike, in a form of constant length."""
        form = form_of(line)
        # The 2400's own form was understood: what is wrong with such a reading is not how it is written.
        hopeless = form is None or form == CANONICAL or self._form is not None
        if form is None or hopeless or (self._trials and form != self._trials[0]):
            self._trials = []
            got = line[:60].decode("ascii", "replace")
            self.why_not = (
                f"the reading {got!r} is not {_EXPECTED_READING}; none of its readings was believed. This unit cannot "
                "be used unless its format is changed"
            )
            return Learning.NO
        self._trials.append(form)
        if len(self._trials) < TRIALS:
            return Learning.MORE
        self._trials = []
        self._believe(form)
        if self._setup is not None:
            self._time_map(self._setup)
        self.notes = self._notes()
        return Learning.KNOWN

    def memory(self) -> dict[str, Any]:
        """See Smu."""
        form = None if self._form is None else dataclasses.asdict(self._form)
        return {
            "talk": self._talk.memory(),
            "form": form,
            "proven": self._proven,
            "autozero_stays": self._autozero_stays,
        }

    def remember(self, memory: dict[str, Any]) -> None:
        """See Smu."""
        self._talk.remember(memory["talk"])
        self._proven = bool(memory["proven"])
        self._autozero_stays = bool(memory["autozero_stays"])
        if memory["form"] is not None:
            self._believe(ReadingForm(**memory["form"]))

    def _believe(self, form: ReadingForm) -> None:
        """Read lines of ``form`` from now on, and no others."""
        self._form = form
        self._parse_reading = form.parser()
        self._reading_bytes = form.length + 1

    def exchange_s(self, message: bytes) -> float:
        """See Smu."""
        if message in self.check_messages:
            return (len(message) + CHECK_REPLY_BYTES) * self._byte_s + self._processing.query_s + self.reply_extra_s
        if message == self.output_on_message:
            # After HIMP the relay settles ~15 ms on the next ON (manual 13-10).
            return (len(message) + 2) * self._byte_s + QUERY_PROCESSING_S + 0.020 + self.reply_extra_s
        # The emulated 2400 works on the level while the question behind it arrives. That a real one does is not
        # documented, so it is not counted on: a deadline too early would end a run, and the envelope promise too much.
        level_s = 0.0 if message == self.read_message else self._processing.level_s
        reading_s = self._processing.read_s + self._delay_s + self._aperture_s + self._ranging_s + self.reply_extra_s
        return (len(message) + self._reading_bytes) * self._byte_s + level_s + reading_s


def _about(command: bytes, name: str) -> bool:
    """Tell whether a refused command is why ``name`` was not set: itself, or the node above, as RANG of RANG:AUTO."""
    return (name + ":").startswith(command[1:].decode() + ":")


def _near(value: float, relative: float) -> Callable[[bytes], bool]:
    def holds(line: bytes) -> bool:
        try:
            got = leniency.number(line)
        except RemoteProtocolError:
            return False
        return abs(got - value) <= abs(value) * relative + 1e-12

    return holds
