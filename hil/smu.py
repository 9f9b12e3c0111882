"""``tipguard hil smu``: an emulated Keithley 2400 with a sample at its terminals, served on a pseudo-terminal."""

from __future__ import annotations

import contextlib
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from hil.errors import BenchOptionError
from hil.faults.served import ServedFaults, SmuPlug
from hil.frontend.firmware import MAX_LATE_MS
from hil.frontend.spec import KEY, frontend_spec
from hil.options import seed_of
from hil.output_enable import MONOSTABLE_MS, REARM, enable_spec, served_edges
from hil.serving import Plugged, serve_devices
from hil.swap import Swap
from hil.twin.circuit import Circuit
from hil.twin.ohmic import OhmicLoad
from hil.twin.spec import FullSiteSpec, OhmicSpec, SiteSpec, full_site, parse_load, parse_site
from hil.twin.truth import TruthRecord
from hil.unit import UnitSpec, unit_spec

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
    ``site_fault`` (stuck-on, open-tip) if asked. ``terminator``, ``serial_number``, ``flow``, ``abort_swallow_ms`` and
    ``profile``: see :class:`hil.unit.UnitOptions`. ``faults``: a fault plan; ``control``: where the socket for its
    faults on demand appears.
    ``swap``: where a socket appears through which another resistor is put at the terminals (:mod:`hil.swap`).
    ``oe``: where the socket of a heartbeat appears that holds the output enable line through a monostable of
    ``monostable_ms``; ``oe_rearm`` (key, remote): what lets the output on again after it (:mod:`hil.output_enable`).
    """

    link: Path
    baud: int = 57600
    terminator: str | None = None
    load: str | None = None
    site: str | None = None
    series_ohm: float = 0.0
    seed: int | None = None
    truth: Path | None = None
    serial_number: str | None = None
    flow: str = "none"
    abort_swallow_ms: float | None = None
    profile: Path | None = None
    twin: str = "plain"
    cable_f: float = Circuit().cable_f
    transients: bool = False
    site_fault: str | None = None
    faults: Path | None = None
    control: Path | None = None
    swap: Path | None = None
    oe: Path | None = None
    monostable_ms: float = MONOSTABLE_MS
    oe_rearm: str = REARM
    frontend: Path | None = None
    """Where the link to a front end's pseudo-terminal appears, which is then in series with the tip."""
    frontend_baud: int = 0
    frontend_hz: int | None = None
    frontend_noise_a: float = 0.0
    frontend_late_ms: int = MAX_LATE_MS
    frontend_qemu: bool = False
    """These five as in :class:`hil.frontend.spec.FrontendSpec`."""


def serve_smu(options: SmuOptions) -> int:
    """Serve until SIGTERM or SIGINT; return the exit code. Call it from the main thread.

    Prints one JSON line ``{"ready": true, "link", "pid", "seed", "u_median_v"}`` once a client can connect
    (``u_median_v`` is null for a load that does not trigger). At the end the summary is in the truth record and the
    link is gone: 0, or 1 if a fault of ``faults`` was never applied. Options that cannot be
    served are told in one line on stderr: 2.
    """
    try:
        return _serve(options)
    except BenchOptionError as error:
        print(f"tipguard hil smu: {error}", file=sys.stderr)
        return 2


def _serve(options: SmuOptions) -> int:
    spec, seed, unit = _check(options)
    truth = TruthRecord(options.truth)
    load = spec.build(series_ohm=options.series_ohm, seed=seed, truth=truth)
    enable = enable_spec(options)
    wanted = frontend_spec(options)
    device = unit.build(load, seed=seed, oe_rearm=enable.rearm)
    line = enable.plug(device)
    ready: dict[str, object] = {"seed": seed, "u_median_v": spec.u_median_v}
    plugged = {"link": Plugged(device if line is None else line, options.link, options.baud)}
    with contextlib.ExitStack() as stack:
        also = served_edges(enable, line, stack)
        if options.swap is not None:
            also = (*also, stack.enter_context(_swap(options.swap, load)))
        front = None if wanted is None else wanted.open(load, seed=seed, stack=stack)
        if front is not None:
            plugged[KEY] = front.plugged
            ready |= front.ready()
            also = (*also, front.device)
        faults = ServedFaults(
            options.faults,
            options.control,
            smu=SmuPlug("link", device, load),
            frontend=None if front is None else front.plug,
        )
        serve_devices(plugged, truth=truth, ready=ready, close=load.close, faults=faults, also=also)
    return faults.verdict("smu")


def _swap(path: Path, load: object) -> Swap:
    if not isinstance(load, OhmicLoad):
        raise BenchOptionError(f"--swap {path}: only a resistor can be swapped; name it with --load")
    return Swap(path, load)


def _check(options: SmuOptions) -> tuple[OhmicSpec | SiteSpec | FullSiteSpec, int, UnitSpec]:
    unit = unit_spec(options)
    seed = seed_of(options.seed)
    if options.load is not None and options.site is not None:
        raise BenchOptionError("--load and --site: only one sample fits the terminals; leave one out")
    if options.twin not in TWINS:
        raise BenchOptionError(f"--twin {options.twin}: want one of {', '.join(TWINS)}")
    if options.site is not None:
        return _site(options, parse_site(options.site)), seed, unit
    if options.twin == "full":
        raise BenchOptionError("--twin full: a resistor has nothing more to show; name a --site")
    return parse_load(DEFAULT_LOAD if options.load is None else options.load), seed, unit


def _site(options: SmuOptions, plain: SiteSpec) -> SiteSpec | FullSiteSpec:
    if options.twin == "full":
        transients, fault = options.transients, options.site_fault
        return full_site(plain, cable_f=options.cable_f, transients=transients, fault=fault)
    if options.transients or options.site_fault is not None or options.cable_f != Circuit().cable_f:
        raise BenchOptionError("--cable-f, --transients and --site-fault: only --twin full has them")
    return plain
