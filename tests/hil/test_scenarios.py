"""Scenarios through the controller as shipped: some here, all with TIPGUARD_LONG=1 and in ``.ci/run``."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from edge.controller.cutting import Cutter
from edge.guard.verdicts import Verdict
from firmware_proto.errors import RemoteProtocolError
from firmware_proto.keithley2400 import replies
from hil.devices.keithley2400 import Keithley2400
from hil.errors import BenchFaultError
from hil.scenarios import verb, virtual
from hil.scenarios.evidence import Evidence
from hil.scenarios.judge import Check, Judgement
from hil.scenarios.report import page
from hil.scenarios.run import Outcome, run_scenario
from hil.scenarios.spec import FOLDER, Scenario, load_scenario
from tests.hil.test_demo_report import Checker

QUICK = ("reply-byte-lost", "reply-stale-instead", "power-cycle", "set-up-limit-damaged", "set-and-cut-proof-lost")
"""One of each sort: a reply, an old reply, the device, the set-up, a set with more going wrong."""


@pytest.fixture(scope="module")
def outcomes() -> list[Outcome]:
    return [run_scenario(load_scenario(name)) for name in QUICK]


def test_each_holds(outcomes: list[Outcome]) -> None:
    assert [one.scenario.name for one in outcomes if not one.held] == [], [one.line()["broken"] for one in outcomes]


def test_the_same_seed_is_the_same_evidence() -> None:
    first, second = (run_scenario(load_scenario("reply-byte-lost")) for _ in range(2))
    # As text: the one that is no number equals nothing, not even itself.
    assert repr(first.seen.samples) == repr(second.seen.samples)
    assert first.seen.applied == second.seen.applied
    other = run_scenario(load_scenario("reply-byte-lost", seed=2))
    assert repr(other.seen.samples) != repr(first.seen.samples)


def changed(name: str, **fault: str | int) -> Scenario:
    """Return a scenario with another first fault."""
    import tomllib

    from hil.scenarios.spec import parse_scenario

    data = tomllib.loads((FOLDER / f"{name}.toml").read_text(encoding="utf-8"))
    data["fault"][0] |= fault
    return parse_scenario(data, name=name, source=name)


def test_a_fault_that_never_comes_is_no_scenario_that_held() -> None:
    outcome = run_scenario(changed("reply-byte-lost", at_sample=100_000))
    assert not outcome.held
    assert "never applied" in outcome.line()["broken"]["applied"]


# -- what protects, taken away: the scenarios must see the harm


def test_a_parser_that_takes_what_it_can_get_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    def gullible(line: bytes) -> replies.Reading:
        digits = bytes(byte for byte in line if byte in b"+-.0123456789E,")
        parts = digits.split(b",")
        try:
            return replies.Reading(float(parts[1]), 20484, False, False, float(parts[0]))
        except (ValueError, IndexError):
            raise RemoteProtocolError("not even that") from None

    monkeypatch.setattr(replies, "parse_reading", gullible)
    outcome = run_scenario(changed("reply-byte-lost", offset=17))
    assert "no reading that the instrument sent" in outcome.line()["broken"]["trust"]


def test_a_guard_that_does_not_cut_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    real = Cutter.protective

    def late(self: Cutter, verdict: Verdict, reading_ns: int) -> None:
        if verdict is not Verdict.UNPARSABLE:
            real(self, verdict, reading_ns)

    monkeypatch.setattr(Cutter, "protective", late)
    outcome = run_scenario(load_scenario("reply-byte-lost"))
    assert not outcome.held
    assert "safe" in outcome.line()["broken"] or "reason" in outcome.line()["broken"]


def test_an_output_that_stays_on_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    real = vars(Keithley2400)["output_on"].fget
    ended = False

    def on(self: Keithley2400) -> bool:
        return ended or bool(real(self))

    monkeypatch.setattr(Keithley2400, "output_on", property(on))
    settled = virtual._Watched._later_runs

    async def later(self: virtual._Watched) -> None:
        nonlocal ended
        await settled(self)
        ended = True

    monkeypatch.setattr(virtual._Watched, "_later_runs", later)
    assert "output was on" in run_scenario(load_scenario("reply-byte-lost")).line()["broken"]["next"]


# -- what is printed and written


def test_the_page_shows_each_with_its_trace_and_needs_nothing_else(outcomes: list[Outcome]) -> None:
    text = page(outcomes)
    sections = [attributes.get("id") for tag, attributes in Checker(text).tags if tag == "section"]
    assert sorted(map(str, sections)) == sorted(QUICK)
    assert text.count("<svg") == len([one for one in outcomes if one.seen.moments])
    assert "<script" not in text
    assert "http" not in text.replace("http-equiv", "").replace("http://www.w3.org/2000/svg", "")


def test_the_verb_prints_a_line_each_and_writes_the_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = tmp_path / "page.html"
    assert verb.run_scenarios(["reply-byte-lost", "reply-nul-before"], seed=None, report=report) == 0
    printed = capsys.readouterr()
    lines = [json.loads(line) for line in printed.out.splitlines()]
    assert [line["name"] for line in lines] == ["reply-byte-lost", "reply-nul-before"]
    assert all(line["held"] is True and line["applied"] for line in lines)
    assert "2 of 2 held" in printed.err
    assert report.stat().st_size > 4096


def test_the_verb_ends_with_1_where_one_did_not_hold(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = (FOLDER / "reply-byte-lost.toml").read_text(encoding="utf-8")
    mine = tmp_path / "mine.toml"
    mine.write_text(text.replace('"UNPARSABLE"', '"STALE"'), encoding="utf-8")
    assert verb.run_scenarios([str(mine)], seed=None, report=None) == 1
    printed = capsys.readouterr()
    assert json.loads(printed.out)["held"] is False
    assert "not held: mine" in printed.err


def test_the_verb_knows_no_such_scenario(capsys: pytest.CaptureFixture[str]) -> None:
    assert verb.run_scenarios(["no-such-thing"], seed=None, report=None) == 2
    assert "scenario --list" in capsys.readouterr().err


def test_the_page_has_what_did_not_hold_first_and_marks_what_was_hurt(outcomes: list[Outcome]) -> None:
    check = Check("safe", False, "<b>late")
    one = dataclasses.replace(outcomes[-1], judgement=Judgement((check,), 0.01, None))
    text = page([*outcomes[:-1], one])
    assert text.index(f'<section id="{one.scenario.name}"') < text.index(f'<section id="{outcomes[0].scenario.name}"')
    assert 'class="hurt"/>' in text
    assert "&lt;b&gt;late" in text
    assert "<b>late" not in text


def test_a_bench_that_breaks_is_a_scenario_that_did_not_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    def gather(_scenario: object, _directory: Path) -> Evidence:
        raise BenchFaultError("it broke")

    monkeypatch.setattr("hil.scenarios.run.virtual.gather", gather)
    outcome = run_scenario(load_scenario("reply-byte-lost"))
    assert not outcome.held
    assert "it broke" in outcome.line()["broken"]["bench"]
