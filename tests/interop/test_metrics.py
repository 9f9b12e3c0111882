"""The metrics page: scraped over HTTP, the same numbers as the status document, and only for this computer."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import re
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from paho.mqtt import publish
from prometheus_client.parser import text_string_to_metric_families

from edge.uplink import metrics
from edge.uplink.metrics import Figures, MetricsPage, StoreFigures
from edge.watermark import Mark, Watermark, encode
from hil.broker import HOST, Broker, available, free_port
from tests.interop import publishing as p
from tests.interop.listening import Listener

ROOT: Final = Path(__file__).resolve().parents[2]
RULES: Final = ROOT / "deploy/examples/prometheus/tipguard.rules.yml"
FULL: Final = Figures(
    connected=True,
    worker_state="ENERGISED",
    ring_used=0.25,
    waiting=3,
    published=1001,
    no_subscriber=4,
    refused=5,
    redriven=6,
    dropped=7,
    skipped_bytes=8,
    outbox_frames=9,
    outbox_bytes=10_000,
    outbox_oldest_s=11.5,
    outbox_budget_used=0.125,
    outbox_commits=13,
    outbox_written_bytes=14_000,
    stores={"lab": StoreFigures(15, 16.5, 0.5), "far": StoreFigures(17, 18.5, None)},
    outbox={"syncs": 21, "thinned": 22, "marks_refused": 23, "fault": None, "alarm": "half full"}
    | {"declared_lost": 24, "unaccounted": 25, "of_unknown_epochs": 26}
    | {"watermark_fault": None, "quarantined": None},
    commands={"relayed": 27, "unanswered": 28, "refused": {"malformed": 29, "too_many": 30}},
    certificate={"name": "rig-1", "days_left": 19.5, "fault": None},
    flight_missed=20,
    fault="publish refused",
)
Sample = tuple[str, frozenset[tuple[str, str]]]


class Clock:
    def __init__(self) -> None:
        self.now = 0

    def now_ns(self) -> int:
        return self.now


def scrape(port: int) -> dict[Sample, float]:
    with urllib.request.urlopen(f"http://{HOST}:{port}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def at(name: str, **labels: str) -> Sample:
    return metrics.PREFIX + name, frozenset({"rig": p.RIG, **labels}.items())


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def page(clock: Clock) -> Iterator[MetricsPage]:
    with MetricsPage(p.RIG, free_port(), now_ns=clock.now_ns) as made:
        assert made.fault is None
        yield made


def port_of(page: MetricsPage) -> int:
    assert page._port is not None
    return page._port


def test_every_figure_is_on_the_page_and_in_the_document(page: MetricsPage) -> None:
    page.show(FULL)
    seen, said = scrape(port_of(page)), FULL.document()
    for row in metrics.ROWS:
        assert seen.pop(at(row.name + ("_total" if row.counter else ""))) == float(metrics.at(said, row.path))
    for row in metrics.STORE_ROWS:
        for store in ("lab", "far"):
            expected = said["stores"][store][row.path]
            assert seen.pop(at(row.name, store=store), None) == expected
    assert seen.pop(at("commands_refused_total", reason="malformed")) == 29
    assert seen.pop(at("commands_refused_total", reason="too_many")) == 30
    assert seen.pop(at("worker_state", state="ENERGISED")) == 1
    assert seen.pop(at("worker_answers")) == 1
    assert [seen.pop(at("fault", what=what)) for what in metrics.WORDS] == [1, 0, 1, 0, 0, 0, 0, 0]
    assert seen.pop(at("figures_age_seconds")) == 0
    assert seen == {}
    # A figure added later has to find its place on the page.
    assert metrics.REFUSED.path.partition(".")[0] == "commands"
    rows = {path.partition(".")[0] for path in (*(row.path for row in metrics.ROWS), *metrics.WORDS)}
    rows |= {"stores", "worker_state"}
    assert rows == {field.name for field in dataclasses.fields(Figures)}
    assert {row.path for row in metrics.STORE_ROWS} == {field.name for field in dataclasses.fields(StoreFigures)}
    json.dumps(said, allow_nan=False)


def test_the_list_of_metrics_is_that_of_the_page(page: MetricsPage) -> None:
    page.show(FULL)
    there = {name for name, _ in scrape(port_of(page))}
    table = (ROOT / "docs/interop.md").read_text(encoding="utf-8")
    listed = set(re.findall(r"^\|[^|]*\| `(tipguard_\w+)` \|", table, re.MULTILINE))
    assert listed == there


def test_what_is_not_known_is_absent_and_not_zero(page: MetricsPage) -> None:
    page.show(Figures())
    seen = scrape(port_of(page))
    for name in ("ring_used_ratio", "outbox_frames", "outbox_commits_total", "certificate_days"):
        assert at(name) not in seen
    assert not any(name == metrics.PREFIX + "worker_state" for name, _ in seen)
    assert (seen[at("worker_answers")], seen[at("broker_connected")]) == (0, 0)


def test_figures_of_an_uplink_that_hangs_grow_old(page: MetricsPage, clock: Clock) -> None:
    clock.now = 5_000_000_000
    page.show(FULL)
    clock.now = 65_000_000_000
    assert scrape(port_of(page))[at("figures_age_seconds")] == 60
    page.show(FULL)
    assert scrape(port_of(page))[at("figures_age_seconds")] == 0


def test_only_this_computer_is_served(page: MetricsPage) -> None:
    port, listening = port_of(page), set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in Path(table).read_text(encoding="ascii").splitlines()[1:]:
            local, state = line.split()[1], line.split()[3]
            address, _, number = local.partition(":")
            if state == "0A" and int(number, 16) == port:
                listening.add(address)
    assert listening == {"0100007F"}


def test_no_name_server_is_asked(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def getfqdn(name: str = "") -> str:
        asked.append(name)
        return name

    monkeypatch.setattr(socket, "getfqdn", getfqdn)
    port = free_port()
    with MetricsPage(p.RIG, port, now_ns=clock.now_ns) as page:
        page.show(FULL)
        assert scrape(port)
    assert asked == []


def test_a_taken_port_is_said_and_nothing_else_suffers(clock: Clock) -> None:
    with socket.create_server((HOST, 0)) as taken:
        port = taken.getsockname()[1]
        with MetricsPage(p.RIG, port, now_ns=clock.now_ns) as page:
            page.show(FULL)
            assert page.fault is not None
            assert f"metrics port {port}" in page.fault
            assert "[uplink].metrics_port" in page.fault


def test_the_port_and_the_thread_are_given_back(clock: Clock) -> None:
    port, before = free_port(), threading.active_count()
    for _ in range(2):
        with MetricsPage(p.RIG, port, now_ns=clock.now_ns) as page:
            page.show(FULL)
            assert scrape(port)
        with pytest.raises(urllib.error.URLError):
            scrape(port)
    assert threading.active_count() == before


def test_without_a_port_nothing_is_served_or_loaded() -> None:
    code = (
        "import sys\n"
        "from edge.uplink.metrics import Figures, MetricsPage\n"
        "with MetricsPage('rig-1', None, now_ns=lambda: 0) as page:\n"
        "    page.show(Figures())\n"
        "print('prometheus_client' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=30)
    assert (done.stdout, done.stderr) == ("False\n", "")


# ------------------------------------------------------------------------------------------- with the uplink


@pytest.mark.processes
@pytest.mark.skipif("mosquitto" not in available(), reason="needs mosquitto")
async def test_the_uplink_serves_what_its_status_document_says(tmp_path: Path) -> None:
    port = free_port()
    with Broker(prefer="mosquitto") as broker, Listener(broker.port) as listener:
        async with p.publishing(tmp_path, broker.port, metrics_port=port, status_period_s=0.1) as rig:
            await listener.until(lambda: len(listener.payloads("samples")) >= 3)
            await rig.rest()
            await listener.until(lambda: len(listener.payloads("samples")) == rig.steps)
            await listener.until(lambda: last(listener)["waiting"] == 0)
            before, count = last(listener), len(listener.payloads("json/status"))
            seen = await asyncio.to_thread(scrape, port)
            # Two more: the first may have been on its way.
            await listener.until(lambda: len(listener.payloads("json/status")) >= count + 2)
            after = last(listener)
    assert seen[at("broker_connected")] == 1
    assert seen[at("worker_state", state="ENERGISED")] == 1
    assert before["published"] > 0
    for row in metrics.ROWS:
        values = [metrics.at(said, row.path) for said in (before, after)]
        shown = seen.get(at(row.name + ("_total" if row.counter else "")))
        # Status and live documents are messages, too, so that some counters go on counting.
        assert (shown is None) == (None in values), row.path
        if row.path == "ring_used" and shown is not None:
            # What the ring holds comes and goes between two looks.
            assert 0.0 <= shown <= 1.0
            continue
        assert shown is None or min(values) <= shown <= max(values), row.path


def last(listener: Listener) -> dict[str, Any]:
    said: dict[str, Any] = json.loads(listener.payloads("json/status")[-1])["uplink"]
    return said


@pytest.mark.processes
@pytest.mark.skipif("mosquitto" not in available(), reason="needs mosquitto")
async def test_an_uplink_whose_port_is_taken_says_so_in_its_status(tmp_path: Path) -> None:
    with (
        Broker(prefer="mosquitto") as broker,
        Listener(broker.port) as listener,
        socket.create_server((HOST, 0)) as taken,
    ):
        async with p.publishing(tmp_path, broker.port, metrics_port=taken.getsockname()[1]):
            await listener.until(lambda: listener.payloads("samples") and listener.payloads("json/status"))
            said = json.loads(listener.payloads("json/status")[-1])["uplink"]
    assert "metrics port" in said["metrics_fault"]


@pytest.mark.processes
@pytest.mark.skipif("mosquitto" not in available(), reason="needs mosquitto")
async def test_a_store_is_behind_until_its_watermark_says_otherwise(tmp_path: Path) -> None:
    port = free_port()
    with Broker(prefer="mosquitto") as broker, Listener(broker.port) as listener:
        async with p.publishing(
            tmp_path, broker.port, metrics_port=port, status_period_s=0.1, stores=("lab",), redrive_s=60.0
        ) as rig:
            await listener.until(lambda: len(listener.payloads("samples")) >= 3)
            await rig.rest()
            # The epoch's frame, and three of each step.
            await listener.until(lambda: last(listener)["stores"]["lab"]["waiting"] == 1 + 3 * rig.steps)
            await listener.until(lambda: last(listener)["waiting"] == 0)
            behind = await asyncio.to_thread(scrape, port)
            marks = [Mark(p.EPOCH, stream, rig.steps, rig.steps - 1, ()) for stream in ("samples", "events", "runs")]
            everything = Watermark("lab", "0" * 16, p.RIG, (*marks, Mark(p.EPOCH, "epochs", 1, 0, ())))
            topic = f"tipguard/{p.RIG}/watermark/lab"
            said = encode(everything, "2026-01-02T03:04:05.678+00:00")
            await asyncio.to_thread(publish.single, topic, said, 1, retain=True, hostname=HOST, port=broker.port)
            await listener.until(lambda: last(listener)["stores"]["lab"]["waiting"] == 0)
            count = len(listener.payloads("json/status"))
            await listener.until(lambda: len(listener.payloads("json/status")) > count)
            stored = await asyncio.to_thread(scrape, port)
    assert behind[at("store_waiting_frames", store="lab")] == 1 + 3 * rig.steps
    assert behind[at("store_lag_seconds", store="lab")] > 0
    assert behind[at("outbox_oldest_seconds")] > 0
    assert at("store_watermark_age_seconds", store="lab") not in behind
    assert stored[at("store_waiting_frames", store="lab")] == stored[at("store_lag_seconds", store="lab")] == 0
    assert stored[at("store_watermark_age_seconds", store="lab")] < 20
    assert at("outbox_oldest_seconds") not in stored


# -------------------------------------------------------------------------------------------------- the page


def test_the_page_names_every_figure_and_its_metric() -> None:
    text = (ROOT / "docs/interop.md").read_text(encoding="utf-8")
    for row in (*metrics.ROWS, *metrics.STORE_ROWS):
        assert f"`{metrics.PREFIX}{row.name}{'_total' if row.counter else ''}`" in text
        assert f"`{row.path}`" in text
