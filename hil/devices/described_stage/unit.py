"""The inside of the emulated controller: axes, errors, status bits; everything at explicit times."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from random import Random
from typing import Final

from firmware_proto.stage_map import Condition, StageMap
from hil.devices.pi_gcs2 import AxisModel, Mechanics
from hil.devices.pi_gcs2.axis import Axis, Profile
from hil.devices.pi_gcs2.mechanics import PositionAt
from hil.twin.truth import TruthRecord

_UM: Final = 1e-6
QUEUE_OVERFLOW: Final = -350


class Refused(Exception):  # noqa: N818 - what a command is, not what went wrong here
    """A command that is not executed. ``code`` is the controller's number for the reason."""

    def __init__(self, code: int) -> None:
        super().__init__(f"refused with {code}")
        self.code = code


class Unit:
    """State of one controller. Events of the truth record are those of :mod:`hil.devices.pi_gcs2.unit`."""

    def __init__(
        self,
        rules: StageMap,
        models: Sequence[AxisModel],
        mechanics: Mechanics,
        *,
        seed: int,
        truth: TruthRecord | None,
        servo_on: bool,
        referenced: bool,
    ) -> None:
        """Make a controller that is not powered yet."""
        self.rules = rules
        self.models = tuple(models)
        self.mechanics = mechanics
        self.truth = truth if truth is not None else TruthRecord()
        self.now_ns = 0
        self.errors: deque[int] = deque()
        self.axes: dict[str, Axis] = {}
        self._rng = Random(seed)
        self._servo_on = servo_on
        self._referenced = referenced
        self._n_moves = 0
        self._n_stops = 0

    def power_on(self, t_ns: int) -> None:
        """Come up at ``t_ns``: axes at rest, loops as they are at power-on, no error."""
        self.now_ns = t_ns
        self.errors.clear()
        self.axes = {
            model.name: Axis(model, referenced=self._referenced, servo=self._servo_on, rng=self._rng)
            for model in self.models
        }
        for axis in self.axes.values():
            self.announce(axis)

    # Errors

    def fail(self, code: int) -> None:
        """Keep an error: in the queue, or as the last one."""
        if not self.rules.error.queue:
            self.errors.clear()
        elif len(self.errors) >= self.rules.emulated.queue:
            # As SCPI has it: what finds no room replaces the last entry by one that says so.
            self.errors[-1] = QUEUE_OVERFLOW
            return
        self.errors.append(int(code))

    def take_error(self) -> int | None:
        """Return the oldest error and forget it; None for none."""
        return self.errors.popleft() if self.errors else None

    # Motion

    def move(self, targets_um: dict[str, float]) -> None:
        """Move axes, all or none; raises Refused."""
        emulated = self.rules.emulated
        for name, target in targets_um.items():
            axis = self.axes[name]
            if not axis.servo or not axis.referenced or axis.referencing(self.now_ns):
                raise Refused(emulated.state)
            # A millionth of a um: what a number loses on its way between the units.
            if not axis.model.low_um - 1e-6 <= target <= axis.model.high_um + 1e-6:
                raise Refused(emulated.range)
        for name, target in targets_um.items():
            axis = self.axes[name]
            self._start(axis, min(max(target, axis.model.low_um), axis.model.high_um))

    def _start(self, axis: Axis, target_um: float) -> None:
        before = axis.true_um(self.now_ns)
        axis.move(self.now_ns, target_um)
        self._n_moves += 1
        self.announce(axis)
        self._record("move", axis=axis.name, from_m=before * _UM, to_m=target_um * _UM, rest_ns=axis.profile.end_ns)

    def reference(self, name: str) -> None:
        """Run an axis to its reference in mid-travel; raises Refused."""
        axis = self.axes[name]
        if not axis.servo:
            raise Refused(self.rules.emulated.state)
        self._start(axis, 0.5 * (axis.model.low_um + axis.model.high_um))
        axis.reference(self.now_ns)

    def halt(self) -> None:
        """Stop all axes, whatever they do."""
        for axis in self.axes.values():
            axis.stop(self.now_ns, abruptly=True)
            self.announce(axis)
        self._n_stops += 1
        if self.rules.error.stopped:
            self.fail(min(self.rules.error.stopped))
        self._record("stop", axes=" ".join(self.axes), abrupt=True)

    def set_servo(self, axis: Axis, *, on: bool) -> None:
        """Close or open a loop and tell the twin."""
        axis.set_servo(self.now_ns, on=on)
        self.announce(axis)
        self._record("servo", axis=axis.name, on=on)

    def announce(self, axis: Axis) -> None:
        """Tell the twin where this axis is from now on."""
        self.mechanics.follow(self.now_ns, axis.name, _path(axis.profile), axis.profile.end_ns)

    # What a status tells

    def moves(self, axes: Sequence[Axis]) -> bool:
        """Tell whether any of these moves."""
        return any(axis.moving(self.now_ns) for axis in axes)

    def on_target(self, axes: Sequence[Axis]) -> bool:
        """Tell whether all of these are on target."""
        return all(axis.on_target(self.now_ns) for axis in axes)

    def referenced(self, axes: Sequence[Axis]) -> bool:
        """Tell whether all of these have their reference."""
        return all(not axis.referencing(self.now_ns) and axis.referenced for axis in axes)

    def word(self, axes: Sequence[Axis]) -> int:
        """Return the status word of these axes, as far as the map gives its bits a meaning."""
        rules = self.rules
        word = 0
        states = [
            (rules.moving, self.moves(axes)),
            (rules.on_target, self.on_target(axes)),
            (rules.servo.state, all(axis.servo for axis in axes)),
            (None if rules.reference is None else rules.reference.state, self.referenced(axes)),
        ]
        for condition, true in states:
            if condition is not None and condition.query is None:
                word |= _bits(condition, true=true)
        if rules.error.mask and self.errors:
            word |= rules.error.mask & -rules.error.mask
        return word

    def close(self) -> None:
        """Write the summary and close the record."""
        positions = {f"position_{name}_m": axis.true_um(self.now_ns) * _UM for name, axis in self.axes.items()}
        self._record("summary", n_moves=self._n_moves, n_stops=self._n_stops, **positions)
        self.truth.close()

    def _record(self, event: str, **more: float | str | bool) -> None:
        self.truth.write({"t_ns": self.now_ns, "event": event, **more})


def _bits(condition: Condition, *, true: bool) -> int:
    if condition.value is None:
        return condition.mask if true else 0
    if true:
        return condition.value
    # Anything else under the mask: nothing, unless it is nothing that means yes.
    return 0 if condition.value else condition.mask


def _path(profile: Profile) -> PositionAt:
    # The profile is immutable: the twin may look at a past motion after the next one has begun.
    return lambda t_ns: profile.position_um(t_ns) * _UM
