"""The client of QEMU's machine protocol, against servers that say what they should not."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from hil.errors import BenchFaultError
from hil.frontend.qmp import MAX_EVENTS, Qmp

GREETING = b'{"QMP": {"version": {}}}\n'
AGREED = b'{"return": {}, "id": 1}\n'


@contextmanager
def server(folder: Path, *answers: bytes, greeting: bytes = GREETING) -> Iterator[Path]:
    """Give one client the greeting, then one answer per line that it sends, then nothing more."""
    path = folder / "q"
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(path))
    listener.listen(1)
    asked: list[bytes] = []

    def serve() -> None:
        client, _ = listener.accept()
        with client, client.makefile("rb") as lines:
            client.sendall(greeting)
            for answer in answers:
                asked.append(lines.readline())
                client.sendall(answer)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield path
    finally:
        thread.join(10)
        listener.close()
        assert all(json.loads(line)["id"] == n for n, line in enumerate(filter(None, asked), 1))


def test_a_reply_is_found_behind_events(tmp_path: Path) -> None:
    events = b'{"event": "STOP", "timestamp": {}}\n{"event": "RESET"}\n'
    with server(tmp_path, AGREED, events + b'{"return": 5, "id": 2}\n') as path:
        qmp = Qmp(path, timeout_s=5)
        assert qmp.execute("query-status") == 5
        assert qmp.events == ["STOP", "RESET"]
        qmp.wait_event("RESET")
        assert qmp.events == ["STOP"]
        qmp.close()


def test_an_event_is_waited_for(tmp_path: Path) -> None:
    with server(tmp_path, AGREED, b'{"return": {}, "id": 2}\n{"event": "OTHER"}\n{"event": "RESET"}\n') as path:
        qmp = Qmp(path, timeout_s=5)
        qmp.execute("system_reset")
        qmp.wait_event("RESET")
        assert qmp.events == ["OTHER"]
        qmp.close()


@pytest.mark.parametrize(
    ("answer", "complaint"),
    [
        (b'{"error": {"class": "GenericError", "desc": "no such thing"}, "id": 2}\n', "no such thing"),
        (b"what?\n", "not JSON"),
        (b"[1]\n", "not an object"),
        (b"", "closed"),
    ],
    ids=["error", "not-json", "not-object", "closed"],
)
def test_what_is_no_reply_is_an_error_of_ours(tmp_path: Path, answer: bytes, complaint: str) -> None:
    with server(tmp_path, AGREED, answer) as path:
        qmp = Qmp(path, timeout_s=5)
        with pytest.raises(BenchFaultError, match=complaint):
            qmp.execute("stop")
        qmp.close()


def test_silence_ends(tmp_path: Path) -> None:
    path = tmp_path / "q"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(path))
        listener.listen(1)
        with pytest.raises(BenchFaultError, match="timed out"):
            Qmp(path, timeout_s=0.05)


def test_another_server_is_no_qmp(tmp_path: Path) -> None:
    with server(tmp_path, greeting=b'{"hello": 1}\n') as path, pytest.raises(BenchFaultError, match="greeting"):
        Qmp(path, timeout_s=5)


def test_events_that_nobody_takes_are_bounded(tmp_path: Path) -> None:
    many = b'{"event": "STOP"}\n' * (3 * MAX_EVENTS)
    with server(tmp_path, AGREED, many + b'{"return": {}, "id": 2}\n') as path:
        qmp = Qmp(path, timeout_s=5)
        qmp.execute("query-status")
        assert len(qmp.events) == MAX_EVENTS
        qmp.close()
