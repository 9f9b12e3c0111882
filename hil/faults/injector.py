"""Faults of a plan, carried out: triggers are watched, faults act where they belong and are told once they did.

One injector serves one bench: the lines, devices and loads that :meth:`Injector.plug_smu`,
:meth:`Injector.plug_stage` and :meth:`Injector.plug_frontend` hand it. Nothing acts before :meth:`Injector.arm`. The
same plan, seed and run give the same faults at the same places.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final

from hil.devices.keithley2400 import Keithley2400
from hil.errors import BenchFaultError, BenchOptionError
from hil.faults.fault import Applied, Effect, Fault, Passed
from hil.faults.frontend import FrontendFaults, name_of
from hil.faults.phases import PhaseWatch
from hil.faults.plan import FaultPlan
from hil.faults.port import Plug, Port
from hil.faults.smu import SmuFaults
from hil.faults.stage import StageFaults
from hil.faults.tip import TipFaults
from hil.frontend.unit import FrontendUnit
from hil.line.pacing import NEVER
from hil.protocols import Load, StageDevice

TRACE_ROWS: Final = 20_000
"""So many messages are kept for reports, the newest."""

__all__ = ["Applied", "Injector", "Passed"]


class Injector:
    """Carries out a plan; ``on_applied`` is told of each fault that took effect.

    ``applied`` has them in their order: as many as a fault's ``times``, one for a fault that acts for good.
    """

    def __init__(self, plan: FaultPlan, on_applied: Callable[[Applied], None] | None = None) -> None:
        """Take a plan; nothing is plugged in yet."""
        self.plan = plan
        self.applied: list[Applied] = []
        self.trace: deque[Passed] = deque(maxlen=TRACE_ROWS)
        self.samples = 0
        self.armed_ns: int | None = None
        self._on_applied = on_applied
        self._faults = {spec.name: Fault(spec, plan.seed) for spec in plan.faults}
        self._ports: dict[str, Port] = {}
        self._phases: PhaseWatch | None = None
        self._smu: SmuFaults | None = None
        self._stage: StageFaults | None = None
        self._frontend: FrontendFaults | None = None
        self._tip: TipFaults | None = None
        self._at_sample: list[Fault] = []
        self._at_phase: list[Fault] = []
        self._at_command: list[Fault] = []
        self._waits_for_onset = False

    # Wiring

    def plug_smu(self, line: Plug, device: Keithley2400, load: Load) -> None:
        """Step into the line of a 2400 with a load at its terminals."""
        port = self._ports["smu"] = Port("smu", self, line)
        self._phases = PhaseWatch(device)
        self._smu = SmuFaults(device, port, self._confirm_now)
        self._smu.on_sample = self._sample
        self._tip = TipFaults(load, port, self._confirm_now)
        self._tip.on_onset = self._onset
        device.disturb(self._smu)

    def plug_stage(self, line: Plug, device: StageDevice) -> None:
        """Step into the line of a stage."""
        port = self._ports["stage"] = Port("stage", self, line)
        self._stage = StageFaults(device, port, self._confirm_now)

    def plug_frontend(self, line: Plug, device: FrontendUnit) -> None:
        """Step into the line of a front end."""
        port = self._ports["frontend"] = Port("frontend", self, line)
        self._frontend = FrontendFaults(device, port, self._confirm_now)

    # The plan

    def names(self) -> tuple[str, ...]:
        """Return the names of all faults."""
        return tuple(self._faults)

    def on_demand(self) -> tuple[str, ...]:
        """Return the names of the faults that act on demand."""
        return tuple(name for name, fault in self._faults.items() if fault.spec.trigger == "on_demand")

    def missed(self) -> tuple[str, ...]:
        """Return the names of the faults that never took effect, in the plan's order."""
        return tuple(name for name, fault in self._faults.items() if not fault.confirmed)

    def arm(self, t_ns: int) -> None:
        """Count bytes, messages, readings and time from ``t_ns`` on. Once; raises BenchFaultError the second time.

        Raises BenchOptionError for a fault that this bench cannot have.
        """
        if self.armed_ns is not None:
            raise BenchFaultError("the fault plan is armed already; a bench has one plan and one run of it")
        self.check()
        self.armed_ns = t_ns
        if self._phases is not None:
            self._phases.step()
        self._at_sample = self._triggered_by("at_sample")
        self._at_phase = self._triggered_by("at_phase")
        self._at_command = self._triggered_by("at_command")
        self._waits_for_onset = any(fault.spec.at == "onset" for fault in self._at_phase)
        on_line = self._triggered_by("at_byte", "at_frame")
        for name, port in self._ports.items():
            for to in ("host", "device"):
                here = [one for one in on_line if one.spec.port == name and (one.spec.to or "host") == to]
                port.direction(to).arm(here)
        for fault in self._triggered_by("at_s"):
            self._later(fault, t_ns + round(float(fault.spec.at) * 1e9))

    def _triggered_by(self, *triggers: str) -> list[Fault]:
        return [fault for fault in self._faults.values() if fault.spec.trigger in triggers]

    def check(self) -> None:
        """Raise BenchOptionError for a fault that this bench cannot have; :meth:`arm` does, too."""
        for fault in self._faults.values():
            self._check(fault)

    def demand(self, name: str, t_ns: int) -> None:
        """Let a fault act at ``t_ns`` whose trigger is ``on_demand``; raises BenchOptionError for another.

        Demanded again, it acts again.
        """
        fault = self._faults.get(name)
        if fault is None or fault.spec.trigger != "on_demand":
            known = ", ".join(self.on_demand()) or "none"
            why = "no such fault" if fault is None else f"its trigger is {fault.spec.trigger}"
            raise BenchOptionError(f"fault {name!r}: {why}; on demand: {known}")
        if self.armed_ns is None:
            raise BenchOptionError(f"fault {name!r}: the plan is not armed yet")
        self.set_off(fault, t_ns)

    @property
    def phase(self) -> str:
        """Where the run is, as the bench sees it; empty without a 2400."""
        return "" if self._phases is None else self._phases.phase

    def _check(self, fault: Fault) -> None:
        spec = fault.spec
        where = f"{self.plan.source}: fault {spec.name!r}"
        if spec.port not in self._ports:
            raise BenchOptionError(
                f"{where}: port = {spec.port!r}: this bench has {' and '.join(self._ports) or 'none'}"
            )
        if spec.trigger in ("at_sample", "at_phase") and self._phases is None:
            raise BenchOptionError(f"{where}: {spec.trigger}: this bench has no 2400")
        group = fault.kind.group
        if group != "wire":
            part = self._part(group)
            refusal = f"this bench has no {group}" if part is None else part.refusal(fault)
            if refusal:
                raise BenchOptionError(f"{where}: {spec.kind}: {refusal}")
        if spec.at == "onset" and spec.trigger == "at_phase" and self._tip is not None and not self._tip.has_onset:
            raise BenchOptionError(f"{where}: at_phase = 'onset': this load has none to tell of")

    # Triggers

    def set_off(self, fault: Fault, t_ns: int) -> None:
        """Let a fault act at ``t_ns``, or later if it wants to."""
        after_ns = round(fault.spec.after_s * 1e9)
        if after_ns:
            self._later(fault, t_ns + after_ns)
        else:
            self._begin(fault, t_ns)

    def _later(self, fault: Fault, t_ns: int) -> None:
        after_ns = round(fault.spec.after_s * 1e9) if fault.spec.trigger == "at_s" else 0
        self._ports[fault.spec.port].later(t_ns + after_ns, lambda at_ns: self._begin(fault, at_ns))

    def _begin(self, fault: Fault, t_ns: int) -> None:
        port = self._ports[fault.spec.port]
        if fault.kind.group == "wire":
            port.begin(fault, t_ns)
            return
        fault.arm(t_ns)
        part = self._part(fault.kind.group)
        if part is not None:
            part.begin(fault, t_ns)

    def _part(self, group: str) -> SmuFaults | StageFaults | FrontendFaults | TipFaults | None:
        parts = {"smu": self._smu, "stage": self._stage, "frontend": self._frontend, "tip": self._tip}
        return parts[group]

    def on_message(self, port: Port, t_ns: int, data: bytes) -> list[Fault]:
        """See :class:`hil.faults.port.Owner`."""
        if self.armed_ns is None:
            return []
        after: list[Fault] = []
        text = name_of(data) if port.name == "frontend" else _words(data)
        for fault in self._at_command:
            spec = fault.spec
            begins = str(spec.at).lstrip(":").lower()
            if spec.port == port.name and text.lower().startswith(begins) and fault.due():
                on_wire = fault.kind.group == "wire" and not (spec.to == "host" and fault.kind.name in _AT_ONCE)
                if on_wire or spec.after_s:
                    self.set_off(fault, t_ns)
                else:
                    after.append(fault)
        if port.name == "smu" and self._phases is not None:
            self._entered(self._phases.message(text), t_ns)
        return after

    def on_step(self, port: Port, t_ns: int) -> None:
        """See :class:`hil.faults.port.Owner`."""
        if self._phases is not None and port.name == "smu" and self.armed_ns is not None:
            entered = self._phases.step()
            if entered:
                self._entered(entered, t_ns)

    def _entered(self, phases: list[str], t_ns: int) -> None:
        for phase in phases:
            for fault in self._at_phase:
                if fault.spec.at == phase and fault.due():
                    self.set_off(fault, t_ns)

    def _onset(self, t_ns: int) -> None:
        if self.armed_ns is not None:
            self._entered(["onset"], t_ns)

    def _sample(self, t_ns: int) -> None:
        if self.armed_ns is None:
            return
        number, self.samples = self.samples, self.samples + 1
        for fault in tuple(self._at_sample):
            if fault.spec.at == number:
                self._at_sample.remove(fault)
                self.set_off(fault, t_ns)

    # What ports ask

    def watch_ns(self, port: Port) -> int:
        """See :class:`hil.faults.port.Owner`."""
        if not self._waits_for_onset or port.name != "smu" or self._tip is None:
            return NEVER
        return self._tip.next_ns

    def watch(self, port: Port, t_ns: int) -> None:
        """See :class:`hil.faults.port.Owner`."""
        if port.name == "smu" and self._tip is not None:
            self._tip.live(t_ns)

    def keep(self, passed: Passed) -> None:
        """See :class:`hil.faults.port.Owner`."""
        self.trace.append(passed)

    def confirm(self, fault: Fault, t_ns: int, effect: Effect) -> None:
        """See :class:`hil.faults.port.Owner`."""
        fault.confirmed += 1
        if fault.endless and fault.confirmed > 1:
            return
        spec = fault.spec
        applied = Applied(
            spec.name,
            spec.kind,
            spec.port,
            t_ns,
            effect.byte,
            effect.frame,
            self.samples,
            self.phase,
            effect.detail,
        )
        self.applied.append(applied)
        if self._on_applied is not None:
            self._on_applied(applied)

    def _confirm_now(self, fault: Fault, t_ns: int, detail: str) -> None:
        self.confirm(fault, t_ns, Effect(detail))
        port = fault.spec.port
        self.keep(Passed(t_ns, port, "device", b"", b"", f"{fault.spec.name}: {detail}"))


def _words(data: bytes) -> str:
    return data.decode("latin-1").strip("\r\n\x03\x18").lstrip(":").strip()


_AT_ONCE: Final = ("unplug", "insert", "xoff", "stale")
