/* The black box: a ring of the latest codes that a trip stops, after post_n more, and that stays until it is released. */
#ifndef TG_BOX_H
#define TG_BOX_H

#include <stdbool.h>
#include <stdint.h>

#include "tg_schema.h"

/* Codes; a power of two. A board with more memory may have more. */
#ifndef TG_BOX_MAX
#define TG_BOX_MAX 4096u
#endif

typedef struct {
    int16_t codes[TG_BOX_MAX];
    uint32_t taken;  /* codes since the start; wraps */
    uint16_t filled; /* of them still there */
    uint16_t pre_n;
    uint16_t post_n;
    bool held;       /* a trip owns what is in it */
    uint32_t first;  /* of the trip's codes, counted as `taken` */
    uint16_t n;      /* how many belong to the trip once all are there */
    uint16_t trip_at;
    uint16_t left;   /* of them still to come */
} tg_blackbox;

void tg_blackbox_start(tg_blackbox *box);
/* pre_n + 1 + post_n <= TG_BOX_MAX; not while held. */
void tg_blackbox_configure(tg_blackbox *box, uint16_t pre_n, uint16_t post_n);
/* Nothing happens once a trip has all its codes. */
void tg_blackbox_push(tg_blackbox *box, int16_t code);
/* The code pushed last, or the next one if there was none, is the trip's. */
void tg_blackbox_trip(tg_blackbox *box);
void tg_blackbox_release(tg_blackbox *box);
/* Codes of the trip that can be read by now. */
uint16_t tg_blackbox_ready(const tg_blackbox *box);
/* offset < tg_blackbox_ready. */
int16_t tg_blackbox_code(const tg_blackbox *box, uint16_t offset);

#endif
