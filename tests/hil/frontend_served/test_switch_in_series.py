"""The switch in series with the tip, as the twin sees it: an open circuit for the source, and no life behind it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from hil.twin.circuit import Circuit
from hil.twin.full import Site
from hil.twin.ohmic import OhmicLoad
from hil.twin.site import SwitchingSite
from hil.twin.terminals import SourcedLoad

MS = 1_000_000
LOADS = [
    lambda: OhmicLoad(1e5, 1_000.0),
    lambda: SwitchingSite("gb", u_median_v=50.0, series_ohm=1_000.0, seed=1),
    lambda: Site("gb", u_median_v=50.0, series_ohm=1_000.0, seed=1),
    lambda: Site("gb", u_median_v=50.0, series_ohm=1_000.0, seed=1, circuit=Circuit(cable_at="tip").with_transients()),
]


@pytest.mark.parametrize("make", LOADS)
def test_an_open_switch_carries_nothing_and_the_source_holds_its_level(make: Callable[[], SourcedLoad]) -> None:
    load = make()
    load.set_source(0, -0.2, 1e-3, connected=True)
    load.advance(50 * MS)
    closed_a = load.terminal_current_a
    assert closed_a < 0
    load.switch_path(50 * MS, closed=False)
    load.advance(60 * MS)
    assert load.terminal_current_a == 0.0
    assert not load.clamped
    assert load.terminal_voltage_v == -0.2
    # What the source does meanwhile does not reach the tip.
    load.set_source(60 * MS, -1.0, 1e-3, connected=True)
    load.advance(400 * MS)
    dose_c = load.charge_c
    assert load.terminal_voltage_v == -1.0
    load.set_source(400 * MS, -0.2, 1e-3, connected=True)
    load.switch_path(500 * MS, closed=True)
    load.advance(600 * MS)
    assert load.terminal_current_a == pytest.approx(closed_a, rel=1e-3)
    assert abs(load.charge_c) > abs(dose_c)
    events = [entry["event"] for entry in load.truth.entries]
    assert events == ["live", "safe", "live"]


def test_a_relay_that_opens_behind_an_open_switch_stays_open_when_the_switch_closes() -> None:
    load = OhmicLoad(1e5)
    load.set_source(0, 1.0, 1e-3, connected=True)
    load.switch_path(MS, closed=False)
    load.set_source(2 * MS, 1.0, 1e-3, connected=False)
    load.switch_path(3 * MS, closed=True)
    assert load.terminal_current_a == 0.0
    load.set_source(4 * MS, 1.0, 1e-3, connected=True)
    assert load.terminal_current_a == pytest.approx(1e-5)


def test_the_switch_makes_no_spike_of_the_source() -> None:
    """Transients are the 2400's, at its own relay: a switch in series is none of them."""
    load = Site("gb", u_median_v=50.0, series_ohm=1_000.0, seed=1, circuit=Circuit().with_transients())
    load.set_source(0, 0.0, 1e-3, connected=True)
    load.advance(50 * MS)
    for n in range(1, 6):
        load.switch_path(50 * MS + n * MS, closed=n % 2 == 0)
        assert load.v_tip == pytest.approx(0.0, abs=1e-6)


def test_who_stands_before_the_twin_is_asked_first_and_told_of_every_change() -> None:
    load = SwitchingSite("gb", u_median_v=0.05, series_ohm=1_000.0, seed=1)
    asked: list[int] = []
    told: list[tuple[int, float]] = []
    load.on_segment = lambda t_ns: told.append((t_ns, load.current_at(t_ns)))

    def open_at_first(t_ns: int) -> None:
        asked.append(t_ns)
        if load.lived_ns < 5 * MS <= t_ns and load.path_closed:
            load.before = None
            load.switch_path(5 * MS, closed=False)
            load.before = open_at_first

    load.before = open_at_first
    load.set_source(0, -0.5, 1e-3, connected=True)
    onset_ns = load.next_change_ns
    load.advance(1_000 * MS)
    assert asked[0] == 0
    assert asked[-1] == 1_000 * MS
    if onset_ns < 5 * MS:
        assert told[1][0] == onset_ns
        assert abs(told[1][1]) > 1e-5
    assert told[-1] == (5 * MS, 0.0)
    assert load.lived_ns == 1_000 * MS


def test_looking_ahead_lets_nothing_live() -> None:
    load = Site("gb", u_median_v=50.0, series_ohm=1_000.0, seed=1)
    load.set_source(0, -0.2, 1e-3, connected=True)
    ahead_ns = load.next_change_ns - 1
    assert not load.steady
    seen = [load.current_at(ahead_ns), load.current_at(0), load.current_at(ahead_ns)]
    assert seen[0] == seen[2] != seen[1]
    load.advance(ahead_ns)
    assert load.terminal_current_a == seen[0]
    load.advance(50 * MS)
    assert load.steady
