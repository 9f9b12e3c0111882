"""The quarantine: each message once, as it came, and never without bound."""

from __future__ import annotations

from pathlib import Path

from edge.store.backend import Unreadable
from edge.store.disk import RealDisk
from edge.store.quarantine import Quarantine, read_quarantine


def message(number: int, topic: str = "tipguard/rig-1/samples") -> Unreadable:
    return Unreadable(topic, bytes([number]) * 100, "no frame", "application/msgpack")


def test_each_once_across_restarts(tmp_path: Path) -> None:
    for _ in range(3):
        quarantine = Quarantine(RealDisk(), tmp_path)
        quarantine.keep([message(1), message(2), message(1)], 5.0)
        quarantine.keep([message(1, "tipguard/rig-2/samples")], 6.0)
        quarantine.close()
    kept = list(read_quarantine(tmp_path))
    assert [(one["payload"][0], one["topic"][-9:-8], one["t_s"]) for one in kept] == [
        (1, "1", 5.0),
        (2, "1", 5.0),
        (1, "2", 6.0),
    ]
    assert kept[0]["content_type"] == "application/msgpack"


def test_beyond_its_room_messages_are_left_out_and_counted(tmp_path: Path) -> None:
    quarantine = Quarantine(RealDisk(), tmp_path, max_bytes=500)
    assert quarantine.keep([message(number) for number in range(10)], 5.0) == 2
    assert quarantine.left_out == 8
    quarantine.close()
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 500
    full = Quarantine(RealDisk(), tmp_path, max_bytes=500)
    assert full.keep([message(11)], 5.0) == 0
    full.close()
