/* What a board implements: these eight functions, a tg_board for tg_core_init, and a main loop (docs/firmware.md).

   `port` is what was given to tg_core_init: NULL on a board that is alone in the world, an instance in a test bench.
   All of them return at once; none may wait. */
#ifndef TG_PORT_H
#define TG_PORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A free-running counter of tg_board.tick_hz, 64 bits, since any moment before tg_core_init. Never counted interrupts:
   they get lost. Called from the sample interrupt and from the main loop. */
uint64_t tg_port_ticks(void *port);

/* Sample `index`, due at `due_ticks`: the converter's code (signed, see tg_board.code_pa), true; false: the converter
   does not answer, which opens the switch. From the sample interrupt only. */
bool tg_port_convert(void *port, uint64_t index, uint64_t due_ticks, int16_t *code);

/* The switch in series with the tip. Open must also be what the pin does by itself in reset, without power and when the
   image never starts: a resistor on the board, not a line of code. */
void tg_port_switch(void *port, bool closed);

/* Whether the path really is closed, told by another pin than the one that drives the switch. */
bool tg_port_switch_sense(void *port);

/* Takes up to n bytes for the line, returns how many. What is taken is sent before anything more urgent, so a queue
   behind this should be short: 64 bytes are plenty. From the main loop only. */
size_t tg_port_send(void *port, const uint8_t *bytes, size_t n);

/* Holds off the hardware watchdog. Called from the main loop, and only while samples are taken. */
void tg_port_watchdog_kick(void *port);

/* Keeps the sample interrupt out for a few microseconds, and lets it in again as it was before. From the main loop
   only. Where samples and main loop are one thread, both do nothing. */
uint32_t tg_port_lock(void *port);
void tg_port_unlock(void *port, uint32_t key);

#endif
