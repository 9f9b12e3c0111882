"""Controllers by name, as the command line offers them: what is set once for a model, and what may be set apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, get_args

from hil.devices.pi_gcs2.model import DEFAULT_IDENTITY, AxisModel, Model, Numbers, Referencing, WireUnit


@dataclass(frozen=True, slots=True)
class Preset:
    """A controller whose axes are not known yet. ``travel_um`` and ``axes``: what is usual for it."""

    model: Model
    axis: AxisModel
    axes: str
    travel_um: float


PRESETS: Final = {
    # A digital piezo controller with absolute sensors. It has TAV? here although the E-727's manual does not list it:
    # see docs/stage.md; without analog inputs it is the E-727 of the manual.
    "e727": Preset(Model(), AxisModel("1"), "1,2,3", 100.0),
    # A motor controller with an incremental sensor. Its one-axis manual begins with #4 and goes on with #5 and #7
    # (MS249E p. 126, 127), so #3 and #6 are unknown to it; #9 asks for a wave generator, which it does not have.
    # The figures of the axis are those of a small stage with a DC motor.
    "c863": Preset(
        Model(
            identity="(c)2021 Physik Instrumente (PI) GmbH & Co. KG, C-863.12, 0021550123, 1.2.4.0",
            referencing="required",
            unit="mm",
            without=frozenset({"#3", "#6", "#9", "#27"}),
            stage_type="M-111.1DG",
            address=1,
        ),
        AxisModel(
            "1",
            velocity_um_s=1000.0,
            max_velocity_um_s=2000.0,
            acceleration_um_s2=20_000.0,
            window_um=0.1,
            creep=0.0,
            noise_um=0.007,
        ),
        "1",
        15_000.0,
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelOptions:
    """What may be set apart from a model of :data:`PRESETS`; None: as the model has it.

    ``referencing``, ``unit``, ``numbers``, ``servo_on``, ``identity``, ``analog_inputs``,
    ``autozero_s``: as in :class:`hil.devices.pi_gcs2.model.Model`. ``velocity_um_s``: of every axis, at power-on.
    """

    model: str = "e727"
    referencing: str | None = None
    unit: str | None = None
    numbers: str | None = None
    servo_on: bool | None = None
    identity: str | None = None
    analog_inputs: int | None = None
    autozero_s: float | None = None
    velocity_um_s: float | None = None


class ModelOptionError(ValueError):
    """An option has a value that no controller has. ``option`` is its name, ``want`` what would do."""

    def __init__(self, option: str, value: object, want: str) -> None:
        """Put all three into the message."""
        super().__init__(f"{option} {value}: want {want}")
        self.option = option


def _one_of(option: str, value: str, known: Sequence[str]) -> None:
    if value not in known:
        raise ModelOptionError(f"--{option}", value, " or ".join(known))


def build(options: ModelOptions, axes: str | None, travel_um: float | None) -> Model:
    """Return a controller. ``axes``: names separated by commas, or the model's own; ``travel_um``: of each.

    Raises ModelOptionError for a value that an option cannot have, and ValueError for axes that cannot be.
    """
    _one_of("model", options.model, tuple(PRESETS))
    preset = PRESETS[options.model]
    changes: dict[str, object] = {}
    for name, known in (("referencing", Referencing), ("unit", WireUnit), ("numbers", Numbers)):
        value = getattr(options, name)
        if value is not None:
            _one_of(name, value, get_args(known))
            changes[name] = value
    if options.servo_on is not None:
        changes["servo_on"] = options.servo_on
    if options.identity is not None:
        changes["identity"] = _identity(options.identity)
    if options.analog_inputs is not None:
        if not 0 <= options.analog_inputs <= 16:
            raise ModelOptionError("--analog-inputs", options.analog_inputs, "0 to 16 inputs")
        changes["analog_inputs"] = options.analog_inputs
    if options.autozero_s is not None:
        if not 0 <= options.autozero_s <= 60:
            raise ModelOptionError("--autozero-s", options.autozero_s, "0 to 60 seconds")
        changes["autozero_s"] = options.autozero_s
    axis = preset.axis
    if options.velocity_um_s is not None:
        if not 1e-3 <= options.velocity_um_s <= axis.max_velocity_um_s:
            raise ModelOptionError(
                "--velocity-um-s", options.velocity_um_s, f"um/s from 0.001 to {axis.max_velocity_um_s:g}"
            )
        axis = replace(axis, velocity_um_s=options.velocity_um_s)
    high_um = preset.travel_um if travel_um is None else travel_um
    names = (preset.axes if axes is None else axes).split(",")
    made = tuple(replace(axis, name=name.strip(), high_um=high_um) for name in names)
    return replace(preset.model, axes=made, **changes)  # type: ignore[arg-type] # each was checked above


def _identity(text: str) -> str:
    """Return a whole identity: as it is with four fields, else the text as the second one, the model's name."""
    fields = DEFAULT_IDENTITY.split(", ")
    whole = text if text.count(",") == 3 else ", ".join((fields[0], text, *fields[2:]))
    if whole.count(",") != 3 or not (whole.isascii() and whole.isprintable() and 8 <= len(whole) <= 200):
        raise ModelOptionError("--identity", repr(text), "the name of a model, or four fields with commas between")
    return whole
