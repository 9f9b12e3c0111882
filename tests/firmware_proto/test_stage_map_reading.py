"""A command map as a file has it: every wrong key, value and gap is named, and what an interlock needs is demanded."""

from __future__ import annotations

import copy
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from firmware_proto.stage_map import MapError, StageMap, read_map

ROOT = Path(__file__).resolve().parent.parent.parent
SCPI = ROOT / "deploy/examples/stage-scpi.toml"
ODD = ROOT / "tests/edge/instruments/maps/odd.toml"
GONE = object()


def table(path: Path = SCPI) -> dict[str, Any]:
    return tomllib.loads(path.read_text(encoding="utf-8"))


def changed(key: str, value: object, path: Path = SCPI) -> dict[str, Any]:
    """Return a map's table with one key changed, or gone."""
    data = table(path)
    *sections, last = key.split(".")
    inner: dict[str, Any] = data
    for section in sections:
        inner = inner.setdefault(section, {})
    if value is GONE:
        del inner[last]
    else:
        inner[last] = value
    return data


@pytest.mark.parametrize("path", [SCPI, ODD])
def test_the_maps_are_whole(path: Path) -> None:
    rules = read_map(table(path))
    assert len(rules.axes) == 3
    assert isinstance(rules, StageMap)


NEEDED = {
    "line": "how messages and replies end",
    "identify": "who it is before anything moves",
    "axes": "at least one axis",
    "move": "nothing moves",
    "target": "a target that lost a digit on its way is another, valid target",
    "position": "nobody knows where the tip is",
    "stop": "a stage that cannot be told to stop is not moved",
    "error": "the output stays off over a stage with an error",
    "contact": "nobody knows whether the tip touches",
    "line.send_end": "what ends a message",
    "line.reply_end": "what ends a reply",
    "identify.query": "who is there",
    "identify.reply": "such as",
    "axes.x.unit_m": "how many m",
    "axes.x.decimals": "how many decimals",
    "move.command": "nothing moves",
    "move.window_m": "how far from its target",
    "target.query": "reads it back",
    "position.reply": "such as {value}",
    "moving.true": "mean yes",
    "moving.false": "mean no",
    "error.none": "no error",
    "servo.query": "has to be read back",
    "servo.on": "closes a loop",
    "contact.query": "deflection signal",
    "limits.high": "end of travel",
}


@pytest.mark.parametrize("key", NEEDED)
def test_what_is_needed_and_not_there_is_refused_with_the_reason(key: str) -> None:
    with pytest.raises(MapError) as caught:
        read_map(changed(key, GONE))
    assert caught.value.key == key
    assert str(caught.value).startswith(f"{key}: is missing; ")
    assert NEEDED[key] in str(caught.value)


@pytest.mark.parametrize(
    ("key", "wrong"),
    [("stop.command", "comand"), ("position.query", "quary"), ("move.window_m", "window"), ("stop", "stpo")],
)
def test_a_misspelt_key_is_pointed_at(key: str, wrong: str) -> None:
    *sections, name = key.split(".")
    data = table()
    inner = data[sections[0]] if sections else data
    inner[wrong] = inner.pop(name)
    with pytest.raises(MapError, match=rf"Is '{wrong}' there meant to be '{name}'\?"):
        read_map(data)


def test_neither_moving_nor_on_target_is_refused_and_one_of_them_will_do() -> None:
    data = changed("moving", GONE)
    assert read_map(data).moving is None
    del data["on_target"]
    with pytest.raises(MapError, match=r"^moving: is missing; the output goes on only over a stage that stands still"):
        read_map(data)
    assert read_map(changed("on_target", GONE)).on_target is None


WRONG: list[tuple[str, object, str]] = [
    ("lime", {}, "unknown key 'lime'; expected one of: acknowledge, axes, contact, emulated, error"),
    ("line", 3, "value 3: expected a table"),
    ("line.send_end", "LFCR", "value 'LFCR': expected one of: LF, CR, CRLF"),
    ("line.reply_end", 10, "value 10: expected one of: LF, CR, CRLF, ANY"),
    ("line.echo", 1, "value 1: expected true or false"),
    ("line.reply_timeout_s", 0.01, "value 0.01: expected 0.05 to 10"),
    ("line.reply_timeout_s", True, "expected a number"),
    ("line.reply_timeout_s", float("nan"), "expected a number"),
    ("line.max_reply", 1e3, "expected an integer"),
    ("line.numbers", "free", "expected one of: fixed, exponent"),
    ("line.timeout", 1, "unknown key 'timeout'; expected one of: echo, max_reply"),
    ("acknowledge", {"ok": "OK", "error": "ERR"}, "field {code} is missing"),
    ("acknowledge.error", "ERR {code}", "acknowledge.ok: is missing"),
    ("identify.query", "", "value '': expected text, 1 to 120"),
    ("identify.query", "*IDN?\n", "printable characters of ASCII"),
    ("identify.query", "*IDN\u00fc", "printable characters of ASCII"),
    ("identify.reply", "{maker},{serial}", "field {model} is missing"),
    ("identify.reply", "{model}{serial}", "need something between them"),
    ("identify.expect_model", "", "expected text, 1 to 64"),
    ("axes", {}, "0 axes; expected 1 to 16"),
    ("axes.x-1", {}, "axes.x-1: expected a name of 1 to 16 letters"),
    ("axes.x.wire", "X Y", "letters, digits or underscores"),
    ("axes.y.wire", "x", "another axis has this name"),
    ("axes.x.unit_m", 0, "expected 1e-12 to 1"),
    ("axes.x.unit_m", "um", "expected a number"),
    ("axes.x.sign", -1, "expected one of: +, -"),
    ("axes.x.decimals", 10, "expected an integer, 0 to 9"),
    ("axes.x.decimals", 4.0, "expected an integer, 0 to 9"),
    ("axes.x.reply_decimals", -1, "expected an integer, 0 to 12"),
    ("axes.x.high_m", 0.0, "expected above low_m (0)"),
    ("axes.x.velocity_m_s", 0, "expected 1e-09 to 1"),
    ("axes.x.travel", 1, "unknown key 'travel'"),
    ("limits.high", "CONF:LIM:LOW? {axis}", "the same query as limits.low"),
    ("limits.low", "CONF:LIM:LOW?", "field {axis} is missing; there are 3 axes"),
    ("velocity.query", "CONF:VEL?", "field {axis} is missing; there are 3 axes"),
    ("move.command", "MOVE {axis}", "field {value} is missing"),
    ("move.command", "MOVE {value}", "field {axis} is missing"),
    ("move.command", "MOVE {axis} {value} {speed}", "field {speed} is not known here; expected {axis}, {value}"),
    ("move.command", "MOVE {axis} {value}\nMOVE", "printable characters of ASCII"),
    ("move.command", "MOVE {axis} {value}\t", "printable characters of ASCII"),
    ("move.command", " MOVE {axis} {value}", "no spaces at the beginning"),
    ("move.command", "MOVE {axis} {value", "a brace that belongs to no field"),
    ("move.command", "MOVE {axis} {axis} {value}", "stands there twice"),
    ("move.command", "M" * 110 + "{axis},{value}", "printable characters"),
    ("move.command", "MOVE {list}", "move.item: is missing"),
    ("move.window_m", 1e-11, "expected 1e-10 to 1e-05"),
    ("move.settle_s", -1, "expected 0 to 600"),
    ("target.query", "MEAS:POS? {axis}", "this is position.query"),
    ("target.verify", "no", "expected one of: readback, position"),
    ("target.tolerance_m", 1.0, "expected 0 to 1e-06"),
    ("position.query", "MEAS:POS?", "field {axis} is missing; there are 3 axes"),
    ("position.reply", "{list}", "field {axis} is not known here; expected none"),
    ("position.reply", "{value} um {value}", "stands there twice"),
    ("moving.true", [], "expected a list of words"),
    ("moving.true", "1", "expected a list of words"),
    ("moving.true", [1], "expected a list of words"),
    ("moving.false", ["0", "1"], "1 cannot mean both"),
    ("moving.mask", 4, "there is no [status]"),
    ("stop.byte", 0x18, "expected either command"),
    ("stop", {}, "expected either command"),
    ("stop", {"byte": 10}, "expected a control character that ends no line"),
    ("stop", {"byte": 65}, "expected a control character that ends no line"),
    ("stop", {"command": "STOP {axis}"}, "field {axis} is not known here; expected none"),
    ("stop.acknowledged", True, "there is no [acknowledge]"),
    ("error.none", [], "expected a list of integers"),
    ("error.none", ["0"], "expected a list of integers"),
    ("error.stopped", [0], "0 is among error.none too"),
    ("error.reply", "{text}", "field {code} is missing"),
    ("error.mask", 1, "there is no [status]"),
    ("servo.off", "ON", "the same as servo.on"),
    ("reference", {"command": "HOME {axis}"}, "reference.query: is missing"),
    ("contact.volt_per_unit", 0, "expected anything but 0"),
    ("contact.threshold_v", 0.1, "unknown key 'threshold_v'"),
    ("emulated.case", "lower", "expected one of: any, exact"),
    ("emulated.processing_s", 2, "expected 0 to 1"),
    ("emulated.chain", ";;", "expected text, 0 to 1"),
]


@pytest.mark.parametrize(("key", "value", "said"), WRONG)
def test_each_wrong_value_is_named_with_what_was_expected(key: str, value: object, said: str) -> None:
    with pytest.raises(MapError) as caught:
        read_map(changed(key, value))
    assert said in str(caught.value)
    assert str(caught.value).startswith(caught.value.key)
    assert caught.value.key.split(".")[0] == key.split(".", maxsplit=1)[0]


OF_THE_ODD: list[tuple[str, object, str]] = [
    ("axes.a.wire", "A1", "axis A1 and its value would be one number"),
    ("axes.a.decimals", 0, ""),
    ("moving.mask", 0, "expected an integer, 1 to"),
    ("on_target.value", 8, "has bits outside mask 0x6"),
    ("status", GONE, "there is no [status]"),
    ("status.reply", "{hex}{dec}", "field {dec} is not known here"),
    ("axes.c.unit_m", 1e-7, "steps of axis c are 1e-07 m"),
    ("axes.c.low_m", GONE, "give the travel in m, or [limits]"),
    ("axes.c.velocity_m_s", GONE, "deadlines need it"),
    ("move.separator", GONE, "what stands between the items"),
    ("line.echo", True, "with line.echo it would come back"),
    ("stop.acknowledged", True, ""),
]


@pytest.mark.parametrize(("key", "value", "said"), OF_THE_ODD)
def test_each_wrong_value_of_the_odd_dialect(key: str, value: object, said: str) -> None:
    data = changed(key, value, ODD)
    if not said:
        read_map(data)
        return
    with pytest.raises(MapError) as caught:
        read_map(data)
    assert said in str(caught.value)


def test_a_move_that_would_not_fit_is_refused() -> None:
    data = changed("move.command", "MOVE {list}")
    data["move"] |= {"item": "M" * 90 + "{axis}={value}", "separator": ","}
    with pytest.raises(MapError, match=r"move\.command: a message of \d+ characters"):
        read_map(data)


def test_an_acknowledgement_that_would_pass_for_an_answer_is_refused() -> None:
    data = changed("acknowledge", {"ok": "0", "error": "{code}"})
    assert read_map(data).stop.acknowledged
    data["stop"] = {"byte": 0x18, "acknowledged": True}
    with pytest.raises(MapError, match=r"stop\.acknowledged: '0' is an answer to moving\.query, too"):
        read_map(data)
    data["stop"] = {"byte": 0x18}
    assert not read_map(data).stop.acknowledged


def test_braces_can_be_meant() -> None:
    rules = read_map(changed("move.command", "{{MOVE {axis} {value}}}"))
    assert rules.move.messages({"x": "1"}, rules.wires) == [("{MOVE X 1}", ("x",))]


def paths(data: dict[str, Any], before: str = "") -> list[str]:
    found = []
    for key, value in data.items():
        found.append(before + key)
        if isinstance(value, dict):
            found += paths(value, f"{before}{key}.")
    return found


JUNK = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=130),
    st.lists(st.one_of(st.text(max_size=3), st.integers()), max_size=3),
    st.dictionaries(st.text(max_size=5), st.integers(), max_size=2),
    st.sampled_from(["{axis}", "{value}", "{list}", "{", "}}", "{axis}{value}", "1" * 400]),
)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from([SCPI, ODD]), st.data(), JUNK)
def test_whatever_stands_in_a_map_it_is_read_or_refused(path: Path, data: st.DataObject, junk: object) -> None:
    whole = copy.deepcopy(table(path))
    key = data.draw(st.sampled_from(paths(whole)))
    try:
        rules = read_map(changed(key, junk, path))
    except MapError as error:
        assert error.key  # noqa: PT017 - either outcome is fine, this one has to say where
    else:
        assert rules.stop.message
        assert rules.moving is not None or rules.on_target is not None
