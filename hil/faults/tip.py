"""Faults between tip and sample: through the load's own circuit, so that its record stays the truth."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

from hil.faults.fault import Fault
from hil.faults.port import Port
from hil.line.pacing import NEVER
from hil.protocols import Load
from hil.twin.terminals import SourcedLoad
from hil.twin.tip import ScanningTip

Confirm = Callable[[Fault, int, str], None]
RETRY_NS: Final = 1_000_000
"""How often a fault that needs contact, or a voltage, looks whether there is one."""


class TipFaults:
    """The faults of one load."""

    def __init__(self, load: Load, port: Port, confirm: Confirm) -> None:
        """Take the load; ``confirm`` is told what took effect."""
        self._load = load if isinstance(load, SourcedLoad) else None
        self._port = port
        self._confirm = confirm
        self.on_onset: Callable[[int], None] = lambda _t_ns: None
        if self._load is not None:
            self._load.on_event = self._event

    @property
    def has_onset(self) -> bool:
        """Whether the load tells of its filaments."""
        return self._load is not None

    @property
    def next_ns(self) -> int:
        """When the sample changes by itself, or NEVER."""
        return NEVER if self._load is None else self._load.next_change_ns

    def live(self, t_ns: int) -> None:
        """Let the sample live until ``t_ns``."""
        if self._load is not None:
            self._load.advance(t_ns)

    def refusal(self, fault: Fault) -> str:
        """Return why this load cannot have a fault; empty if it can."""
        if self._load is None:
            return "this load is no sample of the twin"
        if fault.kind.name == "drift" and not isinstance(self._load, ScanningTip):
            return "only a tip that a stage moves can drift over its sample"
        if fault.kind.name == "drift" and not (fault.spec.number("x_nm_s") or fault.spec.number("y_nm_s")):
            return "0 nm/s is no drift"
        return ""

    def begin(self, fault: Fault, t_ns: int) -> None:
        """Let a fault act at ``t_ns``, or as soon as it can."""
        self._port.later(t_ns, lambda at_ns: self._act(fault, at_ns))

    def _event(self, t_ns: int, event: str) -> None:
        if event == "set_onset":
            self.on_onset(t_ns)

    def _act(self, fault: Fault, t_ns: int) -> None:
        load = self._load
        if load is None:
            return
        name, spec = fault.kind.name, fault.spec
        if name == "open_tip":
            detail = load.lose_contact(t_ns)
        elif name == "stuck_on":
            detail = load.stick_on(t_ns)
        elif name == "telegraph":
            self._telegraph(fault, load, t_ns)
            return
        elif name == "glitch":
            detail = self._glitch(fault, load, t_ns)
        elif isinstance(load, ScanningTip):
            x_m_s, y_m_s = spec.number("x_nm_s") * 1e-9, spec.number("y_nm_s") * 1e-9
            detail = load.drift(t_ns, x_m_s, y_m_s)
        else:
            return
        if detail:
            self._confirm(fault, t_ns, detail)
        else:
            self._port.later(t_ns + RETRY_NS, lambda at_ns: self._act(fault, at_ns))

    def _telegraph(self, fault: Fault, load: SourcedLoad, t_ns: int) -> None:
        duration_s = fault.spec.number("duration_s")
        end_ns = t_ns + round(duration_s * 1e9) if duration_s else NEVER
        self._toggle(fault, load, t_ns, end_ns, on=True)

    def _toggle(self, fault: Fault, load: SourcedLoad, t_ns: int, end_ns: int, *, on: bool) -> None:
        """Switch the conductance on or off; the times between are drawn from an exponential law."""
        value, over = fault.spec.number("value"), t_ns >= end_ns
        load.advance(t_ns)
        before_a = load.terminal_current_a
        load.shunt(t_ns, fault.spec.name, 0.0 if over or not on else value)
        if on and not over and not fault.confirmed:
            after_a = load.terminal_current_a
            if after_a != before_a:
                self._confirm(fault, t_ns, f"{value:g} S beside the sample: {before_a:.3e} -> {after_a:.3e} A")
        if over:
            return
        wait_ns = max(1000, round(fault.rng.expovariate(fault.spec.number("rate_hz")) * 1e9))
        next_ns = min(t_ns + wait_ns, end_ns)
        self._port.later(next_ns, lambda at_ns: self._toggle(fault, load, at_ns, end_ns, on=not on))

    def _glitch(self, fault: Fault, load: SourcedLoad, t_ns: int) -> str:
        wanted_a = fault.spec.number("value")
        load.advance(t_ns)
        siemens = load.shunt_for(wanted_a)
        if not siemens:
            return ""
        before_a = load.terminal_current_a
        load.shunt(t_ns, fault.spec.name, siemens)
        duration_s = fault.spec.number("duration_s")
        self._port.later(t_ns + round(duration_s * 1e9), lambda at_ns: load.shunt(at_ns, fault.spec.name, 0.0))
        ohm = 1 / siemens if siemens < math.inf else 0.0
        return f"{ohm:.3g} ohm beside the sample for {duration_s:g} s, {wanted_a:g} A wanted, {before_a:.3e} A before"
