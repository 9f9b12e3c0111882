#include "tg_golden.h"

#include "tg_bytes.h"

static tg_decoder decoder;
static uint8_t made[TG_FRAME_MAX];
const char *tg_golden_failed;

int tg_golden_differ(const uint8_t *one, const uint8_t *other, size_t length)
{
    int differ = 0;
    for (size_t at = 0; at < length; at++)
        differ += one[at] != other[at];
    return differ;
}

static int encode_it(const tg_golden_vector *v)
{
    size_t length = tg_encode(made, v->id, v->seq, v->session, v->payload, v->length);
    return length != v->frame_length || tg_golden_differ(made, v->frame, length);
}

static int decode_it(const tg_golden_vector *v)
{
    int frames = 0;
    int wrong = 0;
    tg_decoder_start(&decoder, v->id & 0x80u);
    decoder.session = v->session;
    for (size_t at = 0; at < v->frame_length; at++) {
        tg_frame frame;
        tg_event event = tg_decode_byte(&decoder, v->frame[at], &frame);
        if (event == TG_GOT_NOTHING)
            continue;
        if (event != TG_GOT_FRAME)
            return 1;
        frames++;
        wrong += frame.id != v->id || frame.seq != v->seq || frame.session != v->session || frame.gap != 0;
        wrong += frame.length != v->length || tg_golden_differ(frame.payload, v->payload, v->length);
    }
    return frames != 1 || wrong;
}

static int fields_of(const tg_golden_vector *v)
{
    int wrong = v->agree ? v->agree(v->fields, v->payload) : 0;
    for (size_t i = 0; i < v->item_count; i++)
        wrong += tg_get_i16(v->payload + v->fixed + 2 * i) != v->items[i];
    return wrong;
}

static int stream_of(const tg_golden_stream *s)
{
    size_t count = 0;
    int wrong = 0;
    tg_decoder_start(&decoder, s->side);
    decoder.session = s->session;
    for (size_t at = 0; at < s->length; at++) {
        tg_frame frame = {0, 0, 0, 0, 0, 0};
        tg_event event = tg_decode_byte(&decoder, s->bytes[at], &frame);
        if (event == TG_GOT_NOTHING)
            continue;
        if (count == s->event_count)
            return 1;
        const tg_golden_event *want = &s->events[count++];
        wrong += event != want->kind || frame.id != want->id || frame.seq != want->seq;
        wrong += frame.session != want->session || frame.gap != want->gap;
    }
    return count != s->event_count || wrong;
}

static int note(int wrong, const char *name)
{
    if (wrong && !tg_golden_failed)
        tg_golden_failed = name;
    return wrong != 0;
}

int tg_golden(void)
{
    int failures = 0;
    tg_golden_failed = 0;
    for (size_t i = 0; i < tg_golden_vector_count; i++) {
        const tg_golden_vector *v = &tg_golden_vectors[i];
        failures += note(encode_it(v) || decode_it(v) || fields_of(v), v->name);
    }
    for (size_t i = 0; i < tg_golden_stream_count; i++)
        failures += note(stream_of(&tg_golden_streams[i]), tg_golden_streams[i].name);
    return failures;
}
