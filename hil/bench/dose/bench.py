"""The bench as a whole: processes up, sites in blocks, arms interleaved within a block, figures."""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import tempfile
from pathlib import Path
from typing import Any, Final

from hil.bench.dose import figures, trials, virtual
from hil.bench.dose.arms import Arm, ControllerArm, ScriptArm, Server, run_together, scripts
from hil.bench.dose.load import Load
from hil.bench.dose.method import method
from hil.bench.dose.served import SERIES_OHM
from hil.bench.dose.talk import Desk
from hil.bench.dose.trials import GPIO, IDLE, LOADED, LOADED_TIMES, SERIAL, USUAL, Trial
from hil.bench.options import BenchOptions
from hil.bench.report import bench_report
from hil.broker import Broker
from hil.errors import BenchOptionError
from hil.frontend import build
from hil.processes.spec import RigSpec

SITES: Final = 200
QUICK_SITES: Final = 4
TOGETHER: Final = 4
"""Lines each for the two slow arms, whose seconds do not mind the others' milliseconds."""
TRACED: Final = 1
"""The site whose current is drawn."""


def dose(options: BenchOptions, sites: int | None = None) -> dict[str, Any]:
    """Measure all arms on ``sites`` sites (default 200, quick 4); raises BenchOptionError where it cannot be."""
    for module in ("pymeasure", "pyvisa_py"):
        if importlib.util.find_spec(module) is None:
            raise BenchOptionError(f"bench dose: {module} is not installed; `make setup` installs it")
    # Wanted last: better to know at once that there is no compiler.
    build.lockstep()
    n = sites or (QUICK_SITES if options.quick else SITES)
    raw, no_fifo = _measure(options, n)
    # After the others, whom it would only disturb.
    raw += virtual.sweeps(n, TRACED, options.progress)
    traces = {row["arm"]: row.pop("trace") for row in raw if "trace" in row}
    aimed, intervals = figures.targets(raw)
    report = bench_report("dose", [*aimed, *figures.others(raw)], method=method(raw, n, no_fifo))
    report["versions"] |= {name: importlib.metadata.version(name) for name in ("pymeasure", "pyvisa-py", "pyserial")}
    report |= {"intervals_95": intervals, "raw": raw}
    if options.plots is not None:
        from hil.bench.dose.plots import draw

        report["plots"] = [str(path) for path in draw(options.plots, raw, traces)]
    return report


def _measure(options: BenchOptions, n: int) -> tuple[list[dict[str, Any]], str | None]:
    # The run directory belongs on tmpfs; what the disk writer writes does not.
    tmpfs = "/dev/shm" if Path("/dev/shm").is_dir() else None  # noqa: S108 - the directory below is private
    clamps = [f"{trials.CLAMP}-{i}" for i in range(TOGETHER)]
    usuals = [f"{USUAL}-{i}" for i in range(TOGETHER)]
    lines = [*clamps, *usuals, trials.COMPETENT, SERIAL, f"{GPIO}+oe"]
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=tmpfs, prefix="tipguard-dose-")))
        disk = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tipguard-dose-")))
        options.progress(0.0, "starting")
        broker = stack.enter_context(Broker())
        desk = stack.enter_context(Desk(folder))
        server = Server(desk, folder, lines)
        controllers = [
            ControllerArm(SERIAL, server, folder, broker, RigSpec(series_ohm=SERIES_OHM)),
            ControllerArm(GPIO, server, folder, broker, RigSpec(series_ohm=SERIES_OHM, oe=True, oe_rearm="key")),
        ]
        for arm in controllers:
            stack.callback(arm.rig.close)
            arm.rig.start()
        run = _Run(desk, server, scripts(desk, server, clamps, usuals), controllers, stack.enter_context(Load(disk)))
        for first in range(0, n, TOGETHER):
            options.progress(first / n, f"site {first + 1} of {n}")
            sites = range(first, min(first + TOGETHER, n))
            run.idle(sites)
            run.loaded([site + n * time for site in sites for time in range(LOADED_TIMES)])
        return run.raw, server.no_fifo


class _Run:
    """Blocks of sites: the slow arms all at once, then the fast ones one by one, idle and loaded."""

    def __init__(
        self, desk: Desk, server: Server, scripted: list[ScriptArm], controllers: list[ControllerArm], load: Load
    ) -> None:
        self.raw: list[dict[str, Any]] = []
        self._desk, self._server, self._load = desk, server, load
        self._slow = [arm for arm in scripted if arm.name != trials.COMPETENT]
        self._controllers = controllers
        competent = next(arm for arm in scripted if arm.name == trials.COMPETENT)
        self._fast: list[Arm] = [competent, *controllers]
        self._loaded: list[Arm] = [competent, controllers[0]]

    def idle(self, sites: range) -> None:
        """Run all arms on ``sites``, at most TOGETHER, on a host that has nothing else to do."""
        given: list[tuple[Arm, Trial]] = []
        for name in (trials.CLAMP, USUAL):
            lines = [arm for arm in self._slow if arm.name == name]
            given += [(arm, _trial(site, name, IDLE)) for arm, site in zip(lines, sites, strict=False)]
        self._run(given)
        for site in sites:
            for arm in _turned(self._fast, site):
                self._run([(arm, _trial(site, arm.name, IDLE))])

    def loaded(self, sites: list[int]) -> None:
        """Run the two fast arms on ``sites`` while the host is busy."""
        self._load.on()
        try:
            for site in sites:
                for arm in _turned(self._loaded, site):
                    self._run([(arm, _trial(site, arm.name, LOADED))])
        finally:
            self._load.off()

    def _run(self, given: list[tuple[Arm, Trial]]) -> None:
        self.raw += run_together(self._desk, self._server, given, self._check)

    def _check(self) -> None:
        for arm in self._controllers:
            arm.rig.check()


def _trial(site: int, arm: str, condition: str) -> Trial:
    return Trial(site, arm, condition, traced=site == TRACED and condition == IDLE)


def _turned(arms: list[Arm], site: int) -> list[Arm]:
    """Return the arms in another order for the next site, so that none is always first."""
    turn = site % len(arms)
    return [*arms[turn:], *arms[:turn]]
