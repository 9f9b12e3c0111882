"""The udev rules: read by udev itself where it is here, else by a reader of our own, and applied to devices."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from tests.deploy.udev_rules import Device, RuleError, apply, parse
from tests.deploy.unit_files import DEPLOY

PATH = DEPLOY / "udev" / "60-tipguard.rules"
RULES = parse(PATH.read_text(encoding="utf-8"))


def can_verify() -> bool:
    """Tell whether this udev has the verb (systemd 254 and newer)."""
    if shutil.which("udevadm") is None:
        return False
    done = subprocess.run(["udevadm", "verify", "--help"], capture_output=True, check=False)
    return done.returncode == 0


@pytest.mark.skipif(not can_verify(), reason="needs `udevadm verify` (systemd 254 or newer)")
def test_udev_accepts_the_rules() -> None:
    done = subprocess.run(["udevadm", "verify", str(PATH)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("action", ["add", "bind", "change"])
def test_an_ftdi_chip_waits_1_ms(action: str) -> None:
    port = Device("usb-serial", "ttyUSB0", action, driver="ftdi_sio", attributes={"latency_timer": "16"})
    assert apply(RULES, port).attributes["latency_timer"] == "1"


def test_a_chip_without_a_timer_is_left_alone() -> None:
    assert apply(RULES, Device("usb-serial", "ttyUSB0", driver="ftdi_sio")).attributes == {}
    other = Device("usb-serial", "ttyUSB0", driver="cp210x", attributes={"latency_timer": "16"})
    assert apply(RULES, other).attributes == {"latency_timer": "16"}


def test_nothing_is_written_to_what_is_unplugged() -> None:
    port = Device("usb-serial", "ttyUSB0", "remove", driver="ftdi_sio", attributes={"latency_timer": "16"})
    assert apply(RULES, port).attributes == {"latency_timer": "16"}


@pytest.mark.parametrize("kernel", ["ttyUSB0", "ttyUSB12", "ttyACM3", "ttyAMA0"])
def test_a_port_is_the_group_s_and_has_a_device_unit(kernel: str) -> None:
    port = apply(RULES, Device("tty", kernel))
    assert (port.group, port.mode, port.tags) == ("dialout", "0660", {"systemd"})


@pytest.mark.parametrize("kernel", ["tty1", "ttyS0", "console"])
def test_terminals_and_the_console_s_port_are_not_touched(kernel: str) -> None:
    port = apply(RULES, Device("tty", kernel))
    assert (port.group, port.mode, port.tags) == ("root", "0600", set())


def test_modem_manager_leaves_adapters_alone_and_keeps_its_modems() -> None:
    for vendor, theirs in (("0403", True), ("1a86", True), ("1a72", True), ("12d1", False), ("2c7c", False)):
        usb = Device(
            "usb",
            "1-1.2",
            environment={"DEVTYPE": "usb_device"},
            attributes={"idVendor": vendor, "power/control": "auto"},
        )
        assert ("ID_MM_DEVICE_IGNORE" in apply(RULES, usb).environment) is theirs
        assert usb.attributes["power/control"] == ("on" if theirs else "auto")
        port = Device("tty", "ttyUSB0", parents={"idVendor": vendor})
        assert ("ID_MM_PORT_IGNORE" in apply(RULES, port).environment) is theirs


def test_gpio_lines_are_the_group_s() -> None:
    assert apply(RULES, Device("gpio", "gpiochip4")).group == "gpio"


def test_the_rules_come_after_those_that_make_the_stable_names() -> None:
    assert PATH.name > "60-serial.rules"
    assert "/dev/serial/by-id" in PATH.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "line",
    [
        'SUBSYSTEM="tty", GROUP="dialout"',
        'SUBSYSTEM=="tty" GROUP="dialout"',
        'SUBSYSTEM=="tty", GROUP=dialout',
        'SUBSYSTEM=="tty", GROUP=="dialout"',
        'SUBSYSTEM=="tty", ATTR="1"',
        'SUBSYTEM=="tty"',
        'ACTION=="remove", GOTO="nowhere"',
        'SUBSYSTEM=="tty", GROUP="dialout',
    ],
)
def test_what_udev_would_not_take_is_found(line: str) -> None:
    with pytest.raises(RuleError):
        parse(f"# a comment\n{line}\n")
