"""The memory between bench and firmware: where things stand, by the schema's own layout."""

from __future__ import annotations

import mmap
import struct
from pathlib import Path

import numpy as np
import pytest

from firmware_proto.frontend import bench_layout as layout
from hil.errors import BenchOptionError
from hil.frontend.bench_memory import BYTES, BenchMemory, Pin


def test_what_is_written_stands_where_the_schema_says(tmp_path: Path) -> None:
    path = tmp_path / "bench"
    with BenchMemory.created(path) as memory:
        memory.hold(-77)
        memory.noise(5, 0x1_0000_0007)
        memory.answer(silent=True)
        memory.stick(stuck=True)
        data = path.read_bytes()
        assert len(data) == BYTES == layout.BENCH_SIZE
        assert data[:4] == b"TGB1"
        seen = [
            slot.read(data[:])  # type: ignore[arg-type] # bytes do for reading
            for slot in (layout.VERSION, layout.ADC_CODE, layout.NOISE_CODE, layout.NOISE_SEED, layout.ADC_FAULT)
        ]
        assert seen == [layout.BENCH_VERSION, -77, 5, 7, 1]
        seen = [memory.stuck]
        memory.stick(stuck=False)
        memory.answer(silent=False)
        assert [*seen, memory.stuck] == [True, False]
    assert path.exists()


def test_a_ramp_has_an_even_number_that_is_never_none(tmp_path: Path) -> None:
    path = tmp_path / "bench"
    with BenchMemory.created(path) as memory:
        for n in range(3):
            memory.ramp(10 + n, -5, 20 + n, 6)
            data = path.read_bytes()
            assert struct.unpack_from("<Q", data, layout.T0_TICKS.at) == (10 + n,)
            assert struct.unpack_from("<i", data, layout.CODE0.at) == (-5,)
            assert struct.unpack_from("<Q", data, layout.T1_TICKS.at) == (20 + n,)
            assert struct.unpack_from("<i", data, layout.CODE1.at) == (6,)
            (seq,) = struct.unpack_from("<I", data, layout.RAMP_SEQ.at)
            assert seq == 2 * (n + 1)
        with path.open("r+b") as file:
            file.seek(layout.RAMP_SEQ.at)
            file.write(struct.pack("<I", 0xFFFFFFFE))
        memory.ramp(1, 2, 3, 4)
        assert struct.unpack_from("<I", path.read_bytes(), layout.RAMP_SEQ.at) == (2,)
        memory.hold(9)
        assert struct.unpack_from("<I", path.read_bytes(), layout.RAMP_SEQ.at) == (0,)


def test_a_wave_is_whole_before_it_counts(tmp_path: Path) -> None:
    path = tmp_path / "bench"
    with BenchMemory.created(path) as memory:
        memory.wave(np.arange(-3, 4, dtype=np.int16), 1_000, loop=True)
        data = path.read_bytes()
        assert data[layout.WAVE_AT : layout.WAVE_AT + 14] == struct.pack("<7h", *range(-3, 4))
        assert struct.unpack_from("<IIQ", data, layout.WAVE_N.at) == (7, 1, 1_000)
        memory.no_wave()
        assert struct.unpack_from("<I", path.read_bytes(), layout.WAVE_N.at) == (0,)
        for count in (0, layout.WAVE_ROOM + 1):
            with pytest.raises(BenchOptionError, match="want 1 to 65536"):
                memory.wave(np.zeros(count, np.int16), 0)


def test_the_pin_is_read_and_opens_without_power(tmp_path: Path) -> None:
    path = tmp_path / "bench"
    with BenchMemory.created(path) as memory:
        with path.open("r+b") as file:
            mapped = mmap.mmap(file.fileno(), BYTES)
        with mapped:
            for slot, value in (
                (layout.SWITCH_PIN, 1),
                (layout.SWITCH_SENSE, 1),
                (layout.OPENS, 3),
                (layout.OPEN_INDEX, 1 << 40),
                (layout.OPEN_TICKS, 5),
                (layout.SAMPLE_INDEX, 12),
                (layout.TICKS, 13),
            ):
                slot.write(mapped, value)
            assert memory.pin() == Pin(True, True, 3, 1 << 40, 5)
            assert (memory.sample_index, memory.ticks) == (12, 13)
            memory.unpowered()
            assert memory.pin()[:3] == (False, True, 0)


def test_what_cannot_be_had_is_told(tmp_path: Path) -> None:
    with pytest.raises(BenchOptionError, match="name a file in a writable folder"), BenchMemory.created(tmp_path):
        pass
    with mmap.mmap(-1, BYTES) as short, pytest.raises(BenchOptionError, match="want at least"):
        BenchMemory(short, offset=1)
