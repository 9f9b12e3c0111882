/* What streams: blocks that the sample interrupt fills and the main loop sends. A full queue loses the block that was
   just filled, whole, and counts its samples; nothing here ever waits. Each side writes its own counter only, and in a
   call of its own, across which the compiler moves nothing. */
#ifndef TG_BULK_H
#define TG_BULK_H

#include <stdbool.h>
#include <stdint.h>

#include "tg_schema.h"

/* A board with more memory may have more of both. */
#ifndef TG_BULK_BLOCKS
#define TG_BULK_BLOCKS 4u /* a power of two; one of them is being filled */
#endif
#ifndef TG_BULK_CODES
#define TG_BULK_CODES 128u /* per block; even; a frame of them has to fit in TG_MAX_PAYLOAD */
#endif

typedef struct {
    uint64_t index; /* of the first sample */
    uint64_t ticks; /* when it was due */
    uint16_t codes_n;
    uint16_t samples;
    int16_t codes[TG_BULK_CODES];
} tg_block;

typedef struct {
    tg_block blocks[TG_BULK_BLOCKS];
    volatile uint32_t in;  /* written by the sample interrupt only */
    volatile uint32_t out; /* written by the main loop only */
    uint8_t stream;        /* the schema's Stream */
    uint16_t decimation;
    uint16_t full_at; /* codes that make a block */
    uint16_t pair_n;  /* samples in the pair being made */
    int16_t pair_min;
    int16_t pair_max;
} tg_bulk;

/* Empties the queue. `block_samples`: how many samples a block should span, so that it is young enough to be of use.
   With the sample interrupt held off. */
void tg_bulk_start(tg_bulk *bulk, uint8_t stream, uint16_t decimation, uint32_t block_samples);

/* Takes a sample; returns how many were lost just now (0, or a whole block of them). */
uint32_t tg_bulk_put(tg_bulk *bulk, uint64_t index, uint64_t ticks, int16_t code);

/* The next sample will not follow the last one: closes the block. Returns as tg_bulk_put. */
uint32_t tg_bulk_gap(tg_bulk *bulk);

/* The oldest full block, or NULL; it stays until tg_bulk_sent. */
const tg_block *tg_bulk_next(const tg_bulk *bulk);
void tg_bulk_sent(tg_bulk *bulk);

#endif
