"""The inside of the emulated stage controller: axes, error register, autozero; everything at explicit times."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from random import Random
from typing import Final

from firmware_proto.gcs2.errors import ErrorCode, GcsError
from firmware_proto.gcs2.requests import parse_items
from hil.devices.pi_gcs2.axis import Axis, Profile
from hil.devices.pi_gcs2.mechanics import Mechanics, PositionAt
from hil.devices.pi_gcs2.model import Model
from hil.twin.truth import TruthRecord

_UM: Final = 1e-6


class Unit:
    """State of one controller; what a command does to it stands in :mod:`hil.devices.pi_gcs2.commands`.

    Events of the truth record: ``move`` (a motion began: axis, from_m, to_m, rest_ns), ``stop``, ``servo``, and
    ``summary`` at the end, with positions in m.
    """

    def __init__(
        self,
        model: Model,
        mechanics: Mechanics,
        *,
        seed: int,
        truth: TruthRecord | None,
        apply: Callable[[Unit, Axis, int, float], None],
    ) -> None:
        """Make a controller that is not powered yet. ``apply`` gives a parameter of an axis, by number, its value."""
        self._apply = apply
        self.model = model
        self.mechanics = mechanics
        self.truth = truth if truth is not None else TruthRecord()
        self._rng = Random(seed)
        self.error = 0
        self.autozero_until_ns: int | None = None
        self._autozero_axes: tuple[Axis, ...] = ()
        self.level = 0
        """Command level: what ``CCL`` has set."""
        self.reboot_due = False
        """``RBT`` was executed; the controller does the rest."""
        self.stored: dict[tuple[str, int], float] = {}
        """Parameters that the next start begins with, by axis (as in the model) and number."""
        self.volatile: dict[tuple[str, int], float] = {}
        self.seen_um: dict[str, float] = {}
        """Where each axis was when somebody last asked, for #6."""
        self.now_ns = 0
        self.n_moves = 0
        self.n_stops = 0
        self.axes: dict[str, Axis] = {}
        """By their names on the wire, which ``SAI`` changes; the model's are ``axis.model.name``."""

    def power_on(self, t_ns: int) -> None:
        """Come up at ``t_ns``: axes at rest, servos as the model says, no error."""
        self.now_ns = t_ns
        self.error = 0
        self.autozero_until_ns = None
        self.level = 0
        self.reboot_due = False
        self.volatile = {}
        self.axes = self._make(self._rng)
        self.seen_um = {name: axis.true_um(t_ns) for name, axis in self.axes.items()}
        for axis in self.axes.values():
            self.announce(axis)

    def fresh(self) -> dict[str, Axis]:
        """Return axes as the next start makes them, by the names of the model; nobody moves them."""
        return self._make(Random(0))

    def _make(self, rng: Random) -> dict[str, Axis]:
        absolute = self.model.referencing == "absolute"
        axes = {
            axis.name: Axis(axis, referenced=absolute, servo=self.model.servo_on, rng=rng) for axis in self.model.axes
        }
        for (name, number), value in self.stored.items():
            self._apply(self, axes[name], number, value)
        return axes

    def rename(self, names: Sequence[str]) -> None:
        """Give the axes, in their order, other names on the wire."""
        axes = list(self.axes.values())
        for axis, name in zip(axes, names, strict=True):
            axis.name = name
        self.axes = {axis.name: axis for axis in axes}

    def fail(self, code: int) -> None:
        """Keep an error for ``ERR?``; the last one counts."""
        self.error = int(code)

    def take_error(self) -> int:
        """Return the error register and clear it."""
        error, self.error = self.error, 0
        return error

    def named(self, words: Sequence[str]) -> list[Axis]:
        """Return the axes named, or all, as they are now; raises GcsError 15, 22 or 23."""
        for each in self.axes.values():
            # A reference move that has ended counts from here on, with the positions it brought.
            each.referencing(self.now_ns)
        found = []
        for name in parse_items(words):
            axis = self.axes.get(name)
            if axis is None:
                raise GcsError(ErrorCode.WRONG_AXIS, "no such axis", data=name)
            found.append(axis)
        return found or list(self.axes.values())

    def refuse_while_busy(self) -> None:
        """Raise GcsError 61 while the autozero procedure runs: nothing else may move or be set meanwhile."""
        if self.autozeroing():
            raise GcsError(ErrorCode.AUTOZERO_RUNNING, "busy")

    def autozeroing(self) -> bool:
        """Tell whether the autozero procedure runs."""
        if self.autozero_until_ns is not None and self.now_ns >= self.autozero_until_ns:
            self.autozero_until_ns = None
            for axis in self._autozero_axes:
                axis.zeroed = True
        return self.autozero_until_ns is not None

    def busy(self) -> bool:
        """Tell whether #7 says so: autozero, or a reference move."""
        return self.autozeroing() or any(axis.referencing(self.now_ns) for axis in self.axes.values())

    def start(self, axis: Axis, target_um: float) -> None:
        """Set an axis moving and tell the twin."""
        before = axis.true_um(self.now_ns)
        axis.move(self.now_ns, target_um)
        self.n_moves += 1
        self.announce(axis)
        self._record(
            "move", axis=axis.model.name, from_m=before * _UM, to_m=target_um * _UM, rest_ns=axis.profile.end_ns
        )

    def autozero(self, axes: Sequence[Axis]) -> None:
        """Begin the autozero procedure: the axes go to the low end of their travel, and are done after its time."""
        for axis in axes:
            axis.zeroed = False
            self.start(axis, axis.model.low_um)
        self._autozero_axes = tuple(axes)
        self.autozero_until_ns = self.now_ns + int(self.model.autozero_s * 1e9)

    def halt(self, axes: Sequence[Axis], *, abruptly: bool) -> None:
        """Stop axes, whatever they do; ``ERR?`` is 10 afterwards, also if nothing moved."""
        self.autozeroing()
        self.autozero_until_ns = None
        for axis in axes:
            axis.stop(self.now_ns, abruptly=abruptly)
            self.announce(axis)
        self.n_stops += 1
        self.fail(ErrorCode.STOPPED)
        self._record("stop", axes=" ".join(axis.model.name for axis in axes), abrupt=abruptly)

    def set_servo(self, axis: Axis, *, on: bool) -> None:
        """Close or open a loop and tell the twin."""
        axis.set_servo(self.now_ns, on=on)
        self.announce(axis)
        self._record("servo", axis=axis.model.name, on=on)

    def announce(self, axis: Axis) -> None:
        """Tell the twin where this axis is from now on."""
        self.mechanics.follow(self.now_ns, axis.model.name, _path(axis.profile), axis.profile.end_ns)

    def close(self) -> None:
        """Write the summary and close the record."""
        positions = {f"position_{axis.model.name}_m": axis.true_um(self.now_ns) * _UM for axis in self.axes.values()}
        self._record("summary", n_moves=self.n_moves, n_stops=self.n_stops, **positions)
        self.truth.close()

    def _record(self, event: str, **more: float | str | bool) -> None:
        self.truth.write({"t_ns": self.now_ns, "event": event, **more})

    # Numbers on the wire

    def tell(self, um: float) -> str:
        """Write a length in um, or a velocity in um/s, in the controller's unit and format."""
        return self.model.number(um / self.model.unit_um)

    def hear(self, number: float) -> float:
        """Return a number of the wire in um or um/s. Raises GcsError 17 where that is no number any more."""
        um = number * self.model.unit_um
        if not math.isfinite(um):
            raise GcsError(ErrorCode.PARAMETER_OUT_OF_RANGE, "too large")
        return um


def _path(profile: Profile) -> PositionAt:
    # The profile is immutable: the twin may look at a past motion after the next one has begun.
    return lambda t_ns: profile.position_um(t_ns) * _UM
