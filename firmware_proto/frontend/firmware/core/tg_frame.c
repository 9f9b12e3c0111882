#include "tg_frame.h"

#include "tg_bytes.h"

typedef struct {
    uint8_t id;
    uint8_t fixed;
    uint8_t item; /* bytes per item of the array, 0: none; its u16 count ends the fixed part */
} message_row;

#define ROW(id, fixed, item) {id, fixed, item},
static const message_row MESSAGES[] = {TG_MESSAGES(ROW)};
#undef ROW

/* Reflected 0xEDB88320 by nibbles: 64 bytes of table instead of 1024. */
static const uint32_t CRC_NIBBLE[16] = {
    0x00000000u, 0x1DB71064u, 0x3B6E20C8u, 0x26D930ACu, 0x76DC4190u, 0x6B6B51F4u, 0x4DB26158u, 0x5005713Cu,
    0xEDB88320u, 0xF00F9344u, 0xD6D6A3E8u, 0xCB61B38Cu, 0x9B64C2B0u, 0x86D3D2D4u, 0xA00AE278u, 0xBDBDF21Cu};

uint32_t tg_crc32(uint32_t crc, const uint8_t *data, size_t length)
{
    crc = ~crc;
    for (size_t at = 0; at < length; at++) {
        crc ^= data[at];
        crc = CRC_NIBBLE[crc & 15u] ^ (crc >> 4);
        crc = CRC_NIBBLE[crc & 15u] ^ (crc >> 4);
    }
    return ~crc;
}

uint32_t tg_session_of(uint32_t boot_nonce, uint32_t host_nonce)
{
    uint32_t session = boot_nonce ^ (host_nonce << 16 | host_nonce >> 16);
    return session ? session : 1u;
}

static bool exempt(uint8_t id) { return id == TG_HELLO || id == TG_TRIP || id == TG_WELCOME; }
static bool urgent(uint8_t id) { return id == TG_TRIP || id == TG_TRIP_REPORT; }

static tg_event length_of(uint8_t id, uint8_t side, const uint8_t *payload, size_t length)
{
    for (size_t at = 0; at < sizeof MESSAGES / sizeof MESSAGES[0]; at++) {
        const message_row *row = &MESSAGES[at];
        if (row->id != id || (id & 0x80u) != side)
            continue;
        size_t want = row->fixed;
        if (row->item && length >= want)
            want += (size_t)row->item * tg_get_u16(payload + row->fixed - 2);
        return want == length ? TG_GOT_FRAME : TG_BAD_LENGTH;
    }
    return TG_UNKNOWN_ID;
}

static tg_event judge(tg_decoder *d, tg_frame *frame)
{
    size_t used = d->used;
    if (d->coded > TG_CODED_MAX)
        return TG_BAD_LENGTH;
    if (d->left)
        return TG_BAD_COBS;
    if (used < TG_HEADER_SIZE + TG_CRC_SIZE || used > TG_RAW_MAX)
        return TG_BAD_LENGTH;
    used -= TG_CRC_SIZE;
    if (tg_crc32(0, d->raw, used) != tg_get_u32(d->raw + used))
        return TG_BAD_CRC;
    uint8_t id = d->raw[0];
    size_t length = used - TG_HEADER_SIZE;
    if (tg_get_u16(d->raw + 1) != length)
        return TG_BAD_LENGTH;
    tg_event event = length_of(id, d->side, d->raw + TG_HEADER_SIZE, length);
    if (event != TG_GOT_FRAME)
        return event;
    uint16_t seq = tg_get_u16(d->raw + 3);
    uint32_t session = tg_get_u32(d->raw + 5);
    uint16_t gap = 0;
    if (!exempt(id)) {
        if (session != d->session || session == 0)
            return TG_STALE_SESSION;
        if (d->numbered)
            gap = (uint16_t)(seq - d->expected);
        if (gap >= 0x10000u - TG_REPEAT_WINDOW)
            return TG_REPEATED;
    }
    if (id != TG_TRIP) {
        d->numbered = true;
        d->expected = (uint16_t)(seq + 1u);
    }
    frame->id = id;
    frame->seq = seq;
    frame->session = session;
    frame->gap = gap;
    frame->length = (uint16_t)length;
    frame->payload = d->raw + TG_HEADER_SIZE;
    return TG_GOT_FRAME;
}

static void count(tg_decoder *d, tg_event event, uint16_t gap)
{
    switch (event) {
    case TG_GOT_FRAME:
        d->frames++;
        d->gaps += gap;
        break;
    case TG_BAD_COBS:
        d->bad_cobs++;
        break;
    case TG_BAD_LENGTH:
        d->bad_length++;
        break;
    case TG_BAD_CRC:
        d->bad_crc++;
        break;
    case TG_UNKNOWN_ID:
        d->unknown++;
        break;
    case TG_STALE_SESSION:
    case TG_REPEATED:
        d->stale++;
        break;
    case TG_GOT_NOTHING:
        break;
    }
}

static void restart(tg_decoder *d)
{
    d->coded = 0;
    d->used = 0;
    d->left = 0;
    d->full_group = true; /* no zero before the first group */
}

void tg_decoder_start(tg_decoder *d, uint8_t side)
{
    d->side = side;
    d->session = 0;
    d->frames = d->bad_cobs = d->bad_length = d->bad_crc = d->unknown = d->stale = d->gaps = 0;
    d->expected = 0;
    d->numbered = false;
    restart(d);
}

tg_event tg_decode_byte(tg_decoder *d, uint8_t byte, tg_frame *frame)
{
    if (byte == 0) {
        if (d->coded == 0)
            return TG_GOT_NOTHING;
        tg_event event = judge(d, frame);
        count(d, event, event == TG_GOT_FRAME ? frame->gap : 0);
        restart(d);
        return event;
    }
    if (d->coded >= TG_CODED_MAX) {
        d->coded = TG_CODED_MAX + 1u; /* too long already; what it holds does not matter any more */
        return TG_GOT_NOTHING;
    }
    d->coded++;
    if (d->left) {
        d->raw[d->used++] = byte;
        d->left--;
    } else {
        if (!d->full_group)
            d->raw[d->used++] = 0;
        d->left = (uint8_t)(byte - 1u);
        d->full_group = byte == 255u;
    }
    return TG_GOT_NOTHING;
}

/* COBS as it is written: where the code of the open group will stand, and where the next byte goes. */
typedef struct {
    uint8_t *code;
    uint8_t *at;
} cobs_writer;

static void cobs_close(cobs_writer *w) { *w->code = (uint8_t)(w->at - w->code); }

static void cobs_open(cobs_writer *w) { w->code = w->at++; }

static void cobs_put(cobs_writer *w, const uint8_t *data, size_t length)
{
    for (size_t at = 0; at < length; at++) {
        if (w->at - w->code == 255) { /* a full group: opened anew only when there is more */
            cobs_close(w);
            cobs_open(w);
        }
        if (data[at] == 0) {
            cobs_close(w);
            cobs_open(w);
        } else {
            *w->at++ = data[at];
        }
    }
}

size_t tg_encode(uint8_t *out, uint8_t id, uint16_t seq, uint32_t session, const uint8_t *payload, size_t length)
{
    uint8_t header[TG_HEADER_SIZE];
    uint8_t crc[TG_CRC_SIZE];
    cobs_writer w;
    if (length > TG_MAX_PAYLOAD)
        return 0;
    tg_put_u8(header, id);
    tg_put_u16(header + 1, (uint16_t)length);
    tg_put_u16(header + 3, seq);
    tg_put_u32(header + 5, session);
    tg_put_u32(crc, tg_crc32(tg_crc32(0, header, sizeof header), payload, length));
    w.at = out;
    if (urgent(id))
        *w.at++ = 0;
    cobs_open(&w);
    cobs_put(&w, header, sizeof header);
    cobs_put(&w, payload, length);
    cobs_put(&w, crc, sizeof crc);
    cobs_close(&w);
    *w.at++ = 0;
    return (size_t)(w.at - out);
}
