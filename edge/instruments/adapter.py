"""Which adapter is behind a serial port, and whether it passes replies on at once. Standard library only.

What is true of each kernel driver, read in the kernel's sources (drivers/usb/serial/*.c, drivers/usb/class/cdc-acm.c,
drivers/tty/serial/serial_core.c; Linux 5.13 to 6.x):

* ftdi_sio: the chip holds back a packet that is not full until its latency timer ends, 16 ms unless told otherwise.
  ASYNC_LOW_LATENCY sets it to 1 ms, and ``latency_timer`` in sysfs then reads 1. The two oldest chips (SIO, FT232A)
  have no timer to set.
* ch341: nothing to set; the driver itself tells the chip not to wait for a full packet of 32 bytes, which chips of
  version 0x27 and older do not understand.
* cp210x, pl2303: nothing to set; the chip decides.
* cdc_acm: nothing to set; the firmware of the device decides.
* a UART of the board (pl011, 8250): serial_core keeps the flag.

Since Linux 5.13 a USB driver without such a setting accepts the request and forgets it (usb-serial.c,
``serial_set_serial``). So nothing is believed until it is read back.
"""

from __future__ import annotations

import fcntl
import struct
import termios
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, NamedTuple

ASYNC_LOW_LATENCY: Final = 0x2000
"""Bit 13 of serial_struct.flags (include/uapi/linux/tty_flags.h)."""
FTDI_DEFAULT_MS: Final = 16
_FLAGS_AT: Final = 16
"""Byte of ``flags`` in struct serial_struct, behind four ints."""
_ROOM: Final = 256
"""More than a struct serial_struct has on any machine (72 bytes on 64-bit)."""
_UPWARDS: Final = 8
"""So many folders above the tty's device, at most, is the USB device."""
_MAX_ATTRIBUTE: Final = 120
RULE: Final = "install deploy/udev/60-tipguard.rules and plug it in again"

Ioctl = Callable[[int, int, bytearray], object]

_WHY: Final = {
    "ch341-uart": "its driver has no such mode; chips of version 0x27 and older wait for 32 bytes",
    "cp210x": "its driver has no such mode; the chip decides when replies leave it",
    "pl2303": "its driver has no such mode; the chip decides when replies leave it",
    "cdc_acm": "its driver has no such mode; the firmware of the device decides when replies leave it",
}


class Adapter(NamedTuple):
    """What sysfs knows of the hardware behind a tty; empty where it knows nothing."""

    tty: str
    """Name of the kernel, such as ttyUSB0."""
    driver: str = ""
    vendor: str = ""
    product: str = ""
    serial_number: str = ""
    usb_id: str = ""
    """Vendor and product, hexadecimal, as 0403:6001; empty for what is not on USB."""
    latency_timer: Path | None = None
    """Where ftdi_sio shows the chip's timer, in ms."""

    @property
    def name(self) -> str:
        """What to call it in a sentence."""
        words = " ".join(dict.fromkeys(word for word in (self.vendor, self.product) if word)) or self.usb_id or self.tty
        inner = [self.driver or "driver unknown", *([f"serial {self.serial_number}"] if self.serial_number else [])]
        return f"{words} ({', '.join(inner)})"

    def latency_ms(self) -> int | None:
        """Return what the chip's latency timer is set to now, ms; None where there is none to read."""
        text = "" if self.latency_timer is None else _attribute(self.latency_timer)
        return int(text) if text.isdecimal() else None


def find(path: str | Path, sys: Path = Path("/sys")) -> Adapter:
    """Return what is known of the adapter behind the port ``path``, which may be a link such as those of by-id."""
    tty = Path(path).resolve().name
    device = (sys / "class" / "tty" / tty / "device").resolve()
    if not device.exists():
        return Adapter(tty)
    driver = next((name for folder in _above(device) if (name := _link_name(folder / "driver"))), "")
    timer = device / "latency_timer"
    latency_timer = timer if timer.exists() else None
    for folder in _above(device):
        if (folder / "idVendor").exists():
            return Adapter(
                tty,
                driver,
                _attribute(folder / "manufacturer"),
                _attribute(folder / "product"),
                _attribute(folder / "serial"),
                f"{_attribute(folder / 'idVendor')}:{_attribute(folder / 'idProduct')}",
                latency_timer,
            )
    return Adapter(tty, driver, latency_timer=latency_timer)


def ask_low_latency(fd: int, path: str, adapter: Adapter, ioctl: Ioctl = fcntl.ioctl) -> str | None:
    """Ask for low-latency mode on the open port ``path`` and see whether it is in force.

    Returns None where replies are passed on at once, else one line that names the adapter, how late they may come
    and what to do.
    """
    flagged = _flag(fd, ioctl)
    timer_ms = adapter.latency_ms()
    if timer_ms is not None:
        # The chip's own figure counts, whoever set it: we, or the udev rule.
        if timer_ms <= 1:
            return None
        return _late(path, adapter, f"up to {timer_ms} ms late: its latency timer is {timer_ms} ms; {RULE}")
    if adapter.driver == "ftdi_sio":
        if flagged:
            # No sysfs here, as in some containers, but the driver kept the flag, and with it the timer is 1 ms.
            return None
        return _late(path, adapter, f"up to {FTDI_DEFAULT_MS} ms late: the chip has no latency timer; use a newer one")
    if flagged:
        return None
    if adapter.driver in _WHY:
        return _late(path, adapter, f"late, and how late is not known: {_WHY[adapter.driver]}")
    return _late(path, adapter, "late, and how late is not known: low-latency mode is not available")


def _late(path: str, adapter: Adapter, how: str) -> str:
    return f"port {path}: {adapter.name}: replies may come {how}"


def _flag(fd: int, ioctl: Ioctl) -> bool:
    """Set the flag and tell whether it reads back; False where the driver refuses."""
    state = bytearray(_ROOM)
    try:
        ioctl(fd, termios.TIOCGSERIAL, state)
        (flags,) = struct.unpack_from("i", state, _FLAGS_AT)
        struct.pack_into("i", state, _FLAGS_AT, flags | ASYNC_LOW_LATENCY)
        ioctl(fd, termios.TIOCSSERIAL, state)
        after = bytearray(_ROOM)
        ioctl(fd, termios.TIOCGSERIAL, after)
    except OSError:
        return False
    (flags,) = struct.unpack_from("i", after, _FLAGS_AT)
    return bool(flags & ASYNC_LOW_LATENCY)


def _above(folder: Path) -> Iterator[Path]:
    yield folder
    yield from list(folder.parents)[:_UPWARDS]


def _link_name(link: Path) -> str:
    """Return the name of what a link of sysfs leads to; of serial_base, which only sits in between, none."""
    try:
        target = link.resolve(strict=True)
    except (OSError, RuntimeError):
        return ""
    return "" if target.parent.parent.name == "serial-base" else target.name


def _attribute(path: Path) -> str:
    """Return the text of an attribute of sysfs in one printable line; a device may call itself anything."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    return " ".join("".join(sign if sign.isprintable() else " " for sign in text).split())[:_MAX_ATTRIBUTE]
