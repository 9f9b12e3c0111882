#include <string.h>

#include "tg_fuzz.h"

static void flip(uint8_t *coded, size_t length, uint32_t bits, fuzz_random *r)
{
    while (bits--) {
        uint32_t bit = fuzz_below(r, (uint32_t)length * 8u);
        coded[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
}

static size_t take_out(uint8_t *coded, size_t length, size_t count, fuzz_random *r)
{
    if (count >= length)
        count = length - 1;
    size_t at = fuzz_below(r, (uint32_t)(length - count + 1));
    memmove(coded + at, coded + at + count, length - at - count);
    return length - count;
}

static size_t put_in(uint8_t *coded, size_t length, size_t count, fuzz_random *r)
{
    size_t at = fuzz_below(r, (uint32_t)length);
    memmove(coded + at + count, coded + at, length - at);
    for (size_t i = 0; i < count; i++)
        coded[at + i] = (uint8_t)fuzz_next(r);
    return length + count;
}

static size_t splice(uint8_t *coded, size_t length, const fuzz_sent *other, fuzz_random *r)
{
    uint8_t second[TG_FRAME_MAX];
    size_t tail = tg_encode(second, other->id, other->seq, other->session, other->payload, other->length);
    size_t keep = fuzz_below(r, (uint32_t)length);
    size_t from = fuzz_below(r, (uint32_t)tail);
    memcpy(coded + keep, second + from, tail - from);
    return keep + tail - from;
}

static size_t garbage(uint8_t *coded, fuzz_random *r)
{
    size_t length = 1 + fuzz_below(r, fuzz_below(r, 8) ? 60 : 700);
    bool zeros = fuzz_below(r, 2);
    for (size_t i = 0; i < length; i++)
        coded[i] = (uint8_t)(fuzz_next(r) >> 40) | (zeros ? 0u : 1u);
    coded[length] = 0;
    return length + 1;
}

/* Another value for one of COBS's own bytes: payload moves although one byte only was hit. */
static void hit_code(uint8_t *coded, size_t length, fuzz_random *r)
{
    size_t at = coded[0] ? 0 : 1;
    size_t hits = fuzz_below(r, 6);
    while (hits-- && at + coded[at] < length - 1)
        at += coded[at];
    coded[at] = (uint8_t)(1u + fuzz_below(r, 2) * fuzz_below(r, 254) + fuzz_below(r, 16));
}

size_t fuzz_damage(uint8_t *coded, size_t length, const fuzz_sent *other, fuzz_random *r)
{
    switch (fuzz_below(r, 13)) {
    case 0:
        flip(coded, length, 1, r);
        return length;
    case 1:
        flip(coded, length, 2 + fuzz_below(r, 3), r);
        return length;
    case 2:
        flip(coded, length, 5 + fuzz_below(r, 12), r);
        return length;
    case 3: { /* a burst */
        size_t at = fuzz_below(r, (uint32_t)length);
        size_t end = at + 1 + fuzz_below(r, 12);
        for (; at < length && at < end; at++)
            coded[at] = (uint8_t)fuzz_next(r);
        return length;
    }
    case 4:
        return take_out(coded, length, 1, r);
    case 5:
        return take_out(coded, length, 1 + fuzz_below(r, 12), r);
    case 6:
        return put_in(coded, length, 1 + fuzz_below(r, 4), r);
    case 7: /* half a frame, the line then quiet */
        length = 1 + fuzz_below(r, (uint32_t)length - 1);
        coded[length++] = 0;
        return length;
    case 8: /* half a frame, the next right behind */
        return 1 + fuzz_below(r, (uint32_t)length - 1);
    case 9:
        return splice(coded, length, other, r);
    case 10:
        return garbage(coded, r);
    case 11:
        hit_code(coded, length, r);
        return length;
    default: { /* two neighbours change places */
        size_t at = fuzz_below(r, (uint32_t)length - 1);
        uint8_t byte = coded[at];
        coded[at] = coded[at + 1];
        coded[at + 1] = byte;
        return length;
    }
    }
}
