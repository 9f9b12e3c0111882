"""The verbs of the bench: ``tipguard hil ...``, also ``python -m hil ...``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

app = typer.Typer(
    help="Hardware in the loop: emulated instruments with a sample at their terminals.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


FLOW = "Flow control in the 2400's RS-232 menu: none or xon-xoff."
SWALLOW = "How long the 2400 loses bytes behind an abort, 0 to 20 ms. Default: the profile's, or 0."
PROFILE = "A rig-profile.json: this rig's 2400, with its times, offsets, noise and identity."
FAULTS = "A fault plan (TOML): faults on the line and in the device; `tipguard hil faults` has the kinds."
CONTROL = "Where a socket appears through which `tipguard hil inject` sets off the plan's faults on demand."
SWAP = "Where a socket appears through which `tipguard hil load` puts another resistor at the terminals."
OE = "Where a socket appears that takes a controller's heartbeat into a monostable at the 2400's /OE line."
OE_REARM = "What lets the output on again once the /OE line switched it off: key (the OUTPUT key) or remote."
FRONTEND = "Where the link to a front end's pseudo-terminal appears: the real firmware, in series with the tip."
FRONTEND_BAUD = "The front end's line in bit/s (115200 to 4000000); 0: USB, bytes take no time."
FRONTEND_HZ = "Samples per second of the front end, 1000 to 100000. Default: 100000, under QEMU 10000."
FRONTEND_NOISE = "Peak of the noise of the front end's converter, in A."
FRONTEND_LATE = "How far a native firmware may fall behind before it trips (OVERRUN), in ms: more on a busy host."
FRONTEND_QEMU = "The front end's firmware runs on a Cortex-M3 under QEMU, and not natively."
PRINT_CMD = "Print the exact command line, with the seed it draws, and end."


def show_command(verb: str, options: DataclassInstance) -> NoReturn:
    """Print how ``verb`` is started with these options, and end."""
    from hil.command_line import command_line
    from hil.errors import BenchOptionError

    try:
        typer.echo(command_line(verb, options))
    except BenchOptionError as error:
        typer.echo(f"tipguard hil {verb}: {error}", err=True)
        raise typer.Exit(2) from error
    raise typer.Exit


@app.callback()
def hil() -> None:
    """Hardware in the loop: emulated instruments with a sample at their terminals."""


@app.command()
def smu(
    link: Annotated[Path, typer.Option(help="Where the link to the pseudo-terminal appears.")],
    baud: Annotated[int, typer.Option(help="Line rate in bit/s (300 to 57600); 0: bytes take no time.")] = 57600,
    terminator: Annotated[str | None, typer.Option(help="End of replies: CR (default), LF, CRLF or LFCR.")] = None,
    load: Annotated[str | None, typer.Option(help="A resistor: ohmic:R in ohm. Default: ohmic:1e7.")] = None,
    site: Annotated[
        str | None,
        typer.Option(help="A switching site: gb, gi or hl, with :U for another median trigger drive in V at 0.1 V/s."),
    ] = None,
    series_ohm: Annotated[float, typer.Option(help="Resistor between terminals and sample, in ohm.")] = 0.0,
    seed: Annotated[int | None, typer.Option(help="Draws site and noise. Default: drawn, and told when ready.")] = None,
    truth: Annotated[Path | None, typer.Option(help="Write the sample's own record here, as JSON lines.")] = None,
    serial_number: Annotated[
        str | None, typer.Option(help="Serial number in the reply to *IDN?. Default: 1304207.")
    ] = None,
    flow: Annotated[str, typer.Option(help=FLOW)] = "none",
    abort_swallow_ms: Annotated[float | None, typer.Option(help=SWALLOW)] = None,
    profile: Annotated[Path | None, typer.Option(help=PROFILE)] = None,
    twin: Annotated[
        str, typer.Option(help="plain: a filament at once and for good; full: growth, reset, cable, source loop.")
    ] = "plain",
    cable_f: Annotated[float, typer.Option(help="Full twin: capacitance of the cable in F.")] = 300e-12,
    transients: Annotated[bool, typer.Option(help="Full twin: spikes at output on/off and range change.")] = False,
    site_fault: Annotated[str | None, typer.Option(help="Full twin: stuck-on or open-tip.")] = None,
    faults: Annotated[Path | None, typer.Option(help=FAULTS)] = None,
    control: Annotated[Path | None, typer.Option(help=CONTROL)] = None,
    swap: Annotated[Path | None, typer.Option(help=SWAP)] = None,
    oe: Annotated[Path | None, typer.Option(help=OE)] = None,
    monostable_ms: Annotated[float, typer.Option(help="Time of the monostable at the /OE line, in ms.")] = 40.0,
    oe_rearm: Annotated[str, typer.Option(help=OE_REARM)] = "key",
    frontend: Annotated[Path | None, typer.Option(help=FRONTEND)] = None,
    frontend_baud: Annotated[int, typer.Option(help=FRONTEND_BAUD)] = 0,
    frontend_hz: Annotated[int | None, typer.Option(help=FRONTEND_HZ)] = None,
    frontend_noise_a: Annotated[float, typer.Option(help=FRONTEND_NOISE)] = 0.0,
    frontend_late_ms: Annotated[int, typer.Option(help=FRONTEND_LATE)] = 5,
    frontend_qemu: Annotated[bool, typer.Option(help=FRONTEND_QEMU)] = False,
    print_cmd: Annotated[bool, typer.Option("--print-cmd", help=PRINT_CMD)] = False,
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
        flow=flow,
        abort_swallow_ms=abort_swallow_ms,
        profile=profile,
        twin=twin,
        cable_f=cable_f,
        transients=transients,
        site_fault=site_fault,
        faults=faults,
        control=control,
        swap=swap,
        oe=oe,
        monostable_ms=monostable_ms,
        oe_rearm=oe_rearm,
        frontend=frontend,
        frontend_baud=frontend_baud,
        frontend_hz=frontend_hz,
        frontend_noise_a=frontend_noise_a,
        frontend_late_ms=frontend_late_ms,
        frontend_qemu=frontend_qemu,
    )
    if print_cmd:
        show_command("smu", options)
    raise typer.Exit(serve_smu(options))


@app.command()
def stage(
    link: Annotated[Path, typer.Option(help="Where the link to the pseudo-terminal appears.")],
    model: Annotated[
        str, typer.Option(help="e727: piezos, absolute sensors, um; c863: motors, FRF before the first MOV, mm.")
    ] = "e727",
    axes: Annotated[
        str | None,
        typer.Option(help="Names of the axes; the last one carries the tip up and down. Default: 1,2,3 (c863: 1)."),
    ] = None,
    travel_um: Annotated[
        float | None, typer.Option(help="Every axis runs from 0 to this, in um. Default: 100 (c863: 15000).")
    ] = None,
    velocity_um_s: Annotated[
        float | None, typer.Option(help="Velocity of every axis, in um/s. Default: 200 (c863: 1000).")
    ] = None,
    referencing: Annotated[
        str | None, typer.Option(help="absolute (ATZ), or required (FRF, FNL, FPL, POS). Default: the model's.")
    ] = None,
    unit: Annotated[str | None, typer.Option(help="Unit on the wire: um or mm. Default: the model's.")] = None,
    numbers: Annotated[str | None, typer.Option(help="Numbers in replies: fixed or exponent. Default: fixed.")] = None,
    servo_on: Annotated[bool, typer.Option(help="Servos closed at power-on, or open.")] = False,
    identity: Annotated[
        str | None, typer.Option(help="Reply to *IDN?: a model's name, or four fields with commas between.")
    ] = None,
    analog_inputs: Annotated[
        int | None, typer.Option(help="Inputs of TAV?, 0 to 16; with 0 it is unknown. Default: 4.")
    ] = None,
    autozero_s: Annotated[float | None, typer.Option(help="How long ATZ takes, in s. Default: 3.")] = None,
    baud: Annotated[int, typer.Option(help="Line rate in bit/s (9600 to 460800); 0: bytes take no time.")] = 115200,
    seed: Annotated[int | None, typer.Option(help="Makes noise and creep. Default: drawn, told when ready.")] = None,
    truth: Annotated[Path | None, typer.Option(help="Write the stage's own record here, as JSON lines.")] = None,
    command_map: Annotated[
        Path | None, typer.Option(help="Speak the vocabulary in this file, and not GCS 2.0; docs/stage.md.")
    ] = None,
    faults: Annotated[Path | None, typer.Option(help=FAULTS)] = None,
    control: Annotated[Path | None, typer.Option(help=CONTROL)] = None,
    print_cmd: Annotated[bool, typer.Option("--print-cmd", help=PRINT_CMD)] = False,
) -> None:
    """Serve an emulated PI stage controller (GCS 2.0) on a pseudo-terminal until SIGTERM.

    Prints one JSON line when a client can connect: {"ready": true, "link", "pid", "seed", "axes", "surface_um"}.
    """
    from hil.stage import StageOptions, serve_stage

    options = StageOptions(
        link=link,
        model=model,
        axes=axes,
        travel_um=travel_um,
        velocity_um_s=velocity_um_s,
        referencing=referencing,
        unit=unit,
        numbers=numbers,
        servo_on=servo_on,
        identity=identity,
        analog_inputs=analog_inputs,
        autozero_s=autozero_s,
        command_map=command_map,
        baud=baud,
        seed=seed,
        truth=truth,
        faults=faults,
        control=control,
    )
    if print_cmd:
        show_command("stage", options)
    raise typer.Exit(serve_stage(options))


@app.command()
def rig(
    smu_link: Annotated[Path, typer.Option(help="Where the link to the 2400's pseudo-terminal appears.")],
    stage_link: Annotated[Path, typer.Option(help="Where the link to the stage's pseudo-terminal appears.")],
    baud: Annotated[int, typer.Option(help="The 2400's line in bit/s (300 to 57600); 0: bytes take no time.")] = 57600,
    stage_baud: Annotated[
        int, typer.Option(help="The stage's line in bit/s (9600 to 460800); 0: bytes take no time.")
    ] = 115200,
    terminator: Annotated[
        str | None, typer.Option(help="End of the 2400's replies: CR (default), LF, CRLF or LFCR.")
    ] = None,
    serial_number: Annotated[str | None, typer.Option(help="The 2400's serial number. Default: 1304207.")] = None,
    flow: Annotated[str, typer.Option(help=FLOW)] = "none",
    abort_swallow_ms: Annotated[float | None, typer.Option(help=SWALLOW)] = None,
    profile: Annotated[Path | None, typer.Option(help=PROFILE)] = None,
    stage_serial_number: Annotated[str, typer.Option(help="The stage controller's serial number.")] = "0119024343",
    series_ohm: Annotated[float, typer.Option(help="Resistor between terminals and tip, in ohm.")] = 0.0,
    cable_f: Annotated[float, typer.Option(help="Capacitance of the cable in F.")] = 300e-12,
    transients: Annotated[bool, typer.Option(help="Spikes at output on/off and range change.")] = False,
    seed: Annotated[
        int | None, typer.Option(help="Makes sample, noise and creep. Default: drawn, and told when ready.")
    ] = None,
    xi_nm: Annotated[
        float, typer.Option(help="How far from a boundary the trigger drive decays to 1/e, in nm.")
    ] = 25.0,
    placement_sd_nm: Annotated[float, typer.Option(help="Placement error of a landing (sd in x and y), in nm.")] = 0.0,
    drift_nm_s: Annotated[str, typer.Option(help="Drift of the sample under the stage: X,Y in nm/s.")] = "0,0",
    layer: Annotated[
        list[str] | None, typer.Option(help="A homogenising layer: x0,y0,x1,y1 in um. May be given again.")
    ] = None,
    stuck_on: Annotated[
        list[str] | None, typer.Option(help="Spots there are 100 ohm for good: x0,y0,x1,y1 in um. May be given again.")
    ] = None,
    bridged: Annotated[
        list[str] | None,
        typer.Option(help="Spots there have a filament from the start: x0,y0,x1,y1 in um. May be given again."),
    ] = None,
    open_tip: Annotated[bool, typer.Option(help="The tip has lost its coating: deflection, but no current.")] = False,
    stage_axes: Annotated[str, typer.Option(help="Names of the axes x, y and z.")] = "1,2,3",
    travel_um: Annotated[float, typer.Option(help="Every axis runs from 0 to this, in um.")] = 100.0,
    velocity_um_s: Annotated[float, typer.Option(help="Velocity of every axis, in um/s.")] = 200.0,
    surface_um: Annotated[float, typer.Option(help="z at which the tip touches the sample, in um.")] = 50.0,
    towards: Annotated[str, typer.Option(help="Which way z brings tip and sample together: + or -.")] = "+",
    start_um: Annotated[
        str | None,
        typer.Option(help="x,y,z at power-on, in um. Default: mid-travel, and 0.5 um above the surface."),
    ] = None,
    servo_on: Annotated[bool, typer.Option(help="Servos closed at power-on, or open.")] = True,
    stage_command_map: Annotated[
        Path | None, typer.Option(help="The stage speaks the vocabulary in this file, and not GCS 2.0.")
    ] = None,
    truth: Annotated[Path | None, typer.Option(help="Write the tip's own record here, as JSON lines.")] = None,
    faults: Annotated[Path | None, typer.Option(help=FAULTS)] = None,
    control: Annotated[Path | None, typer.Option(help=CONTROL)] = None,
    oe: Annotated[Path | None, typer.Option(help=OE)] = None,
    monostable_ms: Annotated[float, typer.Option(help="Time of the monostable at the /OE line, in ms.")] = 40.0,
    oe_rearm: Annotated[str, typer.Option(help=OE_REARM)] = "key",
    frontend: Annotated[Path | None, typer.Option(help=FRONTEND)] = None,
    frontend_baud: Annotated[int, typer.Option(help=FRONTEND_BAUD)] = 0,
    frontend_hz: Annotated[int | None, typer.Option(help=FRONTEND_HZ)] = None,
    frontend_noise_a: Annotated[float, typer.Option(help=FRONTEND_NOISE)] = 0.0,
    frontend_late_ms: Annotated[int, typer.Option(help=FRONTEND_LATE)] = 5,
    frontend_qemu: Annotated[bool, typer.Option(help=FRONTEND_QEMU)] = False,
    print_cmd: Annotated[bool, typer.Option("--print-cmd", help=PRINT_CMD)] = False,
) -> None:
    """Serve an emulated 2400 and an emulated PI stage around one tip on a sample, each on a pseudo-terminal.

    Until SIGTERM. Prints one JSON line when clients can connect: {"ready": true, "smu_link", "stage_link", "pid",
    "seed", "surface_um", "axes", "start_um", "contact_load_nn", "contact_area_nm2", "mean_pressure_gpa", "warning"}.
    """
    from hil.bench_rig import RigOptions, serve_rig

    options = RigOptions(
        smu_link=smu_link,
        stage_link=stage_link,
        baud=baud,
        stage_baud=stage_baud,
        terminator=terminator,
        serial_number=serial_number,
        flow=flow,
        abort_swallow_ms=abort_swallow_ms,
        profile=profile,
        stage_serial_number=stage_serial_number,
        series_ohm=series_ohm,
        cable_f=cable_f,
        transients=transients,
        seed=seed,
        xi_nm=xi_nm,
        placement_sd_nm=placement_sd_nm,
        drift_nm_s=drift_nm_s,
        layer=tuple(layer or ()),
        stuck_on=tuple(stuck_on or ()),
        bridged=tuple(bridged or ()),
        open_tip=open_tip,
        stage_axes=stage_axes,
        travel_um=travel_um,
        velocity_um_s=velocity_um_s,
        surface_um=surface_um,
        towards=towards,
        start_um=start_um,
        servo_on=servo_on,
        stage_command_map=stage_command_map,
        truth=truth,
        faults=faults,
        control=control,
        oe=oe,
        monostable_ms=monostable_ms,
        oe_rearm=oe_rearm,
        frontend=frontend,
        frontend_baud=frontend_baud,
        frontend_hz=frontend_hz,
        frontend_noise_a=frontend_noise_a,
        frontend_late_ms=frontend_late_ms,
        frontend_qemu=frontend_qemu,
    )
    if print_cmd:
        show_command("rig", options)
    raise typer.Exit(serve_rig(options))


@app.command()
def frontend(
    link: Annotated[Path, typer.Option(help="Where the link to the pseudo-terminal appears.")],
    baud: Annotated[int, typer.Option(help=FRONTEND_BAUD)] = 0,
    hz: Annotated[int | None, typer.Option(help=FRONTEND_HZ)] = None,
    noise_a: Annotated[float, typer.Option(help=FRONTEND_NOISE)] = 0.0,
    late_ms: Annotated[int, typer.Option(help=FRONTEND_LATE)] = 5,
    qemu: Annotated[bool, typer.Option(help=FRONTEND_QEMU)] = False,
    load: Annotated[str | None, typer.Option(help="A resistor: ohmic:R in ohm. Default: ohmic:1e7.")] = None,
    site: Annotated[str | None, typer.Option(help="A switching site, as for `tipguard hil smu`.")] = None,
    series_ohm: Annotated[float, typer.Option(help="Resistor between terminals and sample, in ohm.")] = 0.0,
    bias_v: Annotated[float, typer.Option(help="Level of the source at the terminals, in V.")] = 0.0,
    limit_a: Annotated[float, typer.Option(help="Current clamp of that source, in A.")] = 1e-3,
    seed: Annotated[int | None, typer.Option(help="Draws site, noise and boot nonces. Default: drawn.")] = None,
    truth: Annotated[Path | None, typer.Option(help="Write the sample's own record here, as JSON lines.")] = None,
    faults: Annotated[Path | None, typer.Option(help=FAULTS)] = None,
    control: Annotated[Path | None, typer.Option(help=CONTROL)] = None,
    print_cmd: Annotated[bool, typer.Option("--print-cmd", help=PRINT_CMD)] = False,
) -> None:
    """Serve the real firmware of a front end in series with a sample, on a pseudo-terminal until SIGTERM.

    Prints one JSON line when a client can connect: {"ready": true, "frontend", "pid", "seed", "u_median_v",
    "firmware_pid", "board", "sample_hz", "code_pa"}.
    """
    from hil.frontend.served import FrontendOptions, serve_frontend

    options = FrontendOptions(
        link=link,
        baud=baud,
        hz=hz,
        noise_a=noise_a,
        late_ms=late_ms,
        qemu=qemu,
        load=load,
        site=site,
        series_ohm=series_ohm,
        bias_v=bias_v,
        limit_a=limit_a,
        seed=seed,
        truth=truth,
        faults=faults,
        control=control,
    )
    if print_cmd:
        show_command("frontend", options)
    raise typer.Exit(serve_frontend(options))


@app.command()
def load(
    swap: Annotated[Path, typer.Option(help="The socket that `tipguard hil smu` was given as --swap.")],
    resistor: Annotated[str, typer.Argument(help="ohmic:R in ohm, or open.")],
) -> None:
    """Put another resistor at the terminals of a served 2400, as a person's hands would."""
    from hil.swap import swap_verb

    raise typer.Exit(swap_verb(swap, resistor))


@app.command("faults")
def fault_kinds(
    check: Annotated[Path | None, typer.Argument(help="A fault plan to check. Default: print every kind.")] = None,
) -> None:
    """Print every kind of fault with its parameters, or check a plan and print its faults as JSON lines."""
    from hil.faults import verbs

    raise typer.Exit(verbs.print_kinds() if check is None else verbs.check_plan(check))


@app.command()
def inject(
    control: Annotated[Path, typer.Option(help="The socket that a server was given as --control.")],
    name: Annotated[list[str] | None, typer.Argument(help="Faults whose trigger is on_demand.")] = None,
    listed: Annotated[bool, typer.Option("--list", help="Print the faults on demand, and what was applied.")] = False,
) -> None:
    """Set off faults of a running server's plan; its own lines say when they took effect."""
    from hil.faults import verbs

    raise typer.Exit(verbs.inject(control, name or [], listed=listed))


@app.command()
def scenario(
    name: Annotated[list[str] | None, typer.Argument(help="Names of scenarios, .toml files, or all.")] = None,
    report: Annotated[
        Path | None, typer.Option(help="Write an HTML page with the trace around each fault here.")
    ] = Path("scenarios.html"),
    no_report: Annotated[bool, typer.Option("--no-report", help="Write no page.")] = False,
    seed: Annotated[int | None, typer.Option(help="Another seed than the scenario's own.")] = None,
    listed: Annotated[bool, typer.Option("--list", help="Print names and titles, run nothing.")] = False,
) -> None:
    """Run fault scenarios against the controller as shipped; one JSON line each, exit 1 if one did not hold."""
    from hil.scenarios import verb

    if listed:
        raise typer.Exit(verb.list_scenarios())
    if not name:
        raise typer.BadParameter("name a scenario, or all; --list names them")
    raise typer.Exit(verb.run_scenarios(name, seed=seed, report=None if no_report else report))
