"""The uplink's watchdog in virtual time: fed while it gets anywhere, and by nothing else."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from edge.notify import Notifier
from edge.uplink.jobs import InlineJobs
from edge.uplink.outbox_file import OutboxFile
from edge.uplink.progress import Progress
from tests.edge.uplink.scene import SECOND, Scene, play

WATCHDOG_S = 30.0
"""As the unit has it."""


class Listened(Notifier):
    """Notes what would be sent, and when the watchdog would be fed."""

    def __init__(self) -> None:
        super().__init__(None)
        self.fed_ns: list[int] = []
        self.said: list[str] = []

    def status(self, text: str) -> None:
        if text not in self.said[-1:]:
            self.said.append(text)

    def alive(self, now_ns: int) -> None:
        self.fed_ns.append(now_ns)

    def stopping(self, status: str) -> None:
        self.said.append(status)

    def longest_s(self, since_ns: int, until_ns: int) -> float:
        """Return the longest time without food, s."""
        fed = [t_ns for t_ns in self.fed_ns if since_ns <= t_ns <= until_ns]
        return max(after - before for before, after in pairwise([since_ns, *fed, until_ns])) / SECOND


@pytest.mark.parametrize("broker", ["takes all", "is away", "takes nothing"])
def test_no_broker_s_behaviour_is_the_uplink_s_fault(tmp_path: Path, broker: str) -> None:
    """Restarting the uplink would mend none of it."""
    heard = Listened()

    async def story(scene: Scene) -> None:
        scene.broker.up = broker != "is away"
        scene.start(heard, pending_frames=10)
        await scene.wait(1)
        scene.broker.answers = broker == "takes all"
        scene.write(50)
        since_ns = scene.clock.now_ns()
        await scene.wait(3 * WATCHDOG_S)
        assert heard.longest_s(since_ns, scene.clock.now_ns()) < WATCHDOG_S / 2
        scene.broker.answers = scene.broker.up = True
        await scene.end()

    play(tmp_path, story)
    assert heard.said[0].startswith("waiting for the broker at 127.0.0.1:1883; ring 0% full")
    assert heard.said[-1].startswith("stopping")
    assert any(one.startswith("connected to") for one in heard.said) is (broker != "is away")


def stuck(tmp_path: Path) -> float:
    """Let an uplink be stuck: records to read, a connection, nothing moves. Return how long it went unfed, s."""
    heard = Listened()
    found: list[float] = []

    async def story(scene: Scene) -> None:
        # It would leave such a broker after 10 s; one that does not is what a watchdog is for.
        scene.start(heard, pending_frames=10, ack_timeout_s=1e6, live_hz=0.001, status_period_s=1e6)
        await scene.wait(1)
        scene.broker.answers = False
        scene.write(50)
        await scene.wait(1)
        since_ns = scene.clock.now_ns()
        await scene.wait(3 * WATCHDOG_S)
        found.append(heard.longest_s(since_ns, scene.clock.now_ns()))
        await scene.end()

    play(tmp_path, story)
    return found[0]


def test_an_uplink_that_is_stuck_goes_unfed(tmp_path: Path) -> None:
    assert stuck(tmp_path) > WATCHDOG_S


class Hanging(InlineJobs):
    """Jobs that hang from a moment on: the disk has them, and nobody hears of it again."""

    def __init__(self) -> None:
        self.hangs = False

    def submit(self, job: Callable[[], Any], then: Callable[[Any], None], *, urgent: bool = False) -> None:
        if not self.hangs:
            super().submit(job, then, urgent=urgent)


def test_an_uplink_whose_disk_hangs_goes_unfed_however_willing_the_broker(tmp_path: Path) -> None:
    """With everything as it is by default: the status goes out, and the broker takes it."""
    heard, jobs = Listened(), Hanging()

    async def story(scene: Scene) -> None:
        scene.start(heard, jobs)
        scene.write(10)
        await scene.wait(1)
        assert len(scene.broker.numbers()) == 10
        jobs.hangs = True
        scene.write(1000)
        await scene.wait(1)
        since_ns, said = scene.clock.now_ns(), len(scene.broker.on("status"))
        await scene.wait(4 * WATCHDOG_S)
        assert len(scene.broker.on("status")) > said + 10
        assert len(scene.broker.numbers()) == 10
        assert heard.longest_s(since_ns, scene.clock.now_ns()) > WATCHDOG_S
        jobs.hangs = False
        scene.stop.set()
        await scene.wait(5)

    play(tmp_path, story)


def test_saving_a_damaged_outbox_is_progress(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One job, which may take minutes: an uplink that was killed in it would have to do without the rest."""
    heard, jobs = Listened(), Hanging()
    commits = 0
    monkeypatch.setattr(OutboxFile, "commits", property(lambda _file: commits))

    async def story(scene: Scene) -> None:
        nonlocal commits
        scene.start(heard, jobs)
        await scene.wait(1)
        jobs.hangs = True
        scene.write(1000)
        await scene.wait(1)
        since_ns = scene.clock.now_ns()
        for _ in range(12):
            await scene.wait(WATCHDOG_S / 3)
            commits += 1
        assert heard.longest_s(since_ns, scene.clock.now_ns()) < WATCHDOG_S
        jobs.hangs = False
        scene.stop.set()
        await scene.wait(5)

    play(tmp_path, story)


def test_without_the_gate_a_stuck_uplink_is_fed_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the gate is for."""
    gated = Progress.turned

    def turned(self: Progress, now_ns: int, *, drained: bool, connected: bool, mark: object, status: str) -> None:
        gated(self, now_ns, drained=True, connected=connected, mark=mark, status=status)

    monkeypatch.setattr(Progress, "turned", turned)
    assert stuck(tmp_path) < WATCHDOG_S / 2
