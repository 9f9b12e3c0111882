#include <string.h>

#include "tg_bytes.h"
#include "tg_fuzz.h"

typedef struct {
    uint8_t id;
    uint16_t fixed;
    uint16_t item;
} row;

#define ROW(id, fixed, item) {id, fixed, item},
static const row ROWS[] = {TG_MESSAGES(ROW)};
#define ROW_COUNT (sizeof ROWS / sizeof ROWS[0])

fuzz_random fuzz_seeded(uint64_t seed)
{
    fuzz_random r = {seed * 0x9E3779B97F4A7C15ull + 0xD1B54A32D192ED03ull};
    if (!r.state)
        r.state = 1;
    for (int i = 0; i < 8; i++)
        fuzz_next(&r);
    return r;
}

uint64_t fuzz_next(fuzz_random *r) /* xorshift64* */
{
    r->state ^= r->state >> 12;
    r->state ^= r->state << 25;
    r->state ^= r->state >> 27;
    return r->state * 0x2545F4914F6CDD1Dull;
}

uint32_t fuzz_below(fuzz_random *r, uint32_t bound) { return (uint32_t)((fuzz_next(r) >> 32) * bound >> 32); }

static void bytes_of(uint8_t *at, size_t length, fuzz_random *r)
{
    uint32_t style = fuzz_below(r, 4);
    for (size_t i = 0; i < length; i++) {
        uint8_t byte = (uint8_t)(fuzz_next(r) >> 40);
        if (style == 0) /* mostly zeros */
            byte = byte & 7u ? 0 : byte;
        else if (style == 1) /* small codes of both signs */
            byte = i % 2 ? (uint8_t)-(byte & 1u) : byte;
        else if (style == 2) /* no zero: long groups */
            byte |= 1u;
        at[i] = byte;
    }
}

void fuzz_fill(fuzz_sent *sent, fuzz_random *r, uint8_t side, uint32_t session, uint16_t seq)
{
    const row *which;
    do
        which = &ROWS[fuzz_below(r, ROW_COUNT)];
    while ((which->id & 0x80u) != side);
    size_t length = which->fixed;
    bytes_of(sent->payload, length, r);
    if (which->item) {
        /* Mostly short, now and then as long as may be. */
        uint32_t most = (TG_MAX_PAYLOAD - which->fixed) / which->item;
        uint32_t count = fuzz_below(r, 16) ? fuzz_below(r, 40) : most - fuzz_below(r, 4);
        if (count > most)
            count = most;
        tg_put_u16(sent->payload + length - 2, (uint16_t)count);
        bytes_of(sent->payload + length, count * which->item, r);
        length += count * which->item;
    }
    sent->id = which->id;
    sent->seq = seq;
    sent->session = session;
    sent->length = (uint16_t)length;
}

/* An encoder that checks nothing; the simplest there is, by looking for the next zero. */
static size_t wrap(uint8_t *coded, const uint8_t *raw, size_t length)
{
    size_t out = 0;
    size_t at = 0;
    bool more = true;
    while (more) {
        size_t run = 0;
        while (at + run < length && raw[at + run] && run < 254)
            run++;
        coded[out++] = (uint8_t)(run + 1);
        memcpy(coded + out, raw + at, run);
        out += run;
        at += run;
        more = at < length;
        if (more && run < 254) {
            at++; /* the zero that the code stands for; if it was the last byte, an empty group has to say so */
        }
    }
    coded[out++] = 0;
    return out;
}

size_t fuzz_dishonest(uint8_t *coded, fuzz_sent *sent, fuzz_random *r, uint16_t *seq)
{
    uint8_t raw[FUZZ_ROOM / 2];
    size_t length = sent->length;
    uint16_t said = sent->length;
    size_t extra = 0;
    switch (fuzz_below(r, 7)) {
    case 0:
        said = (uint16_t)(said + 1u + fuzz_below(r, 0xFFFF));
        break;
    case 1:
        sent->id = (uint8_t)fuzz_next(r);
        break;
    case 2:
        sent->session = fuzz_below(r, 4) ? (uint32_t)fuzz_next(r) : 0;
        break;
    case 3: /* anywhere */
        sent->seq = (uint16_t)fuzz_next(r);
        *seq = (uint16_t)(sent->seq + 1u);
        break;
    case 4: /* about where a repetition ends and a gap begins */
        sent->seq = (uint16_t)(sent->seq + 100u - fuzz_below(r, 200));
        break;
    case 5:
        extra = 1 + fuzz_below(r, 4);
        said = (uint16_t)(said + extra);
        break;
    default: /* up to more than a decoder holds */
        extra = TG_MAX_PAYLOAD + 8u - length - fuzz_below(r, 16);
        extra = extra > FUZZ_ROOM ? 0 : extra;
        said = (uint16_t)(said + extra);
        break;
    }
    raw[0] = sent->id;
    tg_put_u16(raw + 1, said);
    tg_put_u16(raw + 3, sent->seq);
    tg_put_u32(raw + 5, sent->session);
    memcpy(raw + TG_HEADER_SIZE, sent->payload, length);
    bytes_of(raw + TG_HEADER_SIZE + length, extra, r);
    length += TG_HEADER_SIZE + extra;
    tg_put_u32(raw + length, tg_crc32(0, raw, length));
    return wrap(coded, raw, length + TG_CRC_SIZE);
}

bool fuzz_plausible(const uint8_t *body, size_t length)
{
    length -= TG_HEADER_SIZE;
    if (tg_get_u16(body + 1) != length)
        return false;
    for (size_t at = 0; at < ROW_COUNT; at++) {
        if (ROWS[at].id != body[0])
            continue;
        size_t want = ROWS[at].fixed;
        if (ROWS[at].item && length >= want)
            want += (size_t)ROWS[at].item * tg_get_u16(body + TG_HEADER_SIZE + want - 2);
        return want == length;
    }
    return false;
}
