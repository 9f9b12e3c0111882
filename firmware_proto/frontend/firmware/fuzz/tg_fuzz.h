/* What tg_fuzz is made of: a random source, messages, and ways to spoil them. */
#ifndef TG_FUZZ_H
#define TG_FUZZ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tg_frame.h"

#define FUZZ_ROOM 2048u

typedef struct {
    uint64_t state;
} fuzz_random;

/* A message as its sender meant it. */
typedef struct {
    uint8_t id;
    uint16_t seq;
    uint32_t session;
    uint16_t length;
    uint8_t payload[TG_MAX_PAYLOAD];
} fuzz_sent;

fuzz_random fuzz_seeded(uint64_t seed);
uint64_t fuzz_next(fuzz_random *r);
uint32_t fuzz_below(fuzz_random *r, uint32_t bound);

/* Makes a message of `side` with the right length and any content. */
void fuzz_fill(fuzz_sent *sent, fuzz_random *r, uint8_t side, uint32_t session, uint16_t seq);

/* Writes a frame that is whole but wrong: length field, id, session, number, length of its id. Updates *sent to what
 * the frame says, and may move *seq. Returns its length. */
size_t fuzz_dishonest(uint8_t *coded, fuzz_sent *sent, fuzz_random *r, uint16_t *seq);

/* Spoils `length` bytes on the wire as a line does; `other` is a second frame to splice with. Returns the new length. */
size_t fuzz_damage(uint8_t *coded, size_t length, const fuzz_sent *other, fuzz_random *r);

/* Whether header and id agree with the length of a body (header and payload). */
bool fuzz_plausible(const uint8_t *body, size_t length);

int fuzz_exhaust(unsigned bits);

#endif
