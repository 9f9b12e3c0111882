"""Which layers protect the tip on a rig, fastest first, and which are missing; a part of ``tipguard check``."""

from __future__ import annotations

import math
from typing import Final

from edge.config import Config
from edge.controller.checkup_gpio import CHIP, check_gpio
from edge.controller.envelopes import OE_S, Protection
from edge.controller.findings import Finding, ProtectionLayer
from edge.controller.preflight import clamp_layer
from edge.guard.envelope import CLAMP_S

DEATH_S: Final = 0.150
"""The keeper's bound after the worker's death."""
HOST_LOSS: Final = "HOST LOSS"
FRONT_END: Final = "front end"


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


def check_protection(config: Config, found: Protection | None) -> list[ProtectionLayer]:
    """Return every layer there could be; ``found`` is the rig's envelope, None where it has none."""
    resistor = check_resistor(config)
    clamp = Finding("SMU compliance", "ok", "set and read back before every output-on; about 30 us")
    keeper = Finding("keeper", "ok", "cuts within 150 ms of the worker's death, 250 ms of its hang")
    layers = [
        ProtectionLayer(resistor, 0.0 if config.rig.series_resistor_ohm else None),
        ProtectionLayer(clamp, CLAMP_S),
        _heartbeat(config),
        _guard(found),
        ProtectionLayer(keeper, DEATH_S),
    ]
    front = _front_end(config, found)
    layers.insert(_place(layers, front), front)
    return [*layers, _host_loss(config, found)]


def _place(layers: list[ProtectionLayer], front: ProtectionLayer) -> int:
    """Return where a front end stands among the others: by its time, and without one before the guard."""
    if front.acts_within_s is None:
        return len(layers) - 2
    slower = (i for i, one in enumerate(layers) if (one.acts_within_s or 0.0) > front.acts_within_s)
    return next(slower, len(layers))


def _front_end(config: Config, found: Protection | None) -> ProtectionLayer:
    if config.frontend is None:
        return ProtectionLayer(Finding(FRONT_END, "warn", "none"), None)
    if found is None or found.front is None:
        return ProtectionLayer(Finding(FRONT_END, "warn", "did not say what it is: nothing is promised of it"), None)
    front = found.front
    text = (
        f"trips by itself: one sample at {front.device.sample_hz / 1e3:g} kS/s, {front.tests.hard_a:g} A; opens "
        f"when its lease of {front.lease_s * 1e3:g} ms is not renewed"
    )
    return ProtectionLayer(Finding(FRONT_END, "ok", text), front.until_open_s)


def _heartbeat(config: Config) -> ProtectionLayer:
    gpio = config.gpio
    if gpio is None:
        return ProtectionLayer(Finding("/OE heartbeat", "warn", "not wired"), None)
    if _unusable(config):
        return ProtectionLayer(Finding("/OE heartbeat", "warn", f"[gpio] cannot be used: see {CHIP}"), None)
    silence_s = gpio.monostable_s + OE_S
    by = f"{gpio.chip}, line {gpio.heartbeat_line}: silence for {gpio.monostable_s * 1e3:g} ms cuts"
    if gpio.clear_line is None:
        return ProtectionLayer(Finding("/OE heartbeat", "ok", f"{by}; no clear line"), silence_s)
    return ProtectionLayer(
        Finding("/OE heartbeat", "ok", f"{by}; line {gpio.clear_line} cuts at once where a cut protects"), OE_S
    )


def _unusable(config: Config) -> bool:
    return any(finding.grade == "fail" for finding in check_gpio(config))


def _guard(found: Protection | None) -> ProtectionLayer:
    if found is None or not found.rows:
        return ProtectionLayer(Finding("host guard", "warn", "no plan that it could guard"), None)
    # A short at the largest bias: seen by one reading, whatever the plan.
    slowest_s = max(row.inputs.pace.until_zero_s(1) for row in found.rows)
    by = "by the data sheet, not measured" if found.measured_utc is None else f"measured {found.measured_utc[:10]}"
    text = (
        f"every reading; 0 V at the latest {math.ceil(slowest_s * 1e3)} ms after a short, at {found.baud} baud ({by})"
    )
    return ProtectionLayer(Finding("host guard", "ok", text), slowest_s)


def _host_loss(config: Config, found: Protection | None) -> ProtectionLayer:
    ends: list[tuple[float, str]] = []
    if config.gpio is not None and not _unusable(config):
        within_s = config.gpio.monostable_s + OE_S
        ends.append((within_s, f"the heartbeat stops too, and the bias is off {within_s * 1e3:.3g} ms later"))
    if found is not None and found.front is not None:
        within_s = found.front.lost.open_after_s
        ends.append(
            (within_s, f"the front end's lease ends, and the path is open {math.ceil(within_s * 1e4) / 10:g} ms later")
        )
    if not ends:
        text = "NOT PROTECTED: HOST LOSS. If this computer stops, nothing cuts the bias"
        return ProtectionLayer(Finding(HOST_LOSS, "warn", text), None)
    ends.sort()
    text = "; besides, ".join(says for _, says in ends)
    return ProtectionLayer(Finding(HOST_LOSS, "ok", f"if this computer stops, {text}"), ends[0][0])
