"""A controller as its command map describes it: its questions asked, its answers in SI.

A sibling of :mod:`edge.instruments.gcs_controller`; what that one asks its controller for, this one has from the map.
"""

from __future__ import annotations

import functools
from typing import Final

from edge.errors import InstrumentError, WrongInstrumentError
from edge.instruments.map_link import MapLink
from edge.instruments.stage import StageAxis, StageIdentity
from firmware_proto.stage_map import Condition, MapAxis, Template, ValueQuery

MAX_ERRORS: Final = 32
"""Errors taken out of a queue at once; one that goes on is an error of its own."""
_WAKE_ATTEMPTS: Final = 3


class MapController:
    """One controller on a link. Every method that asks wants ``link.lock`` held by its caller."""

    def __init__(self, link: MapLink) -> None:
        """Bind to a link; sends nothing."""
        self.link = link
        self.rules = link.rules
        self.axes: dict[str, StageAxis] = {}
        """As the map and the controller have it; empty before ``discover``."""
        self._error_words: dict[int, str] = {}

    @property
    def name(self) -> str:
        """Label of the port, for messages."""
        return self.link.transport.name

    # Who is there

    async def discover(self) -> StageIdentity:
        """Learn identity, travel and velocity; moves nothing. Raises InstrumentError."""
        identity = await self._identify()
        rules = self.rules
        low = {} if rules.low is None else await self.values(rules.low)
        high = {} if rules.high is None else await self.values(rules.high)
        speed = {} if rules.velocity is None else await self.values(rules.velocity)
        self.axes = {
            name: self._learn(axis, low.get(name), high.get(name), speed.get(name)) for name, axis in rules.axes.items()
        }
        return identity

    async def _identify(self) -> StageIdentity:
        rule = self.rules.identify
        for attempt in range(_WAKE_ATTEMPTS):
            try:
                found = await self.link.ask(rule.query, rule.parse)
                break
            except InstrumentError:
                # The beginning of a line that an earlier client left may swallow the first question, or bring an error
                # of its own. It must never get an end of line of ours, which would execute it.
                if attempt == _WAKE_ATTEMPTS - 1:
                    raise
        if rule.expect_model is not None and found["model"] != rule.expect_model:
            raise WrongInstrumentError(
                f"{self.name}: model {found['model']!r} answers, the command map is for {rule.expect_model!r}"
            )
        return StageIdentity(found["model"], found["serial"], found["firmware"])

    def _learn(self, axis: MapAxis, low: float | None, high: float | None, speed: float | None) -> StageAxis:
        """Put together what map and controller say: the map may narrow travel and velocity, never widen them."""
        lows, highs = [axis.low_m], [axis.high_m]
        if low is not None and high is not None:
            # Which end is which depends on the sign.
            ends = sorted((axis.metres(low), axis.metres(high)))
            lows.append(ends[0])
            highs.append(ends[1])
        speeds = [axis.velocity_m_s, None if speed is None else abs(axis.metres(speed))]
        low_m = max(bound for bound in lows if bound is not None)
        high_m = min(bound for bound in highs if bound is not None)
        velocity_m_s = min(one for one in speeds if one is not None)
        if not low_m < high_m or not velocity_m_s > 0:
            raise InstrumentError(
                f"{self.name}: axis {axis.name}: travel {low_m * 1e6:g} to {high_m * 1e6:g} um, velocity "
                f"{velocity_m_s:g} m/s; nothing can be moved by that"
            )
        return StageAxis(axis.name, low_m, high_m, velocity_m_s)

    # Numbers

    async def values(self, query: ValueQuery, names: list[str] | None = None) -> dict[str, float]:
        """Ask for a number of axes as on the wire: of ``names``, of all by default, or where all come at once."""
        rules = self.rules
        wires = rules.wires if names is None or not query.per_axis else rules.wires_of(names)
        found: dict[str, float] = {}
        for text, asked in query.messages(wires):

            def parse(line: bytes, asked: tuple[str, ...] = asked) -> dict[str, float]:
                return query.parse(line, asked, rules.wires, rules.forms)

            found |= await self.link.ask(text, parse)
        return found

    async def metres(self, query: ValueQuery) -> dict[str, float]:
        """Ask for a length of every axis, in m."""
        numbers = await self.values(query)
        return {name: axis.metres(numbers[name]) for name, axis in self.rules.axes.items()}

    async def positions_m(self) -> dict[str, float]:
        """Ask where the axes are, in m."""
        return await self.metres(self.rules.position)

    # States

    def wires_for(self, template: Template) -> list[str]:
        """Return for which axes a message is sent: each, or once for all."""
        return list(self.rules.wires.values()) if "axis" in template.fields else [""]

    async def words(self) -> list[int]:
        """Ask for the status words; none where the map has none."""
        status = self.rules.status
        if status is None:
            return []
        return [
            await self.link.ask(status.query.render({"axis": wire}), functools.partial(status.parse, wire=wire))
            for wire in self.wires_for(status.query)
        ]

    async def states(self, condition: Condition, words: list[int] | None = None) -> list[bool]:
        """Ask for a condition of every axis, or once where the map asks once; ``words``: a status asked just now."""
        query = condition.query
        if query is None:
            return [condition.of_word(word) for word in words or await self.words()]
        return [
            await self.link.ask(query.render({"axis": wire}), functools.partial(condition.parse, wire=wire))
            for wire in self.wires_for(query)
        ]

    async def closed(self, words: list[int] | None = None) -> bool:
        """Ask whether all loops are closed; where that cannot be asked they are taken as closed."""
        state = self.rules.servo.state
        return True if state is None else all(await self.states(state, words))

    # Errors

    async def errors(self) -> list[int]:
        """Ask for errors, and clear them where asking does not; empty for none."""
        rule = self.rules.error
        found: list[int] = []
        if rule.mask:
            found = [code for word in await self.words() if (code := word & rule.mask)]
        elif rule.query is not None:
            for _ in range(MAX_ERRORS if rule.queue else 1):
                code, words = await self.link.ask(rule.query.text, rule.parse)
                if code == 0:
                    break
                found.append(code)
                if len(self._error_words) >= MAX_ERRORS:
                    self._error_words.clear()
                self._error_words[code] = words
            else:
                if rule.queue:
                    raise InstrumentError(
                        f"{self.name}: the queue of {rule.query.text!r} does not end; is error.none right?"
                    )
        if found and rule.clear:
            await self.link.tell(rule.clear)
        return found

    def error_text(self, code: int) -> str:
        """Return an error number with the words that the controller last had for it."""
        if self.rules.error.mask and code & self.rules.error.mask == code:
            return f"{code} (bits {code:#x} of its status word)"
        words = self._error_words.get(code, "")
        return f"{code} ({words})" if words else str(code)
