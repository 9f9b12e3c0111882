"""What ``tipguard check`` finds out: file, ports, instruments, protection layers, broker. Changes nothing anywhere."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path
from typing import Any

from edge import rundir
from edge.clock import LoopClock
from edge.config import Config
from edge.control_client import ControlClient
from edge.controller.checkup_stage import check_stage, check_stage_held, check_stage_port
from edge.controller.findings import Finding
from edge.controller.preflight import clamp_layer
from edge.errors import TipguardError, WrongInstrumentError
from edge.instruments.drivers import make_smu
from edge.instruments.link import Link
from edge.instruments.port import HotSelector, OpenPort, SerialTransport, is_emulated

BROKER_TIMEOUT_S = 1.0


def check_port(config: Config) -> list[Finding]:
    """Look at the port's name and kind."""
    path = config.ports.smu.path
    try:
        emulated = is_emulated(path)
    except TipguardError as error:
        return [Finding("port", "fail", str(error).removeprefix("port "))]
    if emulated:
        return [Finding("port", "ok", f"{path}: a pseudo-terminal, an emulated instrument")]
    findings = []
    if not path.startswith("/dev/serial/by-id/"):
        findings.append(
            Finding("port", "fail", f"{path}: use a /dev/serial/by-id name; ttyUSB numbers change when plugged again")
        )
    findings.append(
        Finding("rig profile", "fail", "none: `run` refuses this port until `tipguard commission` has measured it")
    )
    return findings


def check_instrument(config: Config) -> list[Finding]:
    """Ask who is behind the port and whether its output is on; sends two queries and nothing else."""
    try:
        port = OpenPort(config.ports.smu.path, config.ports.smu.baud)
    except TipguardError as error:
        return [Finding("instrument", "fail", str(error))]
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
            return runner.run(ask())
    except TipguardError as error:
        return [Finding("instrument", "fail", str(error))]
    finally:
        port.close()


def check_resistor(config: Config) -> Finding:
    """Say up to which bias the series resistor holds the current limit, and what holds it beyond."""
    ohm, limits = config.rig.series_resistor_ohm, config.limits
    held_v = limits.current_a * ohm
    need = f"limits.voltage_v = {limits.voltage_v:g} V needs {limits.voltage_v / limits.current_a:g} ohm"
    layer = clamp_layer(config, limits.voltage_v)
    if layer.startswith("series resistor: "):
        return Finding("series resistor", "ok", layer.removeprefix("series resistor: "))
    held = f"{ohm:g} ohm hold {limits.current_a:g} A up to {held_v:.3g} V" if ohm else "none"
    if limits.allow_clamp:
        text = f"{held}; beyond with --accept-clamp: {layer}; {need}"
    else:
        text = f"{held}; plans beyond are refused; {need}"
    return Finding("series resistor", "warn", text)


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
    return [held, *check_stage_held(config, status)]


def check_protection(config: Config) -> list[Finding]:
    """Say which layers protect the tip on this rig, and which are missing."""
    return [
        check_resistor(config),
        Finding("SMU compliance", "ok", "set and read back before every output-on; about 30 us"),
        Finding("/OE heartbeat", "warn", "not wired"),
        Finding("front end", "warn", "none"),
        Finding("host guard", "ok", "every sample; cut within a sample plus the line, 20-40 ms at 57600, not measured"),
        Finding("keeper", "ok", "cuts within 150 ms of the worker's death, 250 ms of its hang"),
        Finding("HOST LOSS", "warn", "NOT PROTECTED: HOST LOSS. If this computer stops, nothing cuts the bias"),
    ]


def check_broker(config: Config) -> Finding:
    """Try to reach the broker's port."""
    where = f"{config.uplink.host}:{config.uplink.port}"
    try:
        with socket.create_connection((config.uplink.host, config.uplink.port), timeout=BROKER_TIMEOUT_S):
            return Finding("broker", "ok", f"{where} accepts connections")
    except OSError as error:
        reason = error.strerror or str(error)
        return Finding("broker", "warn", f"{where}: {reason}; frames wait in the ring until it is there")


def check(config: Config, file: Path) -> list[Finding]:
    """Return all findings, in the order a person would look."""
    findings = [Finding("configuration", "ok", f"{file}: rig {config.rig.id}, kind {config.rig.kind}")]
    ports = check_port(config)
    of_stage = check_stage_port(config)
    findings += [*ports, *of_stage]
    if rundir.controller_runs(rundir.rig_dir(config.rig.id)):
        findings += check_held(config)
    else:
        if not _failed(ports, "port"):
            findings += check_instrument(config)
        if not _failed(of_stage, "stage port"):
            findings += check_stage(config)
    findings += check_protection(config)
    findings.append(check_broker(config))
    return findings


def _failed(findings: list[Finding], what: str) -> bool:
    return any(finding.what == what and finding.grade == "fail" for finding in findings)
