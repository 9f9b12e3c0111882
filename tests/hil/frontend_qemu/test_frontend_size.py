"""The budgets of the schema, against what the cross compiler makes: codec, flash, RAM, stack."""

from __future__ import annotations

import subprocess
import tomllib
from functools import cache
from pathlib import Path

import pytest

import firmware_proto.frontend
from hil.errors import BenchOptionError
from hil.frontend import build
from tests.firmware_tools import needs_firmware, size_tool
from tests.hil.frontend_qemu.played import Entry, play, player_image
from tests.hil.frontend_qemu.waveforms import waveforms

SCHEMA = Path(firmware_proto.frontend.__file__).parent / "schema.toml"
BOX_BYTES = 4096 * 2
"""The ring of the black box, which the budget of RAM leaves out: TG_BOX_MAX codes."""
STACK_BYTES = 2048
"""As in link.ld."""

pytestmark = needs_firmware


@cache
def budget(name: str) -> int:
    return int(tomllib.loads(SCHEMA.read_text("utf-8"))["budgets"][name]["value"])


def sections(elf: Path) -> dict[str, int]:
    """Return the sizes of an image's sections, bytes."""
    tool = size_tool()
    assert tool is not None
    said = subprocess.run([tool, "-A", "-d", str(elf)], capture_output=True, text=True, check=True, timeout=20).stdout
    rows = [line.split() for line in said.splitlines() if line.startswith(".")]
    return {row[0]: int(row[1]) for row in rows}


def compiled(source: Path, folder: Path) -> Path:
    """Compile one source of the core as the image has it."""
    compiler = build.arm_compiler()
    assert compiler is not None
    out = folder / f"{source.stem}.o"
    flags = [*build.STRICT, *build.CORTEX_M3, f"-I{build.CORE}", f"-I{build.GENERATED}"]
    subprocess.run([compiler, *flags, "-c", "-o", str(out), str(source)], check=True, timeout=60)
    return out


def in_flash(found: dict[str, int]) -> int:
    return sum(size for name, size in found.items() if name.startswith((".text", ".rodata", ".ARM.exidx", ".data")))


def test_the_codec_is_within_its_budget(tmp_path: Path) -> None:
    found = sections(compiled(build.CORE / "tg_frame.c", tmp_path))
    print(f"codec: {in_flash(found)} bytes")
    assert 300 < in_flash(found) <= budget("codec_bytes")
    assert all(size == 0 for name, size in found.items() if name.startswith((".data", ".bss")))


@pytest.mark.parametrize("spin", [False, True], ids=["wfi", "spin"])
def test_the_image_is_within_its_budgets(spin: bool) -> None:
    found = sections(build.mps2(spin=spin))
    ram = found[".stack"] + found[".noinit"] + found[".data"] + found[".bss"]
    print(f"image: {in_flash(found)} bytes of flash, {ram - BOX_BYTES} + {BOX_BYTES} bytes of RAM")
    assert found[".stack"] == STACK_BYTES
    assert 4096 < in_flash(found) <= budget("flash_bytes")
    assert 0 < ram - BOX_BYTES <= budget("ram_bytes")


def test_an_image_beyond_its_budget_of_ram_does_not_link() -> None:
    with pytest.raises(BenchOptionError, match="does not compile"):
        build.mps2(defines=["TG_BULK_BLOCKS=64u"])


def test_the_stack_keeps_half_of_its_room() -> None:
    entries = [Entry(wave.config, wave.codes) for wave in waveforms(16, 7)]
    used = play(entries, player_image())[0].stack_used
    print(f"stack: {used} of {STACK_BYTES} bytes")
    # Main loop with its host beside it, sample interrupt on top; the product has UART interrupts instead of a host.
    assert 100 < used <= STACK_BYTES // 2
