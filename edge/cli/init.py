"""``tipguard init``: write a commented configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edge.cli.common import DEFAULT_CONFIG, ConfigArgument, guarded, out
from edge.config import load, template
from edge.errors import ConfigError


def init(
    config: ConfigArgument = DEFAULT_CONFIG,
    port: Annotated[
        str, typer.Option(help="serial port of the SMU; on hardware a /dev/serial/by-id name")
    ] = "/dev/serial/by-id/usb-FTDI_CHANGE-ME-if00-port0",
    serial_number: Annotated[str, typer.Option(help="serial number on the SMU's back, as in *IDN?")] = "CHANGE-ME",
    series_ohm: Annotated[float, typer.Option(help="resistor at the tip side, ohm")] = 10_000.0,
    force: Annotated[bool, typer.Option("--force", help="replace an existing file")] = False,
) -> None:
    """Write a commented configuration file for one rig."""

    def work() -> int:
        if config.exists() and not force:
            raise ConfigError(f"{config}: exists; --force replaces it", file=str(config))
        text = template(path=port, serial_number=serial_number, series_ohm=series_ohm)
        try:
            Path(config).write_text(text, encoding="utf-8")
        except OSError as error:
            raise ConfigError(f"{config}: {error.strerror}; choose another place", file=str(config)) from error
        load(config)
        out.print(f"wrote {config}", markup=False)
        if "CHANGE-ME" in text:
            out.print("next: put in the port and the serial number, then `tipguard check`", markup=False)
        return 0

    guarded(work)
