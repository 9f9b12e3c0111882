"""The whole controller on a look-alike, in virtual time, and the questions that every such meeting must answer well."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final, cast

from edge.errors import TipguardError
from edge.experiments.iv import IvPlan
from edge.experiments.steps import Plan
from edge.guard.states import State
from edge.samples import Flag, Phase, Sample
from hil.devices.keithley2400 import Keithley2400
from hil.devices.lookalike.device import LookAlike
from hil.devices.lookalike.personality import Personality
from hil.errors import BenchFaultError
from hil.rig import VirtualRig
from hil.twin.ohmic import OhmicLoad
from hil.twin.truth import TruthRecord
from hil.virtual import VirtualClock, run_virtual
from hil.virtual_bench import VirtualBench

SWEEP: Final = IvPlan(to_v=-0.5, step_v=0.02, dwell_s=0.02, back_scan=False)
"""51 levels on the way there and back: about a second."""
LIMIT_A: Final = 1e-4
"""What a search up to 1 V is set up with."""
SERIES_OHM: Final = 1000.0
_NO_NUMBER: Final = Flag.UNPARSABLE | Flag.OVERFLOW | Flag.NOT_MEASURED
_NOISE_A: Final = 1e-7
"""More than the 100 uA range has at 0.01 power-line cycles."""
_DIGITS: Final = 2e-3
"""Relative; a reading of three decimals is at most 5e-4 beside the truth."""


class WatchedLoad(OhmicLoad):
    """A resistor that remembers behind which clamp it saw a bias."""

    def __init__(self, r_ohm: float, truth: TruthRecord) -> None:
        """Take ``r_ohm`` behind the bench's series resistor."""
        super().__init__(r_ohm, SERIES_OHM, truth=truth)
        self.total_ohm = r_ohm + SERIES_OHM
        self.widest_clamp_a = 0.0
        """The largest clamp under which the level was not 0 V."""
        self.levels_v: list[float] = []
        """Every level that was set while connected."""

    def set_source(self, t_ns: int, v_set: float, i_limit_a: float, *, connected: bool) -> None:
        """See :class:`hil.protocols.Load`."""
        if connected:
            self.levels_v.append(v_set)
        if connected and v_set != 0.0:
            self.widest_clamp_a = max(self.widest_clamp_a, i_limit_a)
        super().set_source(t_ns, v_set, i_limit_a, connected=connected)


@dataclasses.dataclass
class Meeting:
    """A look-alike, the controller that met it, and the runs that were tried."""

    bench: VirtualBench
    device: LookAlike
    load: WatchedLoad
    runs: list[dict[str, Any]]
    samples: list[Sample] = dataclasses.field(default_factory=list)
    """Read at the end."""

    @property
    def run(self) -> dict[str, Any]:
        """The last run."""
        return self.runs[-1]

    @property
    def notes(self) -> list[str]:
        """The notes of the status document."""
        notes: list[str] = self.bench.rig.worker.status()["notes"]
        return notes

    @property
    def ever_live(self) -> bool:
        """Whether the output was ever on."""
        return self.load.truth.events("live") != []

    async def sweep(self, plan: Plan = SWEEP) -> dict[str, Any]:
        """Run a plan to its end and keep its document."""
        self.bench.start(plan)
        self.runs.append(await self.bench.ended())
        return self.run

    def wrong(self) -> list[str]:
        """Return what must never be, in words; empty for a meeting that went as it should."""
        found = []
        if self.load.widest_clamp_a > LIMIT_A * 1.001:
            found.append(f"a bias behind a limit of {self.load.widest_clamp_a:g} A that was not the one read back")
        if not self.bench.off:
            found.append("the output is not off at the end")
        if self.bench.engine.state not in (State.SAFE, State.TRIPPED):
            found.append(f"the state at the end is {self.bench.engine.state.value}")
        for sample in self.samples:
            if math.isnan(sample.current_a):
                if not sample.flags & _NO_NUMBER:
                    found.append(f"no number and no flag: {sample}")
            elif not sample.flags and sample.phase == Phase.SEEK:
                true_a = sample.bias_v / self.load.total_ohm
                if abs(sample.current_a - true_a) > _NOISE_A + _DIGITS * abs(true_a):
                    found.append(f"another number than the resistor's {true_a:g} A: {sample}")
        return found


def meet(
    directory: Path,
    personality: Personality,
    work: Callable[[Meeting], Awaitable[None]] | None = None,
    *,
    r_ohm: float = 1e6,
    load: WatchedLoad | None = None,
    **options: Any,  # noqa: ANN401 - VirtualRig's own
) -> Meeting:
    """Start the controller on a look-alike over ``r_ohm`` (or ``load``); let ``work`` act on it (default: one sweep).

    Raises BenchFaultError if :meth:`Meeting.wrong` finds anything in the end, and whatever refuses the start.
    """

    async def main(clock: VirtualClock) -> Meeting:
        watched = load or WatchedLoad(r_ohm, TruthRecord())
        device = LookAlike(Keithley2400(watched), personality)
        # It has of a 2400 what the rig and the bench use.
        stands_in = cast("Keithley2400", device)
        async with VirtualRig.running(clock, watched, directory, device=stands_in, **options) as rig:
            meeting = Meeting(VirtualBench(rig, clock, watched, watched.truth), device, watched, [])
            if work is None:
                await meeting.sweep()
            else:
                await work(meeting)
            await meeting.bench.engine.until_off()
            meeting.samples = rig.samples()
            if found := meeting.wrong():
                raise BenchFaultError("; ".join(found[:5]))
            return meeting

    return run_virtual(main)


def refused_at_start(directory: Path, personality: Personality) -> str:
    """Return why the controller does not start on a look-alike; BenchFaultError if it starts, or if it energises."""
    load = WatchedLoad(1e6, TruthRecord())

    async def started(_meeting: Meeting) -> None:
        raise BenchFaultError("started on a unit that should have been refused")

    try:
        meet(directory, personality, started, load=load)
    except TipguardError as error:
        if load.truth.events("live"):
            raise BenchFaultError("a refused unit was energised") from error
        return str(error)
    raise BenchFaultError("started on a unit that should have been refused")
