"""A line lost and recovered 1000 times: no frame of an old session taken, no sample twice, no gap untold."""

from __future__ import annotations

import os

import pytest

from firmware_proto.frontend.session import Event, HostSession
from hil.frontend import build
from tests.hil.frontend_served.link_rounds import KINDS, Rounds

LONG = os.environ.get("TIPGUARD_LONG") == "1"
SEEDS, ROUNDS = (20, 50) if LONG else (1, 2 * len(KINDS))
"""The figure is their product."""


@pytest.mark.parametrize("seed", range(SEEDS))
def test_nothing_old_nothing_twice_and_every_gap_counted(seed: int) -> None:
    rounds = Rounds(seed)
    rounds.recover()
    for _ in range(ROUNDS):
        rounds.round()
    assert rounds.faults == []
    assert rounds.kinds.keys() == set(KINDS)
    # That it was hard: sessions came and went, frames of old ones did come, samples were lost and are known to be.
    assert rounds.sessions > ROUNDS / 2
    assert rounds.stale > ROUNDS
    assert rounds.missing > 1_000
    assert rounds.samples > 100 * ROUNDS
    assert rounds.events["Gap"] > 0


class Forgetful(HostSession):
    """Takes frames of whatever session: what is removed is the session check of the host."""

    def feed(self, data: bytes, t_rx_ns: int) -> list[Event]:
        self._decoder.session = None
        self._decoder.renumber()
        return super().feed(data, t_rx_ns)


def test_without_the_hosts_session_check_old_samples_are_taken_for_new() -> None:
    faults = found(Rounds(3, session=Forgetful(7)), 2 * len(KINDS))
    # It takes what a device says that has started anew for the word of the one it knew, and never gets on.
    assert any(harm in faults for harm in ("no recovery", "not the ones of their numbers", "not taken yet")), faults


def test_without_the_devices_session_check_old_orders_are_obeyed() -> None:
    """What is removed: tg_frame.c refuses no session. What reached it long ago counts as good."""
    edit = build.Edit("tg_frame.c", "if (session != d->session || session == 0)", "if (0)")
    assert "the device counts" in found(Rounds(3, library=build.lockstep(edits=[edit])), len(KINDS))


def found(rounds: Rounds, count: int) -> str:
    """Return what went wrong."""
    try:
        rounds.recover()
        for _ in range(count):
            rounds.round()
    except AssertionError as error:
        rounds.faults.append(str(error))
    return "; ".join(rounds.faults)
