"""Commands from afar, judged here and nowhere else: who may ask what, in which life of this worker, with which nonce.

The uplink hands over what came in, and is trusted with nothing: users, verbs and the switch for the output come from
the rig's own file. A refusal has a stable word for programs and a sentence for people; each command, refused or not,
is an event. ``stop`` from a user of the rig is never refused, whatever else the message says.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from edge.clock import Clock
from edge.config_network import RemoteConfig
from edge.control_client import VERSION
from edge.controller.commission import NAME as COMMISSION
from edge.controller.nonces import Nonces
from edge.controller.recorder import Recorder
from edge.errors import BusyError, PlanRefusedError, TipguardError

VERBS: Final = ("status", "stop", "run", "rearm")
MOST_DEPTH: Final = 8
"""Of maps and lists in what a command gives along; what goes onto the tape must be packed again."""
MOST_VALUES: Final = 10_000
SHOWN: Final = 80
MOST_WORDS: Final = 300
"""Characters of a refusal that an event keeps."""
FROM_AFAR: Final = "mqtt:"
"""Before the user's name in run documents and events; no user of this host has a colon in his."""

Handler = Callable[[dict[str, Any], str], dict[str, Any]]


class Remote:
    """The rig's side of commands over the network. All methods belong to the worker's loop; none of them waits."""

    def __init__(
        self,
        config: RemoteConfig,
        recorder: Recorder,
        clock: Clock,
        verbs: Mapping[str, Handler],
        busy: Callable[[], bool],
    ) -> None:
        """``verbs``: what carries a command out, as control.sock serves it. ``busy``: a run is under way."""
        self._busy = busy
        self._config = config
        self._recorder = recorder
        self._clock = clock
        self._handlers = verbs
        self.nonces = Nonces(recorder.outside)

    @property
    def listening(self) -> bool:
        """Whether anybody may ask for anything."""
        return bool(self._config.users)

    def tick(self, now_ns: int) -> None:
        """Keep a nonce ready that is good for long enough; called by the control task."""
        if self.listening:
            self.nonces.tick(now_ns)

    def status(self) -> dict[str, Any] | None:
        """Return what a client needs for its next command; None where nobody may."""
        if not self.listening:
            return None
        return {"nonce": self.nonces.unspent}

    def take(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Judge one command, carry it out or refuse it, leave an event; return the reply map.

        ``request``: ``user``, ``verb``, ``args``, ``epoch``, ``nonce`` as they came, each of any kind; ``refused`` is
        the reason and message with which the uplink has refused it already.
        """
        user, verb = _word(request.get("user", request.get("by"))), _word(request.get("verb"))
        args = request.get("args")
        plan = request.get("plan", args.get("plan") if isinstance(args, dict) else None)
        # To go through all of it takes milliseconds: not for a stranger, and not while there may be bias on the tip.
        if not self._may_run(user, verb):
            args = {}
        elif not (isinstance(args, dict) and _is_plain(args)):
            args = None
        asked: dict[str, Any] = {"by": user, "verb": verb, "plan": _word(plan), "args": args}
        asked |= {name: _word(request.get(name)) for name in ("epoch", "nonce")}
        refused = _refusal(request.get("refused"))
        if refused is not None:
            asked["refused"] = refused
        with self._recorder.asked("command", asked):
            try:
                if refused is not None:
                    raise PlanRefusedError(refused[1], reason=refused[0])
                data = self._carry_out(asked)
            except TipguardError as error:
                reason = getattr(error, "reason", type(error).__name__)
                self._leave_event(asked, reason, str(error))
                return {"v": VERSION, "ok": False, "error": {"reason": reason, "message": str(error)}, "data": None}
            self._leave_event(asked, None, None)
            return {"v": VERSION, "ok": True, "error": None, "data": data}

    def _carry_out(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        """Do it; raise PlanRefusedError, or what the verb raises."""
        user, verb = asked["by"], asked["verb"]
        verbs = self._config.users.get(user)
        if verbs is None:
            raise PlanRefusedError(
                f"user {user!r} is none of this rig's; [remote] users in the rig's file names them",
                reason="unknown_user",
            )
        if verb == "stop":
            # Before anything else of the message is looked at. The time tells which status is of afterwards.
            return {**self._handlers["stop"]({}, FROM_AFAR + user), "t_ns": self._clock.now_ns()}
        if verb not in VERBS:
            raise PlanRefusedError(f"unknown verb {verb!r}; one of: {', '.join(VERBS)}", reason="unknown_verb")
        if verb not in verbs:
            raise PlanRefusedError(
                f"user {user!r} may not {verb}; may: {', '.join(verbs) or 'nothing but stop'}",
                reason="verb_not_allowed",
            )
        self._check_fresh(asked["epoch"], asked["nonce"])
        if verb == "run":
            self._check_run(asked["args"])
        return self._handlers[verb](asked["args"], FROM_AFAR + user)

    def _may_run(self, user: str | None, verb: str | None) -> bool:
        """Whether a command can come as far as what it gives along."""
        return verb == "run" and "run" in self._config.users.get(user or "", ()) and not self._busy()

    def _check_fresh(self, epoch: str | None, nonce: str | None) -> None:
        """Raise PlanRefusedError for a command that was not made just now, for this life; else spend its nonce."""
        ours = f"{self._recorder.epoch:016x}"
        if epoch != ours:
            raise PlanRefusedError(
                f"epoch {epoch!r} is not this controller's ({ours}); read the rig's status again", reason="wrong_epoch"
            )
        if (why := self.nonces.spend(nonce, self._clock.now_ns())) is not None:
            raise PlanRefusedError(f"{why[1]}; read the rig's status again", reason=why[0])

    def _check_run(self, args: Mapping[str, Any] | None) -> None:
        if not self._config.allow_energise:
            raise PlanRefusedError(
                "this rig takes no run from afar: remote.allow_energise is false in its own file",
                reason="energise_not_allowed",
            )
        if self._busy():
            raise BusyError("a run is under way; wait for it, or stop it")
        if args is None:
            raise PlanRefusedError(
                f"args must be a map of names to plain values, at most {MOST_DEPTH} deep", reason="bad_args"
            )
        if args.get("plan") == COMMISSION:
            raise PlanRefusedError(
                f"{COMMISSION} wants resistors in place of the tip, and a person who puts them there",
                reason="needs_a_person",
            )

    def _leave_event(self, asked: Mapping[str, Any], reason: str | None, message: str | None) -> None:
        self._recorder.event(
            {
                "kind": "command",
                "via": "mqtt",
                "user": asked["by"],
                "verb": asked["verb"],
                "plan": asked["plan"],
                "ok": reason is None,
                "reason": reason,
                "message": None if message is None else message[:MOST_WORDS],
                "t_ns": self._clock.now_ns(),
            }
        )


def _word(value: object) -> str | None:
    """Return a short text of what should be one; None stays None."""
    if value is None or isinstance(value, str):
        return value and value[:SHOWN]
    return f"({type(value).__name__})"


def _refusal(value: object) -> list[str] | None:
    """Return reason and message of a command that the uplink refused; None for one that it did not."""
    if value is None:
        return None
    match value:
        case [str() as reason, str() as message]:
            return [reason[:SHOWN], message[:MOST_WORDS]]
    return ["bad_message", "the uplink refused it and gave no reason"]


def _is_plain(value: object) -> bool:
    """Tell whether a value is what JSON has, within bounds: it will be packed again, and must not end the worker."""
    left = MOST_VALUES
    level: list[object] = [value]
    for _ in range(MOST_DEPTH):
        below: list[object] = []
        for one in level:
            match one:
                case dict():
                    if not all(isinstance(key, str) for key in one):
                        return False
                    below.extend(one.values())
                case list() | tuple():
                    below.extend(one)
                case None | bool() | int() | float() | str():
                    pass
                case _:
                    return False
        left -= len(level)
        if left < 0:
            return False
        if not below:
            return True
        level = below
    return False
