#include "bench_side.h"

/* A writer that dies in the middle of a ramp must not hold up the sample interrupt. */
#define TRIES 64

void bench_side_start(bench_side *side, volatile tg_bench *memory)
{
    side->memory = memory;
    side->noise_seed = 0;
    side->noise_state = 1;
    side->t0_ticks = side->t1_ticks = 0;
    side->code0 = side->code1 = 0;
}

/* Keeps the ramp before it while the next one is being written. */
static void read_ramp(bench_side *side, uint32_t seq)
{
    volatile tg_bench *memory = side->memory;
    for (int i = 0; i < TRIES; i++) {
        if (!(seq & 1u)) {
            uint64_t t0 = memory->t0_ticks;
            uint64_t t1 = memory->t1_ticks;
            int32_t code0 = memory->code0;
            int32_t code1 = memory->code1;
            if (memory->ramp_seq == seq) {
                side->t0_ticks = t0;
                side->t1_ticks = t1;
                side->code0 = code0;
                side->code1 = code1;
                return;
            }
        }
        seq = memory->ramp_seq;
    }
}

static int32_t on_ramp(const bench_side *side, uint64_t ticks)
{
    if (ticks >= side->t1_ticks) {
        return side->code1;
    }
    if (ticks <= side->t0_ticks) {
        return side->code0;
    }
    int64_t rise = (int64_t)side->code1 - side->code0;
    return (int32_t)(side->code0 + rise * (int64_t)(ticks - side->t0_ticks) / (int64_t)(side->t1_ticks - side->t0_ticks));
}

static uint32_t draw(bench_side *side)
{
    uint32_t x = side->noise_state;
    x ^= x << 13;
    x ^= x >> 17;
    x ^= x << 5;
    side->noise_state = x;
    return x;
}

/* Triangular, -peak to +peak: the sum of two uniform numbers. */
static int32_t noise(bench_side *side, uint32_t peak)
{
    uint32_t seed = side->memory->noise_seed;
    if (seed != side->noise_seed) {
        side->noise_seed = seed;
        side->noise_state = seed ? seed : 1u;
    }
    uint32_t x = draw(side);
    int64_t sum = (int64_t)(x & 0xFFFFu) + (int64_t)(x >> 16) - 65535;
    return (int32_t)(sum * (int64_t)(peak > 32767u ? 32767u : peak) / 65535);
}

static int32_t read_code(bench_side *side, uint64_t index, uint64_t due_ticks)
{
    volatile tg_bench *memory = side->memory;
    uint32_t n = memory->wave_n;
    if (n && n <= TG_BENCH_WAVE_ROOM && index >= memory->wave_from) {
        uint64_t at = index - memory->wave_from;
        if (at >= n) {
            at = memory->wave_loop ? at % n : n - 1u;
        }
        return memory->wave[at];
    }
    uint32_t seq = memory->ramp_seq;
    if (seq) {
        read_ramp(side, seq);
        return on_ramp(side, due_ticks);
    }
    return memory->adc_code;
}

bool bench_side_convert(bench_side *side, uint64_t index, uint64_t due_ticks, bool conducts, int16_t *code)
{
    volatile tg_bench *memory = side->memory;
    if (memory->adc_fault) {
        return false;
    }
    int32_t value = conducts ? read_code(side, index, due_ticks) : 0;
    uint32_t peak = memory->noise_code;
    if (peak) {
        value += noise(side, peak);
    }
    *code = (int16_t)(value > 32767 ? 32767 : value < -32768 ? -32768 : value);
    return true;
}
