"""``tipguard hil rig``: an emulated 2400 and an emulated stage around one tip, in one process on one clock.

Each instrument has a pseudo-terminal of its own; what they do happens in the order of its time, whichever line it came
on, so that the tip the stage moves and the one at the 2400's terminals are the same one at every nanosecond.

The truth record is the tip's (``hil.twin.live``, ``hil.twin.tip``) with the stage's events between them, named
``stage_move``, ``stage_stop``, ``stage_servo`` and ``stage_summary`` (``hil.devices.pi_gcs2.unit``). The tip's own
summary is the last line.
"""

from __future__ import annotations

import contextlib
import sys
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Final

from hil.command_line import words_of
from hil.described import Described, described_rig, load_rules
from hil.devices.described_stage import DescribedStage
from hil.devices.pi_gcs2 import AxisModel, Model, PiController
from hil.devices.pi_gcs2.model import DEFAULT_IDENTITY
from hil.errors import BenchOptionError
from hil.faults.served import ServedFaults, SmuPlug, StagePlug
from hil.frontend.firmware import MAX_LATE_MS
from hil.frontend.spec import KEY, frontend_spec
from hil.options import check_baud, check_serial_number, numbers, seed_of
from hil.output_enable import MONOSTABLE_MS, REARM, enable_spec, served_edges
from hil.protocols import StageDevice
from hil.serving import Plugged, serve_devices
from hil.stage import BAUDS, check_travel
from hil.twin.circuit import Circuit
from hil.twin.contact import Cantilever
from hil.twin.grains import Box
from hil.twin.sample_map import MapParameters, SampleMap
from hil.twin.tip import ScanningTip
from hil.twin.truth import Entry, TruthRecord
from hil.unit import unit_spec

START_ABOVE_UM: Final = 0.5
"""How far above the surface the tip is at power-on, unless it is said otherwise."""

SIGNS: Final = {"+": 1, "-": -1}
"""Which way z brings tip and sample together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RigOptions:
    """What the command line says; values are checked by :func:`serve_rig`.

    ``baud``, ``terminator``, ``serial_number``, ``flow``, ``abort_swallow_ms``, ``profile``, ``series_ohm``,
    ``cable_f``, ``transients``: the 2400 and its path, as in :class:`hil.smu.SmuOptions`. ``seed`` (0 to 2**32 - 1)
    makes sample, noise and creep; None draws one, which the ready line tells. ``xi_nm`` (0.1 to 1e4),
    ``placement_sd_nm`` (0 to 1000), ``drift_nm_s`` (x,y; up to 1000): the sample, as in
    :class:`hil.twin.sample_map.MapParameters`. ``layer``, ``stuck_on``, ``bridged``: any number of boxes x0,y0,x1,y1
    in um. ``open_tip``: the tip conducts nothing.

    ``stage_axes``: the names of x, y and z. ``travel_um`` (0.1 to 1e6): every axis runs from 0 to it.
    ``velocity_um_s``: 0.001 to 10000. ``surface_um``: z at which the tip touches; ``towards`` (+ or -) says which way z
    brings it there. ``start_um`` (x,y,z): where the axes are at power-on; None: x and y in mid-travel, z
    :data:`START_ABOVE_UM` above the surface. ``servo_on``: loops closed at power-on, as on a controller that an AFM
    runs on. ``stage_command_map``: the stage speaks this map and not GCS 2.0; its axes, travel and velocity count,
    ``stage_axes`` then names x, y and z among them (by default the first three).
    """

    smu_link: Path
    stage_link: Path
    baud: int = 57600
    stage_baud: int = 115200
    terminator: str | None = None
    serial_number: str | None = None
    flow: str = "none"
    abort_swallow_ms: float | None = None
    profile: Path | None = None
    stage_serial_number: str = "0119024343"
    series_ohm: float = 0.0
    cable_f: float = Circuit().cable_f
    transients: bool = False
    seed: int | None = None
    xi_nm: float = 25.0
    placement_sd_nm: float = 0.0
    drift_nm_s: str = "0,0"
    layer: tuple[str, ...] = ()
    stuck_on: tuple[str, ...] = ()
    bridged: tuple[str, ...] = ()
    open_tip: bool = False
    stage_axes: str = "1,2,3"
    travel_um: float = 100.0
    velocity_um_s: float = 200.0
    surface_um: float = 50.0
    towards: str = "+"
    start_um: str | None = None
    servo_on: bool = True
    stage_command_map: Path | None = None
    truth: Path | None = None
    faults: Path | None = None
    """A fault plan."""
    control: Path | None = None
    """Where the socket for its faults on demand appears."""
    oe: Path | None = None
    """Where the socket of a heartbeat appears; as in :class:`hil.smu.SmuOptions`, with the two below."""
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

    def words(self) -> list[str]:
        """Return the command line that says this, from behind the verb on."""
        return words_of(self)


class EmulatedRig:
    """The devices of a rig around their tip, on no line yet."""

    def __init__(self, options: RigOptions) -> None:
        """Build what ``options`` say; raises BenchOptionError for what cannot be."""
        self.seed = seed_of(options.seed)
        unit = unit_spec(options)
        check_baud("--stage-baud", options.stage_baud, BAUDS, "want one of")
        sample = SampleMap(self.seed, sample_parameters(options))
        self.contact = sample.contact
        described = None if options.stage_command_map is None else _described(options, options.stage_command_map)
        self.model = stage_model(options) if described is None else Model(axes=described.roles)
        self.surface_um = options.surface_um
        self.truth = TruthRecord(options.truth)
        x, y, z = (axis.name for axis in self.model.axes)
        circuit = Circuit(cable_f=options.cable_f)
        self.tip = ScanningTip(
            sample,
            cantilever=Cantilever(surface_m=options.surface_um * 1e-6, towards=SIGNS[options.towards]),
            series_ohm=options.series_ohm,
            circuit=circuit.with_transients() if options.transients else circuit,
            truth=self.truth,
            axes=(x, y, z),
            open_tip=options.open_tip,
        )
        self.enable = enable_spec(options)
        self.frontend = frontend_spec(options)
        """A front end in series with the tip, not started; None for none."""
        self.smu = unit.build(self.tip, seed=self.seed, oe_rearm=self.enable.rearm)
        self.line = self.enable.plug(self.smu)
        """The 2400 with a monostable at its output enable line; None without a heartbeat."""
        events = _StageEvents(self.truth)
        self.stage: StageDevice
        if described is None:
            self.stage = PiController(self.model, self.tip, seed=self.seed, truth=events)
        else:
            self.stage = DescribedStage(
                described.rules,
                self.tip,
                models=described.axes,
                seed=self.seed,
                truth=events,
                servo_on=options.servo_on,
            )

    def ready(self) -> dict[str, object]:
        """Return what the ready line tells of it."""
        return {
            "seed": self.seed,
            "surface_um": self.surface_um,
            "axes": [axis.name for axis in self.model.axes],
            "start_um": [axis.start_um for axis in self.model.axes],
            "contact_load_nn": round(self.contact.load_n * 1e9, 3),
            "contact_area_nm2": round(self.contact.area_m2 * 1e18, 3),
            "mean_pressure_gpa": round(self.contact.mean_pressure_pa * 1e-9, 3),
            "warning": self.contact.warning,
        }

    def close(self, t_ns: int) -> None:
        """End the run at ``t_ns``: both summaries, the tip's last, and the record closed."""
        # What the tip has lived through comes before the stage's last word.
        self.tip.advance(t_ns)
        self.stage.close(t_ns)
        self.tip.close(t_ns)


class _StageEvents(TruthRecord):
    """The stage's events in the tip's record, under names that are not the tip's."""

    def __init__(self, truth: TruthRecord) -> None:
        super().__init__()
        self._truth = truth

    def write(self, entry: Entry) -> None:
        self._truth.write(entry | {"event": f"stage_{entry['event']}"})

    def close(self) -> None:
        """Leave it open: the tip closes it."""


def serve_rig(options: RigOptions) -> int:
    """Serve until SIGTERM or SIGINT; return the exit code. Call it from the main thread.

    Prints one JSON line once clients can connect: {"ready": true, "smu_link", "stage_link", "pid", "seed",
    "surface_um", "axes", "start_um", "contact_load_nn", "contact_area_nm2", "mean_pressure_gpa", "warning"}; area and
    mean pressure are computed for the load, and ``warning`` is a line where the tip would not bear it, else null. At
    the end the summaries are in the truth record and the links are gone: 0, or 1 if a fault of ``faults`` was never
    applied. Options that cannot be served are told in one line on stderr: 2.
    """
    try:
        return _serve(options)
    except BenchOptionError as error:
        print(f"tipguard hil rig: {error}", file=sys.stderr)
        return 2


def _serve(options: RigOptions) -> int:
    if options.smu_link.absolute() == options.stage_link.absolute():
        raise BenchOptionError(f"--smu-link and --stage-link: both are {options.smu_link}; name two paths")
    rig = EmulatedRig(options)
    plugged = {
        "smu_link": Plugged(rig.smu if rig.line is None else rig.line, options.smu_link, options.baud),
        "stage_link": Plugged(rig.stage, options.stage_link, options.stage_baud),
    }
    ready = rig.ready()
    with contextlib.ExitStack() as stack:
        also = served_edges(rig.enable, rig.line, stack)
        front = None if rig.frontend is None else rig.frontend.open(rig.tip, seed=rig.seed, stack=stack)
        if front is not None:
            plugged[KEY] = front.plugged
            ready |= front.ready()
            also = (*also, front.device)
        faults = ServedFaults(
            options.faults,
            options.control,
            smu=SmuPlug("smu_link", rig.smu, rig.tip),
            stage=StagePlug("stage_link", rig.stage),
            frontend=None if front is None else front.plug,
        )
        serve_devices(plugged, truth=rig.truth, ready=ready, close=rig.close, faults=faults, also=also)
    return faults.verdict("rig")


def _described(options: RigOptions, path: Path) -> Described:
    if options.towards not in SIGNS:
        raise BenchOptionError(f"--towards {options.towards}: want + or -")
    check_serial_number("--stage-serial-number", options.stage_serial_number)
    usual = {one.name: one.default for one in fields(RigOptions)}
    own_serial = options.stage_serial_number == usual["stage_serial_number"]
    own_axes = options.stage_axes == usual["stage_axes"]
    return described_rig(
        load_rules("--stage-command-map", path, None if own_serial else options.stage_serial_number),
        names=() if own_axes else [name.strip() for name in options.stage_axes.split(",")],
        travel_um=options.travel_um,
        velocity_um_s=options.velocity_um_s,
        surface_um=options.surface_um,
        above_um=SIGNS[options.towards] * START_ABOVE_UM,
        start_um=options.start_um,
    )


def sample_parameters(options: RigOptions) -> MapParameters:
    """Return what the options say about the sample; raises BenchOptionError."""
    drift_x, drift_y = numbers("--drift-nm-s", options.drift_nm_s, 2, "0.05,0")
    return MapParameters(
        xi_m=options.xi_nm * 1e-9,
        layers=_boxes("--layer", options.layer),
        drift_m_s=(drift_x * 1e-9, drift_y * 1e-9),
        placement_sd_m=options.placement_sd_nm * 1e-9,
        stuck_on=_boxes("--stuck-on", options.stuck_on),
        bridged=_boxes("--bridged", options.bridged),
    )


def stage_model(options: RigOptions) -> Model:
    """Return what the options say about the stage; raises BenchOptionError."""
    check_travel(options.travel_um)
    check_serial_number("--stage-serial-number", options.stage_serial_number)
    if options.towards not in SIGNS:
        raise BenchOptionError(f"--towards {options.towards}: want + or -")
    if not 0.001 <= options.velocity_um_s <= 10_000:
        raise BenchOptionError(f"--velocity-um-s {options.velocity_um_s}: want a velocity in um/s from 0.001 to 10000")
    if not 0 <= options.surface_um <= options.travel_um:
        raise BenchOptionError(
            f"--surface-um {options.surface_um}: the travel is 0 to {options.travel_um:g} um; the tip would never touch"
        )
    names = [name.strip() for name in options.stage_axes.split(",")]
    if len(names) != 3:
        raise BenchOptionError(f"--stage-axes {options.stage_axes}: want the names of x, y and z, such as 1,2,3")
    starts = _starts(options)
    try:
        axes = tuple(
            AxisModel(name, high_um=options.travel_um, velocity_um_s=options.velocity_um_s, start_um=start)
            for name, start in zip(names, starts, strict=True)
        )
        maker, unit, _, firmware = DEFAULT_IDENTITY.split(", ")
        identity = ", ".join((maker, unit, options.stage_serial_number, firmware))
        return Model(axes=axes, identity=identity, servo_on=options.servo_on)
    except ValueError as error:
        raise BenchOptionError(f"--stage-axes {options.stage_axes}: {error}; want names such as 1,2,3") from error


def _starts(options: RigOptions) -> tuple[float, ...]:
    middle_um, travel_um = 0.5 * options.travel_um, options.travel_um
    if options.start_um is not None:
        starts = numbers("--start-um", options.start_um, 3, "50,50,49.5")
        told = f"--start-um {options.start_um}: outside the travel, 0 to {travel_um:g} um"
    else:
        z_um = options.surface_um - SIGNS[options.towards] * START_ABOVE_UM
        starts = middle_um, middle_um, z_um
        told = (
            f"--surface-um {options.surface_um}: no room for a tip {START_ABOVE_UM} um above it within 0 to "
            f"{travel_um:g} um; name --start-um, too"
        )
    if not all(0 <= start <= travel_um for start in starts):
        raise BenchOptionError(told)
    return starts


def _boxes(option: str, texts: tuple[str, ...]) -> tuple[Box, ...]:
    boxes = []
    for text in texts:
        x0, y0, x1, y1 = numbers(option, text, 4, "0,0,50,100")
        if not (x0 < x1 and y0 < y1):
            raise BenchOptionError(f"{option} {text}: want x0,y0,x1,y1 in um with x0 below x1 and y0 below y1")
        boxes.append(Box(x0 / 1e6, y0 / 1e6, x1 / 1e6, y1 / 1e6))
    return tuple(boxes)
