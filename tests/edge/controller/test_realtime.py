"""What the kernel promises a process: each takes effect, or says in one line what did not and what that means.

Whatever changes a process is done to one of its own, or not done at all: the kernel's answers are played.
"""

from __future__ import annotations

import ctypes
import errno
import gc
import os
import signal
import subprocess
import sys
from collections.abc import Callable

import pytest

from edge.controller import realtime


class Libc:
    """Answers as the C library would."""

    def __init__(self, result: int, number: int = 0) -> None:
        self.result = result
        self.number = number
        self.calls: list[tuple[object, ...]] = []

    def _answer(self, *args: object) -> int:
        self.calls.append(args)
        return self.result

    mlockall = prctl = _answer


@pytest.fixture
def libc(monkeypatch: pytest.MonkeyPatch) -> Callable[[int, int], Libc]:
    def answer(result: int, number: int) -> Libc:
        made = Libc(result, number)
        monkeypatch.setattr(realtime, "_libc", lambda: made)
        monkeypatch.setattr(ctypes, "get_errno", lambda: made.number)
        return made

    return answer


def one_line(text: str | None, *parts: str) -> None:
    assert text is not None
    assert "\n" not in text
    for part in parts:
        assert part in text


def test_memory_is_locked_now_and_in_future(libc: Callable[[int, int], Libc]) -> None:
    made = libc(0, 0)
    assert realtime.lock_memory() is None
    assert made.calls == [(3,)]


@pytest.mark.parametrize("number", [errno.ENOMEM, errno.EPERM])
def test_memory_that_is_not_locked(libc: Callable[[int, int], Libc], number: int) -> None:
    libc(-1, number)
    one_line(realtime.lock_memory(), "memory is not locked", os.strerror(number), "LimitMEMLOCK")


def test_priority_is_fifo_and_not_inherited(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[int, int, int]] = []
    monkeypatch.setattr(
        os, "sched_setscheduler", lambda pid, policy, param: calls.append((pid, policy, param.sched_priority))
    )
    assert realtime.set_fifo(realtime.WORKER_PRIORITY) is None
    assert calls == [(0, os.SCHED_FIFO | os.SCHED_RESET_ON_FORK, 20)]


def test_the_keeper_runs_before_the_worker() -> None:
    assert realtime.KEEPER_PRIORITY > realtime.WORKER_PRIORITY > 0


@pytest.mark.parametrize(
    ("number", "parts"),
    [(errno.EPERM, ("not permitted", "LimitRTPRIO")), (errno.EINVAL, (os.strerror(errno.EINVAL),))],
)
def test_priority_that_is_not_given(monkeypatch: pytest.MonkeyPatch, number: int, parts: tuple[str, ...]) -> None:
    def refuse(_pid: int, _policy: int, _param: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "sched_setscheduler", refuse)
    one_line(realtime.set_fifo(20), "no real-time priority", "delays samples and cuts", *parts)


def test_a_refused_death_signal_is_an_error(libc: Callable[[int, int], Libc]) -> None:
    made = libc(-1, errno.EINVAL)
    with pytest.raises(OSError, match="PR_SET_PDEATHSIG") as caught:
        realtime.die_with_parent(signal.SIGUSR1)
    assert caught.value.errno == errno.EINVAL
    assert made.calls == [(1, signal.SIGUSR1, 0, 0, 0)]


PARENT = """
import os, signal, subprocess, sys
child = subprocess.Popen([sys.executable, "-c", sys.argv[1]], stdout=subprocess.PIPE, text=True)
assert child.stdout.readline() == "ready\\n"
# The child writes on: its standard output is a pipe, its last word goes to ours.
os.kill(os.getpid(), signal.SIGKILL)
"""
CHILD = """
import os, signal, sys
from edge.controller.realtime import die_with_parent
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
die_with_parent(signal.SIGUSR1)
print("ready", flush=True)
got = signal.sigtimedwait({signal.SIGUSR1}, 10)
os.write(2, b"told" if got else b"not told")
"""


def test_a_child_is_told_of_its_parents_death() -> None:
    # communicate() ends when the grandchild, too, has closed the standard error it inherited.
    result = subprocess.run([sys.executable, "-c", PARENT, CHILD], capture_output=True, text=True, check=False)
    assert result.returncode == -signal.SIGKILL
    assert result.stderr == "told"


def test_the_collector_is_quiet_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    for name in ("collect", "freeze", "disable"):
        monkeypatch.setattr(gc, name, lambda name=name: calls.append(name))
    realtime.quiet_collector()
    # Garbage from before must not be frozen in place.
    assert calls == ["collect", "freeze", "disable"]
