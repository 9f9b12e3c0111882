"""What ``tipguard check`` finds out: file, port, instrument, protection layers, broker. Changes nothing anywhere."""

from __future__ import annotations

import asyncio
import dataclasses
import socket
from pathlib import Path
from typing import Literal

from edge import rundir
from edge.clock import LoopClock
from edge.config import Config
from edge.controller.preflight import clamp_layer
from edge.errors import TipguardError, WrongInstrumentError
from edge.instruments.drivers import make_smu
from edge.instruments.link import Link
from edge.instruments.port import HotSelector, OpenPort, SerialTransport, is_emulated

Grade = Literal["ok", "warn", "fail"]
BROKER_TIMEOUT_S = 1.0


@dataclasses.dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report."""

    what: str
    grade: Grade
    text: str


def check_port(config: Config) -> list[Finding]:
    """Look at the port's name and kind."""
    path = config.ports.smu.path
    try:
        emulated = is_emulated(path)
    except TipguardError as error:
        return [Finding("port", "fail", str(error))]
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
            name = f"{identity.model}, serial {identity.serial_number}, firmware {identity.firmware}"
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


def check_protection(config: Config) -> list[Finding]:
    """Say which layers protect the tip on this rig, and which are missing."""
    volts = config.limits.voltage_v
    held = config.rig.series_resistor_ohm > 0 and volts / config.rig.series_resistor_ohm <= config.limits.current_a
    layer = clamp_layer(config, volts)
    largest = config.limits.current_a * config.rig.series_resistor_ohm
    return [
        Finding(
            "series resistor",
            "ok" if held else "warn",
            layer if held else f"{layer}; without accept_clamp plans are held to {largest:.3g} V",
        ),
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
    findings += check_port(config)
    if rundir.controller_runs(rundir.rig_dir(config.rig.id)):
        findings.append(Finding("instrument", "ok", "held by the running controller; see `tipguard status`"))
    elif not any(finding.what == "port" and finding.grade == "fail" for finding in findings):
        findings += check_instrument(config)
    findings += check_protection(config)
    findings.append(check_broker(config))
    return findings
