"""Every check of the firmware that protects the tip: it holds, and without it the tip comes to harm."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from hil.frontend import build
from hil.frontend.build import Edit
from tests.hil.frontend import guards as g
from tests.hil.frontend.desk import armed, needs_cc

pytestmark = needs_cc

Guard = Callable[[Path | None], None]


def core(old: str, new: str) -> Edit:
    return Edit("tg_core.c", old, new)


def link(old: str, new: str) -> Edit:
    return Edit("tg_link.c", old, new)


def send(old: str, new: str) -> Edit:
    return Edit("tg_send.c", old, new)


LEASE_ENDS = "if (judged && now >= core->lease_deadline)"
RESEND = "|| tg_port_ticks(core->port) - link->report_ticks >= ms(core, TG_TRIP_RESEND_MS)"
IN_RANGE = "if (!tg_config_in_range(config) || config->hard_code > board->full_scale_code"
REVIVED = "if (tg_port_ticks(core->port) >= core->lease_deadline)"
LATCH = "core->state = TG_STATE_TRIPPED;\n    tg_trip_record"
HELLO_ARMED = "if (core->state == TG_STATE_ARMED) {\n        tg_core_trip(core, TG_REASON_LEASE"
NOT_SAFE = "if (core->state != TG_STATE_SAFE) {\n        return TG_REFUSAL_STATE;\n    }\n    if (!core->configured"
CONFIG_SAFE = (
    "if (core->state != TG_STATE_SAFE) {\n        return TG_REFUSAL_STATE;\n    }\n    if (!tg_config_in_range"
)
CLOSED_BOX = (
    "if (!core->trip.acknowledged) {\n        return TG_REFUSAL_NOT_ACKNOWLEDGED;\n    }\n    if (core->box.held)"
)
ARM_SCHEMA = "if (!core->link.schema_agrees) {\n        return TG_REFUSAL_SCHEMA;\n    }\n    if (core->box.held)"
NO_CONFIG = "    core->configured = false; /* what another host wanted is not this one's wish */\n"
BOOT = "void tg_core_init(tg_core *core, const tg_board *board, void *port)\n{\n    tg_port_switch(port, false);"

CHECKS: list[tuple[Guard, tuple[Edit, ...]]] = [
    (
        g.trips_in_the_sample_that_crosses,
        (core("reason = reason == TG_REASON_NONE ? found : reason;", "(void)found;"),),
    ),
    (g.opens_when_the_lease_ends, (core(LEASE_ENDS, "if (false)"),)),
    (
        g.a_stalled_loop_does_not_stretch_a_lease,
        (core(LEASE_ENDS, "if (judged && core->due_ticks >= core->lease_deadline)"),),
    ),
    (g.an_ended_lease_is_not_revived, (core(REVIVED, "if (false)"),)),
    (
        g.a_long_lease_is_refused,
        (core("if (deadline - now > TG_LEASE_MAX_TICKS(core->board))", "if (deadline - now > UINT64_MAX)"),),
    ),
    (g.a_repeated_lease_is_refused, (core("if (lease_seq <= core->lease_seq)", "if (false)"),)),
    (g.a_past_deadline_closes_nothing, (core("if (deadline <= now)", "if (false)"),)),
    (g.another_host_opens, (link(HELLO_ARMED, HELLO_ARMED.replace("core->state == TG_STATE_ARMED", "false")),)),
    (
        g.a_host_trips_without_a_session,
        (link("tg_core_trip(core, TG_REASON_HOST, 0, tg_detector_baseline(&core->detector));", ""),),
    ),
    (
        g.a_stale_session_renews_nothing,
        (Edit("tg_frame.c", "if (session != d->session || session == 0)", "if (session == 0)"),),
    ),
    (
        g.another_schema_does_not_arm,
        (
            core(ARM_SCHEMA, ARM_SCHEMA.replace("!core->link.schema_agrees", "false")),
            # Nor may the one that the host before had configured be left.
            link(NO_CONFIG, ""),
        ),
    ),
    (g.another_configuration_does_not_arm, (core(" || config_crc != tg_core_config_crc(core)", ""),)),
    (g.no_configuration_does_not_arm, (link(NO_CONFIG, ""),)),
    (
        g.a_configuration_while_armed_is_refused,
        (core(CONFIG_SAFE, CONFIG_SAFE.replace("core->state != TG_STATE_SAFE", "false")),),
    ),
    (g.a_configuration_out_of_range_is_refused, (core(IN_RANGE, "if (config->hard_code > board->full_scale_code"),)),
    (g.a_configuration_out_of_range_is_refused, (core("+ config->post_n + 1u > TG_BOX_MAX", "> UINT32_MAX - 1u"),)),
    (g.a_trip_latches, (core(LATCH, LATCH.replace("TG_STATE_TRIPPED", "TG_STATE_SAFE")),)),
    (g.a_trip_latches, (core(NOT_SAFE, NOT_SAFE.replace("core->state != TG_STATE_SAFE", "false")),)),
    (
        g.a_trip_latches,
        (
            core(
                "if (core->state == TG_STATE_ARMED) {\n        core->state = TG_STATE_SAFE;",
                "{ core->state = TG_STATE_SAFE;",
            ),
        ),
    ),
    (g.a_rearm_needs_the_trip_acknowledged, (core("if (!core->trip.acknowledged)", "if (false)"),)),
    (g.a_rearm_needs_the_box_released, (core(CLOSED_BOX, CLOSED_BOX.replace("core->box.held", "false")),)),
    (g.a_rearm_names_its_trip, (core("core->trip.id && core->trip.id == trip_id", "core->trip.id || trip_id"),)),
    (g.a_silent_converter_opens, (core("reason = TG_REASON_ADC_FAULT;", ""),)),
    (g.an_overrun_opens, (core("} else if (judged && overrun) {", "} else if (false) {"),)),
    (g.a_stuck_switch_is_told, (core("tg_core_trip(core, TG_REASON_SWITCH_STUCK, 0, 0);", ""),)),
    (
        g.a_stuck_switch_does_not_rearm,
        (
            core(
                "core->state != TG_STATE_TRIPPED || tg_port_switch_sense(core->port)", "core->state != TG_STATE_TRIPPED"
            ),
        ),
    ),
    (g.a_hanging_firmware_is_reset, (core(BOOT, BOOT.replace("    tg_port_switch(port, false);", "")),)),
    (g.dead_samples_are_reset, (send("if (index != core->kicked_index)", "if (index)"),)),
    (g.a_trip_is_told_until_it_is_acknowledged, (send(RESEND, ""),)),
    (g.a_trip_is_told_until_it_is_acknowledged, (send("&& !core->trip.acknowledged", ""),)),
    (
        g.a_trip_passes_what_streams,
        (send("} else if (report_is_due(core)) {", "} else if (report_is_due(core) && !tg_bulk_next(&core->bulk)) {"),),
    ),
    (g.nothing_streams_without_credit, (send("(int32_t)(link->credit - link->bulk_sent) > 0 && ", ""),)),
    (
        g.the_box_is_kept,
        (Edit("tg_box.c", "if (!box->left) {\n            return;", "if (false) {\n            return;"),),
    ),
    (g.a_reset_opens, (core(BOOT, BOOT.replace("    tg_port_switch(port, false);", "")),)),
    (
        g.an_open_opens,
        (
            core(
                "void tg_core_open(tg_core *core)\n{\n    tg_port_switch(core->port, false);",
                "void tg_core_open(tg_core *core)\n{",
            ),
        ),
    ),
]
NAMES = [f"{guard.__name__}-{number}" for number, (guard, _) in enumerate(CHECKS)]


@pytest.mark.parametrize("guard", dict.fromkeys(guard for guard, _ in CHECKS), ids=lambda guard: guard.__name__)
def test_the_firmware_protects(guard: Guard) -> None:
    guard(None)


@pytest.mark.parametrize(("guard", "edits"), CHECKS, ids=NAMES)
def test_without_the_check_comes_harm(guard: Guard, edits: tuple[Edit, ...]) -> None:
    flags = ("-O0", "-Wno-unused-function", "-Wno-unused-variable", "-Wno-unused-parameter", "-Wno-type-limits")
    without = build.lockstep(edits=edits, flags=flags)
    armed(library=without)  # lives, but for what was taken out
    with pytest.raises(AssertionError):
        guard(without)
