"""``tipguard bench reaction``: from a surge's last byte to its cut's first, the controller as shipped beside C."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, Final

from hil.bench.duel import Duel, Pace, duel
from hil.bench.flight_profile import NAMES, Parts
from hil.bench.latency import MARKS, QUANTILES, Sides, WithinSpread, as_arrays, draw, raw
from hil.bench.loads import busy_host
from hil.bench.native import Native, compiled
from hil.bench.options import BenchOptions
from hil.bench.report import Figure, bench_report
from hil.broker import Broker

ROUNDS: Final = 5
TRIALS: Final = 4000
"""A side and round: 20 000 in 5."""
QUICK_TRIALS: Final = 150
WARM_UP: Final = 50
P50_TARGET: Final = 1.15
P999_TARGET: Final = 1.5


def reaction(
    options: BenchOptions, *, rounds: int = ROUNDS, trials: int | None = None, delay_ns: int = 0
) -> dict[str, Any]:
    """Measure, idle and loaded. Raises BenchOptionError without a compiler or a broker.

    ``trials``: a side and round. ``delay_ns``: the reference dawdles before every cut, to see that the peer sees it.
    """
    count = trials or (QUICK_TRIALS if options.quick else TRIALS)
    with compiled() as native:
        idle, parts, says = _measure(native, "idle", None, options, rounds, count, delay_ns)
        with _uplink_and_load() as broker:
            loaded, _, _ = _measure(native, "loaded", broker, options, rounds, count, delay_ns)
        compiler = native.compiler
    figures = [figure for sides in (idle, loaded) for figure in _ratios(sides)]
    figures += [figure for sides in (idle, loaded) for figure in raw(sides)]
    figures += [Figure(f"{sides.name}.c_p999_spread", sides.spread(QUANTILES["p999"]), "") for sides in (idle, loaded)]
    if parts is not None:
        figures += [Figure(f"idle.{name}", value, "s") for name, value in zip(NAMES, parts, strict=True)]
    if options.plots is not None:
        draw(
            (idle, loaded),
            options.plots / "reaction.png",
            title="From the surge's last byte to the cut's first",
            axis="Time",
            caption=f"Pseudo-terminal, no wire time, trial by trial in turn. {MARKS}",
        )
    return bench_report("reaction", figures, method=f"{_METHOD} {rounds} rounds; {compiler}, -O2; the reference {says}")


def _ratios(sides: Sides) -> list[Figure]:
    p50, p999 = QUANTILES["p50"], QUANTILES["p999"]
    return [
        Figure(f"{sides.name}.p50_ratio", sides.ratio(p50), "", P50_TARGET),
        WithinSpread(f"{sides.name}.p999_ratio", sides.ratio(p999), "", P999_TARGET, spread=sides.spread(p999)),
    ]


def _measure(
    native: Native,
    name: str,
    broker: Broker | None,
    options: BenchOptions,
    rounds: int,
    trials: int,
    delay_ns: int,
) -> tuple[Sides, Parts | None, str]:
    ours, theirs, all_ours = [], [], []
    begin = 0.0 if broker is None else 0.5
    with duel(native, broker=broker, delay_ns=delay_ns) as fight:
        fight.round(min(WARM_UP, trials), Pace())
        for number in range(rounds):
            options.progress(begin + 0.5 * number / rounds, f"{name}, round {number + 1} of {rounds}")
            one = fight.round(trials, Pace())
            ours.append([(trial.first_ns - trial.sent_ns) / 1e9 for trial in one.ours])
            theirs.append([(trial.first_ns - trial.sent_ns) / 1e9 for trial in one.theirs])
            all_ours += one.ours
        parts = None if fight.profile is None else _parts(fight, all_ours)
        says = fight.reference.says
    return Sides(name, as_arrays(ours), as_arrays(theirs)), parts, says


def _parts(fight: Duel, trials: list[Any]) -> Parts | None:
    if fight.profile is None:
        return None
    fight.profile.drain()
    return fight.profile.parts(trials)


@contextlib.contextmanager
def _uplink_and_load() -> Iterator[Broker]:
    with Broker() as broker, busy_host():
        yield broker


_METHOD: Final = (
    "A surge on a pseudo-terminal, no wire time: from just before the write that ends its reading to the moment "
    "the cut's first byte (:SOUR:VOLT 0) was read, taken by one peer in C for both sides. Ours: keeper and worker as "
    "`tipguard controller` starts them, flight record on, the plan iv started over control.sock again and again; half "
    "of the surges fall to HARD_LIMIT, half to the second reading of SURGE_JUMP; the emulated 2400 answers all that "
    "is not a trial, at once. C: poll, read, line end, strtod, compare, write (hil/bench/reference.c), the worker's "
    "priority, memory locked where permitted. A trial of each in turn, the first one in turn, each after 0.5 to 1.5 ms "
    "in its poll. Loaded: a hog per core, a disk writer with fsync, an uplink that publishes everything (some 500 "
    "samples/s and 100 events/s) to a broker on this host. Ratios: median over rounds of ours over C's of the same "
    "round. p999_ratio counts as met up to `spread`, C's largest round over its median one, where that is above 1.5. "
    "sent_to_read_s and so on: medians of the parts of our way, from the flight record of the idle half. Not in it: a "
    "wire, an adapter, an instrument; see bench wire."
)
