"""What is under way to the broker: never more than it takes, and nothing waits for one frame that may not go."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from edge.uplink import commands
from edge.uplink.commands import BURST
from tests.edge.uplink.scene import Scene, play

COMMANDS: dict[str, Any] = {"remote_users": frozenset({"ana"})}


def command(scene: Scene, number: int, payload: bytes = b"{") -> None:
    scene.broker.deliver("cmd/ana", payload, response_topic=f"tipguard/reply/ana/rig-1/{number}")


def answered(scene: Scene) -> list[str]:
    topics = [item.topic for item in scene.broker.received if item.topic.startswith("tipguard/reply/")]
    return [topic.rpartition("/")[2] for topic in topics]


@pytest.mark.parametrize("window", [1, 2, 20])
def test_answers_to_commands_are_within_what_the_broker_takes(tmp_path: Path, window: int) -> None:
    async def story(scene: Scene) -> None:
        scene.broker.window = window
        scene.broker.answer_ns = 100_000_000
        scene.start(**COMMANDS)
        # Slow, and so many that the window is full all the time.
        await scene.wait(3)
        scene.write(300)
        await scene.wait(0.5)
        sent = len(scene.broker.numbers())
        # The broker itself sees to it that there is never one too many.
        for number in range(BURST):
            command(scene, number)
        await scene.wait(window * 0.2 + 5 if window > 2 else 10)
        assert sorted(answered(scene), key=int) == [str(number) for number in range(BURST)]
        assert scene.broker.most_under_way == window
        assert len(scene.broker.numbers()) > sent
        await scene.end()

    play(tmp_path, story)


def test_a_flood_of_stops_leaves_frames_half_of_the_window(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def done(_message: Mapping[str, Any]) -> dict[str, Any]:
        return {"ok": True}

    monkeypatch.setattr(commands, "over_socket", lambda _path: done)

    async def story(scene: Scene) -> None:
        scene.broker.answer_ns = 100_000_000
        scene.start(**COMMANDS)
        await scene.wait(3)
        scene.write(400)
        await scene.wait(0.5)
        for number in range(500):
            command(scene, number, b"stop")
        before = len(scene.broker.numbers())
        await scene.wait(1)
        # Ten windows full: half of each.
        assert 90 <= len(answered(scene)) <= 110
        assert 90 <= len(scene.broker.numbers()) - before <= 110
        await scene.wait(9)
        assert (len(answered(scene)), scene.broker.numbers()) == (500, list(range(400)))
        await scene.end()

    play(tmp_path, story)


def test_an_answer_that_waits_for_a_mute_broker_ends_with_the_connection(tmp_path: Path) -> None:
    async def story(scene: Scene) -> None:
        scene.start(**COMMANDS)
        await scene.wait(3)
        scene.write(1)
        await scene.wait(0.5)
        scene.broker.answers = False
        scene.write(29)
        await scene.wait(0.5)
        for number in range(20):
            command(scene, number)
        await scene.wait(1)
        assert len(scene.broker.under_way) == 20
        assert answered(scene) == []
        scene.broker.answers = True
        scene.broker.drop()
        await scene.wait(5)
        assert sorted(set(scene.broker.numbers())) == list(range(30))
        # Who asked has given up by now.
        assert answered(scene) == []
        command(scene, 99)
        await scene.wait(5)
        assert answered(scene) == ["99"]
        await scene.end()

    play(tmp_path, story)
