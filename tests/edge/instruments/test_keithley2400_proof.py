"""Proofs before anything is energised: what must be refused although most of it looks right."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge.config import Config
from edge.errors import InstrumentError, LimitReadbackError, TipguardError
from edge.instruments.keithley2400_talk import Talk
from edge.samples import Phase
from firmware_proto.keithley2400 import commands
from hil.devices.lookalike import Personality
from hil.lookalike_bench import Meeting, meet
from hil.rig import config_for
from tests.edge.instruments.test_keithley2400_driver import SEEK, Bench, with_bench


@pytest.mark.parametrize("proof", [b"+0.000000E+00;132;1", b"+1.000000E-01;132;0", b"+0.000000E+00;131;0"])
def test_a_proof_that_says_on_or_a_level_or_another_tag_energises_nothing(proof: bytes) -> None:
    async def check(bench: Bench) -> None:
        with pytest.raises(LimitReadbackError, match="the question that proves a cut is answered"):
            await bench.smu.configure(SEEK)

    # 132: the tag for a check line of 32 bytes.
    with_bench(check, lies={commands.tagged_query(132).rstrip(): [proof]})


def test_a_level_that_does_not_go_back_to_0_v_is_refused() -> None:
    tried = commands.set_level(-0.01).rstrip() + b";:SOUR:VOLT?;:SOUR:VOLT 0;:SOUR:VOLT?"

    async def check(bench: Bench) -> None:
        with pytest.raises(LimitReadbackError, match="does not set what it is told"):
            await bench.smu.configure(SEEK)

    with_bench(check, lies={tried: [b"-1.000000E-02;-1.000000E-02"]})


def test_after_a_set_up_that_failed_the_unit_is_met_anew() -> None:
    async def check(bench: Bench) -> None:
        met: list[bytes] = []

        def hook(_n: int, data: bytes) -> bytes:
            if b"*ESE 201;" in data:
                met.append(data)
            return data

        bench.line.tamper(hook)
        with pytest.raises(LimitReadbackError):
            await bench.smu.configure(SEEK)
        await bench.smu.configure(SEEK)
        await bench.smu.configure(SEEK)
        assert len(met) == 2

    with_bench(check, lies={b":SENS:CURR:PROT?": [b"+1.050000E-03", b"+1.000000E-03"]})


@pytest.mark.parametrize(
    ("table", "key", "value", "personality", "name"),
    [
        ("smu", "terminals", "rear", Personality(unknown=(":ROUTe:TERMinals", ":ROUTe:TERMinals?")), ":ROUT:TERM"),
        (
            "rig",
            "kind",
            "cell",
            Personality(unknown=(":OUTPut:SMODe",), fixed=((":OUTPut:SMODe?", b"HIMP"),)),
            ":OUTP:SMOD",
        ),
    ],
)
def test_what_only_some_rigs_need_is_refused_there(
    tmp_path: Path, table: str, key: str, value: str, personality: Personality, name: str
) -> None:
    config = config_for().model_dump(exclude_unset=True)
    config.setdefault(table, {})[key] = value

    async def arm(met: Meeting) -> None:
        with pytest.raises(TipguardError, match=rf"refused part of the set-up \({name}: -113"):
            await met.bench.engine.arm(Phase.SEEK, 0.5)

    meet(tmp_path, personality, arm, config=Config.model_validate(config))


def test_a_limit_in_a_form_that_one_byte_changes_is_asked_for_twice() -> None:
    async def check(bench: Bench) -> None:
        with pytest.raises(LimitReadbackError, match=r":SENS:CURR:PROT\? was answered twice, and differently"):
            await bench.smu.configure(SEEK)

    with_bench(check, lies={b":SENS:CURR:PROT?": [b"0.001", b"0.01"]})


def test_acknowledgements_that_are_not_counted_the_same_twice_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    rounds = [([1, 0, 1], [b"OK", b"OK"]), ([1, 0, 0], [b"OK"])]

    async def heard(_self: Talk) -> tuple[list[int], list[bytes]]:
        return rounds.pop(0)

    monkeypatch.setattr(Talk, "_heard", heard)

    async def check(bench: Bench) -> None:
        with pytest.raises(InstrumentError, match="which line is an answer cannot be told"):
            await bench.smu._talk._learn_acknowledgements()
        assert bench.link.acknowledgements is None

    with_bench(check)


def test_a_query_is_unknown_only_to_a_unit_that_answers_in_step(monkeypatch: pytest.MonkeyPatch) -> None:
    async def out_of_step(_self: Talk) -> bool:
        return False

    monkeypatch.setattr(Talk, "in_step", out_of_step)

    async def check(bench: Bench) -> None:
        with pytest.raises(InstrumentError, match="another one's answer"):
            await bench.smu._talk.read_back(b":SYST:AZER?\n", needed=False)
        assert not bench.smu._talk.unanswered

    with_bench(check, lies={b":SYST:AZER?": [None]})


def test_a_reading_asked_for_with_the_output_off_is_told_afterwards() -> None:
    async def check(bench: Bench) -> None:
        await bench.smu.configure(SEEK)
        bench.link.write(b":READ?\n")
        await bench.link.settle(0.1)
        told = await bench.smu.aftermath()
        assert told.was_off
        assert not told.was_reset
        assert [line.split(",")[0] for line in told.refused] == ["+803"]

    with_bench(check)


def test_a_unit_whose_answers_are_out_of_step_in_the_end_is_not_met(monkeypatch: pytest.MonkeyPatch) -> None:
    async def out_of_step(_self: Talk) -> bool:
        return False

    monkeypatch.setattr(Talk, "in_step", out_of_step)

    async def check(bench: Bench) -> None:
        with pytest.raises(InstrumentError, match=r"\*ESE\? does not return what \*ESE set"):
            await bench.smu._talk.meet()
        assert not bench.smu._talk.met

    with_bench(check)


def test_one_slow_reply_does_not_make_the_unit_a_slow_one() -> None:
    async def check(bench: Bench) -> None:
        talk = bench.smu._talk
        talk._took_s = [0.001, 0.001, 0.050]
        assert talk.extra_s == 0.0
        talk._took_s = [0.001, 0.050, 0.050]
        assert talk.extra_s == pytest.approx(0.050, abs=0.011)

    with_bench(check)
