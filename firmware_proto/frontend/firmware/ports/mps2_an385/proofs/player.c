/* A host that lives beside the firmware, in the place of its UART: plays waveforms, one arming each, and writes down
   what the firmware did. The firmware is the product's, main loop, interrupts and all; only the line is another.

   Takes the place of uart.c, and of analog.c, which it includes under another name for the switch. */
#define tg_port_switch board_switch
#include "../analog.c"
#undef tg_port_switch

#include "player.h"

#include "semihost.h"
#include "tg_frame.h"

#define TICKS_PER_MS (BOARD_CLOCK_HZ / 1000u)
#define PERIOD_TICKS (BOARD_CLOCK_HZ / TG_SAMPLE_HZ)
#define PATIENCE_TICKS (300u * TICKS_PER_MS)
#define ROOM (4u * TG_FRAME_MAX)

const char tg_proof_image = 1;

typedef enum { GREET, CONFIGURE, ARM, PLAY, TIDY } step;

static struct {
    tg_decoder decoder;
    uint8_t out[ROOM]; /* to the firmware */
    uint32_t out_n;
    uint32_t out_at;
    uint16_t seq;
    uint32_t entry;
    step at;
    bool asked; /* this step's question is on its way */
    uint64_t since;
    uint32_t lease_seq;
    uint64_t renew_at;
    bool tripped;
    uint32_t trip_id;
} host;

static const volatile player_entry *entry(void)
{
    return (const volatile player_entry *)(PSRAM_BASE + PLAYER_SCRIPT_AT + 16u) + host.entry;
}

static volatile player_result *result(void)
{
    return (volatile player_result *)(PSRAM_BASE + PLAYER_RESULTS_AT) + host.entry;
}

/* The moment the switch closes is the moment the waveform begins, so that its first code is the first that is judged. */
void tg_port_switch(void *port, bool closed)
{
    if (closed) {
        BENCH->wave_from = BENCH->sample_index;
        BENCH->wave_n = entry()->wave_n;
        result()->from = BENCH->sample_index;
    }
    board_switch(port, closed);
}

static void say(uint8_t id, const uint8_t *payload, uint32_t length)
{
    if (host.out_at == host.out_n) {
        host.out_at = host.out_n = 0;
    }
    if (ROOM - host.out_n < TG_FRAME_MAX) {
        semihost_exit(PLAYER_BROKEN);
    }
    uint32_t session = id == TG_HELLO ? 0 : host.decoder.session;
    host.out_n += (uint32_t)tg_encode(host.out + host.out_n, id, host.seq++, session, payload, length);
}

static void say_number(uint8_t id, uint32_t number)
{
    uint8_t payload[4];
    tg_put_u32(payload, number);
    say(id, payload, sizeof payload);
}

static void go(step next)
{
    host.at = next;
    host.asked = false;
    host.since = clock_ticks();
}

extern uint32_t _stack_bottom[], _stack_top[];

/* The deepest that main loop and interrupts together have been: the emulated RAM is zero at power-up. */
static uint32_t stack_used(void)
{
    const uint32_t *at = _stack_bottom;
    while (at < _stack_top && !*at) {
        at++;
    }
    return (uint32_t)((const char *)_stack_top - (const char *)at);
}

static void finish_entry(const uint8_t *status)
{
    tg_status s;
    tg_get_status(&s, status);
    result()->late_samples = s.late_samples;
    result()->overruns = s.overruns;
    result()->done = 1;
    host.entry++;
    if (host.entry == *(volatile uint32_t *)(PSRAM_BASE + PLAYER_SCRIPT_AT)) {
        *(volatile uint32_t *)(PSRAM_BASE + PLAYER_SCRIPT_AT + 4u) = stack_used();
        semihost_exit(0);
    }
    go(CONFIGURE);
}

static uint32_t in_force; /* CRC of the configuration */

static void ask_config(void)
{
    uint8_t payload[TG_CONFIG_SIZE];
    for (uint32_t i = 0; i < sizeof payload; i++) {
        payload[i] = entry()->config[i];
    }
    const volatile int16_t *wave = (const volatile int16_t *)(PSRAM_BASE + entry()->wave_at);
    BENCH->wave_n = 0;
    for (uint32_t i = 0; i < entry()->wave_n; i++) {
        BENCH->wave[i] = wave[i];
    }
    say(TG_CONFIG, payload, sizeof payload);
}

static void lease(uint8_t id, uint64_t deadline)
{
    uint8_t payload[TG_ARM_SIZE];
    tg_arm arm = {.config_crc = in_force, .lease_seq = ++host.lease_seq, .deadline_ticks = deadline};
    result()->deadline_ticks = deadline;
    if (id == TG_ARM) {
        tg_put_arm(payload, &arm);
        say(id, payload, TG_ARM_SIZE);
    } else {
        tg_lease renewed = {.lease_seq = arm.lease_seq, .deadline_ticks = deadline};
        tg_put_lease(payload, &renewed);
        say(id, payload, TG_LEASE_SIZE);
    }
}

static void ask_arm(void)
{
    uint64_t now = clock_ticks();
    uint32_t length = entry()->lease_ticks;
    host.tripped = false;
    host.renew_at = now + TG_LEASE_RENEW_MS * TICKS_PER_MS;
    if (length) {
        /* At a phase of its own between two samples: BENCH->ticks is when the last one was due. */
        lease(TG_ARM, BENCH->ticks + PERIOD_TICKS + length + entry()->phase_ticks);
    } else {
        lease(TG_ARM, now + (TG_LEASE_MAX_MS - 1u) * TICKS_PER_MS);
    }
}

static void take_report(const uint8_t *payload)
{
    tg_trip_report report;
    tg_get_trip_report(&report, payload);
    if (host.tripped) {
        return; /* told once more: our acknowledgement is on its way */
    }
    host.tripped = true;
    result()->reason = report.reason;
    result()->trip_index = report.sample_index;
    result()->trip_ticks = report.ticks;
    result()->open_index = BENCH->open_index;
    result()->open_ticks = BENCH->open_ticks;
    say_number(TG_ACK_TRIP, report.trip_id);
    say_number(TG_BOX_DONE, report.trip_id);
    host.trip_id = report.trip_id;
    go(TIDY);
}

static void take(const tg_frame *frame)
{
    const uint8_t *payload = frame->payload;
    switch (frame->id) {
    case TG_WELCOME: {
        tg_welcome welcome;
        tg_get_welcome(&welcome, payload);
        host.decoder.session = welcome.session;
        go(CONFIGURE);
        break;
    }
    case TG_CONFIG_IS: {
        tg_config_is is;
        tg_get_config_is(&is, payload);
        if (is.result != TG_REFUSAL_NONE) {
            semihost_exit(PLAYER_REFUSED);
        }
        in_force = is.config_crc;
        go(ARM);
        break;
    }
    case TG_STATUS: {
        tg_status status;
        tg_get_status(&status, payload);
        if (host.at == ARM && status.state == TG_STATE_ARMED) {
            go(PLAY);
        } else if (host.at == TIDY && status.state == TG_STATE_SAFE) {
            finish_entry(payload);
        }
        break;
    }
    case TG_TRIP_REPORT:
        take_report(payload);
        break;
    case TG_REFUSED:
        /* A lease or an opening that comes when the trip has been already. */
        if (payload[0] != TG_LEASE && payload[0] != TG_OPEN) {
            semihost_exit(PLAYER_REFUSED);
        }
        break;
    default:
        break;
    }
}

/* Not before the firmware has seen the switch open, which it looks at with each sample. */
static bool may_rearm(void)
{
    return host.tripped && BENCH->sample_index > result()->trip_index + TG_SENSE_SAMPLES;
}

static void ask(void)
{
    if (!host.asked && (host.at != TIDY || may_rearm())) {
        host.asked = true;
        switch (host.at) {
        case GREET: {
            uint8_t payload[TG_HELLO_SIZE];
            tg_hello hello = {.schema_hash = TG_SCHEMA_HASH, .host_nonce = 0x5EED5EEDu, .version = TG_VERSION};
            tg_put_hello(payload, &hello);
            say(TG_HELLO, payload, sizeof payload);
            break;
        }
        case CONFIGURE:
            ask_config();
            break;
        case ARM:
            ask_arm();
            break;
        case TIDY:
            say_number(TG_REARM, host.trip_id);
            break;
        default:
            break;
        }
    }
    if (host.at != PLAY) {
        return;
    }
    uint64_t now = clock_ticks();
    if (!entry()->lease_ticks && now >= host.renew_at) {
        host.renew_at = now + TG_LEASE_RENEW_MS * TICKS_PER_MS;
        lease(TG_LEASE, now + (TG_LEASE_MAX_MS - 1u) * TICKS_PER_MS);
    }
    if (!entry()->lease_ticks && BENCH->sample_index >= result()->from + entry()->wave_n) {
        say(TG_OPEN, 0, 0);
        go(TIDY);
    }
}

void line_start(void)
{
    tg_decoder_start(&host.decoder, TG_SIDE_HOST);
    go(GREET);
}

uint32_t line_receive(uint8_t *to, uint32_t room)
{
    if (clock_ticks() - host.since > PATIENCE_TICKS) {
        semihost_exit(PLAYER_STUCK);
    }
    ask();
    uint32_t n = 0;
    while (n < room && host.out_at < host.out_n) {
        to[n++] = host.out[host.out_at++];
    }
    return n;
}

uint32_t line_send(const uint8_t *from, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        tg_frame frame;
        tg_event event = tg_decode_byte(&host.decoder, from[i], &frame);
        if (event == TG_GOT_FRAME) {
            take(&frame);
        } else if (event != TG_GOT_NOTHING && event != TG_STALE_SESSION) {
            semihost_exit(PLAYER_BROKEN);
        }
    }
    return n;
}

void port_uart_rx_interrupt(void)
{
}

void port_uart_tx_interrupt(void)
{
}
