"""The uplink on a broker that is not there: window, refusals, reconnects, ring and status, in virtual time."""

from __future__ import annotations

from pathlib import Path

import msgpack
import pytest

from edge.frames import decode_frame
from edge.ring import Kind, RingReader, RingWriter
from edge.uplink.mqtt import Publication
from tests.edge.uplink.scene import SECOND, Scene, a_sample, play, strict


def test_frames_go_out_in_order_within_the_window_and_are_released(tmp_path: Path) -> None:
    async def story(scene: Scene) -> None:
        scene.write(300)
        scene.start()
        await scene.wait(2)
        assert scene.broker.numbers() == list(range(300))
        assert scene.broker.most_under_way == 20
        assert scene.writer.used_fraction == 0.0
        await scene.end()

    logs = play(tmp_path, story)
    assert [entry["event"].split(";")[0] for entry in logs] == [
        "uplink started",
        "ring opened",
        "outbox open",
        "connected to broker",
        "uplink stopped",
    ]
    assert logs[0]["stores"] == "no store configured: acknowledged is not stored"


@pytest.mark.parametrize("window", [1, 3])
def test_a_broker_that_takes_fewer_gets_fewer(tmp_path: Path, window: int) -> None:
    async def story(scene: Scene) -> None:
        scene.broker.window = window
        scene.write(50)
        scene.start()
        await scene.wait(2)
        assert scene.broker.numbers() == list(range(50))
        assert scene.broker.most_under_way == window
        await scene.end()

    play(tmp_path, story)


def test_what_is_not_acknowledged_waits_on_disk_and_goes_out_in_the_next_life(tmp_path: Path) -> None:
    async def story(scene: Scene) -> None:
        scene.start(status_period_s=60, live_hz=0.1)
        scene.write(1)
        await scene.wait(1)
        scene.broker.answers = False
        scene.write(30)
        await scene.wait(2)
        # The window is full; nothing more is sent. The ring has nothing to do with that.
        assert scene.broker.numbers() == [0, *range(1, 21)]
        assert scene.writer.used_fraction == 0.0
        await scene.end()
        scene.broker.answers = True
        scene.broker.received.clear()
        scene.start()
        await scene.wait(1)
        # Nothing that was acknowledged, and nothing that was not is missing.
        assert scene.broker.numbers() == list(range(1, 31))
        await scene.end()

    play(tmp_path, story)


def test_a_broken_connection_repeats_what_was_under_way_in_order(tmp_path: Path) -> None:
    async def story(scene: Scene) -> None:
        scene.start()
        scene.write(1)
        await scene.wait(1)
        scene.broker.answers = False
        scene.write(10)
        await scene.wait(0.1)
        scene.broker.answers = True
        scene.broker.drop()
        scene.write(2)
        await scene.wait(2)
        assert scene.broker.numbers() == [*range(11), *range(1, 13)]
        assert scene.writer.used_fraction == 0.0
        await scene.end()

    logs = play(tmp_path, story)
    assert [entry["event"] for entry in logs[4:-1]] == [
        "connection to broker lost; trying again",
        "connected to broker",
    ]


def test_a_broker_that_answers_nothing_is_left(tmp_path: Path) -> None:
    async def story(scene: Scene) -> None:
        scene.start(ack_timeout_s=3)
        await scene.wait(1)
        scene.broker.answers = False
        scene.write(1)
        await scene.wait(2.9)
        assert len(scene.broker.attempts) == 1
        scene.broker.answers = True
        await scene.wait(1)
        assert len(scene.broker.attempts) == 2
        assert scene.broker.numbers() == [0, 0]
        await scene.end()

    logs = play(tmp_path, story)
    assert any("does not acknowledge" in entry["event"] for entry in logs)


def test_refused_frames_stop_everything_and_are_tried_again(tmp_path: Path) -> None:
    async def story(scene: Scene) -> None:
        scene.broker.reason = lambda publication: 0x87 if publication.topic.endswith("/samples") else 0
        scene.start()
        scene.write(25)
        await scene.wait(20)
        # One try at a time, with doubling pauses: at 0, 1, 3, 7 and 15 s.
        assert scene.broker.numbers() == [0, 0, 0, 0, 0]
        status = strict(scene.broker.on("status")[-1])
        assert status["uplink"]["waiting"] == 25
        assert status["uplink"]["fault"] == "publish to tipguard/rig-1/samples refused: Not authorized (0x87)"
        assert status["uplink"]["refused"] > 0
        scene.broker.reason = lambda publication: 0
        scene.broker.received.clear()
        await scene.wait(20)
        assert scene.broker.numbers() == list(range(25))
        assert scene.writer.used_fraction == 0.0
        assert strict(scene.broker.on("status")[-1])["uplink"]["fault"] is None
        await scene.end()

    logs = play(tmp_path, story)
    assert [entry["log_level"] for entry in logs if "frames" in entry["event"] and "broker" in entry["event"]] == [
        "error",  # refused, once
        "info",  # takes them again
    ]


def test_a_refused_summary_stops_nothing(tmp_path: Path) -> None:
    async def story(scene: Scene) -> None:
        scene.broker.reason = lambda publication: 0x87 if "/json/" in publication.topic else 0
        scene.start()
        for seq in range(3):
            scene.writer.write(Kind.EVENT, 1, seq, msgpack.packb({"verdict": "STALE"}))
        await scene.wait(1)
        assert [decode_frame(payload).seq for payload in scene.broker.on("events")] == [0, 1, 2]
        assert scene.writer.used_fraction == 0.0
        await scene.end()

    logs = play(tmp_path, story)
    refusals = [entry for entry in logs if "refuses" in entry["event"]]
    assert len(refusals) == 2  # json/status and json/events, once each


def test_a_broker_that_closes_on_a_denied_publish_does_not_hide_which(tmp_path: Path) -> None:
    # Mosquitto answers a denied publish, then closes; what else was on its way makes that a reset, which may eat the
    # answer. So every topic is tried alone first, and what was refused stays refused over the reconnects.
    async def story(scene: Scene) -> None:
        def deny_and_close(publication: Publication) -> int:
            if publication.topic.endswith("rig-1/status"):
                return 0
            scene.clock.call_at(scene.clock.now_ns(), scene.broker.drop)
            return 0x87

        scene.broker.reason = deny_and_close
        scene.write(30)
        scene.writer.write(Kind.EVENT, 1, 0, msgpack.packb({"verdict": "STALE"}))
        scene.start(backoff_max_s=0.25, poll_s=0.5)
        await scene.wait(60)
        attempts = len(scene.broker.attempts)
        # json/status, live: once each. samples, events: at growing pauses, the last ones 30 s apart.
        assert attempts < 18
        assert len(scene.broker.on("json/status")) == len(scene.broker.on("live")) == 1
        assert set(scene.broker.numbers()) == {0}
        status = strict(scene.broker.on("status")[-1])
        assert "rig-1/samples refused" in status["uplink"]["fault"]
        scene.broker.reason = lambda publication: 0
        await scene.wait(31)
        assert scene.broker.numbers()[-30:] == list(range(30))
        assert scene.writer.used_fraction == 0.0
        await scene.wait(600)
        assert len(scene.broker.on("live")) > 2
        await scene.end()

    play(tmp_path, story)


def test_nobody_listening_is_counted_and_fine(tmp_path: Path) -> None:
    async def story(scene: Scene) -> None:
        scene.broker.reason = lambda publication: 0x10
        scene.write(5)
        scene.start(status_period_s=1)
        await scene.wait(3)
        assert scene.writer.used_fraction == 0.0
        assert strict(scene.broker.on("status")[-1])["uplink"]["no_subscriber"] >= 5
        await scene.end()

    play(tmp_path, story)


def test_an_absent_broker_is_said_once_and_tried_ever_less_often(tmp_path: Path) -> None:
    async def story(scene: Scene) -> None:
        scene.broker.up = False
        scene.write(3)
        scene.start(host="broker.lab", port=1884, plain="anywhere", poll_s=0.5)
        await scene.wait(300)
        gaps = [b - a for a, b in zip(scene.broker.attempts, scene.broker.attempts[1:], strict=False)]
        assert 29 < len(gaps) < 70
        assert all(gap >= 0.125 * SECOND for gap in gaps)
        assert all(5 * SECOND <= gap <= 10 * SECOND for gap in gaps[8:])
        assert len(set(gaps[8:])) > 10
        scene.broker.up = True
        await scene.wait(11)
        assert scene.broker.numbers() == [0, 1, 2]
        await scene.end()

    logs = play(tmp_path, story)
    (warning,) = [entry for entry in logs if entry["log_level"] == "warning"]
    assert "broker broker.lab:1884 unreachable: no answer" in warning["event"]
    assert "is it running there" in warning["event"]


def test_while_the_broker_is_absent_the_outbox_keeps_the_frames_and_the_ring_is_free(tmp_path: Path) -> None:
    async def story(scene: Scene) -> None:
        scene.broker.up = False
        scene.start()
        for _ in range(20):
            scene.write(20)
            await scene.wait(0.2)
        assert scene.writer.used_fraction == 0.0
        scene.broker.up = True
        await scene.wait(11)
        assert scene.broker.numbers() == list(range(400))
        await scene.end()

    play(tmp_path, story, ring_bytes=8192)


def test_live_comes_twice_a_second_and_status_every_ten(tmp_path: Path) -> None:
    async def story(scene: Scene) -> None:
        scene.write(1)
        scene.start()
        await scene.wait(60)
        assert 119 <= len(scene.broker.on("live")) <= 121
        assert 6 <= len(scene.broker.on("status")) <= 8
        live = strict(scene.broker.on("live")[-1])
        assert (live["index"], live["state"], live["bias_v"]) == (1, "SAFE", 0.5)
        lives = [item for item in scene.broker.received if item.topic.endswith("/live")]
        # The first of a connection asks whether it may: at QoS 0 a refusal would not be told.
        assert [item.qos for item in lives] == [1] + [0] * (len(lives) - 1)
        assert not any(item.retain for item in lives)
        await scene.end()

    play(tmp_path, story)


def test_status_is_retained_says_what_changed_and_goodbye(tmp_path: Path) -> None:
    async def story(scene: Scene) -> None:
        scene.start()
        await scene.wait(3)
        scene.worker = {"state": "ENERGISED", "plan": "iv"}
        scene.writer.write(Kind.EPOCH, 8, 0, msgpack.packb({"prev_epoch": 7}))
        await scene.wait(1)
        await scene.end()
        documents_sent = [strict(payload) for payload in scene.broker.on("status")]
        states = dict.fromkeys(d["worker"].get("state") for d in documents_sent[:-1])
        assert [state for state in states if state] == ["SAFE", "ENERGISED"]
        assert (documents_sent[-2]["epoch"], documents_sent[-2]["prev_epoch"]) == (f"{8:016x}", f"{7:016x}")
        last = documents_sent[-1]
        assert (last["online"], last["cause"], last["worker"], last["uplink"]) == (False, "stopped", None, None)
        sent = [item for item in scene.broker.received if item.topic.endswith("rig-1/status")]
        assert all(item.retain and item.content_type == "application/json" for item in sent)
        assert scene.broker.on("json/status") == scene.broker.on("status")
        assert scene.broker.will is not None
        will = strict(scene.broker.will.payload)
        assert (will["online"], will["cause"], scene.broker.will.retain) == (False, "connection lost", True)

    play(tmp_path, story)


def test_status_and_will_are_renewed_at_every_connection(tmp_path: Path) -> None:
    async def story(scene: Scene) -> None:
        scene.start()
        await scene.wait(1)
        scene.writer.write(Kind.EPOCH, 8, 0, msgpack.packb({"prev_epoch": None}))
        await scene.wait(1)
        scene.broker.received.clear()
        scene.broker.drop()
        await scene.wait(1)
        assert [strict(payload)["online"] for payload in scene.broker.on("status")] == [True]
        assert scene.broker.will is not None
        assert strict(scene.broker.will.payload)["epoch"] == f"{8:016x}"
        await scene.end()

    play(tmp_path, story)


def test_a_state_in_the_ring_serves_until_the_worker_says_more(tmp_path: Path) -> None:
    async def story(scene: Scene) -> None:
        scene.worker = {}
        scene.start()
        await scene.wait(1)
        assert strict(scene.broker.on("live")[-1])["state"] == "UNKNOWN"
        scene.writer.write(Kind.STATUS, 1, 0, msgpack.packb({"state": "ARMED"}))
        await scene.wait(1)
        assert strict(scene.broker.on("live")[-1])["state"] == "ARMED"
        scene.worker = None
        await scene.wait(1)
        assert strict(scene.broker.on("live")[-1])["state"] is None
        assert strict(scene.broker.on("status")[-1])["worker"] is None
        await scene.end()

    play(tmp_path, story)


def test_the_open_frame_goes_out_when_the_worker_is_gone(tmp_path: Path) -> None:
    async def story(scene: Scene) -> None:
        scene.start()
        scene.writer.write_sample(1, 0, 0, 0, a_sample())
        await scene.wait(5)
        assert scene.broker.numbers() == []
        assert scene.writer.used_fraction > 0
        scene.worker = None
        await scene.wait(1)
        assert scene.broker.numbers() == [0]
        assert scene.writer.used_fraction == 0.0
        await scene.end()

    play(tmp_path, story)


def test_a_worker_that_only_does_not_answer_keeps_its_frame(tmp_path: Path) -> None:
    async def story(scene: Scene) -> None:
        scene.worker = None
        scene.start()
        for index in range(12):
            scene.writer.write_sample(1, 0, index, 0, a_sample(index))
            await scene.wait(2.5)
        assert scene.broker.numbers() == []
        scene.writer.write(Kind.FRAME_CLOSE, 1, 0, b"")
        await scene.wait(1)
        assert [decode_frame(payload).n for payload in scene.broker.on("samples")] == [12]
        await scene.end()

    play(tmp_path, story)


def test_a_stop_waits_for_what_is_under_way_and_no_longer(tmp_path: Path) -> None:
    async def story(scene: Scene) -> None:
        scene.start()
        await scene.wait(1)
        scene.write(100)
        await scene.end()
        assert scene.broker.numbers() == list(range(100))
        assert scene.writer.used_fraction == 0.0

    play(tmp_path, story)


@pytest.mark.parametrize("up", [True, False])
def test_a_stop_waits_two_seconds_for_a_mute_broker_and_not_for_an_absent_one(tmp_path: Path, up: bool) -> None:
    async def story(scene: Scene) -> None:
        scene.broker.up = up
        scene.start()
        await scene.wait(60)
        scene.broker.answers = False
        scene.write(1)
        before = scene.clock.now_ns()
        await scene.end()
        assert 2 * up <= (scene.clock.now_ns() - before) / SECOND < 2 * up + 0.2
        assert scene.writer.used_fraction == 0.0

    play(tmp_path, story)


def test_an_absent_ring_is_waited_for_and_said_once(tmp_path: Path) -> None:
    async def story(scene: Scene) -> None:
        scene.writer.close()
        scene.path.unlink()
        scene.start()
        await scene.wait(30)
        scene.writer = RingWriter(scene.path, 1 << 20)
        scene.write(2)
        await scene.wait(1)
        assert scene.broker.numbers() == [0, 1]
        await scene.end()

    logs = play(tmp_path, story)
    (warning,) = [entry for entry in logs if entry["log_level"] == "warning"]
    assert "waiting for the ring" in warning["event"]
    assert "start that first" in warning["event"]


def test_a_replaced_ring_is_read_to_its_end_first(tmp_path: Path) -> None:
    async def story(scene: Scene) -> None:
        scene.broker.up = False
        scene.start()
        scene.write(2)
        scene.writer.write_sample(1, 2, 4, 0, a_sample())  # never closed: its worker is gone
        await scene.wait(2)
        scene.writer.close()
        scene.path.unlink()
        await scene.wait(2)
        scene.writer = RingWriter(scene.path, 1 << 20)
        scene.frames = 0
        scene.write(3, epoch=2)
        await scene.wait(2)
        scene.broker.up = True
        await scene.wait(12)
        sent = [(frame.epoch[-1], frame.seq) for frame in map(decode_frame, scene.broker.on("samples"))]
        assert sent == [("1", 0), ("1", 1), ("1", 2), ("2", 0), ("2", 1), ("2", 2)]
        assert scene.writer.used_fraction == 0.0
        await scene.end()

    logs = play(tmp_path, story)
    assert any("file was removed" in entry["event"] for entry in logs)


def test_damage_in_the_ring_is_skipped_said_and_counted(tmp_path: Path) -> None:
    async def story(scene: Scene) -> None:
        scene.broker.up = False
        scene.write(1)
        at = scene.writer.head
        scene.write(2)
        with scene.path.open("r+b") as file:
            file.seek(4096 + at % (1 << 20) + 40)
            file.write(b"\xff\xff\xff")
        scene.broker.up = True
        scene.start(status_period_s=1)
        await scene.wait(4)
        assert scene.broker.numbers() == [0, 1, 2]
        # One sample of frame 1 is missing, and everyone can see it.
        assert [decode_frame(payload).n for payload in scene.broker.on("samples")] == [2, 1, 2]
        assert strict(scene.broker.on("status")[-1])["uplink"]["skipped_bytes"] == 88
        await scene.end()

    logs = play(tmp_path, story)
    assert [entry["bytes"] for entry in logs if entry["log_level"] == "error"] == [88]


def test_an_idle_uplink_does_not_spin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reads = 0
    read = RingReader.read

    def counting(reader: RingReader) -> object:
        nonlocal reads
        reads += 1
        return read(reader)

    monkeypatch.setattr(RingReader, "read", counting)

    async def story(scene: Scene) -> None:
        scene.start()
        await scene.wait(10)
        await scene.end()

    play(tmp_path, story)
    assert 400 < reads < 700  # every 20 ms, and at each acknowledgement
