"""How `tipguard watch` says and draws it: pure functions on documents, rendered to plain text."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from rich.text import Text

from edge.cli.layout import UNBROKEN
from edge.cli.watch_model import STALE_S, Bench, Rig, Run
from edge.cli.watch_view import (
    LABEL,
    Block,
    decade_span,
    entry_lines,
    fitted,
    heights,
    panel,
    screen,
    snapshot_text,
    sparkline,
)
from edge.cli.watch_words import (
    Entry,
    clock_text,
    condition,
    done_entry,
    event_entry,
    store_entry,
    tally_entry,
    warnings,
)
from edge.frames import UtcMapping
from edge.samples import Flag, Phase, Sample
from edge.uplink import documents
from edge.uplink.assemble import Latest

S = 1_000_000_000
UTC = UtcMapping(0, True, 0)


def rig_with(*messages: tuple[str, dict[str, Any]], now_s: float = 100.0, retained: bool = False) -> Rig:
    rig = Rig("rig-1")
    for topic, doc in messages:
        rig.take(topic, doc, now_s, retained=retained)
    return rig


def status(state: str | None = "SAFE", *, uplink: dict[str, Any] | None = None, **worker: object) -> dict[str, Any]:
    of_worker = None if state is None else {"state": state, "t_ns": 50 * S, **worker}
    return {"online": True, "cause": None, "worker": of_worker, "uplink": uplink}


def run_doc(kind: str, **doc: object) -> tuple[str, dict[str, Any]]:
    return "json/runs", {"kind": "run", "doc": {"kind": kind, "uid": "a" * 16, "t_ns": 50 * S, **doc}}


def plain(rig: Rig, now_s: float = 100.0, *, width: int = 80, height: int = 23) -> str:
    console = Console(width=width, height=height, no_color=True)
    with console.capture() as capture:
        console.print(panel(rig, now_s, width=width, height=height))
    return capture.get()


# ----------------------------------------------------------------------------------------------- state and what to do


@pytest.mark.parametrize(
    ("doc", "head", "says"),
    [
        (status("SAFE"), "SAFE", "output verified off"),
        (status("ENERGISED"), "ENERGISED", "output ON"),
        (status("TRIPPED", verdict="STALE"), "TRIPPED", "`tipguard rearm`"),
        (status("UNKNOWN"), "UNKNOWN", "the output may be on"),
        (status(None), "NO ANSWER", "nothing here tells whether the output is off"),
        ({"online": False, "cause": "stopped"}, "OFFLINE", "`tipguard serve` starts it"),
        ({"online": False, "cause": "connection lost"}, "OFFLINE", "nothing here tells whether the output is off"),
    ],
)
def test_every_state_says_what_it_means(doc: dict[str, Any], head: str, says: str) -> None:
    entries = condition(rig_with(("status", doc)), 100.0)
    assert entries[0].head == head
    assert says in " ".join(entry.text for entry in entries)


def test_old_news_is_never_shown_as_the_present_state() -> None:
    rig = rig_with(("status", status("SAFE")))
    fresh, old = condition(rig, 100.0 + STALE_S), condition(rig, 107.0)
    assert fresh[0].text == "output verified off"
    assert old[0].text == "was the last word; no news for 7 s"
    assert "`tipguard status`" in old[1].text
    # What the broker kept for newcomers is no news of the rig's.
    kept = rig_with(("status", status("SAFE") | {"t_utc": "2026-01-02T03:04:05.000+00:00"}), retained=True)
    assert kept.stale(100.0)
    assert "of 03:04:05 UTC" in condition(kept, 100.0)[0].text


def test_a_verdict_of_another_state_is_not_its_reason() -> None:
    rig = rig_with(("status", status("TRIPPED", verdict="STALE")), ("live", {"state": "SAFE"}))
    assert [entry.label for entry in condition(rig, 100.0)] == ["state"]


def test_what_loses_data_is_bad_and_what_does_not_is_quiet() -> None:
    uplink = {"ring_used": 0.012, "waiting": 1, "published": 9, "dropped": 0, "refused": 0}
    entry = store_entry(rig_with(("status", status(uplink=uplink))))
    assert entry is not None
    assert (entry.text, entry.style) == ("ring 1.2% used, 1 frame waiting, 9 out", "dim")
    lost = rig_with(("status", status(uplink=uplink | {"dropped": 3})), ("json/events", {"kind": "tombstone"}))
    entry = store_entry(lost)
    assert entry is not None
    assert entry.text.endswith("3 samples DROPPED, 1 holes declared since this view began")
    assert entry.style == "bold red"


@pytest.mark.parametrize(
    ("stores", "note", "said"),
    [
        ({"lab": {"waiting": 0}, "dom": {"waiting": 12}}, None, "9 out, dom lacks 12, lab has all"),
        ({}, "no store configured: acknowledged is not stored", "9 out, no store named"),
        ({}, None, "9 out"),
        ({"lab": {"waiting": None}}, None, "9 out"),
    ],
)
def test_what_each_store_has_yet_to_commit(stores: dict[str, Any], note: str | None, said: str) -> None:
    uplink = {"ring_used": 0.0, "published": 9, "stores": stores, "outbox": {"note": note}}
    entry = store_entry(rig_with(("status", status(uplink=uplink))))
    assert entry is not None
    assert entry.text.endswith(said)
    assert entry.style == "dim"


def test_an_outbox_that_fills_is_an_alarm() -> None:
    alarm = {"outbox": {"alarm": "the outbox has used more than 50% of its budget"}}
    [entry] = warnings(rig_with(("status", status(uplink=alarm))))
    assert (entry.label, "50% of its budget" in entry.text, entry.style) == ("ALARM", True, "bold red")
    assert warnings(rig_with(("status", status(uplink={"outbox": {"alarm": None}})))) == []


# ---------------------------------------------------------------------------------------------------------- last event

CUT = {
    "kind": "cut",
    "verdict": "SURGE_JUMP",
    "planned": True,
    "decided_ns": 40 * S,
    "verified_ns": 40 * S + 43_000_000,
}


def test_a_cut_in_words_with_its_age_by_the_rigs_own_clock() -> None:
    setting = {"trigger_bias_v": -0.118, "trigger_half_v": 0.001}
    rig = rig_with(("status", status()), ("json/events", {"kind": "event", "doc": {**CUT, "setting": setting}}))
    entry = event_entry(rig, 102.0)
    assert entry is not None
    assert entry.text == (
        "SURGE_JUMP at -118.0 ± 1.0 mV, planned, output verified off 43.0 ms after the decision, 12 s ago"
    )
    # The status has the figures one level higher, and says it again.
    again = rig_with(("status", status(last_event={**CUT, **setting})))
    assert event_entry(again, 102.0) == entry


def test_a_cut_without_its_proof_says_so() -> None:
    rig = rig_with(("status", status()), ("json/events", {"kind": "event", "doc": CUT | {"verified_ns": None}}))
    entry = event_entry(rig, 100.0)
    assert entry is not None
    assert "NOT verified off" in entry.text
    hard = rig_with(("status", status(last_event=CUT | {"planned": False, "escalated": True})))
    entry = event_entry(hard, 100.0)
    assert entry is not None
    assert entry.text.endswith("escalated: it was not confirmed in time")
    assert entry.style == "red"


@pytest.mark.parametrize(
    ("doc", "says"),
    [
        (
            {"kind": "diagnosis", "verdict": "DEVICE_RESET", "instead_of": "STALE", "t_ns": 47 * S},
            "DEVICE_RESET: the instrument was reset or lost its power (cut as STALE), 3 s ago",
        ),
        ({"kind": "rearm", "by": "ada", "after": "STALE", "t_ns": 47 * S}, "re-armed by ada after STALE, 3 s ago"),
        ({"kind": "alarm", "verdict": "CUT_UNVERIFIED", "t_ns": 50 * S}, "alarm: CUT_UNVERIFIED: the instrument did"),
        ({"kind": "restart", "verdict": "RESTART", "t_ns": 50 * S}, "the controller started after an unclear end: "),
        ({"kind": "restart", "verdict": "STALE", "t_ns": 50 * S}, "the controller started still latched: STALE: a "),
    ],
)
def test_other_events_in_words(doc: dict[str, Any], says: str) -> None:
    entry = event_entry(rig_with(("status", status()), ("json/events", {"kind": "event", "doc": doc})), 100.0)
    assert entry is not None
    assert entry.text.startswith(says)


# ------------------------------------------------------------------------------------------------------- points, cycles


@pytest.mark.parametrize(
    ("doc", "says"),
    [
        (
            {"class": "triggered", "trigger_bias_v": -0.1, "trigger_half_v": 0.001, "after": {"resistance_ohm": 12e3}},
            "gave way at -100.0 ± 1.0 mV, 12.0 kΩ",
        ),
        ({"class": "triggered", "reason": "found after the sweep"}, "gave way: found after the sweep"),
        ({"class": "censored", "beyond_v": -0.5}, "held up to -500 mV"),
        ({"class": "lrs_at_start", "after": {"resistance_ohm": 900.0}}, "conducted before the sweep, 900 Ω"),
        ({"class": "invalid", "reason": "no contact"}, "invalid: no contact"),
    ],
)
def test_a_point_in_words(doc: dict[str, Any], says: str) -> None:
    entry = done_entry({"kind": "point", "visit": 4, "site_kind": "gb", "label": "B1", **doc})
    assert (entry.label, entry.head, entry.text) == ("5", "GB B1", says)


def test_a_cycle_in_words() -> None:
    doc = {"kind": "cycle", "cycle": 0, "set": True, "trigger_bias_v": -0.15, "lrs": {"resistance_ohm": 7e3}}
    good = done_entry(doc | {"reset_ok": True, "reset_bias_v": 0.4, "on_off": 4.3e4, "on_off_is_bound": True})
    assert good.text == "set at -150 mV, 7.00 kΩ; reset at 400 mV; on/off at least 4.3e4"
    bad = done_entry({"kind": "cycle", "cycle": 1, "set": False, "reset_ok": False})
    assert (bad.label, bad.text, bad.style) == ("2", "NOT set; NOT reset", "bold yellow")


def point(visit: int, what: str, bias_v: float) -> dict[str, Any]:
    key = "beyond_v" if what == "censored" else "trigger_bias_v"
    return {"kind": "point", "visit": visit, "site_kind": "gi", "class": what, key: bias_v}


def test_what_held_counts_as_later_in_the_median() -> None:
    run = Run("a")
    for visit, (what, bias_v) in enumerate([("triggered", -0.1), ("triggered", -0.2), ("censored", 0.5)]):
        run.take(point(visit, what, bias_v))
    assert run.median_v("gi") == -0.2
    entry = tally_entry(run)
    assert entry is not None
    assert entry.text == "GI: 2 gave way, 1 held, median -200 mV"
    run.take(point(3, "censored", 0.5))
    # Between one that gave way and one that held: nobody knows.
    assert run.median_v("gi") is None


def test_a_view_that_began_late_says_so_until_the_run_tells_its_results() -> None:
    run = Run("a")
    run.take(point(6, "triggered", -0.1))
    entry = tally_entry(run)
    assert entry is not None
    assert entry.text == "GI: 1 gave way, median -100 mV; seen from no. 7 on"
    kinds = {"gi": {"triggered": 5, "censored": 3, "median_v": -0.4}}
    run.take({"kind": "stop", "status": "completed", "t_ns": 60 * S, "results": {"kinds": kinds}})
    entry = tally_entry(run)
    assert entry is not None
    assert (entry.label, entry.text) == ("found", "GI: 5 gave way, 3 held, median -400 mV")


def test_results_of_a_memristor_in_words() -> None:
    results = {"cycles_done": 20, "set": 20, "reset_ok": 19, "set_median_v": -0.17, "on_off_median": 5e4, "n_bound": 20}
    run = Run("a")
    run.take({"kind": "stop", "status": "completed", "t_ns": 60 * S, "results": results})
    entry = tally_entry(run)
    assert entry is not None
    assert entry.text == "20 cycles: 20 set (median -170 mV), 19 reset; on/off at least 5.0e4 (median)"


def test_a_run_shows_how_long_and_how_far() -> None:
    rig = rig_with(
        ("status", status("ENERGISED")),
        run_doc("start", plan="memristor", t_ns=20 * S),
        run_doc("progress", text="cycle 8 of 20: set", progress=0.35),
    )
    text = plain(rig, 102.0)
    assert "memristor: cycle 8 of 20: set" in text
    assert "35%  0:32" in text
    kind, doc = run_doc("stop", status="tripped", reason="STALE", t_ns=95 * S)
    rig.take(kind, doc, 103.0, retained=False)
    assert "memristor: tripped: STALE after 1:15" in plain(rig, 500.0)


def test_a_sweep_moves_its_bar_by_the_bias() -> None:
    rig = rig_with(
        run_doc("start", plan="iv", parameters={"to_v": -0.6, "cycles": 1}),
        run_doc("progress", text="cycle 1 of 1", progress=0.0),
    )
    for at, bias_v in enumerate((-0.1, -0.3)):
        live = {"state": "ENERGISED", "phase": "SEEK", "t_ns": (51 + at) * S, "age_s": 0.0, "bias_v": bias_v}
        rig.take("live", live, 101.0 + at, retained=False)
    assert rig.run is not None
    assert rig.run.part_done == pytest.approx(0.25)
    assert " 25%" in plain(rig)


# -------------------------------------------------------------------------------------------------------------- drawing


def test_sparklines() -> None:
    assert sparkline([0.0, 1.0, None, 2.0], 0.0, 2.0, 1, 6) == ["  ▁▅ █"]
    assert sparkline([0.0, 1.0, 2.0], 0.0, 2.0, 2, 3) == [" ▁█", "▁██"]
    assert sparkline([3.0], 3.0, 3.0, 1, 1) == ["▁"]
    assert sparkline([9.0, -9.0], 0.0, 1.0, 1, 2) == ["█▁"]


def test_the_scale_of_currents_is_whole_decades() -> None:
    assert decade_span([math.log10(2e-9), math.log10(3e-6)]) == (-9.0, -5.0)
    assert decade_span([-9.0]) == (-11.0, -9.0)
    assert decade_span([]) == (0.0, 1.0)


def test_a_pause_between_samples_is_a_gap_and_the_same_sample_no_new_one() -> None:
    rig = Rig("rig-1")
    for t_s in (1.0, 1.5, 1.5, 60.0):
        live = {"t_ns": int(t_s * S), "age_s": 0.0, "bias_v": t_s, "current_a": 1e-9}
        rig.take("live", live, 100.0, retained=False)
    assert [dot.bias_v for dot in rig.history] == [1.0, 1.5, None, 60.0]


def test_what_matters_least_goes_first_and_what_still_fits_stays() -> None:
    def block(rank: int, *lines: str) -> Block:
        return Block(rank, [Text(line) for line in lines])

    parts = [block(0, "state"), block(90, ""), block(5, "run", "run"), block(8, "list"), block(2, "chart")]
    assert [str(line) for line in fitted(parts, 9)] == ["state", "", "run", "run", "list", "chart"]
    assert [str(line) for line in fitted(parts, 4)] == ["state", "run", "run", "chart"]
    assert [str(line) for line in fitted(parts, 3)] == ["state", "list", "chart"]
    assert [str(line) for line in fitted([block(0, "one", "two")], 1)] == ["one"]


def test_room_goes_to_those_that_have_something_to_show() -> None:
    assert heights([True, True], 23) == [12, 11]
    assert heights([True, False, True], 23) == [9, 5, 9]
    assert heights([False, False], 20) == [10, 10]
    assert sum(heights([True] + [False] * 6, 23)) == 23


def test_those_offline_stand_below() -> None:
    bench = Bench("b:1")
    for name, online in (("a", False), ("b", True)):
        payload = json.dumps(status() | {"online": online}).encode()
        bench.take(f"tipguard/{name}/status", payload, 100.0)
    assert [rig.name for rig in bench.shown()] == ["b", "a"]


def test_a_long_sentence_is_wrapped_under_itself_and_ends() -> None:
    lines = entry_lines(Entry("state", "one two three four " * 20, "", "SAFE", "bold"), 50)
    assert len(lines) == 3
    assert str(lines[0]).startswith("state".ljust(LABEL) + " SAFE  one two")
    assert all(str(line).startswith(" " * LABEL) for line in lines[1:])
    assert all(line.cell_len <= 50 for line in lines)
    assert str(lines[-1]).endswith(("...", "…"))


def test_labels_are_dim_and_what_they_label_is_not() -> None:
    [line] = entry_lines(Entry("run", "something"), 50)
    assert not line.style
    assert [(str(line)[span.start : span.end].strip(), span.style) for span in line.spans] == [("run", "dim")]


def test_wide_characters_do_not_widen_the_panel() -> None:
    rig = rig_with(("status", status("SAFE", alarm="漢字" * 300)), run_doc("start", plan="漢" * 99))
    widths = [Text(line).cell_len for line in plain(rig, width=60).splitlines()]
    assert set(widths) == {60}


def test_durations() -> None:
    assert [clock_text(seconds) for seconds in (0.9, 61.0, 3661.0)] == ["0:00", "1:01", "1:01:01"]


def test_what_the_uplink_makes_is_what_is_read_here() -> None:
    sample = Sample(50 * S, 1, 1, -0.2, -3e-6, int(Flag.COMPLIANCE), int(Phase.SEEK))
    bench = Bench("b:1")
    live = documents.live("rig-1", Latest(1, 7, 2, sample), "ENERGISED", UTC, 51 * S)
    known = {"state": "ENERGISED", "t_ns": 51 * S, "run": {"uid": "a", "plan": "iv", "status": "running", "text": "on"}}
    stat = documents.status("rig-1", offline=None, epochs=(1, None), utc=UTC, now_ns=0, worker=known, uplink={})
    for topic, doc in (("status", stat), ("live", live)):
        bench.take(f"tipguard/rig-1/{topic}", documents.to_json(doc), 100.0)
    rig = bench.rigs["rig-1"]
    assert rig.sample_age_s(100.5) == pytest.approx(1.5)
    text = plain(rig)
    for part in ("ENERGISED", "looking for the trigger", "-200 mV", "-3.00 µA", "iv: on", "compliance"):
        assert part in text, part
    gone = documents.status("rig-1", offline="stopped", epochs=(1, None), utc=UTC, now_ns=0, worker=None, uplink=None)
    bench.take("tipguard/rig-1/status", documents.to_json(gone), 101.0)
    assert "it was ended" in plain(rig)


def test_a_snapshot_in_a_pipe_is_a_line_a_thing() -> None:
    bench = Bench("b:1", ["rig-1", "rig-2"])
    doc = status("TRIPPED", verdict="STALE", alarm="words " * 60, emulated=True)
    bench.take("tipguard/rig-1/status", json.dumps(doc).encode(), 100.0)
    lines = str(snapshot_text(bench, 100.0, UNBROKEN)).splitlines()
    assert [line.split()[0] for line in lines if line] == ["rig", "state", "why", "do", "ALARM", "rig", "state"]


# ------------------------------------------------------------------------------------------------------ anything at all

JUNK = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.sampled_from(["SAFE", "TRIPPED", "cut", "completed", "running", "", "\x1b[2J", "漢" * 50, "x" * 2000]),
    st.lists(st.sampled_from([1, "x", None, {}]), max_size=3),
)
KINDS = st.sampled_from(
    ["start", "progress", "stop", "zero", "point", "cycle", "cut", "diagnosis", "restart", "rearm", "alarm"]
)
FIELDS = (
    "age_s after alarm beyond_v bias_v by cause class current_a cycle cycles cycles_done decided_ns flags kinds "
    "label n_bound notes on_off on_off_is_bound online parameters phase plan planned progress published reason "
    "reset_bias_v reset_ok results ring_used run set set_median_v site_kind state status t_ns t_utc text to_v "
    "trigger_bias_v trigger_half_v triggers_found uid verdict verified_ns visit waiting"
)
MAPS = ("doc", "worker", "uplink", "run", "results", "parameters", "last_event", "setting", "after", "kinds", "gb")


def documents_of(depth: int) -> st.SearchStrategy[dict[str, Any]]:
    """Documents with names of ours and values of nobody's."""
    own: dict[str, st.SearchStrategy[Any]] = dict.fromkeys(FIELDS.split(), JUNK)
    own |= {"kind": KINDS, "uid": st.sampled_from(["a", "b"]), "visit": st.integers(-1, 3), "cycle": st.integers(-1, 3)}
    fields = st.dictionaries(st.sampled_from(sorted(own)), JUNK, max_size=12)
    named = st.fixed_dictionaries({}, optional={"kind": KINDS, "uid": own["uid"], "visit": own["visit"]})
    if depth == 0:
        return st.builds(lambda a, b: {**a, **b}, fields, named)
    inner = st.dictionaries(st.sampled_from(MAPS), documents_of(depth - 1), max_size=3)
    return st.builds(lambda a, b, c: {**a, **b, **c}, fields, named, inner)


TOPICS = st.sampled_from(["live", "status", "json/runs", "json/events"])


@given(st.lists(st.tuples(TOPICS, documents_of(2), st.booleans()), min_size=1, max_size=6))
def test_documents_with_our_names_and_anybodys_values_are_drawn(
    messages: list[tuple[str, dict[str, Any], bool]],
) -> None:
    bench = Bench("b:1")
    for at, (topic, doc, retained) in enumerate(messages):
        bench.take(f"tipguard/rig-1/{topic}", json.dumps(doc).encode(), 100.0 + at, retained=retained)
    console = Console(width=80, height=24, no_color=True)
    with console.capture() as capture:
        console.print(screen(bench, 107.0, clock="12:00:00", width=80, height=24))
    lines = capture.get().rstrip("\n").split("\n")
    assert len(lines) <= 24
    assert all(Text(line).cell_len <= 80 for line in lines)
    for text in ("\n".join(lines), str(snapshot_text(bench, 107.0, 80))):
        assert all(char.isprintable() or char == "\n" for char in text)


def test_a_rigs_name_is_checked_too() -> None:
    bench = Bench("b:1")
    for name in ("\x1b[2J", "Rig", "a" * 33, "[red]x", "+", "a b"):
        bench.take(f"tipguard/{name}/live", b"{}", 1.0)
    assert bench.rigs == {}
    assert bench.unreadable == 6


def test_what_no_instrument_reads_is_no_number() -> None:
    entry = done_entry({"kind": "point", "visit": 0, "class": "censored", "beyond_v": 1e300})
    assert entry.text == "held up to n/a"
    entry = done_entry({"kind": "point", "visit": 0, "class": "censored", "beyond_v": 1e-300})
    assert entry.text == "held up to 0 V"
