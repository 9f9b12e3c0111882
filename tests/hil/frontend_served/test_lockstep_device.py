"""The real core in series with the twin in virtual time: the path opens at the sample that trips, not at a look."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from firmware_proto.frontend import messages
from firmware_proto.frontend.messages import Reason, ResetCause, State
from firmware_proto.frontend.session import Rebooted, Status
from hil.frontend import build
from hil.line.pacing import Pacer
from hil.twin.full import Site
from hil.twin.ohmic import OhmicLoad
from hil.twin.site import SwitchingSite
from hil.twin.terminals import SourcedLoad
from tests.hil.frontend_served.stand import CONFIG, MS, US, Stand, drive

PERIOD_NS = 10 * US


def test_the_path_is_open_until_the_firmware_closes_it_and_opens_with_it() -> None:
    load = OhmicLoad(1e6)
    stand = Stand(load)
    drive(stand, 1.0)
    assert not load.path_closed
    assert load.terminal_current_a == 0.0
    stand.armed()
    assert load.terminal_current_a == pytest.approx(1e-6)
    stand.write(stand.session.open())
    stand.go(5 * MS)
    assert not load.path_closed
    assert [len(stand.truth(name)) for name in ("switch_closed", "switch_open")] == [1, 1]
    assert not stand.trips()


def test_a_step_above_the_threshold_opens_the_path_in_the_sample_that_sees_it() -> None:
    load = OhmicLoad(1e4)
    stand = Stand(load).armed()
    drive(stand, 0.5)
    stand.go(20 * MS)
    # In the middle between two samples.
    stepped_ns = stand.t_ns + 3 * PERIOD_NS + PERIOD_NS // 2
    load.set_source(stepped_ns, 1.0, 1e-3, connected=True)
    stand.go(5 * MS)
    (trip,) = stand.trips()
    assert (trip.reason, trip.code) == (Reason.HARD, 2_500)
    (opened,) = stand.truth("switch_open")
    assert int(opened["t_ns"] or 0) == stepped_ns + PERIOD_NS // 2
    # For half a period it carried 100 uA: looking does not change that.
    dose_c = load.charge_c
    stand.go(50 * MS)
    assert load.charge_c == dose_c


@pytest.mark.parametrize("make", [SwitchingSite, Site])
def test_a_filament_is_cut_within_a_sample_whoever_looks(make: Callable[..., SourcedLoad]) -> None:
    """The 2400 reads the twin each 10 ms, or somebody each 100 us: the same nanosecond."""
    opened = []
    for look_ns in (100 * US, 10 * MS):
        load = make("gb", u_median_v=0.3, series_ohm=1_000.0, seed=4)
        stand = Stand(load, config=replace(CONFIG, hard_code=100)).armed()
        level_v = 0.0
        while not stand.truth("switch_open"):
            level_v -= 0.01
            drive(stand, level_v)
            for _ in range(20 * MS // look_ns):
                stand.duplex.run_until(stand.t_ns + look_ns)
                stand.load.advance(stand.t_ns + look_ns)
                stand.go(look_ns)
            assert level_v > -3.0
        onset = int(stand.truth("set_onset")[0]["t_ns"] or 0)
        opened.append(int(stand.truth("switch_open")[0]["t_ns"] or 0) - onset)
    assert opened[0] == opened[1]
    # The full one's filament grows on after it has bridged; the plain one is whole at once.
    assert 0 <= opened[0] <= (PERIOD_NS if make is SwitchingSite else 50 * PERIOD_NS)


def test_without_the_check_of_the_threshold_the_filament_stays_connected() -> None:
    """What is removed: HARD of the detector. The twin sees the harm."""
    taken = build.lockstep(edits=[build.Edit("tg_detector.c", "reason = TG_REASON_HARD;", "reason = TG_REASON_NONE;")])
    charges = []
    for library in (None, taken):
        load = OhmicLoad(1e4)
        stand = Stand(load, library=library).armed()
        drive(stand, 1.0)
        stand.go(50 * MS)
        charges.append(abs(load.charge_c))
        assert load.path_closed == (library is not None)
    assert charges[0] <= 1e-4 * 2 * PERIOD_NS * 1e-9
    assert charges[1] == pytest.approx(1e-4 * 0.050, rel=0.01)


def test_a_lost_host_opens_the_path_at_the_end_of_its_lease_and_at_most_a_sample_after() -> None:
    load = OhmicLoad(1e6)
    stand = Stand(load).armed()
    stand.go(100 * MS)
    drive(stand, 1.0)
    stand.renewing = False
    deadline_ns = stand.t_ns + 40 * MS
    stand.write(stand.session.lease(stand.core.now_ticks + 40 * MS))
    stand.go(100 * MS)
    (opened,) = stand.truth("switch_open")
    assert deadline_ns <= int(opened["t_ns"] or 0) <= deadline_ns + PERIOD_NS
    (trip,) = stand.trips()
    assert trip.reason == Reason.LEASE


def test_a_frozen_device_neither_samples_nor_opens_and_goes_on_where_it_was() -> None:
    load = OhmicLoad(1e6)
    stand = Stand(load).armed()
    drive(stand, 1.0)
    stand.go(10 * MS)
    index = stand.core.sample_index
    stand.device.freeze(stand.t_ns)
    stand.renewing = False
    heard = stand.go(300 * MS)
    assert (stand.core.sample_index, heard, load.path_closed) == (index, [], True)
    stand.device.thaw(stand.t_ns)
    stand.go(150 * MS)
    # Its clock stood still: the lease had not run out yet, and then did.
    assert not load.path_closed
    assert stand.trips()[-1].reason == Reason.LEASE
    assert stand.core.sample_index == pytest.approx(index + 15_000, abs=2)


def test_a_reset_opens_the_path_and_is_another_boot() -> None:
    load = OhmicLoad(1e6)
    stand = Stand(load).armed()
    drive(stand, 1.0)
    stand.go(10 * MS)
    boot, at_ns = stand.core.boot_nonce, stand.t_ns
    stand.device.reset(at_ns, off_ns=20 * MS, cause=ResetCause.WATCHDOG)
    stand.renewing = False
    assert not load.path_closed
    stand.write(stand.session.get_status())
    assert not [event for event in stand.go(19 * MS) if isinstance(event, Status)]
    assert stand.core.sample_index == 0
    assert any(isinstance(event, Rebooted) for event in stand.go(150 * MS))
    stand.hello()
    welcome = stand.session.welcome
    assert welcome is not None
    assert welcome.boot_nonce == stand.core.boot_nonce != boot
    assert (welcome.reset_cause, welcome.state) == (ResetCause.WATCHDOG, State.SAFE)
    assert stand.truth("switch_open")[0]["t_ns"] == at_ns


def test_a_stuck_switch_is_told_and_the_twin_goes_on_conducting() -> None:
    load = OhmicLoad(1e4)
    stand = Stand(load).armed()
    told: list[tuple[int, str]] = []
    stand.device.stick_switch(stand.t_ns, stuck=True, told=lambda t_ns, detail: told.append((t_ns, detail)))
    stand.go(10 * MS)
    assert not told
    drive(stand, 1.0)
    stand.go(20 * MS)
    assert load.path_closed
    assert load.terminal_current_a == pytest.approx(1e-4)
    assert len(told) == 1
    assert stand.status is not None
    assert (stand.status.switch_pin, stand.status.switch_sense) == (0, 1)
    assert stand.status.trip_reason == Reason.SWITCH_STUCK
    stand.device.stick_switch(stand.t_ns, stuck=False)
    assert not load.path_closed


def test_a_converter_without_an_answer_opens_the_path_at_once() -> None:
    load = OhmicLoad(1e6)
    stand = Stand(load).armed()
    drive(stand, 1.0)
    stand.go(10 * MS)
    stand.device.silence_converter(stand.t_ns, silent=True)
    silent_ns = stand.t_ns
    stand.go(10 * MS)
    (trip,) = stand.trips()
    assert trip.reason == Reason.ADC_FAULT
    assert int(stand.truth("switch_open")[0]["t_ns"] or 0) <= silent_ns + PERIOD_NS


def test_a_converter_that_hangs_sees_no_filament_and_that_is_told() -> None:
    """Nothing in the device can see this: it is the 2400 that cuts then."""
    load = OhmicLoad(1e6)
    stand = Stand(load).armed()
    drive(stand, 1.0)
    stand.go(10 * MS)
    told: list[str] = []
    stand.device.hold_converter(stand.t_ns, held=True, told=lambda _t_ns, detail: told.append(detail))
    stand.go(10 * MS)
    assert not told
    load.replace(1e3)
    stand.go(10 * MS)
    assert told == ["the converter gives 25, 25000 in truth"]
    assert load.path_closed
    assert not stand.trips()
    stand.device.hold_converter(stand.t_ns, held=False)
    stand.go(MS)
    assert stand.trips()[-1].reason == Reason.HARD


def test_a_line_with_a_rate_makes_samples_wait_in_the_device_and_a_trip_overtakes_them() -> None:
    """115200 bit/s cannot carry 100 kS/s; what has no room is dropped and counted by the device, not by the line."""
    load = OhmicLoad(1e6)
    stand = Stand(load, baud=115_200, config=replace(CONFIG, stream=messages.Stream.FULL)).armed()
    drive(stand, 1.0)
    stand.write(stand.session.credit(1 << 20))
    stand.go(400 * MS)
    load.replace(1e3)
    tripped_ns = stand.t_ns
    stand.go(400 * MS)
    (trip,) = stand.trips()
    report = next(event for event in stand.events if event.__class__.__name__ == "Tripped")
    # One frame was on its way, and what the UART held; not the seconds of samples that wait.
    assert report.t_rx_ns - tripped_ns < 120 * MS
    assert trip.reason == Reason.HARD
    assert stand.status is not None
    assert stand.status.drop_tx_full > 10_000
    pacer: Pacer = stand.duplex.to_reader
    assert pacer.unstarted(stand.t_ns) <= 256
