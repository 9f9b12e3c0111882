"""The whole controller on look-alikes that know less or talk more: it runs on what it verified, or refuses it.

Every meeting ends with the same questions (hil.lookalike_bench): was a bias ever set behind a limit that was not read
back, did anything but a true reading become a number, is the output off. Each check that protects the tip is also
taken away once.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import msgpack
import pytest

from edge.config import Config
from edge.errors import TipguardError
from edge.guard.states import State
from edge.guard.verdicts import Verdict
from edge.instruments import keithley2400 as driver_module
from edge.instruments.keithley2400 import Keithley2400 as Driver
from edge.instruments.keithley2400_needs import CONSEQUENCES
from edge.instruments.link import Acknowledgements
from edge.instruments.smu import Setup
from edge.ring import Kind
from edge.samples import Phase
from firmware_proto.keithley2400 import commands
from hil.devices.lookalike import NumberStyle, Personality
from hil.errors import BenchFaultError
from hil.lookalike_bench import SWEEP, Meeting, meet, refused_at_start
from hil.rig import config_for

SENSE_RANGE = ":SENSe:CURRent:RANGe"
SOURCE_RANGE = ":SOURce:VOLTage:RANGe"
RANGES = (SENSE_RANGE, SENSE_RANGE + "?", SENSE_RANGE + ":AUTO?", SOURCE_RANGE, SOURCE_RANGE + "?")
OPTIONAL = {
    ":SYST:BEEP:STAT": ":SYSTem:BEEPer:STATe",
    ":ROUT:TERM": ":ROUTe:TERMinals",
    ":SYST:RSEN": ":SYSTem:RSENse",
    ":SOUR:VOLT:MODE": ":SOURce:VOLTage:MODE",
    ":SOUR:DEL": ":SOURce:DELay",
    ":SENS:FUNC:CONC": ":SENSe:FUNCtion:CONCurrent",
    ":SENS:AVER": ":SENSe:AVERage",
    ":SYST:AZER": ":SYSTem:AZERo",
    ":TRIG:DEL": ":TRIGger:DELay",
    ":DISP:ENAB": ":DISPlay:ENABle",
    ":SYST:RWL": ":SYSTem:RWLock",
}


# ------------------------------------------------------------------------------------------------------- knows less


def test_the_2400_itself_runs_without_a_note(tmp_path: Path) -> None:
    met = meet(tmp_path, Personality())
    assert met.run["status"] == "completed"
    assert met.notes == []


@pytest.mark.parametrize("how", ["refused", "ignored"])
@pytest.mark.parametrize("header", OPTIONAL)
def test_one_command_less_is_a_note_and_no_reason_to_stop(tmp_path: Path, header: str, how: str) -> None:
    pattern = OPTIONAL[header]
    met = meet(tmp_path, Personality(unknown=(pattern,)) if how == "refused" else Personality(ignored=(pattern,)))
    assert met.run["status"] == "completed", met.run["reason"]
    if how == "refused":
        assert met.notes == [f'{header} refused (-113,"Undefined header"): {CONSEQUENCES[header.encode()]}']
    else:
        # What was ignored in silence is seen where the unit says so.
        assert met.notes == ([":SYST:AZER OFF is ignored: readings take three apertures"] if "AZER" in header else [])


def test_all_that_a_run_can_do_without_may_be_missing_together(tmp_path: Path) -> None:
    gone = (*OPTIONAL.values(), *(pattern + "?" for pattern in OPTIONAL.values()), *RANGES)
    met = meet(tmp_path, Personality(unknown=gone))
    assert met.run["status"] == "completed", met.run["reason"]
    assert {note.split(" ")[0].rstrip("?") for note in met.notes} >= {*OPTIONAL, ":SENS:CURR:RANG", ":SOUR:VOLT:RANG"}


def test_notes_are_in_the_runs_last_document(tmp_path: Path) -> None:
    documents: list[dict[str, Any]] = []

    async def work(met: Meeting) -> None:
        await met.sweep()
        records = met.bench.rig.records()
        documents.extend(msgpack.unpackb(record.payload) for record in records if record.kind == Kind.RUN)

    meet(tmp_path, Personality(unknown=(":SOURce:DELay",)), work)
    assert documents[-1]["kind"] == "stop"
    assert documents[-1]["smu_notes"] == [
        ':SOUR:DEL refused (-113,"Undefined header"): the first reading after a step may see the cable charging'
    ]


WITHOUT = [
    ((SENSE_RANGE,), r"SENS:CURR:RANG:AUTO reads back '1', expected 0 \(the instrument refused :SENS:CURR:RANG: -113"),
    ((SOURCE_RANGE,), r"SOUR:VOLT:RANG reads back .* \(the instrument refused :SOUR:VOLT:RANG: -113"),
    (("*RST",), r"refused part of the set-up \(\*RST: -113"),
    ((":SENSe:CURRent:PROTection",), r"refused part of the set-up \(:SENS:CURR:PROT: -113"),
    ((":SENSe:CURRent:PROTection?",), r"does not know :SENS:CURR:PROT\?, so what a run depends on cannot be read back"),
    ((":SOURce:VOLTage[:LEVel][:IMMediate][:AMPLitude]?",), r"does not know :SOUR:VOLT\?"),
    (("*ESE",), r"\*ESE\? does not return what \*ESE set|Without \*ESE\? a cut cannot be proven"),
    (("*ESE?",), r"Without \*ESE\? a cut cannot be proven on this unit; nothing was energised"),
]


# A reset that is ignored in silence may go unseen: what it would have set is read back one by one.
HOW = [(*case, how) for case in WITHOUT for how in ("refused", "ignored") if (case[0][0], how) != ("*RST", "ignored")]


@pytest.mark.parametrize(("gone", "reason", "how"), HOW, ids=[f"{case[0][0]} {case[2]}" for case in HOW])
def test_what_no_run_can_do_without_refuses_every_run_and_says_why(
    tmp_path: Path, gone: tuple[str, ...], reason: str, how: str
) -> None:
    async def work(met: Meeting) -> None:
        # Not only the first time: what was found wanting once is not forgotten.
        for _ in range(3):
            await met.sweep()

    met = meet(tmp_path, Personality(unknown=gone) if how == "refused" else Personality(ignored=gone), work)
    for run in met.runs:
        assert run["status"] == "failed"
        if how == "refused":
            assert re.search(reason, run["reason"]), run["reason"]
        assert re.search("[Nn]othing was energised", run["reason"])
    assert not met.ever_live
    assert met.load.widest_clamp_a == 0.0
    assert met.bench.engine.state is State.SAFE


def test_an_ignored_reset_is_seen_where_it_matters(tmp_path: Path) -> None:
    async def work(met: Meeting) -> None:
        # The rest of another session: a limit of 0.1 A, a filter, remote sense.
        met.device.unit.receive(met.bench.clock.now_ns(), b":SENS:CURR:PROT 0.1;:SYST:RSEN ON\n")
        await met.sweep()

    met = meet(tmp_path, Personality(ignored=("*RST", ":SYSTem:RSENse")), work)
    assert met.run["status"] == "failed"
    assert ":SYST:RSEN? is answered '1', expected 0" in met.run["reason"]
    assert not met.ever_live


LEVEL = ":SOURce:VOLTage[:LEVel][:IMMediate][:AMPLitude]"


@pytest.mark.parametrize(
    ("personality", "got"),
    [
        (Personality(ignored=(LEVEL,)), "'+0.000000E+00;+0.000000E+00'"),
        (Personality(reply=lambda line: line.replace(b"-1.000000E-02", b"+1.000000E-02")), "'+1.000000E-02;"),
        (Personality(reply=lambda line: line.replace(b"-1.000000E-02", b"-1.000000E+01")), "'-1.000000E+01;"),
    ],
    ids=["ignored", "sign lost", "a thousandfold"],
)
def test_a_unit_that_does_not_set_the_level_it_is_told_is_refused(
    tmp_path: Path, personality: Personality, got: str
) -> None:
    async def work(met: Meeting) -> None:
        for _ in range(2):
            await met.sweep()

    met = meet(tmp_path, personality, work)
    for run in met.runs:
        assert run["status"] == "failed"
        assert f"levels of -0.01 V and 0 V read back {got}" in run["reason"]
        assert "(output off); nothing was energised" in run["reason"]
    assert not met.ever_live


def test_an_ignored_limit_is_found(tmp_path: Path) -> None:
    met = meet(tmp_path, Personality(ignored=(":SENSe:CURRent:PROTection",)))
    assert met.run["status"] == "failed"
    assert "SENS:CURR:PROT reads back '+1.050000E-04', expected 0.0001 A" in met.run["reason"]


@pytest.mark.parametrize("how", ["refused", "ignored"])
def test_without_the_output_query_the_controller_does_not_start(tmp_path: Path, how: str) -> None:
    gone = (":OUTPut[:STATe]?",)
    reason = refused_at_start(tmp_path, Personality(unknown=gone) if how == "refused" else Personality(ignored=gone))
    assert re.search(r"no reply to ':OUTP\?' .* Without :OUTP\? no cut can be proven on this unit", reason), reason


@pytest.mark.parametrize(
    "gone", [(":OUTPut:SMODe", ":OUTPut:SMODe?"), (":OUTPut:SMODe?",)], ids=["off mode", "off mode query"]
)
def test_an_off_mode_that_cannot_be_asked_is_a_note_for_a_tip_and_a_refusal_for_a_cell(
    tmp_path: Path, gone: tuple[str, ...]
) -> None:
    met = meet(tmp_path, Personality(unknown=gone))
    assert met.run["status"] == "completed"
    assert ":OUTP:SMOD? unanswered: what its output does when off is not known" in met.notes

    async def arm(met: Meeting) -> None:
        with pytest.raises(TipguardError, match=r"OUTP:SMOD.*[Nn]othing was energised"):
            await met.bench.engine.arm(Phase.SEEK, 0.5)

    (tmp_path / "cell").mkdir()
    cell = config_for().model_dump(exclude_unset=True)
    cell["rig"]["kind"] = "cell"
    meet(tmp_path / "cell", Personality(unknown=gone), arm, config=Config.model_validate(cell))


# ------------------------------------------------------------------------------------------------- the error queue


@pytest.mark.parametrize("answer", [b"0", b"+0", b'+0,"No error"', b"0,No error", b'0,"No Error"'])
def test_an_error_queue_in_another_dress_will_do(tmp_path: Path, answer: bytes) -> None:
    met = meet(tmp_path, Personality(fixed=((":SYSTem:ERRor?", answer),)))
    assert met.run["status"] == "completed", met.run["reason"]
    assert met.notes == []


def test_no_error_queue_at_all_is_a_note_and_the_read_backs_count(tmp_path: Path) -> None:
    met = meet(tmp_path, Personality(ignored=(":SYSTem:ERRor?",), unknown=(":SOURce:DELay", ":DISPlay:ENABle")))
    assert met.run["status"] == "completed", met.run["reason"]
    assert met.notes == [":SYST:ERR? unanswered: what the unit refuses is not known; only what was read back counts"]


def test_without_an_error_queue_a_limit_that_was_refused_is_still_found(tmp_path: Path) -> None:
    met = meet(tmp_path, Personality(ignored=(":SYSTem:ERRor?",), unknown=(":SENSe:CURRent:PROTection",)))
    assert met.run["status"] == "failed"
    assert "SENS:CURR:PROT reads back '+1.050000E-04', expected 0.0001 A" in met.run["reason"]


# --------------------------------------------------------------------------------------------------------- the check


@pytest.mark.parametrize(
    ("gone", "check"),
    [
        ((), (commands.LIMIT_QUERY, commands.RANGE_QUERY, commands.OFF_MODE_QUERY)),
        (RANGES, (commands.LIMIT_QUERY, commands.OFF_MODE_QUERY)),
        ((":OUTPut:SMODe?",), (commands.LIMIT_QUERY, commands.RANGE_QUERY)),
        ((*RANGES, ":OUTPut:SMODe?"), (commands.LIMIT_QUERY,)),
    ],
    ids=["all", "no range", "no off mode", "limit only"],
)
@pytest.mark.parametrize("style", [NumberStyle(), NumberStyle(3), NumberStyle(letter="e")], ids=["6", "3", "e"])
def test_the_check_asks_for_what_the_unit_knows_and_finds_a_raised_limit(
    tmp_path: Path, gone: tuple[str, ...], check: tuple[bytes, ...], style: NumberStyle
) -> None:
    async def work(met: Meeting) -> None:
        bench = met.bench
        bench.start(SWEEP)
        await bench.until_live(0.05)
        assert bench.engine.smu.check_messages == check
        met.device.unit.receive(bench.clock.now_ns(), b":SENS:CURR:PROT 0.00009\n")
        met.runs.append(await bench.ended())

    met = meet(tmp_path, Personality(unknown=gone, settings=style), work)
    assert met.run["status"] == "tripped"
    assert met.bench.engine.report.trip_verdict is Verdict.LIMIT_CHANGED


# -------------------------------------------------------------------------------------------------------- talks more

TALK = [
    (Personality(acknowledge=b"OK"), "'OK'"),
    (Personality(acknowledge=b"ACK", acknowledge_all=True), "'ACK'"),
    (Personality(acknowledge=b"Ready.", acknowledge_all=True, acknowledge_first=True), "'Ready.'"),
    (Personality(acknowledge=b"OK", delay_s=0.05), "'OK'"),
    (Personality(acknowledge=b"OK", acknowledge_all=True, readings=NumberStyle(3)), "'OK'"),
]
TALK_IDS = ["commands", "all behind", "all before", "slow", "three decimals"]


@pytest.mark.parametrize(("personality", "text"), TALK, ids=TALK_IDS)
def test_a_unit_that_acknowledges_runs_and_cuts_as_planned(tmp_path: Path, personality: Personality, text: str) -> None:
    async def work(met: Meeting) -> None:
        await met.sweep()
        await met.sweep()

    met = meet(tmp_path, personality, work)
    assert [run["status"] for run in met.runs] == ["completed"] * 2, met.run["reason"]
    assert f"it acknowledges commands with {text}: as many such lines as are owed are dropped" in met.notes
    assert met.bench.engine.state is State.SAFE

    (tmp_path / "short").mkdir()
    met = meet(tmp_path / "short", personality, r_ohm=1000.0)
    assert met.run["status"] == "completed", met.run["reason"]
    assert met.run["results"]["triggers_found"] == 1
    assert met.run["results"]["triggers"][0]["planned"]
    assert met.bench.engine.state is State.SAFE


def test_one_acknowledgement_too_many_while_energised_cuts(tmp_path: Path) -> None:
    async def work(met: Meeting) -> None:
        bench = met.bench
        bench.start(SWEEP)
        await bench.until_live()
        met.device.wire.send(bench.clock.now_ns(), b"OK\r")
        bench.rig.line.poke()
        met.runs.append(await bench.ended())

    met = meet(tmp_path, Personality(acknowledge=b"OK"), work)
    assert met.run["status"] == "tripped"
    assert met.bench.engine.report.trip_verdict is Verdict.UNPARSABLE


def test_without_excusing_them_every_run_would_end_at_an_acknowledgement(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Acknowledgements, "owed", lambda _self, _data: 0)
    met = meet(tmp_path, Personality(acknowledge=b"OK"))
    assert met.run["status"] != "completed"


@pytest.mark.parametrize(
    ("personality", "reason"),
    [
        (Personality(acknowledge=b"0"), "which line is an answer cannot be told"),
        (Personality(acknowledge=b"ON"), "which line is an answer cannot be told"),
        (Personality(acknowledge=b"+1.000000E-07,+2.048400E+04"), "which line is an answer cannot be told"),
    ],
    ids=["zero", "word", "reading"],
)
def test_an_acknowledgement_that_could_be_an_answer_is_refused(
    tmp_path: Path, personality: Personality, reason: str
) -> None:
    met = meet(tmp_path, personality)
    assert met.run["status"] == "failed"
    assert reason in met.run["reason"]
    assert not met.ever_live


@pytest.mark.parametrize(
    ("personality", "reason"),
    [
        (Personality(echo=True), r"the reply to \*IDN\? is not an identity .* echoes commands"),
        (
            Personality(prompt=b"> "),
            r"the reply to :OUTP\? is not 0 or 1: b'> 0'. If it echoes commands, sends prompts",
        ),
        (Personality(words=((b"0", b"OFF"), (b"1", b"ON"))), r"is not 0 or 1: b'OFF'. .* words for numbers"),
        (Personality(acknowledge=b"7", acknowledge_all=True), r"the reply to :OUTP\? is not 0 or 1: b'7'"),
        (Personality(shifted=True), r"the reply to :OUTP\? is not 0 or 1: b'KEITHLEY"),
        (Personality(reply=lambda line: line[:1] + line), r"the reply to :OUTP\? is not 0 or 1: b'00'"),
    ],
    ids=["echo", "prompt", "words", "number behind", "shifted", "doubled"],
)
def test_talk_that_cannot_be_told_from_answers_is_refused_at_the_start(
    tmp_path: Path, personality: Personality, reason: str
) -> None:
    found = refused_at_start(tmp_path, personality)
    assert re.search(reason, found), found


@pytest.mark.parametrize(
    "personality",
    [
        Personality(acknowledge=b""),
        Personality(banner=b"KEITHLEY 2400\r\nREADY\r\n"),
        Personality(reply=lambda line: b"\x00" + line),
        Personality(reply=lambda line: line.rstrip(b"\r") + b"\n"),
        Personality(reply=lambda line: line + b"\n"),
        Personality(reply=lambda line: b"\n" + line),
        Personality(reply=lambda line: b"K" + line if line.startswith(b"KEITHLEY") else line),
        Personality(deaf_first=1),
        Personality(deaf_first=2),
        Personality(nominal_ranges=True),
        Personality(words=((b"NORM", b"NORMAL"), (b"VOLT", b"VOLTAGE"), (b"CURR,STAT", b"CURRENT,STATUS"))),
        Personality(words=((b"NORM", b'"NORM"'), (b"VOLT", b"'VOLT'"), (b"CURR,STAT", b'"CURR,STAT"'))),
        Personality(settings=NumberStyle(plus="")),
        Personality(settings=NumberStyle(letter="e", plus="")),
    ],
    ids=[
        "empty lines", "banner", "NUL", "LF", "CRLF", "LFCR", "KKEITHLEY", "first unanswered", "two unanswered",
        "nominal ranges", "long words", "quoted", "settings without plus", "as Python writes",
    ],
)  # fmt: skip
def test_harmless_habits_run_without_a_note(tmp_path: Path, personality: Personality) -> None:
    met = meet(tmp_path, personality)
    assert met.run["status"] == "completed", met.run["reason"]
    assert met.notes == []


# --------------------------------------------------------------------------------------------- what the checks are for


def test_without_needing_its_answer_a_tip_would_stand_behind_an_unread_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(driver_module, "_NEEDED_ANSWERS", frozenset())

    async def nothing(_self: Driver, _setup: Setup) -> None:
        return None

    monkeypatch.setattr(Driver, "_prove", nothing)
    # Sets what it is told twentyfold, and cannot be asked.
    personality = Personality(unknown=(":SENSe:CURRent:PROTection?",))

    async def work(met: Meeting) -> None:
        met.bench.rig.line.tamper(lambda _n, data: data.replace(b"PROT 0.000100000", b"PROT 0.002000000"))
        await met.sweep()

    with pytest.raises(BenchFaultError, match="that was not the one read back"):
        meet(tmp_path, personality, work)


def test_without_the_proof_beforehand_a_unit_without_tags_would_be_energised_and_never_verified(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def nothing(_self: Driver, _setup: Setup) -> None:
        return None

    monkeypatch.setattr(Driver, "_prove", nothing)

    async def work(met: Meeting) -> None:
        bench = met.bench
        bench.start(SWEEP)
        await bench.until(lambda: "CUT_UNVERIFIED" in str(bench.engine.report.alarm))
        assert met.ever_live
        # Only its manners are at fault: the output has been off for long.
        assert not met.device.output_on
        object.__setattr__(met.device.personality, "separate_lines", False)
        met.runs.append(await bench.ended())

    meet(tmp_path, Personality(separate_lines=True), work)
