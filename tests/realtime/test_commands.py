"""Commands from another computer, end to end: the verbs as typed, Mosquitto, uplink, keeper and worker, the twin."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from edge.flight import read_flight, stretches
from edge.ring import Kind
from hil.broker import Broker, available
from hil.processes import BenchRig, RigSpec, wait_for
from hil.processes.spec import TIPGUARD
from hil.replay import replay
from tests.live_runs import TRIES, flowing, rearm_after_lateness

pytestmark = [
    pytest.mark.processes,
    pytest.mark.timeout(120),
    pytest.mark.skipif("mosquitto" not in available(), reason="needs mosquitto"),
]
SWEEP = ("iv", "--to-v", "-0.5", "--step-v", "0.001", "--no-back-scan")
"""Under bias for twenty seconds and more: no test waits for its end."""
SHORT = ("iv", "--to-v", "-0.1", "--step-v", "0.01", "--no-back-scan")
LONG = os.environ.get("TIPGUARD_LONG") == "1"
long_only = pytest.mark.skipif(not LONG, reason="long rounds: TIPGUARD_LONG=1")
REMOTE = """
[remote]
allow_energise = true
users = { ana = ["status", "stop", "run", "rearm"], bob = ["stop"] }
"""


class Ear:
    """Somebody on the broker who hears what is commanded, and can send the same again."""

    def __init__(self, port: int) -> None:
        self.heard: list[mqtt.MQTTMessage] = []
        subscribed = threading.Event()
        self._client = client = mqtt.Client(CallbackAPIVersion.VERSION2, protocol=MQTTProtocolVersion.MQTTv5)
        client.on_connect = lambda client, userdata, flags, code, properties: client.subscribe("tipguard/+/cmd/#", 1)
        client.on_subscribe = lambda client, userdata, mid, codes, properties: subscribed.set()
        client.on_message = lambda client, userdata, message: self.heard.append(message)
        client.connect("127.0.0.1", port)
        client.loop_start()
        assert subscribed.wait(10)

    def again(self, message: mqtt.MQTTMessage, *, retain: bool = False) -> None:
        self.send(message.topic, bytes(message.payload), retain=retain)

    def send(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        self._client.publish(topic, payload, 1, retain).wait_for_publish(10)

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


class Far:
    """A rig with its broker, and a person at another computer."""

    def __init__(self, rig: BenchRig, broker: Broker, ear: Ear) -> None:
        self.rig = rig
        self.broker = broker
        self.ear = ear
        # A computer without a rig: no run directory, no configuration.
        self._elsewhere = rig.directory / "elsewhere"
        self._elsewhere.mkdir()
        self.sweeps = 0
        """Begun so far by :meth:`run_until_live`."""
        self.ended_runs = 0
        """Begun so far by :meth:`run_to_its_end`."""
        self._begun: list[subprocess.Popen[str]] = []
        self._environment = {**os.environ, "RUNTIME_DIRECTORY": str(self._elsewhere)}

    def command(self, verb: str, user: str, *words: str, json_output: bool = True) -> list[str]:
        way = ("--rig", "bench", "--via", f"127.0.0.1:{self.broker.port}", "--as", user)
        return [*TIPGUARD, verb, *way, *words, *(["--json"] if json_output else [])]

    def begin(self, verb: str, user: str, *words: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            self.command(verb, user, *words),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=self._elsewhere,
            env=self._environment,
        )
        self._begun.append(process)
        return process

    def close(self) -> None:
        """End what a failed test left behind, and what nobody has heard out."""
        self.ear.close()
        for process in self._begun:
            if process.poll() is None:
                process.kill()
            if process.stdout is not None and not process.stdout.closed:
                process.communicate(timeout=10)

    def typed(self, verb: str, user: str, *words: str) -> tuple[int, dict[str, Any]]:
        process = self.begin(verb, user, *words)
        stdout, stderr = process.communicate(timeout=30)
        assert stdout.count("\n") == 1, (stdout, stderr)
        return process.returncode, json.loads(stdout)

    def reason(self, verb: str, user: str, *words: str) -> str:
        code, said = self.typed(verb, user, *words)
        assert code == 1, said
        return str(said["error"]["reason"])

    def run_until_live(self, user: str = "ana") -> subprocess.Popen[str]:
        return flowing(self.rig, partial(self._begin_sweep, user))

    def _begin_sweep(self, user: str) -> subprocess.Popen[str]:
        self.sweeps += 1
        return self.begin("run", user, *SWEEP)

    def run_to_its_end(self, user: str, *words: str) -> dict[str, Any]:
        """Return the run; begun again where the host's lateness, and nothing else, cut it."""
        for _ in range(TRIES):
            self.ended_runs += 1
            code, said = self.typed("run", user, *words)
            if code == 0:
                return dict(said["run"])
            rearm_after_lateness(self.rig)
        pytest.fail(f"the host was late {TRIES} times")

    def commands(self) -> list[tuple[str, str | None, str | None]]:
        """Return user, verb and reason of every command in the flight record so far."""
        segments = self.rig.directory / "state" / "flight" / "bench"
        if not segments.is_dir() or not list(segments.iterdir()):
            return []
        found, _ = stretches(read_flight(segments).records)
        events = [event for stretch in found for event in stretch.documents(Kind.EVENT)]
        return [(event["user"], event["verb"], event["reason"]) for event in events if event["kind"] == "command"]


@pytest.fixture
def far(tmp_path: Path) -> Iterator[Far]:
    spec = RigSpec(load="ohmic:1e6", config_text=lambda text: text + REMOTE)
    with (
        Broker(prefer="mosquitto") as broker,
        BenchRig.running(tmp_path / "rig", spec, broker=broker) as rig,
    ):
        far = Far(rig, broker, Ear(broker.port))
        try:
            yield far
        finally:
            far.close()


def test_a_run_and_its_stop_from_another_computer(far: Far) -> None:
    running = far.run_until_live()
    # Of one who may nothing else.
    code, said = far.typed("stop", "bob")
    assert (code, said) == (
        0,
        {"stopped": True, "output_verified_off": True, "state": "TRIPPED", "verdict": "OPERATOR"},
    )
    stdout, _ = running.communicate(timeout=30)
    assert running.returncode == 3
    assert json.loads(stdout)["run"]["reason"] == "OPERATOR by mqtt:bob"
    assert far.rig.truth()[-1]["event"] == "safe"


@long_only
def test_a_day_of_commands_from_afar(far: Far) -> None:
    rig = far.rig
    code, status = far.typed("status", "ana")
    assert (code, status["rig"], status["state"]) == (0, "bench", "SAFE")
    assert far.reason("status", "bob") == "verb_not_allowed"
    assert far.reason("run", "mallory", *SHORT) == "unknown_user"
    assert far.reason("run", "ana", "iv", "--to-v", "-20") == "voltage_ceiling"
    assert far.reason("rearm", "ana") == "BusyError"

    # A run, and the stop of one who may nothing else, on another computer.
    running = far.run_until_live()
    code, said = far.typed("stop", "bob")
    assert (code, said) == (
        0,
        {"stopped": True, "output_verified_off": True, "state": "TRIPPED", "verdict": "OPERATOR"},
    )
    stdout, _ = running.communicate(timeout=30)
    assert running.returncode == 3
    assert json.loads(stdout)["run"]["reason"] == "OPERATOR by mqtt:bob"
    assert rig.truth()[-1]["event"] == "safe"
    assert far.typed("rearm", "ana") == (0, {"state": "SAFE"})

    # Everything that was commanded once more, as it was and as something kept: nothing is energised, all is refused.
    live = len([entry for entry in rig.truth() if entry["event"] == "live"])
    before = list(far.ear.heard)
    runs = [message for message in before if b'"run"' in message.payload]
    # Two that were refused before.
    assert len(runs) == 2 + far.sweeps
    for message in runs:
        far.ear.again(message)
        far.ear.again(message, retain=True)
        far.ear.send(message.topic, b"", retain=True)

    # A run to its end, started after the replays had come: it is the only one.
    run = far.run_to_its_end("ana", *SHORT)
    assert (run["status"], run["by"]) == ("completed", "mqtt:ana")
    assert len([entry for entry in rig.truth() if entry["event"] == "live"]) <= live + 2 * far.ended_runs

    # Ctrl-C at the other computer cuts here.
    running = far.run_until_live()
    running.send_signal(signal.SIGINT)
    running.communicate(timeout=30)
    assert running.returncode == 130
    assert rig.wait_state("TRIPPED")["run"]["reason"] == "OPERATOR by mqtt:ana"

    # All of it is on record, and judged the same when it is lived through again.
    wait_for("the last stop on disk", lambda: far.commands().count(("ana", "stop", None)) or None, 15.0)
    refusals = [reason for _, _, reason in far.commands() if reason is not None]
    assert refusals.count("used_nonce") + refusals.count("stale_nonce") + refusals.count("unknown_nonce") >= 2
    assert {"verb_not_allowed", "unknown_user", "voltage_ceiling", "BusyError", "retained", "malformed"} <= set(
        refusals
    )
    [stretch], notes = stretches(read_flight(rig.directory / "state" / "flight" / "bench").records)
    assert notes == []
    replayed = replay(stretch)
    assert replayed.difference is None, replayed.difference.line()
    assert len(replayed.documents(Kind.EVENT)) > 12


@long_only
def test_a_stop_in_one_word_and_in_any_state_of_the_message_cuts(far: Far) -> None:
    for topic, payload, retain in (
        ("tipguard/bench/cmd/bob", b"stop", False),
        ("tipguard/bench/cmd/ana", b'{"verb":"stop","nonce":"0","epoch":[]}', True),
    ):
        running = far.run_until_live()
        far.ear.send(topic, payload, retain=retain)
        status = far.rig.wait_state("TRIPPED")
        assert status["run"]["reason"] == f"OPERATOR by mqtt:{topic.rsplit('/', 1)[1]}"
        running.communicate(timeout=30)
        assert running.returncode == 3
        assert far.typed("rearm", "ana")[0] == 0
    # What the broker kept of it stops nothing when the uplink comes back.
    far.rig.uplink.kill()
    far.rig.start_uplink()
    # Until it has connected, the broker shows the status of the one before, and its nonce is spent.
    wait_for("an answer from afar", lambda: far.typed("status", "ana")[0] == 0, 20)
    running = far.run_until_live()
    assert far.typed("stop", "bob")[0] == 0
    running.communicate(timeout=30)
