"""The uplink's watchdog in virtual time: fed while it gets anywhere, and by nothing else."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest

from edge.notify import Notifier
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


def test_without_the_gate_a_stuck_uplink_is_fed_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the gate is for."""
    gated = Progress.turned

    def turned(self: Progress, now_ns: int, *, drained: bool, connected: bool, mark: object, status: str) -> None:
        gated(self, now_ns, drained=True, connected=connected, mark=mark, status=status)

    monkeypatch.setattr(Progress, "turned", turned)
    assert stuck(tmp_path) < WATCHDOG_S / 2
