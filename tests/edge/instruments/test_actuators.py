"""The gpio actuator and its lines: what goes over the wires, and that nothing of it waits, raises or is believed."""

from __future__ import annotations

import errno
import socket
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edge.config import GpioConfig
from edge.instruments.actuators import CutActuator, GpioActuator
from edge.instruments.gpio_lines import (
    CONSUMER,
    GpiodLines,
    GpioLines,
    SilentLines,
    SocketLines,
    is_emulated,
    open_lines,
    why_not,
)


class FakeClock:
    """A clock that moves by 1 ns with every look."""

    def __init__(self) -> None:
        self.t_ns = 100

    def now_ns(self) -> int:
        self.t_ns += 1
        return self.t_ns

    def call_at(self, t_ns: int, callback: Any) -> Any:  # noqa: ANN401 - not used
        raise NotImplementedError

    async def sleep_until(self, t_ns: int) -> None:
        raise NotImplementedError


class Wires(SilentLines):
    """Lines that keep what went over them."""

    def __init__(self) -> None:
        super().__init__("wires")
        self.edges: list[str] = []

    def beat(self) -> None:
        self.edges.append("beat")

    def clear(self, *, pulled: bool) -> None:
        self.edges.append("pull" if pulled else "release")


def config(clear_line: int | None = 27, **values: Any) -> GpioConfig:  # noqa: ANN401 - the section's own
    return GpioConfig(chip="/dev/gpiochip0", heartbeat_line=17, clear_line=clear_line, **values)


def actuator(clear_line: int | None = 27) -> tuple[GpioActuator, Wires]:
    wires = Wires()
    made = GpioActuator(config(clear_line), wires, FakeClock())
    as_any: CutActuator = made
    assert as_any.name == "gpio"
    return made, wires


# --------------------------------------------------------------------------------------------------- the actuator


def test_a_beat_is_one_edge_and_nothing_else() -> None:
    made, wires = actuator()
    made.beat()
    made.beat()
    assert wires.edges == ["beat", "beat"]
    assert made.beats == 2


def test_a_cut_pulls_clear_and_the_next_beat_that_may_be_releases_it_first() -> None:
    made, wires = actuator()
    made.beat()
    made.cut()
    made.beat()
    assert wires.edges == ["beat", "pull", "release", "beat"]


def test_a_cut_keeps_its_first_time_until_it_is_over() -> None:
    made, _ = actuator()
    assert made.cut_ns == 0
    made.cut()
    first_ns = made.cut_ns
    made.cut()
    assert made.cut_ns == first_ns == 101
    made.cut_over()
    assert made.cut_ns == 0


def test_without_clear_a_cut_sends_nothing_and_the_silence_does_it() -> None:
    made, wires = actuator(None)
    made.cut()
    assert wires.edges == []
    assert made.cut_ns > 0
    assert made.within_s == pytest.approx(0.0401)
    assert actuator()[0].within_s == pytest.approx(0.0001)


def test_clear_that_is_held_for_a_test_is_not_released_by_the_beats() -> None:
    made, wires = actuator()
    made.clear_held = True
    made.pull()
    made.beat()
    made.clear_held = False
    made.beat()
    assert wires.edges == ["pull", "beat", "release", "beat"]


def test_what_it_says_of_itself_is_plain() -> None:
    made, _ = actuator()
    assert made.describe() == {
        "chip": "wires",
        "emulated": True,
        "heartbeat_line": 17,
        "clear_line": 27,
        "within_s": 0.0001,
        "beats": 0,
        "lost": None,
    }


# ------------------------------------------------------------------------------------------------------ the socket


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as server:
        server.bind(str(tmp_path / "oe"))
        yield server


def test_an_emulated_wire_is_one_byte_for_one_edge(tmp_path: Path, bench: socket.socket) -> None:
    lines: GpioLines = SocketLines(str(tmp_path / "oe"))
    lines.beat()
    lines.clear(pulled=True)
    lines.clear(pulled=False)
    assert [bench.recv(16) for _ in range(3)] == [b"B", b"C", b"R"]
    assert lines.lost == ""
    assert lines.emulated
    lines.close()


def test_a_bench_that_is_gone_is_said_and_found_again(tmp_path: Path) -> None:
    path = tmp_path / "oe"
    lines = SocketLines(str(path))
    lines.beat()
    assert lines.lost == "No such file or directory"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
        server.bind(str(path))
        lines.beat()
        assert lines.lost == ""
        assert server.recv(16) == b"B"
    lines.beat()
    assert lines.lost == "Connection refused"
    path.unlink()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
        server.bind(str(path))
        lines.beat()
        assert server.recv(16) == b"B"
    lines.close()


def test_a_bench_that_reads_nothing_never_holds_the_worker_up(tmp_path: Path, bench: socket.socket) -> None:
    lines = SocketLines(str(tmp_path / "oe"))
    for _ in range(100_000):
        lines.beat()
        if lines.lost:
            break
    assert lines.lost == "the emulated bench does not read its edges"
    bench.recv(16)
    lines.beat()
    assert lines.lost == ""
    lines.close()


# ----------------------------------------------------------------------------------------------------- the chip


class Request:
    """What ``gpiod.request_lines`` of version 2 returns, as its documentation has it."""

    def __init__(self, levels: dict[int, str]) -> None:
        self.levels = levels
        self.sets: list[tuple[int, str]] = []
        self.fault: OSError | None = None
        self.released = False

    def set_value(self, line: int, value: str) -> None:
        if self.fault is not None:
            raise self.fault
        assert line in self.levels, "a line that was not requested raises ValueError in the library"
        self.levels[line] = value
        self.sets.append((line, value))

    def release(self) -> None:
        self.released = True


class Gpiod(types.ModuleType):
    """A hand-written stand-in for the module gpiod, version 2: the calls this project makes, with their names."""

    def __init__(self) -> None:
        super().__init__("gpiod")
        self.line = types.SimpleNamespace(
            Value=types.SimpleNamespace(ACTIVE="active", INACTIVE="inactive"),
            Direction=types.SimpleNamespace(OUTPUT="output", INPUT="input"),
        )
        self.requests: list[tuple[str, str, Request]] = []
        self.fault: OSError | None = None

    class LineSettings:
        def __init__(self, *, direction: str, output_value: str) -> None:
            self.direction = direction
            self.output_value = output_value

    def request_lines(self, path: str, consumer: str, config: dict[tuple[int, ...], LineSettings]) -> Request:
        if self.fault is not None:
            raise self.fault
        levels = {}
        for lines, settings in config.items():
            assert settings.direction == "output"
            levels.update(dict.fromkeys(lines, settings.output_value))
        request = Request(levels)
        self.requests.append((path, consumer, request))
        return request


def test_a_chip_s_lines_begin_low_which_is_no_beat_and_clear_pulled() -> None:
    gpiod = Gpiod()
    lines = GpiodLines(config(), gpiod)
    [(path, consumer, request)] = gpiod.requests
    assert (path, consumer) == ("/dev/gpiochip0", CONSUMER)
    assert request.levels == {17: "inactive", 27: "inactive"}
    assert not lines.emulated


def test_a_chip_s_beat_is_a_short_pulse_and_clear_is_active_low() -> None:
    gpiod = Gpiod()
    lines = GpiodLines(config(), gpiod)
    request = gpiod.requests[0][2]
    lines.clear(pulled=False)
    lines.beat()
    lines.clear(pulled=True)
    assert request.sets == [(27, "active"), (17, "active"), (17, "inactive"), (27, "inactive")]
    lines.close()
    assert request.released


def test_a_chip_without_a_clear_line_is_asked_for_one_line_only() -> None:
    gpiod = Gpiod()
    lines = GpiodLines(config(None), gpiod)
    request = gpiod.requests[0][2]
    lines.clear(pulled=True)
    assert request.levels == {17: "inactive"}
    assert request.sets == []


def test_a_chip_that_fails_is_said_and_nothing_is_raised_in_the_hot_path() -> None:
    gpiod = Gpiod()
    lines = GpiodLines(config(), gpiod)
    gpiod.requests[0][2].fault = OSError(errno.EIO, "Input/output error")
    lines.beat()
    lines.clear(pulled=True)
    assert lines.lost == "Input/output error"


# --------------------------------------------------------------------------------------------------- which lines


def test_a_chip_is_emulated_if_and_only_if_its_path_is_a_socket(tmp_path: Path, bench: socket.socket) -> None:
    assert is_emulated(str(tmp_path / "oe"))
    assert not is_emulated(str(tmp_path / "absent"))
    assert not is_emulated("/dev/null")
    opened = open_lines(GpioConfig(chip=str(tmp_path / "oe"), heartbeat_line=1), port_emulated=True)
    assert isinstance(opened, SocketLines)
    opened.close()


def test_an_emulated_line_is_not_believed_to_protect_a_real_instrument(tmp_path: Path, bench: socket.socket) -> None:
    lines = open_lines(GpioConfig(chip=str(tmp_path / "oe"), heartbeat_line=1), port_emulated=False)
    assert "emulated bench, and the instrument is real" in lines.lost
    lines.beat()
    with pytest.raises(BlockingIOError):
        bench.recv(16)


@pytest.mark.parametrize(
    ("chip", "missing", "told"),
    [
        ("/dev/no-such-chip", False, "there is no such GPIO chip"),
        ("/dev/null", True, "the library gpiod is not installed; `make setup`"),
    ],
)
def test_lines_that_cannot_be_had_are_silent_and_say_why(
    monkeypatch: pytest.MonkeyPatch, chip: str, missing: bool, told: str
) -> None:
    if missing:
        monkeypatch.setitem(sys.modules, "gpiod", None)
    section = GpioConfig(chip=chip, heartbeat_line=1)
    lines = open_lines(section, port_emulated=False)
    assert told in lines.lost
    assert told in why_not(section, port_emulated=False)
    assert not lines.emulated


def test_a_chip_that_is_held_by_somebody_else_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    gpiod = with_gpiod(monkeypatch)
    gpiod.fault = OSError(errno.EBUSY, "Device or resource busy")
    lines = open_lines(GpioConfig(chip="/dev/null", heartbeat_line=1), port_emulated=False)
    assert lines.lost == "Device or resource busy"
    gpiod.fault = None
    assert isinstance(open_lines(GpioConfig(chip="/dev/null", heartbeat_line=1), port_emulated=False), GpiodLines)


def with_gpiod(monkeypatch: pytest.MonkeyPatch) -> Gpiod:
    gpiod = Gpiod()
    gpiod.__spec__ = types.SimpleNamespace(name="gpiod")  # type: ignore[assignment] # what find_spec looks at
    monkeypatch.setitem(sys.modules, "gpiod", gpiod)
    return gpiod
