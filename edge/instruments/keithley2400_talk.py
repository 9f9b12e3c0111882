"""The set-up conversation with a 2400, or with something that says it is one: output off, nothing taken for granted.

What a unit does not know is found out once and remembered: which commands it refuses, which queries it leaves
unanswered, what it says beside its answers, how long its replies take. Whether that is enough to energise decides the
driver, by what it could read back.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from typing import Any, Final

from edge.errors import InstrumentError, LimitReadbackError, ReplyTimeoutError
from edge.instruments.aftermath import Aftermath
from edge.instruments.keithley2400_needs import NEEDED
from edge.instruments.link import Acknowledgements, Link
from firmware_proto.errors import RemoteProtocolError
from firmware_proto.keithley2400 import commands, leniency, replies
from firmware_proto.keithley2400.status import ErrorCode

REPLY_TIMEOUT_S: Final = 1.0
"""For queries with the output off; the slowest legal baud rate and the longest reply need a tenth of it."""
LEAST_TIMEOUT_S: Final = 0.3
TIMEOUT_OF_SLOWEST: Final = 4.0
QUIET_S: Final = 0.3
"""How long to listen for a line that may still come: twice the longest reply time that a run could bear."""
RESYNC_S: Final = 0.1
ATTEMPTS: Final = 3
NORMAL_REPLY_S: Final = 0.010
"""A unit whose replies take no longer than this beyond their wire time is as fast as the specifications say."""
MEASURED: Final = 24
"""Replies that count for the reply time: those of the last two set-ups."""
POWER_ON: Final = 1 << 7
"""PON in the standard event register (User's Manual section 15); ``*CLS`` of the set-up cleared it."""
_BATCH: Final = 6
_MAX_ERRORS: Final = 10
_ACKNOWLEDGEMENT: Final = re.compile(rb"[A-Za-z][A-Za-z .!_-]{0,30}").fullmatch
_ANSWER_WORDS: Final = frozenset({b"ON", b"OFF", b"NORM", b"NORMAL", b"ZERO", b"HIMP", b"GUAR", b"VOLT", b"CURR"})
_BARRIER: Final = b"*ESE %d;*ESE?\n"
_TAG: Final = b"*ESE %d\n"


class Talk:
    """One unit's manners. All methods need the output off, but for :meth:`greet` and :meth:`output`."""

    def __init__(self, link: Link, abort: bytes) -> None:
        """Bind to a link; ``abort`` is the rig's abort character. Sends nothing."""
        self._link = link
        self._abort = abort
        self._byte_s = 10 / link.transport.baud if link.transport.baud else 0.0
        self.met = False
        """What the unit says beside its answers is known, and that its answers belong to their questions."""
        self._greeted = False
        self._barrier = 0
        self._error_queue: bool | None = None
        self._unknown: dict[bytes, str] = {}
        """Commands that the unit does not know, by header, with the error it gave; they are not sent again."""
        self.unanswered: set[bytes] = set()
        """Queries that it does not know."""
        self._took_s: list[float] = []

    @property
    def name(self) -> str:
        """The port, for messages."""
        return self._link.transport.name

    @property
    def has_error_queue(self) -> bool:
        """False for a unit that leaves ``:SYST:ERR?`` unanswered."""
        return self._error_queue is not False

    @property
    def extra_s(self) -> float:
        """By how much the unit's replies are slower than the specifications say, in s; 0 for one that is not.

        The second longest of what was measured, so that one hiccup of this computer does not count.
        """
        if len(self._took_s) < 3:
            return 0.0
        second = sorted(self._took_s)[-2]
        return second if second > NORMAL_REPLY_S else 0.0

    def memory(self) -> dict[str, Any]:
        """Return what was found out, in plain values; with :meth:`remember` another life goes on from there."""
        acknowledgements = self._link.acknowledgements
        return {
            "met": self.met,
            "greeted": self._greeted,
            "barrier": self._barrier,
            "error_queue": self._error_queue,
            "unknown": {name.decode("ascii"): error for name, error in self._unknown.items()},
            "unanswered": sorted(query.decode("ascii") for query in self.unanswered),
            "took_s": list(self._took_s),
            "acknowledgements": None
            if acknowledgements is None
            else {**dataclasses.asdict(acknowledgements), "text": acknowledgements.text.decode("ascii")},
        }

    def remember(self, memory: dict[str, Any]) -> None:
        """Take over what :meth:`memory` gave."""
        self.met = bool(memory["met"])
        self._greeted = bool(memory["greeted"])
        self._barrier = int(memory["barrier"])
        self._error_queue = memory["error_queue"]
        self._unknown = {name.encode("ascii"): str(error) for name, error in memory["unknown"].items()}
        self.unanswered = {query.encode("ascii") for query in memory["unanswered"]}
        self._took_s = [float(took) for took in memory["took_s"]]
        found = memory["acknowledgements"]
        self._link.acknowledgements = (
            None if found is None else Acknowledgements(**{**found, "text": found["text"].encode("ascii")})
        )

    # -- questions

    async def ask(self, message: bytes, timeout_s: float = REPLY_TIMEOUT_S) -> bytes:
        """Ask and wait; raises ReplyTimeoutError or LinkLostError."""
        return await self._link.query(message, timeout_s)

    async def _measured(self, query: bytes, timeout_s: float) -> bytes:
        """Ask a unit that has nothing else to do, and remember how long it took."""
        began_ns = self._link.clock.now_ns()
        line = await self.ask(query, timeout_s)
        wire_s = (len(query) + len(line) + 1) * self._byte_s
        self._took_s.append((self._link.clock.now_ns() - began_ns) / 1e9 - wire_s)
        del self._took_s[:-MEASURED]
        return line

    async def resync(self) -> None:
        """End half a message and let late replies pass; an abort changes no output (manual 14-14)."""
        self._link.write(self._abort + b"\n")
        await self._link.settle(max(RESYNC_S, QUIET_S if self.extra_s or not self._took_s else 0.0))

    async def greet(self) -> bytes:
        """Ask ``*IDN?``; the first time in a life again if nothing comes (a unit may be waking up), or no identity."""
        for left in range(0 if self._greeted else ATTEMPTS - 1, -1, -1):
            try:
                line = await self.ask(commands.IDENTIFY)
            except ReplyTimeoutError:
                if not left:
                    raise
                await self.resync()
                continue
            if self._greeted or _is_identity(line):
                self._greeted = True
                return line
            break
        return await self._pick(commands.IDENTIFY, _is_identity) or line

    async def output(self) -> bytes:
        """Ask ``:OUTP?``; before the unit was met, find the answer among what it says beside it."""
        try:
            line = await self.ask(commands.OUTPUT_QUERY)
        except ReplyTimeoutError as error:
            if self.met:
                raise
            raise ReplyTimeoutError(f"{error} Without :OUTP? no cut can be proven on this unit") from error
        if self.met or line in (b"0", b"1"):
            return line
        picked = await self._pick(commands.OUTPUT_QUERY, (b"0", b"1").__contains__)
        # It said something else before: an answer counts only if it belongs to its question, and stands alone: what a
        # prompt leaves behind the first answer stands before the second.
        return picked if picked is not None and await self.in_step() and await self.in_step() else line

    async def _pick(self, query: bytes, answers: Callable[[bytes], bool]) -> bytes | None:
        """Ask a talkative unit, and return the one line that is an answer; what comes with it is excused from now on.

        None if that cannot be told.
        """
        await self._link.settle(QUIET_S)
        lines = await self._link.listen(query, QUIET_S)
        found = [line for line in lines if answers(line)]
        others = [line for line in lines if not answers(line)]
        if len(found) != 1 or (others and not self._acceptable(others)):
            return None
        if others:
            self._link.acknowledgements = Acknowledgements(others[0], per_query=len(others), per_chain=len(others))
        self._greeted = True
        return found[0]

    async def in_step(self) -> bool:
        """Tell whether the answers belong to their questions: a fresh number comes back."""
        self._barrier = self._barrier % 200 + 1
        return await self.ask(_BARRIER % self._barrier) == b"%d" % self._barrier

    # -- getting to know each other

    async def meet(self) -> None:
        """Find out what the unit says beside its answers; raises InstrumentError for what cannot be excused."""
        if self.met:
            return
        self._link.acknowledgements = None
        strays = self._link.strays
        try:
            # Acknowledgements before an answer show in the first, those behind one in the second.
            self._link.write(b"*CLS\n")
            first = await self.ask(_BARRIER % 201)
            second = await self.ask(_BARRIER % 202)
        except ReplyTimeoutError as error:
            raise ReplyTimeoutError(
                f"{error} Without *ESE? a cut cannot be proven on this unit; nothing was energised"
            ) from error
        if (first, second) != (b"201", b"202") or self._link.strays != strays:
            await self._learn_acknowledgements()
        if not await self.in_step():
            raise self._out_of_step()
        self.met = True

    def _out_of_step(self) -> InstrumentError:
        return InstrumentError(
            f"{self.name}: *ESE? does not return what *ESE set: either the unit does not know it, or its answers "
            "belong to other questions; a cut could not be proven and nothing was energised. Switch the instrument off "
            "and on; if it stays, this unit cannot be used"
        )

    async def _learn_acknowledgements(self) -> None:
        # No abort here: half an acknowledgement would join the next line.
        await self._link.settle(QUIET_S)
        counts, texts = await self._heard()
        again, more = await self._heard()
        if again != counts:
            # One got lost, or it does not always say so: with a wrong count every run would end at the first one.
            raise self._cannot_follow(b"the same commands", [*texts, *more])
        if texts:
            if not self._acceptable(texts):
                raise self._cannot_follow(b"set-up commands", texts)
            self._link.acknowledgements = Acknowledgements(texts[0], counts[0], counts[1], counts[2])

    async def _heard(self) -> tuple[list[int], list[bytes]]:
        """Count what is said beside the answer to a command, a query, and both in one message; return it, too."""
        counts: list[int] = []
        texts: list[bytes] = []
        # The first sets what the second asks for.
        for message, answer in ((_TAG % 203, None), (b"*ESE?\n", b"203"), (_BARRIER % 204, b"204")):
            lines = await self._link.listen(message, QUIET_S)
            others = [line for line in lines if line != answer]
            if answer is not None and lines.count(answer) != 1:
                if len(lines) == 1 and lines[0].isdigit():
                    raise self._out_of_step()
                raise self._cannot_follow(message, lines)
            counts.append(len(others))
            texts += others
        return counts, texts

    @staticmethod
    def _acceptable(lines: list[bytes]) -> bool:
        """Tell whether ``lines`` are one word, again and again, that no answer can be."""
        same = len(set(lines)) == 1
        return same and _ACKNOWLEDGEMENT(lines[0]) is not None and lines[0].upper() not in _ANSWER_WORDS

    def _cannot_follow(self, message: bytes, lines: list[bytes]) -> InstrumentError:
        said = ", ".join(repr(line[:30].decode("ascii", "replace")) for line in lines[:4]) or "nothing"
        return InstrumentError(
            f"{self.name}: to {message.rstrip().decode('ascii')} the instrument says {said}; which line is an answer "
            "cannot be told (echo, prompt or messages?). Switch that off at the instrument; nothing was energised"
        )

    # -- commands

    async def tell(self, messages: tuple[bytes, ...]) -> dict[bytes, str]:
        """Send commands, one a message; return the errors of those that the unit refuses, by header.

        In batches, each ended by a question: the size of the input buffer is not documented. Where one of a batch is
        refused, each is sent again alone, so that a command that was only damaged on its way is not held against the
        unit.
        """
        headers = {header(message) for message in messages}
        refused = {name: error for name, error in self._unknown.items() if name in headers}
        known = [message for message in messages if header(message) not in self._unknown]
        for start in range(0, len(known), _BATCH):
            batch = known[start : start + _BATCH]
            for message in batch:
                self._link.write(message)
            if not await self._errors():
                continue
            for message in batch:
                self._link.write(message)
                if errors := await self._errors():
                    refused[header(message)] = "; ".join(errors)
                    # Another value may be taken; a header that is not known will not be.
                    if errors[0].startswith("-113") and header(message) not in NEEDED:
                        self._unknown[header(message)] = errors[0]
        return refused

    async def look_back(self) -> Aftermath:
        """Ask, with the output verified off, what happened while it was on; both questions clear what they tell.

        Raises ReplyTimeoutError, LinkLostError, or InstrumentError for a reply that is none.
        """
        line = await self.ask(commands.EVENT_STATUS)
        try:
            register = int(leniency.number(line))
        except RemoteProtocolError as error:
            raise InstrumentError(f"{self.name}: the reply to *ESR? is {error}") from error
        refused = await self._errors()
        off = ErrorCode.NOT_PERMITTED_WITH_OUTPUT_OFF
        return Aftermath(
            was_reset=bool(register & POWER_ON),
            was_off=any(leniency.error_code(entry.encode()) == off for entry in refused),
            refused=tuple(refused),
        )

    async def _errors(self) -> list[str]:
        """Empty the error queue; return what it held of refusals. A unit without one is only waited for."""
        if self._error_queue is False:
            await self._wait()
            return []
        refusals: list[str] = []
        for _ in range(_MAX_ERRORS + 1):
            line = await self._error_line()
            if line is None:
                return []
            try:
                code = leniency.error_code(line)
            except RemoteProtocolError as error:
                raise InstrumentError(f"{self.name}: the reply to :SYST:ERR? is {error}") from error
            if code == 0:
                break
            # Positive codes up to 199 report events, not refusals.
            if not 0 < code < 200:
                refusals.append(line.strip().decode("ascii", "replace")[:60])
        return refusals

    async def _error_line(self) -> bytes | None:
        for _ in range(2):
            try:
                line = await self.ask(commands.ERROR_QUERY)
            except ReplyTimeoutError:
                if self._error_queue:
                    raise
                await self.resync()
            else:
                self._error_queue = True
                return line
        # Twice unanswered by a unit that answers something else: it has none.
        await self._wait()
        self._error_queue = False
        return None

    async def _wait(self) -> None:
        if not await self.in_step():
            raise InstrumentError(
                f"{self.name}: a question got another one's answer; nothing was energised. Try again; if it stays, "
                "the replies come too late for this controller"
            )

    # -- read-backs

    async def read_back(self, query: bytes, *, needed: bool) -> bytes | None:
        """Return the unit's answer to a query; None if it does not know it.

        Unknown is what it refuses with a command error, or leaves unanswered twice while it answers others. Raises
        ReplyTimeoutError where the answer is ``needed``. A number in another form than the 2400's is asked for twice
        and must be the same: in ``0.001`` a doubled zero is a tenth of the number.
        """
        if query in self.unanswered:
            return None
        asked = query.rstrip().decode("ascii")
        for attempt in range(2):
            try:
                line = await self._measured(query, REPLY_TIMEOUT_S if needed else self._timeout_s())
            except ReplyTimeoutError as error:
                await self.resync()
                refused = await self._errors()
                if needed and attempt and not refused:
                    raise ReplyTimeoutError(
                        f"{error} Without {asked} the set-up cannot be read back; nothing was energised"
                    ) from error
                continue
            if not leniency.is_ambiguous(line) or await self.ask(query) == line:
                return line
            raise LimitReadbackError(
                f"{self.name}: {asked} was answered twice, and differently; nothing was energised. Try again"
            )
        if needed:
            raise LimitReadbackError(
                f"{self.name}: the instrument does not know {asked}, so what a run depends on cannot be read back; "
                "nothing was energised. This unit cannot be used with a tip"
            )
        await self._wait()
        self.unanswered.add(query)
        return None

    def _timeout_s(self) -> float:
        slowest = max(self._took_s, default=REPLY_TIMEOUT_S)
        return min(REPLY_TIMEOUT_S, max(LEAST_TIMEOUT_S, TIMEOUT_OF_SLOWEST * slowest))


def _is_identity(line: bytes) -> bool:
    try:
        replies.parse_identity(line)
    except RemoteProtocolError:
        return False
    return True


def header(message: bytes) -> bytes:
    """Return a command's header, by which refusals are remembered."""
    return message.split(b" ", 1)[0].rstrip()
