"""control.sock and its client: whatever is sent, one reply comes back, and nobody keeps another from being heard."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import pwd
import socket
import stat
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.control_client import MAX_MESSAGE, VERSION, ControlClient
from edge.controller import control
from edge.controller.control import MAX_CLIENTS, MAX_REPLY, ControlServer
from edge.errors import BusyError, ConfigError, InstrumentError, PlanRefusedError

Verb = Callable[[dict[str, Any], str], dict[str, Any]]
ME = pwd.getpwuid(os.getuid()).pw_name


def refuse(_args: dict[str, Any], _user: str) -> dict[str, Any]:
    raise PlanRefusedError("too many volts", reason="voltage_ceiling")


def mute(_args: dict[str, Any], _user: str) -> dict[str, Any]:
    raise InstrumentError("memory: no reply")


VERBS: dict[str, Verb] = {
    "echo": lambda args, user: {"args": args, "user": user},
    "large": lambda args, _user: {"data": bytes(args["n"])},
    "refuse": refuse,
    "mute": mute,
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "control.sock"


@pytest.fixture
async def server(path: Path) -> AsyncIterator[ControlServer]:
    made = ControlServer(path, VERBS)
    loop = asyncio.get_running_loop()
    unhandled: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _loop, context: unhandled.append(context))
    task = loop.create_task(made.serve())
    yield made
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    await asyncio.gather(*made._tasks, return_exceptions=True)
    # No conversation ended with an error that nobody looked at.
    gc.collect()
    assert unhandled == []


class Client:
    """A client on the test's own loop, as raw as the test wants it."""

    def __init__(self, path: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK)
        try:
            self.socket.connect(str(path))
        except OSError:
            self.socket.close()
            raise

    async def send(self, data: bytes) -> None:
        await asyncio.get_running_loop().sock_sendall(self.socket, data)

    async def receive(self) -> Any:  # noqa: ANN401 - whatever the server sends
        data = await asyncio.wait_for(asyncio.get_running_loop().sock_recv(self.socket, MAX_MESSAGE), 5.0)
        return msgpack.unpackb(data) if data else None

    async def ask(self, data: bytes) -> Any:  # noqa: ANN401 - whatever the server sends
        await self.send(data)
        return await self.receive()

    async def call(self, verb: str, **args: object) -> Any:  # noqa: ANN401 - whatever the server sends
        return await self.ask(msgpack.packb({"v": VERSION, "verb": verb, "args": args}))


async def settle() -> None:
    """Let the server do what it can: what it waits for on this host's own sockets is there at once."""
    for _ in range(20):
        await asyncio.sleep(0)


@pytest.fixture
def connect(path: Path) -> Iterator[Callable[[], Client]]:
    made: list[Client] = []

    def one() -> Client:
        made.append(Client(path))
        return made[-1]

    yield one
    for client in made:
        client.socket.close()


# -------------------------------------------------------------------------------------------------------- answers


async def test_a_verb_gets_its_arguments_and_the_name_of_who_asks(
    server: ControlServer, connect: Callable[[], Client]
) -> None:
    reply = await connect().call("echo", to_v=-0.5, list=[1, 2])
    assert reply == {
        "v": 1,
        "ok": True,
        "error": None,
        "data": {"args": {"to_v": -0.5, "list": [1, 2]}, "user": ME},
    }


async def test_a_name_in_the_message_never_acts_as_who_brings_it(
    server: ControlServer, connect: Callable[[], Client]
) -> None:
    message = msgpack.packb({"v": 1, "verb": "echo", "args": {}, "user": "somebody else"})
    assert (await connect().ask(message))["error"]["reason"] == "no_remote"
    # Where there is a judge for those from afar, all of it goes there, and nothing but what he says comes back.
    server._remote = lambda request: {"v": 1, "ok": False, "error": None, "data": request["user"]}
    assert await connect().ask(message) == {"v": 1, "ok": False, "error": None, "data": "somebody else"}


async def test_a_user_without_a_known_name_is_a_number(
    server: ControlServer, connect: Callable[[], Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control, "_NAMES", {})
    assert (await connect().call("echo"))["data"]["user"] == f"uid {os.getuid()}"


def test_a_number_without_an_account_is_a_name_too() -> None:
    assert control._name(os.getuid()) == ME
    assert control._name(2**31 - 7) == f"uid {2**31 - 7}"


async def test_without_arguments_there_are_none(server: ControlServer, connect: Callable[[], Client]) -> None:
    reply = await connect().ask(msgpack.packb({"v": 1, "verb": "echo"}))
    assert reply["data"]["args"] == {}


@pytest.mark.parametrize(
    ("verb", "reason", "message"),
    [("refuse", "voltage_ceiling", "too many volts"), ("mute", "InstrumentError", "memory: no reply")],
)
async def test_our_errors_are_refusals_with_their_reason(
    server: ControlServer, connect: Callable[[], Client], verb: str, reason: str, message: str
) -> None:
    client = connect()
    assert await client.call(verb) == {
        "v": 1,
        "ok": False,
        "error": {"reason": reason, "message": message},
        "data": None,
    }
    assert (await client.call("echo"))["ok"]


# -------------------------------------------------------------------------------------------------------- garbage

GARBAGE = [
    (b"\xc1", "bad_message"),
    (b"x", "bad_version"),
    (b"\x81", "bad_message"),
    (b"garbage", "bad_message"),
    (b"\xff" * 1000, "bad_message"),
    (msgpack.packb({"v": 1, "verb": "echo"})[:-1], "bad_message"),
    (msgpack.packb({"v": 1, "verb": "echo"}) + b"\x00", "bad_message"),
    (b"\x91" * 5000 + b"\x00", "bad_message"),
    (b"\x81\x91\x00\x00", "bad_message"),
    (b"\x81\x01\x00", "bad_message"),
    (msgpack.packb({"v": 1, "verb": "x" * 5000}), "bad_message"),
    (msgpack.packb({"v": 1, "verb": "echo", "args": dict.fromkeys(map(str, range(65)), 0)}), "bad_message"),
    (b"\x82\xa1v\x01\xa4verb\xa2\xff\xfe", "bad_message"),
    (msgpack.packb(None), "bad_version"),
    (msgpack.packb([1, 2]), "bad_version"),
    (msgpack.packb({}), "bad_version"),
    (msgpack.packb({"verb": "echo"}), "bad_version"),
    (msgpack.packb({"v": 2, "verb": "echo"}), "bad_version"),
    (msgpack.packb({"v": "1", "verb": "echo"}), "bad_version"),
    (msgpack.packb({"v": 1}), "unknown_verb"),
    (msgpack.packb({"v": 1, "verb": None}), "unknown_verb"),
    (msgpack.packb({"v": 1, "verb": ["echo"]}), "unknown_verb"),
    (msgpack.packb({"v": 1, "verb": b"echo"}), "unknown_verb"),
    (msgpack.packb({"v": 1, "verb": "ECHO"}), "unknown_verb"),
    (msgpack.packb({"v": 1, "verb": "answer"}), "unknown_verb"),
    (msgpack.packb({"v": 1, "verb": "echo", "args": None}), "bad_args"),
    (msgpack.packb({"v": 1, "verb": "echo", "args": []}), "bad_args"),
    (msgpack.packb({"v": 1, "verb": "echo", "args": "x"}), "bad_args"),
]


@pytest.mark.parametrize(("message", "reason"), GARBAGE)
async def test_garbage_is_refused_and_the_conversation_goes_on(
    server: ControlServer, connect: Callable[[], Client], message: bytes, reason: str
) -> None:
    client = connect()
    reply = await client.ask(message)
    assert (reply["v"], reply["ok"], reply["data"]) == (1, False, None)
    assert reply["error"]["reason"] == reason
    assert (await client.call("echo"))["ok"]


async def test_an_unknown_verb_is_told_which_there_are(server: ControlServer, connect: Callable[[], Client]) -> None:
    error = (await connect().call("ehco"))["error"]
    assert error["message"] == "unknown verb 'ehco'; one of: echo, large, mute, refuse"


async def test_a_very_long_verb_is_not_repeated_in_full(server: ControlServer, connect: Callable[[], Client]) -> None:
    reply = await connect().ask(msgpack.packb({"v": 1, "verb": b"x" * 100_000}))
    assert len(reply["error"]["message"]) < 300


@given(st.binary(max_size=200))
def test_no_bytes_make_the_server_raise(message: bytes) -> None:
    reply = FUZZED.answer(message, "fuzz")
    assert reply["ok"] in (True, False)
    msgpack.packb(reply)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.binary() | st.text(max_size=20),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(max_size=5), inner),
        max_leaves=10,
    )
)
def test_no_value_makes_the_server_raise(value: object) -> None:
    for message in ({"v": 1, "verb": value}, {"v": 1, "verb": "echo", "args": value}, {"v": value}, value):
        try:
            packed = msgpack.packb(message)
        except UnicodeEncodeError:
            continue  # a lone surrogate is no message
        msgpack.packb(FUZZED.answer(packed, "fuzz"))


class _Unbound(ControlServer):
    """Answers without a socket."""

    def __init__(self) -> None:
        self._verbs = VERBS


FUZZED = _Unbound()


# ----------------------------------------------------------------------------------------------------- large replies


async def test_a_large_reply_arrives_whole(server: ControlServer, connect: Callable[[], Client]) -> None:
    reply = await connect().call("large", n=MAX_REPLY - 100)
    assert reply["data"]["data"] == bytes(MAX_REPLY - 100)


async def test_a_reply_that_no_message_holds_is_refused(server: ControlServer, connect: Callable[[], Client]) -> None:
    client = connect()
    reply = await client.call("large", n=MAX_REPLY)
    assert not reply["ok"]
    assert reply["error"]["reason"] == "too_large"
    assert (await client.call("echo"))["ok"]


# ------------------------------------------------------------------------------------------------------ many clients


async def test_clients_are_served_side_by_side(server: ControlServer, connect: Callable[[], Client]) -> None:
    clients = [connect() for _ in range(MAX_CLIENTS)]
    for turn in range(5):
        replies = await asyncio.gather(*(client.call("echo", n=n * turn) for n, client in enumerate(clients)))
        assert [reply["data"]["args"]["n"] for reply in replies] == [n * turn for n in range(MAX_CLIENTS)]


async def test_a_client_that_reads_nothing_holds_up_nobody(
    server: ControlServer, connect: Callable[[], Client]
) -> None:
    deaf = connect()
    for _ in range(20):
        with contextlib.suppress(BlockingIOError):
            deaf.socket.send(msgpack.packb({"v": 1, "verb": "large", "args": {"n": 100_000}}))
    assert (await connect().call("echo"))["ok"]


async def test_a_client_that_leaves_in_the_middle_ends_only_its_own_conversation(
    server: ControlServer, connect: Callable[[], Client]
) -> None:
    stays = connect()
    await stays.call("echo")
    for _ in range(30):
        leaves = connect()
        await leaves.send(msgpack.packb({"v": 1, "verb": "large", "args": {"n": 150_000}}))
        leaves.socket.close()
        await settle()
    assert (await stays.call("echo"))["ok"]
    assert len(server._heard) == 1


async def test_one_more_client_ends_the_conversation_that_was_silent_longest(
    server: ControlServer, connect: Callable[[], Client]
) -> None:
    clients = [connect() for _ in range(MAX_CLIENTS)]
    for client in clients:
        await client.call("echo")
    # The first one speaks again, which makes the second the most silent.
    await clients[0].call("echo")
    assert (await connect().call("echo"))["ok"]
    assert await clients[1].receive() is None
    for client in (clients[0], *clients[2:]):
        assert (await client.call("echo"))["ok"]
    assert len(server._heard) == MAX_CLIENTS


async def test_any_number_of_silent_clients_keeps_nobody_out(
    server: ControlServer, connect: Callable[[], Client]
) -> None:
    # A `stop` is never refused, also not because others fill the room.
    for _ in range(10):
        for _ in range(MAX_CLIENTS - 1):
            connect()
        assert (await connect().call("echo"))["ok"]
    await settle()
    assert len(server._tasks) <= MAX_CLIENTS + 1


async def test_running_out_of_descriptors_ends_nothing(
    server: ControlServer, connect: Callable[[], Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = asyncio.get_running_loop()
    accept, fails = loop.sock_accept, [OSError(24, "Too many open files")] * 3

    async def sometimes(listener: socket.socket) -> tuple[socket.socket, Any]:
        if fails:
            raise fails.pop()
        return await accept(listener)

    monkeypatch.setattr(control, "ACCEPT_PAUSE_S", 0.0)
    monkeypatch.setattr(loop, "sock_accept", sometimes)
    # The accept that is under way was not patched yet.
    assert (await connect().call("echo"))["ok"]
    assert (await connect().call("echo"))["ok"]
    assert fails == []


# ------------------------------------------------------------------------------------------------------- the socket


async def test_the_socket_is_for_this_user_only(server: ControlServer, path: Path) -> None:
    info = os.stat(path)  # noqa: PTH116 - nothing else runs on this loop
    assert stat.S_IMODE(info.st_mode) == 0o600
    assert stat.S_ISSOCK(info.st_mode)


@pytest.fixture
def leftover(path: Path) -> None:
    path.write_bytes(b"left")


async def test_what_a_dead_worker_left_is_replaced(leftover: None, path: Path) -> None:
    first = ControlServer(path, VERBS)
    second = ControlServer(path, VERBS)
    task = asyncio.get_running_loop().create_task(second.serve())
    client = Client(path)
    assert (await client.call("echo"))["ok"]
    client.socket.close()
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    await asyncio.gather(*second._tasks, return_exceptions=True)
    first._socket.close()


# ------------------------------------------------------------------------------------------------------- the client


async def test_the_client_asks_and_gets_the_reply(server: ControlServer, path: Path) -> None:
    def talk() -> list[dict[str, Any]]:
        with ControlClient(path) as client:
            return [client.call("echo", n=1), client.call("nothing"), client.call("echo")]

    first, second, third = await asyncio.to_thread(talk)
    assert first["data"]["args"] == {"n": 1}
    assert second["error"]["reason"] == "unknown_verb"
    assert third["ok"]


def test_without_a_controller_it_says_how_to_start_one(path: Path) -> None:
    with pytest.raises(BusyError, match=r"no controller answers at .* \(No such file or directory\); start it with"):
        ControlClient(path)


def test_with_a_dead_controllers_socket_too(path: Path) -> None:
    left = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    left.bind(str(path))
    left.close()
    with pytest.raises(BusyError, match="Connection refused"):
        ControlClient(path)


def test_a_path_too_long_for_a_socket_is_called_that(tmp_path: Path) -> None:
    with pytest.raises(BusyError, match="path too long"):
        ControlClient(tmp_path / ("x" * 120) / "control.sock")


class FakeServer:
    """Accepts one client and does what the test says, without a loop."""

    def __init__(self, path: Path) -> None:
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._listener.bind(str(path))
        self._listener.listen(1)
        self.connection: socket.socket | None = None

    def accept(self) -> socket.socket:
        self.connection, _ = self._listener.accept()
        return self.connection

    def close(self) -> None:
        self._listener.close()
        if self.connection is not None:
            self.connection.close()


@pytest.fixture
def fake(path: Path) -> Iterator[FakeServer]:
    made = FakeServer(path)
    yield made
    made.close()


def test_a_controller_that_closes_is_told(fake: FakeServer, path: Path) -> None:
    with ControlClient(path) as client:
        fake.accept().close()
        with pytest.raises(BusyError, match="is it restarting"):
            client.call("status")


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        (b"\xc1", "not msgpack"),
        (b"\x81", "not msgpack"),
        (msgpack.packb({}) + b"x", "not msgpack"),
        (msgpack.packb([1]), "not a map"),
        (b"\x01", "not a map"),
    ],
)
def test_a_reply_that_is_none_is_told(fake: FakeServer, path: Path, reply: bytes, message: str) -> None:
    with ControlClient(path) as client:
        fake.accept().send(reply)
        with pytest.raises(ConfigError, match=message):
            client.call("status")


def test_a_late_reply_is_never_taken_for_that_to_the_next_question(fake: FakeServer, path: Path) -> None:
    with ControlClient(path, timeout_s=0.05) as client:
        connection = fake.accept()
        with pytest.raises(BusyError, match="does not answer"):
            client.call("status")
        with contextlib.suppress(BrokenPipeError):
            connection.send(msgpack.packb({"v": 1, "ok": True, "data": {"state": "SAFE"}, "error": None}))
        with pytest.raises(BusyError, match="does not answer"):
            client.call("rearm")
