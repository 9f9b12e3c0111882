"""Memory shared between a firmware on the bench and the twin that feeds it. Naturally aligned, little-endian.

Generated from schema.toml by firmware_proto.frontend.generate; do not edit.
"""

from __future__ import annotations

from typing import Final

from firmware_proto.frontend.slot import Slot

BENCH_MAGIC: Final = 0x31424754
BENCH_VERSION: Final = 1
BENCH_SIZE: Final = 0x20100
MAGIC: Final = Slot(0x00, "I")
"""u32: 0x31424754 once the owner has laid it out."""
VERSION: Final = Slot(0x04, "I")
"""u32: Of this layout."""
ADC_CODE: Final = Slot(0x08, "i")
"""i32, code: What the converter reads while neither wave nor ramp is on."""
ADC_FAULT: Final = Slot(0x0C, "I")
"""u32: 0 answers, 1 gives no sample."""
STUCK: Final = Slot(0x10, "I")
"""u32: 1: the switch stays closed whatever the pin says."""
SWITCH_PIN: Final = Slot(0x14, "I")
"""u32: What the pin is driven to: 1 closed. Written by the firmware."""
SWITCH_SENSE: Final = Slot(0x18, "I")
"""u32: What the switch is: 1 closed. Written by the firmware."""
OPENS: Final = Slot(0x1C, "I")
"""u32: Openings since boot. Written by the firmware."""
OPEN_INDEX: Final = Slot(0x20, "Q")
"""u64, sample: Sample of the last opening. Written by the firmware."""
OPEN_TICKS: Final = Slot(0x28, "Q")
"""u64, tick: Device time of the last opening. Written by the firmware."""
SAMPLE_INDEX: Final = Slot(0x30, "Q")
"""u64, sample: Samples taken since boot. Written by the firmware."""
TICKS: Final = Slot(0x38, "Q")
"""u64, tick: Device time of the last sample. Written by the firmware."""
NOISE_CODE: Final = Slot(0x40, "I")
"""u32, code: Peak of the triangular noise that is added; 0: none."""
NOISE_SEED: Final = Slot(0x44, "I")
"""u32: Seed of that noise."""
WAVE_N: Final = Slot(0x48, "I")
"""u32, sample, 0..65536: Length of the wave; 0: adc_code is held."""
WAVE_LOOP: Final = Slot(0x4C, "I")
"""u32: 1: the wave begins anew at its end, else its last code is held."""
WAVE_FROM: Final = Slot(0x50, "Q")
"""u64, sample: Sample at which wave[0] is due."""
T0_TICKS: Final = Slot(0x58, "Q")
"""u64, tick: Ramp: begins at this device time."""
CODE0: Final = Slot(0x60, "i")
"""i32, code: Ramp: code at t0_ticks and before."""
T1_TICKS: Final = Slot(0x68, "Q")
"""u64, tick: Ramp: ends at this device time."""
CODE1: Final = Slot(0x70, "i")
"""i32, code: Ramp: code at t1_ticks and after; linear between."""
RAMP_SEQ: Final = Slot(0x74, "I")
"""u32: Sequence lock of the ramp: odd while it is written; 0: no ramp."""
WAVE_AT: Final = 0x100
"""i16, code: The wave. Little-endian i16 from here on."""
WAVE_ROOM: Final = 65536
