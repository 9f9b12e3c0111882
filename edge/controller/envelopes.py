"""The envelope of one rig: its times, of its profile or of the driver, put into :mod:`edge.guard.envelope`.

``tipguard check`` prints it, a run carries its own. Nothing is sent, and no port is opened.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any, Final

from edge.clock import TimerHandle
from edge.config import Config
from edge.controller import envelopes_frontend
from edge.controller.envelopes_frontend import FrontEndFound, FrontRow, front_end_found, front_row, imagined
from edge.controller.exchanges import LONGEST_LEVEL_V
from edge.guard.envelope import Envelope, EnvelopeInputs, Pace, certain_tests, envelope
from edge.guard.envelope_frontend import FrontEndDevice
from edge.guard.phases import LOW_BIAS_V, PhaseSpec, hard_limit_a, phase_spec, prot_a
from edge.guard.thresholds import DetectorSettings
from edge.instruments.drivers import make_smu
from edge.instruments.link import Link
from edge.instruments.transport import Unplugged
from edge.samples import Phase
from firmware_proto.keithley2400 import commands

HOST_S: Final = 0.001
"""Taken for this host and an adapter in low-latency mode, per exchange; another adapter adds up to 16 ms."""
OE_S: Final = 100e-6
"""From the opening of the /OE line to output off (manual 13-7)."""
DWELL_S: Final = 0.020
"""Time at a level: the default of every plan."""
ANY_DWELL_S: Final = 10.0
"""Stands for any time: long enough for readings at a level, and for the longest wait for the next one."""
BAUDS: Final = (9600, 19_200, 38_400, 57_600)
FRONT_END_HZ: Final = (10e3, 100e3)
"""Rates of an MCU in series with the tip, S/s."""
RESET_V: Final = 1.0
_TRIES: Final = 3  # zero, reference, signal: what a reading with autozero takes


@dataclasses.dataclass(frozen=True, slots=True)
class PlanKind:
    """A kind of plan in a phase, at its largest |bias| (V) and at a rate of the bias (V/s) that is usual for it."""

    name: str
    phase: Phase
    v_max_v: float
    rate_v_s: float


@dataclasses.dataclass(frozen=True, slots=True)
class Row:
    """What is promised for one kind of plan, and what went into it; ``front``: by the front end, None without one.

    Guard and front end act each for itself: the faster of the two promises holds.
    """

    kind: PlanKind
    inputs: EnvelopeInputs
    envelope: Envelope
    front: FrontRow | None = None

    @property
    def best(self) -> Envelope:
        """The faster promise."""
        if self.front is not None and self.front.envelope.tau_min_s < self.envelope.tau_min_s:
            return self.front.envelope
        return self.envelope


@dataclasses.dataclass(frozen=True, slots=True)
class Wider:
    """What one change would make of every row; ``rows`` in the order of the plans."""

    what: str
    rows: tuple[Envelope, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class Protection:
    """The envelope of a rig. ``measured_utc``: of the rig profile whose times were used, None for the driver's.

    ``front``: its front end; None where there is none, or where nobody has asked it for its times.
    """

    baud: int
    measured_utc: str | None
    rows: tuple[Row, ...]
    wider: tuple[Wider, ...]
    front: FrontEndFound | None = None


class _Stopped:
    """A clock for what never waits."""

    def now_ns(self) -> int:
        """Return 0."""
        return 0

    def call_at(self, t_ns: int, callback: Callable[[], None]) -> TimerHandle:
        """Refuse: nothing here has a time to be called at."""
        raise NotImplementedError

    async def sleep_until(self, t_ns: int) -> None:
        """Refuse, as :meth:`call_at` does."""
        raise NotImplementedError


def plan_kinds(config: Config) -> tuple[PlanKind, ...]:
    """Return the kinds of plans that this rig's ceiling allows."""
    ceiling_v = config.limits.voltage_v
    low_v = min(LOW_BIAS_V, ceiling_v)
    kinds = [PlanKind(f"search to {low_v:g} V", Phase.SEEK, low_v, 0.1)]
    if ceiling_v > LOW_BIAS_V:
        kinds.append(PlanKind(f"search to {ceiling_v:g} V", Phase.SEEK, ceiling_v, 1.0))
    reset_v = min(RESET_V, ceiling_v)
    return (*kinds, PlanKind(f"reset at {reset_v:g} V", Phase.RESET, reset_v, 2.0))


def protection(config: Config, device: FrontEndDevice | None = None) -> Protection | None:
    """Return what this rig's plans are promised; None for a rig that has no plans yet (``rig.kind`` is not tip).

    A kind of plan that ``limits.current_a`` makes impossible has no row. ``device``: what the rig's front end said of
    itself when it was asked; without it nothing is promised of it.
    """
    if config.rig.kind != "tip":
        return None
    kinds = [kind for kind in plan_kinds(config) if _has_setting(config, kind)]
    rows = [_row(config, kind) for kind in kinds]
    front = front_end_found(config, device, max((row.inputs.short_a for row in rows), default=math.inf))
    return Protection(
        config.ports.smu.baud,
        config.own_profile.measured_utc if config.own_profile is not None else None,
        tuple(
            dataclasses.replace(row, front=front_row(row.inputs, front, searches=row.kind.phase is Phase.SEEK))
            for row in rows
        ),
        tuple(_wider(config, kinds)),
        front,
    )


def for_plan(
    name: str, parameters: Mapping[str, Any], config: Config, device: FrontEndDevice | None = None
) -> dict[str, Any] | None:
    """Return what a plan's search is promised, from what it says of itself; None where it does not say enough.

    Levels may be held for as long as ``dwell_s``, ``level_s`` or ``set_dwell_s`` say, and the worst of them counts;
    where none is named, any time does. ``device``: see :func:`protection`; ``by`` says whose promise it is.
    """
    v_max_v = _number(parameters, "v_max_v")
    kind = PlanKind(name, Phase.SEEK, v_max_v, 0.0)
    if config.rig.kind != "tip" or not 0 < v_max_v <= config.limits.voltage_v or not _has_setting(config, kind):
        return None
    held = [_number(parameters, key) for key in ("dwell_s", "level_s", "set_dwell_s") if key in parameters]
    level_s = _number(parameters, "level_s")
    steps = [_number(parameters, "step_v")]
    steps += [_number(parameters, key) * level_s for key in ("rate_v_s", "set_rate_v_s")]
    rows = [_row(config, kind, dwell_s=dwell_s, step_v=max(steps)) for dwell_s in held or [ANY_DWELL_S]]
    slowest = max(rows, key=lambda row: row.envelope.tau_min_s)
    row = dataclasses.replace(slowest, front=front_row(slowest.inputs, front_end_found(config, device)))
    found = row.best
    return {
        "by": "host guard" if found is row.envelope else "front end",
        "tau_min_s": found.tau_min_s,
        "tenfold_s": found.tenfold_s,
        "seen_by": found.seen_by.value if found.seen_by else None,
        "reached_a": found.reached_a,
        "resistor_a": found.resistor_a,
        "times": "driver" if config.own_profile is None else "rig profile",
    }


def _number(parameters: Mapping[str, Any], key: str) -> float:
    """Return a parameter that is a number of 0 or more, else 0: a third party's plan says what it likes."""
    value = parameters.get(key)
    if isinstance(value, bool) or not isinstance(value, float | int):
        return 0.0
    return float(value) if 0 <= value < math.inf else 0.0


def pace(
    config: Config, spec: PhaseSpec, *, baud: int | None = None, dwell_s: float = DWELL_S, driver: bool = False
) -> Pace:
    """Return the times of a phase: the rig profile's if there is one, else (or with ``driver``) the driver's figures.

    ``baud``: another than the rig's, in bit/s. ``dwell_s``: time at each level, s; the wait for the next level lies
    within a gap.
    """
    profile = None if driver or baud is not None else config.own_profile
    rate = baud or config.ports.smu.baud
    byte_s = 10 / rate
    # The driver of a commissioned rig tells its usual times; the specifications' are those of a rig without a profile.
    smu = make_smu(Link(Unplugged("no port", rate), _Stopped()), config.model_copy(update={"profile": None}))
    question = smu.read_message
    level = smu.level_message(LONGEST_LEVEL_V)
    aperture_s = spec.nplc / config.smu.line_frequency_hz * (_TRIES if spec.autozero else 1)
    read_s = smu.exchange_s(question) + aperture_s + HOST_S
    level_s = smu.exchange_s(level) + aperture_s + HOST_S
    checked_s = level_s + max(smu.exchange_s(check) for check in smu.check_messages) + HOST_S
    reply_s = read_s - HOST_S - len(question) * byte_s
    # What a new level takes beside its bytes is what 0 V take.
    act_s = level_s - read_s - (len(level) - len(question)) * byte_s
    cut_s = HOST_S + (len(b"\n") + len(commands.ZERO)) * byte_s + act_s
    if profile is not None:
        # A range that integrates for longer than the profile's fastest setting adds what it integrates.
        level_s, read_s = (
            times.max + aperture_s for times in (profile.sample_period_s.ramp, profile.sample_period_s.constant)
        )
        # Whether the level was standing when the check was timed, the profile does not say.
        checked_s = max(profile.check_period_s.max + aperture_s + max(0.0, level_s - read_s), level_s)
        reply_s = read_s - len(question) * byte_s
        cut_s = profile.cut_latency_s.max
    plain_s = max(level_s, min(dwell_s, level_s + read_s))
    return Pace(
        gap_s=max(checked_s, plain_s, min(dwell_s, checked_s + read_s)),
        plain_gap_s=plain_s,
        # Readings at a level that stands are quicker; they are only taken where there is time for one.
        least_gap_s=min(read_s, level_s) if dwell_s >= level_s + read_s else level_s,
        reply_s=reply_s,
        cut_s=cut_s,
    )


def to_document(found: Protection) -> dict[str, Any]:
    """Return a rig's envelope as plain values, with units in the names."""
    return {
        "baud": found.baud,
        "times": "driver" if found.measured_utc is None else "rig profile",
        "measured_utc": found.measured_utc,
        "envelope": [
            {
                "plan": row.kind.name,
                "phase": row.kind.phase.name,
                "v_max_v": row.kind.v_max_v,
                "rate_v_s": row.kind.rate_v_s,
                **_promised(row.envelope),
                **{f"t_{name}": value for name, value in dataclasses.asdict(row.inputs.pace).items()},
                "series_ohm": row.inputs.series_ohm,
                "clamp_a": row.inputs.clamp_a,
                "tests": _tests(row.inputs),
                "front_end": None if row.front is None else _front_promised(row.front),
            }
            for row in found.rows
        ],
        "front_end": envelopes_frontend.to_document(found.front),
        "widen": [
            {
                "what": wider.what,
                "plans": [
                    {"plan": row.kind.name, **_promised(one)} for row, one in zip(found.rows, wider.rows, strict=True)
                ],
            }
            for wider in found.wider
        ],
    }


def _tests(inputs: EnvelopeInputs) -> list[dict[str, Any]]:
    return [{**dataclasses.asdict(test), "verdict": test.verdict.value} for test in inputs.tests]


def _front_promised(row: FrontRow) -> dict[str, Any]:
    times = {f"t_{name}": value for name, value in dataclasses.asdict(row.inputs.pace).items()}
    return {**_promised(row.envelope), **times, "tests": _tests(row.inputs)}


def _promised(found: Envelope) -> dict[str, Any]:
    names = dataclasses.asdict(found)
    seen_by = found.seen_by.value if found.seen_by is not None else None
    return {**names, "seen_by": seen_by, "tenfold_s": found.tenfold_s, "tenfold_any_s": found.tenfold_any_s}


def _has_setting(config: Config, kind: PlanKind) -> bool:
    try:
        prot_a(phase_spec(kind.phase, kind.v_max_v), config.limits.current_a)
    except ValueError:
        return False
    return True


def _row(config: Config, kind: PlanKind, *, dwell_s: float = DWELL_S, step_v: float | None = None) -> Row:
    inputs = _inputs(config, kind, dwell_s=dwell_s, step_v=step_v)
    inputs = dataclasses.replace(inputs, pace=_with_gpio(config, kind, inputs.pace))
    return Row(kind, inputs, envelope(inputs))


def _inputs(
    config: Config,
    kind: PlanKind,
    *,
    baud: int | None = None,
    dwell_s: float = DWELL_S,
    step_v: float | None = None,
    driver: bool = False,
) -> EnvelopeInputs:
    spec = phase_spec(kind.phase, kind.v_max_v)
    times = pace(config, spec, baud=baud, dwell_s=dwell_s, driver=driver)
    step = kind.rate_v_s * times.plain_gap_s if step_v is None else step_v
    limits = config.limits
    settings = DetectorSettings.for_phase(
        spec,
        i_limit_a=limits.current_a,
        # PREDICTED is promised nothing of: no test that counts looks at it.
        tau_cut_s=0.0,
        series_ohm=config.rig.series_resistor_ohm,
        g_max_s=limits.conductance_s or math.inf,
        hard_a=limits.hard_limit_a,
    )
    return EnvelopeInputs(
        pace=times,
        tests=certain_tests(settings, spec.tests, v_max_v=kind.v_max_v, bias_step_v=step),
        i_limit_a=limits.current_a,
        clamp_a=prot_a(spec, limits.current_a),
        v_max_v=kind.v_max_v,
        series_ohm=config.rig.series_resistor_ohm,
        bias_step_v=step,
    )


def _hard_a(config: Config, phase: Phase, v_max_v: float) -> float:
    """Return the guard's hard limit, A: what a front end that is not there yet would be set to."""
    return hard_limit_a(phase_spec(phase, v_max_v), config.limits.current_a, config.limits.hard_limit_a)


def _with_gpio(config: Config, kind: PlanKind, times: Pace) -> Pace:
    """Return the times with the rig's own heartbeat line in them."""
    if config.gpio is None:
        return times
    return _by_line(kind, times, OE_S if config.gpio.clear_line is not None else config.gpio.monostable_s + OE_S)


def _by_line(kind: PlanKind, times: Pace, line_s: float) -> Pace:
    # A search's cut is planned and goes by the serial line alone: the relay is kept for what protects.
    if kind.phase is Phase.SEEK:
        return times
    return dataclasses.replace(times, cut_s=min(times.cut_s, HOST_S + line_s))


def _wider(config: Config, kinds: list[PlanKind]) -> list[Wider]:
    """Work out the table of what would make the envelope wider, by the driver's figures but for the first row."""
    own = config.ports.smu.baud
    base = [_row(config, kind) for kind in kinds]
    table = [Wider(f"as it is, {own} baud", tuple(row.envelope for row in base))]
    for baud in BAUDS:
        if baud != own:
            changed = (_inputs(config, kind, baud=baud) for kind in kinds)
            table.append(Wider(f"{baud} baud", tuple(envelope(inputs) for inputs in changed)))
    limits = config.limits
    need_ohm = max((kind.v_max_v for kind in kinds), default=0.0) / limits.current_a
    if config.rig.series_resistor_ohm < need_ohm:
        table.append(
            Wider(
                f"{need_ohm / 1e3:g} kohm at the tip",
                tuple(envelope(dataclasses.replace(row.inputs, series_ohm=need_ohm)) for row in base),
            )
        )
    monostable_s = config.gpio.monostable_s if config.gpio is not None else 0.040
    for what, line_s in (
        ("gpio, with clear line", OE_S),
        (f"gpio, {monostable_s * 1e3:g} ms monostable", monostable_s + OE_S),
    ):
        paces = ((row, _by_line(row.kind, row.inputs.pace, line_s)) for row in base)
        table.append(Wider(what, tuple(envelope(dataclasses.replace(row.inputs, pace=times)) for row, times in paces)))
    if config.frontend is None:
        table.extend(
            Wider(
                f"front end, {rate_hz / 1e3:g} kS/s",
                tuple(imagined(row.inputs, rate_hz, _hard_a(config, row.kind.phase, row.kind.v_max_v)) for row in base),
            )
            for rate_hz in FRONT_END_HZ
        )
    return table
