"""What tests of the firmware on its board need of the system; ``firmware`` in TIPGUARD_REQUIRE makes them required.

The compiler for this host (``cc``) is not among it: only the cross compiler and QEMU.
"""

from __future__ import annotations

import shutil

import pytest

from hil.frontend import build, qemu

PACKAGES = qemu.PACKAGES


def tools() -> tuple[str, str] | None:
    """Return the cross compiler and QEMU, None where one of them is not installed."""
    compiler, machine = build.arm_compiler(), qemu.program()
    return (compiler, machine) if compiler and machine else None


def size_tool() -> str | None:
    """Return the ``size`` that belongs to the cross compiler."""
    return shutil.which("arm-none-eabi-size")


needs_firmware = pytest.mark.skipif(tools() is None, reason=f"needs a Cortex-M3: apt-get install {PACKAGES}")
"""Mark of a test, or in ``pytestmark`` of a module."""
