/* The core on this board: its board row, time, line, watchdog, lock, interrupt and main loop (docs/firmware.md). */
#include "tg_port.h"

#include "board.h"
#include "port.h"
#include "tg_core.h"

#ifndef TG_BUILD_ID
#define TG_BUILD_ID 0u
#endif
#define PERIOD_TICKS (BOARD_CLOCK_HZ / TG_SAMPLE_HZ)
#define SAMPLES_PER_INTERRUPT 1000u /* a loop that fell behind catches up, and lets the UART in between */

static tg_core core;
static tg_board board = {
    .name = "mps2_an385",
    .build_id = TG_BUILD_ID,
    .tick_hz = BOARD_CLOCK_HZ,
    .sample_hz = TG_SAMPLE_HZ,
    .code_pa = 40000,
    .full_scale_code = 32767,
    .credit_window = 16,
    .switch_open_ns = 300,
    .late_ticks = PERIOD_TICKS,
    .max_late_ticks = BOARD_CLOCK_HZ / 1000u * PORT_MAX_LATE_US / 1000u,
};
uint64_t port_sample_index(void)
{
    return core.index;
}

uint64_t tg_port_ticks(void *port)
{
    (void)port;
    return clock_ticks();
}

size_t tg_port_send(void *port, const uint8_t *bytes, size_t n)
{
    (void)port;
    return line_send(bytes, (uint32_t)n);
}

void tg_port_watchdog_kick(void *port)
{
    (void)port;
    watchdog_kick();
}

uint32_t tg_port_lock(void *port)
{
    (void)port;
    return irq_save();
}

void tg_port_unlock(void *port, uint32_t key)
{
    (void)port;
    irq_restore(key);
}

/* SysTick only says "look"; which samples are due, the free-running counter says. */
void port_sample_interrupt(void)
{
    tg_core_sample(&core, SAMPLES_PER_INTERRUPT);
}

static void idle(void)
{
#if !TG_SPIN_IDLE
    __asm__ volatile("wfi");
#endif
}

void port_main(void)
{
    uint8_t bytes[64];

    clock_start();
    analog_start();
    board.boot_nonce = reset_nonce();
    board.reset_cause = reset_cause();
    tg_core_init(&core, &board, 0);
    line_start();
    watchdog_start();
    SYSTICK_LOAD = PERIOD_TICKS - 1u;
    SYSTICK_VALUE = 0;
    SYSTICK_CTRL = SYSTICK_CTRL_RUN;
    for (;;) {
        uint32_t n = line_receive(bytes, sizeof bytes);
        tg_core_receive(&core, bytes, n);
        tg_core_poll(&core);
        if (!n) {
            idle();
        }
    }
}
