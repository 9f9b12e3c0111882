"""The emulated benches: instruments as processes on pseudo-terminals, with a stage or a front end or without."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Literal

from hil.processes import BenchRig, FrontendSpec, RigSpec, StageSpec
from hil.suite.bench import Wish
from hil.suite.handle import RigHandle

OHMIC = "ohmic:"
DEFAULT_LOAD = "ohmic:1e6"

_NEEDED: Final[Mapping[str, Mapping[str, str]]] = {
    "": {},
    "native": {"cc": "gcc"},
    "qemu": {"arm-none-eabi-gcc": "gcc-arm-none-eabi", "qemu-system-arm": "qemu-system-arm"},
}
"""Programs that a front end needs, and the packages that have them."""


@dataclass(frozen=True, slots=True)
class EmulatedBench:
    """An emulated 2400, alone or, ``with_stage``, with a stage around one tip on a sample.

    ``frontend``: with a front end in series with the tip, its real firmware natively or on a Cortex-M3 under QEMU.
    """

    with_stage: bool = False
    frontend: Literal["", "native", "qemu"] = ""

    @property
    def name(self) -> str:
        """See :class:`hil.suite.bench.Bench`."""
        front = {"": "", "native": "-frontend", "qemu": "-frontend-qemu"}[self.frontend]
        return ("emulated-stage" if self.with_stage else "emulated") + front

    @property
    def missing(self) -> str:
        """Why it cannot be had on this host, empty if it can."""
        packages = [package for program, package in _NEEDED[self.frontend].items() if shutil.which(program) is None]
        return f"needs what builds and runs the firmware: apt-get install {' '.join(packages)}" if packages else ""

    @property
    def marks(self) -> tuple[str, ...]:
        """See :class:`hil.suite.bench.Bench`."""
        return ()

    @property
    def capabilities(self) -> frozenset[str]:
        """See :class:`hil.suite.bench.Bench`: the load of a tip is its sample."""
        front = {"frontend"} if self.frontend else set[str]()
        return frozenset({"smu", "emulated", "truth", "stage" if self.with_stage else "load"} | front)

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
        wished = settings.get("frontend") or FrontendSpec()
        front = replace(wished, qemu=self.frontend == "qemu") if self.frontend else None
        return replace(self._without(settings), frontend=front)

    def _without(self, settings: Mapping[str, Any]) -> RigSpec:
        if self.with_stage:
            # What is said about the load of a 2400 alone has no place under a tip.
            kept = {name: value for name, value in settings.items() if name not in {"load", "site", "twin"}}
            return RigSpec(**{"stage": StageSpec(), **kept})
        kept = {name: value for name, value in settings.items() if name != "stage"}
        return RigSpec(**kept if "site" in kept else {"load": DEFAULT_LOAD, **kept})
