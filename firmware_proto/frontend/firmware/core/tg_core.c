/* What protects: the sample, the trip, the lease, and what leaves TRIPPED. Everything here is short and does not wait. */
#include "tg_core.h"

#include "tg_port.h"

#define TG_LEASE_MAX_TICKS(board) ((uint64_t)((board)->tick_hz / 1000u) * TG_LEASE_MAX_MS)

void tg_core_init(tg_core *core, const tg_board *board, void *port)
{
    tg_port_switch(port, false);
    uint8_t *bytes = (uint8_t *)core;
    for (size_t i = 0; i < sizeof *core; i++) {
        bytes[i] = 0;
    }
    core->board = board;
    core->port = port;
    core->state = TG_STATE_SAFE;
    core->period_ticks = board->tick_hz / board->sample_hz;
    core->due_ticks = tg_port_ticks(port) + core->period_ticks;
    tg_blackbox_start(&core->box);
    tg_bulk_start(&core->bulk, TG_STREAM_OFF, 1, 1);
    tg_link_start(core);
}

/* The first cause is the trip's; what comes later changes nothing of it. */
void tg_core_trip(tg_core *core, uint8_t reason, uint16_t threshold, int16_t baseline)
{
    tg_port_switch(core->port, false);
    core->closed = false;
    if (core->state == TG_STATE_TRIPPED) {
        return;
    }
    core->state = TG_STATE_TRIPPED;
    tg_trip_record *trip = &core->trip;
    trip->id++;
    trip->reason = reason;
    trip->stuck = reason == TG_REASON_SWITCH_STUCK;
    trip->acknowledged = false;
    trip->index = core->index ? core->index - 1u : 0;
    trip->ticks = core->due_ticks - core->period_ticks;
    trip->code = core->code;
    trip->threshold = threshold;
    trip->baseline = baseline;
    tg_blackbox_trip(&core->box);
    core->link.report_due = true;
    core->link.status_due = true;
}

void tg_core_open(tg_core *core)
{
    tg_port_switch(core->port, false);
    core->closed = false;
    if (core->state == TG_STATE_ARMED) {
        core->state = TG_STATE_SAFE;
    }
    core->link.status_due = true;
}

static void count_lost(tg_core *core, uint32_t samples)
{
    if ((int32_t)(core->link.credit - core->link.bulk_sent) <= 0) {
        core->drop_no_credit += samples;
    } else {
        core->drop_tx_full += samples;
    }
}

/* An opened switch that still conducts cannot be cured from here: it is told, and latched. */
static void watch_switch(tg_core *core)
{
    core->sense = tg_port_switch_sense(core->port);
    if (core->closed || !core->sense) {
        core->sense_run = 0;
    } else if (core->sense_run < TG_SENSE_SAMPLES && ++core->sense_run == TG_SENSE_SAMPLES) {
        tg_core_trip(core, TG_REASON_SWITCH_STUCK, 0, 0);
        core->trip.stuck = true;
        core->link.status_due = true;
    }
}

/* Samples that nobody took are not made up: their numbers pass, and the box keeps its time. */
static void skip(tg_core *core, uint64_t behind_ticks)
{
    uint32_t missed = 0;
    for (uint32_t bit = 31; bit-- > 0;) {
        uint64_t span = (uint64_t)core->period_ticks << bit;
        if (behind_ticks >= span) {
            behind_ticks -= span;
            missed += 1u << bit;
        }
    }
    if (!missed) {
        return;
    }
    count_lost(core, tg_bulk_gap(&core->bulk));
    for (uint32_t i = 0; i < missed && i < TG_BOX_MAX; i++) {
        tg_blackbox_push(&core->box, TG_CODE_NONE);
    }
    core->index += missed;
    core->due_ticks += (uint64_t)missed * core->period_ticks;
    core->late_samples += missed;
}

static void take_sample(tg_core *core, uint64_t now)
{
    const tg_board *board = core->board;
    uint64_t late = now - core->due_ticks;
    bool overrun = late > board->max_late_ticks;
    bool judged = core->state == TG_STATE_ARMED;
    uint8_t reason = TG_REASON_NONE;
    int16_t code = TG_CODE_NONE;

    core->late_samples += late > board->late_ticks ? 1u : 0u;
    core->overruns += overrun ? 1u : 0u;
    watch_switch(core);

    /* Judged by the clock, not by the sample's turn: a loop that lags behind must not stretch a lease. */
    if (judged && now >= core->lease_deadline) {
        reason = TG_REASON_LEASE;
    } else if (judged && overrun) {
        reason = TG_REASON_OVERRUN;
    }
    if (reason != TG_REASON_NONE) {
        tg_port_switch(core->port, false);
    }

    bool answered = tg_port_convert(core->port, core->index, core->due_ticks, &code);
    int16_t baseline = judged ? tg_detector_baseline(&core->detector) : 0;
    if (!answered) {
        code = TG_CODE_NONE;
        if (judged && reason == TG_REASON_NONE) {
            reason = TG_REASON_ADC_FAULT;
        }
    } else if (judged) {
        uint8_t found = tg_detector_step(&core->detector, code);
        reason = reason == TG_REASON_NONE ? found : reason;
    }
    if (reason != TG_REASON_NONE) {
        tg_port_switch(core->port, false); /* before any bookkeeping */
    }

    uint64_t index = core->index++;
    uint64_t due = core->due_ticks;
    core->due_ticks += core->period_ticks;
    core->code = code;
    tg_blackbox_push(&core->box, code);
    if (reason != TG_REASON_NONE) {
        tg_core_trip(core, reason, tg_detector_threshold(&core->detector, reason), baseline);
    }
    uint32_t lost = tg_bulk_put(&core->bulk, index, due, code);
    if (lost) {
        count_lost(core, lost);
    }
    if (overrun) {
        skip(core, now - due);
    }
}

uint32_t tg_core_sample(tg_core *core, uint32_t most)
{
    uint32_t taken = 0;
    while (taken < most) {
        uint64_t now = tg_port_ticks(core->port);
        if (now < core->due_ticks) {
            break;
        }
        take_sample(core, now);
        taken++;
    }
    return taken;
}

static uint8_t judge_lease(const tg_core *core, uint32_t lease_seq, uint64_t deadline)
{
    uint64_t now = tg_port_ticks(core->port);
    if (lease_seq <= core->lease_seq) {
        return TG_REFUSAL_LEASE_OLD;
    }
    if (deadline <= now) {
        return TG_REFUSAL_DEADLINE_PAST;
    }
    if (deadline - now > TG_LEASE_MAX_TICKS(core->board)) {
        return TG_REFUSAL_LEASE_TOO_LONG;
    }
    return TG_REFUSAL_NONE;
}

/* Anew each time, from where the detector reads: what was damaged since is not armed. */
uint32_t tg_core_config_crc(const tg_core *core)
{
    uint8_t payload[TG_CONFIG_SIZE];
    tg_put_config(payload, &core->config);
    return core->configured ? tg_crc32(0, payload, sizeof payload) : 0;
}

uint8_t tg_core_configure(tg_core *core, const tg_config *config)
{
    const tg_board *board = core->board;
    if (!core->link.schema_agrees) {
        return TG_REFUSAL_SCHEMA;
    }
    if (core->state != TG_STATE_SAFE) {
        return TG_REFUSAL_STATE;
    }
    if (!tg_config_in_range(config) || config->hard_code > board->full_scale_code
        || (uint32_t)config->pre_n + config->post_n + 1u > TG_BOX_MAX) {
        return TG_REFUSAL_BAD_VALUE;
    }
    core->config = *config;
    core->configured = true;
    tg_blackbox_configure(&core->box, config->pre_n, config->post_n);
    /* A block of FULL spans 2.5 ms, one of MINMAX 25 ms: young enough, and hundreds of frames a second at most. */
    tg_bulk_start(&core->bulk, config->stream, config->decimation,
                  board->sample_hz / (config->stream == TG_STREAM_FULL ? 400u : 40u));
    return TG_REFUSAL_NONE;
}

uint8_t tg_core_arm(tg_core *core, uint32_t config_crc, uint32_t lease_seq, uint64_t deadline)
{
    if (!core->link.schema_agrees) {
        return TG_REFUSAL_SCHEMA;
    }
    if (core->box.held) {
        return TG_REFUSAL_BOX_NOT_RELEASED;
    }
    if (core->state != TG_STATE_SAFE) {
        return TG_REFUSAL_STATE;
    }
    if (!core->configured || config_crc != tg_core_config_crc(core)) {
        return TG_REFUSAL_CONFIG;
    }
    uint8_t refusal = judge_lease(core, lease_seq, deadline);
    if (refusal != TG_REFUSAL_NONE) {
        return refusal;
    }
    core->lease_seq = lease_seq;
    core->lease_deadline = deadline;
    tg_detector_start(&core->detector, &core->config, core->board->full_scale_code);
    core->sense_run = 0;
    core->state = TG_STATE_ARMED;
    core->closed = true;
    core->link.status_due = true;
    tg_port_switch(core->port, true);
    return TG_REFUSAL_NONE;
}

uint8_t tg_core_lease(tg_core *core, uint32_t lease_seq, uint64_t deadline)
{
    if (core->state != TG_STATE_ARMED) {
        return TG_REFUSAL_STATE;
    }
    /* Ended already, though no sample has come to see it: it is not revived. */
    if (tg_port_ticks(core->port) >= core->lease_deadline) {
        tg_core_trip(core, TG_REASON_LEASE, 0, tg_detector_baseline(&core->detector));
        return TG_REFUSAL_STATE;
    }
    uint8_t refusal = judge_lease(core, lease_seq, deadline);
    if (refusal == TG_REFUSAL_NONE) {
        core->lease_seq = lease_seq;
        core->lease_deadline = deadline;
    }
    return refusal;
}

static bool is_trip(const tg_core *core, uint32_t trip_id)
{
    return core->trip.id && core->trip.id == trip_id;
}

uint8_t tg_core_acknowledge(tg_core *core, uint32_t trip_id)
{
    if (!is_trip(core, trip_id)) {
        return TG_REFUSAL_UNKNOWN_TRIP;
    }
    core->trip.acknowledged = true;
    return TG_REFUSAL_NONE;
}

uint8_t tg_core_release(tg_core *core, uint32_t trip_id)
{
    if (!is_trip(core, trip_id)) {
        return TG_REFUSAL_UNKNOWN_TRIP;
    }
    tg_blackbox_release(&core->box);
    core->link.box_due = false;
    return TG_REFUSAL_NONE;
}

uint8_t tg_core_rearm(tg_core *core, uint32_t trip_id)
{
    if (!is_trip(core, trip_id)) {
        return TG_REFUSAL_UNKNOWN_TRIP;
    }
    /* A switch that conducts though open is no safe state. */
    if (core->state != TG_STATE_TRIPPED || tg_port_switch_sense(core->port)) {
        return TG_REFUSAL_STATE;
    }
    if (!core->trip.acknowledged) {
        return TG_REFUSAL_NOT_ACKNOWLEDGED;
    }
    if (core->box.held) {
        return TG_REFUSAL_BOX_NOT_RELEASED;
    }
    core->state = TG_STATE_SAFE;
    core->sense_run = 0;
    core->link.status_due = true;
    return TG_REFUSAL_NONE;
}
