"""The arms in virtual time: the controller as shipped, with a front end in series with the tip, and without.

A front end decides within microseconds, which no host that shares two cores with eleven instruments keeps in real time:
its native port wakes a millisecond late. Here every sample is where it belongs. The sites, their seeds and levels are
those of the other arms, and so is the judge. The firmware is the real one, armed, leased and listened to by the
controller over its own line; its board is as slow as :mod:`edge.guard.envelope_frontend` reckons with.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import msgpack

from edge.controller.envelopes_frontend import CODE_A, SWITCH_OPEN_S
from edge.experiments.iv import IvPlan
from edge.guard.envelope_frontend import LATENCY_SAMPLES
from edge.ring import Kind
from hil.bench.dose.judge import TracedSite, measures, reset
from hil.bench.dose.served import AT_LIMIT_A, SERIES_OHM
from hil.bench.dose.trials import DWELL_S, FRONTEND, FRONTEND_10K, SERIAL, THRESHOLD_A, TO_V, VIRTUAL, Trial
from hil.frontend.lockstep import LockstepFrontend
from hil.frontend.lockstep_device import LockstepDevice
from hil.rig import VirtualRig, config_for
from hil.twin.terminals import NEVER_NS
from hil.virtual import VirtualClock, run_virtual

SAMPLE_HZ: Final = {SERIAL: None, FRONTEND_10K: 10_000, FRONTEND: 100_000}
"""Sampling rate of each arm's front end, S/s; None: it has none."""
HARD_A: Final = 50e-6
"""Half of the 100 uA that every arm is started with, as the guard's own hard limit."""
LEVEL_N: Final = 3
NOISE_CODES: Final = 4
"""Peak of the converter's noise, 0.16 uA."""


class SlowSwitchSite(TracedSite):
    """A site behind a switch that takes ``open_after_ns`` to open under current, as the slowest board does."""

    open_after_ns = 0
    opened_ns: int | None = None
    """When it opened under current last; None: never."""
    _opens_ns = NEVER_NS
    _driven_open = False

    @property
    def path_closed(self) -> bool:
        """Whether the switch is driven to be closed."""
        return not self._driven_open

    def switch_path(self, t_ns: int, *, closed: bool) -> None:
        """See SourcedLoad."""
        self.advance(t_ns)
        self._driven_open = not closed
        if closed or not self._connected:
            self._opens_ns = NEVER_NS
            super().switch_path(t_ns, closed=closed)
        elif self._opens_ns == NEVER_NS:
            self._opens_ns = t_ns + self.open_after_ns

    def advance(self, t_ns: int) -> None:
        """See SourcedLoad."""
        if self.before is not None:
            self.before(t_ns)
        if self._opens_ns <= t_ns:
            self.opened_ns, self._opens_ns = self._opens_ns, NEVER_NS
            super().switch_path(self.opened_ns, closed=False)
        super().advance(t_ns)


def sweep(trial: Trial, folder: Path) -> dict[str, Any]:
    """Run one trial of an arm of :data:`SAMPLE_HZ`; return its map as :func:`hil.bench.dose.arms.run_together` does."""
    sample_hz = SAMPLE_HZ[trial.arm]
    site = SlowSwitchSite("gb", seed=trial.seed, series_ohm=SERIES_OHM, limit_a=AT_LIMIT_A)
    site.trace = [] if trial.traced else None

    async def main(clock: VirtualClock) -> tuple[int, dict[str, Any], dict[str, Any]]:
        options: dict[str, Any] = {"config": config_for(series_ohm=SERIES_OHM), "seed": trial.seed}
        if sample_hz is not None:
            limits = {"hard_a": HARD_A, "level_a": THRESHOLD_A, "level_n": LEVEL_N}
            options["config"] = config_for(series_ohm=SERIES_OHM, frontend=limits)
            options["frontend"] = in_series(site, sample_hz, trial.seed)
        async with VirtualRig.running(clock, site, folder, **options) as rig:
            plan = IvPlan(to_v=TO_V, step_v=trial.step_v, dwell_s=DWELL_S, back_scan=False)
            run = await rig.run(plan)
            events = [msgpack.unpackb(record.payload) for record in rig.records() if record.kind == Kind.EVENT]
        cuts = [event for event in events if event["kind"] == "cut"]
        return clock.now_ns(), run, cuts[0] if cuts else {}

    t_ns, run, cut = run_virtual(main)
    found = measures(site, t_ns)
    said = {"status": run["status"], "reason": run["reason"], "verdict": cut.get("verdict")}
    head = {"site": trial.site, "seed": trial.seed, "arm": trial.arm, "condition": trial.condition}
    row = {**head, "step_v": trial.step_v, "said": said, **found, "at_onset": {}, "opened_ns": site.opened_ns}
    row["tripped_by"] = (cut.get("frontend") or {}).get("reason")
    row["n_nucleation"] = site.truth.entries[-1]["n_nucleation"]
    if found["onset_ns"] is None:
        return row
    if site.trace:
        onset_ns = found["onset_ns"]
        row["trace"] = [((p.t_ns - onset_ns) * 1e-9, p.i_a, p.v_tip) for p in site.trace]
        site.trace = None
    # For the judge nothing is in series but the resistor.
    site.before = None
    site.switch_path(t_ns, closed=True)
    return row | reset(site, t_ns)


def in_series(site: SlowSwitchSite, sample_hz: int, seed: int) -> LockstepDevice:
    """Put a front end in series with a site, its board as slow as the envelope takes it."""
    site.open_after_ns = round((LATENCY_SAMPLES / sample_hz + SWITCH_OPEN_S) * 1e9)
    core = LockstepFrontend(sample_hz=sample_hz, code_pa=round(CODE_A * 1e12))
    return LockstepDevice(core, site, noise_codes=NOISE_CODES, seed=seed)


def sweeps(sites: int, traced: int, progress: Callable[[float, str], None]) -> list[dict[str, Any]]:
    """Run all arms of :data:`SAMPLE_HZ` on so many sites; ``traced`` is the one whose current is drawn."""
    raw = []
    for site in range(sites):
        progress(site / sites, f"virtual time: site {site + 1} of {sites}")
        for arm, sample_hz in SAMPLE_HZ.items():
            # The picture has one trace an arm, and the controller's own in real time already.
            trial = Trial(site, arm, VIRTUAL, traced=site == traced and sample_hz is not None)
            with tempfile.TemporaryDirectory(prefix="tipguard-dose-") as folder:
                raw.append(sweep(trial, Path(folder)))
    return raw
