from __future__ import annotations

import re

import pytest

from firmware_proto.frontend import vocabulary, wire
from firmware_proto.frontend.errors import SchemaError
from firmware_proto.frontend.generator import c, python
from firmware_proto.frontend.generator.schema import SCHEMA, load, parse
from firmware_proto.frontend.messages import SCHEMA_HASH

TEXT = SCHEMA.read_text(encoding="utf-8")


def changed(old: str, new: str) -> str:
    assert TEXT.count(old) >= 1, old
    return TEXT.replace(old, new, 1)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("Longest payload of any message.", "Another sentence."),
        ("# --- limits", "# ~~~ limits"),
        ("Begin a session;", "Open a session;"),
    ],
)
def test_prose_does_not_change_the_hash(old: str, new: str) -> None:
    assert parse(changed(old, new)).hash() == SCHEMA_HASH


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("lease_max_ms = { value = 100", "lease_max_ms = { value = 101"),
        ("id = 0x0D", "id = 0x0E"),
        ('{ name = "token", type = "u32"', '{ name = "token", type = "u16"'),
        ('{ name = "token", type = "u32"', '{ name = "tokens", type = "u32"'),
        ('unit = "pA"', 'unit = "nA"'),
        ("HOST = { id = 7", "HOST = { id = 17"),
        ('enum = "ResetCause"', 'enum = "State"'),
        ("min = 1, max = 32767", "min = 1, max = 32766"),
        ("safe = 0", "safe = 1"),
        ("per = 2", "per = 1"),
        ("version = 1 ", "version = 2 "),
        ("id = 0x84\nurgent = true", "id = 0x84"),
    ],
)
def test_whatever_means_something_changes_the_hash(old: str, new: str) -> None:
    assert parse(changed(old, new)).hash() != SCHEMA_HASH


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("id = 0x0D", "id = 0x0C", "messages: more than once: 12"),
        ("id = 0x0D", "id = 0x100", "messages.GET_STATUS.id: one byte"),
        ("TRIPPED = { id = 2", "TRIPPED = { id = 1", "enums.State: more than once: 1"),
        ("TRIPPED = { id = 2", "TRIPPED = { id = 256", "enums.State: ids are one byte"),
        ('enum = "ResetCause"', 'enum = "Cause"', "messages.WELCOME.reset_cause: enum 'Cause'"),
        ('type = "u8", enum = "ResetCause"', 'type = "u16", enum = "ResetCause"', "or its field no u8"),
        ('{ name = "token", type = "u32"', '{ name = "token", type = "u24"', "messages.PING.token: type 'u24'; one of"),
        ('{ name = "token", type = "u32"', '{ name = "token", kind = "u32"', "messages.PING: .*kind"),
        ("min = 1, max = 32767", "min = 1, max = 70000", "messages.CONFIG.hard_code: 1..70000 does not fit u16"),
        ('include = "CONFIG"', 'include = "CONFIGS"', "messages.CONFIG_IS.include: no message 'CONFIGS' above it"),
        ('{ name = "count", type = "u16", unit = "pair"', '{ name = "n", type = "u16", unit = "pair"', "right behind"),
        ("max_payload = { value = 512", "max_payload = { value = 256", "limits.max_payload: the framing knows 512"),
        ('at = 0x20, name = "open_index"', 'at = 0x24, name = "open_index"', "bench.open_index: at 0x24 is not a mult"),
        ('at = 0x18, name = "switch_sense"', 'at = 0x1C, name = "switch_sense"', "bench.switch_sense: reaches to 0x20"),
        ("version = 1 ", "version = ", "schema.toml: "),
    ],
)
def test_a_schema_that_cannot_be_is_refused_with_its_place(old: str, new: str, said: str) -> None:
    with pytest.raises(SchemaError, match=said):
        parse(changed(old, new))


def test_the_framing_and_the_schema_agree() -> None:
    assert vocabulary.MAX_PAYLOAD == wire.MAX_PAYLOAD
    rate_n = next(f for m in load().messages if m.name == "CONFIG" for f in m.fields if f.name == "rate_n")
    shift = next(f for m in load().messages if m.name == "CONFIG" for f in m.fields if f.name == "baseline_shift")
    assert rate_n.high == vocabulary.RATE_RING
    assert shift.high == vocabulary.BASELINE_SHIFT_MAX


def test_a_host_renews_a_lease_in_time_for_two_that_are_lost() -> None:
    assert 3 * vocabulary.LEASE_RENEW_MS <= vocabulary.LEASE_MAX_MS


def test_a_field_that_is_added_reaches_every_language() -> None:
    schema = parse(
        changed(
            '{ name = "host_nonce"',
            '{ name = "colour", type = "i32", unit = "nm", text = "Of it." },\n  { name = "host_nonce"',
        )
    )
    assert '    colour: int\n    """i32, nm: Of it."""' in python.messages(schema)
    header = c.schema_header(schema)
    assert "int32_t colour; /* nm: Of it. */" in header
    assert "tg_put_i32(payload + 4, m->colour);" in header
    assert "m->host_nonce = tg_get_u32(payload + 8);" in header
    assert "#define TG_HELLO_SIZE 14u" in header


def test_bounds_are_judged_in_c_as_the_schema_has_them() -> None:
    header = c.schema_header(load())
    (body,) = re.findall(r"tg_config_in_range\(const tg_config \*m\)\n{(.*?)}", header, re.DOTALL)
    for test in ("hard_code >= 1u", "hard_code <= 32767u", "baseline_shift <= 12u", "rate_n <= 32u", "stream <= 2u"):
        assert f"m->{test}" in body
