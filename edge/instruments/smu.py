"""What the controller needs of any source-measure unit: bytes to send, replies to judge, and a set-up it can prove.

A driver does no waiting while energised: it says which bytes ask for a reading and what a reply line means, and the
engine sends and times them. Third parties add a driver by the entry point ``tipguard.smu``.
"""

from __future__ import annotations

import dataclasses
import enum
from typing import Any, Protocol, runtime_checkable

from edge.instruments.aftermath import Aftermath
from edge.instruments.link import Link
from edge.samples import Sample


@dataclasses.dataclass(frozen=True, slots=True)
class Setup:
    """How a phase measures. SI units; ``source_range_v`` and ``range_a`` are nominal, fixed ranges."""

    source_range_v: float
    range_a: float
    protection_a: float
    nplc: float
    autozero: bool


@dataclasses.dataclass(frozen=True, slots=True)
class SmuIdentity:
    """Who is behind the port."""

    model: str
    serial_number: str
    firmware: str


class CheckResult(enum.Enum):
    """What the periodic check of a set-up found."""

    UNCHANGED = "unchanged"
    LIMIT_CHANGED = "limit, range or output-off state changed"
    UNPARSABLE = "unparsable"


class Learning(enum.Enum):
    """What a reading in an unknown form has taught the driver."""

    NO = "this reading cannot be believed in any form"
    MORE = "another one is needed"
    KNOWN = "the form is known from now on"


@runtime_checkable
class EnabledByLine(Protocol):
    """A unit with a line at its rear that has to be closed for its output to be on; what a driver may know beside."""

    async def enable_by_line(self) -> None:
        """Let the line act from now on, until the next ``configure``, and read that back; the output is off.

        Raises LimitReadbackError where it does not take it, InstrumentError where it knows no such line.
        """

    async def line_closed(self) -> bool:
        """Ask whether the line is closed; changes nothing. Output off. Raises ReplyTimeoutError or InstrumentError."""


class Smu(Protocol):
    """One source-measure unit on a :class:`Link`."""

    link: Link

    async def identify(self) -> SmuIdentity:
        """Ask who is there; changes nothing. Raises ReplyTimeoutError or InstrumentError."""

    async def output_on(self) -> bool:
        """Ask whether the output is on; changes nothing."""

    async def configure(self, setup: Setup) -> None:
        """Set up with the output off, then read back everything a run depends on.

        Raises LimitReadbackError where a value read back differs, InstrumentError where a command was refused.
        """

    def level_message(self, bias_v: float) -> bytes:
        """Return the bytes, for one write, that set ``bias_v`` (tip against Li/Li+) and ask for one reading."""

    def programmed_v(self, bias_v: float) -> float:
        """Return the bias that :meth:`level_message` really sets: ``bias_v`` as far as the message can say it."""

    read_message: bytes
    output_on_message: bytes
    check_messages: tuple[bytes, ...]
    """Short questions about what only a hand at the panel changes, asked in turn while energised; known after
    ``configure``. Each must come round within CHECK_WITHIN samples."""
    release_message: bytes
    """Gives the panel back when the controller ends; changes no output."""

    def sample(self, line: bytes, t_rx_ns: int, bias_v: float, phase: int) -> Sample:
        """Turn a reply line into a sample; never raises: what cannot be trusted is a flag."""

    def judge_check(self, line: bytes, asked: bytes) -> CheckResult:
        """Judge the reply to ``asked``, one of ``check_messages``, against the set-up in force."""

    async def aftermath(self) -> Aftermath:
        """Ask, with the output verified off, what happened while it was on; see :mod:`edge.instruments.aftermath`.

        Raises ReplyTimeoutError, LinkLostError or InstrumentError.
        """

    def learn(self, line: bytes) -> Learning:
        """Look at one of the first readings, which :meth:`sample` found unparsable; its number counts for nothing.

        A driver that knows one form only returns ``NO``, with ``why_not`` in words.
        """

    def memory(self) -> dict[str, Any]:
        """Return in plain values what the driver found out about this unit and keeps from run to run."""

    def remember(self, memory: dict[str, Any]) -> None:
        """Take over what :meth:`memory` gave, instead of finding it out again."""

    why_not: str
    notes: tuple[str, ...]
    """What this unit does not know or does otherwise, each with what that means; known after ``configure``."""
    reply_extra_s: float
    """By how much replies are slower than a unit of this kind takes, in s; measured by ``configure``."""

    def exchange_s(self, message: bytes) -> float:
        """Return the p99 time from a message's first byte to its reply's last, with the set-up in force."""
