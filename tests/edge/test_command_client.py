"""The client of commands against a real broker: what it quotes, what it tries again, and what it says of silence."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import structlog

from edge.client import NoBrokerError
from edge.clock import LoopClock
from edge.command_client import TRIES, Commander
from edge.control_client import VERSION
from edge.errors import BusyError, PlanRefusedError
from edge.uplink.commands import CommandRelay
from edge.uplink.mqtt import Connection, Incoming, Publication, connect
from edge.uplink.settings import UplinkSettings
from hil.broker import Broker, available, free_port
from tests.deploy.lab_broker import Lab

pytestmark = pytest.mark.skipif("mosquitto" not in available(), reason="needs mosquitto")
EPOCH = "00000000000000ab"


@pytest.fixture(scope="module")
def broker() -> Iterator[Broker]:
    with Broker(prefer="mosquitto") as running:
        yield running


class FarRig:
    """A rig with our own connection and relay, and a worker that says what the test wants."""

    def __init__(self, connection: Connection, settings: UplinkSettings) -> None:
        self.asked: list[dict[str, Any]] = []
        self.came: list[Incoming] = []
        self.deaf = False
        self.answer: Callable[[dict[str, Any]], dict[str, Any] | None] = lambda _: {}
        self._connection = connection
        self._settings = settings
        self.relay = CommandRelay(
            settings, clock=LoopClock(), publish=connection.publish, log=structlog.get_logger("test"), ask=self.ask
        )

    def take(self, incoming: Incoming) -> None:
        self.came.append(incoming)
        if not self.deaf:
            self.relay.take(incoming)

    async def ask(self, message: Mapping[str, Any]) -> dict[str, Any]:
        self.asked.append(dict(message))
        data = self.answer(dict(message))
        if data is None:
            raise TimeoutError
        if "reason" in data:
            return {"v": VERSION, "ok": False, "error": {"message": "no", **data}, "data": None}
        return {"v": VERSION, "ok": True, "error": None, "data": data}

    async def say(self, nonce: str | None, **other: Any) -> None:  # noqa: ANN401 - of the status
        worker = {"state": "SAFE", "epoch": EPOCH, "command": {"nonce": nonce}, "t_ns": 5}
        status = {"v": 1, "rig": self._settings.rig, "online": True, "worker": worker, **other}
        await self.publish("status", status, retain=True)

    async def publish(self, name: str, document: Mapping[str, Any], *, retain: bool = False) -> None:
        payload = json.dumps(document).encode()
        await self._connection.publish(Publication(self._settings.topic(name), payload, retain=retain))


@contextlib.asynccontextmanager
async def far_rig(broker: Broker, name: str, **tls: Any) -> AsyncIterator[FarRig]:  # noqa: ANN401 - the settings' own
    users = frozenset({"ana"})
    settings = UplinkSettings(name, Path("/nowhere/ring"), port=broker.port, remote_users=users, **tls)
    async with connect(settings, Publication(settings.topic("will"), b"")) as connection:
        rig = FarRig(connection, settings)
        connection.on_message = rig.take
        assert rig.relay.topic_filter is not None
        assert max(await connection.subscribe([rig.relay.topic_filter], kept=False)) < 0x80
        # aiomqtt reads the socket only while somebody waits for messages.
        tasks = [asyncio.create_task(rig.relay.run()), asyncio.create_task(connection.lost())]
        yield rig
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def ana(broker: Broker, rig: str, **other: Any) -> Commander:  # noqa: ANN401 - the Commander's own
    return Commander(broker.host, broker.port, rig=rig, user="ana", **other)


async def test_a_command_quotes_what_the_status_shows_and_gets_its_answer(broker: Broker) -> None:
    async with far_rig(broker, "r1") as rig, ana(broker, "r1") as commander:
        rig.answer = lambda asked: {"verb": asked["verb"], "args": asked["args"]}
        await rig.say("1" * 32)
        assert await commander.ask("run", {"plan": "iv"}) == {"verb": "run", "args": {"plan": "iv"}}
        [asked] = rig.asked
        assert (asked["user"], asked["epoch"], asked["nonce"]) == ("ana", EPOCH, "1" * 32)
        [came] = rig.came
        assert (came.retain, came.content_type) == (False, "application/json")


async def test_no_nonce_is_quoted_twice(broker: Broker) -> None:
    async with far_rig(broker, "r2") as rig, ana(broker, "r2") as commander:
        await rig.say("1" * 32)
        await commander.ask("status")
        second = asyncio.create_task(commander.ask("status"))
        await rig.say("1" * 32)
        await rig.say(None)
        await rig.say("2" * 32)
        await second
        assert [asked["nonce"] for asked in rig.asked] == ["1" * 32, "2" * 32]


async def test_what_was_overtaken_is_asked_again_and_what_was_judged_is_not(broker: Broker) -> None:
    async with far_rig(broker, "r3") as rig, ana(broker, "r3") as commander:
        nonces = iter(f"{number:032x}" for number in range(100))
        reasons = iter(["stale_nonce", "wrong_epoch", None])
        loop = asyncio.get_running_loop()
        later: list[asyncio.Task[None]] = []

        def answer(_asked: dict[str, Any]) -> dict[str, Any]:
            later.append(loop.create_task(rig.say(next(nonces))))
            reason = next(reasons)
            return {} if reason is None else {"reason": reason}

        rig.answer = answer
        await rig.say(next(nonces))
        assert await commander.ask("rearm") == {}
        assert len(rig.asked) == TRIES == len({asked["nonce"] for asked in rig.asked})
        rig.answer = lambda _asked: {"reason": "verb_not_allowed", "message": "may not"}
        with pytest.raises(PlanRefusedError, match="rig r3: may not") as caught:
            await commander.ask("rearm")
        assert caught.value.reason == "verb_not_allowed"
        assert len(rig.asked) == TRIES + 1
        await asyncio.gather(*later)


async def test_a_stop_waits_for_no_status(broker: Broker) -> None:
    async with far_rig(broker, "r4") as rig, ana(broker, "r4") as commander:
        rig.answer = lambda _asked: {"stopped": True}
        assert await commander.stop() == {"stopped": True}
        assert commander.status is None


async def test_a_rig_that_is_not_there_is_said_at_once(broker: Broker) -> None:
    async with ana(broker, "nowhere") as commander:
        with pytest.raises(BusyError, match="rig nowhere does not listen"):
            await commander.stop()


async def test_a_worker_that_does_not_answer_is_said_by_the_uplink(broker: Broker) -> None:
    async with far_rig(broker, "r5") as rig, ana(broker, "r5") as commander:
        rig.answer = lambda _asked: None
        await rig.say("1" * 32)
        with pytest.raises(PlanRefusedError, match="does not answer") as caught:
            await commander.ask("run", {})
        assert caught.value.reason == "no_controller"


async def test_no_answer_at_all_is_an_end_too(broker: Broker) -> None:
    async with far_rig(broker, "r6") as rig, ana(broker, "r6", answer_s=0.05) as commander:
        # Hears, and says nothing.
        rig.deaf = True
        with pytest.raises(BusyError, match=r"did not answer within 0\.05 s; whether it was done"):
            await commander.stop()


@pytest.mark.parametrize(
    ("name", "status", "says"),
    [
        ("r7-0", {"online": False, "cause": "connection lost", "worker": None}, "is offline: connection lost"),
        ("r7-1", {"worker": {"state": "SAFE", "epoch": EPOCH, "command": None}}, "takes no commands from afar"),
    ],
)
async def test_a_status_that_promises_nothing_is_not_waited_for(
    broker: Broker, name: str, status: dict[str, Any], says: str
) -> None:
    async with far_rig(broker, name) as rig, ana(broker, name) as commander:
        await rig.say(None, **status)
        with pytest.raises(BusyError, match=says):
            await commander.ask("status")
        assert rig.asked == []


async def test_a_broker_that_forbids_it_is_said(tmp_path: Path) -> None:
    acl = tmp_path / "acl"
    acl.write_text("topic readwrite tipguard/reply/#\ntopic read tipguard/#\n", encoding="utf-8")
    with Broker(prefer="mosquitto", mosquitto_lines=f"acl_file {acl}") as broker:
        async with ana(broker, "r8") as commander:
            with pytest.raises(PlanRefusedError, match="does not let us publish to tipguard/r8/cmd/ana") as caught:
                await commander.stop()
        assert caught.value.reason == "broker_denied"


async def test_on_the_lab_s_broker_who_asks_is_who_the_certificate_names(tmp_path: Path) -> None:
    lab = Lab(tmp_path / "lab")
    files = lab.files("rig-1")
    tls = {"tls_ca_file": files.ca_file, "tls_cert_file": files.cert_file, "tls_key_file": files.key_file}

    def person(name: str, certificate: str) -> Commander:
        context = lab.files(certificate).context()
        return Commander("localhost", secure.port, rig="rig-1", user=name, tls=context)

    with lab.broker() as secure:
        async with far_rig(secure, "rig-1", host="localhost", **tls) as rig:
            rig.answer = lambda asked: {"user": asked["user"]}
            await rig.say("1" * 32)
            async with person("ana", "user-ana") as commander:
                # Its way back goes through the access list, too.
                assert await commander.ask("status") == {"user": "ana"}
            async with person("ana", "user-bob") as commander:
                with pytest.raises(PlanRefusedError, match="does not let us publish"):
                    await commander.stop()
            assert [asked["user"] for asked in rig.asked] == ["ana"]


async def test_no_broker_and_one_that_dies(broker: Broker) -> None:
    with pytest.raises(NoBrokerError, match="is it running there"):
        async with Commander(port=free_port(), rig="r9", user="ana"):
            pass
    with Broker(prefer="mosquitto") as mortal:
        async with ana(mortal, "r9") as commander:
            waiting = asyncio.create_task(commander.until_run_ends("1"))
            await asyncio.sleep(0)
            mortal.kill()
            with pytest.raises(NoBrokerError):
                await waiting
            with pytest.raises(NoBrokerError):
                await commander.stop()


async def test_the_end_of_a_run_is_waited_for_and_an_older_one_s_is_not_it(broker: Broker) -> None:
    async with far_rig(broker, "r10") as rig:
        await rig.publish("json/runs", {"doc": {"kind": "stop", "uid": "2", "status": "old"}}, retain=True)
        async with ana(broker, "r10") as commander:
            await rig.publish("json/runs", {"doc": {"kind": "stop", "uid": "1"}})
            await rig.publish("json/runs", {"doc": {"kind": "progress", "uid": "2"}})
            await rig.publish("json/runs", {"doc": ["what is this"]})
            await rig.publish("json/runs", {"doc": {"kind": "stop", "uid": "2", "status": "completed"}})
            assert (await commander.until_run_ends("2"))["status"] == "completed"
            waiting = asyncio.create_task(commander.until_run_ends("3"))
            await rig.say(None, online=False, cause="connection lost")
            with pytest.raises(BusyError, match="nothing here tells whether the output is off"):
                await waiting


async def test_what_the_broker_kept_is_not_delivered_as_a_command(broker: Broker) -> None:
    async with far_rig(broker, "r11") as rig:
        await rig._connection.publish(Publication("tipguard/r11/cmd/ana", b"stop", retain=True))
        await rig._connection.publish(Publication("tipguard/r11/cmd/ana", b'{"v":1}', retain=True))
        async with ana(broker, "r11") as commander:
            await commander.stop()
        # Both came while the rig was there, and are known for what they are: the one is obeyed, the other refused.
        assert [came.retain for came in rig.came] == [True, True, False]
        assert sorted(asked.get("refused", ["stop"])[0] for asked in rig.asked) == ["retained", "stop", "stop"]
    async with far_rig(broker, "r11") as again:
        async with ana(broker, "r11") as commander:
            await commander.stop()
        assert [came.retain for came in again.came] == [False]
        await again._connection.publish(Publication("tipguard/r11/cmd/ana", b"", retain=True))
