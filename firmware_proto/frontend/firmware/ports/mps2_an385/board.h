/* MPS2 with the AN385 image (Cortex-M3), as QEMU models it: registers and addresses. Arm DUI 0479, DAI 0385. */
#ifndef TG_BOARD_H
#define TG_BOARD_H

#include <stdint.h>

#define TG_REG(address) (*(volatile uint32_t *)(address))

/* The one clock of the board: processor, timers, watchdog. */
#define BOARD_CLOCK_HZ 25000000u

/* CMSDK APB dual timer, first half: 32 bits, counting down, free-running. */
#define DUALTIMER_LOAD TG_REG(0x40002000u)
#define DUALTIMER_VALUE TG_REG(0x40002004u)
#define DUALTIMER_CONTROL TG_REG(0x40002008u)
#define DUALTIMER_CONTROL_ENABLE 0x80u
#define DUALTIMER_CONTROL_32BIT 0x02u

/* CMSDK APB UART 0. */
#define UART_DATA TG_REG(0x40004000u)
#define UART_STATE TG_REG(0x40004004u)
#define UART_CTRL TG_REG(0x40004008u)
#define UART_INTCLEAR TG_REG(0x4000400Cu)
#define UART_BAUDDIV TG_REG(0x40004010u)
#define UART_STATE_TXFULL 0x1u
#define UART_STATE_RXFULL 0x2u
#define UART_CTRL_TXEN 0x1u
#define UART_CTRL_RXEN 0x2u
#define UART_CTRL_TXINT 0x4u
#define UART_CTRL_RXINT 0x8u
#define UART_INT_TX 0x1u
#define UART_INT_RX 0x2u
#define UART_INT_OVERRUN 0xCu
#define UART_RX_IRQ 0u
#define UART_TX_IRQ 1u

/* CMSDK APB watchdog: the first time-out raises NMI, the second resets. */
#define WATCHDOG_LOAD TG_REG(0x40008000u)
#define WATCHDOG_CONTROL TG_REG(0x40008008u)
#define WATCHDOG_INTCLR TG_REG(0x4000800Cu)
#define WATCHDOG_LOCK TG_REG(0x40008C00u)
#define WATCHDOG_CONTROL_INTEN 0x1u
#define WATCHDOG_CONTROL_RESEN 0x2u
#define WATCHDOG_UNLOCK 0x1ACCE551u

/* Cortex-M3 system control space. */
#define SYSTICK_CTRL TG_REG(0xE000E010u)
#define SYSTICK_LOAD TG_REG(0xE000E014u)
#define SYSTICK_VALUE TG_REG(0xE000E018u)
#define SYSTICK_CTRL_RUN 0x7u /* processor clock, interrupt, enable */
#define NVIC_ENABLE0 TG_REG(0xE000E100u)
#define NVIC_PRIORITY0 TG_REG(0xE000E400u)
#define SCB_AIRCR TG_REG(0xE000ED0Cu)
#define SCB_AIRCR_RESET 0x05FA0004u
#define SCB_SHPR3 TG_REG(0xE000ED20u) /* priorities of PendSV (byte 2) and SysTick (byte 3) */

/* PSRAM, 16 MiB: the emulated analog side, a file that the harness maps, too (hil/frontend/qemu.py). */
#define PSRAM_BASE 0x21000000u
#define PSRAM_SIZE 0x01000000u
/* Behind the bench memory of the schema: what a real board has in hardware, a source of entropy. */
#define BOARD_SEED TG_REG(PSRAM_BASE + 0x40000u)

#endif
