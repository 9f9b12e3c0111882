"""Commands from afar are on the flight record: a replay judges them again and comes to the same."""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgpack
import pytest

from edge.controller.remote import Remote
from edge.flight import Stretch, cut_out, read_flight, run_uids, stretches
from edge.ring import Kind
from edge.tape import DRAW, VERB, pack, unpack
from hil.replay import Replayed, replay
from hil.replay.fixture import stripped
from hil.replay.words import lines
from tests.edge.controller.remote_bench import SECOND, SWEEP, Afar, from_afar, remote_config


def recorded(work: Callable[[Afar], Awaitable[None]], **options: Any) -> Stretch:  # noqa: ANN401 - the bench's own
    """Return the one stretch of a bench's whole life."""
    with tempfile.TemporaryDirectory() as folder:

        async def whole(afar: Afar) -> None:
            await work(afar)
            afar.bench.rig.worker.recorder.flush_tape()

        from_afar(Path(folder), whole, **options)
        [stretch], notes = stretches(read_flight(Path(folder) / "ring").records)
    assert notes == []
    return stretch


def is_same(stretch: Stretch) -> Replayed:
    """Replay; events are those recorded, byte by byte."""
    replayed = replay(stretch)
    assert replayed.difference is None, replayed.difference.line()
    theirs = [record.payload for record in stretch.whole() if record.kind == Kind.EVENT]
    assert [record.payload for record in replayed.records if record.kind == Kind.EVENT] == theirs
    return replayed


async def a_day_of_commands(afar: Afar) -> None:
    """Granted, refused, a stop under bias, a rearm, a run later on."""
    nonce = await afar.nonce()
    assert await afar.reason("status", user="bob", nonce=nonce) == "granted"
    assert await afar.reason("run", SWEEP, nonce=nonce) == "used_nonce"
    assert await afar.reason("run", {"plan": "iv", "parameters": {"to_v": -10.5}}) == "voltage_ceiling"
    assert await afar.reason("run", SWEEP, user="mallory") == "unknown_user"
    await afar.live()
    assert await afar.reason("stop", user="bob", epoch=None) == "granted"
    await afar.bench.ended()
    await afar.pause(SECOND)
    assert await afar.reason("rearm") == "granted"
    # Long enough for a checkpoint, and for a nonce to go stale.
    old = await afar.nonce()
    await afar.pause(12 * SECOND)
    assert await afar.reason("run", SWEEP, nonce=old) == "stale_nonce"
    assert await afar.reason("run", SWEEP) == "granted"
    await afar.bench.ended()
    await afar.pause(SECOND)


@functools.cache
def day() -> Stretch:
    return recorded(a_day_of_commands)


def commands(records: list[dict[str, Any]]) -> list[tuple[str, str | None]]:
    return [(event["verb"], event["reason"]) for event in records if event["kind"] == "command"]


def test_commands_of_every_outcome_replay() -> None:
    replayed = is_same(day())
    assert commands(replayed.documents(Kind.EVENT)) == [
        ("status", None),
        ("run", "used_nonce"),
        ("run", "voltage_ceiling"),
        ("run", "unknown_user"),
        ("run", None),
        ("stop", None),
        ("rearm", None),
        ("run", "stale_nonce"),
        ("run", None),
    ]
    assert [cut["verdict"] for cut in replayed.cuts] == ["OPERATOR"]
    assert replayed.state == "SAFE"
    assert len(replayed.samples) > 100


def test_the_second_run_replays_from_a_checkpoint_with_the_nonces_of_then() -> None:
    second = cut_out(day(), run_uids(day())[1])
    assert second.start["from"] == "checkpoint"
    assert len(second.start["state"]["nonces"]) > 1
    assert commands(is_same(second).documents(Kind.EVENT))[-2:] == [("run", "stale_nonce"), ("run", None)]


def test_a_command_is_on_the_tape_once_with_all_that_it_said() -> None:
    verbs = [entry for entry in day().entries() if not isinstance(entry, int) and entry[0] == VERB]
    # What a command led to, a run or a stop, is the command's own: played twice it would be refused, or stop twice.
    assert [entry[2] for entry in verbs] == ["command"] * 9
    refused, granted = verbs[3][3], verbs[4][3]
    # Of a stranger's only what he wanted: the rest is neither gone through nor kept.
    assert (refused["by"], refused["verb"], refused["plan"], refused["args"]) == ("mallory", "run", "iv", {})
    assert (granted["by"], granted["args"], len(granted["nonce"])) == ("ana", SWEEP, 32)
    drawn = [entry for entry in day().entries() if not isinstance(entry, int) and entry[:2] == (DRAW, "nonce")]
    assert len(drawn) >= 2 * 7
    assert any("* command by=ana verb=run" in line for line in lines(day()))


def test_a_draw_that_is_missing_shows() -> None:
    records = []
    for record in day().records:
        if record.kind == Kind.TAPE:
            kept = [e for e in unpack(record.payload) if isinstance(e, int) or e[:2] != (DRAW, "nonce")]
            record = record._replace(payload=pack(kept))  # noqa: PLW2901
        records.append(record)
    assert replay(Stretch(day().start, records)).difference is not None


def test_a_judge_that_judges_otherwise_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    stretch = day()
    monkeypatch.setattr(Remote, "_check_fresh", lambda *_: None)
    replayed = replay(stretch)
    assert replayed.difference is not None


@pytest.mark.parametrize("refused", [["retained", "kept"], None])
def test_what_the_uplink_refused_replays(refused: list[str] | None) -> None:
    async def work(afar: Afar) -> None:
        unlike = {"epoch": 7, "nonce": [1]} if refused else {"epoch": afar.epoch, "nonce": await afar.nonce()}
        afar.send(user="ana", verb="run", args={"deep": [b"bytes"]}, refused=refused, **unlike)
        await afar.pause(SECOND)

    [(verb, reason)] = commands(is_same(recorded(work)).documents(Kind.EVENT))
    assert (verb, reason) == ("run", "retained" if refused else "bad_args")


def test_a_fixture_has_no_names_of_users_and_is_judged_the_same() -> None:
    async def work(afar: Afar) -> None:
        assert await afar.reason("status", user="grace.hopper") == "granted"
        assert await afar.reason("rearm", user="ada.lovelace") == "verb_not_allowed"
        assert await afar.reason("run", SWEEP, user="mallory") == "unknown_user"
        await afar.pause(SECOND)
        assert await afar.reason("run", SWEEP, user="grace.hopper") == "granted"
        await afar.bench.ended()

    users = {"grace.hopper": ["run", "status"], "ada.lovelace": ["status"]}
    stretch = recorded(work, config=remote_config(users=users))
    bare = stripped(cut_out(stretch, run_uids(stretch)[0]))
    whole = bytes(msgpack.packb(bare.start)) + b"".join(record.payload for record in bare.records)
    assert not any(name.encode() in whole for name in (*users, "mallory"))
    assert list(bare.start["config"]["remote"]["users"]) == ["remote-1", "remote-2"]
    replayed = replay(bare, essential=True)
    assert replayed.difference is None, replayed.difference.line()
    assert commands(replayed.documents(Kind.EVENT))[-1] == ("run", None)
