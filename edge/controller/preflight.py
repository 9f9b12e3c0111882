"""What a plan must pass before anything is sent: static refusals, each with the reason and what to do.

All of it is judged in the worker, whoever asks; a client is trusted with nothing.
"""

from __future__ import annotations

from typing import Final

from edge.config import Config
from edge.controller.commission import CommissionPlan
from edge.controller.tip import Tip
from edge.errors import PlanRefusedError
from edge.experiments.steps import Plan

MAX_NAMED: Final = 5
"""Points outside the travel that a refusal names."""
STABLE_NAMES: Final = ("/dev/serial/by-id/", "/dev/tipguard")
"""Names that follow a device, by the system's udev rules or by ours."""
UNPROTECTED_HOST_S: Final = 600.0
"""Longest plan without a heartbeat into /OE or a front end, unless the plan accepts the unprotected host."""


def _ports(config: Config) -> str:
    ports = (config.ports.smu, config.ports.stage, config.ports.frontend)
    return ", ".join(f"port {port.path}" for port in ports if port is not None)


def refuse_or_pass_stage(plan: Plan, tip: Tip | None) -> None:
    """Raise PlanRefusedError where a plan needs a stage that is not there, or a place outside its travel."""
    if not plan.needs_stage:
        return
    if tip is None:
        raise PlanRefusedError(
            f"{plan.name}: moves the tip, and this rig has no stage that answers; see [ports.stage] in the rig's file",
            reason="no_stage",
        )
    if not tip.ready:
        raise PlanRefusedError(
            f"{plan.name}: the stage has not answered; `tipguard status` says why", reason="stage_not_ready"
        )
    outside = [(number, why) for number, at in enumerate(plan.targets_m, 1) if (why := tip.outside(*at)) is not None]
    if outside:
        first = "; ".join(f"point {number}: {why}" for number, why in outside[:MAX_NAMED])
        more = f" and {len(outside) - MAX_NAMED} more" if len(outside) > MAX_NAMED else ""
        raise PlanRefusedError(f"{plan.name}: {first}{more}; nothing was moved", reason="outside_travel")


def clamp_layer(config: Config, v_max_v: float) -> str:
    """Say which layer holds the current limit at the largest bias of a plan."""
    resistor = config.rig.series_resistor_ohm
    if resistor > 0 and v_max_v / resistor <= config.limits.current_a:
        return f"series resistor: {v_max_v:g} V / {resistor:g} ohm = {v_max_v / resistor:.3g} A"
    return "SMU clamp only: about 30 us, and the cable's charge comes on top"


def _refuse_or_pass_hardware(plan: Plan, config: Config) -> None:
    """On a real port: a name that stays, and a rig profile, but for the plan that measures one on resistors."""
    # Not "isinstance": a third party's plan of a class made from it is none.
    if type(plan) is CommissionPlan:
        _refuse_or_pass_name(plan, config)
        return
    if config.profile is None:
        raise PlanRefusedError(
            f"{_ports(config)} is real hardware and this rig has no rig profile: cut latency, noise and "
            "offsets of this unit were never measured. Run `tipguard commission` (two resistors instead of the tip, "
            "two minutes), then restart the controller; without it plans run on `tipguard hil smu` only",
            reason="not_commissioned",
        )
    if (fault := config.profile_fault) is not None:
        raise PlanRefusedError(
            f"{_ports(config)} is real hardware, and {config.rig.profile_file} was measured with {fault}; run "
            "`tipguard commission` for this one, then restart the controller",
            reason="not_commissioned",
        )
    if config.profile.sign != (1 if config.wiring.hi == "tip" else -1):
        raise PlanRefusedError(
            f"wiring.hi is {config.wiring.hi!r}, and {config.rig.profile_file} was measured with the other end at HI; "
            "correct the file, or run `tipguard commission` and restart the controller",
            reason="not_commissioned",
        )
    _refuse_or_pass_name(plan, config)


def _refuse_or_pass_name(plan: Plan, config: Config) -> None:
    front = config.ports.frontend
    if front is not None and not front.path.startswith(STABLE_NAMES):
        raise PlanRefusedError(
            f"{plan.name}: port {front.path} is real hardware under a name that another device may have after the next "
            "plugging in; put a /dev/serial/by-id name into ports.frontend.path",
            reason="port_name",
        )
    if not config.ports.smu.path.startswith(STABLE_NAMES):
        raise PlanRefusedError(
            f"{plan.name}: port {config.ports.smu.path} is real hardware under a name that another device may have "
            "after the next plugging in; put a /dev/serial/by-id name into ports.smu.path",
            reason="port_name",
        )


def refuse_or_pass(plan: Plan, config: Config, *, emulated: bool) -> None:
    """Raise :class:`PlanRefusedError` for the first rule a plan breaks."""
    limits = config.limits
    if not emulated:
        _refuse_or_pass_hardware(plan, config)
    if isinstance(plan, CommissionPlan) and plan.series_ohm != config.rig.series_resistor_ohm:
        raise PlanRefusedError(
            f"{plan.name}: reckons with {plan.series_ohm:g} ohm in series, rig.series_resistor_ohm is "
            f"{config.rig.series_resistor_ohm:g}; restart the controller if the file was changed",
            reason="other_rig",
        )
    if config.rig.kind != "tip":
        # Output on at 0 V would short a charged cell; experiments for cells source current.
        raise PlanRefusedError(
            f"{plan.name}: is for a tip, rig.kind is {config.rig.kind!r}; experiments for cells come later",
            reason="rig_kind",
        )
    # "not <=" and "is True" throughout: what is not a number, or only looks like a yes, passes nothing.
    if not 0 <= plan.v_max_v <= limits.voltage_v:
        raise PlanRefusedError(
            f"{plan.name}: {plan.v_max_v:g} V is not within limits.voltage_v = {limits.voltage_v:g} V; lower the "
            "plan, or raise the ceiling in the rig's own file",
            reason="voltage_ceiling",
        )
    resistor = config.rig.series_resistor_ohm
    held = resistor > 0 and plan.v_max_v / resistor <= limits.current_a
    accepts = plan.describe().get("accept_clamp") is True
    if not held and not (accepts and limits.allow_clamp):
        need = plan.v_max_v / limits.current_a
        raise PlanRefusedError(
            f"{plan.name}: a short at {plan.v_max_v:g} V through {resistor:g} ohm would exceed limits.current_a = "
            f"{limits.current_a:g} A. Put at least {need:.0f} ohm at the tip (rig.series_resistor_ohm), or lower the "
            "plan. To rely on the SMU's clamp instead, set limits.allow_clamp = true in the rig's file and "
            "--accept-clamp on the plan",
            reason="series_resistor",
        )
    accepts = plan.describe().get("accept_unprotected_host") is True
    if config.gpio is None and config.frontend is None and not plan.duration_s() <= UNPROTECTED_HOST_S and not accepts:
        raise PlanRefusedError(
            f"{plan.name}: takes up to {plan.duration_s():.0f} s, and this rig is NOT PROTECTED against the loss of "
            f"this host (no /OE heartbeat, no front end). Shorten it below {UNPROTECTED_HOST_S:.0f} s, or say "
            "--accept-unprotected-host",
            reason="unprotected_host",
        )
