/* The golden vectors on the Cortex-M3: encoder and decoder, exit code 0 or how many failed. Startup and memory are the
   product's; there is no clock, no line and no interrupt. */
#include "port.h"
#include "semihost.h"
#include "tg_golden.h"

const char tg_proof_image = 1;

void port_boot(void)
{
}

void port_switch_release(void)
{
}

void port_watchdog_nmi(void)
{
}

void port_sample_interrupt(void)
{
}

void port_uart_rx_interrupt(void)
{
}

void port_uart_tx_interrupt(void)
{
}

void port_main(void)
{
    int failures = tg_golden();
    if (failures) {
        semihost_write(tg_golden_failed);
        semihost_write("\n");
    }
    semihost_exit(failures > 100 ? 100u : (uint32_t)failures);
}
