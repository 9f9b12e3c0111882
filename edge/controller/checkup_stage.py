"""What ``tipguard check`` finds out about a stage and its contact signal. Only asks: nothing moves, nothing is set.

One of the questions is ``ERR?``, which forgets the error that it tells.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, Final

from edge.clock import LoopClock
from edge.config import Config, StageConfig
from edge.controller.findings import Finding
from edge.errors import ReplyTimeoutError, TipguardError, WrongInstrumentError
from edge.instruments.drivers import make_stage
from edge.instruments.port import OpenPort, SerialTransport, is_emulated
from edge.instruments.stage import Contact, Remarking, Stage

SERVO_OFF: Final = "a servo is off: nothing moves, and the output stays off; switch it on with the maker's software"


def check_stage_port(config: Config) -> list[Finding]:
    """Look at the port's name and kind, and at what real hardware needs besides."""
    port = config.ports.stage
    if port is None:
        return []
    try:
        emulated = is_emulated(port.path)
    except TipguardError as error:
        return [Finding("stage port", "fail", _about(error))]
    # Questions to a stage would be errors in the queue of a source-measure unit.
    if Path(port.path).resolve() == Path(config.ports.smu.path).resolve():
        return [Finding("stage port", "fail", f"{port.path}: is the port of ports.smu too; each has its own")]
    if emulated:
        return [Finding("stage port", "ok", f"{port.path}: a pseudo-terminal, an emulated stage")]
    if port.path.startswith("/dev/serial/by-id/"):
        findings = [Finding("stage port", "ok", port.path)]
    else:
        text = f"{port.path}: use a /dev/serial/by-id name; ttyUSB numbers change when plugged again"
        findings = [Finding("stage port", "fail", text)]
    if config.stage.serial_number is None:
        text = "stage.serial_number is missing; on hardware it has to be there, as in *IDN?"
        findings.append(Finding("stage", "fail", text))
    return findings


def check_stage(config: Config) -> list[Finding]:
    """Ask who is behind the port, where the axes are, and what the deflection signal says."""
    settings = config.ports.stage
    if settings is None:
        return []
    try:
        port = OpenPort(settings.path, settings.baud)
    except TipguardError as error:
        return [Finding("stage", "fail", _about(error))]

    async def ask() -> list[Finding]:
        transport = SerialTransport(
            port.fileno(), name=settings.path, baud=settings.baud, emulated=port.emulated, selector=None
        )
        try:
            stage, contact = make_stage(transport, LoopClock(), config)
            return await look(stage, contact, config.stage, config.contact.threshold_v)
        finally:
            transport.close()

    try:
        return asyncio.run(ask())
    except TipguardError as error:
        return [Finding("stage", "fail", _about(error))]
    finally:
        port.close()


async def look(stage: Stage, contact: Contact, settings: StageConfig, threshold_v: float) -> list[Finding]:
    """Return what a stage and its contact signal say. Raises InstrumentError or LinkLostError."""
    identity = await stage.start()
    if settings.serial_number is not None and identity.serial_number != settings.serial_number:
        raise WrongInstrumentError(
            f"serial number {identity.serial_number!r} ({identity.model}) answers, stage.serial_number is "
            f"{settings.serial_number!r}; check the cable, or correct the configuration"
        )
    name = f"{identity.model}, serial {identity.serial_number}, firmware {' '.join(identity.firmware.split())}"
    findings = [Finding("stage", "ok", name)]
    missing = [axis for axis in (settings.x, settings.y, settings.z) if axis not in stage.axes]
    if missing:
        text = f"it has {', '.join(stage.axes)}, and no {', '.join(missing)}; correct stage.x, stage.y, stage.z"
        return [*findings, Finding("axes", "fail", text)]
    if isinstance(stage, Remarking):
        findings += [Finding("stage", "warn", remark) for remark in stage.remarks]
    return [*findings, await _axes(stage, settings), await _servo(stage), await _signal(contact, threshold_v)]


async def _axes(stage: Stage, settings: StageConfig) -> Finding:
    here_m = await stage.position()
    told = []
    for what, name in (("x", settings.x), ("y", settings.y), ("z", settings.z)):
        axis = stage.axes[name]
        told.append(f"{what} ({name}) at {here_m[name] * 1e6:.3f} of {axis.low_m * 1e6:g} to {axis.high_m * 1e6:g} um")
    return Finding("axes", "ok", ", ".join(told))


async def _servo(stage: Stage) -> Finding:
    status = await stage.status()
    if not status.servo_on:
        return Finding("servo", "fail", SERVO_OFF)
    if status.moving or not status.on_target:
        return Finding("servo", "warn", "on; the stage moves or is not on target, and the output stays off meanwhile")
    return Finding("servo", "ok", "on, on target")


async def _signal(contact: Contact, threshold_v: float) -> Finding:
    try:
        signal_v = await contact.signal_v()
        touching = await contact.in_contact()
    except ReplyTimeoutError as error:
        return Finding("contact", "fail", f"{error} Or there is no such input, see contact.channel")
    except TipguardError as error:
        return Finding("contact", "fail", str(error))
    says = "contact" if touching else "no contact"
    return Finding("contact", "ok", f"deflection {signal_v:.3f} V, contact.threshold_v = {threshold_v:g} V: {says}")


def check_stage_held(config: Config, status: dict[str, Any]) -> list[Finding]:
    """Say what the running controller knows of the stage that it holds."""
    if config.ports.stage is None:
        return []
    stage = status.get("stage")
    if not isinstance(stage, dict) or not stage.get("ready"):
        why = status.get("alarm") or "it has not answered"
        return [Finding("stage", "fail", f"held by the running controller, not ready: {why}")]
    findings = [Finding("stage", "ok", f"{stage.get('model')}, held by the running controller; see `tipguard status`")]
    if stage.get("servo_on") is False:
        findings.append(Finding("servo", "fail", SERVO_OFF))
    return findings


def _about(error: TipguardError) -> str:
    # The port's own messages speak of the first port of a rig.
    return str(error).removeprefix("port ").replace("ports.smu.path", "ports.stage.path")
