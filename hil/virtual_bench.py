"""A virtual rig with hands on its reply line and its panel: what tests and scenarios do to a rig under way."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

import msgpack

from edge.experiments.iv import IvPlan
from edge.experiments.steps import Plan
from edge.ring import Kind
from hil.errors import BenchFaultError
from hil.protocols import Wire
from hil.rig import VirtualRig
from hil.twin.ohmic import OhmicLoad
from hil.twin.terminals import SourcedLoad
from hil.twin.truth import TruthRecord
from hil.virtual import VirtualClock, run_virtual

MS: Final = 1_000_000
SWEEP: Final = IvPlan(to_v=-0.5, step_v=0.01, dwell_s=0.02, back_scan=False)
"""50 levels, then back: about two seconds."""


class EditedWire:
    """Stands between the instrument and its line and edits, drops or adds replies."""

    def __init__(self, wire: Wire) -> None:
        """Pass everything to ``wire`` until :attr:`edit` is set."""
        self.wire = wire
        self.edit: Callable[[bytes], bytes] = lambda data: data

    def lose_confirmations(self, count: int) -> None:
        """Drop the next ``count`` answers to a tagged query, which alone have three parts; pass everything else."""
        left = iter(range(count))
        self.edit = lambda data: b"" if data.count(b";") == 2 and next(left, None) is not None else data

    def send(self, t_ns: int, data: bytes) -> None:
        """See Wire; what the edit leaves empty is not sent."""
        edited = self.edit(data)
        if edited:
            self.wire.send(t_ns, edited)

    def discard(self, t_ns: int) -> None:
        """See Wire."""
        self.wire.discard(t_ns)


class VirtualBench:
    """A rig under way, with its load and truth, and its reply line in our hands."""

    def __init__(self, rig: VirtualRig, clock: VirtualClock, load: SourcedLoad, truth: TruthRecord) -> None:
        """Step between the instrument and its line."""
        self.rig = rig
        self.clock = clock
        self.load = load
        self.truth = truth
        self.engine = rig.worker.engine
        self.replies = EditedWire(rig.device.wire)
        rig.device.attach(self.replies)

    def start(self, plan: Plan = SWEEP) -> None:
        """Start a plan; raises what refuses it."""
        self.rig.worker.runner.start(plan, by="test")

    async def until(self, condition: Callable[[], bool], timeout_s: float = 30.0) -> None:
        """Let virtual time pass until ``condition`` holds; raise BenchFaultError after ``timeout_s``."""
        end = self.clock.now_ns() + int(timeout_s * 1e9)
        while not condition():
            if self.clock.now_ns() >= end:
                raise BenchFaultError(f"waited {timeout_s} s of virtual time; state {self.engine.state.value}")
            await self.clock.sleep_until(self.clock.now_ns() + MS)

    async def until_live(self, least_v: float = 0.1) -> None:
        """Let time pass until the tip is at ``least_v`` or more."""
        await self.until(lambda: abs(self.load.v_tip) >= least_v)

    async def ended(self) -> dict[str, Any]:
        """Wait for the run's end; return its map."""
        await self.rig.worker.runner.wait()
        run = self.rig.worker.runner.run
        if run is None:
            raise BenchFaultError("no run was started")
        return run

    def at_the_panel(self, message: bytes) -> None:
        """Do to the instrument what a person at its panel would."""
        self.rig.device.receive(self.clock.now_ns(), message + b"\n")
        self.rig.line.poke()

    def events(self) -> list[dict[str, Any]]:
        """Return the event documents among the records not read yet."""
        return [msgpack.unpackb(r.payload) for r in self.rig.records() if r.kind == Kind.EVENT]

    def safe_after(self, t_ns: int) -> float | None:
        """Return s from ``t_ns`` to the twin's first safe after it, if it stayed so."""
        after = [e for e in self.truth.entries if e["event"] in ("safe", "live") and int(e["t_ns"] or 0) >= t_ns]
        if not after or after[-1]["event"] != "safe":
            return None
        return (int(after[-1]["t_ns"] or 0) - t_ns) / 1e9

    @property
    def off(self) -> bool:
        """Output off, tip below 1 mV, and the keeper told so."""
        return not self.rig.device.output_on and abs(self.load.v_tip) < 1e-3 and not self.rig.page.energised


def on_bench(
    directory: Path,
    work: Callable[[VirtualBench], Awaitable[None]],
    *,
    load: Callable[[TruthRecord], SourcedLoad] = lambda truth: OhmicLoad(1e6, 1000.0, truth=truth),
    **options: Any,  # noqa: ANN401 - VirtualRig's own
) -> None:
    """Start a virtual rig in ``directory``, let ``work`` act on it, end it."""

    async def main(clock: VirtualClock) -> None:
        truth = TruthRecord()
        sample = load(truth)
        async with VirtualRig.running(clock, sample, directory, **options) as rig:
            await work(VirtualBench(rig, clock, sample, truth))

    run_virtual(main)
