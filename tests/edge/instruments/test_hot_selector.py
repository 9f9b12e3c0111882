"""The selector under the worker's loop, beside Python's own: the same answers, and a moment before each wait."""

from __future__ import annotations

import functools
import select
import selectors
import socket
from collections.abc import Iterator

import pytest

from edge.instruments.port import MOST_EVENTS, HotSelector, Watch

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

    def moment() -> None:
        moments.append(1)

    selector.before_wait = moment
    selector.select(0)
    selector.select(-5)
    assert moments == []
    selector.select(0.001)
    assert moments == [1]


MS = 1_000_000


class Watching:
    """Stands for epoll, select and the clock: counts what is asked of them. A poll takes 10 us."""

    def __init__(self, selector: HotSelector, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now_ns = 0
        self.sleeps_s: list[float | None] = []
        self.naps_ns: list[int] = []
        self.polls = 0
        self.meanwhile_ns: list[int] = []
        self.ready_after = 0
        monkeypatch.setattr("time.monotonic_ns", lambda: self.now_ns)
        monkeypatch.setattr("select.select", self.nap)
        monkeypatch.setattr(selector, "_epoll", self)

    def watch(self, from_ns: int, until_ns: int, *, awake_ns: int = 100_000, calm_ns: int = 0) -> Watch:
        return Watch(from_ns, until_ns, awake_ns, calm_ns, lambda: self.meanwhile_ns.append(self.now_ns), 1 * MS)

    def nap(self, _hot: list[int], _w: tuple[()], _x: tuple[()], nap_s: float) -> None:
        self.naps_ns.append(self.now_ns)
        self.now_ns += round(nap_s * 1e9)

    def poll(self, wait_s: float | None, _most: int) -> list[tuple[int, int]]:
        if wait_s:
            self.sleeps_s.append(wait_s)
            self.now_ns += round(wait_s * 1e9)
            return []
        self.polls += 1
        self.now_ns += 10_000
        return [(0, select.EPOLLIN)] if self.polls == self.ready_after else []

    def close(self) -> None:
        """Nothing to close."""


@pytest.fixture
def watching(selector: HotSelector, monkeypatch: pytest.MonkeyPatch) -> Watching:
    return Watching(selector, monkeypatch)


def test_a_watch_sleeps_up_to_its_begin_and_naps_from_there_on(selector: HotSelector, watching: Watching) -> None:
    selector.before_wait = lambda: watching.watch(7_900_000, 9 * MS)
    assert selector.select(0.1) == []
    # Whole milliseconds of sleep, none of them beyond the begin.
    assert watching.sleeps_s == [pytest.approx(0.007)]
    assert 9 * MS <= watching.now_ns < 9 * MS + 100_000
    # 100 us awake, a nap of 50: thirteen times in two milliseconds.
    assert len(watching.naps_ns) == 13


def test_where_the_kernel_has_to_bring_each_byte_there_are_naps_only(selector: HotSelector, watching: Watching) -> None:
    selector.before_wait = lambda: watching.watch(0, 1 * MS, awake_ns=0)
    selector.select(0.1)
    assert len(watching.naps_ns) == watching.polls - 1


def test_a_watch_ends_with_what_comes(
    selector: HotSelector, watching: Watching, monkeypatch: pytest.MonkeyPatch
) -> None:
    served: list[int] = []
    monkeypatch.setattr(selector, "_hot", {0: lambda: served.append(1)})
    watching.ready_after = 5
    selector.before_wait = lambda: watching.watch(0, 9 * MS)
    selector.select(None)
    assert served == [1]
    assert watching.polls == 5


def test_a_timer_does_not_wait_for_the_end_of_a_watch(selector: HotSelector, watching: Watching) -> None:
    selector.before_wait = lambda: watching.watch(0, 9 * MS)
    selector.select(0.001)
    assert 1 * MS <= watching.now_ns < 1 * MS + 100_000


def test_there_is_a_meanwhile_until_calm_is_wanted(selector: HotSelector, watching: Watching) -> None:
    selector.before_wait = lambda: watching.watch(0, 9 * MS, calm_ns=4_500_000)
    selector.select(1.0)
    assert len(watching.meanwhile_ns) == 4
    assert max(watching.meanwhile_ns) < 4_500_000


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
