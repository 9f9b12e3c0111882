"""The Telegraf configuration: run by Telegraf where it is found, and judged by the documents' schema everywhere."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from edge.frames import UtcMapping
from edge.uplink import documents
from hil.broker import Broker, available
from tests.interop import publishing as p
from tests.interop import telegraf_config as telegraf
from tests.interop.documents import OF_TOPIC, Status, kinds_at
from tests.interop.listening import Listener

EXAMPLE: Final = Path(__file__).resolve().parents[2] / "deploy/examples/telegraf/tipguard.conf"
PROGRAM: Final = shutil.which("telegraf")
MEASUREMENTS: Final = {"tipguard_uplink", "tipguard_live", "tipguard_event", "tipguard_run"}
OUTPUT: Final = """
[agent]
  flush_interval = "1s"
[[outputs.file]]
  files = ["stdout"]
  data_format = "json"
"""

needs_mosquitto = pytest.mark.skipif("mosquitto" not in available(), reason="needs mosquitto")


@pytest.fixture
def broker() -> Iterator[Broker]:
    with Broker(prefer="mosquitto") as started:
        yield started


def test_every_path_is_in_the_schema_with_its_type() -> None:
    consumers = telegraf.read(EXAMPLE)
    assert {one.json_v2[0].measurement_name for one in consumers} == MEASUREMENTS
    for consumer in consumers:
        model, rules = OF_TOPIC[consumer.topic], consumer.json_v2[0]
        for field in rules.field:
            kinds = kinds_at(model, field.path)
            # A whole number may be asked for as a float; never the other way round.
            fits = kinds <= {telegraf.PYTHON[field.type]} or (field.type == "float" and kinds <= {int, float})
            # What a frame's own document holds is described with the frames.
            assert fits or kinds == {object}, field
            # Whole branches are null in a document: of an uplink that is offline, a worker that does not answer.
            assert field.optional or "." not in field.path, field
        for tag in rules.tag:
            assert kinds_at(model, tag.path) == {str}
        if rules.timestamp_path is not None:
            assert kinds_at(model, rules.timestamp_path) == {str}
            assert "null" not in str(model.model_json_schema()["properties"][rules.timestamp_path])
        names = [one.name for one in (*rules.tag, *rules.field)]
        assert len(names) == len(set(names))


def test_the_checks_find_a_path_that_there_is_not(tmp_path: Path) -> None:
    with pytest.raises(KeyError):
        kinds_at(Status, "uplink.ring_use")
    with pytest.raises(KeyError):
        kinds_at(Status, "uplink.ring_used.more")
    wrong = tmp_path / "wrong.conf"
    wrong.write_text(EXAMPLE.read_text(encoding="utf-8").replace("rename = ", "renamed = ", 1), encoding="utf-8")
    with pytest.raises(ValueError, match="renamed"):
        telegraf.read(wrong)


def test_documents_without_a_sample_or_an_uplink_are_no_errors() -> None:
    utc = UtcMapping(0, valid=False, unc_ns=0)
    nothing_yet = {
        "status": documents.status(
            p.RIG, offline="connection lost", epochs=(None, None), utc=utc, now_ns=1, worker=None, uplink=None
        ),
        "live": documents.live(p.RIG, None, None, utc, 1),
    }
    nothing_yet["json/status"] = nothing_yet["status"]
    for consumer in telegraf.read(EXAMPLE):
        if (document := nothing_yet.get(consumer.topic)) is not None:
            assert telegraf.point(consumer, document).tags == {"rig": p.RIG}


@pytest.mark.processes
@needs_mosquitto
async def test_real_documents_become_points_with_all_their_fields(broker: Broker, tmp_path: Path) -> None:
    consumers = telegraf.read(EXAMPLE)
    with Listener(broker.port) as listener:
        async with p.publishing(tmp_path, broker.port, status_period_s=0.2):
            await listener.until(
                lambda: len(listener.payloads("json/events")) >= 2 and listener.names() >= set(OF_TOPIC)
            )
            # The first status and live documents may come before anything is known.
            await listener.until(lambda: json.loads(listener.payloads("live")[-1])["current_a"] is not None)
            await listener.until(lambda: len(listener.payloads("json/status")) >= 5)
    for consumer in consumers:
        points = [telegraf.point(consumer, json.loads(payload)) for payload in listener.payloads(consumer.topic)]
        assert {point.tags["rig"] for point in points} == {p.RIG}
        seen = {name for point in points for name in point.fields}
        asked = {field.name for field in consumer.json_v2[0].field}
        # Not in this rig: a certificate, a fault, a run's end.
        assert asked - seen <= {"certificate_days", "fault", "status", "outbox_oldest_s"}, consumer.topic


@pytest.mark.processes
@needs_mosquitto
@pytest.mark.skipif(PROGRAM is None, reason="needs telegraf")
async def test_telegraf_itself_writes_all_measurements(broker: Broker, tmp_path: Path) -> None:
    text = EXAMPLE.read_text(encoding="utf-8").replace("127.0.0.1:1883", f"127.0.0.1:{broker.port}")
    (tmp_path / "inputs.conf").write_text(text, encoding="utf-8")
    (tmp_path / "output.conf").write_text(OUTPUT, encoding="utf-8")
    words = [str(PROGRAM), "--config", "inputs.conf", "--config", "output.conf", "--quiet"]
    async with p.publishing(tmp_path, broker.port, status_period_s=0.2):
        found = await asyncio.to_thread(measurements, words, tmp_path)
    assert found >= MEASUREMENTS


def measurements(words: list[str], folder: Path) -> set[str]:
    found: set[str] = set()
    with subprocess.Popen(words, cwd=folder, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            for line in process.stdout:
                said: dict[str, Any] = json.loads(line)
                found |= {said["name"]}
                assert said["tags"]["rig"] == p.RIG
                if found >= MEASUREMENTS:
                    break
        finally:
            process.kill()
    return found
