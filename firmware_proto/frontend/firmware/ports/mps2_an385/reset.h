/* Notes to the next boot, in memory that a reset leaves alone. */
#ifndef TG_MPS2_RESET_H
#define TG_MPS2_RESET_H

#include <stdint.h>

#define RESET_NOTE_NONE 0u
#define RESET_NOTE_WATCHDOG 1u
#define RESET_NOTE_SOFTWARE 2u

void reset_note(uint32_t note);

#endif
