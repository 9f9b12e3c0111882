"""What goes to a service manager: each datagram, and that nothing ever comes back to the one who speaks."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from edge.notify import MAX_STATUS, Notifier


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as link:
        link.bind(str(tmp_path / "notify"))
        link.setblocking(False)
        yield link


Speak = Callable[..., Notifier]


@pytest.fixture
def speak() -> Iterator[Speak]:
    """Make notifiers and let go of them at the end."""
    with contextlib.ExitStack() as stack:

        def make(address: str | Path | None, watchdog_ns: int = 0) -> Notifier:
            notifier = Notifier(None if address is None else str(address), watchdog_ns)
            stack.callback(notifier.close)
            return notifier

        yield make


@pytest.fixture
def from_environment() -> Iterator[Callable[[dict[str, str]], Notifier]]:
    with contextlib.ExitStack() as stack:

        def make(variables: dict[str, str]) -> Notifier:
            notifier = Notifier.from_environment(variables)
            stack.callback(notifier.close)
            return notifier

        yield make


def heard(manager: socket.socket) -> list[str]:
    found = []
    while True:
        try:
            found.append(manager.recv(4096).decode())
        except BlockingIOError:
            return found


def test_ready_is_said_once_and_a_status_when_it_changes(manager: socket.socket, tmp_path: Path, speak: Speak) -> None:
    notifier = speak(tmp_path / "notify")
    notifier.ready("SAFE")
    notifier.ready("TRIPPED")
    notifier.status("SAFE")
    notifier.status("ENERGISED")
    notifier.status("ENERGISED")
    notifier.stopping("SIGTERM")
    assert heard(manager) == [
        "READY=1\nSTATUS=SAFE",
        "STATUS=ENERGISED",
        "STOPPING=1\nSTATUS=SIGTERM",
    ]


def test_an_abstract_name_is_understood(speak: Speak) -> None:
    name = f"tipguard-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as link:
        link.bind(f"\0{name}")
        link.setblocking(False)
        speak(f"@{name}").ready("yes")
        assert heard(link) == ["READY=1\nSTATUS=yes"]


def test_a_status_cannot_become_another_assignment(manager: socket.socket, tmp_path: Path, speak: Speak) -> None:
    speak(tmp_path / "notify").status("gone\nMAINPID=1\r\n" + "x" * 1000)
    (datagram,) = heard(manager)
    assert "\n" not in datagram
    assert datagram.startswith("STATUS=gone MAINPID=1 xxx")
    assert len(datagram) == len("STATUS=") + MAX_STATUS


def test_the_watchdog_is_fed_four_times_per_period_and_not_more(
    manager: socket.socket, tmp_path: Path, speak: Speak
) -> None:
    notifier = speak(tmp_path / "notify", watchdog_ns=1_000_000_000)
    for now_ns in range(10_000_000_000, 11_000_000_000, 10_000_000):
        notifier.alive(now_ns)
    assert heard(manager) == ["WATCHDOG=1"] * 4


def test_without_a_watchdog_nothing_is_fed(manager: socket.socket, tmp_path: Path, speak: Speak) -> None:
    notifier = speak(tmp_path / "notify")
    notifier.alive(1)
    assert heard(manager) == []


def test_the_environment_is_taken_so_that_a_child_cannot_speak_for_us(
    manager: socket.socket, tmp_path: Path, from_environment: Callable[[dict[str, str]], Notifier]
) -> None:
    mine = str(os.getpid())
    variables = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "1000000", "WATCHDOG_PID": mine, "A": "b"}
    notifier = from_environment(variables)
    assert variables == {"A": "b"}
    assert notifier.listening
    assert notifier.period_ns == 250_000_000
    # Ours was meant for another process, as for a service's own child.
    other = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "1000000", "WATCHDOG_PID": "1"}
    assert from_environment(other).period_ns == 0


@pytest.mark.parametrize("period", ["", "-5", "1e6", "soon", "9" * 40])
def test_a_period_that_is_none_switches_the_watchdog_off(
    manager: socket.socket, tmp_path: Path, period: str, from_environment: Callable[[dict[str, str]], Notifier]
) -> None:
    variables = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": period}
    assert from_environment(variables).period_ns == 0


@pytest.mark.parametrize("address", [None, "", "relative", "@", "/", "/absent/notify", "/" + "x" * 200, "vsock:2:1"])
def test_an_address_that_cannot_be_had_is_silence(address: str | None, speak: Speak) -> None:
    notifier = speak(address, watchdog_ns=1_000_000_000)
    notifier.ready("r")
    notifier.status("s")
    notifier.alive(1)
    notifier.stopping("t")
    assert not notifier.listening
    assert notifier.period_ns == 0


def test_a_full_socket_loses_the_datagram_and_blocks_nobody(
    manager: socket.socket, tmp_path: Path, speak: Speak
) -> None:
    notifier = speak(tmp_path / "notify", watchdog_ns=4)
    for now_ns in range(0, 10_000, 1):
        notifier.alive(now_ns)
    first = heard(manager)
    # More than any queue holds was sent, and we are here.
    assert 0 < len(first) < 10_000
    notifier.status("still speaking")
    assert heard(manager) == ["STATUS=still speaking"]


def test_ready_and_the_status_are_said_again_where_they_did_not_get_through(
    manager: socket.socket, tmp_path: Path, speak: Speak
) -> None:
    # A manager that is busy while a service starts: the queue of its socket is full of signs of life.
    notifier = speak(tmp_path / "notify", watchdog_ns=4)
    for now_ns in range(10_000):
        notifier.alive(now_ns)
    notifier.ready("SAFE")
    notifier.status("SAFE")
    assert not [text for text in heard(manager) if text != "WATCHDOG=1"]
    for _ in range(2):
        notifier.ready("SAFE")
        notifier.status("SAFE")
    assert heard(manager) == ["READY=1\nSTATUS=SAFE"]
    for now_ns in range(10_000, 20_000):
        notifier.alive(now_ns)
    notifier.status("ENERGISED")
    heard(manager)
    for _ in range(2):
        notifier.status("ENERGISED")
    assert heard(manager) == ["STATUS=ENERGISED"]


def test_a_manager_that_went_away_is_not_missed(tmp_path: Path, speak: Speak) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as link:
        link.bind(str(tmp_path / "notify"))
        notifier = speak(tmp_path / "notify")
    notifier.ready("r")
    notifier.close()
    notifier.status("s")
    assert not notifier.listening
