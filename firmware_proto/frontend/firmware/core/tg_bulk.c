#include "tg_bulk.h"

#include <stddef.h>

void tg_bulk_start(tg_bulk *bulk, uint8_t stream, uint16_t decimation, uint32_t block_samples)
{
    uint32_t codes = block_samples;
    if (stream == TG_STREAM_MINMAX) {
        codes = decimation ? block_samples / decimation * 2u : 0;
        codes = codes < 2u ? 2u : codes;
    }
    bulk->stream = stream;
    bulk->decimation = decimation;
    bulk->full_at = (uint16_t)(codes < 1u ? 1u : codes > TG_BULK_CODES ? TG_BULK_CODES : codes);
    bulk->pair_n = 0;
    bulk->in = 0;
    bulk->out = 0;
    bulk->blocks[0].codes_n = 0;
    bulk->blocks[0].samples = 0;
}

/* Hands the block on if there is room for the next one, else fills it anew. */
static uint32_t close_block(tg_bulk *bulk)
{
    tg_block *block = &bulk->blocks[bulk->in % TG_BULK_BLOCKS];
    uint32_t lost = 0;
    if (bulk->in + 1u - bulk->out < TG_BULK_BLOCKS) {
        bulk->in++;
        block = &bulk->blocks[bulk->in % TG_BULK_BLOCKS];
    } else {
        lost = block->samples;
    }
    block->codes_n = 0;
    block->samples = 0;
    return lost;
}

uint32_t tg_bulk_put(tg_bulk *bulk, uint64_t index, uint64_t ticks, int16_t code)
{
    tg_block *block = &bulk->blocks[bulk->in % TG_BULK_BLOCKS];
    if (bulk->stream == TG_STREAM_OFF) {
        return 0;
    }
    if (!block->samples) {
        block->index = index;
        block->ticks = ticks;
    }
    block->samples++;
    if (bulk->stream == TG_STREAM_FULL) {
        block->codes[block->codes_n++] = code;
    } else {
        bulk->pair_min = !bulk->pair_n || code < bulk->pair_min ? code : bulk->pair_min;
        bulk->pair_max = !bulk->pair_n || code > bulk->pair_max ? code : bulk->pair_max;
        if (++bulk->pair_n < bulk->decimation) {
            return 0;
        }
        bulk->pair_n = 0;
        block->codes[block->codes_n++] = bulk->pair_min;
        block->codes[block->codes_n++] = bulk->pair_max;
    }
    return block->codes_n >= bulk->full_at ? close_block(bulk) : 0;
}

uint32_t tg_bulk_gap(tg_bulk *bulk)
{
    tg_block *block = &bulk->blocks[bulk->in % TG_BULK_BLOCKS];
    uint32_t lost = bulk->pair_n; /* a pair that will never be whole */
    block->samples = (uint16_t)(block->samples - bulk->pair_n);
    bulk->pair_n = 0;
    if (block->codes_n) {
        lost += close_block(bulk);
    } else {
        block->samples = 0;
    }
    return lost;
}

const tg_block *tg_bulk_next(const tg_bulk *bulk)
{
    return bulk->out == bulk->in ? NULL : &bulk->blocks[bulk->out % TG_BULK_BLOCKS];
}

void tg_bulk_sent(tg_bulk *bulk)
{
    bulk->out++;
}
