"""`tipguard watch --once` against a real broker: what it prints, what it ends with, and a broker that goes away."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
from pathlib import Path
from typing import Any

import aiomqtt
import pytest

from edge.cli.watch import chosen
from edge.cli.watch_model import Bench
from edge.cli.watch_reader import BrokerAddress, Reader
from edge.config import template
from edge.errors import ConfigError
from hil.broker import HOST, Broker, free_port

WATCH = [sys.executable, "-P", "-m", "edge.cli.main", "watch"]
STATUS = {"v": 1, "online": True, "cause": None, "worker": {"state": "SAFE", "t_ns": 1}}
LIVE = {"v": 1, "state": "SAFE", "t_ns": 1, "age_s": 1.0, "bias_v": 0.0, "current_a": 1e-9, "phase": "SEEK"}

ENTER_SCREEN, LEAVE_SCREEN, SHOW_CURSOR, CLEAR = b"\x1b[?1049h", b"\x1b[?1049l", b"\x1b[?25h", b"\x1b[2J"


def watched(*options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*WATCH, *options], capture_output=True, text=True, check=False, timeout=30)


async def publish(port: int, rig: str, **documents: Any) -> None:  # noqa: ANN401 - documents
    async with aiomqtt.Client(HOST, port, protocol=aiomqtt.ProtocolVersion.V5) as client:
        for topic, document in documents.items():
            await client.publish(f"tipguard/{rig}/{topic}", json.dumps(document).encode(), qos=1, retain=True)


def test_a_snapshot_of_a_rig_and_its_exit_codes() -> None:
    with Broker() as broker:
        asyncio.run(publish(broker.port, "rig-1", status=STATUS, live=LIVE))
        done = watched("--once", "--port", str(broker.port), "rig-1")
        assert (done.returncode, done.stderr) == (0, "")
        assert "rig-1" in done.stdout
        assert "SAFE" in done.stdout
        assert "\x1b" not in done.stdout
        tripped = {**STATUS, "worker": {"state": "TRIPPED", "verdict": "OPERATOR", "t_ns": 2}}
        asyncio.run(publish(broker.port, "rig-1", status=tripped, live=LIVE | {"state": "TRIPPED"}))
        done = watched("--json", "--port", str(broker.port), "rig-1")
        assert done.returncode == 3
        rig = json.loads(done.stdout)["rigs"]["rig-1"]
        assert (rig["state"], rig["verdict"], rig["online"]) == ("TRIPPED", "OPERATOR", True)
        assert "a person stopped it" in rig["meaning"]
        done = watched("--once", "--wait-s", "0.3", "--port", str(broker.port), "absent")
        assert done.returncode == 1
        assert "rig absent was not heard" in done.stderr


def test_without_a_broker_one_line_says_what_to_do() -> None:
    done = watched("--once", "--port", str(free_port()))
    assert done.returncode == 1
    assert done.stdout == ""
    assert "is it running?" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_live_view_wants_a_terminal() -> None:
    done = watched("--port", "1")
    assert done.returncode == 2
    assert "--once" in done.stderr


@pytest.mark.processes
def test_the_live_view_gives_the_terminal_back() -> None:
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    before = termios.tcgetattr(follower)
    environment = {**os.environ, "TERM": "xterm-256color"}
    with Broker() as broker:
        asyncio.run(publish(broker.port, "rig-1", status=STATUS, live=LIVE))
        command = [*WATCH, "--port", str(broker.port)]
        with subprocess.Popen(
            command, stdin=follower, stdout=follower, stderr=follower, env=environment, process_group=0
        ) as process:
            drawn = read_until(leader, b"rig-1")
            process.send_signal(signal.SIGINT)
            drawn += read_until(leader, SHOW_CURSOR)
            assert process.wait(10) == 130
    assert (ENTER_SCREEN in drawn, LEAVE_SCREEN in drawn, b"Traceback" in drawn) == (True, True, False)
    # A frame is drawn over the one before: clearing between them is what flickers.
    assert drawn.count(CLEAR) <= 1
    assert termios.tcgetattr(follower) == before
    os.close(leader)
    os.close(follower)


def read_until(descriptor: int, what: bytes) -> bytes:
    """Return what a terminal was sent up to and with ``what``."""
    seen = b""
    while what not in seen:
        ready, _, _ = select.select([descriptor], [], [], 20)
        assert ready, f"{what!r} did not come; what came: {seen[-500:]!r}"
        seen += os.read(descriptor, 65536)
    return seen


async def test_a_broker_that_goes_away_is_told_and_found_again() -> None:
    with Broker() as broker:
        bench = Bench("b")
        reader = Reader(BrokerAddress(HOST, broker.port), bench, asyncio.get_running_loop().time)
        await reader.connect()
        reading = asyncio.create_task(reader.run())

        async def until(condition: Any) -> None:  # noqa: ANN401 - a question
            async with asyncio.timeout(20):
                while not condition():
                    reader.changed.clear()
                    await reader.changed.wait()

        try:
            await publish(broker.port, "rig-1", status=STATUS)
            await until(lambda: "rig-1" in bench.rigs)
            broker.kill()
            await until(lambda: bench.lost is not None)
            broker.start()
            await until(lambda: bench.lost is None)
            await publish(broker.port, "rig-2", status=STATUS)
            await until(lambda: "rig-2" in bench.rigs)
        finally:
            reading.cancel()
            await asyncio.wait([reading])
            await reader.close()


def rig_file(folder: Path, name: str, port: int) -> Path:
    text = template(path="/dev/x", serial_number="1", series_ohm=1.0)
    text = text.replace('id = "bench-1"', f'id = "{name}"').replace("port = 1883", f"port = {port}")
    path = folder / f"{name}.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_broker_and_rig_come_from_files_and_names(tmp_path: Path) -> None:
    one, two = rig_file(tmp_path, "one", 1884), rig_file(tmp_path, "two", 1885)
    broker, names = chosen([str(one)], None, None, None)
    assert (broker.host, broker.port, names) == ("127.0.0.1", 1884, ["one"])
    broker, names = chosen([], two, None, None)
    assert (broker.port, names) == (1885, ["two"])
    broker, names = chosen(["other"], two, None, 1999)
    assert (broker.port, names) == (1999, ["other"])
    assert chosen([], None, None, None)[0].where == "127.0.0.1:1883"
    with pytest.raises(ConfigError, match="different brokers"):
        chosen([str(one), str(two)], None, None, None)


def test_a_password_is_never_shown() -> None:
    assert "secret" not in repr(BrokerAddress("h", 1, "user", "secret"))
