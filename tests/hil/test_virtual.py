"""Virtual time: exact, deterministic, never waiting, and loud when nothing will ever happen."""

from __future__ import annotations

import asyncio
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.clock import Clock
from hil.errors import DeadlockError
from hil.virtual import START_NS, VirtualClock, VirtualLoop, run_virtual


def test_an_hour_of_sleep_takes_no_time() -> None:
    async def main(clock: VirtualClock) -> int:
        await asyncio.sleep(3600)
        return clock.now_ns()

    started = time.monotonic()
    assert run_virtual(main) == START_NS + 3600 * 10**9
    assert time.monotonic() - started < 5


def test_calls_fire_at_exactly_their_nanosecond() -> None:
    async def main(clock: VirtualClock) -> list[int]:
        seen: list[int] = []
        for offset in (7, 1, 10**15 + 1, 3, 173_612):
            clock.call_at(START_NS + offset, lambda: seen.append(clock.now_ns() - START_NS))
        await clock.sleep_until(START_NS + 10**15 + 2)
        seen.append(clock.now_ns() - START_NS)
        return seen

    assert run_virtual(main) == [1, 3, 7, 173_612, 10**15 + 1, 10**15 + 2]


def test_calls_at_the_same_time_run_in_the_order_asked() -> None:
    async def main(clock: VirtualClock) -> list[int]:
        seen: list[int] = []
        for k in range(50):
            clock.call_at(START_NS + 5, lambda k=k: seen.append(k))  # type: ignore[misc]
        await clock.sleep_until(START_NS + 6)
        return seen

    assert run_virtual(main) == list(range(50))


@given(start=st.integers(0, 8 * 10**15), delays=st.lists(st.floats(0, 10), min_size=1, max_size=5))
def test_float_timers_are_never_early_and_never_spin(start: int, delays: list[float]) -> None:
    async def main(clock: VirtualClock) -> None:
        loop = asyncio.get_running_loop()
        for delay in delays:
            before = loop.time()
            done = loop.create_future()
            when = before + delay
            loop.call_at(when, done.set_result, None)
            await done
            assert loop.time() >= when
            # ... and late by less than the next nanosecond (and the float's own resolution).
            assert loop.time() - when < 1.01e-9 + 2e-9 * (when > 4e6)

    run_virtual(main, start_ns=start)


def test_wait_for_times_out_on_time_and_a_met_timeout_leaves_no_trace() -> None:
    async def main(clock: VirtualClock) -> int:
        never: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(never, 0.25)
        assert clock.now_ns() == START_NS + 250_000_000
        for _ in range(1000):
            await asyncio.wait_for(asyncio.sleep(0.001), 3600)
        assert len(clock._heap) < 300
        return clock.now_ns()

    assert run_virtual(main) == START_NS + 1_250_000_000


def test_a_cancelled_call_never_runs() -> None:
    async def main(clock: VirtualClock) -> list[str]:
        seen: list[str] = []
        timer = clock.call_at(START_NS + 5, lambda: seen.append("late"))
        clock.call_at(START_NS + 4, timer.cancel)
        handle = asyncio.get_running_loop().call_later(1e-9, seen.append, "handle")
        handle.cancel()
        await clock.sleep_until(START_NS + 10)
        timer.cancel()
        assert timer.cancelled()
        return seen

    assert run_virtual(main) == []


def test_sleeping_until_the_past_returns_at_once() -> None:
    async def main(clock: VirtualClock) -> int:
        await clock.sleep_until(START_NS - 1)
        await clock.sleep_until(START_NS)
        return clock.now_ns()

    assert run_virtual(main) == START_NS


def test_a_cancelled_sleeper_leaves_cleanly() -> None:
    async def main(clock: VirtualClock) -> int:
        task = asyncio.create_task(clock.sleep_until(START_NS + 10**9))
        await clock.sleep_until(START_NS + 5)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return clock.now_ns()

    assert run_virtual(main) == START_NS + 5


def test_waiting_for_nothing_is_a_deadlock_that_names_who_waits() -> None:
    async def forgotten() -> None:
        await asyncio.get_running_loop().create_future()

    async def main(clock: VirtualClock) -> None:
        task = asyncio.create_task(forgotten(), name="the-forgotten-one")
        await clock.sleep_until(START_NS + 42)
        await task

    with pytest.raises(DeadlockError, match=rf"{START_NS + 42} ns.*the-forgotten-one at .*test_virtual"):
        run_virtual(main)


def test_a_cancelled_timer_alone_does_not_hide_a_deadlock() -> None:
    async def main(clock: VirtualClock) -> None:
        clock.call_at(START_NS + 5, lambda: None).cancel()
        await asyncio.get_running_loop().create_future()

    with pytest.raises(DeadlockError):
        run_virtual(main)


def test_an_exception_in_a_timer_ends_the_run() -> None:
    def bad() -> None:
        raise KeyError("bad timer")

    async def main(clock: VirtualClock) -> None:
        clock.call_at(START_NS + 5, bad)
        await clock.sleep_until(START_NS + 10)

    with pytest.raises(KeyError, match="bad timer"):
        run_virtual(main)


@pytest.mark.parametrize("schedule", ["call_soon", "call_later"])
def test_an_exception_in_a_loop_callback_ends_the_run(schedule: str) -> None:
    def bad() -> None:
        raise KeyError("bad callback")

    async def main(_clock: VirtualClock) -> None:
        loop = asyncio.get_running_loop()
        if schedule == "call_soon":
            loop.call_soon(bad)
        else:
            loop.call_later(0.1, bad)
        await asyncio.sleep(1)

    with pytest.raises(KeyError, match="bad callback"):
        run_virtual(main)


def test_whoever_a_timer_wakes_finds_the_time_of_the_timer() -> None:
    async def main(clock: VirtualClock) -> list[int]:
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        clock.call_at(START_NS + 5, lambda: waiter.set_result(None))
        for later in range(6, 20):
            clock.call_at(START_NS + later, lambda: None)
        await waiter
        return [clock.now_ns()]

    assert run_virtual(main) == [START_NS + 5]


def test_nothing_follows_a_callback_that_failed() -> None:
    later: list[int] = []

    def bad() -> None:
        raise KeyError("bad callback")

    async def main(clock: VirtualClock) -> None:
        asyncio.get_running_loop().call_later(0.1, bad)
        clock.call_at(START_NS + 200_000_000, lambda: later.append(clock.now_ns()))
        await asyncio.sleep(1)

    with pytest.raises(KeyError, match="bad callback"):
        run_virtual(main)
    assert later == []


def test_timers_that_wake_nobody_take_no_turn_of_the_loop() -> None:
    async def main(clock: VirtualClock) -> tuple[int, int]:
        loop = asyncio.get_running_loop()
        turns = fired = 0
        turn = loop._process_events  # type: ignore[attr-defined] # what every turn of asyncio's loop calls once

        def counted(events: object) -> None:
            nonlocal turns
            turns += 1
            turn(events)

        def fire() -> None:
            nonlocal fired
            fired += 1

        loop._process_events = counted  # type: ignore[attr-defined]
        for later in range(1, 1001):
            clock.call_at(START_NS + later, fire)
        await clock.sleep_until(START_NS + 2000)
        return turns, fired

    turns, fired = run_virtual(main)
    assert fired == 1000
    assert turns < 10


def test_left_over_tasks_are_cancelled_and_may_clean_up() -> None:
    seen: list[str] = []

    async def left_over() -> None:
        try:
            await asyncio.sleep(1e6)
        finally:
            await asyncio.sleep(0.5)
            seen.append("cleaned")

    async def main(_clock: VirtualClock) -> str:
        main.task = asyncio.create_task(left_over())  # type: ignore[attr-defined]
        await asyncio.sleep(0)
        return "done"

    assert run_virtual(main) == "done"
    assert seen == ["cleaned"]


def test_time_stands_still_while_anything_is_ready() -> None:
    async def main(clock: VirtualClock) -> None:
        clock.call_at(START_NS + 1, lambda: None)
        for _ in range(100):
            await asyncio.sleep(0)
            assert clock.now_ns() == START_NS

    run_virtual(main)


def test_two_runs_see_the_same() -> None:
    async def main(clock: VirtualClock) -> list[tuple[str, int]]:
        seen: list[tuple[str, int]] = []

        async def worker(name: str, period: float) -> None:
            for _ in range(100):
                await asyncio.sleep(period)
                seen.append((name, clock.now_ns()))

        await asyncio.gather(worker("a", 0.1), worker("b", 0.03), worker("c", 0.1))
        return seen

    assert run_virtual(main) == run_virtual(main)


def test_the_clock_is_a_clock_and_the_loop_tells_its_time() -> None:
    clock: Clock = VirtualClock(5)
    assert clock.now_ns() == 5
    loop = VirtualLoop(VirtualClock(1_500_000_000))
    assert loop.time() == 1.5
    loop.close()
