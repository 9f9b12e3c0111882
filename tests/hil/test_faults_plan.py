"""Fault plans: what they can say, and how mistakes in them are told."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hil.devices.keithley2400.settings import Settings
from hil.errors import BenchOptionError
from hil.faults.kinds import KINDS, told
from hil.faults.phases import PHASES, PhaseWatch
from hil.faults.plan import TRIGGERS, FaultSpec, load_plan, parse_plan


def one(text: str) -> FaultSpec:
    (fault,) = parse_plan(f"[[fault]]\n{text}").faults
    return fault


def test_the_plan_of_the_docs_is_read_as_it_stands() -> None:
    plan = parse_plan(
        """
        seed = 7
        [[fault]]
        name = "cut short"
        kind = "truncate"
        port = "stage"
        to = "device"
        at_command = ":OUTP ON"
        nth = 2
        after_s = 0.5
        times = 3
        count = 4
        terminator = false
        """
    )
    assert plan.seed == 7
    (fault,) = plan.faults
    assert fault == FaultSpec(
        "cut short",
        "truncate",
        "stage",
        "device",
        "at_command",
        ":OUTP ON",
        2,
        0.5,
        3,
        {"count": 4, "terminator": False},
    )


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_needs_no_more_than_a_trigger(kind: str) -> None:
    fault = one(f'kind = "{kind}"\nat_s = 1')
    assert fault.name == f"{kind}-1"
    assert fault.port == (KINDS[kind].group if KINDS[kind].group in {"stage", "frontend"} else "smu")
    assert fault.to == ("host" if KINDS[kind].group == "wire" else "")
    assert dict(fault.params) == {param.name: param.default for param in KINDS[kind].params}
    assert fault.times == KINDS[kind].times


PARAMS = {f"{kind.name}.{param.name}": (kind.name, param) for kind in KINDS.values() for param in kind.params}


@pytest.mark.parametrize("name", PARAMS)
def test_every_default_is_one_that_the_plan_takes(name: str) -> None:
    kind, param = PARAMS[name]
    # JSON's numbers, texts and truths are TOML's.
    fault = one(f'kind = "{kind}"\non_demand = true\n{param.name} = {json.dumps(param.default)}')
    assert fault.params[param.name] == param.default
    assert param.what in told(param)


@pytest.mark.parametrize("phase", PHASES)
def test_every_phase_can_be_named(phase: str) -> None:
    assert one(f'kind = "mute"\nat_phase = "{phase}"').at == phase


WRONG = [
    ("seed = -1", "seed = -1: want an integer from 0 to 4294967295"),
    ("seed = true", "seed = True: want an integer"),
    ("fautl = 1", "fautl: unknown key; want seed and [[fault]]"),
    ("fault = 3", "fault = 3: want tables"),
    ("nonsense", "not TOML"),
    ("[[fault]]\nat_s = 1", "fault 1: kind: missing; want one of drop, flip"),
    ('[[fault]]\nkind = "gremlin"\nat_s = 1', "fault 1: kind = 'gremlin': want one of drop"),
    ('[[fault]]\nkind = "mute"', "fault 1: trigger: none; want exactly one of at_byte"),
    ('[[fault]]\nkind = "mute"\nat_s = 1\nat_byte = 2', "fault 1: trigger: at_byte, at_s; want exactly one"),
    ('[[fault]]\nkind = "mute"\nat_byte = -1', "fault 1: at_byte = -1: want an integer from 0"),
    ('[[fault]]\nkind = "mute"\nat_s = "soon"', "fault 1: at_s = 'soon': want a number of seconds"),
    ('[[fault]]\nkind = "mute"\nat_s = nan', "fault 1: at_s = nan: want a number of seconds"),
    ('[[fault]]\nkind = "mute"\nat_phase = "lunch"', "fault 1: at_phase = 'lunch': want one of setup, energised"),
    ('[[fault]]\nkind = "mute"\nat_command = ""', "fault 1: at_command = '': want how the message begins"),
    ('[[fault]]\nkind = "mute"\non_demand = false', "fault 1: on_demand = False: want true"),
    ('[[fault]]\nkind = "mute"\nat_s = 1\nnth = 2', "fault 1: nth = 2: want no such key beside at_s"),
    ('[[fault]]\nkind = "mute"\nat_s = 1\nafter_s = -1', "fault 1: after_s = -1: want a number of seconds"),
    ('[[fault]]\nkind = "mute"\nat_s = 1\ntimes = -1', "fault 1: times = -1: want an integer from 0"),
    ('[[fault]]\nkind = "reset"\nat_s = 1\ntimes = 2', "fault 1: times = 2: want 1: reset happens once"),
    (
        '[[fault]]\nkind = "mute"\nat_s = 1\nport = "usb"',
        "fault 1: port = 'usb': want smu or stage or frontend for mute",
    ),
    ('[[fault]]\nkind = "reset"\nat_s = 1\nport = "stage"', "fault 1: port = 'stage': want smu for reset"),
    ('[[fault]]\nkind = "reset"\nat_s = 1\nto = "host"', "fault 1: to = 'host': want no such key: reset does not act"),
    ('[[fault]]\nkind = "fifo"\nat_s = 1\nto = "device"', "fault 1: to = 'device': want host for fifo"),
    ('[[fault]]\nkind = "flip"\nat_s = 1\nbit = 8', "fault 1: bit = 8: want an integer from -1 to 7"),
    ('[[fault]]\nkind = "flip"\nat_s = 1\nbit = 1.0', "fault 1: bit = 1.0: want an integer"),
    ('[[fault]]\nkind = "flip"\nat_s = 1\ncount = 1', "fault 1: count = 1: unknown key; flip has bit, offset"),
    ('[[fault]]\nkind = "merge"\nat_s = 1\ncount = 1', "fault 1: count = 1: unknown key; merge has no parameters"),
    (
        '[[fault]]\nkind = "insert"\nat_s = 1\ndata = "\\u20ac"',
        "fault 1: data = '€': want a text of 1 to 64 characters",
    ),
    ('[[fault]]\nkind = "overflow"\nat_s = 1\noflo = 1', "fault 1: oflo = 1: want true or false"),
    ('[[fault]]\nkind = "panel_off_mode"\nat_s = 1\nmode = "OFF"', "fault 1: mode = 'OFF': want one of NORM, ZERO"),
    (
        '[[fault]]\nkind = "mute"\nname = "x"\nat_s = 1\n[[fault]]\nkind = "mute"\nname = "x"\nat_s = 2',
        "fault 2: name = 'x': want a name no other fault has",
    ),
    ("\n".join(['[[fault]]\nkind = "mute"\nat_s = 1'] * 65), "fault: 65 of them; want at most 64"),
]


@pytest.mark.parametrize(("text", "says"), WRONG, ids=[says for _, says in WRONG])
def test_a_mistake_is_one_line_with_file_key_value_and_expectation(text: str, says: str) -> None:
    with pytest.raises(BenchOptionError) as caught:
        parse_plan(text, "bench.toml")
    assert str(caught.value).startswith("bench.toml: ")
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    with pytest.raises(BenchOptionError, match=r"gone\.toml: cannot be read"):
        load_plan(tmp_path / "gone.toml")
    binary = tmp_path / "binary.toml"
    binary.write_bytes(b"\xff\xfe")
    with pytest.raises(BenchOptionError, match="not UTF-8"):
        load_plan(binary)
    binary.write_text('[[fault]]\nkind = "mute"\nat_s = 1\n', encoding="utf-8")
    assert load_plan(binary).source == str(binary)
    assert set(TRIGGERS) >= {load_plan(binary).faults[0].trigger}


class Panel2400:
    """What the phases look at of a 2400."""

    def __init__(self) -> None:
        self.output_on = False
        self.settings = Settings()


def test_a_phase_is_entered_once_and_a_cut_only_of_a_bias() -> None:
    unit = Panel2400()
    watch = PhaseWatch(unit)
    assert watch.message("SENS:CURR:PROT 1e-3") == ["setup"]
    assert watch.message("SENS:CURR:RANG 1e-3") == [], "one set-up"
    unit.settings.nplc = 0.01
    unit.output_on = True
    assert watch.step() == ["energised"]
    assert watch.message("SOUR:VOLT 0") == [], "there is no bias to cut"
    unit.settings.volt_source.level = -0.1
    assert watch.step() == ["seek"]
    assert watch.message("SOUR:VOLT 0") == ["cutting"]
    assert watch.message("OUTP OFF") == [], "one cut"
    unit.output_on = False
    assert watch.step() == ["off"]
