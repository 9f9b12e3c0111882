#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "tg_fuzz.h"

#define SESSION 0x3C91D7A5u
#define BITS_MAX 6u

/* The frames that close a switch, keep it closed, say what limits it, or say that it opened; fields as they may be. */
static const struct {
    const char *name;
    uint8_t id;
    uint8_t length;
    uint8_t payload[40];
} SHORT[] = {
    {"TRIP", TG_TRIP, 0, {0}},
    {"OPEN", TG_OPEN, 0, {0}},
    {"LEASE", TG_LEASE, 12, {0x39, 0x30, 0, 0, 0x80, 0x1A, 0x06, 0x2F, 0x5C, 0x01, 0, 0}},
    {"ARM", TG_ARM, 16, {0xEF, 0xBE, 0xAD, 0xDE, 1, 0, 0, 0, 0x80, 0x1A, 0x06, 0x2F, 0x5C, 0x01, 0, 0}},
    {"CONFIG", TG_CONFIG, 22, {1, 0, 0xD4, 0x30, 0x88, 0x13, 3, 0xC4, 9, 0, 3, 6, 0xC4, 9, 8, 0xE8, 3, 0xD0, 7, 1, 100, 0}},
    {"TRIP_REPORT", TG_TRIP_REPORT, 32, {1, 0, 0, 0, 1, 0x40, 0xE2, 1, 0, 0, 0, 0, 0, 0x80, 0x1A, 0x06, 0x2F, 0x5C, 1, 0,
                                         0, 0xD8, 0x40, 0xD4, 0x30, 0x2C, 1, 0, 0xE8, 3, 0xE8, 3}},
};

typedef struct {
    const uint8_t *sent;
    size_t length;
    uint8_t id;
    const uint8_t *payload;
    size_t payload_length;
    uint64_t patterns;
    uint64_t accepted; /* another frame than was sent, or the same in spite of it all */
    uint64_t altered;
} exhaust_run;

static void try_one(exhaust_run *run, const uint8_t *coded)
{
    static tg_decoder decoder;
    tg_frame frame;
    tg_decoder_start(&decoder, run->id & 0x80u);
    decoder.session = SESSION;
    run->patterns++;
    for (size_t at = 0; at <= run->length; at++) {
        /* A delimiter behind it all, in case the frame's own was hit. */
        if (tg_decode_byte(&decoder, at < run->length ? coded[at] : 0, &frame) != TG_GOT_FRAME)
            continue;
        run->accepted++;
        run->altered += frame.id != run->id || frame.length != run->payload_length ||
                        memcmp(frame.payload, run->payload, run->payload_length) || frame.seq != 0x0102u ||
                        frame.session != SESSION;
    }
}

static void turn(exhaust_run *run, uint8_t *coded, size_t from, unsigned left)
{
    for (size_t bit = from; bit < run->length * 8; bit++) {
        coded[bit / 8] ^= (uint8_t)(1u << bit % 8);
        if (left == 1)
            try_one(run, coded);
        else
            turn(run, coded, bit + 1, left - 1);
        coded[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
}

int fuzz_exhaust(unsigned bits)
{
    uint64_t altered = 0;
    if (bits == 0 || bits > BITS_MAX) {
        fprintf(stderr, "tg_fuzz: exhaust takes 1..%u bits\n", BITS_MAX);
        return 2;
    }
    for (size_t which = 0; which < sizeof SHORT / sizeof SHORT[0]; which++) {
        for (unsigned count = 1; count <= bits; count++) {
            uint8_t coded[TG_FRAME_MAX];
            exhaust_run run = {coded, 0, SHORT[which].id, SHORT[which].payload, SHORT[which].length, 0, 0, 0};
            run.length = tg_encode(coded, run.id, 0x0102u, SESSION, run.payload, run.payload_length);
            turn(&run, coded, 0, count);
            altered += run.altered;
            printf("{\"message\": \"%s\", \"bits\": %u, \"patterns\": %" PRIu64 ", \"unharmed\": %" PRIu64
                   ", \"undetected\": %" PRIu64 "}\n",
                   SHORT[which].name, count, run.patterns, run.accepted - run.altered, run.altered);
            fflush(stdout);
        }
    }
    return altered != 0;
}
