"""What ``tipguard check`` finds out: file, ports, instruments, protection layers, broker. Changes nothing anywhere."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from edge import rundir
from edge.clock import LoopClock
from edge.config import Config
from edge.control_client import ControlClient
from edge.controller.checkup_broker import check_broker, check_stores
from edge.controller.checkup_frontend import Asked, ask_front, check_front_port
from edge.controller.checkup_gpio import check_gpio, check_gpio_held
from edge.controller.checkup_protection import check_protection
from edge.controller.checkup_stage import check_stage, check_stage_held, check_stage_port
from edge.controller.envelopes import protection
from edge.controller.findings import Finding
from edge.controller.preflight import STABLE_NAMES
from edge.errors import TipguardError, WrongInstrumentError
from edge.instruments.drivers import make_smu
from edge.instruments.link import Link
from edge.instruments.port import HotSelector, OpenPort, SerialTransport, is_emulated


def check_port(config: Config) -> list[Finding]:
    """Look at the port's name and kind."""
    path = config.ports.smu.path
    try:
        emulated = is_emulated(path)
    except TipguardError as error:
        return [Finding("port", "fail", str(error).removeprefix("port "))]
    if emulated:
        found = Finding("port", "ok", f"{path}: a pseudo-terminal, an emulated instrument")
        return [found, *check_profile(config, emulated=True)]
    findings = []
    if not path.startswith(STABLE_NAMES):
        findings.append(
            Finding("port", "fail", f"{path}: use a /dev/serial/by-id name; ttyUSB numbers change when plugged again")
        )
    return [*findings, *check_profile(config, emulated=False)]


def check_profile(config: Config, *, emulated: bool) -> list[Finding]:
    """Say whose rig profile there is; an emulated instrument needs none."""
    profile = config.profile
    if profile is None:
        if emulated:
            return []
        text = "none: `run` refuses this port until `tipguard commission` has measured it"
        return [Finding("rig profile", "fail", text)]
    if (fault := config.profile_fault) is not None:
        text = f"not used: {config.rig.profile_file} was measured with {fault}; run `tipguard commission`"
        return [Finding("rig profile", "warn" if emulated else "fail", text)]
    return [Finding("rig profile", "ok", f"measured {profile.measured_utc}, serial {profile.serial_number}")]


def check_instrument(config: Config) -> list[Finding]:
    """Ask who is behind the port and whether its output is on; sends two queries and nothing else."""
    try:
        port = OpenPort(config.ports.smu.path, config.ports.smu.baud)
    except TipguardError as error:
        return [Finding("instrument", "fail", str(error))]
    # Known once the port is open: what an adapter does is not believed before it was asked.
    late = [Finding("adapter", "warn", port.warning.removeprefix("port "))] if port.warning else []
    selector = HotSelector()

    async def ask() -> list[Finding]:
        transport = SerialTransport(
            port.fileno(),
            name=config.ports.smu.path,
            baud=config.ports.smu.baud,
            emulated=port.emulated,
            selector=selector,
        )
        link = Link(transport, LoopClock())
        try:
            smu = make_smu(link, config)
            identity = await smu.identify()
            if identity.serial_number != config.smu.serial_number:
                raise WrongInstrumentError(
                    f"serial number {identity.serial_number!r} ({identity.model}) answers, smu.serial_number is "
                    f"{config.smu.serial_number!r}; check the cable, or correct the configuration"
                )
            firmware = " ".join(identity.firmware.split())
            name = f"{identity.model}, serial {identity.serial_number}, firmware {firmware}"
            findings = [Finding("instrument", "ok", name)]
            if await smu.output_on():
                findings.append(Finding("output", "fail", "ON with no controller running; `tipguard safe-off` cuts it"))
            else:
                findings.append(Finding("output", "ok", "off"))
            return findings
        finally:
            transport.close()

    try:
        with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(selector)) as runner:
            return [*late, *runner.run(ask())]
    except TipguardError as error:
        return [*late, Finding("instrument", "fail", str(error))]
    finally:
        port.close()


def check_held(config: Config) -> list[Finding]:
    """Ask the running controller for the state of the instruments that it holds."""
    try:
        with ControlClient(rundir.rig_dir(config.rig.id) / rundir.CONTROL_SOCKET) as client:
            status: dict[str, Any] = client.call("status").get("data") or {}
    except TipguardError:
        return [
            Finding(
                "instrument",
                "fail",
                "held by a controller that does not answer: it is starting, or its instrument does not confirm that "
                "the output is off; see its messages, in doubt switch the output off at the panel",
            )
        ]
    verdict = f" ({status['verdict']})" if status.get("verdict") else ""
    state = str(status.get("state"))
    held = Finding(
        "instrument",
        "warn" if state == "TRIPPED" else "ok",
        f"held by the running controller, state {state}{verdict}; see `tipguard status`",
    )
    return [held, *check_stage_held(config, status), *check_gpio_held(status)]


def check(config: Config, file: Path, front: Asked | None = None) -> list[Finding]:
    """Return all findings, in the order a person would look. ``front``: what the front end said; None: ask it."""
    findings = [Finding("configuration", "ok", f"{file}: rig {config.rig.id}, kind {config.rig.kind}")]
    ports = check_port(config)
    of_stage = check_stage_port(config)
    findings += [*ports, *of_stage, *check_gpio(config), *check_front_port(config)]
    if rundir.controller_runs(rundir.rig_dir(config.rig.id)):
        findings += check_held(config)
    else:
        if not _failed(ports, "port"):
            findings += check_instrument(config)
        if not _failed(of_stage, "stage port"):
            findings += check_stage(config)
    front = ask_front(config) if front is None else front
    findings += front.findings
    findings += [layer.finding for layer in check_protection(config, protection(config, front.device))]
    findings += [check_broker(config, file.parent), check_stores(config)]
    return findings


def _failed(findings: list[Finding], what: str) -> bool:
    return any(finding.what == what and finding.grade == "fail" for finding in findings)
