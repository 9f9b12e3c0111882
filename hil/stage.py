"""``tipguard hil stage``: an emulated PI stage controller over a flat surface, served on a pseudo-terminal."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from hil.devices.pi_gcs2 import AxisModel, FlatSurface, Model, PiController
from hil.errors import BenchOptionError
from hil.options import check_baud, seed_of
from hil.serving import serve_device
from hil.twin.truth import TruthRecord

BAUDS: Final = (0, 9600, 19200, 38400, 57600, 115200, 230400, 460800)
"""What PI controllers can be set to, by parameter or switch, and 0: bytes take no time."""


@dataclass(frozen=True, slots=True)
class StageOptions:
    """What the command line says; values are checked by :func:`serve_stage`.

    ``axes``: names, separated by commas, at least one; the last one carries the tip up and down. ``travel_um``: every
    axis runs from 0 to it, above 0 up to 1e6. ``seed`` (0 to 2**32 - 1) makes noise and creep; None draws one, which
    the ready line tells.
    """

    link: Path
    axes: str = "1,2,3"
    travel_um: float = 100.0
    baud: int = 115200
    seed: int | None = None
    truth: Path | None = None


def serve_stage(options: StageOptions) -> int:
    """Serve until SIGTERM or SIGINT; return the exit code. Call it from the main thread.

    Prints one JSON line ``{"ready": true, "link", "pid", "seed", "axes", "surface_um"}`` once a client can connect;
    ``surface_um`` is where the last axis touches the surface and analog input 1 begins to rise. At the end the summary
    is in the truth record and the link is gone: 0. Options that cannot be served are told in one line on stderr: 2.
    """
    try:
        _serve(options)
    except BenchOptionError as error:
        print(f"tipguard hil stage: {error}", file=sys.stderr)
        return 2
    return 0


def _serve(options: StageOptions) -> None:
    model, seed = _check(options)
    truth = TruthRecord(options.truth)
    surface_um = 0.75 * options.travel_um
    surface = FlatSurface(axis=model.axes[-1].name, surface_m=surface_um * 1e-6)
    device = PiController(model, surface, seed=seed, truth=truth)
    ready = {"seed": seed, "axes": [axis.name for axis in model.axes], "surface_um": surface_um}
    serve_device(device, options.link, options.baud, truth=truth, ready=ready, close=device.close)


def check_travel(travel_um: float) -> None:
    """Refuse a travel that no stage has; raises BenchOptionError."""
    if not 0.1 <= travel_um <= 1e6:
        raise BenchOptionError(f"--travel-um {travel_um}: want a travel in um from 0.1 to 1e6")


def _check(options: StageOptions) -> tuple[Model, int]:
    check_baud("--baud", options.baud, BAUDS, "want one of")
    seed = seed_of(options.seed)
    check_travel(options.travel_um)
    try:
        axes = tuple(AxisModel(name.strip(), high_um=options.travel_um) for name in options.axes.split(","))
        model = Model(axes=axes)
    except ValueError as error:
        raise BenchOptionError(f"--axes {options.axes}: {error}; want names such as 1,2,3") from error
    return model, seed
