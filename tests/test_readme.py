"""The README's first sweep, typed as written: its own lines, in its own order, against a real broker.

Three things are put in other words: the link in /tmp, which another bench may hold; the broker's port where 1883 is
taken on this host; and MQTT 5 for the subscriber where the only broker here is iotcore, which cannot do 3.1.1.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from edge.cli import common
from edge.controller.keeper import EXIT_UNVERIFIED
from hil.broker import HOST, Broker, free_port
from hil.processes import BenchRig, RigSpec, wait_for
from tests.live_runs import TooLateError, sweep

README = Path(__file__).resolve().parent.parent / "README.md"
MQTT_PORT = 1883
READY = {
    "tipguard hil smu": '"ready": true',
    "tipguard serve": "ready, state SAFE",
    "python listen.py": "",
}
"""What runs until it is ended, and what it prints once the next terminal may go on."""
READY_S = 20.0
TRIES = 3

_FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A fenced block of the README, with its language."""

    language: str
    text: str


def section(title: str) -> str:
    """Return the text of one section."""
    _, found, rest = README.read_text(encoding="utf-8").partition(f"\n## {title}\n")
    assert found, f"no section {title!r}"
    return rest.partition("\n## ")[0]


def blocks(title: str) -> list[Block]:
    """Return the fenced blocks of one section, in order."""
    return [Block(*match.groups()) for match in _FENCE.finditer(section(title))]


def port_is_free(port: int) -> bool:
    with contextlib.suppress(OSError), socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((HOST, port))
        return True
    return False


class Desk:
    """Somebody at four terminals."""

    def __init__(self, folder: Path, broker: Broker) -> None:
        self.folder = folder
        self.port = broker.port
        self.mqtt5 = broker.kind == "iotcore"
        self.background: dict[str, tuple[subprocess.Popen[bytes], Path]] = {}
        path = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
        # A terminal shows each line at once; a file would only get full buffers.
        self.env = {**os.environ, "PATH": path, "RUNTIME_DIRECTORY": str(folder / "run"), "PYTHONUNBUFFERED": "1"}

    def adapt(self, line: str) -> str:
        """Say the things that cannot be taken as written."""
        where = 'hostname="127.0.0.1"'
        if self.port != MQTT_PORT:
            line = line.replace(where, f"{where}, port={self.port}")
        if self.mqtt5:
            line = line.replace(where, f"{where}, clean_session=None, protocol=5")
        for link in ("smu", "stage"):
            line = line.replace(f"/tmp/{link}", str(self.folder / link))  # noqa: S108 - the README's words
        return line

    def type(self, line: str) -> str:
        """Run one line of a shell block; return what it printed. What stays in the foreground stays there."""
        words = next((words for words in READY if line.startswith(words)), None)
        if words is not None:
            self.leave_running(words, line)
            return ""
        done = subprocess.run(
            ["bash", "-c", self.adapt(line)],
            cwd=self.folder, env=self.env, capture_output=True, text=True, check=False, timeout=150,
        )  # fmt: skip
        if line.startswith("tipguard run") and done.returncode == common.EXIT_TRIPPED and "(STALE)" in done.stdout:
            raise TooLateError("STALE")
        assert done.returncode == 0, f"{line}: exit {done.returncode}\n{done.stdout}{done.stderr}"
        if line.startswith("tipguard init") and self.port != MQTT_PORT:
            config = self.folder / line.split()[2]
            config.write_text(config.read_text().replace(f"port = {MQTT_PORT}", f"port = {self.port}"))
        return done.stdout

    def leave_running(self, words: str, line: str) -> None:
        log = self.folder / f"{len(self.background)}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                ["bash", "-c", f"exec {self.adapt(line)}"],
                cwd=self.folder, env=self.env, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
            )  # fmt: skip
        self.background[words] = process, log

        def ready() -> bool:
            assert process.poll() is None, f"{line}: exit {process.returncode}\n{log.read_text()}"
            return READY[words] in log.read_text()

        wait_for(f"{line!r} to be ready", ready, READY_S)

    def printed(self, words: str) -> str:
        return self.background[words][1].read_text()

    def interrupt(self, words: str) -> int:
        """Press Ctrl-C; return the exit code."""
        process, _ = self.background[words]
        process.send_signal(signal.SIGINT)
        return process.wait(20)

    def go_home(self) -> None:
        for process, _ in reversed(self.background.values()):
            process.terminate()
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@contextlib.contextmanager
def a_desk(folder: Path) -> Iterator[Desk]:
    folder.mkdir()
    port = MQTT_PORT if port_is_free(MQTT_PORT) else free_port()
    with Broker(port=port) as broker:
        someone = Desk(folder, broker)
        try:
            yield someone
        finally:
            someone.go_home()


@pytest.mark.processes
@pytest.mark.timeout(400)
def test_the_first_sweep_as_written(tmp_path: Path) -> None:
    # What is counted and shown is one run's: a new desk where the host was late.
    for number in range(TRIES):
        try:
            with a_desk(tmp_path / f"desk{number}") as desk:
                first_sweep(desk)
                return
        except TooLateError as late:
            print(f"\n{late}: the host was late; another desk")
    pytest.fail(f"the host was late at each of {TRIES} desks")


def first_sweep(desk: Desk) -> None:
    printed: dict[str, str] = {}
    for block in blocks("Your first sweep"):
        if block.language == "python":
            (desk.folder / "listen.py").write_text(desk.adapt(block.text))
            continue
        for line in block.text.splitlines():
            if line != ". .venv/bin/activate":
                printed[line] = desk.type(line)

    run = next(text for line, text in printed.items() if line.startswith("tipguard run iv"))
    assert "completed, 1 cycle, 1 trigger\n" in run
    found = re.search(
        r"cycle 1: (\w+) at -[\d.]+ ± [\d.]+ mV, first reading -[\d.]+ [µn]A\n"
        r" +cut verified [\d.]+ ms after the reading\n"
        r" +what formed reads [\d.]+ [kM]?Ω, of which 1.00 kΩ in series\n",
        run,
    )
    assert found, run
    assert "NOT PROTECTED: HOST LOSS" in " ".join(printed["tipguard check rig.toml"].split())
    assert "accepts connections" in " ".join(printed["tipguard check rig.toml"].split())
    assert "SAFE" in printed["tipguard status"]
    assert "1 planned, 0 protective" in printed["tipguard status"]

    def heard() -> bool:
        said = desk.printed("python listen.py")
        # The back-scan comes last: phase 3.
        return f"event {found[1]}" in said and "'phase': array([3" in said

    wait_for("samples and event at the subscriber", heard, 10.0)
    assert re.search(r"^samples \{.*'bias_v': array\(\[", desk.printed("python listen.py"), re.MULTILINE | re.DOTALL)
    assert desk.interrupt("tipguard serve") == 0, desk.printed("tipguard serve")
    assert "output verified off yes" in desk.printed("tipguard serve")


def test_the_subscriber_is_five_lines_and_shares_nothing_with_the_publisher() -> None:
    (listen,) = [block.text for block in blocks("Your first sweep") if block.language == "python"]
    assert len(listen.splitlines()) == 5
    assert re.findall(r"^\s*(?:import|from) .*", listen, re.MULTILINE) == [
        "import msgpack, numpy, paho.mqtt.subscribe as mqtt"
    ]


def cli(rig: BenchRig, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "edge.cli.main", *words]
    return subprocess.run(
        command, cwd=rig.directory, env=rig.environment, capture_output=True, text=True, check=False, timeout=30
    )


@pytest.mark.processes
@pytest.mark.timeout(120)
def test_after_a_trip_it_is_as_the_readme_says(tmp_path: Path) -> None:
    with BenchRig.running(tmp_path, RigSpec(load="ohmic:1e6")) as rig:
        sweep(rig, step_v=0.002, least_a=2e-9)
        assert cli(rig, "stop").returncode == 0
        rig.wait_state("TRIPPED")
        status = cli(rig, "status")
        assert status.returncode == common.EXIT_TRIPPED
        assert "TRIPPED (OPERATOR)" in status.stdout
        refused = cli(rig, "run", "iv", "--to-v", "-0.1")
        assert refused.returncode == common.EXIT_FAILED
        assert "tipguard rearm" in refused.stderr
        assert [block.text for block in blocks("After a trip")] == ["tipguard rearm\n", "tipguard safe-off\n"]
        assert cli(rig, "rearm").returncode == 0
        assert cli(rig, "status").returncode == 0


def test_the_exit_codes_are_those_of_the_code() -> None:
    codes = {int(code) for code in re.findall(r"^\| (\d+) \|", section("Exit codes"), re.MULTILINE)}
    named = {value for name, value in vars(common).items() if name.startswith("EXIT_")}
    assert codes == {0, EXIT_UNVERIFIED, *named}


def test_make_targets_named_in_the_readme_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (README.parent / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"\bmake ([a-z-]+)\b", README.read_text())) <= targets
    assert shutil.which("make")
