"""When everything else fails: the table. Output on, current flowing, and the twin's own record is the judge.

Every row in both forms of a rig: ``tipguard serve``, and supervised processes as in production. The quick suite takes
the most important rows once each, the long rounds all of them twice. docs/failures.md is this table for people.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from hil.processes.forms import FormRig, ServedRig
from hil.processes.supervised import SupervisedRig
from tests.realtime import failure_looks as after
from tests.realtime import failures as f
from tests.realtime.failure_benches import Benches
from tests.realtime.failures import CUT_S, READ_DEADLINE_S

LONG = os.environ.get("TIPGUARD_LONG") == "1"
FORMS: dict[str, type[FormRig]] = {"serve": ServedRig, "supervised": SupervisedRig}
SAMPLE_S = 0.030
"""One level of the sweep, at most."""

pytestmark = [pytest.mark.realtime, pytest.mark.timeout(120)]


@dataclass(frozen=True)
class Row:
    """One line of the table. ``blow`` strikes and returns when; safe must follow within ``bound_s``; then ``look``.

    ``bench``: on which rig, see failure_benches. ``differ``: what the two forms do differently afterwards.
    ``quick``: the form in which the quick suite has it.
    """

    name: str
    bench: str
    blow: f.Blow
    bound_s: float
    bound: str
    look: after.Look
    differ: str = "nothing"
    quick: str = ""
    forms: tuple[str, ...] = ("serve", "supervised")


ANEW = "serve ends and says so; the supervisor cuts again (safe-off) and starts a controller, which is latched"
ENDS = "serve ends with 0; the supervised controller ends with 0 and is not started again"

TABLE = [
    # -- processes
    Row("SIGKILL of the worker", "ohmic", f.kill_worker, 0.150, "150 ms", after.restarted_tripped),
    Row("the worker hangs (SIGSTOP)", "ohmic", f.hang_worker, 0.250, "250 ms", after.restarted_tripped, quick="serve"),
    Row("SIGKILL of the keeper", "ohmic", f.kill_keeper, 0.050 + CUT_S, "50 ms + cut", after.looked_after, ANEW),
    Row("SIGKILL of both", "ohmic", f.kill_both, 2.0, "2 s", after.looked_after, ANEW, quick="supervised"),
    Row(
        "everything frozen, no heartbeat wired",
        "ohmic",
        f.freeze_all_unprotected,
        2.0,
        "NOT PROTECTED; 2 s from a person's safe-off",
        after.thawed,
    ),
    Row(
        "SIGKILL of serve",
        "ohmic",
        f.kill_serve,
        0.050 + CUT_S,
        "50 ms + cut",
        after.keeper_ended_too,
        "a service manager that is killed is a host that is gone",
        forms=("serve",),
    ),
    # -- the network side
    Row("SIGKILL of the uplink", "ohmic", f.uplink_killed, 0.050 + CUT_S, "unaffected", after.uplink_back),
    Row("the uplink hangs (SIGSTOP)", "ohmic", f.uplink_hung, 0.050 + CUT_S, "unaffected", after.tripped("OPERATOR")),
    Row(
        "the disk is full", "ohmic", f.disk_full, 0.050 + CUT_S, "unaffected", after.tripped("OPERATOR"), quick="serve"
    ),
    # -- somebody asks
    Row("Ctrl-C", "ohmic", f.ctrl_c, 0.050 + CUT_S, "50 ms + cut", after.ended_well, ENDS, quick="serve"),
    Row("SIGTERM", "ohmic", f.sigterm, 0.050 + CUT_S, "50 ms + cut", after.ended_well, ENDS),
    Row("tipguard stop", "ohmic", f.stop_typed, 0.050 + CUT_S, "50 ms + cut", after.tripped("OPERATOR")),
    Row("stop from afar", "ohmic", f.stop_remote, 0.050 + CUT_S, "50 ms + cut", after.tripped("OPERATOR")),
    # -- the instrument
    Row(
        "SMU mute but executing",
        "ohmic",
        f.fault("mute"),
        READ_DEADLINE_S + CUT_S,
        "read deadline + cut",
        after.tripped("STALE"),
        quick="serve",
    ),
    Row(
        "panel: output off",
        "ohmic",
        f.fault("key-off"),
        READ_DEADLINE_S + CUT_S,
        "read deadline",
        after.within_read_deadline,
    ),
    Row(
        "panel: current limit",
        "ohmic",
        f.fault("limit"),
        (f.CHECK_EVERY + 2) * SAMPLE_S + CUT_S,
        "16 samples",
        after.within_16_samples("LIMIT_CHANGED"),
    ),
    Row(
        "panel: range",
        "ohmic",
        f.fault("range"),
        (f.CHECK_EVERY + 2) * SAMPLE_S + CUT_S,
        "16 samples",
        after.within_16_samples("LIMIT_CHANGED"),
    ),
    Row(
        "panel: off mode",
        "ohmic",
        f.fault("off-mode"),
        (f.CHECK_EVERY + 2) * SAMPLE_S + CUT_S,
        "16 samples",
        after.within_16_samples("LIMIT_CHANGED"),
    ),
    Row("panel: output on while safe", "ohmic", f.on_while_safe, 1.0 + CUT_S, "1 s", after.tripped("OUTPUT_CHANGED")),
    # -- the heartbeat wired
    Row("SIGKILL of both, heartbeat wired", "oe", f.kill_both, 0.050, "50 ms", after.looked_after, ANEW),
    Row("everything frozen, heartbeat wired", "oe", f.freeze_all, 0.050, "50 ms", after.thawed, quick="supervised"),
    Row("unplugged, heartbeat wired", "oe-cable", f.unplug, 0.050 + CUT_S, "at once", after.replugged),
    # -- the cable
    Row(
        "unplugged, replugged as another name",
        "cable",
        f.unplug_replug,
        0.5,
        "when the port answers: 0.5 s",
        after.replugged,
    ),
    Row(
        "another instrument behind the port",
        "cable",
        f.another_instrument,
        0.5,
        "nothing more written; its own: when it is back",
        after.replugged,
        "the supervised keeper does not end over it, so nothing cuts the stranger a second time",
    ),
    Row(
        "SMU deaf and mute, serial only",
        "cable",
        f.deaf_and_mute,
        0.5,
        "none; 0.5 s from its first word",
        after.tripped("STALE"),
    ),
    # -- broker and ring
    Row("the broker is gone", "broker", f.broker_gone, 0.050 + CUT_S, "unaffected", after.tripped("OPERATOR")),
    Row(
        "the ring fills",
        "ring",
        f.ring_fills,
        0.050 + CUT_S,
        "paused by the ring rule, safe",
        after.tripped("OPERATOR"),
    ),
    # -- the stage
    Row(
        "stage fault", "stage", f.fault("stage-error"), 0.100 + 0.060 + CUT_S, "one status period", after.stage_tripped
    ),
    Row(
        "tip not retracted after a trip",
        "stage",
        f.stuck_tip,
        0.050 + CUT_S,
        "one status period to the alarm",
        after.not_lifted,
    ),
    Row(
        "SMU deaf and mute, last resort enabled",
        "stage",
        f.deaf_last_resort,
        5.0,
        "none; the tip is lifted",
        after.tripped("STALE"),
    ),
]
PLAYED = [
    pytest.param(row, form, id=f"{form}: {row.name}")
    for form in FORMS
    for row in TABLE
    if form in row.forms and (LONG or row.quick == form)
]


@pytest.fixture(scope="module")
def benches(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Benches]:
    with Benches(tmp_path_factory) as benches:
        yield benches


@pytest.mark.parametrize(("row", "form"), PLAYED)
def test_safe_in_time(benches: Benches, row: Row, form: str) -> None:
    with benches.rig(FORMS[form], row.bench) as rig:
        f.make_live(rig)
        struck_ns = row.blow(rig)
        took_s = (rig.wait_safe_after(struck_ns, timeout_s=row.bound_s + 5.0) - struck_ns) / 1e9
        print(f"\n{form}: {row.name}: safe after {took_s * 1e3:.1f} ms (bound: {row.bound})")
        row.look(rig, struck_ns)
        assert took_s <= row.bound_s


def test_the_table_has_every_row_in_both_forms_but_one() -> None:
    assert {row.name for row in TABLE if row.forms != tuple(FORMS)} == {"SIGKILL of serve"}
    assert len({row.name for row in TABLE}) == len(TABLE)
