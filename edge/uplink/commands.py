"""Commands from the broker, carried to the worker and its answer back. Nothing is decided here but what is no command.

Topic ``tipguard/<rig>/cmd/<user>``: the broker's access list ties the last level to who is connected, and that level
is the user whom the worker judges. What cannot be read, is too long, was kept by the broker, or comes too fast, is
refused here, and the worker is told, for its record. A ``stop`` goes a way of its own: no queue of other commands, no
limit, no form that it must have.
"""

from __future__ import annotations

import asyncio
import collections
import socket
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NoReturn

import msgpack

from edge.broker_link import FAILURE
from edge.clock import Clock
from edge.control_client import MAX_MESSAGE, VERSION
from edge.rundir import CONTROL_SOCKET
from edge.uplink.command_form import MAX_CORRELATION, REASONS, MalformedError, is_reply_topic, plan_only, read, to_json
from edge.uplink.mqtt import BrokerLostError, Incoming, Publication, reason_text
from edge.uplink.settings import UplinkSettings

ANSWER_S: Final = 2.0
STOP_ANSWER_S: Final = 0.5
"""A worker that lives answers in milliseconds; one that hangs has a successor by then."""
STOP_FOR_NS: Final = 4_000_000_000
"""So long a stop is tried again; the client waits longer."""
STOP_PAUSE_NS: Final = 100_000_000
MOST_WAITING: Final = 32
MOST_STOPS: Final = 64
STRANGERS: Final = "(strangers)"
BURST: Final = 20
"""Commands of one user that may come at once; then one in EVERY_NS. No stop counts."""
EVERY_NS: Final = 200_000_000

Ask = Callable[[Mapping[str, Any]], Awaitable[dict[str, Any]]]
"""Ask the worker; raises OSError (TimeoutError is one) when it does not answer."""


@dataclass(slots=True)
class _Command:
    user: str
    message: dict[str, Any]
    to: list[Incoming] = field(default_factory=list)


class CommandRelay:
    """One rig's commands. :meth:`take` what comes, while :meth:`run` runs."""

    def __init__(
        self,
        settings: UplinkSettings,
        *,
        clock: Clock,
        publish: Callable[[Publication], asyncio.Future[int]],
        log: Any,  # noqa: ANN401 - structlog's loggers share no type
        ask: Ask | None = None,
    ) -> None:
        """``publish``: raises BrokerLostError without a connection. ``ask``: default over the control socket."""
        self._settings = settings
        self._clock = clock
        self._publish = publish
        self._log = log
        self._ask = ask or over_socket(settings.ring_path.with_name(CONTROL_SOCKET))
        self._prefix = settings.topic("cmd/")
        self._stops: collections.deque[_Command] = collections.deque()
        self._others: collections.deque[_Command] = collections.deque()
        self._stop_came = asyncio.Event()
        self._other_came = asyncio.Event()
        self._paid: dict[str, int] = {}
        self._told: dict[str, int] = {}
        self._unheard: dict[str, int] = {}
        self.relayed = 0
        """Commands that the worker answered, whatever it said."""
        self.unanswered = 0
        """Commands that nobody answered."""
        self.refused = dict.fromkeys(REASONS, 0)
        """Here, not by the worker; by reason."""

    @property
    def topic_filter(self) -> str | None:
        """What to subscribe to, without what the broker kept; None where nobody may ask for anything."""
        return f"{self._prefix}+" if self._settings.remote_users else None

    def document(self) -> dict[str, Any]:
        """Return the counts since the start, for the status document."""
        return {"relayed": self.relayed, "unanswered": self.unanswered, "refused": dict(self.refused)}

    def take(self, incoming: Incoming) -> None:
        """Put one message on its way; never waits, and raises nothing whatever it holds."""
        if not incoming.topic.startswith(self._prefix):
            return
        user = incoming.topic.removeprefix(self._prefix)
        known = user in self._settings.remote_users
        try:
            message = read(incoming, user, self._settings.rig)
        except MalformedError as error:
            message = {"verb": None, "refused": [error.reason, str(error)]}
        if not (known and message["verb"] == "run"):
            # The worker may have a tip under bias: it is not given what it has no use for.
            message = {**message, "args": plan_only(message.get("args"))} if "args" in message else message
        if known and message["verb"] == "stop":
            self._take_stop(_Command(user, message, [incoming]))
        elif len(self._others) < MOST_WAITING and _may(self._paid, user if known else "", self._clock.now_ns()):
            if "refused" in message:
                self.refused[message["refused"][0]] += 1
            self._others.append(_Command(user, message, [incoming]))
            self._other_came.set()
        else:
            self._turn_away(user if known else "", incoming)

    def _take_stop(self, command: _Command) -> None:
        if len(self._stops) >= MOST_STOPS:
            # As many are on their way already: this one gets the answer of the last.
            self._stops[-1].to.extend(command.to)
        else:
            self._stops.append(command)
        self._stop_came.set()

    def _turn_away(self, who: str, incoming: Incoming) -> None:
        self.refused["too_many"] += 1
        self._unheard[who] = self._unheard.get(who, 0) + 1
        # A flood's answers must not be one.
        if _may(self._told, who, self._clock.now_ns()):
            said = f"more than {BURST} commands at once, or than {1e9 / EVERY_NS:.0f} a second; try again in a moment"
            self._answer(incoming, _no("too_many", said))
        self._other_came.set()

    # -- to the worker

    async def run(self) -> NoReturn:
        """Carry commands until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._carry_stops(), name="stops")
            group.create_task(self._carry_others(), name="commands")
        raise AssertionError("neither ever returns")

    async def _carry_stops(self) -> NoReturn:
        while True:
            await self._stop_came.wait()
            self._stop_came.clear()
            while self._stops:
                await self._carry(self._stops.popleft(), again_ns=STOP_FOR_NS)

    async def _carry_others(self) -> NoReturn:
        while True:
            await self._other_came.wait()
            self._other_came.clear()
            while self._others:
                await self._carry(self._others.popleft())
            await self._own_up()

    async def _own_up(self) -> None:
        """Let the worker record how many were turned away; at most once in EVERY_NS, whoever sends how fast."""
        unheard, self._unheard = self._unheard, {}
        for who, count in unheard.items():
            said = f"came too fast and were refused unread: {count}"
            await self._carry(_Command(who or STRANGERS, {"verb": None, "refused": ["too_many", said]}))
        if unheard:
            await self._clock.sleep_until(self._clock.now_ns() + EVERY_NS)

    async def _carry(self, command: _Command, *, again_ns: int = 0) -> None:
        """Ask the worker, and answer. ``again_ns``: for how long it is tried again where nobody answers."""
        reply: dict[str, Any] | None = None
        why = ""
        until_ns = self._clock.now_ns() + again_ns
        while reply is None:
            try:
                async with asyncio.timeout(STOP_ANSWER_S if again_ns else ANSWER_S):
                    reply = await self._ask({**command.message, "v": VERSION, "user": command.user})
            except OSError as error:
                why = str(error) or "no answer in time"
                if self._clock.now_ns() >= until_ns:
                    break
                await self._clock.sleep_until(self._clock.now_ns() + STOP_PAUSE_NS)
        # What was refused here is only reported to the worker; of stops several may share an answer.
        count = 0 if "refused" in command.message else len(command.to)
        if reply is None:
            self.unanswered += count
            self._log.warning("command not answered by the controller", user=command.user, why=why)
            done = "; whether it was done the rig's status tells" if command.message["verb"] == "run" else ""
            reply = _no("no_controller", f"the controller does not answer ({why}){done}")
        else:
            self.relayed += count
        for incoming in command.to:
            self._answer(incoming, reply)

    # -- back to who asked

    def _answer(self, incoming: Incoming, reply: Mapping[str, Any]) -> None:
        topic = incoming.response_topic
        user = incoming.topic.removeprefix(self._prefix)
        if topic is None or not is_reply_topic(topic, user, self._settings.rig):
            return
        payload = to_json(reply)
        # One that is far too long would not be sent; for a stop it is left out.
        correlation = incoming.correlation if len(incoming.correlation or b"") <= MAX_CORRELATION else None
        try:
            sent = self._publish(Publication(topic, payload, correlation=correlation))
        except BrokerLostError:
            return
        sent.add_done_callback(self._look_at)

    def _look_at(self, sent: asyncio.Future[int]) -> None:
        if not sent.cancelled() and (code := sent.result()) >= FAILURE:
            self._log.warning("broker refuses an answer to a command", why=reason_text(code))


def _may(paid: dict[str, int], who: str, now_ns: int) -> bool:
    """Pay for a command; False if this user's last ones were too many. All strangers are one."""
    paid_ns = max(paid.get(who, 0), now_ns - BURST * EVERY_NS)
    if paid_ns + EVERY_NS > now_ns:
        return False
    paid[who] = paid_ns + EVERY_NS
    return True


def _no(reason: str, message: str) -> dict[str, Any]:
    return {"v": VERSION, "ok": False, "error": {"reason": reason, "message": message}, "data": None}


def over_socket(path: Path) -> Ask:
    """Return what asks the worker at its control socket, each time in a conversation of its own."""

    async def ask(message: Mapping[str, Any]) -> dict[str, Any]:
        loop = asyncio.get_running_loop()
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK) as conversation:
            await loop.sock_connect(conversation, str(path))
            await loop.sock_sendall(conversation, msgpack.packb(message))
            raw = await loop.sock_recv(conversation, MAX_MESSAGE)
        try:
            reply = msgpack.unpackb(raw, strict_map_key=False)
        except (ValueError, msgpack.UnpackException) as error:
            raise OSError("its answer cannot be read") from error
        if not isinstance(reply, dict):
            raise OSError("its answer is none")
        return reply

    return ask
