/* CMSDK UART 0 with one ring per direction; each ring has one writer and one reader. The hardware holds one byte. */
#include "board.h"
#include "port.h"

#define BAUD 921600u
#define UART_RX_ROOM 512u /* powers of two */
#define UART_TX_ROOM 64u  /* short: what is in it goes before anything more urgent */

static volatile uint8_t rx_ring[UART_RX_ROOM];
static volatile uint32_t rx_in, rx_out;
static volatile uint8_t tx_ring[UART_TX_ROOM];
static volatile uint32_t tx_in, tx_out;

void line_start(void)
{
    rx_in = rx_out = 0;
    tx_in = tx_out = 0;
    UART_BAUDDIV = (BOARD_CLOCK_HZ + BAUD / 2u) / BAUD;
    UART_CTRL = UART_CTRL_TXEN | UART_CTRL_RXEN | UART_CTRL_TXINT | UART_CTRL_RXINT;
    UART_INTCLEAR = UART_INT_TX | UART_INT_RX | UART_INT_OVERRUN;
    /* Less urgent than the samples. */
    NVIC_PRIORITY0 = (NVIC_PRIORITY0 & 0xFFFF0000u) | 0x8080u;
    NVIC_ENABLE0 = 1u << UART_RX_IRQ | 1u << UART_TX_IRQ;
}

/* One byte, if there is one and the hardware is free; its end brings the interrupt that sends the next. Not the whole
   ring at once: QEMU sends a byte in no time, and this runs with interrupts off. */
static void send_one(void)
{
    uint32_t out = tx_out;
    if (out != tx_in && !(UART_STATE & UART_STATE_TXFULL)) {
        UART_DATA = tx_ring[out % UART_TX_ROOM];
        tx_out = out + 1u;
    }
}

void port_uart_tx_interrupt(void)
{
    UART_INTCLEAR = UART_INT_TX;
    send_one();
}

void port_uart_rx_interrupt(void)
{
    UART_INTCLEAR = UART_INT_RX;
    while (UART_STATE & UART_STATE_RXFULL) {
        uint8_t byte = (uint8_t)UART_DATA;
        uint32_t in = rx_in;
        if (in - rx_out < UART_RX_ROOM) {
            rx_ring[in % UART_RX_ROOM] = byte;
            rx_in = in + 1u;
        } /* else it is lost, and the frame it was in fails its CRC and is counted there */
    }
}

uint32_t line_receive(uint8_t *to, uint32_t room)
{
    uint32_t n = 0;
    uint32_t out = rx_out;
    while (n < room && out != rx_in) {
        to[n++] = rx_ring[out++ % UART_RX_ROOM];
    }
    rx_out = out;
    return n;
}

uint32_t line_send(const uint8_t *from, uint32_t n)
{
    uint32_t in = tx_in;
    uint32_t taken = 0;
    while (taken < n && in - tx_out < UART_TX_ROOM) {
        tx_ring[in++ % UART_TX_ROOM] = from[taken++];
    }
    tx_in = in;
    uint32_t mask = irq_save();
    send_one();
    irq_restore(mask);
    return taken;
}
