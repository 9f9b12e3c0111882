/* Frames: COBS(id u8, length u16, seq u16, session u32, payload, CRC-32) 0x00. No memory but what the caller gives.
 *
 * The same as firmware_proto/frontend/framing.py, event for event; golden vectors and a fuzz hold the two together. */
#ifndef TG_FRAME_H
#define TG_FRAME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tg_schema.h"

#define TG_HEADER_SIZE 9u
#define TG_CRC_SIZE 4u
#define TG_RAW_MAX (TG_HEADER_SIZE + TG_MAX_PAYLOAD + TG_CRC_SIZE)
#define TG_CODED_MAX (TG_RAW_MAX + (TG_RAW_MAX + 253u) / 254u)
#define TG_FRAME_MAX (1u + TG_CODED_MAX + 1u) /* with the extra delimiter of an urgent one */

/* What a byte completed. The numbers are those of Cause in framing.py. */
typedef enum {
    TG_GOT_NOTHING = 0,
    TG_GOT_FRAME = 1,
    TG_BAD_COBS = 2,
    TG_BAD_LENGTH = 3,
    TG_BAD_CRC = 4,
    TG_UNKNOWN_ID = 5,
    TG_STALE_SESSION = 6,
    TG_REPEATED = 7
} tg_event;

#define TG_SIDE_DEVICE 0x00u /* takes ids 0x00..0x7F */
#define TG_SIDE_HOST 0x80u   /* takes ids 0x80..0xFF */

typedef struct {
    uint8_t id;
    uint16_t seq;
    uint32_t session;
    uint16_t gap; /* frames missing before this one */
    uint16_t length;
    const uint8_t *payload; /* in the decoder: good until its next byte */
} tg_frame;

typedef struct {
    uint8_t side;
    uint32_t session; /* set by the owner; 0: none yet, only HELLO, TRIP and WELCOME are taken */
    uint32_t frames;  /* counters wrap */
    uint32_t bad_cobs;
    uint32_t bad_length;
    uint32_t bad_crc;
    uint32_t unknown;
    uint32_t stale; /* TG_STALE_SESSION and TG_REPEATED */
    uint32_t gaps;
    /* private; the buffer not last, for a sanitizer takes an array at the end for one without bounds */
    uint8_t raw[TG_CODED_MAX];
    uint16_t coded; /* bytes since the delimiter, at most TG_CODED_MAX + 1 */
    uint16_t used;
    uint16_t expected;
    uint8_t left;    /* bytes until the group ends */
    bool full_group; /* the group that ended had 254 bytes: no zero follows */
    bool numbered;
} tg_decoder;

void tg_decoder_start(tg_decoder *decoder, uint8_t side);

/* Takes one byte; *frame is written by TG_GOT_FRAME only. Bounded time: a CRC over at most TG_RAW_MAX bytes. */
tg_event tg_decode_byte(tg_decoder *decoder, uint8_t byte, tg_frame *frame);

/* Writes one frame to `out` (TG_FRAME_MAX bytes) and returns its length; TRIP and TRIP_REPORT behind an extra
 * delimiter. 0: the payload is longer than TG_MAX_PAYLOAD, nothing was written. */
size_t tg_encode(uint8_t *out, uint8_t id, uint16_t seq, uint32_t session, const uint8_t *payload, size_t length);

/* CRC-32 IEEE of `length` bytes behind those whose CRC `crc` is; begin with 0. */
uint32_t tg_crc32(uint32_t crc, const uint8_t *data, size_t length);

uint32_t tg_session_of(uint32_t boot_nonce, uint32_t host_nonce);

#endif
