#include "tg_detector.h"

/* Rounds towards minus infinity; C99 leaves the shift of a negative number to the compiler. */
static int32_t shift_down(int32_t value, uint8_t by)
{
    return value >= 0 ? value >> by : ~(~value >> by);
}

static uint32_t magnitude(int32_t value)
{
    return value < 0 ? (uint32_t)-value : (uint32_t)value;
}

void tg_detector_start(tg_detector *detector, const tg_config *config, uint16_t full_scale_code)
{
    detector->config = config;
    detector->full_scale_code = full_scale_code;
    detector->seen = 0;
    detector->baseline_q8 = 0;
    detector->level_run = 0;
}

static int jumps(const tg_detector *d, int32_t code)
{
    const tg_config *config = d->config;
    uint32_t away_q8 = magnitude(code * 256 - d->baseline_q8);
    return config->jump_code && d->seen >= 1u << config->baseline_shift
           && away_q8 >= (uint32_t)config->jump_code * 256u
           && (uint64_t)magnitude(code) * 65536u >= (uint64_t)config->jump_ratio_q8 * magnitude(d->baseline_q8);
}

static int rises(const tg_detector *d, int32_t code)
{
    const tg_config *config = d->config;
    if (!config->rate_code || d->seen < config->rate_n) {
        return 0;
    }
    return magnitude(code - d->ring[(d->seen - config->rate_n) % TG_RATE_RING]) >= config->rate_code;
}

uint8_t tg_detector_step(tg_detector *d, int16_t sample)
{
    const tg_config *config = d->config;
    int32_t code = sample;
    uint32_t size = magnitude(code);
    uint8_t reason = TG_REASON_NONE;

    if (!config->level_code || size < config->level_code) {
        d->level_run = 0;
    } else if (d->level_run < UINT32_MAX) {
        d->level_run++;
    }

    if (size >= d->full_scale_code) {
        reason = TG_REASON_SATURATED;
    } else if (size >= config->hard_code) {
        reason = TG_REASON_HARD;
    } else if (jumps(d, code)) {
        reason = TG_REASON_JUMP;
    } else if (config->level_code && d->level_run >= config->level_n) {
        reason = TG_REASON_LEVEL;
    } else if (rises(d, code)) {
        reason = TG_REASON_RATE;
    }

    if (!d->seen) {
        d->baseline_q8 = code * 256;
    } else {
        d->baseline_q8 += shift_down(code * 256 - d->baseline_q8, config->baseline_shift);
    }
    d->ring[d->seen % TG_RATE_RING] = sample;
    /* Stops where the ring's place stays right: at a multiple of the ring below the largest. */
    d->seen = d->seen == UINT32_MAX ? UINT32_MAX - TG_RATE_RING + 1u : d->seen + 1u;
    return reason;
}

uint16_t tg_detector_threshold(const tg_detector *d, uint8_t reason)
{
    switch (reason) {
    case TG_REASON_SATURATED:
        return d->full_scale_code;
    case TG_REASON_HARD:
        return d->config->hard_code;
    case TG_REASON_JUMP:
        return d->config->jump_code;
    case TG_REASON_LEVEL:
        return d->config->level_code;
    case TG_REASON_RATE:
        return d->config->rate_code;
    default:
        return 0;
    }
}

int16_t tg_detector_baseline(const tg_detector *d)
{
    return (int16_t)shift_down(d->baseline_q8, 8);
}
