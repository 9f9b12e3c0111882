/* What the parts of this port are to each other. Interrupts by urgency: NMI (watchdog), SysTick (samples), UART. */
#ifndef TG_MPS2_PORT_H
#define TG_MPS2_PORT_H

#include <stdbool.h>
#include <stdint.h>

#include "tg_schema.h"

/* Build options (hil/frontend/build.py). */
#ifndef TG_SAMPLE_HZ
#define TG_SAMPLE_HZ 10000u /* 1 .. 25000; must divide 25 MHz */
#endif
#ifndef TG_SPIN_IDLE
#define TG_SPIN_IDLE 0 /* 1: never WFI. QEMU 7.2 with -icount sleep=off loses half of all SysTicks to WFI */
#endif
/* A virtual machine stands still for milliseconds whenever its host likes. The image for real time has to bear that, and
   proves nothing about time; its lease holds all the same. The image for virtual time has the schema's limits. */
#if TG_SPIN_IDLE
#define PORT_MAX_LATE_US TG_MAX_LATE_US
#define PORT_WATCHDOG_MS TG_WATCHDOG_MS /* to the NMI, which opens; as long again to the reset */
#else
#define PORT_MAX_LATE_US 50000u
#define PORT_WATCHDOG_MS 500u
#endif

/* startup.c calls */
void port_boot(void); /* decides what reset it was; RAM is prepared, interrupts are off */
void port_main(void); /* never returns in the product; a test image ends by semihosting */

/* clock.c: the only time there is, the free-running counter carried on to 64 bits */
void clock_start(void);
uint64_t clock_ticks(void); /* 25 MHz; from any context; at least once in 171 s */

/* analog.c */
void port_switch_release(void); /* opens, touching no RAM of ours; callable before memory is prepared */
void analog_start(void);

/* reset.c */
uint8_t reset_cause(void);      /* the schema's ResetCause */
uint32_t reset_nonce(void);     /* another one at each boot */
void reset_software(void);      /* resets, and the next boot says so */

/* watchdog.c */
void watchdog_start(void);
void watchdog_kick(void);
void port_watchdog_nmi(void);

/* The line: uart.c, or in the conformance image a host that lives beside the firmware. From the main loop only. */
void line_start(void);
uint32_t line_receive(uint8_t *to, uint32_t room);   /* returns how many came */
uint32_t line_send(const uint8_t *from, uint32_t n); /* takes what there is room for, returns how many */
void port_uart_rx_interrupt(void);
void port_uart_tx_interrupt(void);

/* frontend.c */
uint64_t port_sample_index(void); /* of the sample being taken, or of the next one */
void port_sample_interrupt(void);

static inline uint32_t irq_save(void)
{
    uint32_t mask;
    __asm__ volatile("mrs %0, primask\n\tcpsid i" : "=r"(mask)::"memory");
    return mask;
}

static inline void irq_restore(uint32_t mask)
{
    __asm__ volatile("msr primask, %0" ::"r"(mask) : "memory");
}

#endif
