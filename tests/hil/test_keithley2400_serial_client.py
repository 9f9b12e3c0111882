"""``hil smu`` with flow control, an abort that swallows and a profile, met by pyserial on the pseudo-terminal."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import serial

from tests.hil.test_smu_server import served

pytestmark = pytest.mark.realtime

PUSHED = 260
"""Queries of 14 bytes: 3.6 KB, more than three times the input queue, for 2 ms of work each."""


@contextmanager
def client(link: Path, *, xonxoff: bool) -> Iterator[serial.Serial]:
    with serial.Serial(str(link), 57600, timeout=5.0, write_timeout=20.0, xonxoff=xonxoff) as port:
        yield port


def push(port: serial.Serial) -> list[bytes]:
    """Write everything at once behind 0.6 s of measurements, and read until nothing more comes."""
    port.write(b":FORM:ELEM CURR;:SENS:CURR:NPLC 1;:SYST:AZER OFF;:TRIG:COUN 30;:OUTP ON;:READ?\n")
    port.write(b"".join(b"*ESE %d;*ESE?\n" % (n % 200) for n in range(PUSHED)))
    replies = []
    while reply := port.read_until(b"\r"):
        replies.append(reply)
        if reply == b"%d\r" % ((PUSHED - 1) % 200):
            port.timeout = 0.2
    return replies


def test_pyserial_with_xonxoff_loses_nothing(tmp_path: Path) -> None:
    link = tmp_path / "smu"
    with served(link, "--flow", "xon-xoff") as server, client(link, xonxoff=True) as port:
        replies = push(port)
        assert replies[0].count(b",") == 29
        assert replies[1:] == [b"%d\r" % (n % 200) for n in range(PUSHED)]
        port.write(b":SYST:ERR?\n")
        assert port.read_until(b"\r") == b'0,"No error"\r'
        assert server.stop()[0] == 0


def test_pyserial_without_it_overruns(tmp_path: Path) -> None:
    link = tmp_path / "smu"
    with served(link) as server, client(link, xonxoff=False) as port:
        port.timeout = 1.5
        replies = push(port)
        assert 1 < len(replies) < PUSHED + 1
        port.write(b"\n:SYST:ERR:ALL?\n")
        assert b'-363,"Input buffer overrun"' in port.read_until(b"\r")
        assert server.stop()[0] == 0


def test_a_client_that_asks_for_none_gets_the_flow_bytes(tmp_path: Path) -> None:
    link = tmp_path / "smu"
    with served(link, "--flow", "xon-xoff") as server, client(link, xonxoff=False) as port:
        port.timeout = 1.5
        assert b"\x13" in b"".join(push(port))
        port.write(b"\n:SYST:ERR:ALL?\n")
        assert b'-363,"Input buffer overrun"' in port.read_until(b"\r"), "and nothing holds its bytes back"
        assert server.stop()[0] == 0


def test_an_abort_that_swallows_and_a_profile(tmp_path: Path) -> None:
    link, profile = tmp_path / "smu", tmp_path / "rig-profile.json"
    profile.write_text(json.dumps({"v": 1, "serial_number": "4711", "terminator": "LF"}))
    options = ("--profile", str(profile), "--abort-swallow-ms", "20")
    with served(link, *options) as server, client(link, xonxoff=False) as port:
        port.write(b"*IDN?\n")
        assert port.read_until(b"\n").split(b",")[2] == b"4711"
        port.timeout = 0.3
        begin = time.monotonic()
        port.write(b"\x03*OPC?\n")
        if time.monotonic() - begin < 0.015:
            assert port.read_until(b"\n") == b"", "swallowed"
        port.write(b"*OPC?\n")
        assert port.read_until(b"\n") == b"1\n"
        assert server.stop()[0] == 0
