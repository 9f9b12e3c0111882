/* The analog side of an emulated board, as the schema's bench memory describes it: what the converter reads. Somebody
   else writes that memory meanwhile. */
#ifndef TG_MPS2_BENCH_SIDE_H
#define TG_MPS2_BENCH_SIDE_H

#include <stdbool.h>
#include <stdint.h>

#include "tg_bench.h"

typedef struct {
    volatile tg_bench *memory;
    uint32_t noise_seed; /* whose sequence noise_state is in */
    uint32_t noise_state;
    /* The last ramp that was read whole. */
    uint64_t t0_ticks, t1_ticks;
    int32_t code0, code1;
} bench_side;

void bench_side_start(bench_side *side, volatile tg_bench *memory);

/* The code of sample `index`, due at `due_ticks`; false: the converter does not answer. `conducts`: the path is closed,
   else there is no current and the code is noise. */
bool bench_side_convert(bench_side *side, uint64_t index, uint64_t due_ticks, bool conducts, int16_t *code);

#endif
