"""The selector under the worker's loop, beside Python's own: the same answers, and a moment before each wait."""

from __future__ import annotations

import functools
import selectors
import socket
from collections.abc import Iterator

import pytest

from edge.instruments.port import MOST_EVENTS, HotSelector

BOTH = selectors.EVENT_READ | selectors.EVENT_WRITE


@pytest.fixture
def selector() -> Iterator[HotSelector]:
    with HotSelector() as made:
        yield made


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    near, far = socket.socketpair()
    with near, far:
        yield near, far


@pytest.mark.parametrize("wanted", [selectors.EVENT_READ, selectors.EVENT_WRITE, BOTH])
@pytest.mark.parametrize("what", ["nothing", "byte", "hang-up"])
def test_it_hands_out_what_pythons_own_does(
    selector: HotSelector, pair: tuple[socket.socket, socket.socket], wanted: int, what: str
) -> None:
    near, far = pair
    if what == "byte":
        far.send(b"x")
    elif what == "hang-up":
        far.close()
    with selectors.EpollSelector() as theirs:
        for one in (selector, theirs):
            one.register(near, wanted, "near")
        assert selector.select(0) == theirs.select(0)


@pytest.mark.parametrize("timeout", [0, -1.0, 1e-9, 0.0009])
def test_it_returns_where_nothing_comes(selector: HotSelector, timeout: float) -> None:
    # A negative time is a past one, not forever.
    assert selector.select(timeout) == []
    assert selector.polled


def test_forever_ends_with_the_first_event(selector: HotSelector, pair: tuple[socket.socket, socket.socket]) -> None:
    near, far = pair
    selector.register(near, selectors.EVENT_READ)
    far.send(b"x")
    assert len(selector.select(None)) == 1


def test_before_each_wait_and_only_then_there_is_a_moment(selector: HotSelector) -> None:
    moments: list[float] = []
    selector.before_wait = lambda: moments.append(1)
    selector.select(0)
    selector.select(-5)
    assert moments == []
    selector.select(0.001)
    assert moments == [1]


def test_what_a_hot_callback_unregisters_is_not_handed_out(
    selector: HotSelector, pair: tuple[socket.socket, socket.socket]
) -> None:
    near, far = pair
    hot, hot_far = socket.socketpair()
    with hot, hot_far:
        selector.register(near, selectors.EVENT_READ)
        selector.register_hot(hot, lambda: (selector.unregister(near), None)[1])
        far.send(b"x")
        hot_far.send(b"x")
        assert selector.select(1.0) == []


def test_more_than_fit_one_turn_come_in_the_next(selector: HotSelector) -> None:
    pairs = [socket.socketpair() for _ in range(MOST_EVENTS + 3)]
    seen: set[int] = set()

    def serve(near: socket.socket) -> None:
        seen.add(near.fileno())
        near.recv(1)

    try:
        for near, far in pairs:
            selector.register_hot(near, functools.partial(serve, near))
            far.send(b"x")
        selector.select(0)
        assert len(seen) == MOST_EVENTS
        selector.select(0)
        assert len(seen) == MOST_EVENTS + 3
    finally:
        for near, far in pairs:
            near.close()
            far.close()
