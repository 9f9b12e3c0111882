/* What the host says. Every frame that gets here is whole, current and of the right length (tg_frame.c). */
#include "tg_core.h"

#include "tg_port.h"

void tg_link_start(tg_core *core)
{
    tg_decoder_start(&core->link.decoder, TG_SIDE_DEVICE);
    core->link.tx_ticks = tg_port_ticks(core->port);
    core->link.status_due = true;
}

static void refuse(tg_core *core, const tg_frame *frame, uint8_t why)
{
    tg_link *link = &core->link;
    if (why != TG_REFUSAL_NONE && link->refusals_n < TG_REFUSALS) {
        tg_refusal *refusal = &link->refusals[(link->refusals_at + link->refusals_n++) % TG_REFUSALS];
        refusal->id = frame->id;
        refusal->seq = frame->seq;
        refusal->why = why;
    }
}

/* Another host, or one that has lost its memory: nobody renews what the one before held, and nothing is owed to it. */
static void hello(tg_core *core, const tg_frame *frame)
{
    tg_link *link = &core->link;
    tg_hello m;
    tg_get_hello(&m, frame->payload);
    if (core->state == TG_STATE_ARMED) {
        tg_core_trip(core, TG_REASON_LEASE, 0, tg_detector_baseline(&core->detector));
    }
    link->host_nonce = m.host_nonce;
    link->session = tg_session_of(core->board->boot_nonce, m.host_nonce);
    link->decoder.session = link->session;
    link->schema_agrees = m.schema_hash == TG_SCHEMA_HASH && m.version == TG_VERSION;
    link->welcome_due = true;
    link->config_due = false;
    link->pong_due = false;
    link->box_due = false;
    link->refusals_n = 0;
    link->credit = 0;
    link->bulk_sent = 0;
    core->lease_seq = 0;
    core->configured = false; /* what another host wanted is not this one's wish */
    tg_bulk_start(&core->bulk, TG_STREAM_OFF, 1, 1);
    if (core->state == TG_STATE_TRIPPED) {
        /* The new one has not seen it. */
        core->trip.acknowledged = false;
        link->report_due = true;
    }
}

static uint8_t box_read(tg_core *core, const tg_frame *frame)
{
    tg_link *link = &core->link;
    tg_box_read m;
    tg_get_box_read(&m, frame->payload);
    if (!core->trip.id || m.trip_id != core->trip.id) {
        return TG_REFUSAL_UNKNOWN_TRIP;
    }
    uint32_t end = (uint32_t)m.offset + m.count;
    link->box_due = true;
    link->box_next = m.offset;
    link->box_end = (uint16_t)(end < core->box.n ? end : core->box.n);
    return TG_REFUSAL_NONE;
}

static void config(tg_core *core, const tg_frame *frame)
{
    tg_config m;
    tg_get_config(&m, frame->payload);
    core->link.config_result = tg_core_configure(core, &m);
    core->link.config_due = true;
}

static uint8_t trip_id_of(tg_core *core, const tg_frame *frame)
{
    uint32_t trip_id = tg_get_u32(frame->payload);
    switch (frame->id) {
    case TG_ACK_TRIP:
        return tg_core_acknowledge(core, trip_id);
    case TG_REARM:
        return tg_core_rearm(core, trip_id);
    default:
        return tg_core_release(core, trip_id);
    }
}

static uint8_t lease(tg_core *core, const tg_frame *frame)
{
    if (frame->id == TG_ARM) {
        tg_arm m;
        tg_get_arm(&m, frame->payload);
        return tg_core_arm(core, m.config_crc, m.lease_seq, m.deadline_ticks);
    }
    tg_lease m;
    tg_get_lease(&m, frame->payload);
    return tg_core_lease(core, m.lease_seq, m.deadline_ticks);
}

static void take(tg_core *core, const tg_frame *frame)
{
    tg_link *link = &core->link;
    switch (frame->id) {
    case TG_HELLO:
        hello(core, frame);
        break;
    case TG_CONFIG:
        config(core, frame);
        break;
    case TG_ARM:
    case TG_LEASE:
        refuse(core, frame, lease(core, frame));
        break;
    case TG_OPEN:
        tg_core_open(core);
        break;
    case TG_TRIP:
        tg_core_trip(core, TG_REASON_HOST, 0, tg_detector_baseline(&core->detector));
        link->status_due = true;
        break;
    case TG_ACK_TRIP:
    case TG_REARM:
    case TG_BOX_DONE:
        refuse(core, frame, trip_id_of(core, frame));
        break;
    case TG_BOX_READ:
        refuse(core, frame, box_read(core, frame));
        break;
    case TG_CREDIT: {
        uint32_t total = tg_get_u32(frame->payload);
        /* It only rises: an old one that comes late takes nothing back. */
        link->credit = (int32_t)(total - link->credit) > 0 ? total : link->credit;
        break;
    }
    case TG_PING:
        link->pong_token = tg_get_u32(frame->payload);
        link->pong_rx_ticks = tg_port_ticks(core->port);
        link->pong_due = true;
        break;
    case TG_GET_STATUS:
        link->status_due = true;
        break;
    default:
        break;
    }
}

void tg_core_receive(tg_core *core, const uint8_t *bytes, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        tg_frame frame;
        if (tg_decode_byte(&core->link.decoder, bytes[i], &frame) == TG_GOT_FRAME) {
            uint32_t key = tg_port_lock(core->port);
            take(core, &frame);
            tg_port_unlock(core->port, key);
        }
    }
}
