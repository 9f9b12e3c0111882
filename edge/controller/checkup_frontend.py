"""What ``tipguard check`` finds out about a front end: who it is, whether it fits, what its recording costs.

It is asked and never armed. A device that is armed takes a new session for a lost host and trips; with a controller
running it is therefore left alone, and what that knows of it is told.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from edge import rundir
from edge.clock import LoopClock
from edge.config import Config
from edge.control_client import ControlClient
from edge.controller.envelopes_frontend import declared, told
from edge.controller.findings import Finding
from edge.controller.preflight import STABLE_NAMES
from edge.errors import TipguardError
from edge.guard.envelope_frontend import FrontEndDevice
from edge.instruments.port import OpenPort, SerialTransport, is_emulated

if TYPE_CHECKING:
    from edge.instruments.frontend import Frontend

PORT: Final = "front end port"
WHAT: Final = "front end itself"


class Asked(NamedTuple):
    """What a front end said: ``device`` None where there is none, or where it did not answer."""

    findings: list[Finding]
    device: FrontEndDevice | None = None


def check_front_port(config: Config) -> list[Finding]:
    """Look at the port's name and kind."""
    port = config.ports.frontend
    if port is None:
        return []
    try:
        emulated = is_emulated(port.path, key="ports.frontend.path")
    except TipguardError as error:
        return [Finding(PORT, "fail", str(error).removeprefix("port "))]
    others = [one.path for one in (config.ports.smu, config.ports.stage) if one is not None]
    if Path(port.path).resolve() in [Path(path).resolve() for path in others]:
        return [Finding(PORT, "fail", f"{port.path}: is the port of another instrument too; each has its own")]
    if emulated:
        return [Finding(PORT, "ok", f"{port.path}: a pseudo-terminal, an emulated front end")]
    if not port.path.startswith(STABLE_NAMES):
        text = f"{port.path}: use a /dev/serial/by-id name; the others change when plugged again"
        return [Finding(PORT, "fail", text)]
    return [Finding(PORT, "ok", port.path)]


def ask_front(config: Config) -> Asked:
    """Ask the front end, or the controller that holds it, what it is. Empty on a rig without one."""
    if config.frontend is None or config.ports.frontend is None:
        return Asked([])
    if rundir.controller_runs(rundir.rig_dir(config.rig.id)):
        return _asked_of(_status_of(config))
    if any(finding.grade == "fail" for finding in check_front_port(config)):
        return Asked([])
    try:
        return _ask(config, config.ports.frontend.path, config.ports.frontend.baud)
    except TipguardError as error:
        return Asked([Finding(WHAT, "fail", str(error))])


def _status_of(config: Config) -> dict[str, Any]:
    with (
        contextlib.suppress(TipguardError),
        ControlClient(rundir.rig_dir(config.rig.id) / rundir.CONTROL_SOCKET) as client,
    ):
        data = client.call("status").get("data") or {}
        return dict(data.get("frontend") or {})
    return {}


def _asked_of(status: dict[str, Any]) -> Asked:
    """Return what the running controller knows."""
    device = told(status)
    if device is None:
        why = status.get("lost") or "it has not answered"
        return Asked([Finding(WHAT, "fail", f"held by the running controller, not ready: {why}")])
    if status.get("mismatch"):
        return Asked([Finding(WHAT, "fail", str(status["mismatch"]))], device)
    text = f"{status.get('board')}, held by the running controller; see `tipguard status`"
    return Asked([Finding(WHAT, "ok", text)], device)


def _ask(config: Config, path: str, baud: int) -> Asked:
    port = OpenPort(path, baud, key="ports.frontend.path")
    late = [Finding(PORT, "warn", port.warning.removeprefix("port "))] if port.warning else []

    async def ask() -> Asked:
        from edge.instruments.drivers import make_frontend
        from edge.instruments.lease import Permissions

        clock = LoopClock()
        transport = SerialTransport(port.fileno(), name=path, baud=baud, emulated=port.emulated, selector=None)
        permissions = Permissions(clock, config.frontend.lease_s if config.frontend else 0.1)
        unit = make_frontend(transport, clock, config, nonce=secrets.randbits(32), permissions=permissions)
        try:
            await unit.connect()
            return judge(config, unit)
        finally:
            unit.close()
            transport.close()

    try:
        found = asyncio.run(ask())
    finally:
        port.close()
    return Asked([*late, *found.findings], found.device)


def judge(config: Config, unit: Frontend) -> Asked:
    """Return what a device that has answered is worth on this rig."""
    # Only a rig that has one loads what works with its arrays.
    from edge.controller.front_stream import cost_in_words
    from edge.instruments.frontend_limits import check_line, device_config

    section, welcome = config.frontend, unit.welcome
    if section is None or welcome is None:
        return Asked([])
    device = declared(welcome)
    name = f"{welcome.board}, build {welcome.build_id:08x}, {welcome.sample_hz / 1e3:g} kS/s"
    if unit.mismatch:
        text = f"{name}: {unit.mismatch}; load the firmware that belongs to this program. It is never armed"
        return Asked([Finding(WHAT, "fail", text)])
    if device is None:
        return Asked([Finding(WHAT, "fail", f"{name}: what it says of itself cannot be; load its firmware again")])
    try:
        wanted = device_config(section, welcome, section.recording, 0)
        if not unit.emulated:
            check_line(wanted, welcome, config.ports.frontend.baud if config.ports.frontend else 0, section.recording)
    except TipguardError as error:
        return Asked([Finding(WHAT, "fail", f"{name}: {error}")], device)
    findings = [Finding(WHAT, "ok", f"{name}, last started by {welcome.reset_cause.name}")]
    if unit.trip_now is not None:
        text = f"tripped ({unit.trip_now.reason.name}); the controller fetches its black box when it starts"
        findings.append(Finding(WHAT, "warn", text))
    findings.append(Finding("front end's recording", "ok", cost_in_words(section, float(welcome.sample_hz))))
    return Asked(findings, device)
