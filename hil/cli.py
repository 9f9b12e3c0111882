"""The verbs of the bench: ``tipguard hil ...``, also ``python -m hil ...``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    help="Hardware in the loop: emulated instruments with a sample at their terminals.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.callback()
def hil() -> None:
    """Hardware in the loop: emulated instruments with a sample at their terminals."""


@app.command()
def smu(
    link: Annotated[Path, typer.Option(help="Where the link to the pseudo-terminal appears.")],
    baud: Annotated[int, typer.Option(help="Line rate in bit/s (300 to 57600); 0: bytes take no time.")] = 57600,
    terminator: Annotated[str, typer.Option(help="End of replies: CR, LF, CRLF or LFCR.")] = "CR",
    load: Annotated[str | None, typer.Option(help="A resistor: ohmic:R in ohm. Default: ohmic:1e7.")] = None,
    site: Annotated[
        str | None,
        typer.Option(help="A switching site: gb, gi or hl, with :U for another median trigger drive in V at 0.1 V/s."),
    ] = None,
    series_ohm: Annotated[float, typer.Option(help="Resistor between terminals and sample, in ohm.")] = 0.0,
    seed: Annotated[int | None, typer.Option(help="Draws site and noise. Default: drawn, and told when ready.")] = None,
    truth: Annotated[Path | None, typer.Option(help="Write the sample's own record here, as JSON lines.")] = None,
    serial_number: Annotated[str, typer.Option(help="Serial number in the reply to *IDN?.")] = "1304207",
    twin: Annotated[
        str, typer.Option(help="plain: a filament at once and for good; full: growth, reset, cable, source loop.")
    ] = "plain",
    cable_f: Annotated[float, typer.Option(help="Full twin: capacitance of the cable in F.")] = 300e-12,
    transients: Annotated[bool, typer.Option(help="Full twin: spikes at output on/off and range change.")] = False,
    site_fault: Annotated[str | None, typer.Option(help="Full twin: stuck-on or open-tip.")] = None,
) -> None:
    """Serve an emulated Keithley 2400 on a pseudo-terminal until SIGTERM.

    Prints one JSON line when a client can connect: {"ready": true, "link", "pid", "seed", "u_median_v"}.
    """
    from hil.smu import SmuOptions, serve_smu

    options = SmuOptions(
        link=link,
        baud=baud,
        terminator=terminator,
        load=load,
        site=site,
        series_ohm=series_ohm,
        seed=seed,
        truth=truth,
        serial_number=serial_number,
        twin=twin,
        cable_f=cable_f,
        transients=transients,
        site_fault=site_fault,
    )
    raise typer.Exit(serve_smu(options))


@app.command()
def stage(
    link: Annotated[Path, typer.Option(help="Where the link to the pseudo-terminal appears.")],
    axes: Annotated[str, typer.Option(help="Names of the axes; the last one carries the tip up and down.")] = "1,2,3",
    travel_um: Annotated[float, typer.Option(help="Every axis runs from 0 to this, in um.")] = 100.0,
    baud: Annotated[int, typer.Option(help="Line rate in bit/s (9600 to 460800); 0: bytes take no time.")] = 115200,
    seed: Annotated[int | None, typer.Option(help="Makes noise and creep. Default: drawn, told when ready.")] = None,
    truth: Annotated[Path | None, typer.Option(help="Write the stage's own record here, as JSON lines.")] = None,
) -> None:
    """Serve an emulated PI stage controller (GCS 2.0) on a pseudo-terminal until SIGTERM.

    Prints one JSON line when a client can connect: {"ready": true, "link", "pid", "seed", "axes", "surface_um"}.
    """
    from hil.stage import StageOptions, serve_stage

    options = StageOptions(link=link, axes=axes, travel_um=travel_um, baud=baud, seed=seed, truth=truth)
    raise typer.Exit(serve_stage(options))
