/* Converter, switch and clock of this port: the schema's bench memory in a file, and CLOCK_MONOTONIC. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "host.h"
#include "tg_port.h"

bool host_bench_open(host_port *port, const char *path)
{
    struct stat found;
    void *memory = MAP_FAILED;
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd >= 0 && !fstat(fd, &found) && (found.st_size >= (off_t)TG_BENCH_SIZE || !ftruncate(fd, TG_BENCH_SIZE))) {
        memory = mmap(NULL, TG_BENCH_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    }
    if (memory == MAP_FAILED) {
        fprintf(stderr, "tg-frontend: bench memory %s: %s\n", path, strerror(errno));
        return false;
    }
    close(fd);
    port->bench = memory;
    if (port->bench->magic == TG_BENCH_MAGIC && port->bench->version != TG_BENCH_VERSION) {
        fprintf(stderr, "tg-frontend: bench memory %s: of version %u, expected %u\n", path,
                (unsigned)port->bench->version, TG_BENCH_VERSION);
        return false;
    }
    port->bench->version = TG_BENCH_VERSION;
    port->bench->magic = TG_BENCH_MAGIC;
    port->bench->opens = 0;
    bench_side_start(&port->side, port->bench);
    return true;
}

uint64_t tg_port_ticks(void *port)
{
    struct timespec now;
    (void)port;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static bool conducts(const host_port *port)
{
    return port->pin || port->bench->stuck;
}

bool tg_port_convert(void *at, uint64_t index, uint64_t due_ticks, int16_t *code)
{
    host_port *port = at;
    bool answered = bench_side_convert(&port->side, index, due_ticks, conducts(port), code);
    port->bench->ticks = due_ticks;
    port->bench->sample_index = index + 1u;
    return answered;
}

void tg_port_switch(void *at, bool closed)
{
    host_port *port = at;
    bool opened = port->pin && !closed;
    port->pin = closed;
    port->bench->switch_pin = closed;
    port->bench->switch_sense = conducts(port);
    if (opened) {
        port->bench->open_index = port->core.index;
        port->bench->open_ticks = tg_port_ticks(port);
        port->bench->opens++; /* last: who reads the same number before and after has read a whole opening */
    }
}

bool tg_port_switch_sense(void *at)
{
    host_port *port = at;
    bool closed = conducts(port);
    port->bench->switch_sense = closed;
    return closed;
}

/* A process has no hardware watchdog; the ports lockstep and mps2_an385 have one. */
void tg_port_watchdog_kick(void *port)
{
    (void)port;
}

/* Samples and main loop are one thread. */
uint32_t tg_port_lock(void *port)
{
    (void)port;
    return 0;
}

void tg_port_unlock(void *port, uint32_t key)
{
    (void)port;
    (void)key;
}
