/* Reset and vectors. The first store after reset opens the switch, before any memory is prepared. */
#include <stdint.h>

#include "port.h"

extern uint32_t _data_load[], _data_start[], _data_end[], _bss_start[], _bss_end[], _stack_top[];

void tg_reset(void);

/* What should never come opens the switch and waits for the watchdog to reset. */
__attribute__((noreturn, used)) static void opened_for_good(void)
{
    port_switch_release();
    for (;;) {
    }
}

/* The stack may be what is broken: a new one, before a single push. */
__attribute__((naked)) static void fault(void)
{
    __asm__ volatile("ldr r0, =_stack_top\n\tmov sp, r0\n\tb opened_for_good");
}

void tg_reset(void)
{
    port_switch_release();
    const uint32_t *from = _data_load;
    for (uint32_t *to = _data_start; to < _data_end; to++) {
        *to = *from++;
    }
    for (uint32_t *to = _bss_start; to < _bss_end; to++) {
        *to = 0;
    }
    port_boot();
    port_main();
    opened_for_good();
}

typedef void (*vector)(void);

/* 16 of the core, and the two UART interrupts; nothing else is ever enabled. */
__attribute__((section(".vectors"), used)) static const struct {
    uint32_t *stack;
    vector handlers[17];
} vectors = {
    _stack_top,
    {
        tg_reset, port_watchdog_nmi, fault, fault, fault, fault, 0, 0, 0, 0, fault, fault, 0, fault,
        port_sample_interrupt, port_uart_rx_interrupt, port_uart_tx_interrupt,
    },
};
