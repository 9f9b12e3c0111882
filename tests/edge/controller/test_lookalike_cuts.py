"""Cuts of keeper and safe-off on look-alikes: they know no unit's habits, and verify or say that they did not.

Both cut with :class:`edge.guard.cut.Cut`; here it is written to the line of a look-alike whose output is on at -0.5 V,
as they write it. Whether verified or not, the output is off: that the lines of a cut stand alone sees to it.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from edge.controller import safe_off
from edge.controller.mirror import DIRTY, Latch, Mirror
from edge.errors import TipguardError
from edge.guard.cut import Cut, CutForm
from edge.guard.states import State
from edge.guard.verdicts import Verdict
from firmware_proto.scpi import LineSplitter, Overlong
from hil.devices.keithley2400 import Keithley2400
from hil.devices.lookalike import LookAlike, NumberStyle, Personality
from hil.line.memory import MemoryLine
from hil.line.pty import PtyLine
from hil.lookalike_bench import Meeting, meet
from hil.twin.ohmic import OhmicLoad
from hil.virtual import VirtualClock, run_virtual

MS = 1_000_000
ROUNDS = 4
VERIFIED = {
    "2400": Personality(),
    "acknowledges": Personality(acknowledge=b"OK"),
    "acknowledges all": Personality(acknowledge=b"OK", acknowledge_all=True),
    "acknowledges first": Personality(acknowledge=b"OK", acknowledge_all=True, acknowledge_first=True),
    "acknowledges with numbers": Personality(acknowledge=b"0", acknowledge_all=True),
    "echo": Personality(echo=True),
    "prompt": Personality(prompt=b"> "),
    "banner": Personality(banner=b"READY\r\n"),
    "NUL": Personality(reply=lambda line: b"\x00" + line),
    "doubled": Personality(reply=lambda line: line[:1] + line),
    "3 decimals": Personality(settings=NumberStyle(3)),
    "9 decimals, small e": Personality(settings=NumberStyle(9, letter="e", plus="")),
    "100 ms": Personality(delay_s=0.1),
    "300 ms": Personality(delay_s=0.3),
    "no error queue": Personality(ignored=(":SYSTem:ERRor?",)),
}
UNVERIFIED = {
    "no tag": Personality(ignored=("*ESE", "*ESE?")),
    "tag refused": Personality(unknown=("*ESE?",)),
    "no output query": Personality(unknown=(":OUTPut[:STATe]?",)),
    "ON and OFF": Personality(words=((b"0", b"OFF"), (b"1", b"ON"))),
    "answers in lines": Personality(separate_lines=True),
    "3 digits of exponent": Personality(settings=NumberStyle(6, 3)),
    "fixed point": Personality(settings=NumberStyle(4, fixed=True)),
    "mute": Personality(reply=lambda line: b""),
}


def cut_at_bias(personality: Personality) -> tuple[bool, bool, float]:
    """Cut as the keeper does, a question of its worker still open; return (verified, output on, V at the tip)."""

    async def main(clock: VirtualClock) -> tuple[bool, bool, float]:
        load = OhmicLoad(1e6, 1000.0)
        device = LookAlike(Keithley2400(load), personality)
        line = MemoryLine(device, clock, 57600)
        device.unit.receive(clock.now_ns(), b":SOUR:VOLT -0.5\n:OUTP ON\n")
        line.poke()
        await clock.sleep_until(clock.now_ns() + 50 * MS)
        assert load.v_tip < -0.4
        transport = line.transport
        transport.write(b":READ?\n")
        await clock.sleep_until(clock.now_ns() + 7 * MS)
        lines = CutForm.TIP.lines
        cut = Cut(lines, wants_zero=True, abort=b"\x03", query_outstanding=True, baud=57600, first_tag=41)
        splitter = LineSplitter()
        while not cut.verified and cut.rounds < ROUNDS:
            transport.write(cut.next_round(clock.now_ns()))
            while clock.now_ns() < cut.due_ns and cut.verified_ns is None:
                await clock.sleep_until(min(cut.due_ns, clock.now_ns() + MS))
                for reply in splitter.feed(transport.read()):
                    if not isinstance(reply, Overlong):
                        cut.feed(reply, clock.now_ns())
        return cut.verified, device.output_on, load.v_tip

    return run_virtual(main)


@pytest.mark.parametrize("name", VERIFIED)
def test_a_keepers_cut_is_verified_whatever_is_said_beside_the_proof(name: str) -> None:
    verified, on, v_tip = cut_at_bias(VERIFIED[name])
    assert verified
    assert not on
    assert abs(v_tip) < 1e-3


@pytest.mark.parametrize("name", UNVERIFIED)
def test_a_proof_that_cannot_be_read_is_never_taken_for_one(name: str) -> None:
    verified, on, v_tip = cut_at_bias(UNVERIFIED[name])
    assert not verified
    assert not on, "unproven, but cut"
    assert abs(v_tip) < 1e-3


@pytest.mark.parametrize("name", ["acknowledges", "acknowledges all", "3 decimals", "100 ms", "no error queue"])
def test_an_output_found_on_at_the_start_is_cut_and_verified(tmp_path: Path, name: str) -> None:
    Mirror(tmp_path).write(Latch(DIRTY))

    async def work(met: Meeting) -> None:
        engine = met.bench.engine
        met.device.press_output_key(met.bench.clock.now_ns())
        met.bench.rig.line.poke()
        await met.bench.until(lambda: met.device.output_on)
        await met.bench.until(lambda: engine.state is State.CUTTING)
        await engine.until_off()
        assert engine.report.trip_verdict in (Verdict.RESTART, Verdict.OUTPUT_CHANGED)
        engine.rearm(by="test")
        await met.sweep()

    met = meet(tmp_path, VERIFIED[name], work)
    assert met.run["status"] == "completed", met.run["reason"]


@contextmanager
def on_a_pty(personality: Personality, link: Path) -> Iterator[LookAlike]:
    device = LookAlike(Keithley2400(OhmicLoad(1e6, 1000.0)), personality)
    stop_r, stop_w = os.pipe()
    with PtyLine(device, link, 57600) as line:
        thread = threading.Thread(target=line.run, args=(stop_r,))
        thread.start()
        try:
            yield device
        finally:
            os.write(stop_w, b"x")
            thread.join()
    os.close(stop_r)
    os.close(stop_w)


@pytest.mark.realtime
@pytest.mark.parametrize(
    ("personality", "verified"),
    [
        (Personality(acknowledge=b"OK", acknowledge_all=True, settings=NumberStyle(3)), True),
        (Personality(delay_s=0.1), True),
        (Personality(unknown=("*ESE?",)), False),
    ],
    ids=["acknowledges", "slow", "no tag"],
)
def test_safe_off_verifies_or_says_that_it_did_not(tmp_path: Path, personality: Personality, verified: bool) -> None:
    link = tmp_path / "smu"
    with on_a_pty(personality, link):
        target = safe_off.Target(
            str(link), 57600, b"\x03", CutForm.TIP.lines, wants_zero=CutForm.TIP.wants_zero, source="test"
        )
        report = safe_off.make_safe(target, 1.0 if verified else 0.3)
    assert report["verified_off"] is verified
    assert report["rounds"] >= 1


def test_a_refused_unit_stays_refused_by_those_who_cannot_prove_its_cut(tmp_path: Path) -> None:
    # What keeper and safe-off cannot verify, the worker does not energise.
    for name, personality in UNVERIFIED.items():
        directory = tmp_path / name.replace(" ", "-")
        directory.mkdir()
        try:
            met = meet(directory, personality)
        except TipguardError:
            continue
        assert met.run["status"] == "failed", name
        assert not met.ever_live, name
