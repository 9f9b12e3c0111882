/* Makes streams of whole, damaged and dishonest frames, decodes them, and writes both: hil/frontend/fuzz.py decodes the
 * same bytes and compares. Built with sanitizers; a host's tool, no part of a firmware.
 *
 *   tg_fuzz stream SEED FRAMES BATCH   batches on stdout, see write_batch; a summary as one JSON line on stderr
 *   tg_fuzz exhaust BITS               every pattern of up to BITS wrong bits in short frames; JSON lines on stdout
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tg_bytes.h"
#include "tg_frame.h"
#include "tg_fuzz.h"

#define BATCH_MAX 100000u
#define KEPT 4u
#define ENCODED_EACH 16u /* of so many whole frames one is given to the other encoder, too */

typedef struct {
    uint8_t *bytes;
    size_t used;
    size_t room;
} heap;

static void append(heap *h, const void *data, size_t length)
{
    if (h->used + length > h->room) {
        h->room = 2 * (h->used + length) + 4096;
        h->bytes = realloc(h->bytes, h->room);
        if (!h->bytes) {
            fputs("tg_fuzz: out of memory\n", stderr);
            exit(1);
        }
    }
    if (length)
        memcpy(h->bytes + h->used, data, length);
    h->used += length;
}

typedef struct {
    heap stream;
    heap events;
    heap encoded;
    tg_decoder decoder;
    fuzz_sent kept[KEPT]; /* what was sent last: an accepted frame has to be one of them */
    unsigned keep;
    uint64_t frames;
    uint64_t damaged;
    uint64_t undetected;
    uint64_t crc_alone;  /* blocks that say something else than was sent, and that nothing but the CRC refused; */
    uint64_t plausible;  /* of those, with a length that fits their header and id, */
    uint64_t crc_low[3]; /* and whose CRC agreed in its low 8, 12, 16 bits */
    uint64_t by_event[8];
    uint64_t whole;
    uint64_t lost; /* whole, honest, behind a delimiter, and yet not taken */
} fuzz_run;

static bool was_sent(const fuzz_run *run, const tg_frame *frame)
{
    for (unsigned at = 0; at < KEPT; at++) {
        const fuzz_sent *sent = &run->kept[at];
        if (sent->id == frame->id && sent->seq == frame->seq && sent->session == frame->session &&
            sent->length == frame->length && !memcmp(sent->payload, frame->payload, frame->length))
            return true;
    }
    return false;
}

/* How close it was: the decoder still holds the block, nothing has come since. */
static void note_near(fuzz_run *run, size_t length)
{
    const uint8_t *raw = run->decoder.raw;
    uint32_t differs = tg_crc32(0, raw, length) ^ tg_get_u32(raw + length);
    tg_frame frame = {raw[0], tg_get_u16(raw + 3), tg_get_u32(raw + 5), 0, 0, raw + TG_HEADER_SIZE};
    frame.length = (uint16_t)(length - TG_HEADER_SIZE);
    if (tg_get_u16(raw + 1) == frame.length && was_sent(run, &frame))
        return; /* its CRC was hit and nothing else: had it agreed, no harm would have come */
    run->crc_alone++;
    run->plausible += fuzz_plausible(raw, length);
    run->crc_low[0] += !(differs & 0xFFu);
    run->crc_low[1] += !(differs & 0xFFFu);
    run->crc_low[2] += !(differs & 0xFFFFu);
}

static void take_event(fuzz_run *run, tg_event event, const tg_frame *frame, size_t used)
{
    uint8_t head[12];
    run->by_event[event]++;
    head[0] = (uint8_t)event;
    if (event != TG_GOT_FRAME) {
        append(&run->events, head, 1);
        if (event == TG_BAD_CRC)
            note_near(run, used - TG_CRC_SIZE);
        return;
    }
    head[1] = frame->id;
    tg_put_u16(head + 2, frame->seq);
    tg_put_u32(head + 4, frame->session);
    tg_put_u16(head + 8, frame->gap);
    tg_put_u16(head + 10, frame->length);
    append(&run->events, head, sizeof head);
    append(&run->events, frame->payload, frame->length);
    run->undetected += !was_sent(run, frame);
}

static void send(fuzz_run *run, const uint8_t *bytes, size_t length)
{
    append(&run->stream, bytes, length);
    for (size_t at = 0; at < length; at++) {
        tg_frame frame;
        size_t used = run->decoder.used;
        tg_event event = tg_decode_byte(&run->decoder, bytes[at], &frame);
        if (event != TG_GOT_NOTHING)
            take_event(run, event, &frame, used);
    }
}

/* Sends what has to be taken, if a session stands and the block before it has ended. After a jump of the number it may
 * count as a repetition. */
static void send_whole(fuzz_run *run, const uint8_t *coded, size_t length)
{
    bool clean = run->decoder.session && run->decoder.coded == 0;
    uint64_t before = run->by_event[TG_GOT_FRAME] + run->by_event[TG_REPEATED];
    send(run, coded, length);
    run->lost += clean && run->by_event[TG_GOT_FRAME] + run->by_event[TG_REPEATED] != before + 1;
}

static void note_encoded(fuzz_run *run, const fuzz_sent *sent, const uint8_t *coded, size_t length)
{
    uint8_t head[11];
    tg_put_u8(head, sent->id);
    tg_put_u16(head + 1, sent->seq);
    tg_put_u32(head + 3, sent->session);
    tg_put_u16(head + 7, sent->length);
    tg_put_u16(head + 9, (uint16_t)length);
    append(&run->encoded, head, sizeof head);
    append(&run->encoded, sent->payload, sent->length);
    append(&run->encoded, coded, length);
}

static void one(fuzz_run *run, fuzz_random *r, uint8_t side, uint32_t session, uint16_t *seq)
{
    uint8_t coded[FUZZ_ROOM];
    fuzz_sent *sent = &run->kept[run->keep++ % KEPT];
    fuzz_fill(sent, r, side, session, (*seq)++);
    size_t length = tg_encode(coded, sent->id, sent->seq, sent->session, sent->payload, sent->length);
    run->frames++;
    if (fuzz_below(r, 2) == 0) {
        if (run->whole++ % ENCODED_EACH == 0)
            note_encoded(run, sent, coded, length);
        send_whole(run, coded, length);
    } else if (fuzz_below(r, 4) == 0) {
        length = fuzz_dishonest(coded, sent, r, seq); /* whole and with a right CRC, but not what it should be */
        send(run, coded, length);
    } else if (fuzz_below(r, 16) == 0) { /* twice */
        send(run, coded, length);
        send(run, coded, length);
    } else {
        uint8_t before[FUZZ_ROOM];
        size_t had = length;
        fuzz_sent *other = &run->kept[run->keep++ % KEPT];
        fuzz_fill(other, r, side, session, (uint16_t)(*seq - 1u));
        memcpy(before, coded, length);
        length = fuzz_damage(coded, length, other, r);
        run->damaged += length != had || memcmp(before, coded, length);
        send(run, coded, length);
    }
}

static void write_batch(const fuzz_run *run, uint8_t side, uint32_t session, uint32_t frames)
{
    const tg_decoder *d = &run->decoder;
    uint8_t head[1 + 4 * 12];
    const uint32_t words[12] = {session,       frames,     (uint32_t)run->stream.used, (uint32_t)run->events.used,
                                (uint32_t)run->encoded.used, d->frames, d->bad_cobs, d->bad_length,
                                d->bad_crc,    d->unknown, d->stale,                   d->gaps};
    head[0] = side;
    for (size_t at = 0; at < 12; at++)
        tg_put_u32(head + 1 + 4 * at, words[at]);
    fwrite(head, 1, sizeof head, stdout);
    fwrite(run->stream.bytes, 1, run->stream.used, stdout);
    fwrite(run->events.bytes, 1, run->events.used, stdout);
    fwrite(run->encoded.bytes, 1, run->encoded.used, stdout);
}

static int stream(uint64_t seed, uint64_t frames, uint32_t batch)
{
    static fuzz_run run;
    fuzz_random r = fuzz_seeded(seed);
    while (run.frames < frames && !ferror(stdout)) {
        uint8_t side = fuzz_below(&r, 2) ? TG_SIDE_HOST : TG_SIDE_DEVICE;
        uint32_t session = fuzz_below(&r, 16) ? (uint32_t)fuzz_next(&r) : 0;
        uint16_t seq = (uint16_t)fuzz_next(&r);
        uint32_t count = frames - run.frames < batch ? (uint32_t)(frames - run.frames) : batch;
        run.stream.used = run.events.used = run.encoded.used = 0;
        tg_decoder_start(&run.decoder, side);
        run.decoder.session = session;
        for (uint32_t at = 0; at < count; at++)
            one(&run, &r, side, session, &seq);
        write_batch(&run, side, session, count);
    }
    free(run.stream.bytes);
    free(run.events.bytes);
    free(run.encoded.bytes);
    fprintf(stderr,
            "{\"frames\": %" PRIu64 ", \"damaged\": %" PRIu64 ", \"undetected\": %" PRIu64
            ", \"lost\": %" PRIu64 ", \"accepted\": %" PRIu64
            ", \"bad_cobs\": %" PRIu64 ", \"bad_length\": %" PRIu64 ", \"bad_crc\": %" PRIu64 ", \"unknown\": %" PRIu64
            ", \"stale\": %" PRIu64 ", \"repeated\": %" PRIu64 ", \"crc_alone\": %" PRIu64 ", \"plausible\": %" PRIu64
            ", \"crc_low8\": %" PRIu64 ", \"crc_low12\": %" PRIu64 ", \"crc_low16\": %" PRIu64 "}\n",
            run.frames, run.damaged, run.undetected, run.lost, run.by_event[TG_GOT_FRAME], run.by_event[TG_BAD_COBS],
            run.by_event[TG_BAD_LENGTH], run.by_event[TG_BAD_CRC], run.by_event[TG_UNKNOWN_ID],
            run.by_event[TG_STALE_SESSION], run.by_event[TG_REPEATED], run.crc_alone, run.plausible, run.crc_low[0],
            run.crc_low[1], run.crc_low[2]);
    return fflush(stdout) || ferror(stdout);
}

int main(int argc, char **argv)
{
    if (argc == 5 && !strcmp(argv[1], "stream")) {
        unsigned long batch = strtoul(argv[4], 0, 10);
        if (batch > 0 && batch <= BATCH_MAX)
            return stream(strtoull(argv[2], 0, 10), strtoull(argv[3], 0, 10), (uint32_t)batch);
    }
    if (argc == 3 && !strcmp(argv[1], "exhaust"))
        return fuzz_exhaust((unsigned)strtoul(argv[2], 0, 10));
    fputs("tg_fuzz stream SEED FRAMES BATCH | tg_fuzz exhaust BITS\n", stderr);
    return 2;
}
