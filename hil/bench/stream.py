"""``tipguard bench stream``: every sample of a front end at 100 kS/s into a store, and what that costs a processor."""

from __future__ import annotations

import os
import statistics
from dataclasses import dataclass, field
from typing import Any, Final

from hil.bench.options import BenchOptions
from hil.bench.report import Figure, bench_report
from hil.bench.stream_plot import draw
from hil.bench.stream_sides import SAMPLE_HZ, WAYS, Ours, Progress, RunInterruptedError, Theirs, Way, ours, theirs
from hil.bench.uplink_sides import Ground

TRIES: Final = 3
"""Of one run; each that the controller interrupts is counted, and misses a target."""
CORES: Final = 0.6
"""Of one, what keeper and worker may take together."""


@dataclass(frozen=True, slots=True)
class Amount:
    """How much is measured."""

    ours_s: tuple[float, ...] = (60.0, 10.0, 10.0, 10.0, 10.0)
    """A run of the rig each; the first is that of the figures of cores."""
    script_s: float = 6.0
    """Of each script, in each round."""
    ways: tuple[Way, ...] = WAYS
    """Of writing a script; the usual one is among them."""


QUICK: Final = Amount((1.0,), 0.4, WAYS[:1])


@dataclass(frozen=True, slots=True)
class Rounds:
    """What was measured; of one number in both lists belong together."""

    ours: list[Ours]
    theirs: dict[str, list[Theirs]]
    """By way."""
    interrupted: list[str] = field(default_factory=list)
    """Why runs were begun anew."""

    def ratio(self, way: str) -> float:
        """Return the median over rounds of our rate to that script's of the same round."""
        pairs = zip(self.ours, self.theirs[way], strict=True)
        return statistics.median(one.rate_hz / max(other.rate_hz, 1.0) for one, other in pairs)

    def core_ratio(self, way: str) -> float:
        """Return the same of samples for each second of processor time."""
        pairs = zip(self.ours, self.theirs[way], strict=True)
        return statistics.median(one.per_core / max(other.per_core, 1.0) for one, other in pairs)


def stream(options: BenchOptions, amount: Amount | None = None) -> dict[str, Any]:
    """Measure.

    Raises BenchOptionError without a broker or a compiler, BenchFaultError when something does not do its part.
    """
    amount = amount or (QUICK if options.quick else Amount())
    rounds = Rounds([], {way.name: [] for way in amount.ways})
    whole_s = sum(amount.ours_s) + len(amount.ours_s) * len(amount.ways) * amount.script_s
    done_s = 0.0
    with Ground.prepared() as where:
        for number, seconds in enumerate(amount.ours_s, 1):
            what = f"round {number} of {len(amount.ours_s)}"

            def told(share: float, begun_s: float = done_s, seconds: float = seconds, what: str = what) -> None:
                options.progress((begun_s + share * seconds) / whole_s, what)

            told(0.0)
            rounds.ours.append(_whole(where, seconds, told, rounds.interrupted))
            done_s += seconds
            for way in amount.ways:
                options.progress(done_s / whole_s, f"{what}, {way.name}")
                rounds.theirs[way.name].append(theirs(where, way, amount.script_s))
                done_s += amount.script_s
        kind = where.broker.kind
    if options.plots is not None:
        draw(rounds.ours, rounds.theirs, options.plots / "stream.png")
    rest = ", ".join(f"{seconds:g}" for seconds in amount.ours_s)
    method = _METHOD.format(
        broker=kind, hz=SAMPLE_HZ, seconds=rest, script_s=amount.script_s, cores=len(os.sched_getaffinity(0))
    )
    return bench_report("stream", figures(rounds), method=method + bound(rounds))


def _whole(where: Ground, seconds: float, told: Progress, interrupted: list[str]) -> Ours:
    """Return a run that was not interrupted. Raises RunInterruptedError where the last try was, too."""
    for _ in range(TRIES - 1):
        try:
            return ours(where, seconds, told)
        except RunInterruptedError as error:
            interrupted.append(str(error))
    return ours(where, seconds, told)


def bound(rounds: Rounds) -> str:
    """Return what none of so many says about the share that may be lost, as a sentence; nothing where one was."""
    wanted = sum(one.balance.wanted for one in rounds.ours)
    if any(one.balance.lost for one in rounds.ours) or not wanted:
        return ""
    # The rule of three: with so small a share none of n is seen in one case of twenty.
    return f" Lost: 0 of {wanted}, so below {3 / wanted:.1e} of them at 95 %."


def figures(rounds: Rounds) -> list[Figure]:
    """Return the figures of what was measured."""
    first = rounds.ours[0]
    told = [one.balance for one in rounds.ours]
    result = [
        Figure("samples_lost", sum(one.lost for one in told), "", 0),
        Figure("samples_doubled", sum(one.doubled for one in told), "", 0),
        Figure("samples_wrong", sum(one.wrong for one in told), "", 0),
        Figure("runs_interrupted", len(rounds.interrupted), "", 0),
        Figure("samples", sum(one.wanted for one in told), ""),
        Figure("samples_per_s", first.balance.wanted / first.seconds, "1/s"),
        Figure("seconds", first.seconds, "s"),
        Figure("controller_cores", first.controller, "core", CORES),
        *(Figure(f"{name}_cores", value, "core") for name, value in first.cores.items()),
        Figure("controller_cores_highest", max(one.controller for one in rounds.ours), "core"),
        Figure("frame_bytes_per_sample", first.balance.total / max(first.kept, 1), "B"),
    ]
    for way, sides in rounds.theirs.items():
        result += [
            Figure(f"{way}_ratio", rounds.ratio(way), ""),
            Figure(f"{way}_core_ratio", rounds.core_ratio(way), ""),
            Figure(f"{way}_samples_per_s", statistics.median(one.rate_hz for one in sides), "1/s"),
            Figure(f"{way}_cores", statistics.median(one.cores["script"] for one in sides), "core"),
            Figure(f"{way}_lost", sum(one.lost for one in sides), ""),
        ]
    return result


_METHOD: Final = (
    "Ours: the real firmware's host port at {hz} S/s over a pseudo-terminal, its four tests and those of the "
    "controller on, recording full during a plan of an emulated 2400; ring in memory, outbox on disk, {broker} at QoS "
    "1, a directory store; all on this host's {cores} cores. Runs of {seconds} s, the figures of cores from the first: "
    "processor time of each process, as the kernel counts it, over time; controller: keeper and worker. lost, doubled, "
    "wrong: each sample of the window by its number and code, what stood before the converter against what the store "
    "holds. The wave is noise of a few codes around 0, as of a tip at rest, and dear to decode. script: pyserial "
    "readline, json.loads, a publish for each sample at QoS 0 (paho's default), from a device that has always one more "
    "line and waits while it is not read, so that its rate is the highest without loss; {script_s:g} s a round, in "
    "turn with ours. script_qos1: the same at QoS 1; script_buffered: reading what is there, not byte by byte. ratio: "
    "samples a second, ours (as many as the firmware takes, no more was tried) over the script's, median over rounds; "
    "core_ratio: for each second of processor time, ours of keeper, worker and uplink. Scripts keep nothing on a disk, "
    "and nothing is stored behind their broker. The controller runs as shipped, at real-time priority where that is "
    "permitted, the scripts as any program: beside other work that counts. Not in it: a microcontroller's USB, a "
    "network, another host's speed."
)
