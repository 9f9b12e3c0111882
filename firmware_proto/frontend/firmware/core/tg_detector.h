/* The tests on each sample while the switch is closed. Integers only; the semantics in full, and the same bits, are in
   firmware_proto/frontend/detector_model.py. */
#ifndef TG_DETECTOR_H
#define TG_DETECTOR_H

#include <stdint.h>

#include "tg_schema.h"

typedef struct {
    const tg_config *config; /* the one in force, itself */
    uint16_t full_scale_code;
    uint32_t seen;       /* samples since the start; stays large once it is */
    int32_t baseline_q8; /* codes * 256 */
    uint32_t level_run;  /* consecutive samples at or above level_code, stops at its largest */
    int16_t ring[TG_RATE_RING];
} tg_detector;

/* From here on nothing is known of earlier samples. `config` is in range and has to stay. */
void tg_detector_start(tg_detector *detector, const tg_config *config, uint16_t full_scale_code);

/* Takes the next code; returns TG_REASON_NONE or the first reason that holds of SATURATED HARD JUMP LEVEL RATE. */
uint8_t tg_detector_step(tg_detector *detector, int16_t code);

/* Of the tests for this reason: its limit in codes; 0 for a reason that is no test's. */
uint16_t tg_detector_threshold(const tg_detector *detector, uint8_t reason);

/* The baseline in whole codes, rounded down. */
int16_t tg_detector_baseline(const tg_detector *detector);

#endif
