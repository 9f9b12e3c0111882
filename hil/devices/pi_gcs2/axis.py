"""One axis of the emulated stage: exact motion in time, nothing stepped, so that looking never changes anything."""

from __future__ import annotations

import math
from dataclasses import dataclass
from random import Random
from typing import Final

from hil.devices.pi_gcs2.model import AxisModel

_NS: Final = 1e-9
_NEVER_NS: Final = 1 << 62


@dataclass(frozen=True, slots=True)
class Profile:
    """A motion from ``start_um`` by ``travel_um`` (signed): ramp up, cruise, ramp down; all times from ``t_ns``.

    ``ramp_s`` is 0 without acceleration. ``v_um_s`` is the top speed that is reached, a magnitude. ``missing_um``
    (signed) is what creep leaves open when the motion ends; it grows in with the motion and fades with ``tau_s``.
    """

    t_ns: int
    start_um: float
    travel_um: float
    v_um_s: float
    ramp_s: float
    cruise_s: float
    missing_um: float
    tau_s: float

    @property
    def duration_s(self) -> float:
        """Return how long the motion takes."""
        return 2 * self.ramp_s + self.cruise_s

    @property
    def end_ns(self) -> int:
        """Return when the motion ends."""
        return self.t_ns + math.ceil(self.duration_s / _NS)

    def speed_um_s(self, t_ns: int) -> float:
        """Return the commanded speed at ``t_ns``, a magnitude in um/s."""
        t = (t_ns - self.t_ns) * _NS
        if t >= self.duration_s:
            return 0.0
        if self.ramp_s == 0.0:
            return self.v_um_s
        return self.v_um_s * min(1.0, t / self.ramp_s, (self.duration_s - t) / self.ramp_s)

    def position_um(self, t_ns: int) -> float:
        """Return the true position at ``t_ns``, not before the start."""
        done = self._done_um(t_ns)
        whole = abs(self.travel_um)
        share = 1.0 if whole == 0.0 else done / whole
        late_s = max(0.0, (t_ns - self.end_ns) * _NS)
        missing = self.missing_um * share * math.exp(-late_s / self.tau_s)
        return self.start_um + math.copysign(done, self.travel_um) - missing

    def _done_um(self, t_ns: int) -> float:
        t = max(0.0, (t_ns - self.t_ns) * _NS)
        if t >= self.duration_s:
            return abs(self.travel_um)
        ramp = self.ramp_s
        if t < ramp:
            return 0.5 * self.v_um_s * t * t / ramp
        if t <= ramp + self.cruise_s:
            return self.v_um_s * (t - 0.5 * ramp)
        left = self.duration_s - t
        return abs(self.travel_um) - 0.5 * self.v_um_s * left * left / ramp


def profile(
    t_ns: int, start_um: float, end_um: float, v_um_s: float, a_um_s2: float, missing_um: float, tau_s: float
) -> Profile:
    """Return a motion from rest to rest; short ones never reach ``v_um_s``."""
    travel = end_um - start_um
    length = abs(travel)
    if a_um_s2 == 0.0:
        return Profile(t_ns, start_um, travel, v_um_s, 0.0, length / v_um_s, missing_um, tau_s)
    top = min(v_um_s, math.sqrt(a_um_s2 * length))
    ramp = top / a_um_s2
    cruise = 0.0 if top == 0.0 else max(0.0, length / top - ramp)
    return Profile(t_ns, start_um, travel, top, ramp, cruise, missing_um, tau_s)


class Axis:
    """State of one axis. Times never go backwards; nobody checks that here, the controller does."""

    def __init__(self, model: AxisModel, *, referenced: bool, servo: bool, rng: Random) -> None:
        """Begin at rest where the model says, else in mid-travel, or somewhere in it if it is not referenced."""
        self.model = model
        self.name = model.name
        """Identifier on the wire."""
        self.servo = servo
        self.referenced = referenced
        self.reference_on = True
        """Where the axis is comes from a reference move and not from ``POS``."""
        self.velocity_um_s = model.velocity_um_s
        self.acceleration_um_s2 = model.acceleration_um_s2
        self.window_um = model.window_um
        self.settle_s = model.settle_s
        self.zeroed = False
        """An autozero procedure was successful."""
        self._rng = rng
        if model.start_um is not None:
            start = model.start_um
        elif referenced:
            start = 0.5 * (model.low_um + model.high_um)
        else:
            start = rng.uniform(model.low_um, model.high_um)
        # An incremental sensor counts from where it was switched on, until it is told better.
        self.offset_um = 0.0 if referenced else -start
        """What the controller adds to the true position, in every number on the wire but its limits."""
        self.target_um = start
        self.stalled = False
        self.referencing_until_ns: int | None = None
        self._settled_ns = 0
        self.profile = profile(0, start, start, model.velocity_um_s, 0.0, 0.0, model.creep_tau_s)
        self._settle()

    def true_um(self, t_ns: int) -> float:
        """Return where the axis really is."""
        return self.profile.position_um(t_ns)

    def read_um(self, t_ns: int) -> float:
        """Return what its sensor says: the truth, counted from where it counts from, and noise."""
        self.referencing(t_ns)
        noise = self.model.noise_um
        return self.true_um(t_ns) + self.offset_um + (self._rng.gauss(0.0, noise) if noise else 0.0)

    def moving(self, t_ns: int) -> bool:
        """Tell whether a commanded motion is under way."""
        return t_ns < self.profile.end_ns

    def on_target(self, t_ns: int) -> bool:
        """Tell whether it has been within the window for the settling time; never with the servo off."""
        return self.servo and not self.stalled and not self.moving(t_ns) and t_ns >= self._settled_ns

    def referencing(self, t_ns: int) -> bool:
        """Tell whether a reference move is under way; once its time is over the axis is referenced."""
        if self.referencing_until_ns is not None and t_ns >= self.referencing_until_ns:
            self.referencing_until_ns = None
            self.referenced = True
            self.offset_um = 0.0
        return self.referencing_until_ns is not None

    def move(self, t_ns: int, target_um: float) -> None:
        """Start towards ``target_um``. A motion under way is left at once: the new one begins at rest."""
        model = self.model
        start = self.true_um(t_ns)
        if self.stalled:
            self.target_um = target_um
            return
        # Each step creeps a little differently; the draw is the only thing that depends on the seed here.
        share = model.creep * max(0.0, self._rng.gauss(1.0, 0.2)) if model.creep else 0.0
        missing = share * (target_um - start)
        self.target_um = target_um
        self.profile = profile(
            t_ns, start, target_um, self.velocity_um_s, self.acceleration_um_s2, missing, model.creep_tau_s
        )
        self._settle()

    def stop(self, t_ns: int, *, abruptly: bool) -> None:
        """Stop at once, or with the deceleration; the target becomes where it stops. Ends a reference move, too."""
        self.referencing(t_ns)
        self.referencing_until_ns = None
        here = self.true_um(t_ns)
        speed = self.profile.speed_um_s(t_ns)
        a = self.acceleration_um_s2
        if abruptly or a == 0.0 or speed == 0.0:
            self._rest(t_ns, here)
            return
        # The second half of a symmetric motion whose top speed is the present one.
        ramp_s = speed / a
        way = math.copysign(0.5 * speed * ramp_s, self.profile.travel_um)
        began_ns = t_ns - math.ceil(ramp_s / _NS)
        self.target_um = here + way
        self.profile = Profile(began_ns, here - way, 2 * way, speed, ramp_s, 0.0, 0.0, self.model.creep_tau_s)
        self._settle()

    def stall(self, t_ns: int) -> None:
        """Jam where it is: it keeps its target, never reaches it, and no move gets it going until ``release``."""
        here, target = self.true_um(t_ns), self.target_um
        self._rest(t_ns, here)
        self.target_um = target
        self.stalled = True
        if self.referencing(t_ns):
            self.referencing_until_ns = _NEVER_NS

    def reference(self, t_ns: int) -> None:
        """Take the motion that has just begun for a reference move: at its end the axis is referenced."""
        self.referenced = False
        self.referencing_until_ns = _NEVER_NS if self.stalled else max(t_ns, self.profile.end_ns)

    def call_it(self, t_ns: int, position_um: float) -> None:
        """Take the present position for ``position_um``, which counts as a reference; nothing moves."""
        self.offset_um = position_um - self.true_um(t_ns)
        self.referencing_until_ns = None
        self.referenced = True

    def tune(self, *, window_um: float | None = None, settle_s: float | None = None) -> None:
        """Change what on-target means, also for a motion that is over."""
        self.window_um = self.window_um if window_um is None else window_um
        self.settle_s = self.settle_s if settle_s is None else settle_s
        self._settle()

    def release(self) -> None:
        """End a jam; the axis stays where it is until the next move."""
        self.stalled = False

    def set_servo(self, t_ns: int, *, on: bool) -> None:
        """Close or open the loop. Opening it ends a motion; closing it holds the present position."""
        if on != self.servo:
            self.servo = on
            self.stop(t_ns, abruptly=True)

    def _settle(self) -> None:
        """Find when the axis will be on target if nothing more happens: inside the window, for the settling time."""
        left = abs(self.profile.missing_um)
        model = self.model
        fade_s = model.creep_tau_s * math.log(left / self.window_um) if left > self.window_um else 0.0
        self._settled_ns = self.profile.end_ns + math.ceil((fade_s + self.settle_s) / _NS)

    def _rest(self, t_ns: int, here_um: float) -> None:
        self.target_um = here_um
        self.profile = profile(t_ns, here_um, here_um, self.velocity_um_s, 0.0, 0.0, self.model.creep_tau_s)
        self._settle()
