/* The core as a shared library that somebody else's clock drives: hil/frontend/lockstep.py. No thread, no system call;
   the caller owns the memory, so that as many front ends as it likes live side by side. */
#include <string.h>

#include "tg_core.h"
#include "tg_port.h"

#ifndef TG_BUILD_ID
#define TG_BUILD_ID 0u
#endif
#define TICK_HZ 1000000000u
#define TX_ROOM 262144u
#define CREDIT_WINDOW 64u
#define EVERY_DUE UINT32_MAX

typedef struct {
    uint32_t sample_hz;
    uint32_t code_pa;
    uint32_t boot_nonce;
    uint32_t late_ticks;
    uint32_t max_late_ticks;
    uint32_t full_scale_code;
    uint32_t series; /* 1: an open switch makes the converter read 0 */
} tgl_options;

typedef struct {
    tg_core core;
    tg_board board;
    uint64_t ticks;
    uint64_t kicked;
    uint64_t open_index;
    uint64_t open_ticks;
    uint32_t opens;
    uint32_t series;
    uint32_t resets;
    uint32_t line_room; /* bytes that the line takes until somebody takes them from it */
    uint32_t tx_n;
    int16_t code;
    bool fault;
    bool stuck;
    bool pin;
    bool frozen;
    bool deaf; /* the sample interrupt does not come any more */
    uint8_t tx[TX_ROOM];
} tgl;

uint64_t tg_port_ticks(void *port)
{
    return ((tgl *)port)->ticks;
}

bool tg_port_convert(void *port, uint64_t index, uint64_t due_ticks, int16_t *code)
{
    tgl *self = port;
    (void)index;
    (void)due_ticks;
    *code = self->series && !self->pin && !self->stuck ? 0 : self->code;
    return !self->fault;
}

void tg_port_switch(void *port, bool closed)
{
    tgl *self = port;
    if (self->pin && !closed) {
        self->opens++;
        self->open_index = self->core.index;
        self->open_ticks = self->ticks;
    }
    self->pin = closed;
}

bool tg_port_switch_sense(void *port)
{
    const tgl *self = port;
    return self->pin || self->stuck;
}

size_t tg_port_send(void *port, const uint8_t *bytes, size_t n)
{
    tgl *self = port;
    size_t room = self->line_room > self->tx_n ? self->line_room - self->tx_n : 0;
    n = n < room ? n : room;
    memcpy(self->tx + self->tx_n, bytes, n);
    self->tx_n += (uint32_t)n;
    return n;
}

void tg_port_watchdog_kick(void *port)
{
    tgl *self = port;
    self->kicked = self->ticks;
}

uint32_t tg_port_lock(void *port)
{
    (void)port;
    return 0;
}

void tg_port_unlock(void *port, uint32_t key)
{
    (void)port;
    (void)key;
}

size_t tgl_size(void)
{
    return sizeof(tgl);
}

void tgl_reset(tgl *self, uint32_t cause, uint32_t boot_nonce)
{
    self->board.reset_cause = (uint8_t)cause;
    self->board.boot_nonce = boot_nonce;
    self->frozen = false;
    self->deaf = false;
    self->kicked = self->ticks;
    tg_core_init(&self->core, &self->board, self);
}

void tgl_start(tgl *self, const tgl_options *options, uint64_t ticks)
{
    memset(self, 0, sizeof *self);
    self->ticks = ticks;
    self->series = options->series;
    self->line_room = TX_ROOM;
    tg_board board = {
        .name = "lockstep",
        .build_id = TG_BUILD_ID,
        .tick_hz = TICK_HZ,
        .sample_hz = options->sample_hz,
        .code_pa = options->code_pa,
        .full_scale_code = (uint16_t)options->full_scale_code,
        .credit_window = CREDIT_WINDOW,
        .switch_open_ns = 300,
        .late_ticks = options->late_ticks,
        .max_late_ticks = options->max_late_ticks,
    };
    self->board = board;
    tgl_reset(self, TG_RESET_CAUSE_POWER, options->boot_nonce);
}

/* Time goes on to `ticks`; a firmware that hangs, or has lost its samples, is reset by its watchdog on the way. */
static void pass(tgl *self, uint64_t ticks)
{
    uint64_t bites = self->kicked + (uint64_t)(TICK_HZ / 1000u) * TG_WATCHDOG_MS;
    if ((self->frozen || self->deaf) && ticks >= bites) {
        self->ticks = bites;
        self->resets++;
        tgl_reset(self, TG_RESET_CAUSE_WATCHDOG, self->board.boot_nonce * 2654435761u + 1u);
    }
    self->ticks = ticks > self->ticks ? ticks : self->ticks;
}

/* One turn of the firmware, at the time that is. */
static void turn(tgl *self)
{
    if (!self->frozen) {
        if (!self->deaf) {
            tg_core_sample(&self->core, EVERY_DUE);
        }
        tg_core_poll(&self->core);
    }
}

/* On to the next sample, whose code this is; a frozen firmware takes none, but time goes on. Returns whether the switch
   is closed then. */
uint32_t tgl_step(tgl *self, int32_t code, uint32_t fault)
{
    self->code = (int16_t)code;
    self->fault = fault != 0;
    pass(self, self->frozen || self->deaf ? self->ticks + self->core.period_ticks : self->core.due_ticks);
    turn(self);
    self->fault = false;
    return self->pin;
}

/* Steps through `codes` up to and with the one that opens a closed switch; returns how many were stepped. */
uint32_t tgl_run(tgl *self, const int16_t *codes, uint32_t n)
{
    bool closed = self->pin;
    for (uint32_t i = 0; i < n; i++) {
        tgl_step(self, codes[i], 0);
        if (closed && !self->pin) {
            return i + 1u;
        }
    }
    return n;
}

/* Takes every sample up to `ticks`, all of the same code, one at a time; stops where the switch opens (1), else 0. */
uint32_t tgl_run_to(tgl *self, uint64_t ticks, int32_t code)
{
    bool closed = self->pin;
    while (!self->frozen && !self->deaf && self->core.due_ticks <= ticks) {
        tgl_step(self, code, 0);
        if (closed && !self->pin) {
            return 1;
        }
    }
    self->code = (int16_t)code;
    pass(self, ticks);
    turn(self);
    return closed && !self->pin;
}

/* Time passes and the firmware sees nothing of it before its next turn: a stalled loop. */
void tgl_stall(tgl *self, uint64_t ticks)
{
    pass(self, ticks);
}

void tgl_receive(tgl *self, const uint8_t *bytes, uint32_t n)
{
    if (!self->frozen) {
        tg_core_receive(&self->core, bytes, n);
        tg_core_poll(&self->core);
    }
}

uint32_t tgl_take(tgl *self, uint8_t *to, uint32_t room)
{
    uint32_t n = self->tx_n < room ? self->tx_n : room;
    memcpy(to, self->tx, n);
    memmove(self->tx, self->tx + n, self->tx_n - n);
    self->tx_n -= n;
    return n;
}

void tgl_set(tgl *self, uint32_t stuck, uint32_t frozen, uint32_t deaf, uint32_t line_room)
{
    self->stuck = stuck != 0;
    self->frozen = frozen != 0;
    self->deaf = deaf != 0;
    self->line_room = line_room < TX_ROOM ? line_room : TX_ROOM;
}

typedef struct {
    uint64_t ticks;
    uint64_t due_ticks;
    uint64_t index;
    uint64_t open_index;
    uint64_t open_ticks;
    uint32_t opens;
    uint32_t resets;
    uint32_t session;
    uint32_t boot_nonce;
    uint8_t closed;
    uint8_t sense;
    uint8_t state;
    uint8_t frozen;
    uint8_t deaf;
} tgl_look;

void tgl_see(tgl *self, tgl_look *look)
{
    look->ticks = self->ticks;
    look->due_ticks = self->core.due_ticks;
    look->index = self->core.index;
    look->open_index = self->open_index;
    look->open_ticks = self->open_ticks;
    look->opens = self->opens;
    look->resets = self->resets;
    look->session = self->core.link.session;
    look->boot_nonce = self->board.boot_nonce;
    look->closed = self->pin;
    look->sense = self->pin || self->stuck;
    look->state = self->core.state;
    look->frozen = self->frozen;
    look->deaf = self->deaf;
}

/* The detector on its own, for its conformance with the model: where each code of a stream leads. `config` is the
   payload of a CONFIG. */
void tgl_detect(const uint8_t *config, uint32_t full_scale_code, const int16_t *codes, uint32_t n, uint8_t *reasons,
                int32_t *baselines_q8)
{
    tg_detector detector;
    tg_config limits;
    tg_get_config(&limits, config);
    tg_detector_start(&detector, &limits, (uint16_t)full_scale_code);
    for (uint32_t i = 0; i < n; i++) {
        baselines_q8[i] = detector.baseline_q8;
        reasons[i] = tg_detector_step(&detector, codes[i]);
    }
}
