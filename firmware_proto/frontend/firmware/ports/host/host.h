/* What the parts of this port are to each other: the firmware as a program on a POSIX host. */
#ifndef TG_HOST_H
#define TG_HOST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bench_side.h"
#include "tg_core.h"

typedef struct {
    const char *link;  /* where the pseudo-terminal appears, or NULL */
    const char *bench; /* the file of the bench memory */
    int fd;            /* a line that somebody opened for us, or -1 */
    uint32_t sample_hz;
    uint32_t boot_nonce; /* 0: draw one */
    uint32_t max_late_ms;
    bool realtime;
} host_options;

typedef struct {
    tg_core core;
    tg_board board;
    bench_side side;
    volatile tg_bench *bench;
    bool pin;
    int fd;      /* -1: nobody listens any more */
    int held_fd; /* our own end of the pseudo-terminal, so that it survives its clients; -1: none */
} host_port;

/* options.c; false: something is wrong, and stderr says what. */
bool host_options_read(host_options *options, int argc, char **argv);

/* analog.c */
bool host_bench_open(host_port *port, const char *path);

/* line.c */
bool host_line_open(host_port *port, const host_options *options);
void host_line_close(const host_options *options);
size_t host_line_read(host_port *port, uint8_t *to, size_t room);

#endif
