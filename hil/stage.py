"""``tipguard hil stage``: an emulated PI stage controller over a flat surface, served on a pseudo-terminal."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from hil.described import load_rules
from hil.devices.described_stage import DescribedStage, axis_models
from hil.devices.pi_gcs2 import FlatSurface, Model, PiController
from hil.devices.pi_gcs2.models import ModelOptionError, ModelOptions, build
from hil.errors import BenchOptionError
from hil.faults.served import ServedFaults, StagePlug
from hil.options import check_baud, seed_of
from hil.serving import serve_device
from hil.twin.truth import TruthRecord

BAUDS: Final = (0, 9600, 19200, 38400, 57600, 115200, 230400, 460800)
"""What PI controllers can be set to, by parameter or switch, and 0: bytes take no time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StageOptions(ModelOptions):
    """What the command line says; values are checked by :func:`serve_stage`.

    ``model`` and what may be set apart from it: :class:`hil.devices.pi_gcs2.models.ModelOptions`. ``axes``: names,
    separated by commas, at least one; the last one carries the tip up and down. ``travel_um``: every axis runs from 0
    to it, above 0 up to 1e6. Both are the model's own if None. ``seed`` (0 to 2**32 - 1) makes noise and creep; None
    draws one, which the ready line tells.
    """

    link: Path
    axes: str | None = None
    travel_um: float | None = None
    baud: int = 115200
    seed: int | None = None
    truth: Path | None = None
    faults: Path | None = None
    """A fault plan."""
    control: Path | None = None
    """Where the socket for its faults on demand appears."""
    command_map: Path | None = None
    """Speak this map and not GCS 2.0; its axes, travel and velocity count, and what ``model`` says does not."""


def serve_stage(options: StageOptions) -> int:
    """Serve until SIGTERM or SIGINT; return the exit code. Call it from the main thread.

    Prints one JSON line ``{"ready": true, "link", "pid", "seed", "axes", "surface_um"}`` once a client can connect;
    ``surface_um`` is where the last axis touches the surface and analog input 1 begins to rise. At the end the summary
    is in the truth record and the link is gone: 0, or 1 if a fault of ``faults`` was never applied. Options that
    cannot be served are told in one line on stderr: 2.
    """
    try:
        return _serve(options)
    except BenchOptionError as error:
        print(f"tipguard hil stage: {error}", file=sys.stderr)
        return 2


def _serve(options: StageOptions) -> int:
    if options.command_map is not None:
        return _serve_described(options, options.command_map)
    model, seed = _check(options)
    truth = TruthRecord(options.truth)
    surface_um = 0.75 * model.axes[-1].high_um
    surface = FlatSurface(axis=model.axes[-1].name, surface_m=surface_um * 1e-6)
    device = PiController(model, surface, seed=seed, truth=truth)
    ready = {"seed": seed, "axes": [axis.name for axis in model.axes], "surface_um": surface_um}
    faults = ServedFaults(options.faults, options.control, stage=StagePlug("link", device))
    serve_device(device, options.link, options.baud, truth=truth, ready=ready, close=device.close, faults=faults)
    return faults.verdict("stage")


def _serve_described(options: StageOptions, path: Path) -> int:
    check_baud("--baud", options.baud, BAUDS, "want one of")
    seed = seed_of(options.seed)
    travel_um = 100.0 if options.travel_um is None else options.travel_um
    check_travel(travel_um)
    rules = load_rules("--command-map", path)
    models = axis_models(rules, travel_um=travel_um, velocity_um_s=options.velocity_um_s or 200.0)
    z = models[-1]
    surface_um = z.low_um + 0.75 * (z.high_um - z.low_um)
    truth = TruthRecord(options.truth)
    surface = FlatSurface(axis=z.name, surface_m=surface_um * 1e-6)
    device = DescribedStage(rules, surface, models=models, seed=seed, truth=truth, servo_on=bool(options.servo_on))
    ready = {"seed": seed, "axes": list(device.axis_names), "surface_um": surface_um}
    faults = ServedFaults(options.faults, options.control, stage=StagePlug("link", device))
    serve_device(device, options.link, options.baud, truth=truth, ready=ready, close=device.close, faults=faults)
    return faults.verdict("stage")


def check_travel(travel_um: float) -> None:
    """Refuse a travel that no stage has; raises BenchOptionError."""
    if not 0.1 <= travel_um <= 1e6:
        raise BenchOptionError(f"--travel-um {travel_um}: want a travel in um from 0.1 to 1e6")


def _check(options: StageOptions) -> tuple[Model, int]:
    check_baud("--baud", options.baud, BAUDS, "want one of")
    seed = seed_of(options.seed)
    if options.travel_um is not None:
        check_travel(options.travel_um)
    try:
        model = build(options, options.axes, options.travel_um)
    except ModelOptionError as error:
        raise BenchOptionError(str(error)) from error
    except ValueError as error:
        raise BenchOptionError(f"--axes {options.axes}: {error}; want names such as 1,2,3") from error
    return model, seed
