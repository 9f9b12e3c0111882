"""The firmware in series with a load in the twin's own time: no sample left out, blocks as good as single steps."""

from __future__ import annotations

import dataclasses
import shutil

import pytest

from firmware_proto.frontend.messages import Reason
from hil.errors import BenchFaultError
from hil.frontend.in_series import RENEW_NS, Board, Hand, InSeries
from hil.frontend.lockstep import LockstepFrontend
from hil.twin.ohmic import OhmicLoad
from hil.twin.surge import SurgeLoad
from hil.twin.terminals import SourcedLoad
from tests.firmware_config import only_hard

pytestmark = pytest.mark.skipif(shutil.which("cc") is None and shutil.which("gcc") is None, reason="no C compiler")

START_NS = 5_000_000_000
MS = 1_000_000
LIMITS = only_hard(12_500, pre_n=16, post_n=4)


def armed(
    load: SourcedLoad, board: Board | None = None, *, sample_hz: int = 100_000
) -> tuple[InSeries, LockstepFrontend, Hand]:
    core = LockstepFrontend(sample_hz=sample_hz, start_ns=START_NS)
    hand = Hand(core, LIMITS)
    front = InSeries(load, core, hand, board or Board())
    front.begin(START_NS)
    return front, core, hand


@pytest.mark.parametrize("noise_codes", [0, 3])
def test_no_sample_is_left_out_and_the_lease_is_renewed(noise_codes: int) -> None:
    load = OhmicLoad(100e3)
    front, core, hand = armed(load, Board(noise_codes=noise_codes))
    load.set_source(START_NS, 10.0, 1e-3, connected=True)
    for ms in (1, 2, 40, 41, 350):
        load.advance(START_NS + ms * MS)
        assert core.sample_index == ms * 100
    assert front.opened_ns is None
    assert load.path_closed
    assert hand.trip is None


def surge(sample_hz: int, *, by_blocks: bool, monkeypatch: pytest.MonkeyPatch) -> tuple[int | None, int, float]:
    if not by_blocks:
        monkeypatch.setattr(SourcedLoad, "steady", property(lambda _load: False))
    load = SurgeLoad(3e-4, start_s=1e-8)
    front, core, _ = armed(load, Board(late_samples=1.0, open_ns=300), sample_hz=sample_hz)
    load.set_source(START_NS, 10.0, 1e-3, connected=True)
    load.begin(START_NS + 7_654_321)
    load.advance(START_NS + 20 * MS)
    return front.opened_ns, core.sample_index, load.peak_current_a


@pytest.mark.parametrize("sample_hz", [10_000, 100_000])
def test_blocks_are_as_good_as_single_samples(sample_hz: int, monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = surge(sample_hz, by_blocks=True, monkeypatch=monkeypatch)
    assert blocks == surge(sample_hz, by_blocks=False, monkeypatch=monkeypatch)
    assert blocks[0] is not None


def test_the_path_opens_a_sample_and_the_switch_after_the_one_that_trips() -> None:
    load = OhmicLoad(100e3)
    front, core, hand = armed(load, Board(late_samples=1.0, open_ns=300))
    load.set_source(START_NS, 10.0, 1e-3, connected=True)
    # Between two samples, 3 us after the hundredth: 0.6 mA, which the next one sees.
    load.advance(START_NS + 1_003_000)
    load.replace(10.0 / 0.6e-3)
    load.advance(START_NS + 2 * MS)
    assert front.opened_ns == START_NS + 1_010_000 + 10_000 + 300
    assert (front.reason, hand.trip and hand.trip.reason) == ("HARD", Reason.HARD)
    assert not load.path_closed
    assert load.terminal_current_a == 0.0
    # Latched: it takes no further part.
    taken = core.sample_index
    load.advance(START_NS + 500 * MS)
    assert core.sample_index == taken


def test_a_host_that_stops_renewing_loses_the_path_at_the_end_of_its_lease() -> None:
    load = OhmicLoad(100e3)
    front, _, _ = armed(load, Board(late_samples=1.0, open_ns=300))
    load.set_source(START_NS, 10.0, 1e-3, connected=True)
    load.advance(START_NS + RENEW_NS + MS)
    front.renewing = False
    load.advance(START_NS + 400 * MS)
    assert front.reason == "LEASE"
    assert front.opened_ns is not None
    # Granted on the device's clock, which stands at the sample before.
    assert abs(front.opened_ns - (START_NS + RENEW_NS + 100 * MS)) <= 10_000 + 300


def test_taken_out_the_path_is_closed_again() -> None:
    load = OhmicLoad(1e3)
    front, _, _ = armed(load)
    load.set_source(START_NS, 10.0, 1e-3, connected=True)
    load.advance(START_NS + MS)
    assert front.opened_ns is not None
    front.release(START_NS + 2 * MS)
    load.advance(START_NS + 5 * MS)
    assert load.path_closed
    assert load.terminal_current_a == pytest.approx(1e-3)


def test_limits_that_no_device_takes_are_refused() -> None:
    core = LockstepFrontend(start_ns=START_NS)
    with pytest.raises(BenchFaultError, match="does not take the limits"):
        Hand(core, dataclasses.replace(LIMITS, hard_code=0))


def test_a_device_that_is_not_heard_is_told() -> None:
    core = LockstepFrontend(start_ns=START_NS)
    core.freeze()
    with pytest.raises(BenchFaultError, match="does not answer"):
        Hand(core, LIMITS)
