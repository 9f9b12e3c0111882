/* Generated from schema.toml by firmware_proto.frontend.generate; do not edit. */
#ifndef TG_SCHEMA_H
#define TG_SCHEMA_H

#include <stdbool.h>
#include <stdint.h>

#include "tg_bytes.h"

#define TG_SCHEMA_HASH 0x4654EE41u
#define TG_VERSION 1u
#define TG_TEXT_SIZE 16u
#define TG_MAX_PAYLOAD 512u /* byte: Longest payload of any message. */
/* ms: Longest lease a device grants: the damage budget in time. Longer ones are refused, not shortened. */
#define TG_LEASE_MAX_MS 100u
#define TG_LEASE_RENEW_MS 30u /* ms: Longest period in which the host renews the lease; ours does every 20 ms. */
#define TG_TRIP_RESEND_MS 20u /* ms: Period of TRIP_REPORT until it is acknowledged. */
#define TG_STATUS_PERIOD_MS 100u /* ms: Period of STATUS without being asked. */
#define TG_SILENCE_MS 10u /* ms: After so long a silence a sender begins with an extra delimiter. */
/* sample: So many samples after opening the switch has to read open, else reason SWITCH_STUCK. */
#define TG_SENSE_SAMPLES 3u
/* us: How far the sample loop may fall behind real time while ARMED, else reason OVERRUN. */
#define TG_MAX_LATE_US 5000u
#define TG_WATCHDOG_MS 50u /* ms: The hardware watchdog resets a device whose sample loop stands still for so long. */
#define TG_RATE_RING 32u /* sample: Codes kept for the RATE test; bound of rate_n. */
#define TG_BASELINE_SHIFT_MAX 12u /* Bound of baseline_shift: time constant at most 4096 samples. */
/* frame: A frame at most so many behind the expected one is a repetition and refused; anything else is a gap. */
#define TG_REPEAT_WINDOW 64u
/* The analog switch in series with the tip: 0 open, 1 closed. Its pin needs a pull that opens it by itself. */
#define TG_SAFE_SWITCH 0u

/* What a device is in. */
enum {
    TG_STATE_SAFE = 0, /* Switch open; may be configured and armed. */
    TG_STATE_ARMED = 1, /* Switch closed; every sample is judged, the lease runs. */
    TG_STATE_TRIPPED = 2 /* Switch open, latched until REARM. */
};

/* Why a device tripped; compared for equality, never for order. */
enum {
    TG_REASON_NONE = 0, /* It has not. */
    TG_REASON_HARD = 1, /* Magnitude at hard_code or above. */
    TG_REASON_LEVEL = 2, /* Magnitude at level_code or above for level_n samples running. */
    TG_REASON_JUMP = 3, /* Away from the baseline by jump_code, and by the ratio. */
    TG_REASON_RATE = 4, /* Changed by rate_code within rate_n samples. */
    TG_REASON_SATURATED = 5, /* Magnitude at the converter's full scale. */
    TG_REASON_ADC_FAULT = 6, /* The converter gave no sample. */
    TG_REASON_HOST = 7, /* The host said TRIP. */
    TG_REASON_LEASE = 8, /* The lease ran out, or a host came anew while ARMED. */
    TG_REASON_OVERRUN = 9, /* The sample loop fell behind real time by max_late_us. */
    TG_REASON_SWITCH_STUCK = 10 /* The switch reads closed after it was opened: only the SMU can take the bias away. */
};

/* Why a device did not do what it was told. */
enum {
    TG_REFUSAL_NONE = 0, /* It did. */
    TG_REFUSAL_SCHEMA = 1, /* The host's schema hash or version is another. */
    TG_REFUSAL_SESSION = 2, /* No session yet, or one of another boot. */
    TG_REFUSAL_STATE = 3, /* Not in this state. */
    TG_REFUSAL_CONFIG = 4, /* None yet, or not the one whose CRC was quoted. */
    TG_REFUSAL_LEASE_TOO_LONG = 5, /* The deadline lies beyond lease_max_ms. */
    TG_REFUSAL_LEASE_OLD = 6, /* lease_seq did not rise. */
    TG_REFUSAL_BOX_NOT_RELEASED = 7, /* The black box of the last trip has not been released. */
    TG_REFUSAL_NOT_ACKNOWLEDGED = 8, /* The last trip has not been acknowledged. */
    TG_REFUSAL_BAD_VALUE = 9, /* A field is out of its range. */
    TG_REFUSAL_UNKNOWN_TRIP = 10, /* No trip of this id. */
    TG_REFUSAL_DEADLINE_PAST = 11 /* The deadline has passed already. */
};

/* Why a device started. */
enum {
    TG_RESET_CAUSE_POWER = 1, /* Power came. */
    TG_RESET_CAUSE_WATCHDOG = 2, /* The watchdog bit. */
    TG_RESET_CAUSE_SOFTWARE = 3, /* It restarted itself. */
    TG_RESET_CAUSE_PIN = 4, /* The reset pin. */
    TG_RESET_CAUSE_UNKNOWN = 5 /* The hardware does not say. */
};

/* What a device sends of its samples. */
enum {
    TG_STREAM_OFF = 0, /* None. */
    TG_STREAM_MINMAX = 1, /* Smallest and largest of each `decimation` samples. */
    TG_STREAM_FULL = 2 /* Every sample. */
};

/* Begin a session; header session 0. While ARMED it means a lost host: TRIPPED, reason LEASE. */
#define TG_HELLO 0x01u
#define TG_HELLO_SIZE 10u

typedef struct {
    uint32_t schema_hash; /* CRC-32 of the sender's schema. */
    uint32_t host_nonce; /* Random, new for each HELLO. */
    uint16_t version; /* Version of the protocol. */
} tg_hello;

/* Writes the 10 bytes. */
static inline void tg_put_hello(uint8_t *payload, const tg_hello *m)
{
    tg_put_u32(payload, m->schema_hash);
    tg_put_u32(payload + 4, m->host_nonce);
    tg_put_u16(payload + 8, m->version);
}

static inline void tg_get_hello(tg_hello *m, const uint8_t *payload)
{
    m->schema_hash = tg_get_u32(payload);
    m->host_nonce = tg_get_u32(payload + 4);
    m->version = tg_get_u16(payload + 8);
}

/* Parameters of detector, black box and stream; taken in SAFE only, answered by CONFIG_IS. */
#define TG_CONFIG 0x02u
#define TG_CONFIG_SIZE 22u

typedef struct {
    uint16_t config_seq; /* The host's number for it. */
    uint16_t hard_code; /* code: HARD at this magnitude; cannot be switched off. */
    uint16_t level_code; /* code: LEVEL at this magnitude; 0: off. */
    uint8_t level_n; /* sample: Consecutive samples at level_code. */
    uint16_t jump_code; /* code: JUMP at this distance from the baseline; 0: off. */
    uint16_t jump_ratio_q8; /* 1/256: JUMP also needs |code| of so many times |baseline|. */
    uint8_t baseline_shift; /* Baseline: exponential mean over 2**baseline_shift samples. */
    uint16_t rate_code; /* code: RATE at this change within rate_n samples; 0: off. */
    uint8_t rate_n; /* sample: Distance of the two samples that RATE compares. */
    uint16_t pre_n; /* sample: Samples of the black box before the one that tripped. */
    uint16_t post_n; /* sample: Samples of the black box after it. */
    uint8_t stream; /* What is sent of the samples. */
    uint16_t decimation; /* sample: Samples per pair of MINMAX. */
} tg_config;

/* Writes the 22 bytes. */
static inline void tg_put_config(uint8_t *payload, const tg_config *m)
{
    tg_put_u16(payload, m->config_seq);
    tg_put_u16(payload + 2, m->hard_code);
    tg_put_u16(payload + 4, m->level_code);
    tg_put_u8(payload + 6, m->level_n);
    tg_put_u16(payload + 7, m->jump_code);
    tg_put_u16(payload + 9, m->jump_ratio_q8);
    tg_put_u8(payload + 11, m->baseline_shift);
    tg_put_u16(payload + 12, m->rate_code);
    tg_put_u8(payload + 14, m->rate_n);
    tg_put_u16(payload + 15, m->pre_n);
    tg_put_u16(payload + 17, m->post_n);
    tg_put_u8(payload + 19, m->stream);
    tg_put_u16(payload + 20, m->decimation);
}

static inline void tg_get_config(tg_config *m, const uint8_t *payload)
{
    m->config_seq = tg_get_u16(payload);
    m->hard_code = tg_get_u16(payload + 2);
    m->level_code = tg_get_u16(payload + 4);
    m->level_n = tg_get_u8(payload + 6);
    m->jump_code = tg_get_u16(payload + 7);
    m->jump_ratio_q8 = tg_get_u16(payload + 9);
    m->baseline_shift = tg_get_u8(payload + 11);
    m->rate_code = tg_get_u16(payload + 12);
    m->rate_n = tg_get_u8(payload + 14);
    m->pre_n = tg_get_u16(payload + 15);
    m->post_n = tg_get_u16(payload + 17);
    m->stream = tg_get_u8(payload + 19);
    m->decimation = tg_get_u16(payload + 20);
}

/* Every field within its bounds; what they mean together is not judged. */
static inline bool tg_config_in_range(const tg_config *m)
{
    return m->hard_code >= 1u &&
           m->hard_code <= 32767u &&
           m->level_code <= 32767u &&
           m->level_n >= 1u &&
           m->jump_code <= 32767u &&
           m->baseline_shift <= 12u &&
           m->rate_n >= 1u &&
           m->rate_n <= 32u &&
           m->stream <= 2u &&
           m->decimation >= 1u;
}

/* Close the switch; the first lease comes with it. */
#define TG_ARM 0x03u
#define TG_ARM_SIZE 16u

typedef struct {
    uint32_t config_crc; /* That of the last CONFIG_IS: what the host believes to be in force. */
    uint32_t lease_seq; /* Number of the lease, rising within a session. */
    uint64_t deadline_ticks; /* tick: Device time at which the lease ends. */
} tg_arm;

/* Writes the 16 bytes. */
static inline void tg_put_arm(uint8_t *payload, const tg_arm *m)
{
    tg_put_u32(payload, m->config_crc);
    tg_put_u32(payload + 4, m->lease_seq);
    tg_put_u64(payload + 8, m->deadline_ticks);
}

static inline void tg_get_arm(tg_arm *m, const uint8_t *payload)
{
    m->config_crc = tg_get_u32(payload);
    m->lease_seq = tg_get_u32(payload + 4);
    m->deadline_ticks = tg_get_u64(payload + 8);
}

/* Permission to stay ARMED, by the host's control task. */
#define TG_LEASE 0x04u
#define TG_LEASE_SIZE 12u

typedef struct {
    uint32_t lease_seq; /* Number of the lease, rising within a session. */
    uint64_t deadline_ticks; /* tick: Device time at which the lease ends; at most lease_max_ms ahead. */
} tg_lease;

/* Writes the 12 bytes. */
static inline void tg_put_lease(uint8_t *payload, const tg_lease *m)
{
    tg_put_u32(payload, m->lease_seq);
    tg_put_u64(payload + 4, m->deadline_ticks);
}

static inline void tg_get_lease(tg_lease *m, const uint8_t *payload)
{
    m->lease_seq = tg_get_u32(payload);
    m->deadline_ticks = tg_get_u64(payload + 4);
}

/* Open the switch: the normal end, to SAFE. */
#define TG_OPEN 0x05u
#define TG_OPEN_SIZE 0u

/* Trip. Obeyed whatever session, schema or number its header carries; its bytes are a constant (session 0, seq 0). */
#define TG_TRIP 0x06u
#define TG_TRIP_SIZE 0u

/* The report has arrived: send it no more. */
#define TG_ACK_TRIP 0x07u
#define TG_ACK_TRIP_SIZE 4u

typedef struct {
    uint32_t trip_id; /* Number of the trip since boot, from 1. */
} tg_ack_trip;

/* Writes the 4 bytes. */
static inline void tg_put_ack_trip(uint8_t *payload, const tg_ack_trip *m)
{
    tg_put_u32(payload, m->trip_id);
}

static inline void tg_get_ack_trip(tg_ack_trip *m, const uint8_t *payload)
{
    m->trip_id = tg_get_u32(payload);
}

/* TRIPPED to SAFE; needs the trip acknowledged and its box released. Closes nothing. */
#define TG_REARM 0x08u
#define TG_REARM_SIZE 4u

typedef struct {
    uint32_t trip_id; /* Number of the trip since boot, from 1. */
} tg_rearm;

/* Writes the 4 bytes. */
static inline void tg_put_rearm(uint8_t *payload, const tg_rearm *m)
{
    tg_put_u32(payload, m->trip_id);
}

static inline void tg_get_rearm(tg_rearm *m, const uint8_t *payload)
{
    m->trip_id = tg_get_u32(payload);
}

/* Ask for a part of the black box; answered by BOX. */
#define TG_BOX_READ 0x09u
#define TG_BOX_READ_SIZE 8u

typedef struct {
    uint32_t trip_id; /* Number of the trip. */
    uint16_t offset; /* sample: First sample wanted, from the beginning of the box. */
    uint16_t count; /* sample: How many; a device sends as many BOX frames as that takes. */
} tg_box_read;

/* Writes the 8 bytes. */
static inline void tg_put_box_read(uint8_t *payload, const tg_box_read *m)
{
    tg_put_u32(payload, m->trip_id);
    tg_put_u16(payload + 4, m->offset);
    tg_put_u16(payload + 6, m->count);
}

static inline void tg_get_box_read(tg_box_read *m, const uint8_t *payload)
{
    m->trip_id = tg_get_u32(payload);
    m->offset = tg_get_u16(payload + 4);
    m->count = tg_get_u16(payload + 6);
}

/* The black box is safe with the host and may be overwritten. */
#define TG_BOX_DONE 0x0Au
#define TG_BOX_DONE_SIZE 4u

typedef struct {
    uint32_t trip_id; /* Number of the trip. */
} tg_box_done;

/* Writes the 4 bytes. */
static inline void tg_put_box_done(uint8_t *payload, const tg_box_done *m)
{
    tg_put_u32(payload, m->trip_id);
}

static inline void tg_get_box_done(tg_box_done *m, const uint8_t *payload)
{
    m->trip_id = tg_get_u32(payload);
}

/* How much bulk the host takes. Cumulative: a lost one costs nothing, a repeated one neither. */
#define TG_CREDIT 0x0Bu
#define TG_CREDIT_SIZE 4u

typedef struct {
    uint32_t total; /* frame: SAMPLES and MINMAX frames allowed since the session began. */
} tg_credit;

/* Writes the 4 bytes. */
static inline void tg_put_credit(uint8_t *payload, const tg_credit *m)
{
    tg_put_u32(payload, m->total);
}

static inline void tg_get_credit(tg_credit *m, const uint8_t *payload)
{
    m->total = tg_get_u32(payload);
}

/* Ask for the device's time; answered by PONG. */
#define TG_PING 0x0Cu
#define TG_PING_SIZE 4u

typedef struct {
    uint32_t token; /* Given back. */
} tg_ping;

/* Writes the 4 bytes. */
static inline void tg_put_ping(uint8_t *payload, const tg_ping *m)
{
    tg_put_u32(payload, m->token);
}

static inline void tg_get_ping(tg_ping *m, const uint8_t *payload)
{
    m->token = tg_get_u32(payload);
}

/* Ask for STATUS now. */
#define TG_GET_STATUS 0x0Du
#define TG_GET_STATUS_SIZE 0u

/* Answer to HELLO; its header carries the new session. What the device is and what it can do. */
#define TG_WELCOME 0x81u
#define TG_WELCOME_SIZE 67u

typedef struct {
    uint32_t schema_hash; /* CRC-32 of the device's schema. */
    uint32_t host_nonce; /* Given back: a WELCOME to an older HELLO is none to this. */
    uint32_t boot_nonce; /* Another one after each start. */
    uint32_t session; /* boot_nonce XOR rotl(host_nonce, 16), 1 if that is 0. */
    uint16_t version; /* Version of the protocol. */
    uint32_t build_id; /* Which firmware: CRC-32 of its sources and options. */
    uint8_t reset_cause; /* Why it started last. */
    char board[TG_TEXT_SIZE]; /* Name of the port. */
    uint32_t tick_hz; /* Hz: Rate of the 64-bit counter that `ticks` fields read. */
    uint32_t sample_hz; /* Hz: Nominal sample rate. */
    uint32_t code_pa; /* pA: Current per converter code. */
    uint16_t full_scale_code; /* code: Magnitude at which the converter saturates. */
    uint16_t max_payload; /* byte: Longest payload it takes. */
    uint16_t credit_window; /* frame: Most credit that makes sense ahead of bulk_sent. */
    uint16_t box_max; /* sample: Room of the black box: bound of pre_n + post_n + 1. */
    uint16_t lease_max_ms; /* ms: Longest lease it grants. */
    uint32_t switch_open_ns; /* ns: Data sheet's longest time from pin to open switch. */
    uint8_t safe_closed; /* The switch's state at reset: 0, open. */
    uint8_t state; /* State now. */
} tg_welcome;

/* Writes the 67 bytes. */
static inline void tg_put_welcome(uint8_t *payload, const tg_welcome *m)
{
    tg_put_u32(payload, m->schema_hash);
    tg_put_u32(payload + 4, m->host_nonce);
    tg_put_u32(payload + 8, m->boot_nonce);
    tg_put_u32(payload + 12, m->session);
    tg_put_u16(payload + 16, m->version);
    tg_put_u32(payload + 18, m->build_id);
    tg_put_u8(payload + 22, m->reset_cause);
    for (uint32_t i = 0; i < TG_TEXT_SIZE; i++)
        payload[23 + i] = (uint8_t)m->board[i];
    tg_put_u32(payload + 39, m->tick_hz);
    tg_put_u32(payload + 43, m->sample_hz);
    tg_put_u32(payload + 47, m->code_pa);
    tg_put_u16(payload + 51, m->full_scale_code);
    tg_put_u16(payload + 53, m->max_payload);
    tg_put_u16(payload + 55, m->credit_window);
    tg_put_u16(payload + 57, m->box_max);
    tg_put_u16(payload + 59, m->lease_max_ms);
    tg_put_u32(payload + 61, m->switch_open_ns);
    tg_put_u8(payload + 65, m->safe_closed);
    tg_put_u8(payload + 66, m->state);
}

static inline void tg_get_welcome(tg_welcome *m, const uint8_t *payload)
{
    m->schema_hash = tg_get_u32(payload);
    m->host_nonce = tg_get_u32(payload + 4);
    m->boot_nonce = tg_get_u32(payload + 8);
    m->session = tg_get_u32(payload + 12);
    m->version = tg_get_u16(payload + 16);
    m->build_id = tg_get_u32(payload + 18);
    m->reset_cause = tg_get_u8(payload + 22);
    for (uint32_t i = 0; i < TG_TEXT_SIZE; i++)
        m->board[i] = (char)payload[23 + i];
    m->tick_hz = tg_get_u32(payload + 39);
    m->sample_hz = tg_get_u32(payload + 43);
    m->code_pa = tg_get_u32(payload + 47);
    m->full_scale_code = tg_get_u16(payload + 51);
    m->max_payload = tg_get_u16(payload + 53);
    m->credit_window = tg_get_u16(payload + 55);
    m->box_max = tg_get_u16(payload + 57);
    m->lease_max_ms = tg_get_u16(payload + 59);
    m->switch_open_ns = tg_get_u32(payload + 61);
    m->safe_closed = tg_get_u8(payload + 65);
    m->state = tg_get_u8(payload + 66);
}

/* Answer to CONFIG: what is in force, read back from where the detector reads it. */
#define TG_CONFIG_IS 0x82u
#define TG_CONFIG_IS_SIZE 27u

typedef struct {
    tg_config config;
    uint32_t config_crc; /* CRC-32 over the payload that a CONFIG of what is in force would have; 0: none yet. */
    uint8_t result; /* NONE: the CONFIG was taken. Else the one before is in force. */
} tg_config_is;

/* Writes the 27 bytes. */
static inline void tg_put_config_is(uint8_t *payload, const tg_config_is *m)
{
    tg_put_config(payload, &m->config);
    tg_put_u32(payload + 22, m->config_crc);
    tg_put_u8(payload + 26, m->result);
}

static inline void tg_get_config_is(tg_config_is *m, const uint8_t *payload)
{
    tg_get_config(&m->config, payload);
    m->config_crc = tg_get_u32(payload + 22);
    m->result = tg_get_u8(payload + 26);
}

/* State and counters: each 100 ms, when asked, and at each change of state. Counters run from boot and wrap. */
#define TG_STATUS 0x83u
#define TG_STATUS_SIZE 88u

typedef struct {
    uint64_t ticks; /* tick: Device time. */
    uint64_t sample_index; /* sample: Samples taken since boot. */
    uint8_t state; /* State now. */
    uint8_t switch_pin; /* What the pin is driven to: 1 closed. */
    uint8_t switch_sense; /* What the switch reads: 1 closed. */
    uint32_t trip_id; /* Last trip since boot; 0: none. */
    uint8_t trip_reason; /* Reason of the last trip; SWITCH_STUCK over any other. */
    uint32_t lease_seq; /* Last lease taken. */
    uint32_t lease_left_ticks; /* tick: Left of it; 0 outside ARMED. */
    uint32_t config_crc; /* As in CONFIG_IS. */
    uint32_t bulk_sent; /* frame: SAMPLES and MINMAX frames since the session began, to hold against CREDIT. */
    uint32_t rx_frames; /* frame: Frames accepted. */
    uint32_t rx_bad_cobs; /* frame: Refused: a COBS group reaches past the delimiter. */
    uint32_t rx_bad_length; /* frame: Refused: too short, too long, or not the length of its id. */
    uint32_t rx_bad_crc; /* frame: Refused: CRC-32. */
    uint32_t rx_unknown; /* frame: Refused: no such id in this direction. */
    uint32_t rx_stale; /* frame: Refused: another session, or a repetition. */
    uint32_t rx_gaps; /* frame: Frames missing before accepted ones. */
    uint32_t tx_frames; /* frame: Frames sent. */
    uint32_t drop_no_credit; /* sample: Samples not sent: no credit. */
    uint32_t drop_tx_full; /* sample: Samples not sent: the line did not take them. */
    uint32_t late_samples; /* sample: Samples taken later than one period. */
    uint32_t overruns; /* Times the loop fell behind by max_late_us. */
} tg_status;

/* Writes the 88 bytes. */
static inline void tg_put_status(uint8_t *payload, const tg_status *m)
{
    tg_put_u64(payload, m->ticks);
    tg_put_u64(payload + 8, m->sample_index);
    tg_put_u8(payload + 16, m->state);
    tg_put_u8(payload + 17, m->switch_pin);
    tg_put_u8(payload + 18, m->switch_sense);
    tg_put_u32(payload + 19, m->trip_id);
    tg_put_u8(payload + 23, m->trip_reason);
    tg_put_u32(payload + 24, m->lease_seq);
    tg_put_u32(payload + 28, m->lease_left_ticks);
    tg_put_u32(payload + 32, m->config_crc);
    tg_put_u32(payload + 36, m->bulk_sent);
    tg_put_u32(payload + 40, m->rx_frames);
    tg_put_u32(payload + 44, m->rx_bad_cobs);
    tg_put_u32(payload + 48, m->rx_bad_length);
    tg_put_u32(payload + 52, m->rx_bad_crc);
    tg_put_u32(payload + 56, m->rx_unknown);
    tg_put_u32(payload + 60, m->rx_stale);
    tg_put_u32(payload + 64, m->rx_gaps);
    tg_put_u32(payload + 68, m->tx_frames);
    tg_put_u32(payload + 72, m->drop_no_credit);
    tg_put_u32(payload + 76, m->drop_tx_full);
    tg_put_u32(payload + 80, m->late_samples);
    tg_put_u32(payload + 84, m->overruns);
}

static inline void tg_get_status(tg_status *m, const uint8_t *payload)
{
    m->ticks = tg_get_u64(payload);
    m->sample_index = tg_get_u64(payload + 8);
    m->state = tg_get_u8(payload + 16);
    m->switch_pin = tg_get_u8(payload + 17);
    m->switch_sense = tg_get_u8(payload + 18);
    m->trip_id = tg_get_u32(payload + 19);
    m->trip_reason = tg_get_u8(payload + 23);
    m->lease_seq = tg_get_u32(payload + 24);
    m->lease_left_ticks = tg_get_u32(payload + 28);
    m->config_crc = tg_get_u32(payload + 32);
    m->bulk_sent = tg_get_u32(payload + 36);
    m->rx_frames = tg_get_u32(payload + 40);
    m->rx_bad_cobs = tg_get_u32(payload + 44);
    m->rx_bad_length = tg_get_u32(payload + 48);
    m->rx_bad_crc = tg_get_u32(payload + 52);
    m->rx_unknown = tg_get_u32(payload + 56);
    m->rx_stale = tg_get_u32(payload + 60);
    m->rx_gaps = tg_get_u32(payload + 64);
    m->tx_frames = tg_get_u32(payload + 68);
    m->drop_no_credit = tg_get_u32(payload + 72);
    m->drop_tx_full = tg_get_u32(payload + 76);
    m->late_samples = tg_get_u32(payload + 80);
    m->overruns = tg_get_u32(payload + 84);
}

/* A trip: at once, ahead of anything queued, then each 20 ms until ACK_TRIP. */
#define TG_TRIP_REPORT 0x84u
#define TG_TRIP_REPORT_SIZE 32u

typedef struct {
    uint32_t trip_id; /* Number of the trip since boot, from 1. */
    uint8_t reason; /* Why. */
    uint64_t sample_index; /* sample: The sample that tripped, or the last one taken. */
    uint64_t ticks; /* tick: Device time of that sample. */
    int16_t code; /* code: Its code. */
    uint16_t threshold; /* code: What the reason compares with; 0 where it compares nothing. */
    int16_t baseline; /* code: The baseline before that sample, rounded. */
    uint8_t switch_pin; /* The pin when the report was made: 0. */
    uint16_t box_n; /* sample: Samples in the black box; grows until post_n are there. */
    uint16_t box_trip_at; /* sample: Where in the box the tripping sample stands. */
} tg_trip_report;

/* Writes the 32 bytes. */
static inline void tg_put_trip_report(uint8_t *payload, const tg_trip_report *m)
{
    tg_put_u32(payload, m->trip_id);
    tg_put_u8(payload + 4, m->reason);
    tg_put_u64(payload + 5, m->sample_index);
    tg_put_u64(payload + 13, m->ticks);
    tg_put_i16(payload + 21, m->code);
    tg_put_u16(payload + 23, m->threshold);
    tg_put_i16(payload + 25, m->baseline);
    tg_put_u8(payload + 27, m->switch_pin);
    tg_put_u16(payload + 28, m->box_n);
    tg_put_u16(payload + 30, m->box_trip_at);
}

static inline void tg_get_trip_report(tg_trip_report *m, const uint8_t *payload)
{
    m->trip_id = tg_get_u32(payload);
    m->reason = tg_get_u8(payload + 4);
    m->sample_index = tg_get_u64(payload + 5);
    m->ticks = tg_get_u64(payload + 13);
    m->code = tg_get_i16(payload + 21);
    m->threshold = tg_get_u16(payload + 23);
    m->baseline = tg_get_i16(payload + 25);
    m->switch_pin = tg_get_u8(payload + 27);
    m->box_n = tg_get_u16(payload + 28);
    m->box_trip_at = tg_get_u16(payload + 30);
}

/* Consecutive samples. */
#define TG_SAMPLES 0x85u
#define TG_SAMPLES_FIXED 18u
#define TG_SAMPLES_ITEM 2u
#define TG_SAMPLES_MOST 247u /* items that fit a frame */

typedef struct {
    uint64_t index; /* sample: Number of the first since boot. */
    uint64_t ticks; /* tick: Device time of the first. */
    uint16_t count; /* sample: How many. */
} tg_samples;

/* Writes the 18 bytes of the fixed part; the array follows. */
static inline void tg_put_samples(uint8_t *payload, const tg_samples *m)
{
    tg_put_u64(payload, m->index);
    tg_put_u64(payload + 8, m->ticks);
    tg_put_u16(payload + 16, m->count);
}

static inline void tg_get_samples(tg_samples *m, const uint8_t *payload)
{
    m->index = tg_get_u64(payload);
    m->ticks = tg_get_u64(payload + 8);
    m->count = tg_get_u16(payload + 16);
}

/* Smallest and largest code of each `decimation` consecutive samples. */
#define TG_MINMAX 0x86u
#define TG_MINMAX_FIXED 20u
#define TG_MINMAX_ITEM 4u
#define TG_MINMAX_MOST 123u /* items that fit a frame */

typedef struct {
    uint64_t index; /* sample: Number of the first sample of the first pair. */
    uint64_t ticks; /* tick: Its device time. */
    uint16_t decimation; /* sample: Samples per pair. */
    uint16_t count; /* pair: How many pairs. */
} tg_minmax;

/* Writes the 20 bytes of the fixed part; the array follows. */
static inline void tg_put_minmax(uint8_t *payload, const tg_minmax *m)
{
    tg_put_u64(payload, m->index);
    tg_put_u64(payload + 8, m->ticks);
    tg_put_u16(payload + 16, m->decimation);
    tg_put_u16(payload + 18, m->count);
}

static inline void tg_get_minmax(tg_minmax *m, const uint8_t *payload)
{
    m->index = tg_get_u64(payload);
    m->ticks = tg_get_u64(payload + 8);
    m->decimation = tg_get_u16(payload + 16);
    m->count = tg_get_u16(payload + 18);
}

/* A part of the black box. */
#define TG_BOX 0x87u
#define TG_BOX_FIXED 8u
#define TG_BOX_ITEM 2u
#define TG_BOX_MOST 252u /* items that fit a frame */

typedef struct {
    uint32_t trip_id; /* Number of the trip. */
    uint16_t offset; /* sample: First of these in the box. */
    uint16_t count; /* sample: How many; 0 where the box has no such part. */
} tg_box;

/* Writes the 8 bytes of the fixed part; the array follows. */
static inline void tg_put_box(uint8_t *payload, const tg_box *m)
{
    tg_put_u32(payload, m->trip_id);
    tg_put_u16(payload + 4, m->offset);
    tg_put_u16(payload + 6, m->count);
}

static inline void tg_get_box(tg_box *m, const uint8_t *payload)
{
    m->trip_id = tg_get_u32(payload);
    m->offset = tg_get_u16(payload + 4);
    m->count = tg_get_u16(payload + 6);
}

/* The device's time, twice: the time it took to answer is not the line's. */
#define TG_PONG 0x88u
#define TG_PONG_SIZE 20u

typedef struct {
    uint32_t token; /* That of the PING. */
    uint64_t ticks_rx; /* tick: Device time when the PING's last byte was taken. */
    uint64_t ticks_tx; /* tick: Device time when this frame was made. */
} tg_pong;

/* Writes the 20 bytes. */
static inline void tg_put_pong(uint8_t *payload, const tg_pong *m)
{
    tg_put_u32(payload, m->token);
    tg_put_u64(payload + 4, m->ticks_rx);
    tg_put_u64(payload + 12, m->ticks_tx);
}

static inline void tg_get_pong(tg_pong *m, const uint8_t *payload)
{
    m->token = tg_get_u32(payload);
    m->ticks_rx = tg_get_u64(payload + 4);
    m->ticks_tx = tg_get_u64(payload + 12);
}

/* A whole, current frame whose wish was not granted. */
#define TG_REFUSED 0x89u
#define TG_REFUSED_SIZE 4u

typedef struct {
    uint8_t id; /* Of the frame. */
    uint16_t seq; /* Of the frame. */
    uint8_t why; /* Why not. */
} tg_refused;

/* Writes the 4 bytes. */
static inline void tg_put_refused(uint8_t *payload, const tg_refused *m)
{
    tg_put_u8(payload, m->id);
    tg_put_u16(payload + 1, m->seq);
    tg_put_u8(payload + 3, m->why);
}

static inline void tg_get_refused(tg_refused *m, const uint8_t *payload)
{
    m->id = tg_get_u8(payload);
    m->seq = tg_get_u16(payload + 1);
    m->why = tg_get_u8(payload + 3);
}

/* ROW(id, bytes of the fixed part, bytes per item of the array or 0) */
#define TG_MESSAGES(ROW) \
    ROW(0x01u, 10u, 0u) \
    ROW(0x02u, 22u, 0u) \
    ROW(0x03u, 16u, 0u) \
    ROW(0x04u, 12u, 0u) \
    ROW(0x05u, 0u, 0u) \
    ROW(0x06u, 0u, 0u) \
    ROW(0x07u, 4u, 0u) \
    ROW(0x08u, 4u, 0u) \
    ROW(0x09u, 8u, 0u) \
    ROW(0x0Au, 4u, 0u) \
    ROW(0x0Bu, 4u, 0u) \
    ROW(0x0Cu, 4u, 0u) \
    ROW(0x0Du, 0u, 0u) \
    ROW(0x81u, 67u, 0u) \
    ROW(0x82u, 27u, 0u) \
    ROW(0x83u, 88u, 0u) \
    ROW(0x84u, 32u, 0u) \
    ROW(0x85u, 18u, 2u) \
    ROW(0x86u, 20u, 4u) \
    ROW(0x87u, 8u, 2u) \
    ROW(0x88u, 20u, 0u) \
    ROW(0x89u, 4u, 0u)

#endif
