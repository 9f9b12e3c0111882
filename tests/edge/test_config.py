"""The rig's file: what is wrong is named in one line with file, key, value and what was expected."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.config import Config, ContactConfig, GpioConfig, Limits, Scan, StageConfig, StagePort, load, template
from edge.config_base import Section
from edge.config_frontend import FrontendConfig
from edge.errors import ConfigError, LocalError

TEXT = template(path="/dev/serial/by-id/usb-1", serial_number="1304207", series_ohm=10_000.0)
Edit = Callable[..., ConfigError]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "rig.toml"
    path.write_text(TEXT, encoding="utf-8")
    return path


@pytest.fixture
def wrong(file: Path) -> Edit:
    """Replace one line's beginning, load, and return the error; it must be one line that names the file."""

    def edit(old: str, new: str) -> ConfigError:
        assert old in TEXT
        file.write_text(TEXT.replace(old, new, 1), encoding="utf-8")
        with pytest.raises(ConfigError) as caught:
            load(file)
        text = str(caught.value)
        assert text.startswith(f"{file}: ")
        assert "\n" not in text
        assert len(text) < 500
        assert caught.value.file == str(file)
        return caught.value

    return edit


def edited(file: Path, old: str, new: str) -> Config:
    assert old in TEXT
    file.write_text(TEXT.replace(old, new, 1), encoding="utf-8")
    return load(file)


# ------------------------------------------------------------------------------------------------------ the file


def test_a_config_error_is_a_local_one() -> None:
    assert issubclass(ConfigError, LocalError)


def test_an_absent_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"absent\.toml: No such file or directory; `tipguard init .*absent\.toml`"):
        load(tmp_path / "absent.toml")


def test_a_directory(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="Is a directory"):
        load(tmp_path)


def test_bytes_that_are_no_text(file: Path) -> None:
    file.write_bytes(b'[rig]\nid = "\xff"\n')
    with pytest.raises(ConfigError, match=r"not UTF-8 text \(byte 12\)"):
        load(file)


def test_text_that_is_no_toml(wrong: Edit) -> None:
    assert "not TOML" in str(wrong('id = "bench-1"', 'id = "bench-1'))
    assert "line 4" in str(wrong('id = "bench-1"', "id = = 1"))
    assert "not TOML" in str(wrong("[uplink]", "[uplink]\nport = 1884"))


def test_nesting_without_end_is_no_toml(wrong: Edit) -> None:
    assert "not TOML" in str(wrong('id = "bench-1"', "id = " + "[" * 5000 + "]" * 5000))


# ------------------------------------------------------------------------------------------------------ the keys


@pytest.mark.parametrize(
    ("old", "new", "key", "names"),
    [
        ("voltage_v = 10.0", "voltage_w = 1.0", "limits.voltage_w", ("voltage_v", "current_a", "allow_clamp")),
        ("baud = 57600", "bauds = 9600", "ports.smu.bauds", ("baud, path",)),
        (
            "[event]",
            "[evnt]",
            "evnt",
            (
                "contact, event, frontend, gpio, limits, outbox, ports, recorder, remote, rig, runtime, scan, smu",
                "uplink, wiring",
            ),
        ),
        (
            "[ports.smu]",
            "[ports.stages]\nx = 1\n[ports.smu]",
            "ports.stages",
            ("expected one of: frontend, smu, stage",),
        ),
        ("[ports.smu]", "[ports.stage]\nx = 1\n[ports.smu]", "ports.stage.x", ("expected one of: baud, path",)),
        ("hi =", "hi.tip = 1 #", "wiring.hi", ("hi",)),
    ],
)
def test_an_unknown_key_is_named_with_its_alternatives(
    wrong: Edit, old: str, new: str, key: str, names: tuple[str, ...]
) -> None:
    error = wrong(old, new)
    assert error.key == key
    assert f"{key}: " in str(error)
    for name in names:
        assert name in str(error)


def test_an_unknown_key_says_so(wrong: Edit) -> None:
    assert "unknown key 'bauds'; expected one of: baud, path" in str(wrong("baud = 57600", "bauds = 9600"))


@pytest.mark.parametrize(
    ("old", "new", "key"),
    [('kind = "tip"', 'kindd = "tip"', "rig.kindd"), ("[rig]", "[rigg]", "rigg"), ("path =", "pth =", "ports.smu.pth")],
)
def test_a_misspelt_key_is_named_as_written_not_as_missing(wrong: Edit, old: str, new: str, key: str) -> None:
    error = wrong(old, new)
    assert error.key == key
    assert "unknown key" in str(error)
    assert "(and 1 more)" in str(error)


@pytest.mark.parametrize(
    ("line", "key"),
    [
        ('id = "bench-1"', "rig.id"),
        ('kind = "tip"', "rig.kind"),
        ("series_resistor_ohm =", "rig.series_resistor_ohm"),
        ('path = "/dev/serial/by-id/usb-1"', "ports.smu.path"),
        ("serial_number =", "smu.serial_number"),
    ],
)
def test_a_missing_key_is_named(wrong: Edit, line: str, key: str) -> None:
    error = wrong(line, f"# {line}")
    assert error.key == key
    assert f"{key}: is missing" in str(error)


def test_an_empty_file_misses_its_first_table(file: Path) -> None:
    file.write_text("", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"rig: is missing; .*\(and 2 more\)"):
        load(file)


# ---------------------------------------------------------------------------------------------------- the values

VALUES = [
    ("voltage_v = 10.0", "voltage_v = true", "limits.voltage_v", "value True", "number"),
    ("voltage_v = 10.0", 'voltage_v = "10"', "limits.voltage_v", "value '10'", "number"),
    ("voltage_v = 10.0", "voltage_v = [10.0]", "limits.voltage_v", "value [10.0]", "number"),
    ("voltage_v = 10.0", "voltage_v = 0.0", "limits.voltage_v", "value 0.0", "greater than 0"),
    ("voltage_v = 10.0", "voltage_v = -1", "limits.voltage_v", "value -1", "greater than 0"),
    ("voltage_v = 10.0", "voltage_v = 20.1", "limits.voltage_v", "value 20.1", "less than or equal to 20"),
    ("voltage_v = 10.0", "voltage_v = nan", "limits.voltage_v", "value nan", "finite"),
    ("voltage_v = 10.0", "voltage_v = inf", "limits.voltage_v", "value inf", "finite"),
    ("voltage_v = 10.0", "voltage_v = 1" + "0" * 400, "limits.voltage_v", "value 1000", ""),
    ("current_a = 0.001", "current_a = 0", "limits.current_a", "value 0", "greater than 0"),
    ("current_a = 0.001", "current_a = 1.06", "limits.current_a", "value 1.06", "less than or equal to 1.05"),
    ("current_a = 0.001", "current_a = false", "limits.current_a", "value False", "number"),
    ("conductance_s = 1e-5", "conductance_s = -1e-5", "limits.conductance_s", "value -1e-05", "greater than or equal"),
    ("# hard_limit_a = 0.0005", "hard_limit_a = 0", "limits.hard_limit_a", "value 0", "greater than 0"),
    ("# hard_limit_a = 0.0005", "hard_limit_a = true", "limits.hard_limit_a", "value True", "number"),
    (
        "# hard_limit_a = 0.0005",
        "hard_limit_a = 0.002",
        "limits.hard_limit_a",
        "value 0.002",
        "limits.current_a (0.001)",
    ),
    ("rearms_per_run = 100", "rearms_per_run = 1.0", "limits.rearms_per_run", "value 1.0", "integer"),
    ("rearms_per_run = 100", "rearms_per_run = true", "limits.rearms_per_run", "value True", "integer"),
    ("rearms_per_run = 100", "rearms_per_run = -1", "limits.rearms_per_run", "value -1", "greater than or equal to 0"),
    ("rearms_per_run = 100", "rearms_per_run = 100001", "limits.rearms_per_run", "value 100001", "100000"),
    ("allow_clamp = false", "allow_clamp = 1", "limits.allow_clamp", "value 1", "boolean"),
    ("allow_clamp = false", 'allow_clamp = "true"', "limits.allow_clamp", "value 'true'", "boolean"),
    ('id = "bench-1"', 'id = "Bench 1"', "rig.id", "value 'Bench 1'", "a-z0-9"),
    ('id = "bench-1"', 'id = ""', "rig.id", "value ''", "a-z0-9"),
    ('id = "bench-1"', 'id = "-x"', "rig.id", "value '-x'", "a-z0-9"),
    ('id = "bench-1"', 'id = "a/../b"', "rig.id", "value 'a/../b'", "a-z0-9"),
    ('id = "bench-1"', r'id = "bench-1\n"', "rig.id", r"value 'bench-1\n'", "a-z0-9"),
    ('id = "bench-1"', f'id = "{"x" * 33}"', "rig.id", "value 'xxx", "a-z0-9"),
    ('id = "bench-1"', "id = 1979-05-27", "rig.id", "1979", "string"),
    ('kind = "tip"', 'kind = "Tip"', "rig.kind", "value 'Tip'", "'tip' or 'cell'"),
    ("series_resistor_ohm = 10000", "series_resistor_ohm = -1", "rig.series_resistor_ohm", "value -1", "0"),
    ('path = "/dev/serial/by-id/usb-1"', 'path = ""', "ports.smu.path", "value ''", "at least 1 character"),
    ("baud = 57600", "baud = 115200", "ports.smu.baud", "value 115200", "9600, 19200, 38400 or 57600"),
    ("baud = 57600", "baud = 4800", "ports.smu.baud", "value 4800", "9600"),
    ("baud = 57600", 'baud = "57600"', "ports.smu.baud", "value '57600'", "9600"),
    ('serial_number = "1304207"', "serial_number = 1304207", "smu.serial_number", "value 1304207", "string"),
    ('abort = "ctrl-c"', 'abort = "ctrl-d"', "smu.abort", "value 'ctrl-d'", "'ctrl-c' or 'ctrl-x'"),
    ('terminals = "front"', 'terminals = "back"', "smu.terminals", "value 'back'", "'front' or 'rear'"),
    ("line_frequency_hz = 50", "line_frequency_hz = 55", "smu.line_frequency_hz", "value 55", "50 or 60"),
    ('hi = "tip"', 'hi = "lo"', "wiring.hi", "value 'lo'", "'tip' or 'sample'"),
    ("pre_s = 0.5", "pre_s = 61", "event.pre_s", "value 61", "60"),
    ("post_s = 0.5", "post_s = 0", "event.post_s", "value 0", "greater than 0"),
    ('realtime = "auto"', "realtime = true", "runtime.realtime", "value True", "'auto' or 'off'"),
    ('realtime = "auto"', "ring_bytes = 1000", "runtime.ring_bytes", "value 1000", "65536"),
    ('host = "127.0.0.1"', 'host = ""', "uplink.host", "value ''", "at least 1 character"),
    ("port = 1883", "port = 0", "uplink.port", "value 0", "greater than or equal to 1"),
    ("port = 1883", "port = 65536", "uplink.port", "value 65536", "65535"),
    ("port = 1883", "port = 1883.5", "uplink.port", "value 1883.5", "integer"),
    ("[wiring]", "[[wiring]]", "wiring", "value [{'hi': 'tip'}]", "a table, [wiring]"),
    ("[rig]", "rig = 3\n[limits2]", "limits2", "unknown key 'limits2'", "limits"),
]


@pytest.mark.parametrize(("old", "new", "key", "value", "expected"), VALUES)
def test_a_wrong_value_is_named_with_its_key_and_what_was_expected(
    wrong: Edit, old: str, new: str, key: str, value: str, expected: str
) -> None:
    error = wrong(old, new)
    assert error.key == key
    text = str(error).removeprefix(f"{error.file}: ")
    assert text.startswith(f"{key}: ")
    assert value in text
    assert expected in text


def test_a_long_value_is_shortened(wrong: Edit) -> None:
    assert "xxx" in str(wrong('kind = "tip"', f'kind = "{"x" * 100_000}"'))


@pytest.mark.parametrize(
    ("old", "key", "value", "got"),
    [
        ("voltage_v = 10.0", "voltage_v", 10, lambda c: c.limits.voltage_v),
        ("current_a = 0.001", "current_a", 1, lambda c: c.limits.current_a),
        ("conductance_s = 1e-5", "conductance_s", 0, lambda c: c.limits.conductance_s),
        ("series_resistor_ohm = 10000", "series_resistor_ohm", 0, lambda c: c.rig.series_resistor_ohm),
        ("pre_s = 0.5", "pre_s", 1, lambda c: c.event.pre_s),
    ],
)
def test_a_whole_number_is_a_number(
    file: Path, old: str, key: str, value: int, got: Callable[[Config], object]
) -> None:
    number = got(edited(file, old, f"{key} = {value}"))
    assert number == value
    assert type(number) is float


def test_a_whole_number_is_a_number_where_there_may_be_none(file: Path) -> None:
    limits = edited(file, "current_a = 0.001", "current_a = 1.0\nhard_limit_a = 1").limits
    assert type(limits.hard_limit_a) is float


def test_limits_at_their_ends_are_taken(file: Path) -> None:
    assert edited(file, "voltage_v = 10.0", "voltage_v = 20.0").limits.voltage_v == 20.0
    assert edited(file, "# hard_limit_a = 0.0005", "hard_limit_a = 0.001").limits.hard_limit_a == 0.001


@pytest.mark.parametrize("baud", [9600, 19200, 38400, 57600])
def test_every_baud_rate_of_the_unit_that_is_fast_enough(file: Path, baud: int) -> None:
    got = edited(file, "baud = 57600", f"baud = {baud}").ports.smu.baud
    assert got == baud
    assert type(got) is int


def test_nothing_changes_a_configuration_afterwards(file: Path) -> None:
    limits = load(file).limits
    with pytest.raises(pydantic.ValidationError, match="frozen"):
        limits.current_a = 1.0
    assert limits == Limits()


def test_two_configurations_share_no_section() -> None:
    # What goes round a frozen model, as `__dict__` does, would otherwise change the defaults of its whole process.
    said = {
        "rig": {"id": "bench-1", "kind": "tip", "series_resistor_ohm": 1e4},
        "ports": {"smu": {"path": "/dev/ttyUSB0"}},
        "smu": {"serial_number": "1304207"},
    }
    one, other = Config.model_validate(said), Config.model_validate(said)
    assert one == other
    sections = [name for name in Config.model_fields if isinstance(getattr(one, name), Section)]
    assert {"limits", "stage", "uplink", "recorder"} <= set(sections)
    assert [name for name in sections if getattr(one, name) is getattr(other, name)] == []


# -------------------------------------------------------------------------------------------------- the template


def test_what_the_template_writes_is_what_the_defaults_are(file: Path) -> None:
    written = load(file)
    assert written.rig.model_dump() == {
        "id": "bench-1",
        "kind": "tip",
        "series_resistor_ohm": 10_000.0,
        "profile_file": "rig-profile.json",
    }
    assert written.ports.smu.path == "/dev/serial/by-id/usb-1"
    assert written.smu.serial_number == "1304207"
    bare = Config.model_validate(
        {
            "rig": written.rig.model_dump(),
            "ports": {"smu": {"path": written.ports.smu.path}},
            "smu": {"serial_number": written.smu.serial_number},
        }
    )
    assert written == bare


def test_the_template_shows_every_key_but_the_ring_size() -> None:
    for name, field in Config.model_fields.items():
        if name == "profile":
            # In a file of its own.
            continue
        optional: dict[str, object] = {"gpio": GpioConfig, "frontend": FrontendConfig}
        model = optional.get(name, field.annotation)
        assert isinstance(model, type)
        assert issubclass(model, pydantic.BaseModel)
        assert f"[{name}" in TEXT
        for key in model.model_fields:
            if name == "ports":
                assert f"[ports.{key}]" in TEXT, key
            elif (name, key) != ("runtime", "ring_bytes"):
                assert f"{key} = " in TEXT, (name, key)


def test_the_template_s_gpio_is_what_the_program_takes_for_granted(file: Path) -> None:
    lines = TEXT.splitlines()
    begin, end = (lines.index(next(line for line in lines if mark in line)) for mark in ("[gpio]", "[event]"))
    bare = [line.removeprefix("# ") for line in lines[begin:end]]
    file.write_text("\n".join([*lines[:begin], *bare, *lines[end:]]), encoding="utf-8")
    gpio = load(file).gpio
    assert gpio is not None
    assert gpio == GpioConfig(chip=gpio.chip, heartbeat_line=gpio.heartbeat_line, clear_line=gpio.clear_line)
    assert load_text(file, TEXT).gpio is None, "no heartbeat unless it is said"


def load_text(file: Path, text: str) -> Config:
    file.write_text(text, encoding="utf-8")
    return load(file)


@pytest.mark.parametrize(
    ("gpio", "key", "told"),
    [
        ("heartbeat_line = 1", "gpio.chip", "is missing"),
        ('chip = "c"', "gpio.heartbeat_line", "is missing"),
        ('chip = "c"\nheartbeat_line = 1\nclear_line = 1', "gpio", "heartbeat_line and clear_line are both 1"),
        ('chip = "c"\nheartbeat_line = 1\nbeat_s = 0.03', "gpio", "monostable_s 0.04 is less than 2 times beat_s 0.03"),
        ('chip = "c"\nheartbeat_line = 1\nrearm = "never"', "gpio.rearm", "'key' or 'remote'"),
        ('chip = "c"\nheartbeat_line = -1', "gpio.heartbeat_line", "greater than or equal to 0"),
        ('chip = "c"\nheartbeat = 1', "gpio.heartbeat", "unknown key 'heartbeat'; expected one of: beat_s, chip"),
    ],
)
def test_a_heartbeat_that_cannot_be_is_named(file: Path, gpio: str, key: str, told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_text(file, f"{TEXT}\n[gpio]\n{gpio}\n")
    assert caught.value.key == key
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_template_s_stage_is_what_the_program_takes_for_granted(tmp_path: Path) -> None:
    # Whoever takes the marks away gets a rig with a stage, and nothing else changes.
    lines = TEXT.splitlines()
    begin, end = lines.index(next(line for line in lines if "[ports.stage]" in line)), lines.index("[wiring]")
    bare = [line.removeprefix("# ") for line in lines[begin:end] if "serial_number" not in line]
    file = tmp_path / "rig.toml"
    file.write_text("\n".join([*lines[:begin], *bare, *lines[end:]]), encoding="utf-8")
    config = load(file)
    assert config.ports.stage is not None
    assert config.ports.stage.baud == StagePort.model_fields["baud"].default
    for section, plain in ((config.stage, StageConfig()), (config.contact, ContactConfig()), (config.scan, Scan())):
        assert section == plain


def test_a_rig_without_a_stage_has_none(tmp_path: Path) -> None:
    file = tmp_path / "rig.toml"
    file.write_text(TEXT, encoding="utf-8")
    assert load(file).ports.stage is None


@given(
    st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E, exclude_characters='"\\'), min_size=1, max_size=200),
    st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E, exclude_characters='"\\'), min_size=1, max_size=20),
    st.integers(0, 10**9),
)
def test_what_goes_into_the_template_comes_out_of_the_file(
    tmp_path_factory: pytest.TempPathFactory, path: str, serial_number: str, series_ohm: int
) -> None:
    file = tmp_path_factory.getbasetemp() / "round-trip.toml"
    file.write_text(template(path=path, serial_number=serial_number, series_ohm=float(series_ohm)), encoding="utf-8")
    config = load(file)
    assert config.ports.smu.path == path
    assert config.smu.serial_number == serial_number
    assert config.rig.series_resistor_ohm == series_ohm


@pytest.mark.parametrize("bad", ["", "a b", 'a"b', "a\\b", "a\nb", "ä", "x" * 201])
def test_what_cannot_be_written_into_the_template_is_refused(bad: str) -> None:
    with pytest.raises(ConfigError, match=r"ports\.smu\.path: value"):
        template(path=bad, serial_number="1", series_ohm=1.0)
    with pytest.raises(ConfigError, match=r"smu\.serial_number: value"):
        template(path="/dev/x", serial_number=bad, series_ohm=1.0)
