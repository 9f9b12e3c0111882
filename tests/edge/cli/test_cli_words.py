"""What the verbs say: pure functions on what a controller answers."""

from __future__ import annotations

from typing import Any

import pytest
from rich.console import Console

from edge.cli import words
from edge.cli.layout import Row, grid, wrap
from edge.cli.run_progress import CountedProgress, SweepProgress, doing, shortened
from edge.cli.talk import rows, settled, stop_in_words
from edge.cli.words_runs import in_words
from edge.config import StageConfig
from edge.guard.verdicts import Verdict


def a_status(**changes: object) -> dict[str, Any]:
    return {
        "rig": "bench-1",
        "state": "SAFE",
        "phase": "SEEK",
        "verdict": None,
        "alarm": None,
        "notes": [],
        "emulated": True,
        "port": "/tmp/smu",  # noqa: S108 - a name, never opened
        "smu": {"model": "2400", "serial_number": "1304207"},
        "sample": None,
        "samples": 0,
        "samples_lost": 0,
        "cuts": {"planned": 0, "protective": 0},
        "ring_used": 0.0,
        "ring_left_s": 3495.0,
        "samples_per_s": 0.0,
        "run": None,
        "last_event": None,
        "keeper_cuts": 0,
        "t_ns": 10_000_000_000,
        **changes,
    }


def a_run(**changes: object) -> dict[str, Any]:
    return {
        "uid": "0123456789abcdef",
        "plan": "iv",
        "status": "completed",
        "progress": 0.0,
        "text": "starting",
        "reason": None,
        "results": {"cycles_done": 1, "triggers_found": 0, "triggers": []},
        "parameters": {"to_v": -0.6, "cycles": 1},
        **changes,
    }


TRIGGER = {
    "cycle": 0,
    "verdict": "CONDUCTANCE",
    "trigger_bias_v": -0.089,
    "trigger_half_v": 0.001,
    "set_current_a": -1.024e-05,
    "set_current_clamped": False,
    "reading_ns": 1_000_000_000,
    "verified_ns": 1_042_800_000,
    "lrs": {"resistance_ohm": 8795.0, "verdict": None},
}


@pytest.mark.parametrize("verdict", list(Verdict), ids=lambda verdict: verdict.value)
def test_every_verdict_has_a_meaning(verdict: Verdict) -> None:
    assert words.meaning(verdict.value).startswith(f"{verdict.value}: ")


def test_a_verdict_of_a_newer_controller_is_said_as_it_is() -> None:
    assert words.meaning("BRAND_NEW") == "BRAND_NEW"


def test_a_trigger_is_said_with_prefixes_and_with_the_series_resistor() -> None:
    assert words.trigger_in_words(TRIGGER, 1000.0) == [
        "cycle 1: CONDUCTANCE at -89.0 ± 1.0 mV, first reading -10.2 µA",
        "         cut verified 42.8 ms after the reading",
        "         what formed reads 8.80 kΩ, of which 1.00 kΩ in series",
    ]


def test_a_trigger_of_which_little_is_known() -> None:
    assert words.trigger_in_words({"cycle": 1, "verdict": "OVERFLOW"}) == ["cycle 2: OVERFLOW"]
    clamped = {**TRIGGER, "set_current_clamped": True, "lrs": {"resistance_ohm": None, "verdict": "STALE"}}
    lines = words.trigger_in_words(clamped)
    assert lines[0].endswith("(clamped)")
    assert "could not be read: STALE: a reading did not come in time" in lines[-1]


def test_a_sweep_without_a_surge_says_how_far_it_went() -> None:
    assert in_words(a_run()).lines == [
        "run 0123456789abcdef: completed, 1 cycle, 0 triggers: the site did not give way up to -600 mV"
    ]
    found = a_run(results={"cycles_done": 1, "triggers_found": 1, "triggers": [TRIGGER]})
    assert in_words(found, series_ohm=1000.0).lines[1:] == words.trigger_in_words(TRIGGER, 1000.0)


@pytest.mark.parametrize(
    ("status", "reason", "said"),
    [
        ("tripped", "tripped: OPERATOR by ada", "tripped: OPERATOR by ada"),
        ("stopped", "stopped by ada", "stopped by ada"),
        ("failed", "no reply", "failed: no reply"),
        ("completed", None, "completed"),
    ],
)
def test_how_a_run_ended_is_said_once(status: str, reason: str | None, said: str) -> None:
    assert words.ended(a_run(status=status, reason=reason)) == said


@pytest.mark.parametrize(
    ("age_s", "said"),
    [(0.2, "just now"), (5, "5 s ago"), (300, "5 min ago"), (10_000, "3 h ago"), (900_000, "10 days ago")],
)
def test_ages(age_s: float, said: str) -> None:
    assert words.ago(age_s) == said


def test_a_sample_has_no_negative_zero_and_no_nan() -> None:
    assert words.sample_in_words({"bias_v": -0.0, "current_a": float("nan")}) == "0 V, n/a"


def test_the_ring_at_rest_and_in_a_run() -> None:
    assert words.ring_in_words(a_status()) == "0.0% used; room for 58 min of a sweep"
    busy = a_status(samples_per_s=47.0, ring_left_s=90.0, ring_used=0.5)
    assert words.ring_in_words(busy) == "50.0% used; room for 90 s at 47 samples/s"


def text_of(status: dict[str, Any], width: int = 80) -> str:
    return grid(rows(status), width).plain


def test_a_trip_is_explained_with_what_to_do() -> None:
    event = {"kind": "cut", "verdict": "STALE", "planned": False, "decided_ns": 1, "verified_ns": 24_600_001}
    said = text_of(a_status(state="TRIPPED", verdict="STALE", last_event=event, keeper_cuts=2, notes=["see [uplink]"]))
    assert "state     TRIPPED (STALE)\n" in said
    assert "why       STALE: a reading did not come in time" in said
    assert "do        look at the bench, then `tipguard rearm`\n" in said
    assert "0 planned, 0 protective, 2 by the keeper\n" in said
    assert "STALE, protective, output verified off 24.6 ms after the decision, 10 s ago" in " ".join(said.split())
    # What stands in brackets is text, not mark-up.
    assert "note      see [uplink]" in said


def test_a_finished_run_is_not_repeated_in_the_status() -> None:
    assert "run      iv 0123456789abcdef: completed" in text_of(a_status(run=a_run()))
    running = a_run(status="running", text="cycle 1 of 1")
    assert "iv 0123456789abcdef: running, cycle 1 of 1" in text_of(a_status(run=running))


STAGE = {
    "model": "E-727.3CD",
    "serial_number": "0119024343",
    "ready": True,
    "position_m": {"1": 45.9961e-6, "2": 47.738e-6, "3": 49.51e-6},
    "lifted": True,
    "moving": False,
    "servo_on": True,
}


def stage_row(stage: dict[str, Any] | None) -> str:
    said = grid(rows(a_status(stage=stage), StageConfig()), 200).plain
    (line,) = [line for line in said.splitlines() if line.startswith("stage ")]
    return line.removeprefix("stage").strip()


def test_the_stage_has_a_line_where_the_rig_has_one() -> None:
    assert stage_row(STAGE) == "E-727.3CD, serial 0119024343, tip lifted, at x 45.996, y 47.738, z 49.510 µm"
    assert "tip not lifted, at" in stage_row({**STAGE, "lifted": False})
    assert "moving, at" in stage_row({**STAGE, "moving": True})
    assert "SERVO OFF, tip" in stage_row({**STAGE, "servo_on": False})
    assert stage_row({**STAGE, "position_m": None, "moving": None}).endswith("343, tip lifted")
    assert stage_row({**STAGE, "ready": False}) == "E-727.3CD, serial 0119024343, NOT READY; the ALARM says why"
    assert stage_row({**STAGE, "model": None, "ready": False}) == "not ready; the ALARM says why"
    assert stage_row(None) == "not ready; the ALARM says why"
    assert "stage" not in text_of(a_status(stage=None))


def test_the_axes_have_their_names() -> None:
    swapped = StageConfig(x="B", y="A", z="C")
    said = words.stage_in_words({**STAGE, "position_m": {"A": 1e-6, "B": 2e-6, "C": 3e-6}}, swapped)
    assert said.replace("\N{NO-BREAK SPACE}", " ").endswith("at x 2.000, y 1.000, z 3.000 µm")


def test_the_lost_samples_are_told() -> None:
    assert "0 since start, 3 LOST" in text_of(a_status(samples_lost=3))


@pytest.mark.parametrize(
    ("stopped", "changes", "said"),
    [
        (False, {}, "nothing was running; output off, state SAFE"),
        (
            True,
            {"state": "TRIPPED", "verdict": "OPERATOR"},
            "verified off, state TRIPPED (OPERATOR): look at the bench",
        ),
        (
            True,
            {"state": "CUTTING", "verdict": "OPERATOR"},
            "NOT verified off. Switch it off at the instrument's panel",
        ),
        (False, {"state": "UNKNOWN"}, "NOT verified off"),
    ],
)
def test_a_stop_claims_no_more_than_is_known(stopped: bool, changes: dict[str, Any], said: str) -> None:
    assert said in stop_in_words(stopped, a_status(**changes))


def test_a_stop_is_settled_when_the_run_has_ended_too() -> None:
    assert settled(a_status())
    assert not settled(a_status(run=a_run(status="running")))
    assert not settled(a_status(state="CUTTING"))


def test_no_line_break_divides_a_quantity_or_a_path() -> None:
    assert wrap("plans are held to 1 V", 20) == ["plans are held to", "1 V"]
    assert wrap("at -89.0 ± 1.0 mV here", 12) == ["at", "-89.0 ± 1.0 mV", "here"]
    path = "/dev/serial/by-id/usb-FTDI_US232R_FT0001-if00-port0"
    assert wrap(f"port {path}", 20) == ["port", path]


def test_a_line_break_is_kept_and_what_is_set_in_wraps_under_itself() -> None:
    text = "map.csv: two are bad\n  line 2, x_um: value 'a'\n  and 1 more"
    assert wrap(text, 200) == text.split("\n")
    assert wrap(text, 20) == ["map.csv: two are bad", "  line 2, x_um:", "    value 'a'", "  and 1 more"]


def test_a_grid_wraps_under_its_last_column_and_never_in_a_pipe() -> None:
    lines = grid([Row(("ok", "keeper", "cuts " * 20)), Row(("warn", "x", "y"))], 40).plain.splitlines()
    assert max(map(len, lines)) <= 40
    assert lines[0].startswith("ok    keeper  cuts")
    assert lines[1].startswith(" " * 14 + "cuts")
    assert lines[-1] == "warn  x       y"
    assert len(grid([Row(("ok", "keeper", "cuts " * 200))], 10_000).plain.splitlines()) == 1


def test_without_colours_nothing_is_escaped(capsys: pytest.CaptureFixture[str]) -> None:
    Console(no_color=True, soft_wrap=True).print(grid(rows(a_status(state="TRIPPED", verdict="STALE")), 80))
    assert "\x1b" not in capsys.readouterr().out


def test_progress_follows_the_bias_there_and_back_and_never_falls() -> None:
    progress = SweepProgress()

    def at(bias_v: float, **changes: object) -> float:
        sample = {"bias_v": bias_v, "current_a": 0.0, "t_ns": 0}
        return progress.update(
            a_status(state="ENERGISED", sample=sample, run=a_run(status="running", **changes), phase="SEEK")
        )

    assert [at(0.0), at(-0.3), at(-0.6), at(-0.3)] == pytest.approx([0.0, 0.25, 0.5, 0.75])
    assert at(-0.02, progress=0.9) == pytest.approx(0.9 + 0.1 / 6)
    assert at(0.0, progress=0.0) == pytest.approx(0.9 + 0.1 / 6)


@pytest.mark.parametrize(
    ("state", "phase", "word"),
    [
        ("ARMED", "SEEK", "arming"),
        ("ENERGISED", "SEEK", "sweeping"),
        ("ENERGISED", "LRS_READ", "reading"),
        ("CUTTING", "SEEK", "cutting"),
        ("SAFE", "SEEK", ""),
    ],
)
def test_what_a_run_is_doing(state: str, phase: str, word: str) -> None:
    assert doing(a_status(state=state, phase=phase)) == word


@pytest.mark.parametrize(
    ("text", "short"),
    [
        ("point 3 of 10 (GB a, b): 0 -> -0.5 V at 0.1 V/s", "3/10 GB a, b: 0 -> -0.5 V at 0.1 V/s"),
        ("point 3 of 10 (no. 7): moving", "3/10: moving"),
        ("cycle 2 of 20: set, 0 -> -0.2 V", "2/20: set, 0 -> -0.2 V"),
        ("lifting the tip; 4 points to come", "lifting the tip; 4 points to come"),
        ("waiting: the ring is 80 % full", "waiting: the ring is 80 % full"),
    ],
)
def test_a_counted_text_is_short_in_the_bar(text: str, short: str) -> None:
    assert shortened(text) == short


def test_progress_of_a_plan_that_counts_never_falls() -> None:
    progress = CountedProgress()
    run = {"plan": "memristor", "status": "running", "parameters": {"cycles": 4}}
    said = [progress.update(a_status(run=a_run(**run, progress=done))) for done in (0.0, 0.5, 0.25, 1.0)]
    assert said == [0.0, 0.5, 0.5, 1.0]


def test_a_latch_beside_another_instrument_is_no_proof() -> None:
    status = {"state": "TRIPPED", "verdict": "LINK_LOST", "stranger": None, "run": None}
    assert words.verified_off(status)
    # The one TRIPPED that nothing was verified for: the rig's own instrument is where nobody can ask it.
    assert not words.verified_off({**status, "stranger": "999"})
    assert "NOT verified off" in stop_in_words(False, {**status, "stranger": "999"})
