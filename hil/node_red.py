"""Node-RED without a screen for the tests: the pinned packages of the example, and a flow with a tap on what it shows.

The packages come from npm into a cache folder of the user's, once per version, and never into this tree; each run has
a user directory of its own. A tap is a connection back to us, over which the flow sends, as JSON lines, everything that
its debug nodes show a person.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from hil.broker import HOST, free_port
from hil.errors import BenchFaultError
from hil.processes.child import Child

EXAMPLE: Final = Path(__file__).resolve().parents[1] / "deploy" / "examples" / "node-red"
NODE_MAJOR: Final = 18
"""Node-RED 4 runs from here on."""
INSTALL_S: Final = 540.0
START_S: Final = 60.0

_STOP_S: Final = 10.0
_SETTINGS: Final = """\
// Written by hil.node_red; gone with it.
module.exports = {
    flowFile: 'flows.json', uiHost: '%s', uiPort: %d, httpAdminRoot: false, credentialSecret: false,
    telemetry: { enabled: false, updateNotification: false },
    externalModules: { autoInstall: false, palette: { allowInstall: false } },
    logging: { console: { level: 'info', metrics: false, audit: false } },
};
"""
_TAP: Final = "return { payload: JSON.stringify({ shown: %s, topic: msg.topic, payload: msg.payload }) + '\\n' };"

Line = dict[str, Any]


def programs() -> tuple[str, str] | None:
    """Return where node and npm are, or None when one is missing or node is too old for Node-RED."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        return None
    said = subprocess.run([node, "--version"], capture_output=True, text=True, check=False, timeout=30).stdout
    version = re.match(r"v(\d+)\.", said)
    return (node, npm) if version and int(version[1]) >= NODE_MAJOR else None


def _pins() -> dict[str, str]:
    found: dict[str, str] = json.loads((EXAMPLE / "package.json").read_text(encoding="utf-8"))["dependencies"]
    return found


def _cache() -> Path:
    home = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(home) / "tipguard" / "-".join(["node-red", *_pins().values()])


def install() -> Path:
    """Return the folder that has the example's packages; npm fetches them the first time, which takes a minute.

    Raises :class:`BenchFaultError` with npm's words when it cannot, or when node or npm is missing.
    """
    found = programs()
    if found is None:
        raise BenchFaultError(f"node from version {NODE_MAJOR} on and npm are needed; on Debian: nodejs, npm")
    folder = _cache()
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        # Two test runs at once: the second finds it done.
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "done").exists():
            shutil.copy(EXAMPLE / "package.json", folder)
            words = [found[1], "install", "--no-audit", "--no-fund", "--ignore-scripts", "--no-package-lock"]
            try:
                done = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False, timeout=INSTALL_S)
            except subprocess.TimeoutExpired as error:
                raise BenchFaultError(f"npm install in {folder}: not done after {INSTALL_S:.0f} s") from error
            if done.returncode:
                raise BenchFaultError(f"npm install in {folder}: {done.stderr[-500:].strip()}")
            (folder / "done").touch()
    return folder


def tapped(flows: list[dict[str, Any]], *, broker_port: int, tap_port: int) -> list[dict[str, Any]]:
    """Return the flow with its broker at ``broker_port``, and everything that goes to a debug node to us as well."""
    changed = [{**node, "port": str(broker_port)} if node["type"] == "mqtt-broker" else dict(node) for node in flows]
    (tab,) = (node["id"] for node in flows if node["type"] == "tab")
    base = {"z": tab, "x": 100, "y": 600}
    out = {"id": "tap.out", "type": "tcp out", "name": "tap", "beserver": "client", "host": HOST, "port": str(tap_port)}
    changed.append({**base, **out, "base64": False, "end": False, "tls": "", "wires": []})
    for shown in [node for node in flows if node["type"] == "debug"]:
        tap = {"id": f"tap.{shown['id']}", "type": "function", "name": "tap", "func": _TAP % json.dumps(shown["name"])}
        changed.append({**base, **tap, "outputs": 1, "libs": [], "wires": [["tap.out"]]})
        for node in changed:
            node["wires"] = [
                [*wire, tap["id"]] if shown["id"] in wire else wire for wire in node.get("wires", [])
            ] or node.get("wires", [])
    return changed


class NodeRed:
    """A running flow; ended on exit, by its process id."""

    def __init__(self, child: Child, lines: Iterator[str]) -> None:
        """Made by :func:`running`."""
        self._child = child
        self._lines = lines
        self.shown: list[Line] = []
        """Everything its debug nodes have shown so far: ``shown`` (the node's name), ``topic``, ``payload``."""

    def until(self, enough: Callable[[Line], bool]) -> Line:
        """Return the first line from now on for which ``enough`` is true; raise BenchFaultError when none comes."""
        try:
            for text in self._lines:
                line: Line = json.loads(text)
                self.shown.append(line)
                if enough(line):
                    return line
        except TimeoutError as error:
            raise BenchFaultError(f"Node-RED showed nothing for {START_S:g} s:\n{self._child.tail()}") from error
        raise BenchFaultError(f"Node-RED closed the tap:\n{self._child.tail()}")

    def output(self) -> str:
        """Return what it has logged."""
        return self._child.output()


@contextlib.contextmanager
def running(flow: Path, *, broker_port: int, environment: Mapping[str, str] = os.environ) -> Iterator[NodeRed]:
    """Run ``flow`` against the broker at ``broker_port``, in a user directory of its own, until the context ends.

    Raises :class:`BenchFaultError` when its flow does not begin to show something.
    """
    packages = install()
    node, _ = programs() or ("node", "npm")
    with (
        tempfile.TemporaryDirectory(prefix="tipguard-node-red-") as folder,
        socket.create_server((HOST, 0)) as listening,
    ):
        home, tap_port = Path(folder), listening.getsockname()[1]
        flows = tapped(json.loads(flow.read_text(encoding="utf-8")), broker_port=broker_port, tap_port=tap_port)
        (home / "flows.json").write_text(json.dumps(flows), encoding="utf-8")
        (home / "settings.js").write_text(_SETTINGS % (HOST, free_port()), encoding="utf-8")
        main = packages / "node_modules" / "node-red" / "red.js"
        child = Child("node-red", [node, str(main), "--userDir", folder], home, environment)
        try:
            listening.settimeout(START_S)
            try:
                connection, _address = listening.accept()
            except TimeoutError as error:
                raise BenchFaultError(f"Node-RED: no flow after {START_S:g} s:\n{child.tail()}") from error
            with connection, connection.makefile("r", encoding="utf-8") as lines:
                connection.settimeout(START_S)
                yield NodeRed(child, iter(lines))
        finally:
            child.stop(_STOP_S)
