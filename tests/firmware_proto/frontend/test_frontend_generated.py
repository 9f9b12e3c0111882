"""What follows from schema.toml is what lies there: files, headers under a strict compiler, the bench memory."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from firmware_proto.frontend import bench_layout, generate
from firmware_proto.frontend.generator import schema
from firmware_proto.frontend.slot import Slot

FIRMWARE = generate.PACKAGE / "firmware"
STRICT = ["-std=c99", "-Wall", "-Wextra", "-Wconversion", "-Werror", "-pedantic", "-fsyntax-only"]


def test_no_generated_file_is_older_than_the_schema() -> None:
    assert generate.stale(schema.load()) == [], "run python -m firmware_proto.frontend.generate"


def test_a_changed_schema_makes_every_file_stale(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = schema.SCHEMA.read_text(encoding="utf-8")
    text = text.replace(
        '{ name = "host_nonce"', '{ name = "colour", type = "u8", text = "Of it." },\n  { name = "host_nonce"'
    )
    text = text.replace('text = "Of that noise."', 'text = "Another sentence."').replace(
        "Seed of that noise", "Seed of it"
    )
    other = schema.parse(text)
    monkeypatch.setattr(schema, "load", lambda: other)
    assert generate.main(["--check"]) == 1
    said = capsys.readouterr().out
    for path in generate.files(other):
        assert path.name in said


def test_files_are_written_where_they_differ(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "one.h"
    monkeypatch.setattr(generate, "GENERATED", tmp_path)
    monkeypatch.setattr(generate, "files", lambda _rows: {target: "text\n"})
    assert generate.main([]) == 0
    assert target.read_text(encoding="utf-8") == "text\n"
    assert "wrote" in capsys.readouterr().out
    assert generate.main([]) == 0
    assert capsys.readouterr().out == ""
    assert generate.main(["--check"]) == 0


@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler (cc)")
@pytest.mark.parametrize("source", ["core/tg_frame.c", "golden/tg_golden.c", '#include "tg_bench.h"\nint nothing;\n'])
def test_headers_and_codec_compile_without_a_warning(source: str, tmp_path: Path) -> None:
    path = FIRMWARE / source
    if "include" in source:
        path = tmp_path / "bench.c"
        path.write_text(source, encoding="utf-8")
    places = [f"-I{FIRMWARE / name}" for name in ("core", "generated", "golden")]
    done = subprocess.run(["cc", *STRICT, *places, path], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_bench_memory_is_laid_out_as_agreed() -> None:
    # Two programs share it; the firmware's side checks the same offsets when it is compiled.
    assert bench_layout.BENCH_MAGIC.to_bytes(4, "little") == b"TGB1"
    assert Slot(0x08, "i") == bench_layout.ADC_CODE
    assert Slot(0x14, "I") == bench_layout.SWITCH_PIN
    assert bench_layout.WAVE_AT + 2 * bench_layout.WAVE_ROOM == bench_layout.BENCH_SIZE


def test_a_slot_reads_what_was_written_and_nothing_beside_it() -> None:
    memory = bytearray(b"\xaa" * 64)
    slot = Slot(8, "i")
    slot.write(memory, -5, base=16)
    assert slot.read(memory, base=16) == -5
    assert memory[:24] == b"\xaa" * 24
    assert memory[24:28] == b"\xfb\xff\xff\xff"
    assert memory[28:] == b"\xaa" * 36
