"""Commands from afar on a real worker and an emulated 2400 in virtual time: what is refused, and what never is.

Each check that protects the tip comes with a test that takes the check away and sees bias where none should be.
"""

from __future__ import annotations

import secrets
import time
from pathlib import Path
from typing import Any

import msgpack
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge.controller import remote as remote_module
from edge.controller.nonces import EVERY_NS, VALID_NS
from edge.controller.remote import MOST_DEPTH, Remote
from edge.guard.states import State
from edge.ring import Kind
from hil.virtual_bench import MS, VirtualBench, on_bench
from tests.edge.controller.remote_bench import ALL, SECOND, SWEEP, Afar, from_afar, remote_config


def deep(levels: int) -> dict[str, Any]:
    inner: dict[str, Any] = {}
    for _ in range(levels):
        inner = {"a": inner}
    return inner


def never_live(bench: VirtualBench) -> bool:
    """Whether the twin never saw bias on the tip."""
    return not any(entry["event"] == "live" for entry in bench.truth.entries) and not bench.rig.device.output_on


# ------------------------------------------------------------------------------------------------------- refusals


REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("a user who is not named", {"user": "mallory"}, "unknown_user"),
    ("no user", {"user": None}, "unknown_user"),
    ("a user that is no text", {"user": ["ana"]}, "unknown_user"),
    ("a name much like a user's", {"user": "Ana"}, "unknown_user"),
    ("a verb that this user may not", {"user": "bob"}, "verb_not_allowed"),
    ("a verb of the host only", {"verb": "shut_down"}, "unknown_verb"),
    ("no verb", {"verb": None}, "unknown_verb"),
    ("a verb that is no text", {"verb": {"stop": 1}}, "unknown_verb"),
    ("arguments that are no map", {"args": [1]}, "bad_args"),
    ("no arguments", {"args": None}, "bad_args"),
    ("arguments too deep", {"args": deep(MOST_DEPTH)}, "bad_args"),
    ("arguments with bytes", {"args": {"plan": b"iv"}}, "bad_args"),
    ("arguments without end", {"args": {"a": [[0] * 4096] * 6}}, "bad_args"),
    ("another epoch", {"epoch": "0123456789abcdef"}, "wrong_epoch"),
    ("no epoch", {"epoch": None}, "wrong_epoch"),
    ("an epoch that is no text", {"epoch": 7}, "wrong_epoch"),
    ("no nonce", {"nonce": None}, "bad_nonce"),
    ("a nonce that is a number", {"nonce": 7}, "bad_nonce"),
    ("a nonce in capitals", {"nonce": "A" * 32}, "bad_nonce"),
    ("a nonce that is too long", {"nonce": "a" * 33}, "bad_nonce"),
    ("a nonce with a line's end", {"nonce": "a" * 32 + "\n"}, "bad_nonce"),
    ("a nonce that was never given out", {"nonce": "0" * 32}, "unknown_nonce"),
    ("what the uplink refused", {"refused": ["retained", "a kept message"]}, "retained"),
    ("what the uplink refused in a way of its own", {"refused": {}}, "bad_message"),
]


@pytest.mark.parametrize(("change", "reason"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED])
def test_a_refused_run_has_its_reason_and_an_event_and_does_nothing(
    tmp_path: Path, change: dict[str, Any], reason: str
) -> None:
    async def test(afar: Afar) -> None:
        message = {"user": "ana", "verb": "run", "args": SWEEP, "epoch": afar.epoch, "nonce": await afar.nonce()}
        reply = afar.send(**{**message, **change})
        assert (reply["ok"], reply["data"], reply["error"]["reason"]) == (False, None, reason)
        assert reply["error"]["message"]
        await afar.pause(5 * SECOND)
        [event] = afar.commands()
        assert (event["ok"], event["reason"], event["via"]) == (False, reason, "mqtt")
        assert event["message"] == reply["error"]["message"][:300]
        assert afar.bench.rig.worker.runner.run is None
        assert never_live(afar.bench)

    from_afar(tmp_path, test)


def test_the_same_run_unchanged_is_granted(tmp_path: Path) -> None:
    async def test(afar: Afar) -> None:
        reply = await afar.ask("run", SWEEP)
        assert reply["ok"], reply
        run = await afar.bench.ended()
        assert (run["uid"], run["by"], run["status"]) == (reply["data"]["uid"], "mqtt:ana", "completed")
        [event] = afar.commands()
        assert {key: event[key] for key in ("user", "verb", "plan", "ok", "reason", "message")} == {
            "user": "ana",
            "verb": "run",
            "plan": "iv",
            "ok": True,
            "reason": None,
            "message": None,
        }

    from_afar(tmp_path, test)


CEILINGS: list[tuple[dict[str, Any], str]] = [
    ({"plan": "iv", "parameters": {"to_v": -10.5}}, "voltage_ceiling"),
    ({"plan": "iv", "parameters": {"to_v": -5.0}}, "series_resistor"),
    ({"plan": "iv", "parameters": {"to_v": -5.0, "accept_clamp": True}}, "series_resistor"),
    ({"plan": "iv", "parameters": {"limits": {"voltage_v": 100}}}, "bad_plan"),
    ({"plan": "none such", "parameters": {}}, "unknown_plan"),
    ({}, "unknown_plan"),
    ({"plan": "commission", "parameters": {}}, "needs_a_person"),
]


@pytest.mark.parametrize(("args", "reason"), CEILINGS, ids=[f"{reason} {n}" for n, (_, reason) in enumerate(CEILINGS)])
def test_the_ceilings_of_the_rig_s_file_hold_for_a_run_from_afar(
    tmp_path: Path, args: dict[str, Any], reason: str
) -> None:
    async def test(afar: Afar) -> None:
        assert await afar.reason("run", args) == reason
        await afar.pause(SECOND)
        assert never_live(afar.bench)

    from_afar(tmp_path, test)


def test_without_the_local_switch_nobody_far_away_energises(tmp_path: Path) -> None:
    async def test(afar: Afar) -> None:
        assert await afar.reason("run", SWEEP) == "energise_not_allowed"
        await afar.pause(SECOND)
        assert never_live(afar.bench)
        assert await afar.reason("status") == "granted"

    from_afar(tmp_path, test, config=remote_config(allow_energise=False))


def test_the_switch_is_off_and_nobody_is_named_by_default(tmp_path: Path) -> None:
    async def test(bench: VirtualBench) -> None:
        worker = bench.rig.worker
        assert worker.status()["command"] is None
        await bench.clock.sleep_until(bench.clock.now_ns() + 10 * SECOND)
        assert worker.remote.nonces.newest is None
        afar = Afar(bench)
        for verb in ALL:
            reply = afar.send(user="ana", verb=verb, args={}, epoch=afar.epoch, nonce="0" * 32)
            assert reply["error"]["reason"] == "unknown_user"
        afar.close()

    on_bench(tmp_path, test)
    assert remote_config().remote.model_construct().allow_energise is False


# --------------------------------------------------------------------------------------------------------- nonces


def test_a_nonce_is_good_once_for_whoever_comes_first(tmp_path: Path) -> None:
    async def test(afar: Afar) -> None:
        nonce = await afar.nonce()
        assert await afar.reason("status", user="bob", nonce=nonce) == "granted"
        assert await afar.reason("run", SWEEP, nonce=nonce) == "used_nonce"
        assert await afar.reason("status", user="bob", nonce=nonce) == "used_nonce"
        # The next one is another, and does what the first did not.
        assert await afar.nonce() != nonce
        assert await afar.reason("run", SWEEP) == "granted"

    from_afar(tmp_path, test)


def test_who_may_nothing_spends_no_nonce(tmp_path: Path) -> None:
    async def test(afar: Afar) -> None:
        nonce = await afar.nonce()
        for change in ({"user": "mallory"}, {"user": "bob", "verb": "rearm"}, {"epoch": "0" * 16}):
            message = {"user": "ana", "verb": "status", "args": {}, "epoch": afar.epoch, "nonce": nonce, **change}
            assert not afar.send(**message)["ok"]
        assert await afar.reason("status", nonce=nonce) == "granted"

    from_afar(tmp_path, test)


@pytest.mark.parametrize(("age_ns", "reason"), [(VALID_NS, "granted"), (VALID_NS + MS, "stale_nonce")])
def test_a_nonce_lasts_ten_seconds_of_the_monotonic_clock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, age_ns: int, reason: str
) -> None:
    # The wall clock steps by a day, back and forth, as at a time server's first answer: no nonce ages by that.
    steps = iter(range(10**9))
    monkeypatch.setattr(time, "time", lambda: 1.7e9 + (next(steps) % 2) * 86_400)
    monkeypatch.setattr(time, "time_ns", lambda: int(time.time() * 1e9))

    async def test(afar: Afar) -> None:
        nonce = await afar.nonce()
        drawn_ns, _ = afar.bench.rig.worker.remote.nonces._drawn[nonce]
        await afar.bench.clock.sleep_until(drawn_ns + age_ns)
        assert await afar.reason("status", nonce=nonce) == reason
        assert await afar.reason("status", nonce=nonce) == "used_nonce"

    from_afar(tmp_path, test)


def test_whoever_reads_the_status_has_time_to_use_what_it_says(tmp_path: Path) -> None:
    async def test(afar: Afar) -> None:
        seen = set()
        nonces = afar.bench.rig.worker.remote.nonces
        for _ in range(60):
            seen.add(nonce := await afar.nonce())
            drawn_ns, _ = nonces._drawn[nonce]
            assert afar.bench.clock.now_ns() - drawn_ns <= EVERY_NS + 40 * MS
            await afar.pause(SECOND)
        # One for every four seconds, and not one for every look.
        assert 14 <= len(seen) <= 17

    from_afar(tmp_path, test)


def test_another_life_of_the_controller_takes_nothing_meant_for_this_one(tmp_path: Path) -> None:
    kept: dict[str, str] = {}

    async def first(afar: Afar) -> None:
        kept.update(epoch=afar.epoch, nonce=await afar.nonce())

    async def second(afar: Afar) -> None:
        assert await afar.reason("run", SWEEP, **kept) == "wrong_epoch"
        assert await afar.reason("run", SWEEP, nonce=kept["nonce"]) == "unknown_nonce"
        assert never_live(afar.bench)

    from_afar(tmp_path, first)
    from_afar(tmp_path, second)


# ----------------------------------------------------------------------------------------------------------- stop


WHATEVER: dict[str, dict[str, Any]] = {
    "fresh": {},
    "a stale nonce": {"nonce": "0" * 32},
    "another epoch": {"epoch": "0" * 16},
    "no nonce and no epoch": {"epoch": None, "nonce": None},
    "everything of the wrong kind": {"epoch": [], "nonce": {"a": 1}, "args": 7},
    "arguments without bottom": {"args": deep(50)},
    "from one who may only look": {"user": "bob"},
    "from one who may nothing else": {"user": "eve"},
}


@pytest.mark.parametrize("change", WHATEVER.values(), ids=WHATEVER.keys())
def test_a_stop_is_never_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    async def test(afar: Afar) -> None:
        bench = afar.bench
        await afar.live()
        message = {
            "user": "ana",
            "verb": "stop",
            "args": {},
            "epoch": afar.epoch,
            "nonce": await afar.nonce(),
            **change,
        }
        asked_ns = bench.clock.now_ns()
        reply = afar.send(**message)
        assert (reply["ok"], reply["data"]) == (True, {"stopped": True, "t_ns": asked_ns})
        # Delivered twice: granted twice, and nothing happens by it.
        again = afar.send(**message)
        assert again["ok"], again
        run = await bench.ended()
        assert (run["status"], run["reason"]) == ("tripped", f"OPERATOR by mqtt:{message['user']}")
        safe_s = bench.safe_after(asked_ns)
        assert safe_s is not None
        assert safe_s < 0.1
        assert [event["ok"] for event in afar.commands()] == [True, True, True]
        assert bench.off

    users = {"ana": ALL, "bob": ["status"], "eve": []}
    from_afar(tmp_path, test, config=remote_config(users=users))


def test_a_stop_cuts_also_while_the_control_task_does_not_come_round(tmp_path: Path) -> None:
    async def test(afar: Afar) -> None:
        bench = afar.bench
        await afar.live()
        control = bench.rig._control
        assert control is not None
        # As busy as can be: it does not come back at all. The keeper would cut later on; this is the stop's own way.
        control.cancel()
        await bench.until(control.done)
        asked_ns = bench.clock.now_ns()
        assert afar.send(user="ana", verb="stop")["data"]["stopped"] is True
        await bench.until(lambda: not bench.rig.device.output_on, 0.2)
        safe_s = bench.safe_after(asked_ns)
        assert safe_s is not None
        assert safe_s < 0.1

    from_afar(tmp_path, test)


def test_a_stop_ends_a_run_that_is_still_asking_the_instrument(tmp_path: Path) -> None:
    async def test(afar: Afar) -> None:
        bench = afar.bench
        assert await afar.reason("run", SWEEP) == "granted"
        await bench.until(bench.engine._line_lock.locked)
        # Arming: the line is taken, and an answer outstanding.
        assert afar.send(user="ana", verb="stop")["data"]["stopped"] is True
        run = await bench.ended()
        assert (run["status"], run["reason"]) == ("stopped", "stopped by mqtt:ana")
        assert never_live(bench)

    from_afar(tmp_path, test)


def test_a_stop_with_nothing_to_stop_is_granted_too(tmp_path: Path) -> None:
    async def test(afar: Afar) -> None:
        reply = await afar.ask("stop")
        assert (reply["ok"], reply["error"], reply["data"]["stopped"]) == (True, None, False)
        assert afar.bench.engine.state is State.SAFE

    from_afar(tmp_path, test)


def test_nothing_that_takes_time_is_done_with_a_command_while_there_is_bias(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[object] = []

    def look(value: object) -> bool:
        looked.append(value)
        return True

    monkeypatch.setattr(remote_module, "_is_plain", look)

    async def test(afar: Afar) -> None:
        large = {"plan": "iv", "parameters": {"points": [0] * 4000}}
        await afar.live()
        assert looked == [SWEEP]
        for user in ("ana", "bob", "mallory"):
            for verb in ("run", "status", "rearm", "none such"):
                await afar.ask(verb, large, user=user)
        assert looked == [SWEEP]
        assert await afar.reason("run", large) == "BusyError"
        assert (await afar.bench.ended())["status"] == "completed"

    from_afar(tmp_path, test)


def test_a_stop_of_a_stranger_stops_nothing(tmp_path: Path) -> None:
    async def test(afar: Afar) -> None:
        await afar.live()
        assert await afar.reason("stop", user="mallory") == "unknown_user"
        assert (await afar.bench.ended())["status"] == "completed"

    from_afar(tmp_path, test)


# ------------------------------------------------------------------------------------------------------ other verbs


def test_a_trip_is_released_from_afar_by_who_may(tmp_path: Path) -> None:
    async def test(afar: Afar) -> None:
        bench = afar.bench
        assert await afar.reason("rearm") == "BusyError"
        await afar.live()
        await afar.ask("stop", user="bob")
        await bench.ended()
        assert bench.engine.state is State.TRIPPED
        assert await afar.reason("run", SWEEP) == "BusyError"
        assert await afar.reason("rearm", user="bob") == "verb_not_allowed"
        assert (await afar.ask("rearm"))["data"] == {"state": "SAFE"}
        rearms = [event for event in afar.records(Kind.EVENT) if event["kind"] == "rearm"]
        assert [event["by"] for event in rearms] == ["mqtt:ana"]

    from_afar(tmp_path, test)


def test_the_status_from_afar_is_the_status(tmp_path: Path) -> None:
    async def test(afar: Afar) -> None:
        reply = await afar.ask("status", user="bob")
        data = reply["data"]
        assert (data["rig"], data["state"], data["epoch"]) == ("virtual", "SAFE", afar.epoch)
        # Spent by this very command; the next one comes with a tick.
        assert data["command"] == {"nonce": None}
        assert len(await afar.nonce()) == 32

    from_afar(tmp_path, test)


@given(
    message=st.dictionaries(
        st.sampled_from(["user", "verb", "args", "epoch", "nonce", "refused", "by"]),
        st.recursive(
            st.none()
            | st.booleans()
            | st.integers(-(2**63), 2**64 - 1)
            | st.floats()
            | st.text(max_size=30)
            | st.binary(max_size=8)
            | st.sampled_from(["ana", "run", "status", "rearm", "iv"]),
            lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
            max_leaves=12,
        ),
    ),
    parameters=st.dictionaries(
        st.sampled_from(["to_v", "step_v", "dwell_s", "cycles", "on_trigger", "back_scan", "x"]),
        st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text(max_size=4),
    ),
)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_comes_gets_one_answer_that_can_be_packed(
    tmp_path: Path, message: dict[str, Any], parameters: dict[str, Any]
) -> None:
    directory = tmp_path / secrets.token_hex(8)
    directory.mkdir()

    async def test(afar: Afar) -> None:
        reply = afar.send(**{"user": None, **message})
        assert set(reply) == {"v", "ok", "error", "data"}
        assert msgpack.packb(reply)
        assert len(afar.commands()) == 1
        # As far as the plan itself: what no plan is made of is refused in words, too.
        reply = await afar.ask("run", {"plan": "iv", "parameters": parameters})
        assert reply["ok"] or reply["error"]["reason"]
        await afar.pause(100 * MS)

    from_afar(directory, test)


# ------------------------------------------------------------------------------------------ without the check: harm


def grant(*_: object) -> None:
    """In place of a check."""


@pytest.mark.parametrize("check", ["_check_fresh", None])
def test_a_run_that_is_delivered_twice_runs_once_and_twice_without_the_check(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, check: str | None
) -> None:
    if check is not None:
        monkeypatch.setattr(Remote, check, grant)

    async def test(afar: Afar) -> None:
        bench = afar.bench
        message = {"user": "ana", "verb": "run", "args": SWEEP, "epoch": afar.epoch, "nonce": await afar.nonce()}
        assert afar.send(**message)["ok"]
        await bench.ended()
        sweeps = len([entry for entry in bench.truth.entries if entry["event"] == "live"])
        assert sweeps
        # A minute later, out of some queue.
        await afar.pause(60 * SECOND)
        bench.rig.records()
        afar.send(**message)
        await afar.pause(5 * SECOND)
        again = len([entry for entry in bench.truth.entries if entry["event"] == "live"]) > sweeps
        assert again is (check is not None)

    from_afar(tmp_path, test, config=remote_config())


@pytest.mark.parametrize("without", [False, True])
def test_the_local_switch_is_what_keeps_the_bias_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, without: bool
) -> None:
    if without:
        monkeypatch.setattr(Remote, "_check_run", grant)

    async def test(afar: Afar) -> None:
        await afar.ask("run", SWEEP)
        await afar.pause(5 * SECOND)
        assert never_live(afar.bench) is not without

    from_afar(tmp_path, test, config=remote_config(allow_energise=False))


@pytest.mark.parametrize("without", [False, True])
def test_a_stop_judged_like_any_other_command_would_leave_the_bias_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, without: bool
) -> None:
    carry_out = Remote._carry_out

    def as_any_other(self: Remote, asked: dict[str, Any]) -> dict[str, Any]:
        if asked["verb"] == "stop":
            self._check_fresh(asked["epoch"], asked["nonce"])
        return carry_out(self, asked)

    if without:
        monkeypatch.setattr(Remote, "_carry_out", as_any_other)

    async def test(afar: Afar) -> None:
        await afar.live()
        afar.send(user="ana", verb="stop", args={}, epoch=afar.epoch, nonce="0" * 32)
        await afar.pause(200 * MS)
        assert afar.bench.rig.device.output_on is without

    from_afar(tmp_path, test)


def test_every_verb_of_the_rig_s_file_is_served_and_no_other(tmp_path: Path) -> None:
    async def test(bench: VirtualBench) -> None:
        assert set(bench.rig.worker.verbs()) == set(remote_module.VERBS)

    on_bench(tmp_path, test)
