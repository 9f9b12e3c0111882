"""``tipguard init``: write a commented configuration."""

from __future__ import annotations

from typing import Annotated

import typer

from edge.cli.common import DEFAULT_CONFIG, ConfigArgument, guarded, out
from edge.cli.layout import say
from edge.command_map import load_command_map
from edge.config import load, template
from edge.errors import ConfigError


def init(
    config: ConfigArgument = DEFAULT_CONFIG,
    port: Annotated[
        str, typer.Option(help="serial port of the SMU; on hardware a /dev/serial/by-id name")
    ] = "/dev/serial/by-id/usb-FTDI_CHANGE-ME-if00-port0",
    serial_number: Annotated[str, typer.Option(help="serial number on the SMU's back, as in *IDN?")] = "CHANGE-ME",
    series_ohm: Annotated[float, typer.Option(help="resistor at the tip side, ohm")] = 10_000.0,
    stage_port: Annotated[
        str | None, typer.Option(help="serial port of the stage's controller; on hardware a /dev/serial/by-id name")
    ] = None,
    stage_serial_number: Annotated[
        str | None, typer.Option(help="its serial number, as in *IDN?; needed on hardware")
    ] = None,
    stage_command_map: Annotated[
        str | None,
        typer.Option(help="for a stage that is no PI: file with its vocabulary, relative to the configuration"),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="replace an existing file")] = False,
) -> None:
    """Write a commented configuration file for one rig."""

    def work() -> int:
        if config.exists() and not force:
            raise ConfigError(f"{config}: exists; --force replaces it", file=str(config))
        if stage_serial_number is not None and stage_port is None:
            raise ConfigError("--stage-serial-number needs --stage-port", key="ports.stage.path")
        if stage_command_map is not None and stage_port is None:
            raise ConfigError("--stage-command-map needs --stage-port", key="ports.stage.path")
        beside = config.parent / (stage_command_map or "")
        axes = [] if stage_command_map is None else list(load_command_map(beside).axes)
        text = template(
            path=port,
            serial_number=serial_number,
            series_ohm=series_ohm,
            stage_path=stage_port,
            stage_serial_number=stage_serial_number,
            stage_command_map=stage_command_map,
            stage_axes=axes[:3],
        )
        partial = config.with_name(config.name + ".new")
        try:
            partial.write_text(text, encoding="utf-8")
            # Checked before it takes the place of a file that works.
            load(partial)
            partial.replace(config)
        except OSError as error:
            raise ConfigError(f"{config}: {error.strerror}; choose another place", file=str(config)) from error
        except ConfigError as error:
            message = str(error).replace(str(partial), str(config))
            raise ConfigError(f"{message}; nothing was written", file=str(config), key=error.key) from error
        finally:
            partial.unlink(missing_ok=True)
        say(out, f"wrote {config}")
        first = "put the port and the serial number into it, then " if "CHANGE-ME" in text else ""
        say(out, f"next: {first}`tipguard check {config}`")
        return 0

    guarded(work)
