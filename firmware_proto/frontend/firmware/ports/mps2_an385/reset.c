/* What reset it was, and a nonce for this boot.

   A chip with a reset status register reads it here; this board's is not modelled by QEMU. Memory that the start-up
   does not touch tells the same: without our mark it was power, with a note it was whoever left it, else the pin. */
#include "reset.h"

#include "board.h"
#include "port.h"
#include "tg_schema.h"

#define MARK 0x54475231u

/* Both words must be right: memory at power-up holds anything. */
static struct {
    uint32_t mark;
    uint32_t mark_inverse;
    uint32_t note;
    uint32_t boots;
} kept __attribute__((section(".noinit")));

static uint8_t cause;

void port_boot(void)
{
    if (kept.mark != MARK || kept.mark_inverse != ~MARK) {
        kept.mark = MARK;
        kept.mark_inverse = ~MARK;
        kept.boots = 0;
        cause = TG_RESET_CAUSE_POWER;
    } else if (kept.note == RESET_NOTE_WATCHDOG) {
        cause = TG_RESET_CAUSE_WATCHDOG;
    } else if (kept.note == RESET_NOTE_SOFTWARE) {
        cause = TG_RESET_CAUSE_SOFTWARE;
    } else {
        cause = TG_RESET_CAUSE_PIN;
    }
    kept.note = RESET_NOTE_NONE;
    kept.boots++;
}

uint8_t reset_cause(void)
{
    return cause;
}

/* A bijection of (seed, boots): two boots with one seed never share a nonce. The seed comes from the harness, where a
   real board has a source of entropy. */
uint32_t reset_nonce(void)
{
    uint32_t x = BOARD_SEED + kept.boots * 0x9E3779B9u;
    x ^= x >> 16;
    x *= 0x85EBCA6Bu;
    x ^= x >> 13;
    x *= 0xC2B2AE35u;
    x ^= x >> 16;
    return x;
}

void reset_note(uint32_t note)
{
    kept.note = note;
}

void reset_software(void)
{
    port_switch_release();
    reset_note(RESET_NOTE_SOFTWARE);
    SCB_AIRCR = SCB_AIRCR_RESET;
    for (;;) {
    }
}
