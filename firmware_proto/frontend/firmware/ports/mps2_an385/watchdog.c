/* The watchdog of the board. Its first time-out is an NMI, which opens the switch whatever else hangs; with its second
   it resets the chip, whose pins are then what their pull resistors say. */
#include "board.h"
#include "port.h"
#include "reset.h"

void watchdog_start(void)
{
    WATCHDOG_LOCK = WATCHDOG_UNLOCK;
    WATCHDOG_LOAD = BOARD_CLOCK_HZ / 1000u * PORT_WATCHDOG_MS;
    WATCHDOG_CONTROL = WATCHDOG_CONTROL_INTEN | WATCHDOG_CONTROL_RESEN;
    WATCHDOG_LOCK = 0;
}

void watchdog_kick(void)
{
    WATCHDOG_LOCK = WATCHDOG_UNLOCK;
    WATCHDOG_INTCLR = 1; /* reloads, too */
    WATCHDOG_LOCK = 0;
}

void port_watchdog_nmi(void)
{
    port_switch_release();
    reset_note(RESET_NOTE_WATCHDOG);
    for (;;) { /* what hung does not come back: the reset is on its way */
    }
}
