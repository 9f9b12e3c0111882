/* What the device says, the most urgent first: TRIP_REPORT, answers and STATUS, the black box, then what streams. */
#include "tg_core.h"

#include "tg_port.h"

#define FRAMES_PER_POLL 16u /* then the main loop has its turn */

static uint64_t ms(const tg_core *core, uint32_t n)
{
    return (uint64_t)(core->board->tick_hz / 1000u) * n;
}

static void put_frame(tg_core *core, uint8_t id, size_t length)
{
    tg_link *link = &core->link;
    size_t at = 0;
    /* Whatever stuck to the line during a silence must not take the frame behind it along. */
    if (tg_port_ticks(core->port) - link->tx_ticks > ms(core, TG_SILENCE_MS)) {
        link->tx[at++] = 0;
    }
    at += tg_encode(link->tx + at, id, link->tx_seq++, link->session, link->payload, length);
    link->tx_n = (uint16_t)at;
    link->tx_at = 0;
    link->tx_frames++;
}

static void put_report(tg_core *core)
{
    tg_link *link = &core->link;
    uint32_t key = tg_port_lock(core->port);
    const tg_trip_record *trip = &core->trip;
    tg_trip_report m = {
        .trip_id = trip->id,
        .reason = trip->reason,
        .sample_index = trip->index,
        .ticks = trip->ticks,
        .code = trip->code,
        .threshold = trip->threshold,
        .baseline = trip->baseline,
        .switch_pin = core->closed,
        .box_n = tg_blackbox_ready(&core->box),
        .box_trip_at = core->box.trip_at,
    };
    link->report_due = false;
    tg_port_unlock(core->port, key);
    link->report_ticks = tg_port_ticks(core->port);
    tg_put_trip_report(link->payload, &m);
    put_frame(core, TG_TRIP_REPORT, TG_TRIP_REPORT_SIZE);
}

static void put_welcome(tg_core *core)
{
    const tg_board *board = core->board;
    tg_link *link = &core->link;
    tg_welcome m = {
        .schema_hash = TG_SCHEMA_HASH,
        .host_nonce = link->host_nonce,
        .boot_nonce = board->boot_nonce,
        .session = link->session,
        .version = TG_VERSION,
        .build_id = board->build_id,
        .reset_cause = board->reset_cause,
        .tick_hz = board->tick_hz,
        .sample_hz = board->sample_hz,
        .code_pa = board->code_pa,
        .full_scale_code = board->full_scale_code,
        .max_payload = TG_MAX_PAYLOAD,
        .credit_window = board->credit_window,
        .box_max = TG_BOX_MAX,
        .lease_max_ms = TG_LEASE_MAX_MS,
        .switch_open_ns = board->switch_open_ns,
        .safe_closed = TG_SAFE_SWITCH,
        .state = core->state,
    };
    for (uint32_t i = 0; i < TG_TEXT_SIZE; i++) {
        m.board[i] = board->name[i];
    }
    link->welcome_due = false;
    tg_put_welcome(link->payload, &m);
    put_frame(core, TG_WELCOME, TG_WELCOME_SIZE);
}

static void put_config(tg_core *core)
{
    tg_link *link = &core->link;
    tg_config_is m = {
        .config = core->config,
        .config_crc = tg_core_config_crc(core),
        .result = link->config_result,
    };
    link->config_due = false;
    tg_put_config_is(link->payload, &m);
    put_frame(core, TG_CONFIG_IS, TG_CONFIG_IS_SIZE);
}

static void put_refused(tg_core *core)
{
    tg_link *link = &core->link;
    const tg_refusal *first = &link->refusals[link->refusals_at];
    tg_refused m = {.id = first->id, .seq = first->seq, .why = first->why};
    link->refusals_at = (uint8_t)((link->refusals_at + 1u) % TG_REFUSALS);
    link->refusals_n--;
    tg_put_refused(link->payload, &m);
    put_frame(core, TG_REFUSED, TG_REFUSED_SIZE);
}

static void put_pong(tg_core *core)
{
    tg_link *link = &core->link;
    tg_pong m = {.token = link->pong_token, .ticks_rx = link->pong_rx_ticks, .ticks_tx = tg_port_ticks(core->port)};
    link->pong_due = false;
    tg_put_pong(link->payload, &m);
    put_frame(core, TG_PONG, TG_PONG_SIZE);
}

static uint32_t lease_left(const tg_core *core, uint64_t now)
{
    uint64_t left = core->state == TG_STATE_ARMED && core->lease_deadline > now ? core->lease_deadline - now : 0;
    return left > UINT32_MAX ? UINT32_MAX : (uint32_t)left;
}

static void put_status(tg_core *core)
{
    tg_link *link = &core->link;
    const tg_decoder *rx = &link->decoder;
    uint32_t config_crc = tg_core_config_crc(core);
    uint32_t key = tg_port_lock(core->port);
    uint64_t now = tg_port_ticks(core->port);
    tg_status m = {
        .ticks = now,
        .sample_index = core->index,
        .state = core->state,
        .switch_pin = core->closed,
        .switch_sense = tg_port_switch_sense(core->port),
        .trip_id = core->trip.id,
        .trip_reason = core->trip.stuck ? TG_REASON_SWITCH_STUCK : core->trip.reason,
        .lease_seq = core->lease_seq,
        .lease_left_ticks = lease_left(core, now),
        .config_crc = config_crc,
        .bulk_sent = link->bulk_sent,
        .rx_frames = rx->frames,
        .rx_bad_cobs = rx->bad_cobs,
        .rx_bad_length = rx->bad_length,
        .rx_bad_crc = rx->bad_crc,
        .rx_unknown = rx->unknown,
        .rx_stale = rx->stale,
        .rx_gaps = rx->gaps,
        .tx_frames = link->tx_frames,
        .drop_no_credit = core->drop_no_credit,
        .drop_tx_full = core->drop_tx_full,
        .late_samples = core->late_samples,
        .overruns = core->overruns,
    };
    link->status_due = false;
    tg_port_unlock(core->port, key);
    link->status_ticks = now;
    tg_put_status(link->payload, &m);
    put_frame(core, TG_STATUS, TG_STATUS_SIZE);
}

/* Codes of the box that a frame takes now; 0: not enough of them are there yet. */
static uint16_t box_codes(const tg_core *core)
{
    const tg_link *link = &core->link;
    uint32_t want = link->box_end > link->box_next ? (uint32_t)(link->box_end - link->box_next) : 0;
    want = want < TG_BOX_MOST ? want : TG_BOX_MOST;
    return (uint32_t)link->box_next + want <= tg_blackbox_ready(&core->box) ? (uint16_t)want : 0;
}

static void put_box(tg_core *core, uint16_t n)
{
    tg_link *link = &core->link;
    tg_box m = {.trip_id = core->trip.id, .offset = link->box_next, .count = n};
    tg_put_box(link->payload, &m);
    for (uint16_t i = 0; i < n; i++) {
        tg_put_i16(link->payload + TG_BOX_FIXED + 2u * i, tg_blackbox_code(&core->box, (uint16_t)(link->box_next + i)));
    }
    link->box_next = (uint16_t)(link->box_next + n);
    link->box_due = link->box_next < link->box_end;
    put_frame(core, TG_BOX, TG_BOX_FIXED + 2u * n);
}

static void put_bulk(tg_core *core, const tg_block *block)
{
    tg_link *link = &core->link;
    bool full = core->bulk.stream == TG_STREAM_FULL;
    uint8_t *codes = link->payload + (full ? TG_SAMPLES_FIXED : TG_MINMAX_FIXED);
    if (full) {
        tg_samples m = {.index = block->index, .ticks = block->ticks, .count = block->codes_n};
        tg_put_samples(link->payload, &m);
    } else {
        tg_minmax m = {
            .index = block->index,
            .ticks = block->ticks,
            .decimation = core->bulk.decimation,
            .count = (uint16_t)(block->codes_n / 2u),
        };
        tg_put_minmax(link->payload, &m);
    }
    for (uint16_t i = 0; i < block->codes_n; i++) {
        tg_put_i16(codes + 2u * i, block->codes[i]);
    }
    size_t length = (size_t)(codes - link->payload) + 2u * block->codes_n;
    tg_bulk_sent(&core->bulk);
    link->bulk_sent++;
    put_frame(core, full ? TG_SAMPLES : TG_MINMAX, length);
}

static bool report_is_due(const tg_core *core)
{
    const tg_link *link = &core->link;
    return core->state == TG_STATE_TRIPPED && !core->trip.acknowledged
           && (link->report_due || tg_port_ticks(core->port) - link->report_ticks >= ms(core, TG_TRIP_RESEND_MS));
}

bool tg_send_next(tg_core *core)
{
    tg_link *link = &core->link;
    const tg_block *block;
    uint16_t codes;
    if (link->welcome_due) {
        put_welcome(core); /* without it nobody takes a report of this session */
    } else if (report_is_due(core)) {
        put_report(core);
    } else if (link->config_due) {
        put_config(core);
    } else if (link->refusals_n) {
        put_refused(core);
    } else if (link->pong_due) {
        put_pong(core);
    } else if (link->status_due || tg_port_ticks(core->port) - link->status_ticks >= ms(core, TG_STATUS_PERIOD_MS)) {
        put_status(core);
    } else if (link->box_due && ((codes = box_codes(core)) != 0 || link->box_next >= link->box_end)) {
        put_box(core, codes);
    } else if ((int32_t)(link->credit - link->bulk_sent) > 0 && (block = tg_bulk_next(&core->bulk)) != NULL) {
        put_bulk(core, block);
    } else {
        return false;
    }
    return true;
}

void tg_core_poll(tg_core *core)
{
    tg_link *link = &core->link;
    uint32_t key = tg_port_lock(core->port);
    uint64_t index = core->index;
    tg_port_unlock(core->port, key);
    /* A main loop that lives beside dead samples protects nobody: the watchdog has to bite then, too. */
    if (index != core->kicked_index) {
        core->kicked_index = index;
        tg_port_watchdog_kick(core->port);
    }
    for (uint32_t i = 0; i < FRAMES_PER_POLL; i++) {
        if (link->tx_at == link->tx_n && !tg_send_next(core)) {
            return;
        }
        link->tx_at = (uint16_t)(link->tx_at
                                 + tg_port_send(core->port, link->tx + link->tx_at, (size_t)(link->tx_n - link->tx_at)));
        if (link->tx_at != link->tx_n) {
            return; /* the line has no room; the frame goes on when it has */
        }
        link->tx_ticks = tg_port_ticks(core->port);
    }
}
