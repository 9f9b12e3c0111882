"""What `tipguard watch` makes of documents: anything may come, nothing of it may hurt a terminal."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from edge.cli.watch_model import HISTORY, MAX_DONE, MAX_RIGS, STALE_S, Bench, Rig, clean, decode
from edge.cli.watch_view import screen, snapshot_text

S = 1_000_000_000


def put(bench: Bench, rig: str, topic: str, doc: object, now_s: float = 100.0, *, retained: bool = False) -> None:
    bench.take(f"tipguard/{rig}/{topic}", json.dumps(doc).encode(), now_s, retained=retained)


def status(state: str = "SAFE", **worker: Any) -> dict[str, Any]:  # noqa: ANN401 - a document
    return {"v": 1, "online": True, "cause": None, "worker": {"state": state, "t_ns": 50 * S, **worker}}


def live(t_s: float = 50.0, **more: Any) -> dict[str, Any]:  # noqa: ANN401 - a document
    base = {
        "state": "ENERGISED",
        "t_ns": int(t_s * S),
        "age_s": 0.1,
        "bias_v": -0.1,
        "current_a": -1e-8,
        "phase": "SEEK",
    }
    return base | more


def run_doc(kind: str, **doc: Any) -> dict[str, Any]:  # noqa: ANN401 - a document
    return {"kind": "run", "doc": {"kind": kind, "uid": "a" * 16, "t_ns": 50 * S, **doc}}


def drawn(bench: Bench, now_s: float = 100.0, width: int = 80, height: int = 24) -> list[str]:
    console = Console(width=width, height=height, highlight=False, markup=False, emoji=False, no_color=True)
    with console.capture() as capture:
        console.print(screen(bench, now_s, clock="12:00:00", width=width, height=height))
    return capture.get().rstrip("\n").split("\n")


def said(bench: Bench, now_s: float = 100.0, **size: int) -> str:
    return " ".join(" ".join(drawn(bench, now_s, **size)).split())


# --------------------------------------------------------------------------------------------------- hostile text


@pytest.mark.parametrize(
    "text",
    ["\x1b[2J", "\x1b]0;title\x07", "a\r\nb", "\u202egnp.exe", "\x9b31m", "x\u0300\u0301\u0302", "[bold red]x[/]"],
)
def test_no_text_of_the_network_reaches_the_terminal_as_it_came(text: str) -> None:
    bench = Bench("b:1")
    put(bench, "rig-1", "status", status(verdict=text, alarm=text, notes=[text]))
    put(bench, "rig-1", "json/runs", run_doc("start", plan=text, by=text))
    put(bench, "rig-1", "json/runs", run_doc("progress", text=text, progress=0.5))
    put(bench, "rig-1", "json/runs", run_doc("point", visit=0, label=text, reason=text, **{"class": text}))
    put(bench, "rig-1", "json/events", {"kind": "event", "doc": {"kind": "cut", "verdict": text}})
    shown = "\n".join(drawn(bench, height=40)) + str(snapshot_text(bench, 100.0, 80))
    for bad in ("\x1b", "\x07", "\r", "\u202e", "\x9b", "\u0300"):
        assert bad not in shown
    if text.startswith("["):
        # Shown as it is, and not obeyed.
        assert "[bold red]" in shown


@given(st.text())
def test_clean_leaves_one_plain_line(text: str) -> None:
    done = clean(text)
    assert done.isprintable()
    assert len(done) <= 1000


@given(
    st.binary(max_size=200)
    | st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
        max_leaves=20,
    ).map(lambda value: json.dumps(value).encode()),
    st.sampled_from(["live", "status", "json/runs", "json/events", "x"]),
)
def test_any_payload_on_any_topic_is_survived_and_drawn(payload: bytes, topic: str) -> None:
    bench = Bench("b:1")
    put(bench, "rig-1", "status", status())
    bench.take(f"tipguard/rig-1/{topic}", payload, 101.0)
    bench.take(f"tipguard/../{topic}", payload, 101.0)
    lines = drawn(bench, 101.0)
    assert len(lines) <= 24
    assert all(len(line) <= 80 for line in lines)


@pytest.mark.parametrize(
    "payload", [b"", b"[]", b"7", b"{", b"\xff", b"[" * 100_000, b'{"a":' * 5000, b"x" * (2 << 20)]
)
def test_what_is_no_document_is_none(payload: bytes) -> None:
    assert decode(payload) is None


def test_numbers_that_nobody_means_are_null() -> None:
    assert decode(b'{"a": NaN, "b": Infinity, "c": 1e-9, "d": 99999999999999999999}') == {
        "a": None,
        "b": None,
        "c": 1e-9,
        "d": None,
    }


def test_a_flood_of_rigs_and_points_is_bounded() -> None:
    bench = Bench("b:1")
    for number in range(MAX_RIGS + 50):
        put(bench, f"rig-{number}", "live", live())
    assert len(bench.rigs) == MAX_RIGS
    assert bench.unreadable == 50
    rig = bench.rigs["rig-0"]
    for visit in range(300):
        put(bench, "rig-0", "json/runs", run_doc("point", visit=visit, site_kind="gb", **{"class": "triggered"}))
    put(bench, "rig-0", "json/runs", run_doc("point", visit=MAX_DONE, **{"class": "triggered"}))
    assert rig.run is not None
    assert rig.run.classes["gb"]["triggered"] == 300
    assert len(rig.run.done) <= 60
    for at in range(HISTORY * 3):
        put(bench, "rig-0", "live", live(60.0 + at / 2))
    assert len(rig.history) == HISTORY


# --------------------------------------------------------------------------------------------------- what is shown


def test_a_rig_at_work_says_what_it_does() -> None:
    bench = Bench("127.0.0.1:1883")
    put(bench, "rig-1", "status", status("ENERGISED", ring_used=0.01))
    put(bench, "rig-1", "json/runs", run_doc("start", plan="trigger-map", by="ada"))
    put(bench, "rig-1", "json/runs", run_doc("progress", text="point 3 of 8 (GB B2): approaching", progress=0.25))
    put(bench, "rig-1", "live", live())
    text = said(bench)
    for part in ("rig-1", "ENERGISED", "-100 mV", "-10.0 nA", "trigger-map", "approaching", "25%", "live"):
        assert part in text, part


def test_a_tripped_rig_says_why_and_what_to_do() -> None:
    bench = Bench("b:1")
    put(bench, "rig-1", "status", status("TRIPPED", verdict="STALE"))
    text = said(bench)
    assert "TRIPPED" in text
    assert "a reading did not come in time" in text
    assert "tipguard rearm" in text


def test_silence_is_seen() -> None:
    bench = Bench("b:1")
    put(bench, "rig-1", "status", status("ENERGISED"))
    put(bench, "rig-1", "live", live())
    assert "no news" not in said(bench, 100.0 + STALE_S - 1)
    later = said(bench, 100.0 + 7)
    assert "7 s" in later
    assert "● live" not in later


def test_an_offline_rig_shows_its_cause_and_no_old_state() -> None:
    bench = Bench("b:1")
    put(bench, "rig-1", "status", status("ENERGISED"))
    put(bench, "rig-1", "status", {"v": 1, "online": False, "cause": "connection lost", "worker": None})
    text = said(bench)
    assert "offline" in text.lower()
    assert "ENERGISED" not in text


def test_points_and_cycles_are_counted_once() -> None:
    bench = Bench("b:1")
    point = {"visit": 0, "site_kind": "gb", "class": "triggered", "trigger_bias_v": -0.12, "label": "B1"}
    for _ in range(3):
        put(bench, "rig-1", "json/runs", run_doc("point", **point))
    points = bench.rigs["rig-1"].run
    assert points is not None
    assert points.classes["gb"]["triggered"] == 1
    assert points.median_v("gb") == -0.12
    put(
        bench,
        "rig-1",
        "json/runs",
        run_doc("cycle", uid="b" * 16, cycle=0, set=True, reset_ok=True, on_off=5e4, on_off_is_bound=True),
    )
    run = bench.rigs["rig-1"].run
    assert run is not None
    assert (run.cycles, run.sets, run.resets, run.bounds) == (1, 1, 1, 1)


def test_a_late_status_does_not_bring_an_old_run_back() -> None:
    rig = Rig("rig-1")
    rig.take("json/runs", {"doc": {"kind": "start", "uid": "new", "plan": "iv", "t_ns": 60 * S}}, 1.0, retained=False)
    rig.take("status", status(run={"uid": "old", "status": "running", "plan": "iv", "text": "x"}), 1.1, retained=False)
    assert rig.run is not None
    assert rig.run.uid == "new"


def test_only_the_rigs_that_were_asked_for_in_their_order() -> None:
    bench = Bench("b:1", ["rig-2", "rig-1"])
    for name in ("rig-1", "rig-2", "rig-3"):
        put(bench, name, "live", live())
    assert [rig.name for rig in bench.shown()] == ["rig-2", "rig-1"]


@pytest.mark.parametrize(("width", "height"), [(80, 24), (40, 10), (200, 60), (20, 5)])
def test_the_view_fits_its_terminal(width: int, height: int) -> None:
    bench = Bench("b:1")
    for number in range(5):
        put(bench, f"rig-{number}", "status", status("ENERGISED", alarm="a long alarm " * 20))
        put(bench, f"rig-{number}", "live", live())
        for visit in range(20):
            put(bench, f"rig-{number}", "json/runs", run_doc("point", visit=visit, **{"class": "censored"}))
    lines = drawn(bench, width=width, height=height)
    assert len(lines) <= height
    assert all(len(line) <= width for line in lines)
    if (width, height) == (40, 10):
        assert "no room for" in " ".join(lines)


def test_with_nobody_there_it_says_what_to_look_at() -> None:
    assert "no rig has spoken" in said(Bench("127.0.0.1:1883"))


def test_a_lost_broker_is_the_first_news() -> None:
    bench = Bench("b:1")
    put(bench, "rig-1", "live", live())
    bench.lost = (95.0, "Connection refused")
    assert "broker lost for 5 s (Connection refused); trying again" in said(bench, 100.0)
