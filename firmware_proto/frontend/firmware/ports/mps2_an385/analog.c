/* Converter and switch: the emulated analog side, in memory that the harness maps, too. */
#include "bench_side.h"
#include "board.h"
#include "port.h"
#include "tg_port.h"

#define BENCH ((volatile tg_bench *)PSRAM_BASE)

static bench_side side;
static bool closed;

/* What a pull resistor does to the pin of a chip in reset; the memory of a bench has none. */
void port_switch_release(void)
{
    BENCH->switch_pin = 0;
    BENCH->switch_sense = BENCH->stuck;
}

void analog_start(void)
{
    closed = false;
    bench_side_start(&side, BENCH);
    BENCH->opens = 0;
}

bool tg_port_convert(void *port, uint64_t index, uint64_t due_ticks, int16_t *code)
{
    (void)port;
    bool answered = bench_side_convert(&side, index, due_ticks, closed || BENCH->stuck, code);
    BENCH->ticks = due_ticks;
    BENCH->sample_index = index + 1u;
    return answered;
}

void tg_port_switch(void *port, bool close)
{
    (void)port;
    BENCH->switch_pin = close;
    BENCH->switch_sense = close || BENCH->stuck;
    if (closed && !close) {
        BENCH->open_index = port_sample_index();
        BENCH->open_ticks = clock_ticks();
        BENCH->opens++; /* last: who reads the same number before and after has read a whole opening */
    }
    closed = close;
}

bool tg_port_switch_sense(void *port)
{
    (void)port;
    bool conducts = closed || BENCH->stuck;
    BENCH->switch_sense = conducts;
    return conducts;
}
