"""A GCS 2.0 controller as it describes itself: what it can do, its axes and units, and its answers in SI.

What a controller can do is asked for with ``HLP?`` and never guessed from its model (PIPython#9).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeVar

from edge.errors import InstrumentError, ReplyTimeoutError
from edge.instruments.gcs_link import GcsLink
from edge.instruments.stage import StageAxis, StageIdentity
from firmware_proto.errors import RemoteProtocolError
from firmware_proto.gcs2 import commands, replies

T = TypeVar("T")

NEEDED: Final = frozenset({"ERR?", "MOV", "MOV?", "ONT?", "POS?", "SAI?", "SVO", "SVO?", "TMN?", "TMX?"})
_UNITS_M: Final = {"NM": 1e-9, "UM": 1e-6, "MM": 1e-3, "M": 1.0}
_WAKE_ATTEMPTS: Final = 3


@dataclass(frozen=True, slots=True)
class GcsOptions:
    """What a controller cannot tell.

    ``unit_m``: its unit of length in m; None: what ``PUN?`` says, or micrometres where there is none. ``velocity_m_s``:
    for deadlines, where there is no ``VEL?``. ``settle_s``: allowance of a move for settling. ``reply_timeout_s``:
    for any question. ``resolution_m``: targets are sent in such steps, a power of ten; raise it for a controller that
    reads targets back with fewer digits.
    """

    unit_m: float | None = None
    velocity_m_s: float = 10e-6
    settle_s: float = 1.0
    reply_timeout_s: float = 0.5
    resolution_m: float = 1e-10


class GcsController:
    """One controller on a link. Every method that asks wants ``link.lock`` held by its caller."""

    def __init__(self, link: GcsLink, options: GcsOptions | None = None) -> None:
        """Bind to a link; sends nothing."""
        self.link = link
        self.options = options or GcsOptions()
        self.functions: frozenset[str] = frozenset()
        """Commands as ``HLP?`` lists them; empty before ``discover``."""
        self.axes: dict[str, StageAxis] = {}
        self.unit_m = self.options.unit_m or 1e-6
        self.decimals = commands.DECIMALS
        """Decimals of a target, so that its last one is the resolution."""

    @property
    def name(self) -> str:
        """Label of the port, for messages."""
        return self.link.transport.name

    async def ask(self, message: bytes, parse: Callable[[replies.Reply], T]) -> T:
        """Ask and parse; raises InstrumentError for a reply that is none, or what the link raises."""
        reply = await self.link.query(message, self.options.reply_timeout_s)
        try:
            return parse(reply)
        except RemoteProtocolError as error:
            self.link.doubt()
            asked = message.strip().decode("ascii", "backslashreplace")
            raise InstrumentError(f"{self.name}: the reply to {asked} is {error}") from error

    async def values(self, mnemonic: str) -> dict[str, float]:
        """Ask for a number of every axis, in the controller's unit."""
        names = list(self.axes)
        return await self.ask(commands.query(mnemonic, names), lambda reply: replies.parse_values(reply, names))

    async def flags(self, mnemonic: str) -> dict[str, bool]:
        """Ask for a flag of every axis."""
        names = list(self.axes)
        return await self.ask(commands.query(mnemonic, names), lambda reply: replies.parse_flags(reply, names))

    async def positions_m(self) -> dict[str, float]:
        """Ask where the axes are, in m."""
        return {name: value * self.unit_m for name, value in (await self.values("POS?")).items()}

    async def read_error(self) -> int:
        """Ask ``ERR?``, which clears it."""
        return await self.ask(commands.ERROR, replies.parse_error)

    async def moving(self) -> bool:
        """Ask whether any axis moves; where there is no #5, an axis that is not on target counts as moving."""
        if "#5" not in self.functions:
            return not all((await self.flags("ONT?")).values())
        names = tuple(self.axes)
        return bool(await self.ask(commands.MOTION, lambda reply: replies.parse_motion(reply, names)))

    def units(self, target_m: float) -> float:
        """Return a target in the controller's unit, exactly as a message will say it."""
        # Rounded to well below a step first: 100e-6 / 1e-6 is 99.99999999999999, which would lose a step.
        return float(commands.fixed(round(target_m / self.unit_m, self.decimals + 3), self.decimals))

    async def discover(self) -> StageIdentity:
        """Learn identity, commands, axes, unit, travel and velocity; moves nothing. Raises InstrumentError."""
        await self._wake()
        identity = await self.ask(commands.IDENTIFY, replies.parse_identity)
        self.functions = await self.ask(commands.HELP, replies.parse_help)
        missing = NEEDED - self.functions
        if missing:
            raise InstrumentError(
                f"{self.name}: {identity.model} does not list {', '.join(sorted(missing))} in HLP?; a stage needs them"
            )
        names = await self.ask(commands.AXES, replies.parse_axes)
        if len(names) > commands.MAX_ITEMS:
            raise InstrumentError(f"{self.name}: {len(names)} axes; {commands.MAX_ITEMS} can be served")
        self.axes = {name: StageAxis(name, 0.0, 0.0, math.nan) for name in names}
        await self._learn_unit(list(names))
        await self._learn_axes()
        return StageIdentity(identity.model, identity.serial_number, identity.firmware)

    async def _wake(self) -> None:
        """Get a first reply. The beginning of a line that an earlier client left may swallow the first question.

        That beginning must never get a bare line feed, which would execute it.
        """
        for attempt in range(_WAKE_ATTEMPTS):
            try:
                await self.read_error()
            except ReplyTimeoutError:
                if attempt == _WAKE_ATTEMPTS - 1:
                    raise
            else:
                return

    async def _learn_unit(self, names: list[str]) -> None:
        if self.options.unit_m is None and "PUN?" in self.functions:
            told = await self.ask(commands.query("PUN?", names), lambda reply: replies.parse_words(reply, names))
            units = sorted({unit.upper() for unit in told.values()})
            if len(units) != 1 or units[0] not in _UNITS_M:
                raise InstrumentError(f"{self.name}: units {', '.join(units)}; expected nm, um, mm or m for all axes")
            self.unit_m = _UNITS_M[units[0]]
        self.decimals = max(0, min(commands.MAX_DECIMALS, round(math.log10(self.unit_m / self.options.resolution_m))))

    async def _learn_axes(self) -> None:
        low, high = await self.values("TMN?"), await self.values("TMX?")
        told = await self.values("VEL?") if "VEL?" in self.functions else {}
        for name in self.axes:
            velocity_m_s = told[name] * self.unit_m if name in told else self.options.velocity_m_s
            if not low[name] < high[name] or not velocity_m_s > 0:
                raise InstrumentError(
                    f"{self.name}: axis {name} says travel {low[name]:g} to {high[name]:g}, velocity {velocity_m_s:g} "
                    "m/s; nothing can be moved by that"
                )
            self.axes[name] = StageAxis(name, low[name] * self.unit_m, high[name] * self.unit_m, velocity_m_s)
