"""The wires from this host to the monostable at the 2400's output enable line: pins of a chip, or an emulated bench.

Nothing here waits. A line that cannot be driven says so once, in ``lost``, and stays silent: at the far end of these
wires silence is the safe side, and whether they work is seen there, through the instrument (docs/gpio.md).
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import socket
import stat
from pathlib import Path
from typing import Any, Final, Protocol

from edge.config import GpioConfig

CONSUMER: Final = "tipguard"
"""Who holds the lines, as `gpioinfo` shows it."""
BEAT: Final = b"B"
CLEAR: Final = b"C"
RELEASE: Final = b"R"


class GpioLines(Protocol):
    """Heartbeat and clear. No call waits or raises."""

    name: str
    emulated: bool
    lost: str
    """Why nothing goes out any more; empty while all is well."""

    def beat(self) -> None:
        """Give the monostable one edge."""

    def clear(self, *, pulled: bool) -> None:
        """Pull the monostable's clear, which opens the output enable line at once, or release it."""

    def close(self) -> None:
        """Let go of the lines; what holds them then is the wiring."""


class SilentLines:
    """No lines at all: in a replay, or where they could not be had."""

    def __init__(self, name: str, lost: str = "", *, emulated: bool = True) -> None:
        """``lost``: why there are none."""
        self.name = name
        self.lost = lost
        self.emulated = emulated

    def beat(self) -> None:
        """See GpioLines."""

    def clear(self, *, pulled: bool) -> None:
        """See GpioLines."""

    def close(self) -> None:
        """See GpioLines."""


class SocketLines:
    """The datagram socket of an emulated bench (`tipguard hil smu --oe`): one byte for one edge."""

    emulated = True

    def __init__(self, path: str) -> None:
        """Nothing is sent. A bench that is not there yet, or comes back, is found with the next edge."""
        self.name = path
        self.lost = ""
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        self._connected = False
        self._pulled = False

    def beat(self) -> None:
        """See GpioLines."""
        self._send(BEAT)

    def clear(self, *, pulled: bool) -> None:
        """See GpioLines."""
        self._pulled = pulled
        self._send(CLEAR if pulled else RELEASE)

    def close(self) -> None:
        """See GpioLines."""
        self._socket.close()

    def _send(self, edge: bytes) -> None:
        try:
            if not self._connected:
                self._socket.connect(self.name)
                self._connected = True
            self._socket.send(edge)
            self.lost = ""
        except BlockingIOError:
            # A bench that does not read: an edge is lost, as on a wire. The next one may get through.
            self.lost = "the emulated bench does not read its edges"
        except OSError as error:
            self._connected = False
            self.lost = error.strerror or str(error)


class GpiodLines:
    """Pins of a Linux GPIO chip, through the library gpiod, version 2 (extra ``gpio``).

    The heartbeat rests low and gives one short pulse for a beat. Clear is the monostable's reset input, active low.
    What level the lines keep when a process ends is the kernel's affair; whichever it is, a level is no beat.
    """

    emulated = False

    def __init__(self, config: GpioConfig, gpiod: Any) -> None:  # noqa: ANN401 - a module that may not be there
        """Take the lines, clear pulled; raises OSError or ValueError where they cannot be had.

        ``gpiod``: the module, as documented at https://libgpiod.readthedocs.io.
        """
        self.name = config.chip
        self.lost = ""
        value = gpiod.line.Value
        self._high, self._low = value.ACTIVE, value.INACTIVE
        self._heartbeat, self._clear = config.heartbeat_line, config.clear_line
        lines = [one for one in (self._heartbeat, self._clear) if one is not None]
        settings = gpiod.LineSettings(direction=gpiod.line.Direction.OUTPUT, output_value=self._low)
        self._request = gpiod.request_lines(config.chip, consumer=CONSUMER, config={tuple(lines): settings})
        self._set = self._request.set_value

    def beat(self) -> None:
        """See GpioLines."""
        try:
            self._set(self._heartbeat, self._high)
            self._set(self._heartbeat, self._low)
        except OSError as error:
            self.lost = error.strerror or str(error)

    def clear(self, *, pulled: bool) -> None:
        """See GpioLines."""
        if self._clear is None:
            return
        try:
            self._set(self._clear, self._low if pulled else self._high)
        except OSError as error:
            self.lost = error.strerror or str(error)

    def close(self) -> None:
        """See GpioLines."""
        with contextlib.suppress(OSError):
            self._request.release()


def is_emulated(chip: str) -> bool:
    """Tell whether a chip is the socket of an emulated bench; it is if and only if the path is a socket."""
    try:
        return stat.S_ISSOCK(Path(chip).stat().st_mode)
    except OSError:
        return False


def why_not(config: GpioConfig, *, port_emulated: bool) -> str:
    """Say why the lines that ``config`` names could not be had; empty where nothing speaks against it. Opens nothing.

    ``port_emulated``: the instrument is. An emulated line does not protect a real one, and is not believed to.
    """
    if is_emulated(config.chip):
        return "" if port_emulated else "it belongs to an emulated bench, and the instrument is real"
    if not Path(config.chip).is_char_device():
        return "there is no such GPIO chip, nor the socket of an emulated bench"
    if importlib.util.find_spec("gpiod") is None:
        return "the library gpiod is not installed; `make setup` and deploy/install.sh install it"
    return ""


def open_lines(config: GpioConfig, *, port_emulated: bool) -> GpioLines:
    """Return the lines that ``config`` names; silent ones, saying why, where they cannot be had."""
    if port_emulated and is_emulated(config.chip):
        return SocketLines(config.chip)
    why = why_not(config, port_emulated=port_emulated)
    if not why:
        try:
            return GpiodLines(config, importlib.import_module("gpiod"))
        except (OSError, ValueError) as error:
            why = getattr(error, "strerror", None) or str(error)
    return SilentLines(config.chip, why, emulated=is_emulated(config.chip))
