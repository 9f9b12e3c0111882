"""Faults of a front end from a plan: on its line, whole frames by their names, and in the device; each confirmed."""

from __future__ import annotations

import pytest

from firmware_proto.frontend import messages
from firmware_proto.frontend.framing import TRIP_BYTES, encode
from firmware_proto.frontend.messages import Reason, ResetCause, State
from firmware_proto.frontend.session import BadFrame, ConfigIs, Gap, Rebooted
from hil.errors import BenchOptionError
from hil.faults.frontend import WATCHDOG_NS, name_of
from hil.faults.injector import Injector
from hil.faults.plan import parse_plan
from hil.twin.ohmic import OhmicLoad
from tests.hil.frontend_served.stand import MS, Stand, drive


def stand_with(fault: str) -> Stand:
    return Stand(OhmicLoad(1e6), plan=f'seed = 5\n[[fault]]\nname = "it"\n{fault}\n')


def begin(stand: Stand) -> None:
    """Count frames and time of the plan from now on; 1 V at 1 Mohm."""
    drive(stand, 1.0)
    stand.go(MS)
    stand.injector.arm(stand.t_ns)


def applied(stand: Stand) -> list[str]:
    return [one.detail for one in stand.injector.applied]


def test_a_frame_is_known_by_its_name_and_rubbish_by_none() -> None:
    assert name_of(encode(messages.Ping(token=0), 0, 0)) == "PING"
    assert name_of(TRIP_BYTES) == "TRIP"
    assert [name_of(data) for data in (b"", b"\x00", b"\x05\x01\x00", b"\x03\x7f\x01\x00")] == ["", "", "", ""]


def test_the_schema_of_plans_knows_the_front_end() -> None:
    plan = parse_plan(
        '[[fault]]\nkind = "drop"\nport = "frontend"\nat_frame = 1\n[[fault]]\nkind = "adc_silent"\nat_s = 1'
    )
    assert [fault.port for fault in plan.faults] == ["frontend", "frontend"]
    with pytest.raises(BenchOptionError, match="frontend for switch_stuck"):
        parse_plan('[[fault]]\nkind = "switch_stuck"\nport = "smu"\nat_s = 1')
    with pytest.raises(BenchOptionError, match="this bench has none"):
        Injector(plan).check()


def test_a_lease_that_is_lost_by_name_is_made_up_for_by_the_next_one() -> None:
    stand = stand_with('kind = "mute"\nport = "frontend"\nto = "device"\nat_command = "LEASE"\ntimes = 1').armed()
    begin(stand)
    stand.go(300 * MS)
    (detail,) = applied(stand)
    assert "vanished" in detail
    assert stand.load.path_closed
    stand.write(stand.session.get_status())
    stand.go(5 * MS)
    assert stand.status is not None
    # The next frame says by its number that one is missing.
    assert (stand.status.state, stand.status.rx_gaps) == (State.ARMED, 1)


def test_leases_that_never_come_open_the_path_in_time() -> None:
    """Half a cable: what the device says still arrives."""
    stand = stand_with('kind = "mute"\nport = "frontend"\nto = "device"\nat_s = 0.05').armed()
    begin(stand)
    stand.go(400 * MS)
    assert not stand.load.path_closed
    assert [trip.reason for trip in stand.trips()] == [Reason.LEASE]
    opened_ns = int(stand.truth("switch_open")[0]["t_ns"] or 0)
    muted_ns = stand.injector.applied[0].t_ns
    assert opened_ns - muted_ns < 100 * MS


@pytest.mark.parametrize(
    ("fault", "cause"),
    [
        ('kind = "flip"\nbit = 3\noffset = 20', "BAD_CRC"),
        ('kind = "drop"\noffset = 20', "BAD_CRC"),
        ('kind = "duplicate"\noffset = 20', "BAD_CRC"),
        ('kind = "truncate"\ncount = 10', ""),
        ('kind = "truncate"\ncount = 10\nterminator = false', ""),
        ('kind = "double"', "REPEATED"),
    ],
)
def test_a_damaged_status_is_refused_and_the_next_one_tells_of_it(fault: str, cause: str) -> None:
    stand = stand_with(f'{fault}\nport = "frontend"\nto = "host"\nat_frame = 2').armed()
    begin(stand)
    heard = stand.go(600 * MS)
    assert len(applied(stand)) == 1
    causes = [event.cause.name for event in heard if isinstance(event, BadFrame)]
    assert len(causes) == 1
    assert cause in causes[0]
    gaps = [event.frames for event in heard if isinstance(event, Gap)]
    # Also without its end it takes nothing along: after a silence there is a delimiter in front, too.
    assert gaps == ([] if cause == "REPEATED" else [1])
    assert stand.load.path_closed


def test_an_old_status_again_is_refused_as_a_repetition() -> None:
    stand = stand_with('kind = "stale"\nage = 2\nport = "frontend"\nto = "host"\nat_frame = 3').armed()
    begin(stand)
    heard = stand.go(800 * MS)
    assert [event.cause.name for event in heard if isinstance(event, BadFrame)] == ["REPEATED"]
    assert [event.frames for event in heard if isinstance(event, Gap)] == [1]


def test_a_config_damaged_on_its_way_is_not_in_force() -> None:
    stand = stand_with('kind = "flip"\nbit = 0\noffset = 15\nport = "frontend"\nto = "device"\nat_command = "CONFIG"')
    stand.hello()
    stand.injector.arm(stand.t_ns)
    stand.write(stand.session.configure(stand.config))
    heard = stand.go(50 * MS)
    assert not [event for event in heard if isinstance(event, ConfigIs)]
    assert len(applied(stand)) == 1
    stand.write(stand.session.configure(stand.config))
    assert [event for event in stand.go(50 * MS) if isinstance(event, ConfigIs)]


def test_a_cable_that_is_cut_opens_the_path_and_comes_back() -> None:
    stand = stand_with('kind = "unplug"\nport = "frontend"\nat_s = 0.01\nduration_s = 0.3').armed()
    begin(stand)
    plugged = []
    for _ in range(2):
        stand.go(200 * MS)
        plugged.append(stand.plugged)
        assert not stand.load.path_closed
    assert plugged == [False, True]
    stand.hello()
    assert stand.trips()[-1].reason == Reason.LEASE


def test_a_frozen_device_is_reset_by_its_watchdog() -> None:
    stand = stand_with('kind = "frontend_freeze"\nat_s = 0.01').armed()
    begin(stand)
    stand.renewing = False
    heard = stand.go(300 * MS)
    (detail,) = applied(stand)
    assert detail == "frozen, the switch closed"
    (opened,) = stand.truth("switch_open")
    assert int(opened["t_ns"] or 0) == stand.injector.applied[0].t_ns + WATCHDOG_NS
    assert any(isinstance(event, Rebooted) for event in heard)
    stand.hello()
    assert stand.session.welcome is not None
    assert stand.session.welcome.reset_cause == ResetCause.WATCHDOG


def test_without_its_watchdog_a_frozen_device_keeps_the_path_closed_for_as_long_as_it_likes() -> None:
    """Why there has to be one: what is removed is the watchdog, and the lease does not help."""
    stand = stand_with('kind = "frontend_freeze"\nwatchdog = false\nduration_s = 0.9\nat_s = 0.01').armed()
    begin(stand)
    stand.renewing = False
    stand.go(800 * MS)
    assert stand.load.path_closed
    stand.go(400 * MS)
    assert not stand.load.path_closed


def test_a_device_without_power_is_silent_open_and_comes_back_as_another_boot() -> None:
    stand = stand_with('kind = "frontend_reset"\nduration_s = 0.2\nat_s = 0.01').armed()
    begin(stand)
    stand.renewing = False
    heard = stand.go(200 * MS)
    assert applied(stand) == ["power lost, the switch was closed"]
    assert not stand.load.path_closed
    assert not [event for event in heard if isinstance(event, Rebooted)]
    assert [event for event in stand.go(150 * MS) if isinstance(event, Rebooted)]


def test_stuck_switch_and_converter_faults_are_confirmed_when_they_bite() -> None:
    stuck = stand_with('kind = "switch_stuck"\nat_s = 0.01').armed()
    begin(stuck)
    stuck.go(50 * MS)
    assert not applied(stuck)
    stuck.write(stuck.session.trip())
    stuck.go(50 * MS)
    assert len(applied(stuck)) == 1
    assert stuck.load.path_closed
    assert stuck.status is not None
    assert stuck.status.trip_reason == Reason.SWITCH_STUCK

    silent = stand_with('kind = "adc_silent"\nduration_s = 0.05\nat_s = 0.01').armed()
    begin(silent)
    silent.go(100 * MS)
    assert applied(silent) == ["the converter gives no sample"]
    assert [trip.reason for trip in silent.trips()] == [Reason.ADC_FAULT]

    held = stand_with('kind = "adc_stuck"\nat_s = 0.01').armed()
    begin(held)
    held.go(50 * MS)
    assert held.injector.missed() == ("it",)
    drive(held, 2.0)
    held.go(5 * MS)
    assert applied(held) == ["the converter gives 25, 50 in truth"]
