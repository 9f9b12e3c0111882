"""``tipguard hil smu``: an emulated Keithley 2400 with a sample at its terminals, served on a pseudo-terminal."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from hil.devices.keithley2400 import Keithley2400
from hil.errors import BenchOptionError
from hil.options import check_baud, check_serial_number, seed_of
from hil.serving import serve_device
from hil.twin.circuit import Circuit
from hil.twin.spec import FullSiteSpec, OhmicSpec, SiteSpec, full_site, parse_load, parse_site
from hil.twin.truth import TruthRecord

BAUDS: Final = (0, 300, 600, 1200, 2400, 4800, 9600, 19200, 38400, 57600)
"""What the 2400 can be set to (User's Manual 14-13), and 0: bytes take no time."""

TERMINATORS: Final = {"CR": b"\r", "LF": b"\n", "CRLF": b"\r\n", "LFCR": b"\n\r"}
"""What the 2400 can end its replies with (User's Manual 14-13 to 14-17)."""

TWINS: Final = ("plain", "full")
"""A filament that is there at once and stays, behind an ideal source; or all of the twin's physics."""

DEFAULT_LOAD: Final = "ohmic:1e7"
"""10 Mohm: 1 uA at 10 V, which no limit minds."""


@dataclass(frozen=True, slots=True)
class SmuOptions:
    """What the command line says; values are checked by :func:`serve_smu`.

    ``load`` (``ohmic:R``) and ``site`` (``gb|gi|hl[:U_MEDIAN_V]``) exclude each other; with neither, the load is
    :data:`DEFAULT_LOAD`. ``seed`` (0 to 2**32 - 1) draws the site and the noise; None draws a seed, which the ready
    line tells. ``series_ohm`` sits between terminals and sample, in ohm. ``twin`` is one of :data:`TWINS`; the full one
    has a cable of ``cable_f`` farad (1e-12 to 1e-7), ``transients`` at output on/off and range change, and a
    ``site_fault`` (stuck-on, open-tip) if asked.
    """

    link: Path
    baud: int = 57600
    terminator: str = "CR"
    load: str | None = None
    site: str | None = None
    series_ohm: float = 0.0
    seed: int | None = None
    truth: Path | None = None
    serial_number: str = "1304207"
    twin: str = "plain"
    cable_f: float = Circuit().cable_f
    transients: bool = False
    site_fault: str | None = None


def serve_smu(options: SmuOptions) -> int:
    """Serve until SIGTERM or SIGINT; return the exit code. Call it from the main thread.

    Prints one JSON line ``{"ready": true, "link", "pid", "seed", "u_median_v"}`` once a client can connect
    (``u_median_v`` is null for a load that does not trigger). At the end the summary is in the truth record and the
    link is gone: 0. Options that cannot be served are told in one line on stderr: 2.
    """
    try:
        _serve(options)
    except BenchOptionError as error:
        print(f"tipguard hil smu: {error}", file=sys.stderr)
        return 2
    return 0


def _serve(options: SmuOptions) -> None:
    spec, seed, terminator = _check(options)
    truth = TruthRecord(options.truth)
    load = spec.build(series_ohm=options.series_ohm, seed=seed, truth=truth)
    device = Keithley2400(load, serial_number=options.serial_number, terminator=terminator, seed=seed)
    ready = {"seed": seed, "u_median_v": spec.u_median_v}
    serve_device(device, options.link, options.baud, truth=truth, ready=ready, close=load.close)


def check_unit(baud: int, terminator: str, serial_number: str) -> bytes:
    """Return what ends a 2400's replies; raises BenchOptionError for what no 2400 can be set to."""
    check_baud("--baud", baud, BAUDS, "a 2400 knows")
    end = TERMINATORS.get(terminator.upper())
    if end is None:
        raise BenchOptionError(f"--terminator {terminator}: want one of {', '.join(TERMINATORS)}")
    check_serial_number("--serial-number", serial_number)
    return end


def _check(options: SmuOptions) -> tuple[OhmicSpec | SiteSpec | FullSiteSpec, int, bytes]:
    terminator = check_unit(options.baud, options.terminator, options.serial_number)
    seed = seed_of(options.seed)
    if options.load is not None and options.site is not None:
        raise BenchOptionError("--load and --site: only one sample fits the terminals; leave one out")
    if options.twin not in TWINS:
        raise BenchOptionError(f"--twin {options.twin}: want one of {', '.join(TWINS)}")
    if options.site is not None:
        return _site(options, parse_site(options.site)), seed, terminator
    if options.twin == "full":
        raise BenchOptionError("--twin full: a resistor has nothing more to show; name a --site")
    return parse_load(DEFAULT_LOAD if options.load is None else options.load), seed, terminator


def _site(options: SmuOptions, plain: SiteSpec) -> SiteSpec | FullSiteSpec:
    if options.twin == "full":
        transients, fault = options.transients, options.site_fault
        return full_site(plain, cable_f=options.cable_f, transients=transients, fault=fault)
    if options.transients or options.site_fault is not None or options.cable_f != Circuit().cable_f:
        raise BenchOptionError("--cable-f, --transients and --site-fault: only --twin full has them")
    return plain
