/* Memory shared between a firmware on the bench and the twin that feeds it. Naturally aligned, little-endian.
 * Generated from schema.toml by firmware_proto.frontend.generate; do not edit. */
#ifndef TG_BENCH_H
#define TG_BENCH_H

#include <stddef.h>
#include <stdint.h>

#define TG_BENCH_MAGIC 0x31424754u
#define TG_BENCH_VERSION 1u
#define TG_BENCH_SIZE 0x20100u
#define TG_BENCH_WAVE_ROOM 65536u

typedef struct {
    uint32_t magic; /* 0x31424754 once the owner has laid it out. */
    uint32_t version; /* Of this layout. */
    int32_t adc_code; /* code: What the converter reads while neither wave nor ramp is on. */
    uint32_t adc_fault; /* 0 answers, 1 gives no sample. */
    uint32_t stuck; /* 1: the switch stays closed whatever the pin says. */
    uint32_t switch_pin; /* out, What the pin is driven to: 1 closed. */
    uint32_t switch_sense; /* out, What the switch is: 1 closed. */
    uint32_t opens; /* out, Openings since boot. */
    uint64_t open_index; /* out, sample: Sample of the last opening. */
    uint64_t open_ticks; /* out, tick: Device time of the last opening. */
    uint64_t sample_index; /* out, sample: Samples taken since boot. */
    uint64_t ticks; /* out, tick: Device time of the last sample. */
    uint32_t noise_code; /* code: Peak of the triangular noise that is added; 0: none. */
    uint32_t noise_seed; /* Seed of that noise. */
    uint32_t wave_n; /* sample: Length of the wave; 0: adc_code is held. */
    uint32_t wave_loop; /* 1: the wave begins anew at its end, else its last code is held. */
    uint64_t wave_from; /* sample: Sample at which wave[0] is due. */
    uint64_t t0_ticks; /* tick: Ramp: begins at this device time. */
    int32_t code0; /* code: Ramp: code at t0_ticks and before. */
    uint8_t reserved_64[4];
    uint64_t t1_ticks; /* tick: Ramp: ends at this device time. */
    int32_t code1; /* code: Ramp: code at t1_ticks and after; linear between. */
    uint32_t ramp_seq; /* Sequence lock of the ramp: odd while it is written; 0: no ramp. */
    uint8_t reserved_78[136];
    int16_t wave[65536]; /* code: The wave. */
} tg_bench;

/* An array of negative size, should a compiler lay it out otherwise. */
typedef char tg_bench_laid_out[(offsetof(tg_bench, magic) == 0x0 &&
                                 offsetof(tg_bench, version) == 0x4 &&
                                 offsetof(tg_bench, adc_code) == 0x8 &&
                                 offsetof(tg_bench, adc_fault) == 0xC &&
                                 offsetof(tg_bench, stuck) == 0x10 &&
                                 offsetof(tg_bench, switch_pin) == 0x14 &&
                                 offsetof(tg_bench, switch_sense) == 0x18 &&
                                 offsetof(tg_bench, opens) == 0x1C &&
                                 offsetof(tg_bench, open_index) == 0x20 &&
                                 offsetof(tg_bench, open_ticks) == 0x28 &&
                                 offsetof(tg_bench, sample_index) == 0x30 &&
                                 offsetof(tg_bench, ticks) == 0x38 &&
                                 offsetof(tg_bench, noise_code) == 0x40 &&
                                 offsetof(tg_bench, noise_seed) == 0x44 &&
                                 offsetof(tg_bench, wave_n) == 0x48 &&
                                 offsetof(tg_bench, wave_loop) == 0x4C &&
                                 offsetof(tg_bench, wave_from) == 0x50 &&
                                 offsetof(tg_bench, t0_ticks) == 0x58 &&
                                 offsetof(tg_bench, code0) == 0x60 &&
                                 offsetof(tg_bench, t1_ticks) == 0x68 &&
                                 offsetof(tg_bench, code1) == 0x70 &&
                                 offsetof(tg_bench, ramp_seq) == 0x74 &&
                                 offsetof(tg_bench, wave) == 0x100 &&
                                 sizeof(tg_bench) == TG_BENCH_SIZE)
                                    ? 1
                                    : -1];

#endif
