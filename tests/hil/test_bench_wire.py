"""What the controller adds to the wire: the arithmetic, and a few trials of the whole."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from hil.bench.native import Trial
from hil.bench.options import BenchOptions
from hil.bench.sparring import CUT
from hil.bench.wire import ALLOWED_S, added_s, byte_ns, to_zero_s, wire

LONG = os.environ.get("TIPGUARD_LONG") == "1"
SANE_S = 0.1
DAWDLE_NS = 20_000_000


def test_a_byte_has_ten_bits() -> None:
    assert byte_ns(57600) == 173_611
    assert byte_ns(9600) == 1_041_666


def test_added_is_from_the_last_byte_to_the_cut() -> None:
    assert added_s(Trial(1_000, 51_000, 51_000, CUT + b":READ?\n"), 57600) == pytest.approx(50e-6)


def test_a_cut_that_comes_in_pieces_counts_to_its_end() -> None:
    assert added_s(Trial(1_000, 51_000, 91_000, CUT), 57600) == pytest.approx(90e-6)


def test_what_is_written_before_the_cut_keeps_the_wire_busy() -> None:
    # Three bytes more on the wire, and the cut's bytes start behind them.
    assert added_s(Trial(0, 50_000, 50_000, b"\x03\n\n" + CUT), 57600) == pytest.approx(50e-6 + 3 * 173_611e-9)


def test_an_answer_without_a_cut_has_no_latency() -> None:
    with pytest.raises(ValueError, match="not found"):
        added_s(Trial(0, 1, 1, b":READ?\n"), 57600)


@pytest.mark.parametrize("baud", [57600, 9600])
def test_behind_the_cut_come_its_wire_and_the_instrument_s_processing(baud: int) -> None:
    # 13 bytes, and 7 ms for a level with source autorange off (SPEC-2400 Rev. L).
    assert to_zero_s(baud) == pytest.approx(len(CUT) * 10 / baud + 0.007, abs=2e-6)


@pytest.mark.skipif(shutil.which("cc") is None and shutil.which("gcc") is None, reason="no C compiler")
@pytest.mark.realtime
@pytest.mark.timeout(120)
def test_a_few_trials_beside_a_reference_that_dawdles() -> None:
    report = wire(BenchOptions(), rounds=1, trials={57600: 5}, delay_ns=DAWDLE_NS)
    figures = {result["name"]: result for result in report["results"]}
    added = figures["57600.added_p99_s"]
    assert 0 < added["value"] < SANE_S
    assert figures["57600.c_p50_s"]["value"] >= DAWDLE_NS / 1e9
    assert added["target"] == pytest.approx(figures["57600.c_p99_s"]["value"] + ALLOWED_S)
    assert figures["57600.ours_p50_s"]["value"] < DAWDLE_NS / 1e9
    assert figures["57600.to_zero_p50_s"]["value"] == pytest.approx(
        figures["57600.ours_p50_s"]["value"] + to_zero_s(57600)
    )
    assert figures["57600.n"]["value"] == 5


@pytest.mark.long
@pytest.mark.skipif(not LONG, reason="long rounds: TIPGUARD_LONG=1")
@pytest.mark.skipif(shutil.which("cc") is None and shutil.which("gcc") is None, reason="no C compiler")
@pytest.mark.realtime
@pytest.mark.timeout(300)
def test_both_rates_and_their_picture(tmp_path: Path) -> None:
    report = wire(BenchOptions(quick=True, plots=tmp_path), rounds=2)
    names = {result["name"] for result in report["results"]}
    assert {"57600.added_p99_s", "9600.added_p99_s", "9600.to_zero_p99_s"} <= names
    assert (tmp_path / "wire.png").stat().st_size > 10_000
