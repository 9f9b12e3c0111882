"""The uplink's way of a command: what is none is refused and recorded, a stop passes, answers go where they may."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import msgpack
import pytest
import structlog
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.control_client import VERSION
from edge.controller.control import ControlServer
from edge.uplink.command_form import MAX_COMMAND, MAX_CORRELATION, read, to_json
from edge.uplink.commands import BURST, EVERY_NS, MOST_STOPS, STOP_FOR_NS, STOP_PAUSE_NS, CommandRelay, over_socket
from edge.uplink.mqtt import BrokerLostError, Incoming, Publication
from edge.uplink.settings import UplinkSettings
from hil.virtual import VirtualClock, run_virtual
from tests.edge.controller.remote_bench import SWEEP, Afar, from_afar

SECOND = 1_000_000_000
GOOD = {"v": 1, "verb": "status", "args": {}, "epoch": "0" * 16, "nonce": "0" * 32}
DONE: dict[str, Any] = {"v": VERSION, "ok": True, "error": None, "data": {}}


def incoming(payload: object, *, user: str = "ana", rig: str = "rig-1", **other: Any) -> Incoming:  # noqa: ANN401 - Incoming's
    raw = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    values = {
        "retain": False,
        "qos": 1,
        "response_topic": f"tipguard/reply/{user}/{rig}/7",
        "correlation": b"7",
        **other,
    }
    return Incoming(f"tipguard/{rig}/cmd/{user}", raw, **values)


class Desk:
    """A relay between a broker and a worker that are both ours."""

    def __init__(self, clock: VirtualClock, *, users: tuple[str, ...] = ("ana", "bob")) -> None:
        self.clock = clock
        self.asked: list[dict[str, Any]] = []
        self.published: list[Publication] = []
        self.connected = True
        self.reply: Callable[[Mapping[str, Any]], Awaitable[dict[str, Any]]] | None = None
        self.relay = CommandRelay(
            UplinkSettings("rig-1", Path("/nowhere/ring"), remote_users=frozenset(users)),
            clock=clock,
            publish=self.publish,
            log=structlog.get_logger("test"),
            ask=self.ask,
        )

    def publish(self, publication: Publication) -> asyncio.Future[int]:
        if not self.connected:
            raise BrokerLostError("gone", host="h", port=1)
        self.published.append(publication)
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        future.set_result(0)
        return future

    async def ask(self, message: Mapping[str, Any]) -> dict[str, Any]:
        self.asked.append(dict(message))
        return await self.reply(message) if self.reply is not None else DONE

    async def settle(self, t_ns: int = SECOND) -> None:
        await self.clock.sleep_until(self.clock.now_ns() + t_ns)

    def answers(self) -> list[dict[str, Any]]:
        return [json.loads(publication.payload) for publication in self.published]


def at_desk(work: Callable[[Desk], Awaitable[None]], **options: Any) -> None:  # noqa: ANN401 - Desk's own
    async def main(clock: VirtualClock) -> None:
        desk = Desk(clock, **options)
        task = asyncio.get_running_loop().create_task(desk.relay.run())
        await work(desk)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    run_virtual(main)


# ------------------------------------------------------------------------------------------------ what passes


def test_a_command_goes_to_the_worker_under_the_topic_s_user_and_its_answer_back() -> None:
    async def test(desk: Desk) -> None:
        desk.relay.take(incoming(GOOD, correlation=b"\x00\xff"))
        await desk.settle()
        assert desk.asked == [{**GOOD, "user": "ana"}]
        [answer] = desk.published
        assert (answer.topic, answer.correlation, answer.retain) == ("tipguard/reply/ana/rig-1/7", b"\x00\xff", False)
        assert answer.content_type == "application/json"
        assert json.loads(answer.payload) == DONE

    at_desk(test)


def test_who_asks_is_the_topic_s_affair_and_never_the_message_s() -> None:
    async def test(desk: Desk) -> None:
        desk.relay.take(incoming({**GOOD, "user": "ana"}, user="mallory"))
        desk.relay.take(incoming(GOOD, user="mallory"))
        await desk.settle()
        assert [asked["user"] for asked in desk.asked] == ["mallory", "mallory"]

    at_desk(test)


def test_the_worker_gets_no_more_than_it_has_a_use_for() -> None:
    async def test(desk: Desk) -> None:
        large = {"plan": "iv", "parameters": {"points": [0] * 5000}}
        desk.relay.take(incoming({**GOOD, "verb": "run", "args": large}))
        desk.relay.take(incoming({**GOOD, "verb": "run", "args": large}, user="mallory"))
        desk.relay.take(incoming({**GOOD, "verb": "status", "args": [0] * 5000}))
        await desk.settle()
        assert [asked["args"] for asked in desk.asked] == [large, {"plan": "iv"}, {}]

    at_desk(test)


def test_commands_are_counted_by_what_became_of_them() -> None:
    async def test(desk: Desk) -> None:
        desk.relay.take(incoming(GOOD))
        desk.relay.take(incoming(GOOD, retain=True))
        desk.relay.take(incoming(b"{"))
        desk.relay.take(incoming({**GOOD, "v": 2}))
        desk.relay.take(incoming({**GOOD, "args": {"x": "y" * MAX_COMMAND}}))
        desk.relay.take(incoming(GOOD, response_topic="tipguard/reply/bob/rig-1/7"))
        await desk.settle()
        refused = {"bad_response_topic": 1, "malformed": 2, "retained": 1, "too_large": 1, "too_many": 0}
        assert desk.relay.document() == {"relayed": 1, "unanswered": 0, "refused": refused}
        # What was refused the worker hears of, for its record; that is no command that was relayed.
        assert len(desk.asked) == 6
        await desk.settle(10 * SECOND)
        for _ in range(BURST + 3):
            desk.relay.take(incoming(GOOD))
        await desk.settle()
        assert desk.relay.document() == {"relayed": 1 + BURST, "unanswered": 0, "refused": {**refused, "too_many": 3}}

        async def nobody(_message: Mapping[str, Any]) -> dict[str, Any]:
            raise ConnectionRefusedError("nobody there")

        desk.reply = nobody
        await desk.settle(10 * SECOND)
        desk.relay.take(incoming(GOOD))
        # Many that one answer is given to are many.
        for _ in range(MOST_STOPS + 5):
            desk.relay.take(incoming({**GOOD, "verb": "stop"}))
        await desk.settle((MOST_STOPS + 1) * (STOP_FOR_NS + SECOND))
        assert desk.relay.document()["unanswered"] == 1 + MOST_STOPS + 5
        assert desk.relay.document()["relayed"] == 1 + BURST

    at_desk(test)


def test_without_users_nothing_is_subscribed_to() -> None:
    async def test(desk: Desk) -> None:
        assert desk.relay.topic_filter is None

    at_desk(test, users=())

    async def with_users(desk: Desk) -> None:
        assert desk.relay.topic_filter == "tipguard/rig-1/cmd/+"

    at_desk(with_users)


REFUSED: list[tuple[str, object, dict[str, Any], str]] = [
    ("kept by the broker", GOOD, {"retain": True}, "retained"),
    ("oversize", {**GOOD, "args": {"x": "y" * MAX_COMMAND}}, {}, "too_large"),
    ("oversize stop", b'{"verb":"stop","x":"' + b"y" * MAX_COMMAND + b'"}', {}, "too_large"),
    ("no JSON", b"{", {}, "malformed"),
    ("empty", b"", {}, "malformed"),
    ("bytes", b"\xff\xfe\x00", {}, "malformed"),
    ("no map", [1], {}, "malformed"),
    ("another version", {**GOOD, "v": 2}, {}, "malformed"),
    ("no version", {"verb": "status"}, {}, "malformed"),
    ("a key too many", {**GOOD, "user": "bob"}, {}, "malformed"),
    ("no number", b'{"v":1,"verb":"status","args":{"a":NaN}}', {}, "malformed"),
    ("half a character", b'{"v":1,"verb":"status","args":{"a":"\\ud800"}}', {}, "malformed"),
    ("a number beyond 64 bits", {**GOOD, "args": {"a": 2**70}}, {}, "malformed"),
    ("nesting without end", b'{"v":1,"verb":"run","args":' + b"[" * 30_000 + b"]" * 30_000 + b"}", {}, "malformed"),
    ("correlation data too long", GOOD, {"correlation": b"7" * (MAX_CORRELATION + 1)}, "malformed"),
    ("an answer into a stream", GOOD, {"response_topic": "tipguard/rig-1/samples"}, "bad_response_topic"),
    ("an answer to somebody else", GOOD, {"response_topic": "tipguard/reply/bob/rig-1/7"}, "bad_response_topic"),
    ("an answer in another rig's name", GOOD, {"response_topic": "tipguard/reply/ana/rig-2/7"}, "bad_response_topic"),
    ("an answer to a pattern", GOOD, {"response_topic": "tipguard/reply/ana/rig-1/#"}, "bad_response_topic"),
    ("an answer with a zero", GOOD, {"response_topic": "tipguard/reply/ana/rig-1/\0"}, "bad_response_topic"),
]


@pytest.mark.parametrize(("payload", "other", "reason"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED])
def test_what_is_no_command_is_refused_and_the_worker_told(payload: object, other: dict[str, Any], reason: str) -> None:
    async def test(desk: Desk) -> None:
        async def refuse(message: Mapping[str, Any]) -> dict[str, Any]:
            reason, said = message["refused"]
            return {"v": VERSION, "ok": False, "error": {"reason": reason, "message": said}}

        desk.reply = refuse
        desk.relay.take(incoming(payload, **other))
        await desk.settle()
        [asked] = desk.asked
        assert (asked["user"], asked["verb"], asked["refused"][0]) == ("ana", None, reason)
        assert msgpack.packb(asked)
        assert [answer["error"]["reason"] for answer in desk.answers()] == (
            [] if reason == "bad_response_topic" else [reason]
        )

    at_desk(test)


@pytest.mark.parametrize("topic", ["tipguard/rig-2/cmd/ana", "tipguard/rig-1/watermark/lab", "tipguard/rig-1/cmd", "x"])
def test_another_topic_is_not_ours(topic: str) -> None:
    async def test(desk: Desk) -> None:
        desk.relay.take(Incoming(topic, b"stop", retain=False, qos=1))
        await desk.settle()
        assert desk.asked == []

    at_desk(test)


@given(payload=st.binary(max_size=200) | st.text(max_size=50).map(str.encode), retain=st.booleans())
@settings(max_examples=200, deadline=None)
def test_whatever_comes_raises_nothing_else(payload: bytes, *, retain: bool) -> None:
    async def test(desk: Desk) -> None:
        desk.relay.take(incoming(payload, retain=retain))
        await desk.settle()
        assert len(desk.asked) == 1

    at_desk(test)


# ------------------------------------------------------------------------------------------------------- stop


STOPS: list[tuple[str, object, dict[str, Any]]] = [
    ("in its proper form", {**GOOD, "verb": "stop"}, {}),
    ("as one word", b"stop", {}),
    ("as one word from a shell", b"stop\n", {}),
    ("with nothing but the verb", {"verb": "stop"}, {}),
    ("in another version", {**GOOD, "v": 9, "verb": "stop"}, {}),
    ("with keys that nobody knows", {**GOOD, "verb": "stop", "x": [1]}, {}),
    ("with what cannot be packed", b'{"verb":"stop","args":{"a":"\\ud800","b":1e999}}', {}),
    ("published with the retain flag", {**GOOD, "verb": "stop"}, {"retain": True}),
    ("with an answer that may not be", b"stop", {"response_topic": "tipguard/rig-1/samples"}),
    ("with correlation data without end", b"stop", {"correlation": b"7" * 60_000}),
    ("without an answer", b"stop", {"response_topic": None, "correlation": None}),
]


@pytest.mark.parametrize(("payload", "other"), [row[1:] for row in STOPS], ids=[row[0] for row in STOPS])
def test_a_stop_passes_in_whatever_form(payload: object, other: dict[str, Any]) -> None:
    async def test(desk: Desk) -> None:
        desk.relay.take(incoming(payload, **other))
        await desk.settle()
        assert desk.asked == [{"v": VERSION, "verb": "stop", "user": "ana"}]
        assert all(publication.topic.startswith("tipguard/reply/ana/rig-1/") for publication in desk.published)

    at_desk(test)


def test_a_stop_waits_for_no_other_command() -> None:
    async def test(desk: Desk) -> None:
        never: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()

        async def slow(message: Mapping[str, Any]) -> dict[str, Any]:
            return DONE if message["verb"] == "stop" else await never

        desk.reply = slow
        for _ in range(BURST + 5):
            desk.relay.take(incoming({**GOOD, "verb": "run"}, user="bob"))
        await desk.settle(1)
        desk.relay.take(incoming(b"stop"))
        before_ns = desk.clock.now_ns()
        await desk.settle(1)
        assert [asked["verb"] for asked in desk.asked] == ["run", "stop"]
        assert desk.clock.now_ns() - before_ns == 1

    at_desk(test)


def test_stops_are_never_too_many() -> None:
    async def test(desk: Desk) -> None:
        for _ in range(10 * MOST_STOPS):
            desk.relay.take(incoming(b"stop"))
        await desk.settle()
        assert len(desk.asked) == MOST_STOPS
        # Each is answered: those beyond what is under way, with the last one's answer.
        assert desk.answers() == [DONE] * (10 * MOST_STOPS)

    at_desk(test)


def test_a_stop_is_tried_again_while_the_controller_does_not_answer() -> None:
    async def test(desk: Desk) -> None:
        fails = iter([True, True, True])

        async def at_last(message: Mapping[str, Any]) -> dict[str, Any]:
            if next(fails, False):
                raise ConnectionRefusedError(111, "restarting")
            return DONE

        desk.reply = at_last
        desk.relay.take(incoming(b"stop"))
        await desk.settle()
        assert len(desk.asked) == 4
        assert desk.answers() == [DONE]

    at_desk(test)


def test_a_stop_finds_the_successor_of_a_worker_that_hangs() -> None:
    async def test(desk: Desk) -> None:
        never: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        answers: list[Awaitable[dict[str, Any]]] = [never]

        async def first_hangs(_message: Mapping[str, Any]) -> dict[str, Any]:
            return await answers.pop() if answers else DONE

        desk.reply = first_hangs
        desk.relay.take(incoming(b"stop"))
        await desk.settle()
        assert (len(desk.asked), desk.answers()) == (2, [DONE])

    at_desk(test)


def test_a_controller_that_is_gone_is_said_and_nothing_else_is_tried_twice() -> None:
    async def test(desk: Desk) -> None:
        async def gone(_message: Mapping[str, Any]) -> dict[str, Any]:
            raise TimeoutError

        desk.reply = gone
        desk.relay.take(incoming({**GOOD, "verb": "run"}))
        desk.relay.take(incoming(b"stop"))
        await desk.settle(10 * SECOND)
        assert [asked["verb"] for asked in desk.asked].count("run") == 1
        assert [asked["verb"] for asked in desk.asked].count("stop") == STOP_FOR_NS // STOP_PAUSE_NS + 1
        run, stop = desk.answers()
        assert (run["error"]["reason"], stop["error"]["reason"]) == ("no_controller", "no_controller")
        assert "whether it was done" in run["error"]["message"]

    at_desk(test)


def test_a_stranger_s_stop_is_a_command_like_any_other() -> None:
    async def test(desk: Desk) -> None:
        for _ in range(BURST + 5):
            desk.relay.take(incoming(b"stop", user="mallory"))
        await desk.settle(5 * SECOND)
        assert len([asked for asked in desk.asked if asked["verb"] == "stop"]) == BURST

    at_desk(test)


# ------------------------------------------------------------------------------------------------------ floods


def test_a_flood_is_turned_away_and_owned_up_to_and_takes_nobody_else_s_turn() -> None:
    async def test(desk: Desk) -> None:
        for number in range(1000):
            desk.relay.take(incoming(GOOD, user=f"mallory-{number % 7}"))
        desk.relay.take(incoming(GOOD, user="ana"))
        await desk.settle(SECOND // 10)
        assert [asked["user"] for asked in desk.asked if "refused" not in asked].count("ana") == 1
        await desk.settle()
        owned = [asked for asked in desk.asked if asked.get("refused", [""])[0] == "too_many"]
        assert [asked["refused"][1].rsplit(" ", 1)[1] for asked in owned] == [str(1000 - BURST)]
        assert len(desk.asked) == BURST + 2
        assert [answer["error"]["reason"] for answer in desk.answers() if not answer["ok"]] == ["too_many"] * BURST
        # And after a while there is room again.
        await desk.settle(EVERY_NS)
        desk.relay.take(incoming(GOOD, user="mallory"))
        await desk.settle()
        assert desk.asked[-1]["user"] == "mallory"

    at_desk(test)


def test_an_answer_without_a_connection_is_dropped_and_the_next_is_not() -> None:
    async def test(desk: Desk) -> None:
        desk.connected = False
        desk.relay.take(incoming(b"stop"))
        await desk.settle()
        desk.connected = True
        desk.relay.take(incoming(b"stop"))
        await desk.settle()
        assert (len(desk.asked), len(desk.published)) == (2, 1)

    at_desk(test)


def test_an_answer_is_json_whatever_the_worker_says() -> None:
    said = {"ok": True, "data": {"nan": float("nan"), "raw": b"1234", "list": list(range(100)), "text": "x" * 2000}}
    assert json.loads(to_json(said)) == {
        "ok": True,
        "data": {"nan": None, "raw": {"bytes": 4}, "list": list(range(100)), "text": "x" * 2000},
    }
    assert len(to_json({"data": {"list": list(range(100_000))}})) < 200


# ------------------------------------------------------------------------------------------- with the real worker


def test_from_the_broker_s_side_to_the_bias_and_back(tmp_path: Path) -> None:
    async def test(afar: Afar) -> None:
        desk = Desk(afar.bench.clock)

        async def worker(message: Mapping[str, Any]) -> dict[str, Any]:
            return dict(afar._server.answer(msgpack.packb(message), "uplink"))

        desk.reply = worker
        task = asyncio.get_running_loop().create_task(desk.relay.run())
        command = {**GOOD, "verb": "run", "args": SWEEP, "epoch": afar.epoch, "nonce": await afar.nonce()}
        desk.relay.take(incoming({**command, "nonce": "0" * 32}))
        desk.relay.take(incoming(command))
        # The same once more, as QoS 1 may.
        desk.relay.take(incoming(command))
        await afar.bench.until_live()
        desk.relay.take(incoming(b"stop", user="bob", retain=True))
        run = await afar.bench.ended()
        assert (run["status"], run["reason"]) == ("tripped", "OPERATOR by mqtt:bob")
        desk.relay.take(incoming(command, retain=True))
        await desk.settle()
        assert [answer["error"] and answer["error"]["reason"] for answer in desk.answers()] == [
            "unknown_nonce",
            None,
            "used_nonce",
            None,
            "retained",
        ]
        assert [event["reason"] for event in afar.commands()] == ["unknown_nonce", None, "used_nonce", None, "retained"]
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    from_afar(tmp_path, test)


async def test_the_control_socket_is_asked_each_time_anew(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    ask = over_socket(path)
    with pytest.raises(OSError, match="No such file"):
        await ask({"verb": "stop"})
    server = ControlServer(path, {}, lambda request: {"v": VERSION, "ok": True, "error": None, "data": request["user"]})
    task = asyncio.create_task(server.serve())
    for user in ("ana", "bob"):
        assert (await ask({"v": VERSION, "user": user, "verb": "stop"}))["data"] == user
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def test_a_read_command_is_what_was_sent() -> None:
    assert read(incoming({**GOOD, "args": {"plan": "iv"}}), "ana", "rig-1") == {
        "verb": "status",
        "args": {"plan": "iv"},
        "epoch": "0" * 16,
        "nonce": "0" * 32,
    }
