"""Which adapter is behind a port, and whether it passes replies on at once: on a tree like sysfs, a driver's ioctl."""

from __future__ import annotations

import errno
import struct
import termios
from pathlib import Path

import pytest

from edge.instruments.adapter import ASYNC_LOW_LATENCY, Adapter, ask_low_latency, find

BY_ID = "usb-FTDI_FT232R_USB_UART_A50285BI-if00-port0"


class Driver:
    """The part of a tty driver that keeps serial_struct.flags, or does not."""

    def __init__(self, *, keeps: bool = True, error: int | None = None, timer: Path | None = None) -> None:
        self.flags = 0x10000000
        self.asked: list[int] = []
        self._keeps = keeps
        self._error = error
        self._timer = timer

    def ioctl(self, fd: int, request: int, state: bytearray) -> int:
        if self._error is not None:
            raise OSError(self._error, "refused")
        self.asked.append(request)
        if request == termios.TIOCSSERIAL:
            (flags,) = struct.unpack_from("i", state, 16)
            if self._keeps:
                self.flags = flags
                if self._timer is not None:
                    self._timer.write_text("1\n", encoding="ascii")
        else:
            struct.pack_into("i", state, 16, self.flags)
        return 0


@pytest.fixture
def sys_root(tmp_path: Path) -> Path:
    root = tmp_path / "sys"
    (root / "class" / "tty").mkdir(parents=True)
    return root


def usb_port(
    root: Path, tty: str, driver: str, *, own_folder: bool = True, timer: str | None = None, **attributes: str
) -> None:
    """Make what the kernel shows of a port on USB; ``own_folder``: as usb-serial does, cdc_acm does not."""
    usb = root / "devices" / "pci0" / "usb1" / "1-1" / "1-1.2"
    device = usb / "1-1.2:1.0" / tty if own_folder else usb / "1-1.2:1.0"
    (device / "tty" / tty).mkdir(parents=True)
    for name, text in {"idVendor": "0403", "idProduct": "6001", **attributes}.items():
        (usb / name).write_text(f"{text}\n", encoding="utf-8")
    drivers = root / "bus" / ("usb-serial" if own_folder else "usb") / "drivers" / driver
    drivers.mkdir(parents=True)
    (device / "driver").symlink_to(drivers)
    if timer is not None:
        (device / "latency_timer").write_text(f"{timer}\n", encoding="ascii")
    (device / "tty" / tty / "device").symlink_to(device)
    (root / "class" / "tty" / tty).symlink_to(device / "tty" / tty)


def test_the_adapter_is_named_by_what_it_says_of_itself(sys_root: Path, tmp_path: Path) -> None:
    chip = "FT232R USB UART"
    usb_port(sys_root, "ttyUSB0", "ftdi_sio", timer="16", manufacturer="FTDI", product=chip, serial="A50285BI")
    link = tmp_path / BY_ID
    (tmp_path / "ttyUSB0").touch()
    link.symlink_to("ttyUSB0")
    found = find(link, sys_root)
    assert found.driver == "ftdi_sio"
    assert found.usb_id == "0403:6001"
    assert found.latency_ms() == 16
    assert found.name == "FTDI FT232R USB UART (ftdi_sio, serial A50285BI)"


def test_an_interface_without_a_folder_of_its_own_is_found_too(sys_root: Path) -> None:
    usb_port(sys_root, "ttyACM0", "cdc_acm", own_folder=False, product="Pico")
    found = find("/dev/ttyACM0", sys_root)
    assert (found.driver, found.product, found.latency_ms()) == ("cdc_acm", "Pico", None)


def test_what_sysfs_does_not_know_is_empty(sys_root: Path) -> None:
    assert find("/dev/ttyUSB9", sys_root) == Adapter("ttyUSB9")
    assert find("/dev/ttyUSB9", sys_root).name == "ttyUSB9 (driver unknown)"


def test_a_serial_port_of_the_board_has_the_driver_behind_serial_base(sys_root: Path) -> None:
    uart = sys_root / "devices" / "platform" / "fe201000.serial"
    port = uart / "fe201000.serial:0" / "fe201000.serial:0.0"
    (port / "tty" / "ttyAMA0").mkdir(parents=True)
    for where, bus, name in ((port, "serial-base", "port"), (uart, "amba", "uart-pl011")):
        (sys_root / "bus" / bus / "drivers" / name).mkdir(parents=True)
        (where / "driver").symlink_to(sys_root / "bus" / bus / "drivers" / name)
    (port / "tty" / "ttyAMA0" / "device").symlink_to(port)
    (sys_root / "class" / "tty" / "ttyAMA0").symlink_to(port / "tty" / "ttyAMA0")
    assert find("/dev/ttyAMA0", sys_root).driver == "uart-pl011"
    assert ask_low_latency(3, "/dev/ttyAMA0", find("/dev/ttyAMA0", sys_root), Driver().ioctl) is None


def test_a_device_that_calls_itself_a_terminal_sequence_stays_one_line(sys_root: Path) -> None:
    usb_port(sys_root, "ttyUSB0", "cp210x", product="\x1b[2J\nbad" + "x" * 500)
    name = find("/dev/ttyUSB0", sys_root).name
    assert name.isprintable()
    assert len(name) < 160


@pytest.mark.parametrize("by_rule", [False, True])
def test_an_ftdi_chip_is_believed_by_its_timer(sys_root: Path, by_rule: bool) -> None:
    usb_port(sys_root, "ttyUSB0", "ftdi_sio", timer="1" if by_rule else "16")
    found = find("/dev/ttyUSB0", sys_root)
    # Where the udev rule has set the timer, it does not matter that the driver refuses us.
    driver = Driver(error=errno.EPERM) if by_rule else Driver(timer=found.latency_timer)
    assert ask_low_latency(3, "/dev/ttyUSB0", found, driver.ioctl) is None
    assert by_rule or driver.flags & ASYNC_LOW_LATENCY


def test_an_ftdi_chip_whose_timer_stays_is_named(sys_root: Path) -> None:
    usb_port(sys_root, "ttyUSB0", "ftdi_sio", timer="16", product="FT232R", serial="A5")
    # The flag reads back, the chip was never told: the flag alone is no proof.
    said = ask_low_latency(3, f"/dev/serial/by-id/{BY_ID}", find("/dev/ttyUSB0", sys_root), Driver().ioctl)
    assert said is not None
    assert said.startswith(f"port /dev/serial/by-id/{BY_ID}: FT232R (ftdi_sio, serial A5): ")
    assert "up to 16 ms late" in said
    assert "60-tipguard.rules" in said


def test_an_ftdi_chip_without_a_timer_is_told_from_one_whose_sysfs_is_hidden() -> None:
    hidden = Adapter("ttyUSB0", "ftdi_sio")
    assert ask_low_latency(3, "p", hidden, Driver().ioctl) is None
    said = ask_low_latency(3, "p", hidden, Driver(error=errno.EINVAL).ioctl)
    assert said is not None
    assert "up to 16 ms late" in said


@pytest.mark.parametrize("name", ["ch341-uart", "cp210x", "pl2303", "cdc_acm"])
@pytest.mark.parametrize("error", [None, errno.ENOTTY])
def test_a_driver_that_accepts_and_forgets_is_not_believed(name: str, error: int | None) -> None:
    driver = Driver(keeps=False, error=error)
    said = ask_low_latency(3, "p", Adapter("ttyUSB0", name, product="CP2102"), driver.ioctl)
    assert said is not None
    assert said.startswith(f"port p: CP2102 ({name}): ")
    assert "\n" not in said
    assert "no such mode" in said
    if error is None:
        assert driver.asked == [termios.TIOCGSERIAL, termios.TIOCSSERIAL, termios.TIOCGSERIAL]


def test_without_reading_back_the_forgetful_driver_passes_for_quick() -> None:
    """What the read-back is for: take it away, and 16 ms late counts as in force."""
    driver = Driver(keeps=False)

    def trusting(fd: int, request: int, state: bytearray) -> int:
        driver.ioctl(fd, request, state)
        if driver.asked.count(termios.TIOCGSERIAL) == 2:
            struct.pack_into("i", state, 16, ASYNC_LOW_LATENCY)
        return 0

    assert ask_low_latency(3, "p", Adapter("ttyUSB0", "cp210x"), trusting) is None
    assert ask_low_latency(3, "p", Adapter("ttyUSB0", "cp210x"), Driver(keeps=False).ioctl) is not None
