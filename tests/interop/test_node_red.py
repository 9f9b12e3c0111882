"""The Node-RED flow of the examples, run by Node-RED itself against a real broker and a rig that publishes."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import pytest
from paho.mqtt import publish

from edge.frames import UtcMapping, doc_frame
from hil import node_red
from hil.broker import HOST, Broker, available
from hil.errors import BenchFaultError
from tests.interop import publishing as p

LONG = os.environ.get("TIPGUARD_LONG") == "1"
FLOW = node_red.EXAMPLE / "flows.json"
ROOT = Path(__file__).resolve().parents[2]
FAR: Final = 1_000_000
"""A seq that the rig does not reach."""


def nodes() -> list[dict[str, Any]]:
    loaded: list[dict[str, Any]] = json.loads(FLOW.read_text(encoding="utf-8"))
    return loaded


# ------------------------------------------------------------------------------------- what needs no Node-RED


def test_the_flow_hangs_together_and_needs_what_the_package_file_says() -> None:
    by_id = {node["id"]: node for node in nodes()}
    assert len(by_id) == len(nodes())
    for node in nodes():
        for wire in node.get("wires", []):
            assert set(wire) <= set(by_id)
        if node["type"] == "mqtt in":
            assert by_id[node["broker"]]["type"] == "mqtt-broker"
    # All of them come with Node-RED, but one.
    of_core = {"tab", "mqtt-broker", "mqtt in", "function", "debug"}
    assert {node["type"] for node in nodes()} - of_core == {"msgpack"}
    assert set(node_red._pins()) == {"node-red", "node-red-node-msgpack"}


def test_the_flow_asks_for_topics_that_the_page_lists() -> None:
    page = (ROOT / "docs" / "data.md").read_text(encoding="utf-8")
    topics = {node["topic"] for node in nodes() if node["type"] == "mqtt in"}
    assert topics == {f"tipguard/+/{name}" for name in ("status", "live", "events", "samples")}
    for topic in topics:
        assert f"`{topic.replace('+', '<rig>')}`" in page


def test_a_tap_hears_what_the_debug_nodes_show_and_leaves_the_rest_alone() -> None:
    changed = {node["id"]: node for node in node_red.tapped(nodes(), broker_port=4711, tap_port=815)}
    assert changed["tipguard.broker"]["port"] == "4711"
    for node in nodes():
        if node["type"] == "debug":
            feeding = [one for one in nodes() if any(node["id"] in wire for wire in one.get("wires", []))]
            assert feeding
            for one in feeding:
                assert changed[one["id"]]["wires"] == [[node["id"], f"tap.{node['id']}"]]
        elif node["type"] == "function":
            assert changed[node["id"]]["func"] == node["func"]


def npm_of(folder: Path, ends: str) -> str:
    """Return an npm that notes its calls beside itself and ends as told."""
    npm = folder / "npm"
    npm.write_text(f'#!/bin/sh\necho "$PWD $*" >>{folder}/calls\n{ends}\n', encoding="utf-8")
    npm.chmod(0o755)
    return str(npm)


def test_packages_are_fetched_once_and_outside_the_tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(node_red, "programs", lambda: ("node", npm_of(tmp_path, "exit 0")))
    folder = node_red.install()
    assert node_red.install() == folder
    assert folder.is_relative_to(tmp_path / "cache")
    assert (folder / "package.json").read_text(encoding="utf-8") == (FLOW.with_name("package.json")).read_text("utf-8")
    (call,) = (tmp_path / "calls").read_text(encoding="utf-8").splitlines()
    assert call.startswith(f"{folder} install ")
    # Nobody's install scripts run here.
    assert "--ignore-scripts" in call


def test_an_npm_that_fails_is_quoted_and_asked_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(node_red, "programs", lambda: ("node", npm_of(tmp_path, "echo no network >&2; exit 1")))
    for calls in (1, 2):
        with pytest.raises(BenchFaultError, match="no network"):
            node_red.install()
        assert len((tmp_path / "calls").read_text(encoding="utf-8").splitlines()) == calls


# ------------------------------------------------------------------------------------------- what needs it


@pytest.fixture
def broker() -> Iterator[Broker]:
    with Broker(prefer="mosquitto") as started:
        yield started


def fetch() -> None:
    try:
        node_red.install()
    except BenchFaultError as error:
        if "node-red" in os.environ.get("TIPGUARD_REQUIRE", ""):
            raise
        pytest.skip(f"needs Node-RED from npm: {error}")


def send_events(port: int, seqs: Sequence[int]) -> None:
    utc = UtcMapping(0, valid=False, unc_ns=0)
    frames = [doc_frame("event", p.RIG, p.EPOCH, seq, {"kind": "mark", "t_ns": 1}, utc) for seq in seqs]
    publish.multiple([(f"tipguard/{p.RIG}/events", frame, 1, False) for frame in frames], HOST, port)


@pytest.mark.skipif("mosquitto" not in available(), reason="needs mosquitto")
@pytest.mark.skipif(not LONG, reason="Node-RED is fetched by npm: TIPGUARD_LONG=1")
@pytest.mark.skipif(LONG and node_red.programs() is None, reason="needs node (18 or newer) and npm")
@pytest.mark.timeout(node_red.INSTALL_S + 120)
async def test_the_flow_decodes_status_live_events_and_samples(broker: Broker, tmp_path: Path) -> None:
    await asyncio.to_thread(fetch)
    async with p.publishing(tmp_path, broker.port):
        with node_red.running(FLOW, broker_port=broker.port) as flow:
            missing = {"status", "live", "event", "samples"}

            def all_seen(line: node_red.Line) -> bool:
                missing.discard(line["shown"])
                return not missing

            await asyncio.to_thread(flow.until, all_seen)
            # One frame comes twice, and then another.
            await asyncio.to_thread(send_events, broker.port, (FAR, FAR, FAR + 1))
            await asyncio.to_thread(flow.until, lambda line: line["payload"].get("seq") == FAR + 1)
            assert "error" not in flow.output().lower()
    said = {line["shown"]: line["payload"] for line in flow.shown if line["payload"].get("seq", 0) < FAR}
    assert (said["status"]["rig"], said["status"]["state"], said["status"]["online"]) == (p.RIG, "ENERGISED", True)
    assert said["live"]["current_a"] == p.CURRENT_A
    event = said["event"]["doc"]
    assert (event["verdict"], bytes(event["trace"]["data"])) == ("SURGE_JUMP", p.WAVEFORM)
    samples = said["samples"]
    assert (samples["rig"], samples["epoch"], samples["run"]) == (p.RIG, f"{p.EPOCH:016x}", f"{p.RUN:016x}")
    assert samples["bias_v"] == [-p.BIAS_STEP_V * row for row in range(p.ROWS)]
    assert samples["t_ns"] == [1_000_000 * (samples["first"] + row) for row in range(p.ROWS)]
    # JSON has no NaN: null, and the flag says why.
    assert samples["current_a"] == [None if row == 7 else p.CURRENT_A for row in range(p.ROWS)]
    assert samples["flags"][7] == 1
    seqs = [line["payload"]["seq"] for line in flow.shown if line["shown"] == "event"]
    assert [seq for seq in seqs if seq >= FAR] == [FAR, FAR + 1]
