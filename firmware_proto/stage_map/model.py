"""A command map as read: what :mod:`firmware_proto.stage_map.reading` makes of a TOML table. Lengths in m, times in s.

Axis names are those of the map, which the rig's file uses; ``wire`` is what the controller calls them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from firmware_proto.gcs2.commands import fixed
from firmware_proto.stage_map.lines import ENDS
from firmware_proto.stage_map.queries import NumberForm, ValueQuery, bad, text_of
from firmware_proto.stage_map.templates import WORD, Template

CODE: Final = r"[+-]?[0-9]{1,6}"
HEX: Final = r"[0-9A-Fa-f]{1,8}"
DEC: Final = r"[0-9]{1,10}"


@dataclass(frozen=True, slots=True)
class LineRules:
    """How messages and replies end, and how long to wait for one.

    ``send_end``: LF, CR or CRLF; ``reply_end``: one of these, or ANY. ``echo``: every message comes back first.
    ``max_reply``: bytes of a reply line. ``exponent``: numbers in replies are written so.
    """

    send_end: str
    reply_end: str
    echo: bool
    reply_timeout_s: float
    max_reply: int
    exponent: bool

    def encode(self, text: str) -> bytes:
        """Return a message ready for the wire."""
        return text.encode("ascii") + ENDS[self.send_end]


@dataclass(frozen=True, slots=True)
class Acknowledgement:
    """What answers a set command: ``ok`` as it stands, or ``error``, which carries a {code}."""

    ok: str
    error: Template | None

    def code(self, line: bytes) -> int:
        """Return 0 for the acknowledgement, else the code; raises RemoteProtocolError for any other line."""
        text = text_of(line)
        if text == self.ok:
            return 0
        found = None if self.error is None else self.error.match(text, {"code": CODE})
        # A refusal has a number: one that says 0 in the form of an error is no acknowledgement.
        if found is None or int(found["code"]) == 0:
            raise bad(f"the acknowledgement {self.ok!r}", text)
        return int(found["code"])


@dataclass(frozen=True, slots=True)
class Identify:
    """Who is there. ``expect_model``: another model is refused; None: any."""

    query: str
    reply: Template
    expect_model: str | None

    def parse(self, line: bytes) -> dict[str, str]:
        """Return ``model``, ``serial``, ``firmware``, empty where the reply has none; RemoteProtocolError otherwise."""
        text = text_of(line)
        found = self.reply.match(text, {})
        if found is None or not found.get("model", "").strip():
            raise bad(f"an identity as {self.reply.text!r}", text)
        return {name: found.get(name, "").strip() for name in ("model", "serial", "firmware")}


@dataclass(frozen=True, slots=True)
class MapAxis:
    """One axis. Position in m = ``sign`` x ``unit_m`` x the number on the wire; targets have up to ``decimals``.

    ``trailing_zeros``: targets are written with all of their decimals. ``form``: of numbers in replies. ``low_m``,
    ``high_m``, ``velocity_m_s``: None where the controller is asked.
    """

    name: str
    wire: str
    unit_m: float
    sign: int
    decimals: int
    trailing_zeros: bool
    form: NumberForm
    low_m: float | None
    high_m: float | None
    velocity_m_s: float | None

    @property
    def step_m(self) -> float:
        """Step of targets, in m."""
        return self.unit_m * 10.0**-self.decimals

    def target(self, target_m: float) -> str:
        """Write a target in m as the wire wants it: fixed point, no exponent, rounded towards zero.

        Raises LocalProtocolError for what is no number, or has more than nine digits before the point.
        """
        # Rounded to well below a step first: 100e-6 / 1e-6 is 99.99999999999999, which would lose a step.
        text = fixed(round(self.sign * target_m / self.unit_m, self.decimals + 3), self.decimals)
        if not self.trailing_zeros or self.decimals == 0:
            return text
        whole, _, places = text.partition(".")
        return f"{whole}.{places:0<{self.decimals}}"

    def metres(self, number: float) -> float:
        """Return a number of the wire in m."""
        return self.sign * number * self.unit_m


@dataclass(frozen=True, slots=True)
class MoveRule:
    """How a move is told. ``item`` None: one message for each axis; else ``command`` has a {list} of items.

    ``settle_s``: allowance for settling. ``window_m``: how far from its target an axis may be when it has arrived.
    """

    command: Template
    item: Template | None
    separator: str
    settle_s: float
    window_m: float

    def messages(self, targets: Mapping[str, str], wires: Mapping[str, str]) -> list[tuple[str, tuple[str, ...]]]:
        """Return the messages of a move to these targets as text, each with the axes it moves."""
        if self.item is None:
            return [
                (self.command.render({"axis": wires[name], "value": value}), (name,)) for name, value in targets.items()
            ]
        items = [self.item.render({"axis": wires[name], "value": value}) for name, value in targets.items()]
        return [(self.command.render({"list": self.separator.join(items)}), tuple(targets))]


@dataclass(frozen=True, slots=True)
class TargetRule:
    """How a target is verified: read back with ``query``, or, where that is None, by watching the position only.

    ``tolerance_m``: what a controller may make of a target; None: half a step.
    """

    query: ValueQuery | None
    tolerance_m: float | None


@dataclass(frozen=True, slots=True)
class StatusWord:
    """A question for a word of bits, hexadecimal ({hex}) or decimal ({dec}); for each axis, or once for all."""

    query: Template
    reply: Template

    def parse(self, line: bytes, wire: str) -> int:
        """Return the bits; raises RemoteProtocolError for anything else."""
        text = text_of(line)
        found = self.reply.match(text, {"axis": re.escape(wire), "hex": HEX, "dec": DEC})
        if found is None:
            raise bad(f"a status word as {self.reply.text!r}", text)
        return int(found["hex"], 16) if "hex" in found else int(found["dec"])


@dataclass(frozen=True, slots=True)
class Condition:
    """Something that is so or is not: by a question of its own, or by bits of the status word.

    ``true``, ``false``: the words of the reply's {state}; any other is no answer. ``mask``: bits of the status word;
    ``value`` None: any of them set; else they have to be exactly this.
    """

    query: Template | None = None
    reply: Template | None = None
    true: frozenset[str] = frozenset()
    false: frozenset[str] = frozenset()
    mask: int = 0
    value: int | None = None

    def of_word(self, word: int) -> bool:
        """Judge a status word."""
        return bool(word & self.mask) if self.value is None else word & self.mask == self.value

    def parse(self, line: bytes, wire: str) -> bool:
        """Judge a reply; raises RemoteProtocolError for one that is neither."""
        text = text_of(line)
        found = None if self.reply is None else self.reply.match(text, {"axis": re.escape(wire), "state": WORD})
        if found is None or found["state"] not in self.true | self.false:
            raise bad(f"one of {', '.join(sorted(self.true | self.false))}", text)
        return found["state"] in self.true


@dataclass(frozen=True, slots=True)
class StopRule:
    """The message that stops all axes; ``acknowledged``: it gets the acknowledgement, when nobody waits for one."""

    message: bytes
    text: str
    acknowledged: bool


@dataclass(frozen=True, slots=True)
class ErrorRule:
    """How errors are asked for: with {code}, or as bits of the status word (``mask``; then the code is those bits).

    ``none``: codes that say that there is no error. ``stopped``: codes that a stop leaves behind. ``queue``: asked
    until there is none. ``clear``: a command that has to clear an error; empty where asking does.
    """

    query: Template | None
    reply: Template | None
    none: frozenset[int]
    stopped: frozenset[int]
    queue: bool
    clear: str
    mask: int = 0

    def parse(self, line: bytes) -> tuple[int, str]:
        """Return code and text, 0 for no error; raises RemoteProtocolError for anything else."""
        text = text_of(line)
        found = None if self.reply is None else self.reply.match(text, {"code": CODE})
        if found is None:
            raise bad("an error code" if self.reply is None else f"an error as {self.reply.text!r}", text)
        code = int(found["code"])
        # 0 is what "no error" is for everybody here: where 0 is an error of the controller's, it needs a number.
        return (0, "") if code in self.none else (code or -1, found.get("text", "").strip())


@dataclass(frozen=True, slots=True)
class Servo:
    """Loops: how they are closed and opened, and how that is read. Each part may be missing."""

    command: Template | None
    on: str
    off: str
    state: Condition | None


@dataclass(frozen=True, slots=True)
class Reference:
    """A reference move for each axis, and how to tell that it is done."""

    command: Template
    state: Condition


@dataclass(frozen=True, slots=True)
class ContactRule:
    """The deflection signal: a question that may have a {channel}; V = ``volt_per_unit`` x the number."""

    query: Template
    reply: Template
    volt_per_unit: float
    form: NumberForm

    def parse(self, line: bytes, channel: str) -> float:
        """Return the signal in V; raises RemoteProtocolError for anything else."""
        text = text_of(line)
        found = self.reply.match(text, {"channel": re.escape(channel), "value": self.form.kind})
        if found is None:
            raise bad(f"a signal as {self.reply.text!r}", text)
        return self.form.read(found["value"]) * self.volt_per_unit


@dataclass(frozen=True, slots=True)
class Emulated:
    """How an emulated controller behaves that speaks this map; the driver never reads it.

    ``any_case``, ``any_spaces``: what it tolerates in messages. ``chain``: separates commands on one line; ``prefix``:
    may stand before each. ``processing_s``: for each command. ``unknown``, ``parameter``, ``range``, ``state``,
    ``too_long``: its error codes; ``queue``: how many errors it keeps.
    """

    maker: str = "EMULATED"
    model: str = "STAGE"
    serial: str = "0001"
    firmware: str = "1.0"
    any_case: bool = True
    any_spaces: bool = True
    chain: str = ""
    prefix: str = ""
    processing_s: float = 0.002
    unknown: int = -113
    parameter: int = -104
    range: int = -222
    state: int = -221
    too_long: int = -223
    queue: int = 10


@dataclass(frozen=True, slots=True)
class StageMap:
    """A whole vocabulary. Only :func:`firmware_proto.stage_map.read_map` makes one, which checks it."""

    line: LineRules
    acknowledge: Acknowledgement | None
    identify: Identify
    axes: Mapping[str, MapAxis]
    low: ValueQuery | None
    high: ValueQuery | None
    velocity: ValueQuery | None
    move: MoveRule
    target: TargetRule
    position: ValueQuery
    status: StatusWord | None
    moving: Condition | None
    on_target: Condition | None
    stop: StopRule
    error: ErrorRule
    servo: Servo
    reference: Reference | None
    contact: ContactRule
    emulated: Emulated
    wires: Mapping[str, str] = field(default_factory=dict)
    """Name to name on the wire, in the map's order."""

    def wires_of(self, names: Iterable[str]) -> dict[str, str]:
        """Return these axes' names on the wire."""
        return {name: self.wires[name] for name in names}

    @property
    def forms(self) -> dict[str, NumberForm]:
        """How each axis' numbers are written in replies."""
        return {name: axis.form for name, axis in self.axes.items()}
