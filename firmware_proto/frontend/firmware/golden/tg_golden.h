/* Golden vectors in C: the tables are generated, tg_golden.c runs them. Needs no libc, so that a device can. */
#ifndef TG_GOLDEN_H
#define TG_GOLDEN_H

#include <stddef.h>
#include <stdint.h>

#include "tg_frame.h"
#include "tg_schema.h"

typedef struct {
    const char *name;
    uint8_t id;
    uint16_t seq;
    uint32_t session;
    const uint8_t *payload;
    size_t length;
    const uint8_t *frame; /* with its delimiters */
    size_t frame_length;
    const void *fields; /* the message's struct, 0 where it has no fields */
    int (*agree)(const void *fields, const uint8_t *payload);
    const int16_t *items;
    size_t item_count;
    size_t fixed; /* where the items begin in the payload */
} tg_golden_vector;

typedef struct {
    tg_event kind;
    uint8_t id; /* the rest is 0 for what was refused */
    uint16_t seq;
    uint32_t session;
    uint16_t gap;
} tg_golden_event;

typedef struct {
    const char *name;
    uint8_t side;
    uint32_t session;
    const uint8_t *bytes;
    size_t length;
    const tg_golden_event *events;
    size_t event_count;
} tg_golden_stream;

extern const tg_golden_vector tg_golden_vectors[];
extern const size_t tg_golden_vector_count;
extern const tg_golden_stream tg_golden_streams[];
extern const size_t tg_golden_stream_count;

/* Returns how many bytes differ. */
int tg_golden_differ(const uint8_t *one, const uint8_t *other, size_t length);

/* Runs every vector through encoder and decoder, and every stream through the decoder; returns the number of failures.
 * Not reentrant. */
int tg_golden(void);

/* The name of the first vector or stream of the last run that failed; 0: none did. */
extern const char *tg_golden_failed;

#endif
