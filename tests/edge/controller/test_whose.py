"""Whose instrument it is: what counts as an answer, and what must not make a stranger of the rig's own."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.controller.whose import Whose
from firmware_proto.keithley2400 import commands

OWN = b"KEITHLEY INSTRUMENTS INC.,MODEL 2400,1304207,C31   May 28 2010 10:34:39/A02  /R/J"
OTHER = OWN.replace(b"1304207", b"999")


def asking() -> Whose:
    whose = Whose("1304207", 57600)
    whose.reopened()
    return whose


def test_nobody_is_asked_before_the_port_was_opened_anew() -> None:
    whose = Whose("1304207", 57600)
    assert (whose.question, whose.reply_ns) == (b"", 0)
    whose.feed(OTHER, confirmed=True)
    assert whose.stranger is None


def test_where_the_own_number_is_not_known_nobody_is_asked() -> None:
    whose = Whose("", 57600)
    whose.reopened()
    assert whose.question == b""


def test_its_own_instrument() -> None:
    whose = asking()
    assert whose.question == commands.IDENTIFY
    # 106 bytes at 174 us each.
    assert whose.reply_ns == pytest.approx(18.4e6, rel=0.01)
    whose.feed(OWN, confirmed=False)
    assert (whose.known, whose.stranger, whose.question) == (True, None, b"")


def test_another_that_confirmed_its_cut_is_a_stranger_at_once() -> None:
    whose = asking()
    whose.feed(OTHER, confirmed=True)
    assert (whose.known, whose.stranger, whose.question) == (False, "999", b"")


def test_another_that_confirmed_nothing_has_to_say_it_twice() -> None:
    whose = asking()
    whose.feed(OTHER, confirmed=False)
    assert whose.stranger is None
    assert whose.question == commands.IDENTIFY
    whose.feed(OTHER, confirmed=False)
    assert whose.stranger == "999"


def test_a_digit_lost_twice_in_different_places_is_still_nobody() -> None:
    whose = asking()
    for damaged in (b"130420", b"304207", b"1304207"):
        whose.feed(OWN.replace(b"1304207", damaged), confirmed=False)
    assert whose.known
    assert whose.stranger is None


@given(st.integers(0, len(OWN) - 1), st.integers(1, 40))
def test_a_piece_lost_before_the_cut_is_confirmed_makes_no_stranger(at: int, count: int) -> None:
    whose = asking()
    whose.feed(OWN[:at] + OWN[at + count :], confirmed=False)
    assert whose.stranger is None


def test_what_was_known_is_forgotten_with_the_plug() -> None:
    whose = asking()
    whose.feed(OTHER, confirmed=True)
    whose.reopened()
    assert whose.stranger is None
    whose.feed(OWN, confirmed=False)
    assert whose.known
