"""control.sock: one msgpack map a message, ``{v, verb, args, user, epoch, nonce} -> {ok, error, data}``.

Served by the worker's control task on a Unix SOCK_SEQPACKET socket in the run directory. Clients are the command line
(known by its peer credentials) and the uplink. What may be done is decided here and below, never by the client.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import pwd
import socket
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import msgpack

from edge.control_client import MAX_MESSAGE, VERSION
from edge.errors import TipguardError

MAX_CLIENTS: Final = 16
"""One more ends the conversation that has been silent longest: nobody keeps a `stop` from being heard."""
MAX_REPLY: Final = 200_000
"""Bytes of one reply; a seqpacket takes little more."""
ACCEPT_PAUSE_S: Final = 0.1
Handler = Callable[[dict[str, Any], str], dict[str, Any]]
"""Gets the args and who asks; returns the data, or raises a TipguardError."""


def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"


# Looked up once, before anything is energised: with a directory service a look-up can take seconds.
_NAMES: Final = {uid: _name(uid) for uid in {0, os.getuid()}}


def _peer(connection: socket.socket) -> str:
    raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    _, uid, _ = struct.unpack("3i", raw)
    return _NAMES.get(uid, f"uid {uid}")


class ControlServer:
    """Serves verbs; one reply a message."""

    def __init__(
        self, path: Path, verbs: dict[str, Handler], remote: Callable[[dict[str, Any]], dict[str, Any]] | None = None
    ) -> None:
        """Bind ``path``, replacing what a dead worker left there (the rig's lock is held by our keeper).

        ``remote``: judges a message with a ``user``, which the uplink brings from the network, and returns the reply.
        """
        self._verbs = verbs
        self._remote = remote
        path.unlink(missing_ok=True)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK)
        self._socket.bind(str(path))
        path.chmod(0o600)
        self._socket.listen(16)
        self._tasks: set[asyncio.Task[None]] = set()
        self._heard: list[socket.socket] = []
        """Open conversations, in the order of their last messages."""

    async def serve(self) -> None:
        """Accept clients until cancelled."""
        loop = asyncio.get_running_loop()
        try:
            while True:
                try:
                    connection, _ = await loop.sock_accept(self._socket)
                except OSError:
                    # Out of descriptors, or a client that left at once: neither may end a run.
                    await asyncio.sleep(ACCEPT_PAUSE_S)
                    continue
                if len(self._heard) >= MAX_CLIENTS:
                    silent = self._heard.pop(0)
                    # It ends as if the client had hung up.
                    with contextlib.suppress(OSError):
                        silent.shutdown(socket.SHUT_RDWR)
                self._heard.append(connection)
                task = loop.create_task(self._client(connection), name="control client")
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
        finally:
            for task in self._tasks:
                task.cancel()
            self._socket.close()

    def _forget(self, connection: socket.socket) -> bool:
        known = connection in self._heard
        if known:
            self._heard.remove(connection)
        return known

    async def _client(self, connection: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        with contextlib.ExitStack() as at_end:
            at_end.enter_context(connection)
            at_end.callback(self._forget, connection)
            # A client that goes away in the middle ends its own conversation, nothing else.
            at_end.enter_context(contextlib.suppress(ConnectionError))
            user = _peer(connection)
            while message := await loop.sock_recv(connection, MAX_MESSAGE):
                if self._forget(connection):
                    self._heard.append(connection)
                reply = msgpack.packb(self.answer(message, user))
                if len(reply) > MAX_REPLY:
                    reply = msgpack.packb(_refuse("too_large", f"the reply would take {len(reply)} bytes"))
                await loop.sock_sendall(connection, reply)

    def answer(self, message: bytes, user: str) -> dict[str, Any]:
        """Judge one message and do what it asks."""
        try:
            request = msgpack.unpackb(message, max_map_len=64, max_str_len=4096, max_array_len=4096)
        except (ValueError, msgpack.UnpackException):
            return _refuse("bad_message", "not a msgpack map")
        if not isinstance(request, dict) or request.get("v") != VERSION:
            return _refuse("bad_version", f"expected a map with v = {VERSION}")
        if "user" in request:
            # Never with the rights of the process that brings it.
            return self._remote(request) if self._remote is not None else _refuse("no_remote", "not served here")
        verb, args = request.get("verb"), request.get("args", {})
        handler = self._verbs.get(verb) if isinstance(verb, str) else None
        if handler is None:
            return _refuse("unknown_verb", f"unknown verb {verb!r:.80}; one of: {', '.join(sorted(self._verbs))}")
        if not isinstance(args, dict):
            return _refuse("bad_args", "args must be a map")
        try:
            return {"v": VERSION, "ok": True, "error": None, "data": handler(args, user)}
        except TipguardError as error:
            return _refuse(getattr(error, "reason", type(error).__name__), str(error))


def _refuse(reason: str, message: str) -> dict[str, Any]:
    return {"v": VERSION, "ok": False, "error": {"reason": reason, "message": message}, "data": None}
