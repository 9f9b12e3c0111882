"""Whoever cuts without a worker: keeper and safe-off hold the port of the front end and the bytes that trip it."""

from __future__ import annotations

import json
import os
import pty
import tty
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge.cli.processes import keeper_command
from edge.controller.beside_port import BesidePort, FrontEndPort
from edge.controller.safe_off import Target, from_config, from_safe_json, in_words, make_safe, trip_front
from edge.errors import ConfigError
from edge.guard.cut import cut_form
from edge.guard.front_trip import BAUD, TRIP
from firmware_proto.frontend.framing import Decoder, Frame, Side
from firmware_proto.frontend.messages import Trip
from hil.rig import config_for

KEY = "ports.frontend.path"


@pytest.fixture
def line() -> Iterator[tuple[int, str]]:
    """A pseudo-terminal: its other end, and its name."""
    ours, theirs = pty.openpty()
    tty.setraw(theirs)
    os.set_blocking(ours, False)
    yield ours, os.ttyname(theirs)
    for fd in (ours, theirs):
        os.close(fd)


def heard(fd: int) -> bytes:
    try:
        return os.read(fd, 4096)
    except BlockingIOError:
        return b""


def port_at(path: str, said: list[str] | None = None) -> FrontEndPort:
    return FrontEndPort(path, BAUD, "front end", KEY, (said if said is not None else []).append)


def test_the_bytes_are_one_trip_whatever_came_before_them() -> None:
    for torn in (b"", b"\x05abc", bytes(range(1, 200))):
        found = Decoder(Side.DEVICE).feed(torn + TRIP)
        assert [event.message for event in found if isinstance(event, Frame)] == [Trip()]


def test_the_keeper_s_port_trips_and_is_handed_down(line: tuple[int, str]) -> None:
    ours, path = line
    port = port_at(path)
    port.trip()
    assert heard(ours) == TRIP
    assert port.in_safe_file == {"frontend": {"path": path, "baud": BAUD, "trip": TRIP.hex()}}
    told, fds = port.arguments("frontend")
    assert told == ["--frontend-fd", str(fds[0]), "--frontend-emulated"]


def test_a_rig_without_one_has_nothing_of_it() -> None:
    port = port_at("")
    port.trip()
    assert port.in_safe_file == {}
    assert port.arguments("frontend") == ([], [])
    assert port.again() is None


def test_a_port_that_is_gone_holds_nobody_up(line: tuple[int, str]) -> None:
    _, path = line
    said: list[str] = []
    port = port_at(path, said)
    assert port.port is not None
    os.close(port.port.fileno())
    port.trip()
    with pytest.raises(ConfigError, match="absent-front-end"):
        port_at("/dev/absent-front-end")


def test_one_that_was_unplugged_is_told_and_left_out(line: tuple[int, str]) -> None:
    ours, path = line
    said: list[str] = []
    stage = BesidePort(path, 115_200, "stage", "ports.stage.path", said.append)
    assert stage.again() is stage.port
    os.close(ours)
    stage._path = "/dev/absent-stage"
    assert stage.again() is None
    assert "the stage's port is gone" in said[0]
    os.dup2(os.open(os.devnull, os.O_RDWR), ours)


def test_the_keeper_is_told_of_it() -> None:
    command = keeper_command(config_for(frontend={"hard_a": 5e-4}), "rig.toml")
    at = command.index("--frontend-port")
    assert command[at : at + 4] == ["--frontend-port", "memory-frontend", "--frontend-baud", "921600"]
    assert "--frontend-port" not in keeper_command(config_for(), "rig.toml")


# ------------------------------------------------------------------------------------------------------------ safe-off


def test_safe_off_trips_it_before_it_waits_for_the_instrument(line: tuple[int, str], tmp_path: Path) -> None:
    ours, path = line
    silent, theirs = pty.openpty()
    tty.setraw(theirs)
    form = cut_form("tip")
    target = Target(os.ttyname(theirs), 57600, b"\x03", form.lines, wants_zero=True, source="test", front=(path, BAUD))
    report = make_safe(target, 0.1)
    assert report["front_end_told"] is True
    assert report["verified_off"] is False, "what the front end was told is no proof"
    assert "no proof" in in_words(report)
    assert heard(ours) == TRIP
    for fd in (silent, theirs):
        os.close(fd)


def test_a_front_end_that_is_not_there_changes_nothing_else(line: tuple[int, str]) -> None:
    assert trip_front("/dev/absent-front-end", BAUD) is False
    assert trip_front(line[1], 1) is True, "a rate that no port has is no reason either"


def test_it_is_found_in_what_the_keeper_left_and_in_the_rig_s_file(tmp_path: Path) -> None:
    left = tmp_path / "safe.json"
    safe = {"path": "/dev/smu", "baud": 57600, "abort": "03", "lines": ["3a0a"], "wants_zero": True}
    left.write_text(json.dumps({**safe, "frontend": {"path": "/dev/front", "baud": 115200, "trip": TRIP.hex()}}))
    target = from_safe_json(left)
    assert target is not None
    assert target.front == ("/dev/front", 115_200)
    left.write_text(json.dumps({**safe, "frontend": "nonsense"}))
    target = from_safe_json(left)
    assert target is not None, "the instrument is cut all the same"
    assert target.front is None
    rig = tmp_path / "rig.toml"
    rig.write_text('[ports.smu]\npath = "/dev/smu"\n[ports.frontend]\npath = "/dev/front"\nbaud = "fast"\n')
    _, found = from_config(rig)
    assert found is not None
    assert found.front == ("/dev/front", BAUD)
