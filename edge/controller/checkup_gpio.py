"""The heartbeat in ``tipguard check``: whether its lines can be had, and what the running controller saw of it."""

from __future__ import annotations

from typing import Any

from edge.config import Config
from edge.controller.findings import Finding
from edge.errors import TipguardError
from edge.instruments.gpio_lines import is_emulated, why_not
from edge.instruments.port import is_emulated as port_is_emulated

CHIP = "gpio chip"
LINE = "output enable line"


def check_gpio(config: Config) -> list[Finding]:
    """Look at the chip's name and kind; opens nothing. Empty on a rig without a heartbeat."""
    gpio = config.gpio
    if gpio is None:
        return []
    try:
        port_emulated = port_is_emulated(config.ports.smu.path)
    except TipguardError:
        # Told where the port is looked at; a chip of its own is judged all the same.
        port_emulated = is_emulated(gpio.chip)
    if why := why_not(gpio, port_emulated=port_emulated):
        return [Finding(CHIP, "fail", f"{gpio.chip}: {why}; the output cannot be switched on (docs/gpio.md)")]
    kind = "the socket of an emulated bench" if is_emulated(gpio.chip) else f"line {gpio.heartbeat_line} is taken later"
    return [Finding(CHIP, "ok", f"{gpio.chip}: {kind}")]


def check_gpio_held(status: dict[str, Any]) -> list[Finding]:
    """Say what the running controller knows of the line."""
    gpio = status.get("gpio")
    if not isinstance(gpio, dict):
        return []
    if gpio.get("lost"):
        return [Finding(LINE, "fail", f"no beat goes out: {gpio['lost']} (docs/gpio.md)")]
    if gpio.get("key_awaited"):
        return [Finding(LINE, "warn", "it has switched the output off, and the instrument wants its OUTPUT key")]
    if not gpio.get("proven"):
        return [Finding(LINE, "ok", "not tried yet in this controller's life: that comes before the first output-on")]
    return [Finding(LINE, "ok", "silence was seen to open it in this controller's life")]
