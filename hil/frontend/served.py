"""``tipguard hil frontend``: the real firmware of a front end, its converter and switch in series with a sample.

Alone it has an ideal source at its terminals, at one level from power-on. With a 2400 it is served by the 2400's verb
(``--frontend`` of ``tipguard hil smu`` and ``tipguard hil rig``), because both have the same tip.
"""

from __future__ import annotations

import contextlib
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from hil.errors import BenchOptionError
from hil.faults.served import ServedFaults
from hil.frontend.firmware import MAX_LATE_MS
from hil.frontend.spec import KEY, FrontendSpec, checked
from hil.options import seed_of
from hil.serving import serve_devices
from hil.smu import DEFAULT_LOAD
from hil.twin.spec import OhmicSpec, SiteSpec, parse_load, parse_site
from hil.twin.truth import TruthRecord

MAX_V: Final = 210.0
MAX_A: Final = 1.05


@dataclass(frozen=True, slots=True, kw_only=True)
class FrontendOptions:
    """What the command line says; values are checked by :func:`serve_frontend`.

    ``baud``, ``hz``, ``noise_a``, ``late_ms``, ``qemu``: as in :class:`hil.frontend.spec.FrontendSpec`; ``hz`` None is
    what the port does.
    ``load`` or ``site``, ``series_ohm``, ``seed``: as for ``tipguard hil smu``. ``bias_v`` (up to 210 V) and
    ``limit_a`` (1e-9 to 1.05 A): the source at the terminals.
    """

    link: Path
    baud: int = 0
    hz: int | None = None
    noise_a: float = 0.0
    late_ms: int = MAX_LATE_MS
    qemu: bool = False
    load: str | None = None
    site: str | None = None
    series_ohm: float = 0.0
    bias_v: float = 0.0
    limit_a: float = 1e-3
    seed: int | None = None
    truth: Path | None = None
    faults: Path | None = None
    """A fault plan."""
    control: Path | None = None
    """Where the socket for its faults on demand appears."""


def serve_frontend(options: FrontendOptions) -> int:
    """Serve until SIGTERM or SIGINT; return the exit code. Call it from the main thread.

    Prints one JSON line ``{"ready": true, "frontend", "pid", "seed", "u_median_v", "firmware_pid", "board",
    "sample_hz", "code_pa"}`` once a client can connect. At the end the summary is in the truth record and the link is
    gone: 0, or 1 if a fault of ``faults`` was never applied. Options that cannot be served are told in one line: 2.
    """
    try:
        return _serve(options)
    except BenchOptionError as error:
        print(f"tipguard hil frontend: {error}", file=sys.stderr)
        return 2


def _serve(options: FrontendOptions) -> int:
    spec, sample, seed = _check(options)
    truth = TruthRecord(options.truth)
    load = sample.build(series_ohm=options.series_ohm, seed=seed, truth=truth)
    with contextlib.ExitStack() as stack:
        front = spec.open(load, seed=seed, stack=stack)
        faults = ServedFaults(options.faults, options.control, frontend=front.plug)
        load.set_source(time.monotonic_ns(), options.bias_v, options.limit_a, connected=True)
        ready = {"seed": seed, "u_median_v": sample.u_median_v, **front.ready()}
        serve_devices(
            {KEY: front.plugged}, truth=truth, ready=ready, close=load.close, faults=faults, also=(front.device,)
        )
    return faults.verdict("frontend")


def _check(options: FrontendOptions) -> tuple[FrontendSpec, OhmicSpec | SiteSpec, int]:
    spec = checked(
        options.link,
        baud=options.baud,
        sample_hz=options.hz,
        noise_a=options.noise_a,
        late_ms=options.late_ms,
        qemu=options.qemu,
    )
    if options.load is not None and options.site is not None:
        raise BenchOptionError("--load and --site: only one sample fits the terminals; leave one out")
    if not abs(options.bias_v) <= MAX_V:
        raise BenchOptionError(f"--bias-v {options.bias_v}: want a level in V up to {MAX_V:g} in magnitude")
    if not 1e-9 <= options.limit_a <= MAX_A:
        raise BenchOptionError(f"--limit-a {options.limit_a}: want a clamp in A from 1e-9 to {MAX_A:g}")
    sample = parse_load(options.load or DEFAULT_LOAD) if options.site is None else parse_site(options.site)
    return spec, sample, seed_of(options.seed)
