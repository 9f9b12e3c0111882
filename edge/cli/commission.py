"""``tipguard commission``: measure this rig on two resistors and on nothing, and write its profile."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from edge.analysis.si import si
from edge.cli.common import (
    DEFAULT_CONFIG,
    EXIT_FAILED,
    EXIT_INTERRUPTED,
    EXIT_TRIPPED,
    ConfigArgument,
    JsonOption,
    ask,
    client_for,
    err,
    guarded,
    out,
    print_json,
)
from edge.cli.follow import ClampOption, follow, interrupted
from edge.cli.layout import Row, grid, say, width_of
from edge.cli.words import REARM, meaning
from edge.config import Config, load
from edge.control_client import ControlClient
from edge.errors import ConfigError, InstrumentError
from edge.profile import RigProfile, Times

MOST_BIAS_V: Final = 0.4
LEAST_BIAS_V: Final = 0.1
LOWEST_LOAD_OHM: Final = 8e3
"""What may pass for 10 kohm; it must stay below the limit that trips."""
OF_THE_LIMIT: Final = 0.9
LOADS: Final = {
    "10kohm": (
        "10 kohm",
        (
            "Take the tip off, and put a resistor of 10 kohm (1 %) where tip and sample were. Leave the series "
            "resistor ({series_ohm:g} ohm) and the cable as they are."
        ),
    ),
    "10Mohm": ("10 Mohm", "Take 10 kohm out and put 10 Mohm (1 %) there. Do not touch it while it is measured."),
    "open": ("nothing", "Take 10 Mohm out and leave the contacts open, nothing near them."),
}
SWAPS: Final = {"10kohm": "ohmic:1e4", "10Mohm": "ohmic:1e7", "open": "open"}


@dataclasses.dataclass(frozen=True, slots=True)
class _Wishes:
    """What the command line asks for beside the rig."""

    yes: bool
    json: bool
    accept_clamp: bool
    swap: Path | None


def commission(
    config: ConfigArgument = DEFAULT_CONFIG,
    yes: Annotated[bool, typer.Option("--yes", help="ask nothing; on an emulated port only")] = False,
    force: Annotated[bool, typer.Option("--force", help="replace a profile; the old one is kept beside it")] = False,
    swap: Annotated[
        Path | None, typer.Option(help="emulated bench: the --swap socket through which its resistors are changed")
    ] = None,
    accept_clamp: ClampOption = False,
    json: JsonOption = False,
) -> None:
    """Measure this rig on 10 kohm, 10 Mohm and open contacts; write rig-profile.json. The tip must be off.

    Needs a running controller, which does the measuring under its guard. Ctrl-C cuts and ends it.
    """

    def work() -> int:
        loaded = load(config)
        target = config.parent / loaded.rig.profile_file
        if target.exists() and not force:
            raise ConfigError(
                f"{target}: this rig has a profile; --force measures again and keeps the old one beside the new one",
                file=str(target),
            )
        if bias_v(loaded) < LEAST_BIAS_V:
            raise ConfigError(
                f"{config}: limits.*: 10 kohm at {LEAST_BIAS_V:g} V would trip; raise limits.current_a, hard_limit_a "
                "or voltage_v while the resistors are connected",
                file=str(config),
                key="limits",
            )
        wishes = _Wishes(yes, json, accept_clamp, swap)
        try:
            return _measure(loaded, target, wishes)
        except KeyboardInterrupt:
            return interrupted(loaded, as_json=json)

    guarded(work, json=json)


def bias_v(config: Config) -> float:
    """Return the largest bias at which 10 kohm stays below what trips, at most 0.4 V."""
    limits = config.limits
    # Half the compliance of the read range, unless the file says less; see edge.guard.phases.
    trips_a = 0.5 * min(limits.current_a, 100e-6)
    trips_a = min(trips_a, limits.hard_limit_a or trips_a)
    held_v = OF_THE_LIMIT * trips_a * (LOWEST_LOAD_OHM + config.rig.series_resistor_ohm)
    return round(min(MOST_BIAS_V, held_v, limits.voltage_v), 3)


def _measure(config: Config, target: Path, wishes: _Wishes) -> int:
    from edge.controller import commission_profile
    from edge.controller.commission import LOADS as ORDER

    found: dict[str, dict[str, Any]] = {}
    with client_for(config) as client:
        _may_go_without_asking(client, wishes)
        say(err, _beginning(config, hardware=ask(client, "status")["emulated"] is not True))
        if not wishes.yes and not _ask_wiring(config):
            return EXIT_FAILED
        for number, name in enumerate(ORDER, 1):
            if not _connected(name, number, config, wishes):
                say(err, "nothing was energised for this; nothing was written")
                return EXIT_FAILED
            ended = _run(client, config, name, wishes)
            if isinstance(ended, int):
                return ended
            found[name] = ended
    utc = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    profile = commission_profile.assemble(config, found, utc=utc, version=importlib.metadata.version("tipguard"))
    said = commission_profile.deviations(config, found)
    kept = commission_profile.write(target, profile, force=True)
    if wishes.json:
        print_json(
            {
                "profile": profile.model_dump(mode="json", exclude_none=True),
                "file": str(target),
                "kept": None if kept is None else str(kept),
                "deviations": list(said),
                "loads": found,
            }
        )
        return 0
    out.print(grid(table(profile, found, config), width_of(out)))
    for one in said:
        say(out, f"NOTE: {one}", "yellow")
    say(out, f"wrote {target}" + (f"; the one before is {kept}" if kept else ""))
    say(
        out, "next: restart the controller, which reads it when it starts; then `tipguard check` shows what it can hold"
    )
    return 0


def _may_go_without_asking(client: ControlClient, wishes: _Wishes) -> None:
    emulated = ask(client, "status")["emulated"] is True
    if wishes.yes and not emulated:
        raise ConfigError("--yes: this port is real hardware: a person has to see that the tip is off", key="--yes")
    if wishes.swap is not None and not emulated:
        raise ConfigError("--swap: only an emulated bench changes its resistors by itself", key="--swap")


def _beginning(config: Config, *, hardware: bool) -> str:
    alone = ""
    if hardware and config.own_profile is None:
        alone = (
            " Without a rig profile nothing else runs on this port; this does, because its loads are resistors and no "
            "tip."
        )
    return (
        f"commissioning rig {config.rig.id}: three loads instead of the tip, about two minutes of measuring. At most "
        f"{bias_v(config):g} V and {config.limits.current_a:g} A. It knows a resistor from a tip only by its "
        f"resistance, so look yourself.{alone}"
    )


def _ask_wiring(config: Config) -> bool:
    """Ask what no resistor can show: which end is which."""
    hi = config.wiring.hi
    if _confirm(f"Does the HI terminal lead to the {hi}'s end (wiring.hi = \"{hi}\" in the rig's file)?"):
        return True
    other = "sample" if hi == "tip" else "tip"
    say(
        err,
        f'then bias and current have the wrong sign: put wiring.hi = "{other}" into the rig\'s file, restart the '
        "controller, and begin again. Nothing was energised",
        "yellow",
    )
    return False


def _connected(name: str, number: int, config: Config, wishes: _Wishes) -> bool:
    """Lead a person to the next load, or let the emulated bench do it; return whether it is there."""
    what, how = LOADS[name]
    if wishes.swap is not None:
        _swap(wishes.swap, name)
    if wishes.yes:
        return True
    say(err, f"\n{number} of {len(LOADS)}: {how.format(series_ohm=config.rig.series_resistor_ohm)}", "bold")
    return _confirm(f"The TIP IS NOT connected, and {what} is connected instead of it. Is that so?")


def _confirm(question: str) -> bool:
    try:
        return typer.confirm(question, default=False, err=True)
    except typer.Abort:
        raise typer.Exit(EXIT_INTERRUPTED) from None


def _swap(path: Path, name: str) -> None:
    from hil.errors import BenchOptionError
    from hil.swap import swap

    try:
        swap(path, SWAPS[name])
    except BenchOptionError as error:
        raise ConfigError(f"--swap: {error}", key="--swap") from error


def _run(client: ControlClient, config: Config, name: str, wishes: _Wishes) -> dict[str, Any] | int:
    """Let the controller measure on one load; return what it found, or the exit code."""
    parameters = {
        "load": name,
        "series_ohm": config.rig.series_resistor_ohm,
        "bias_v": bias_v(config),
        "accept_clamp": wishes.accept_clamp,
        "baud": config.ports.smu.baud,
    }
    uid = ask(client, "run", plan="commission", parameters=parameters)["uid"]
    status = follow(client, uid, quiet=wishes.json)
    run = status["run"]
    if run is None or run["uid"] != uid:
        raise InstrumentError(f"run {uid}: the controller broke off; see its messages. Nothing was written")
    if run["status"] == "completed":
        return dict(run["results"])
    tripped = run["status"] == "tripped"
    reason = f"{name}: {run['status']}: {run['reason']}"
    if wishes.json:
        error = {"reason": "tripped" if tripped else "wrong_load", "message": reason}
        print_json({"error": error, "loads": {name: run["results"]}})
    else:
        say(err, reason, "bold red")
        if tripped:
            say(err, f"{meaning(status['verdict'])} A resistor does not do that: what is connected? {REARM}")
        say(err, "nothing was written")
    return EXIT_TRIPPED if tripped else EXIT_FAILED


def table(profile: RigProfile, found: Mapping[str, Mapping[str, Any]], config: Config) -> list[Row]:
    """Return a profile as rows for a person: figure, value, how many, what it means."""
    period, cut = profile.sample_period_s, profile.cut_latency_s
    abort = found["10kohm"]["instrument"]["abort_s"]
    rows = [
        Row(("figure", "value", "n", "what it is"), ("bold", "bold", "bold", "bold")),
        Row(
            (
                "instrument",
                profile.serial_number,
                "",
                f"firmware {profile.firmware}, ends lines with {profile.terminator}",
            )
        ),
        Row(
            (
                "series resistance",
                si(profile.series_ohm, "ohm", 4),
                str(found["10kohm"]["total_n"]),
                f"measured total less 10 kohm; the file says {config.rig.series_resistor_ohm:g} ohm",
            )
        ),
        Row(
            (
                "10 Mohm reads",
                si(found["10Mohm"]["total_ohm"], "ohm", 4),
                str(found["10Mohm"]["total_n"]),
                "small currents; with the series resistor",
            )
        ),
        _times("reading, constant bias", period.constant, _rate),
        _times("reading on a ramp", period.ramp, _rate),
        _times("reading with check query", profile.check_period_s, lambda _: "the longest gap between two readings"),
        _times("cut", cut, lambda _: "decided to verified off: an upper bound, 0 V comes earlier"),
        Row(
            (
                "abort",
                f"{si(profile.abort_s, 's')}, longest {si(abort['max'], 's')}",
                str(abort["n"]),
                "from the abort to the next command being executed; output off",
            )
        ),
    ]
    ranges = [
        Row(
            (
                f"range {si(one.range_a, 'A', 1)}, {one.nplc:g} PLC",
                f"{si(one.offset_a, 'A')} offset, {si(one.sigma_a, 'A')} noise",
                str(one.n or ""),
                "contacts open, 0 V: mean and standard deviation of one reading",
            )
        )
        for one in profile.current
    ]
    return rows + ranges


def _times(name: str, times: Times, why: Callable[[Times], str]) -> Row:
    value = f"{si(times.p50, 's')}, p99 {si(times.p99, 's')}, longest {si(times.max, 's')}"
    return Row((name, value, str(times.n), why(times)))


def _rate(times: Times) -> str:
    return f"{1 / times.p50:.0f} readings/s" if times.p50 else ""
