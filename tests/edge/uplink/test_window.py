"""What is under way to the broker: never more than it takes, and nothing waits for one frame that may not go."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from edge.frames import decode_frame
from edge.uplink import commands
from edge.uplink.commands import BURST
from edge.uplink.mqtt import PACKET_TOO_LARGE, Publication
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


def test_one_answer_that_never_comes_is_noticed(tmp_path: Path) -> None:
    async def story(scene: Scene) -> None:
        scene.start()
        scene.write(1)
        await scene.wait(3)
        answer, lost = scene.broker._answer, iter([True])

        def forgetful(future: asyncio.Future[int], publication: Publication) -> None:
            samples = publication.topic.endswith("/samples")
            if not (samples and decode_frame(publication.payload).seq == 50 and next(lost, False)):
                answer(future, publication)

        scene.broker._answer = forgetful  # type: ignore[method-assign]  # for this test
        for _ in range(40):
            scene.write(5)
            await scene.wait(0.5)
        assert scene.broker.numbers().count(50) == 2
        assert set(scene.broker.numbers()) == set(range(201))
        assert len(scene.broker.attempts) == 2
        await scene.end()

    play(tmp_path, story)


def test_tombstones_that_are_refused_hold_up_no_samples(tmp_path: Path) -> None:
    async def story(scene: Scene) -> None:
        # Every tenth becomes a tombstone.
        await scene.damaged(100, lambda number: number % 10 == 4)
        scene.broker.reason = lambda publication: 0x87 if publication.topic.endswith("/events") else 0
        scene.start(poll_s=0.1, status_period_s=1)
        await scene.wait(5)
        samples = [seq for seq in range(100) if seq % 10 != 4]
        assert scene.broker.numbers() == samples
        before = len(scene.broker.on("events"))
        await scene.wait(100)
        # At growing pauses one is tried.
        assert 3 <= len(scene.broker.on("events")) - before <= 8
        assert (scene.status()["waiting"], "events refused" in scene.status()["fault"]) == (10, True)
        scene.broker.reason = lambda publication: 0
        scene.broker.received.clear()
        await scene.wait(35)
        assert [decode_frame(payload).seq for payload in scene.broker.on("events")] == list(range(4, 100, 10))
        assert (scene.status()["waiting"], scene.status()["fault"]) == (0, None)
        await scene.end()

    play(tmp_path, story)


def test_tombstones_that_were_refused_go_out_over_the_next_connection(tmp_path: Path) -> None:
    async def story(scene: Scene) -> None:
        await scene.damaged(10, lambda number: number < 5)
        scene.broker.reason = lambda publication: 0x87 if publication.topic.endswith("/events") else 0
        scene.start()
        await scene.wait(3)
        assert scene.broker.numbers() == list(range(5, 10))
        scene.broker.reason = lambda publication: 0
        scene.broker.received.clear()
        scene.broker.drop()
        await scene.wait(10)
        assert [decode_frame(payload).seq for payload in scene.broker.on("events")] == list(range(5))
        await scene.end()

    play(tmp_path, story)


def test_what_lies_behind_a_refused_frame_waits_for_it_but_for_what_is_under_way(tmp_path: Path) -> None:
    async def story(scene: Scene) -> None:
        scene.broker.up = False
        scene.start()
        for seq in range(200):
            scene.event(seq)
        await scene.wait(1)
        refusals = iter([True])

        def once(publication: Publication) -> int:
            if publication.topic.endswith("rig-1/events") and decode_frame(publication.payload).seq == 4:
                return 0x97 if next(refusals, False) else 0
            return 0

        scene.broker.reason = once
        scene.broker.up = True
        await scene.wait(15)
        order = [decode_frame(payload).seq for payload in scene.broker.on("events")]
        assert order.count(4) == 2
        again = order.index(4, order.index(4) + 1)
        # Of the window's twenty, 4 was one.
        assert again <= 4 + scene.broker.window
        assert order[:again] == list(range(again))
        assert order[again:] == [4, *range(again, 200)]
        await scene.end()

    play(tmp_path, story)


def test_a_frame_that_is_too_large_for_the_broker_stays_and_the_others_go(tmp_path: Path) -> None:
    async def story(scene: Scene) -> None:
        def limited(publication: Publication) -> int:
            large = publication.content_type == "application/msgpack" and len(publication.payload) > 5000
            return PACKET_TOO_LARGE if large else 0

        scene.broker.reason = limited
        scene.start(status_period_s=1)
        for seq in range(20):
            scene.event(seq, size=9000 if seq in {3, 11} else 10)
        await scene.wait(60)
        others = [seq for seq in range(20) if seq not in {3, 11}]
        tries = [decode_frame(payload).seq for payload in scene.broker.on("events")]
        assert [seq for seq in tries if seq in others] == others
        # More than once would be no use: a broker's limit is its connection's.
        assert (tries.count(3), tries.count(11)) == (1, 1)
        assert scene.status()["waiting"] == 2
        assert scene.status()["fault"] == "publish to tipguard/rig-1/events refused: Packet too large (0x95)"
        scene.broker.reason = lambda publication: 0
        scene.broker.received.clear()
        scene.broker.drop()
        await scene.wait(10)
        assert [decode_frame(payload).seq for payload in scene.broker.on("events")] == [3, 11]
        assert (scene.status()["waiting"], scene.status()["fault"]) == (0, None)
        await scene.end()

    logs = play(tmp_path, story)
    assert len([entry for entry in logs if "larger than what the broker takes" in entry["event"]]) == 1
