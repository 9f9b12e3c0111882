/* Time: one half of the dual timer, free-running at 25 MHz, carried on to 64 bits.

   Never counted interrupts: QEMU in real time, and any board under load, loses some. The carry needs a look at least
   once in 2^32 ticks (171 s); the sample interrupt looks each period. Ticks begin shortly before 2^32, so that the
   carry happens 2.6 ms after every boot and not in somebody's third minute. */
#include "board.h"
#include "port.h"

#define TICKS_BEFORE_CARRY 0x10000u

static uint32_t high;
static uint32_t last;

void clock_start(void)
{
    DUALTIMER_CONTROL = 0;
    DUALTIMER_LOAD = TICKS_BEFORE_CARRY;
    DUALTIMER_CONTROL = DUALTIMER_CONTROL_32BIT | DUALTIMER_CONTROL_ENABLE;
    high = 0;
    last = ~TICKS_BEFORE_CARRY;
}

uint64_t clock_ticks(void)
{
    uint32_t mask = irq_save();
    uint32_t low = ~DUALTIMER_VALUE;
    if (low < last) {
        high++;
    }
    last = low;
    uint64_t now = ((uint64_t)high << 32) | low;
    irq_restore(mask);
    return now;
}
