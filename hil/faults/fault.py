"""A fault of a plan while it runs: what is left of it, what it draws, and what is told of it once it took effect."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import NamedTuple

from hil.faults.kinds import KINDS
from hil.faults.plan import FaultSpec
from hil.line.pacing import NEVER


class Passed(NamedTuple):
    """Bytes handed to a line at ``t_ns``: as sent, and as they go on; ``note`` says what a fault did to them.

    ``port``: smu or stage; ``to``: host or device. What a fault makes late or sends by itself is noted as such.
    """

    t_ns: int
    port: str
    to: str
    sent: bytes
    arrived: bytes
    note: str


class Effect(NamedTuple):
    """What a fault did, not confirmed yet: ``byte`` and ``frame`` of its direction since the plan was armed, or -1."""

    detail: str
    byte: int = -1
    frame: int = -1


@dataclass(frozen=True, slots=True)
class Applied:
    """A fault that took effect at ``t_ns``.

    ``byte`` and ``frame``: where in its direction, counted from 0 since the plan was armed; -1 where neither means
    anything. ``sample``: how many readings the 2400 had taken with its output on since then. ``phase``: see
    :mod:`hil.faults.phases`. ``detail``: what was done.
    """

    name: str
    kind: str
    port: str
    t_ns: int
    byte: int
    frame: int
    sample: int
    phase: str
    detail: str

    def line(self) -> str:
        """Return one line for people."""
        where = f" byte {self.byte}" if self.byte >= 0 else ""
        where += f" frame {self.frame}" if self.frame >= 0 else ""
        return (
            f"{self.name}: applied at t={self.t_ns} ns{where} sample {self.sample} in {self.phase} "
            f"({self.kind} on {self.port}): {self.detail}"
        )

    def document(self) -> dict[str, int | str]:
        """Return what the servers print as one JSON line."""
        return {
            "applied": self.name,
            "kind": self.kind,
            "port": self.port,
            "t_ns": self.t_ns,
            "byte": self.byte,
            "frame": self.frame,
            "sample": self.sample,
            "phase": self.phase,
            "detail": self.detail,
        }


class Fault:
    """One fault under way."""

    def __init__(self, spec: FaultSpec, seed: int) -> None:
        """Begin untriggered; what it draws follows from ``seed`` and its name alone."""
        self.spec = spec
        self.kind = KINDS[spec.kind]
        self.rng = Random(f"{seed} {spec.name}")
        self.occurrences = 0
        self.until_ns = NEVER
        self.left = 0
        self.endless = spec.times == 0
        self.confirmed = 0

    def arm(self, t_ns: int) -> None:
        """Begin to act at ``t_ns``."""
        self.left = self.spec.times
        if self.kind.name == "mute" and self.spec.number("duration_s"):
            self.until_ns = t_ns + round(self.spec.number("duration_s") * 1e9)

    @property
    def spent(self) -> bool:
        """Whether it has acted as often as it should."""
        return not self.endless and self.left <= 0

    def act(self) -> bool:
        """It has acted once more; tell whether that was the last time."""
        self.left -= 1
        return self.spent

    def due(self) -> bool:
        """Count an occurrence of what triggers it; tell whether it is the one."""
        self.occurrences += 1
        return self.occurrences == self.spec.nth
