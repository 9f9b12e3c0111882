"""``tipguard bench wire``: what the controller adds to the wire, at 57600 and 9600 baud, beside C in the same run."""

from __future__ import annotations

import statistics
from typing import Any, Final

from firmware_proto.keithley2400 import commands
from firmware_proto.keithley2400.status import OutputOff
from hil.bench.duel import Pace, duel
from hil.bench.latency import MARKS, QUANTILES, Sides, as_arrays, draw, percentile, raw
from hil.bench.native import Native, Trial, compiled
from hil.bench.options import BenchOptions
from hil.bench.report import Figure, bench_report
from hil.bench.sparring import CUT, LOAD_OHM, TO_V
from hil.devices.keithley2400 import Keithley2400, Timing
from hil.line.duplex import Duplex
from hil.line.pacing import BITS_PER_BYTE, NEVER
from hil.twin.ohmic import OhmicLoad

ROUNDS: Final = 5
TRIALS: Final = {57600: 400, 9600: 120}
"""A side and round."""
QUICK: Final = 12
"""So many times fewer if quick."""
WARM_UP: Final = 10
ALLOWED_S: Final = 100e-6
"""Over C's p99 of the same run."""


def wire(
    options: BenchOptions, *, rounds: int = ROUNDS, trials: dict[int, int] | None = None, delay_ns: int = 0
) -> dict[str, Any]:
    """Measure both rates. Raises BenchOptionError without a compiler.

    ``trials``: by rate, a side and round. ``delay_ns``: the reference dawdles before every cut.
    """
    if trials is None:
        trials = {baud: max(n // QUICK, WARM_UP) if options.quick else n for baud, n in TRIALS.items()}
    figures, pictures = [], []
    with compiled() as native:
        for number, (baud, count) in enumerate(trials.items()):
            sides = _measure(native, baud, count, rounds, options, number / len(trials), delay_ns)
            figures += _figures(sides, baud)
            pictures.append(sides)
        compiler = native.compiler
    if options.plots is not None:
        draw(
            pictures,
            options.plots / "wire.png",
            title="What is added to the wire, from reading to cut",
            axis="Added time",
            caption=f"Paced a byte at a time, trial by trial in turn. {MARKS}",
        )
    return bench_report("wire", figures, method=f"{_METHOD} {rounds} rounds; {compiler}, -O2.")


def byte_ns(baud: int) -> int:
    """Return how long a byte takes on a line, ns."""
    return BITS_PER_BYTE * 1_000_000_000 // baud


def added_s(trial: Trial, baud: int) -> float:
    """Return the time from a reading's last byte to the first bias-removing line's last, less that line's wire time, s.

    A line's bytes start when they were written and the line is free; what was written before them keeps it busy.
    """
    before = trial.answer.index(CUT)
    free_ns = trial.first_ns + before * byte_ns(baud)
    return (max(trial.line_ns, free_ns) - trial.sent_ns) / 1e9


def _measure(
    native: Native, baud: int, trials: int, rounds: int, options: BenchOptions, begin: float, delay_ns: int
) -> Sides:
    ours, theirs = [], []
    pace = Pace(byte_ns=byte_ns(baud))
    with duel(native, baud=baud, delay_ns=delay_ns) as fight:
        fight.round(min(WARM_UP, trials), pace)
        for number in range(rounds):
            options.progress(begin + 0.5 * number / rounds, f"{baud} baud, round {number + 1} of {rounds}")
            one = fight.round(trials, pace)
            ours.append([added_s(trial, baud) for trial in one.ours])
            theirs.append([added_s(trial, baud) for trial in one.theirs])
    return Sides(str(baud), as_arrays(ours), as_arrays(theirs))


def _figures(sides: Sides, baud: int) -> list[Figure]:
    ours, theirs = sides.all_of("ours"), sides.all_of("c")
    p99 = QUANTILES["p99"]
    target_s = percentile(theirs, p99) + ALLOWED_S
    # What the instrument does behind the cut's first byte takes the same time for every trial.
    behind_s = to_zero_s(baud)
    return [
        Figure(f"{sides.name}.added_p99_s", percentile(ours, p99), "s", target_s),
        *raw(sides),
        Figure(f"{sides.name}.to_zero_p50_s", statistics.median(ours.tolist()) + behind_s, "s"),
        Figure(f"{sides.name}.to_zero_p99_s", percentile(ours, p99) + behind_s, "s"),
    ]


class _Level(OhmicLoad):
    """Keeps when the source was last told to go to 0 V."""

    zero_ns = -1

    def set_source(self, t_ns: int, v_set: float, i_limit_a: float, *, connected: bool) -> None:
        """See Load."""
        super().set_source(t_ns, v_set, i_limit_a, connected=connected)
        if v_set == 0.0:
            self.zero_ns = t_ns


def to_zero_s(baud: int) -> float:
    """Return the time from a cut's first byte, written, to the tip at 0 V: its wire, and the emulated 2400's own, s."""
    load = _Level(LOAD_OHM)
    unit = Keithley2400(load, timing=Timing(), seed=1)
    duplex = Duplex(unit, baud, "line", lambda _t_ns, _data: None)
    setup = commands.configure(
        source_range_v=2.0,
        sense_range_a=100e-6,
        protection_a=100e-6,
        nplc=0.01,
        autozero=False,
        output_off=OutputOff.NORMAL,
    )
    t_ns = 1_000_000_000
    for message in (*setup, commands.OUTPUT_ON, commands.level_and_read(TO_V), CUT):
        began_ns = t_ns
        duplex.write(t_ns, message)
        while (due_ns := duplex.next_ns()) != NEVER:
            t_ns = max(t_ns, due_ns)
            duplex.run_until(t_ns)
    return (load.zero_ns - began_ns) / 1e9


_METHOD: Final = (
    "A paced line on a pseudo-terminal: the surge's reading comes a byte at a time, each when its stop bit has passed; "
    "added: from just before the write of its last byte to the last byte of :SOUR:VOLT 0, less that line's own wire "
    "time. Both sides in turn, before the same peer in C, as in bench reaction; all that is not a trial is unpaced. "
    "added_p99_s: all rounds as one; its target is C's p99 of the same run + 100 us. to_zero: from the reading's last "
    "byte to the tip at 0 V, what users get: added, the cut's 13 bytes on the wire, and the emulated 2400's "
    "processing of a level (7 ms with source autorange off, its data sheet's maximum), which the emulator is asked "
    "for. Not in it: an adapter's own buffers, a real unit's processing, the time from the surge to its reading."
)
