"""Subscribers of other people: both versions of MQTT, the lines for mosquitto_sub, and what the JSON side promises."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from paho.mqtt.enums import MQTTProtocolVersion

from edge.frames import CONTENT_TYPE, decode_frame
from hil.broker import Broker, available
from tests.interop import publishing as p
from tests.interop.documents import OF_TOPIC, Certificate, Live, Outbox, Status, Store, Strict, Summary, Uplink
from tests.interop.listening import WAIT_S, Listener

ROOT: Final = Path(__file__).resolve().parents[2]
LINES: Final = [
    line
    for line in (ROOT / "deploy/examples/mosquitto_sub.txt").read_text(encoding="utf-8").splitlines()
    if line.startswith("mosquitto_sub ")
]
FRAMES: Final = {"samples", "events", "runs"}
TOPICS: Final = FRAMES | set(OF_TOPIC)
QUICK: Final = {"status_period_s": 0.2}

pytestmark = [
    pytest.mark.processes,
    pytest.mark.skipif("mosquitto" not in available(), reason="needs mosquitto"),
]


@pytest.fixture
def broker() -> Iterator[Broker]:
    with Broker(prefer="mosquitto") as started:
        yield started


def offline(listener: Listener) -> bool:
    said = listener.payloads("json/status")
    return bool(said) and not json.loads(said[-1])["online"]


async def test_a_311_subscriber_gets_byte_for_byte_what_a_5_subscriber_gets(broker: Broker, tmp_path: Path) -> None:
    with Listener(broker.port) as five, Listener(broker.port, MQTTProtocolVersion.MQTTv311) as three:
        async with p.publishing(tmp_path, broker.port, **QUICK):
            await three.until(lambda: three.names() >= TOPICS and len(three.payloads("samples")) >= 3)
        await five.until(lambda: offline(five))
        await three.until(lambda: offline(three))
    assert five.names() == three.names() == TOPICS
    for name in TOPICS:
        assert three.payloads(name) == five.payloads(name) != []
    # 3.1.1 has no content types: the topic says what the payload is.
    for message in five.messages:
        name = message.topic.split("/", 2)[2]
        expected = CONTENT_TYPE if name in FRAMES else "application/json"
        assert getattr(message.properties, "ContentType", None) == expected
    seqs = [decode_frame(payload).seq for payload in three.payloads("samples")]
    assert seqs == list(range(len(seqs)))


async def test_every_json_document_is_as_its_schema_promises(broker: Broker, tmp_path: Path) -> None:
    with Listener(broker.port, MQTTProtocolVersion.MQTTv311) as listener:
        async with p.publishing(tmp_path, broker.port, **QUICK) as rig:
            await listener.until(lambda: listener.names() >= TOPICS and len(listener.payloads("json/status")) >= 3)
            await rig.rest()
            # The first event is the controller's start.
            await listener.until(lambda: len(listener.payloads("json/events")) == rig.steps + 1)
            await listener.until(lambda: len(listener.payloads("json/runs")) == rig.steps)
        await listener.until(lambda: offline(listener))
    for name, model in OF_TOPIC.items():
        for payload in listener.payloads(name):
            model.model_validate_json(payload)
    # The retained one and its copy for those who only follow json/#.
    assert listener.payloads("status") == listener.payloads("json/status")
    # A summary for each frame, in the same order, and no waveforms in it.
    for name in ("events", "runs"):
        frames = [decode_frame(payload) for payload in listener.payloads(name)]
        said = [json.loads(payload) for payload in listener.payloads(f"json/{name}")]
        assert [(one["epoch"], one["kind"], one["seq"]) for one in said] == [
            (frame.epoch, frame.kind, frame.seq) for frame in frames
        ]
    cut = next(one for one in map(json.loads, listener.payloads("json/events")) if one["kind"] == "event")
    assert cut["doc"]["trace"] == {"bytes": len(p.WAVEFORM)}
    assert cut["doc"]["peak_a"] is None
    status = Status.model_validate_json(listener.payloads("json/status")[-2])
    assert status.uplink is not None
    assert (status.uplink.connected, status.uplink.worker_state) == (True, "ENERGISED")
    assert status.uplink.published > 0


# ------------------------------------------------------------------------------------------- mosquitto_sub


def is_status(said: list[str], _folder: Path) -> None:
    for line in said:
        topic, document = line.split(" ", 1)
        assert (topic, json.loads(document)["rig"]) == ("tipguard/rig-1/status", p.RIG)


def is_live(said: list[str], _folder: Path) -> None:
    assert json.loads(said[-1])["current_a"] == p.CURRENT_A


def is_cuts(said: list[str], _folder: Path) -> None:
    assert {(rig, verdict) for rig, _t_utc, verdict in map(json.loads, said)} == {(p.RIG, "SURGE_JUMP")}


def is_progress(said: list[str], _folder: Path) -> None:
    assert {tuple(json.loads(line)) for line in said} == {(p.RIG, f"{p.RUN:016x}", 0.5)}


def is_anything(said: list[str], _folder: Path) -> None:
    assert all(re.fullmatch(r"\S+ tipguard/rig-1/[\w/]+ \d+ bytes", line) for line in said)


def is_file(_said: list[str], folder: Path) -> None:
    page = (ROOT / "docs/interop.md").read_text(encoding="utf-8")
    code = re.search(r"## Frames in a file.*?```python\n(.*?)```", page, re.DOTALL)
    assert code is not None
    done = subprocess.run(
        [sys.executable, "-c", code[1]], cwd=folder, capture_output=True, text=True, check=False, timeout=WAIT_S
    )
    assert (done.returncode, done.stderr) == (0, "")
    frames = [decode_frame(bytes.fromhex(line)) for line in (folder / "frames.hex").read_text("ascii").splitlines()]
    lowest_v = -p.BIAS_STEP_V * (p.ROWS - 1)
    assert done.stdout.splitlines() == [f"{frame.seq} {p.ROWS} {lowest_v} {p.CURRENT_A}" for frame in frames] != []


CHECKS: Final[dict[str, Callable[[list[str], Path], None]]] = {
    "/status'": is_status,
    "/live'": is_live,
    "/json/events'": is_cuts,
    "/json/runs'": is_progress,
    "/#'": is_anything,
    "/samples'": is_file,
}


@pytest.mark.skipif(shutil.which("mosquitto_sub") is None, reason="needs mosquitto_sub")
@pytest.mark.parametrize("line", LINES, ids=lambda line: re.findall(r"-t '(\S+)'", line)[0])
async def test_a_line_for_mosquitto_sub_shows_what_it_says(line: str, broker: Broker, tmp_path: Path) -> None:
    if "| jq" in line and shutil.which("jq") is None:
        pytest.skip("needs jq")
    (check,) = [check for end, check in CHECKS.items() if f"{end} " in f"{line} "]
    typed = line.replace("-h 127.0.0.1", f"-h 127.0.0.1 -p {broker.port} -C 4 -W {WAIT_S:.0f}")
    assert typed != line
    async with p.publishing(tmp_path, broker.port, **QUICK):
        done = await asyncio.to_thread(
            subprocess.run,
            ["bash", "-o", "pipefail", "-c", typed],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
            timeout=2 * WAIT_S,
        )
    assert (done.returncode, done.stderr) == (0, "")
    said = done.stdout.splitlines()
    assert len(said) >= (0 if ">" in line.rsplit("'", maxsplit=1)[-1] else 3)
    check(said, tmp_path)


def test_the_page_shows_the_lines_as_they_are() -> None:
    page = (ROOT / "docs/interop.md").read_text(encoding="utf-8")
    assert len(LINES) == len(CHECKS)
    for line in LINES:
        assert line in page


@pytest.mark.parametrize(
    "model", [Status, Live, Summary, Uplink, Outbox, Certificate, Store], ids=lambda one: one.__name__
)
def test_every_field_of_the_documents_is_described(model: type[Strict]) -> None:
    pages = "".join((ROOT / "docs" / name).read_text(encoding="utf-8") for name in ("data.md", "interop.md"))
    of_branch = {Outbox: "outbox.", Certificate: "certificate."}.get(model, "")
    missing = {name for name in model.model_fields if not {f"`{name}`", f"`{of_branch}{name}`"} & set(_spans(pages))}
    assert missing == set()


def _spans(text: str) -> list[str]:
    return re.findall(r"`[^`\n]+`", re.sub(r"(?ms)^```.*?^```$", "", text))


def test_a_schema_that_finds_a_document_wrong_says_so() -> None:
    good: dict[str, Any] = {
        "v": 1, "rig": "rig-1", "online": False, "cause": "stopped", "epoch": None, "prev_epoch": None,
        "t_utc": "2026-01-02T03:04:05.678+00:00", "worker": None, "uplink": None,
    }  # fmt: skip
    Status.model_validate_json(json.dumps(good))
    for wrong in ({"v": 2}, {"rig": "Rig 1"}, {"online": "yes"}, {"more": 1}, {"t_utc": "today"}, {"epoch": "1"}):
        with pytest.raises(ValueError, match="1 validation error"):
            Status.model_validate_json(json.dumps({**good, **wrong}))
