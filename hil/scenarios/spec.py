"""What a scenario file says, checked: file, key, value, expectation.

A scenario has a title, what happens (``what``), where that is known from (``source``), a ``[rig]``, a ``[run]``,
``[[fault]]`` tables as of :mod:`hil.faults.plan`, for processes ``[[act]]``, and ``[holds]``.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import pydantic
from pydantic import BaseModel, ConfigDict, Field

from edge.guard.verdicts import Verdict
from hil.errors import BenchOptionError
from hil.faults.plan import FaultPlan, plan_of

FOLDER: Final = Path(__file__).parent
"""Where the scenarios are."""

_DEFAULT_RUN: Final = {"to_v": -0.5, "step_v": 0.01, "dwell_s": 0.02, "back_scan": False}


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class Rig(_Table):
    """The rig under test.

    ``bench``: "smu" (a 2400 and a sample), "map" (with a stage and a whole sample under the tip), both in virtual time,
    or "processes" (a 2400 on a pseudo-terminal, keeper and worker). ``load`` (``ohmic:R``) or ``site``
    (``gb|gi|hl[:U]``) as for ``tipguard hil smu``; with neither 1 Mohm. ``twin``: "plain" or "full". ``config``:
    sections of the rig's configuration, such as ``{limits = {voltage_v = 1.0}}``. ``device``: options of the emulated
    2400; ``options``: those of ``tipguard hil rig``. ``frontend``: the firmware of a front end in series with the tip:
    in lockstep, or on the bench "processes" natively.
    """

    bench: Literal["smu", "map", "processes"] = "smu"
    load: str | None = None
    site: str | None = None
    twin: Literal["plain", "full"] = "plain"
    frontend: bool = False
    series_ohm: Annotated[float, Field(ge=0)] = 1000.0
    baud: int = 57600
    config: dict[str, dict[str, Any]] = Field(default_factory=dict)
    device: dict[str, Any] = Field(default_factory=dict)
    options: dict[str, Any] = Field(default_factory=dict)


class Run(_Table):
    """The run during which it happens. ``plan``: an experiment; "none": the rig is at rest for ``rest_s``.

    Of a "trigger-map" ``points`` says how many points on grain boundaries; they are drawn from the seed.
    """

    plan: str = "iv"
    parameters: dict[str, Any] = Field(default_factory=lambda: dict(_DEFAULT_RUN))
    points: Annotated[int, Field(ge=0, le=100)] = 0
    rest_s: Annotated[float, Field(gt=0, le=3600)] = 3.0


class Act(_Table):
    """What is done to the processes: ``do`` once the tip has been live for ``after_s``.

    "demand" lets the fault named ``fault``, which is on demand, act.
    """

    do: Literal["kill-worker", "hang-worker", "kill-keeper", "demand"]
    fault: str = ""
    after_s: Annotated[float, Field(ge=0, le=60)] = 0.1


class Holds(_Table):
    """What must hold.

    ``status``: of the run (completed, tripped, stopped, failed), "refused" at its start, "running"
    where its cut can never be verified, or "none" for a rig at rest.
    ``verdict``: of the first cut from the fault on; left out: there must be none. ``says``: words that the reason must
    contain. ``safe_within_s``: from ``safe_after`` (the fault applied, the first set, or the run's end) until the tip
    is below 1 mV for good, or its path open. ``next``: the next run "clean" (it completes), or "refused";
    ``after_rearm``: how the run after `tipguard rearm` goes: "clean", "tripped", "failed" or "refused". ``alarm``: one
    that must have been raised. ``samples_at_least``: trusted samples of the run.
    """

    status: Literal["completed", "tripped", "stopped", "failed", "refused", "running", "none"]
    verdict: str | None = None
    says: str = ""
    safe_within_s: Annotated[float, Field(ge=0, le=3600)]
    safe_after: Literal["fault", "onset", "run"] = "fault"
    next: Literal["clean", "refused"]
    after_rearm: Literal["clean", "tripped", "failed", "refused"] | None = None
    alarm: str | None = None
    samples_at_least: Annotated[int, Field(ge=0)] = 0


class _File(_Table):
    title: Annotated[str, Field(min_length=8, max_length=90)]
    what: Annotated[str, Field(min_length=8)]
    source: Annotated[str, Field(min_length=3)]
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 1
    rig: Rig = Rig()
    run: Run = Run()
    act: tuple[Act, ...] = ()
    fault: tuple[dict[str, Any], ...] = ()
    holds: Holds


class Scenario(_File):
    """One scenario, ready to run."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, arbitrary_types_allowed=True)

    name: str
    plan: FaultPlan


def names() -> tuple[str, ...]:
    """Return the names of all scenarios, sorted."""
    return tuple(sorted(path.stem for path in FOLDER.glob("*.toml")))


def load_scenario(name_or_path: str, *, seed: int | None = None) -> Scenario:
    """Read a scenario by its name, or a file of one's own by its path; ``seed`` replaces the file's.

    Raises BenchOptionError with file, key, value and what was expected.
    """
    path = Path(name_or_path)
    if path.suffix != ".toml":
        path = FOLDER / f"{name_or_path}.toml"
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BenchOptionError(
            f"scenario {name_or_path}: {error.strerror}; `tipguard hil scenario --list` names them; a .toml will do"
        ) from error
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise BenchOptionError(f"{path}: not TOML: {error}") from error
    if seed is not None:
        data["seed"] = seed
    return parse_scenario(data, name=path.stem, source=str(path))


def parse_scenario(data: dict[str, Any], *, name: str, source: str) -> Scenario:
    """Check a scenario's data; raises BenchOptionError naming ``source``, key, value and expectation."""
    try:
        file = _File.model_validate(_tuples(data))
    except pydantic.ValidationError as error:
        raise BenchOptionError(f"{source}: {_explain(error)}") from error
    plan = plan_of({"seed": file.seed, "fault": list(file.fault)}, source)
    _cross_check(file, plan, source)
    fields = {key: getattr(file, key) for key in _File.model_fields}
    return Scenario.model_construct(name=name, plan=plan, **fields)


def _tuples(data: dict[str, Any]) -> dict[str, Any]:
    # Strict: what TOML has as an array is a tuple to us.
    return {
        key: tuple(value) if key in ("act", "fault") and isinstance(value, list) else value
        for key, value in data.items()
    }


def _cross_check(file: _File, plan: FaultPlan, source: str) -> None:
    """Refuse what cannot be run or cannot fail."""
    if file.act and file.rig.bench != "processes":
        raise BenchOptionError(f'{source}: act: only the bench "processes" has processes; remove it')
    if not file.act and not plan.faults:
        raise BenchOptionError(f"{source}: nothing happens in it; add a [[fault]] or an [[act]]")
    if file.rig.frontend and file.rig.bench == "map":
        raise BenchOptionError(f'{source}: rig.frontend: the bench "map" has none; remove it')
    if file.rig.load is not None and file.rig.site is not None:
        raise BenchOptionError(f"{source}: rig: load and site: only one sample fits the terminals; leave one out")
    for act in file.act:
        if (act.do == "demand") != bool(act.fault):
            raise BenchOptionError(f'{source}: act: do = "demand" and fault go together, and only they')
    verdict = file.holds.verdict
    if verdict is not None and verdict not in Verdict.__members__:
        raise BenchOptionError(
            f"{source}: holds.verdict: value {verdict!r}: expected one of {', '.join(Verdict.__members__)}"
        )


def _explain(error: pydantic.ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    key = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        return f"{key}: unknown key; take it out or correct its name"
    if first["type"] == "missing":
        return f"{key}: is missing"
    return f"{key}: value {first['input']!r:.80}: {first['msg'][:1].lower()}{first['msg'][1:]}"
