"""The rig's one TOML file: SI units in key names, every wrong key named with what was expected.

``limits.*`` are ceilings: plans and remote commands may only lower them. ``safe-off`` does not read this module.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal, Self

import pydantic
from pydantic import BaseModel, Field

from edge.command_map import DRIVER, load_command_map
from edge.config_base import Section
from edge.config_frontend import FrontendConfig, FrontendPort, check_frontend
from edge.config_network import OutboxConfig, RemoteConfig, UplinkConfig
from edge.errors import ConfigError
from edge.profile import DEFAULT_FILE, RigProfile, load_profile

CURRENT_LIMIT_MAX_A = 1.05
VOLTAGE_LIMIT_MAX_V = 20.0
BEATS_PER_MONOSTABLE = 2


Positive = Annotated[float, Field(gt=0)]


class Rig(Section):
    """What is wired up, and what "safe" means for it."""

    id: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,31}$")]
    """Name in every topic and frame: lower-case letters, digits, hyphens."""
    kind: Literal["tip", "cell"]
    """tip: safe is 0 V, then off. cell: safe is open circuit."""
    series_resistor_ohm: Annotated[float, Field(ge=0)]
    """Resistor at the tip side of the cable; 0 if there is none."""
    profile_file: Annotated[str, Field(min_length=1, max_length=4096)] = DEFAULT_FILE
    """What `tipguard commission` wrote, relative to this file; nothing there: not commissioned."""


class SmuPort(Section):
    """The serial port of the source-measure unit."""

    path: Annotated[str, Field(min_length=1)]
    """Device; a /dev/serial/by-id name on real hardware."""
    baud: Literal[9600, 19200, 38400, 57600] = 57600
    """Must equal the unit's own setting (MENU > COMMUNICATION > RS-232); below 9600 a reading outlasts its deadline."""


class StagePort(Section):
    """The serial port of the AFM stage's controller."""

    path: Annotated[str, Field(min_length=1)]
    """Device; a /dev/serial/by-id name on real hardware."""
    baud: Literal[9600, 19200, 38400, 57600, 115200, 230400, 460800] = 115200
    """Must equal the controller's own setting."""


class Ports(Section):
    """Serial ports. A rig without a stage measures where the tip stands."""

    smu: SmuPort
    stage: StagePort | None = None
    frontend: FrontendPort | None = None


class SmuConfig(Section):
    """The source-measure unit."""

    driver: Annotated[str, Field(min_length=1)] = "keithley2400"
    serial_number: Annotated[str, Field(min_length=1)]
    """Compared with ``*IDN?`` before every output-on."""
    abort: Literal["ctrl-c", "ctrl-x"] = "ctrl-c"
    terminals: Literal["front", "rear"] = "front"
    line_frequency_hz: Literal[50, 60] = 50


AxisName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_]{1,16}$")]


class StageConfig(Section):
    """The stage, and how the tip is brought to the sample. Read only where ``ports.stage`` is there."""

    driver: Annotated[str, Field(min_length=1)] = "pi-gcs2"
    command_map: Annotated[str, Field(min_length=1, max_length=4096)] | None = None
    """File with the controller's vocabulary, for the driver scpi-stage; relative to this file."""
    serial_number: Annotated[str, Field(min_length=1)] | None = None
    """Compared with ``*IDN?`` where given; required on real hardware."""
    x: AxisName = "1"
    y: AxisName = "2"
    z: AxisName = "3"
    towards_sample: Literal["+", "-"] = "+"
    """Which way z brings tip and sample together."""
    lift_m: Annotated[float, Field(ge=10e-9, le=1e-3)] = 500e-9
    """How far the tip is lifted off the sample between two points."""
    approach_step_m: Annotated[float, Field(ge=0.1e-9, le=1e-6)] = 5e-9
    """Step of an approach: the tip is pressed in by up to this much beyond the threshold."""
    approach_window_m: Annotated[float, Field(ge=1e-9, le=1e-4)] = 50e-9
    """Above the last surface the approach goes in one move up to this distance, then in steps."""
    approach_max_m: Annotated[float, Field(ge=10e-9, le=1e-3)] = 2e-6
    """An approach that finds no contact within this way is given up."""
    settle_s: Annotated[float, Field(ge=0, le=600)] = 0.2
    """Pause between contact and measurement."""
    lift_unverified: bool = False
    """Last resort: lift the tip also from a cut that stays unverified. The arc may cost the tip."""


class ContactConfig(Section):
    """How contact is told: a deflection signal on an analog input of the stage's controller."""

    channel: Annotated[int, Field(ge=1, le=16)] = 1
    threshold_v: Annotated[float, Field(ge=-10, le=10)] = 0.1
    """In contact: above this for 20 ms."""


class Scan(Section):
    """Moving under bias."""

    max_bias_v: Annotated[float, Field(ge=0, le=VOLTAGE_LIMIT_MAX_V)] = 0.0
    """No move while the output is on at a level above this."""


class Wiring(Section):
    """Which terminal holds the tip."""

    hi: Literal["tip", "sample"] = "tip"
    """sample: voltages and currents are sent and reported with flipped sign, so that bias_v stays tip against Li."""


class Limits(Section):
    """Ceilings of this rig. Nothing raises them from outside."""

    current_a: Annotated[float, Field(gt=0, le=CURRENT_LIMIT_MAX_A)] = 1e-3
    voltage_v: Annotated[float, Field(gt=0, le=VOLTAGE_LIMIT_MAX_V)] = 10.0
    hard_limit_a: Positive | None = None
    """Reading that always trips; half the protection of the phase, which this can only lower."""
    conductance_s: Annotated[float, Field(ge=0)] = 1e-5
    """Conductance that always ends a trigger search; default 1 / (100 kohm), 0 switches the test off."""
    rearms_per_run: Annotated[int, Field(ge=0, le=100_000)] = 100
    allow_clamp: bool = False
    """Lets a plan that says accept_clamp rely on the SMU's clamp instead of the series resistor."""


class GpioConfig(Section):
    """The heartbeat into a monostable on the 2400's output enable line; silence cuts. See docs/gpio.md."""

    chip: Annotated[str, Field(min_length=1)]
    """Device, /dev/gpiochipN; or the socket of an emulated bench (`tipguard hil smu --oe`)."""
    heartbeat_line: Annotated[int, Field(ge=0, le=1023)]
    """Offset on the chip of the line that triggers the monostable."""
    clear_line: Annotated[int, Field(ge=0, le=1023)] | None = None
    """Offset of the line into the monostable's reset, active low; without one a cut acts when the time runs out."""
    beat_s: Annotated[float, Field(ge=0.002, le=0.1)] = 0.010
    """From one beat to the next."""
    monostable_s: Annotated[float, Field(ge=0.010, le=1.0)] = 0.040
    """The monostable's time as built, at its upper tolerance."""
    rearm: Literal["key", "remote"] = "key"
    """key: once the line has switched the output off, only the OUTPUT key of the 2400 lets it on again."""

    @pydantic.model_validator(mode="after")
    def _fits(self) -> Self:
        if self.clear_line == self.heartbeat_line:
            raise ValueError(f"heartbeat_line and clear_line are both {self.heartbeat_line}: expected two lines")
        if self.monostable_s < BEATS_PER_MONOSTABLE * self.beat_s:
            raise ValueError(
                f"monostable_s {self.monostable_s:g} is less than {BEATS_PER_MONOSTABLE} times beat_s {self.beat_s:g}: "
                "expected a time that outlasts a beat that is late"
            )
        return self


class EventConfig(Section):
    """What a setting event keeps."""

    pre_s: Annotated[float, Field(gt=0, le=60)] = 0.5
    post_s: Annotated[float, Field(gt=0, le=60)] = 0.5


class Runtime(Section):
    """How the processes run on this host."""

    realtime: Literal["auto", "off"] = "auto"
    """auto: SCHED_FIFO and locked memory where permitted, and said so where not."""
    ring_bytes: Annotated[int, Field(ge=65_536, le=1 << 30)] = 16 * 1024 * 1024


class RecorderConfig(Section):
    """The flight record: everything that passes the ports, kept for a replay."""

    enabled: bool = True
    keep_bytes: Annotated[int, Field(ge=1 << 20, le=1 << 40)] = 256 * 1024 * 1024
    """What all segments of this rig may take on disk, about ten hours under bias; the oldest go first."""
    segment_bytes: Annotated[int, Field(ge=1 << 16, le=1 << 30)] = 4 * 1024 * 1024
    directory: Annotated[str, Field(min_length=1)] | None = None
    """Where segments go; default: the state directory, see `edge.flight.flight_dir`."""


class Config(Section):
    """One rig. No section is shared with another rig's configuration, not even one that nothing was said about."""

    rig: Rig
    ports: Ports
    smu: SmuConfig
    stage: StageConfig = Field(default_factory=StageConfig)
    contact: ContactConfig = Field(default_factory=ContactConfig)
    scan: Scan = Field(default_factory=Scan)
    wiring: Wiring = Field(default_factory=Wiring)
    limits: Limits = Field(default_factory=Limits)
    gpio: GpioConfig | None = None
    frontend: FrontendConfig | None = None
    event: EventConfig = Field(default_factory=EventConfig)
    runtime: Runtime = Field(default_factory=Runtime)
    recorder: RecorderConfig = Field(default_factory=RecorderConfig)
    uplink: UplinkConfig = Field(default_factory=UplinkConfig)
    outbox: OutboxConfig = Field(default_factory=OutboxConfig)
    remote: RemoteConfig = Field(default_factory=RemoteConfig)
    profile: RigProfile | None = None
    """This rig as measured: read from ``rig.profile_file``, never written into the configuration itself."""

    @property
    def profile_fault(self) -> str | None:
        """Why :attr:`profile` is not this instrument's on this line, in words; None if it is, or if there is none."""
        if self.profile is None:
            return None
        smu = self.smu
        return self.profile.not_of(
            serial_number=smu.serial_number, baud=self.ports.smu.baud, line_freq_hz=smu.line_frequency_hz
        )

    @property
    def own_profile(self) -> RigProfile | None:
        """The profile, if it is this instrument's on this line."""
        return None if self.profile_fault is not None else self.profile


def _sections() -> dict[str, set[str]]:
    known = {"": set(Config.model_fields) - {"profile"}}
    for name, field in Config.model_fields.items():
        model = field.annotation
        if isinstance(model, type) and issubclass(model, BaseModel):
            known[name] = set(model.model_fields)
    known["ports.smu"] = set(SmuPort.model_fields)
    known["ports.stage"] = set(StagePort.model_fields)
    known["ports.frontend"] = set(FrontendPort.model_fields)
    known["gpio"] = set(GpioConfig.model_fields)
    known["frontend"] = set(FrontendConfig.model_fields)
    return known


def _explain(error: pydantic.ValidationError, file: str) -> ConfigError:
    errors = error.errors(include_url=False)
    # A misspelt name is both unknown and missing; the unknown one is what to look for in the file.
    first = next((one for one in errors if one["type"] == "extra_forbidden"), errors[0])
    key = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        section, _, wrong = key.rpartition(".")
        siblings = ", ".join(sorted(_sections().get(section, set())))
        message = f"unknown key {wrong!r}; expected one of: {siblings}"
    elif first["type"] == "missing":
        message = "is missing; `tipguard init` writes a commented example"
    elif first["type"] == "model_type":
        message = f"value {first['input']!r:.80}: expected a table, [{key}] with its keys below"
    else:
        message = f"value {first['input']!r:.80}: {first['msg'][:1].lower()}{first['msg'][1:]}"
    more = len(errors) - 1
    tail = f" (and {more} more)" if more else ""
    return ConfigError(f"{file}: {key}: {message}{tail}", file=file, key=key)


def load(path: str | Path) -> Config:
    """Read and validate a configuration file; raise :class:`ConfigError` with file, key, value and expectation."""
    file = str(path)
    try:
        text = Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(
            f"{file}: {error.strerror}; `tipguard init {file}` writes a commented one", file=file
        ) from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{file}: not UTF-8 text (byte {error.start}); save it as UTF-8", file=file) from error
    try:
        data = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise ConfigError(f"{file}: not TOML: {error}", file=file) from error
    if "profile" in data:
        raise ConfigError(
            f"{file}: profile: a rig's profile stands in a file of its own, named by rig.profile_file; "
            "`tipguard commission` writes it",
            file=file,
            key="profile",
        )
    # Strict, but an integer where a float is meant (10 for 10.0) passes; a boolean does not.
    try:
        config = Config.model_validate(data)
    except pydantic.ValidationError as error:
        raise _explain(error, file) from error
    hard = config.limits.hard_limit_a
    if hard is not None and hard > config.limits.current_a:
        raise ConfigError(
            f"{file}: limits.hard_limit_a: value {hard!r}: must not exceed limits.current_a "
            f"({config.limits.current_a!r})",
            file=file,
            key="limits.hard_limit_a",
        )
    check_frontend(config.frontend, config.ports.frontend, limit_a=config.limits.current_a, file=file)
    profile_path = Path(path).parent / config.rig.profile_file
    if profile_path.exists():
        config = config.model_copy(update={"profile": load_profile(profile_path)})
    return _with_command_map(config, Path(path))


def _with_command_map(config: Config, rig_file: Path) -> Config:
    """Check the stage's command map, and return the configuration with the map's path made absolute."""
    stage = config.stage
    file, key = str(rig_file), "stage.command_map"
    if (stage.command_map is None) != (stage.driver != DRIVER):
        wrong = f"value {stage.command_map!r}: only driver {DRIVER!r} reads it; stage.driver is {stage.driver!r}"
        if stage.command_map is None:
            wrong = f"is missing; driver {DRIVER!r} needs it"
        raise ConfigError(f"{file}: {key}: {wrong}", file=file, key=key)
    if stage.command_map is None:
        return config
    path = (rig_file.parent / stage.command_map).absolute()
    axes = load_command_map(path).axes
    for name, value in (("x", stage.x), ("y", stage.y), ("z", stage.z)):
        if value not in axes:
            raise ConfigError(
                f"{file}: stage.{name}: value {value!r}: expected one of the axes of {path}: {', '.join(axes)}",
                file=file,
                key=f"stage.{name}",
            )
    return config.model_copy(update={"stage": stage.model_copy(update={"command_map": str(path)})})


TEMPLATE = """\
# tipguard: one rig. Units are in the key names (_a ampere, _v volt, _ohm, _s). `tipguard check` tests this file.

[rig]
id = "bench-1"               # name in every topic and frame: a-z 0-9 and hyphens
kind = "tip"                 # "tip": safe is 0 V, then off.  "cell": safe is open circuit
series_resistor_ohm = {series_ohm}   # the resistor at the tip; at least V_max / limits.current_a of your plans
# profile_file = "rig-profile.json"  # what `tipguard commission` wrote, beside this file

[ports.smu]
path = "{path}"
baud = 57600                 # the same as on the unit: MENU > COMMUNICATION > RS-232

[smu]
driver = "keithley2400"
serial_number = "{serial}"    # compared with *IDN? before the output is ever switched on
abort = "ctrl-c"             # "ctrl-c" or "ctrl-x"
terminals = "front"          # "front" or "rear"
line_frequency_hz = 50       # 50 or 60

# [ports.stage]              # the stage of the AFM; leave it out on a rig without one
# path = "/dev/serial/by-id/..."
# baud = 115200              # the same as on the controller

# [stage]
# driver = "pi-gcs2"         # "pi-gcs2", or "scpi-stage" with command_map
# # command_map = "stage.toml"  # the controller's vocabulary, a file beside this one; docs/stage.md
# serial_number = "..."      # compared with *IDN? where given; required on real hardware
# x = "1"                    # names of the axes, as the controller has them
# y = "2"
# z = "3"
# towards_sample = "+"       # which way z brings tip and sample together: "+" or "-"
# lift_m = 500e-9            # how far the tip is lifted between two points
# approach_step_m = 5e-9     # step of an approach
# approach_window_m = 50e-9  # one move down to this distance from the last surface, then steps
# approach_max_m = 2e-6      # no contact within this way: given up
# settle_s = 0.2             # between contact and measurement
# lift_unverified = false    # lift the tip also from a cut that stays unverified; the arc may cost the tip

# [contact]                  # deflection signal on an analog input of the stage's controller
# channel = 1
# threshold_v = 0.1          # in contact: above this for 20 ms

# [scan]
# max_bias_v = 0.0           # no move while the output is on above this level

[wiring]
hi = "tip"                   # which end the HI terminal is wired to: "tip" or "sample"

[limits]                     # ceilings: plans may lower them, nothing raises them
current_a = 0.001
voltage_v = 10.0
conductance_s = 1e-5         # this conductance always ends a trigger search: 1 / (100 kohm); 0: off
# hard_limit_a = 0.0005      # default: half the compliance of the phase
rearms_per_run = 100
allow_clamp = false

# [gpio]                     # heartbeat into a monostable on the 2400's /OE line: silence cuts; docs/gpio.md
# chip = "/dev/gpiochip0"
# heartbeat_line = 17        # offset on the chip: GPIO 17 is pin 11 of a Raspberry Pi
# clear_line = 27            # into the monostable's reset, active low; leave it out if it is not wired
# beat_s = 0.010             # from one beat to the next
# monostable_s = 0.040       # the monostable's time as built, at its upper tolerance
# rearm = "key"              # after such a cut: "key": press the OUTPUT key of the 2400; "remote": nothing to press

# [ports.frontend]           # the microcontroller in series with the tip; leave it out on a rig without one
# path = "/dev/serial/by-id/..."
# baud = 921600              # the same as in its firmware

# [frontend]                 # when it trips by itself, and what is kept of it; docs/frontend.md
# driver = "tipguard"
# hard_a = 0.0005            # one sample of this magnitude
# level_a = 0.0002           # level_n samples in a row; leave a test out to switch it off
# level_n = 3
# jump_a = 0.0001            # so far from the running mean, and jump_ratio times its magnitude
# jump_ratio = 2.0
# baseline_s = 0.005         # time constant of the running mean
# rate_a = 0.0001            # a change within rate_samples samples
# rate_samples = 4
# pre_s = 0.005              # what a black box keeps before the trip, and after it
# post_s = 0.002
# lease_s = 0.1              # without a renewal for so long it opens by itself; may only be shorter
# recording = "event"        # black boxes and min/max of each ms; "decimated": min/max at decimated_hz; "full"
# decimated_hz = 10000.0
# full_max_s = 60.0          # "full" only: for so long in a run
# invert = false             # true: its converter counts the other way than the SMU

[event]                      # what a setting event keeps around the trip
pre_s = 0.5
post_s = 0.5

[runtime]
realtime = "auto"            # "auto": SCHED_FIFO and locked memory where permitted; "off": never

# [recorder]                 # the flight record: what passes the ports, for `tipguard replay`
# enabled = true
# keep_bytes = 268435456     # on disk, all segments of this rig: a night under bias; the oldest go first
# segment_bytes = 4194304    # one segment, about
# directory = "/var/lib/..." # default: the state directory of this service or user

[uplink]
host = "127.0.0.1"
port = 1883
# username = "bench-1"
# password_file = "mqtt-password"   # beside this file, or a systemd credential of this name
# ca_file = "ca.pem"         # the lab's CA: TLS 1.3, usually on port 8883; `tipguard certs` makes these three
# cert_file = "bench-1.pem"
# key_file = "bench-1.key"
# plain = "loopback"         # "anywhere": MQTT without TLS also to other computers, readable on the way
# metrics_port = 9155        # Prometheus, on 127.0.0.1 only

# [outbox]                   # frames stay on this disk until every store named here has committed them; docs/data.md
# stores = ["lab"]
# directory = "/var/lib/..." # default: the state directory of this service or user
# budget_bytes = 4294967296
# policy = "pause"           # at the budget: "pause" lets plans wait; "thin" gives up the oldest samples, never events
# keep_after_watermark_s = 172800  # two days: for a store restored from a backup
# redrive_s = 30             # acknowledged, and in no store for so long: sent again

# [remote]                   # commands over MQTT: nobody may, unless named here
# allow_energise = false     # true: a remote `run` may switch the output on
# users = {{ ana = ["status", "stop"] }}
"""


_STAGE_BEGIN = "# [ports.stage]"
_STAGE_END = "# [scan]"


def template(
    *,
    path: str,
    serial_number: str,
    series_ohm: float,
    stage_path: str | None = None,
    stage_serial_number: str | None = None,
    stage_command_map: str | None = None,
    stage_axes: Sequence[str] = (),
) -> str:
    """Return the text of a commented configuration that :func:`load` accepts, with a stage where its port is given.

    ``stage_command_map``: the driver is then the one that reads it; ``stage_axes``: what it calls x, y and z. Raises
    ConfigError where a value cannot be written into it.
    """
    given = {
        "ports.smu.path": path,
        "smu.serial_number": serial_number,
        "ports.stage.path": stage_path,
        "stage.serial_number": stage_serial_number,
        "stage.command_map": stage_command_map,
    }
    for key, value in given.items():
        if value is not None and not re.fullmatch(r"[\x21\x23-\x5b\x5d-\x7e]{1,200}", value):
            raise ConfigError(
                f"{key}: value {value!r}: expected printable characters without spaces or quotes", key=key
            )
    if stage_path is None and stage_serial_number is not None:
        raise ConfigError("stage.serial_number: of which stage? Its port is missing", key="ports.stage.path")
    if stage_path is None and stage_command_map is not None:
        raise ConfigError("stage.command_map: of which stage? Its port is missing", key="ports.stage.path")
    text = TEMPLATE.format(path=path, serial=serial_number, series_ohm=f"{series_ohm:.15g}")
    if stage_path is None:
        return text
    values: dict[str, float | str | bool] = {"path": stage_path}
    if stage_serial_number is not None:
        values["serial_number"] = stage_serial_number
    if stage_command_map is not None:
        values |= {"driver": DRIVER, "command_map": stage_command_map}
        values |= dict(zip("xyz", stage_axes, strict=False))
    return with_stage(text, values)


def with_stage(text: str, values: Mapping[str, float | str | bool]) -> str:
    """Uncomment the stage's sections of a template's text and put ``values`` in; raise ConfigError if it cannot.

    ``values``: keys of [ports.stage], [stage] and [contact], no two of which are alike. A serial number or a command
    map that is not among them stays a comment.
    """
    begin, end = text.find(f"\n{_STAGE_BEGIN}"), text.find(f"\n{_STAGE_END}")
    if not 0 <= begin < end:
        raise ConfigError(f"the configuration's template has no commented sections {_STAGE_BEGIN!r} to {_STAGE_END!r}")
    left = dict(values)
    lines = []
    for line in text[begin:end].split("\n"):
        setting, _, comment = line.removeprefix("# ").partition(" # ")
        # Marked twice: what is a choice and no default stays a comment unless it is asked for.
        key = setting.partition(" = ")[0].removeprefix("# ")
        if key in left:
            # JSON's strings, numbers and booleans are TOML's.
            setting = f"{key} = {json.dumps(left.pop(key))}"
        elif key == "serial_number":
            lines.append(line)
            continue
        lines.append(f"{setting.rstrip():<28} # {comment}" if comment else setting)
    if left:
        raise ConfigError(f"the configuration's template has not one key {next(iter(left))!r} of a stage")
    return text[:begin] + "\n".join(lines) + text[end:]
