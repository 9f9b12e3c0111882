/* What the harness puts into the PSRAM for the player, and finds there afterwards (tests/hil/frontend_qemu/played.py). */
#ifndef TG_PLAYER_H
#define TG_PLAYER_H

#include <stdint.h>

#include "tg_schema.h"

#define PLAYER_SCRIPT_AT 0x100000u  /* u32: how many; u32: bytes of stack used (out); then at +16 the entries */
#define PLAYER_RESULTS_AT 0x200000u /* one for each entry */
#define PLAYER_WAVES_AT 0x300000u

typedef struct {
    uint32_t wave_at; /* bytes from the beginning of the PSRAM */
    uint32_t wave_n;  /* samples */
    uint32_t lease_ticks; /* 0: renewed all the time; else one lease of this length, and no more */
    uint32_t phase_ticks; /* so long after a sample was due the lease begins */
    uint8_t config[TG_CONFIG_SIZE];
    uint8_t reserved[2];
} player_entry;

typedef struct {
    uint32_t done;
    uint32_t reason;
    uint64_t from; /* the first sample that was judged: wave[0] */
    uint64_t trip_index;
    uint64_t trip_ticks;
    uint64_t open_index; /* what the pin did, not what the report says */
    uint64_t open_ticks;
    uint64_t deadline_ticks;
    uint32_t late_samples;
    uint32_t overruns;
} player_result;

/* Exit codes beside 0 */
#define PLAYER_STUCK 3u   /* no progress for 0.3 s of virtual time */
#define PLAYER_REFUSED 4u /* the firmware refused something */
#define PLAYER_BROKEN 5u  /* a frame of the firmware did not decode */

#endif
