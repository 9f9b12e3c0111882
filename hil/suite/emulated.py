"""The emulated benches: instruments as processes on pseudo-terminals, with a stage or without."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hil.processes import BenchRig, RigSpec, StageSpec
from hil.suite.bench import Wish
from hil.suite.handle import RigHandle

OHMIC = "ohmic:"
DEFAULT_LOAD = "ohmic:1e6"


@dataclass(frozen=True, slots=True)
class EmulatedBench:
    """An emulated 2400, alone or, ``with_stage``, with a stage around one tip on a sample."""

    with_stage: bool = False

    @property
    def name(self) -> str:
        """See :class:`hil.suite.bench.Bench`."""
        return "emulated-stage" if self.with_stage else "emulated"

    @property
    def marks(self) -> tuple[str, ...]:
        """See :class:`hil.suite.bench.Bench`."""
        return ()

    @property
    def capabilities(self) -> frozenset[str]:
        """See :class:`hil.suite.bench.Bench`: the load of a tip is its sample."""
        return frozenset({"smu", "emulated", "truth", "stage" if self.with_stage else "load"})

    def rig(self, directory: Path, wish: Wish) -> RigHandle:
        """See :class:`hil.suite.bench.Bench`."""
        spec = self._spec(wish.settings)
        bench = BenchRig(directory, spec)
        load = spec.load or ""
        return RigHandle(
            bench,
            start=bench.start,
            command=shlex.join(bench.smu_command),
            logs={"emulator": bench.smu_log, "controller": bench.controller_log},
            capabilities=self.capabilities,
            load_ohm=float(load.removeprefix(OHMIC)) if load.startswith(OHMIC) else None,
            truth=bench.truth,
        )

    def _spec(self, settings: Mapping[str, Any]) -> RigSpec:
        if self.with_stage:
            # What is said about the load of a 2400 alone has no place under a tip.
            kept = {name: value for name, value in settings.items() if name not in {"load", "site", "twin"}}
            return RigSpec(**{"stage": StageSpec(), **kept})
        kept = {name: value for name, value in settings.items() if name != "stage"}
        return RigSpec(**kept if "site" in kept else {"load": DEFAULT_LOAD, **kept})
