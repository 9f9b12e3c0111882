/* The front end: samples, judges, opens, streams. One struct, no other memory; several may live beside each other.

   Two contexts use it: the sample interrupt calls tg_core_sample, the main loop everything else. The main loop holds the
   interrupt off (tg_port_lock) wherever it touches what both need. */
#ifndef TG_CORE_H
#define TG_CORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tg_box.h"
#include "tg_bulk.h"
#include "tg_detector.h"
#include "tg_frame.h"
#include "tg_schema.h"

#define TG_CODE_NONE INT16_MIN /* in stream and box: no code, the converter did not answer or nobody asked it */

/* What a board says of itself, in WELCOME and to the core. */
typedef struct {
    char name[16];
    uint32_t build_id;
    uint32_t boot_nonce; /* another one at each start */
    uint8_t reset_cause; /* the schema's ResetCause */
    uint32_t tick_hz;    /* of tg_port_ticks */
    uint32_t sample_hz;  /* divides tick_hz */
    uint32_t code_pa;    /* current per code, pA */
    uint16_t full_scale_code;
    uint16_t credit_window; /* frames */
    uint32_t switch_open_ns;
    uint32_t late_ticks;     /* a sample taken later than this counts as late */
    uint32_t max_late_ticks; /* later than this while ARMED: OVERRUN */
} tg_board;

typedef struct {
    uint32_t id; /* 0: never tripped */
    uint8_t reason;
    bool stuck; /* the switch did not open */
    bool acknowledged;
    uint64_t index;
    uint64_t ticks;
    int16_t code;
    uint16_t threshold;
    int16_t baseline;
} tg_trip_record;

typedef struct {
    uint8_t id;
    uint16_t seq;
    uint8_t why;
} tg_refusal;

#define TG_REFUSALS 4u /* a power of two: waiting to be sent; more than that at once are not told */

/* The line: what was heard, what is to be said. Main loop only, but for `status_due`. */
typedef struct {
    tg_decoder decoder;
    uint32_t session; /* 0: none since boot */
    uint32_t host_nonce;
    bool schema_agrees;
    uint16_t tx_seq;
    uint32_t tx_frames;
    uint64_t tx_ticks; /* end of the last frame */
    uint16_t tx_n;
    uint16_t tx_at;
    bool welcome_due;
    bool config_due;
    uint8_t config_result;
    bool pong_due;
    uint32_t pong_token;
    uint64_t pong_rx_ticks;
    volatile bool status_due; /* set by the sample interrupt, too */
    uint64_t status_ticks;
    volatile bool report_due;
    uint64_t report_ticks;
    bool box_due; /* BOX_READ is being answered */
    uint16_t box_next;
    uint16_t box_end;
    uint32_t credit; /* bulk frames allowed since the session began */
    uint32_t bulk_sent;
    tg_refusal refusals[TG_REFUSALS];
    uint8_t refusals_at; /* the oldest */
    uint8_t refusals_n;
    uint8_t payload[TG_MAX_PAYLOAD];
    uint8_t tx[TG_FRAME_MAX + 1u]; /* behind a delimiter after a silence */
} tg_link;

typedef struct {
    const tg_board *board;
    void *port;
    /* Time. */
    uint32_t period_ticks;
    uint64_t due_ticks; /* of the next sample */
    uint64_t index;     /* of the next sample */
    uint64_t kicked_index;
    uint32_t late_samples;
    uint32_t overruns;
    uint32_t drop_no_credit;
    uint32_t drop_tx_full;
    /* What protects. */
    uint8_t state; /* the schema's State */
    bool closed;   /* what the pin was told */
    bool sense;    /* what the switch said at the last sample */
    uint8_t sense_run; /* samples for which it said closed while told open */
    int16_t code;      /* the last one */
    uint32_t lease_seq;
    uint64_t lease_deadline;
    tg_trip_record trip;
    tg_detector detector;
    bool configured;
    tg_config config; /* in force; the detector reads it here */
    tg_link link;
    tg_bulk bulk;
    tg_blackbox box;
} tg_core;

/* Opens the switch before anything else. `board` has to stay. */
void tg_core_init(tg_core *core, const tg_board *board, void *port);

/* From the sample interrupt: takes every sample that is due, at most `most`; returns how many. A trip has opened the
   switch when it returns. */
uint32_t tg_core_sample(tg_core *core, uint32_t most);

/* From the main loop: bytes that came in. */
void tg_core_receive(tg_core *core, const uint8_t *bytes, size_t n);

/* From the main loop, as often as it can: sends what is due, holds the watchdog off while samples are taken. */
void tg_core_poll(tg_core *core);

/* Inside the core. With the sample interrupt held off, or from it. */
void tg_core_trip(tg_core *core, uint8_t reason, uint16_t threshold, int16_t baseline);
void tg_core_open(tg_core *core);
uint8_t tg_core_arm(tg_core *core, uint32_t config_crc, uint32_t lease_seq, uint64_t deadline);
uint8_t tg_core_lease(tg_core *core, uint32_t lease_seq, uint64_t deadline);
uint8_t tg_core_acknowledge(tg_core *core, uint32_t trip_id);
uint8_t tg_core_release(tg_core *core, uint32_t trip_id);
uint8_t tg_core_rearm(tg_core *core, uint32_t trip_id);
uint8_t tg_core_configure(tg_core *core, const tg_config *config);
uint32_t tg_core_config_crc(const tg_core *core); /* 0: none yet */

/* Inside the link (tg_link.c takes, tg_send.c sends). */
void tg_link_start(tg_core *core);
bool tg_send_next(tg_core *core); /* puts the most urgent frame into link.tx; false: nothing to say */

#endif
