#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "host.h"

#ifndef TG_SAMPLE_HZ
#define TG_SAMPLE_HZ 100000u
#endif
#define TICK_HZ 1000000000u

static bool number(const char *text, unsigned long most, uint32_t *to)
{
    char *end;
    errno = 0;
    unsigned long value = strtoul(text, &end, 0);
    if (errno || end == text || *end || value > most) {
        fprintf(stderr, "tg-frontend: %s: expected a number up to %lu\n", text, most);
        return false;
    }
    *to = (uint32_t)value;
    return true;
}

bool host_options_read(host_options *options, int argc, char **argv)
{
    uint32_t fd = UINT32_MAX;
    bool good = true;
    *options = (host_options){.fd = -1, .sample_hz = TG_SAMPLE_HZ, .max_late_ms = TG_MAX_LATE_US / 1000u};
    for (int i = 1; i < argc && good; i++) {
        const char *name = argv[i];
        if (!strcmp(name, "--realtime")) {
            options->realtime = true;
            continue;
        }
        const char *value = i + 1 < argc ? argv[++i] : "";
        if (!strcmp(name, "--link")) {
            options->link = value;
        } else if (!strcmp(name, "--bench")) {
            options->bench = value;
        } else if (!strcmp(name, "--fd")) {
            good = number(value, 65535, &fd);
            options->fd = (int)fd;
        } else if (!strcmp(name, "--sample-hz")) {
            good = number(value, 1000000, &options->sample_hz);
        } else if (!strcmp(name, "--boot-nonce")) {
            good = number(value, UINT32_MAX, &options->boot_nonce);
        } else if (!strcmp(name, "--max-late-ms")) {
            good = number(value, 4000, &options->max_late_ms);
        } else {
            fprintf(stderr, "tg-frontend: %s: no such option\n", name);
            good = false;
        }
    }
    if (good && (!options->bench || (options->link != NULL) == (options->fd >= 0))) {
        fprintf(stderr, "usage: tg-frontend (--link PATH | --fd N) --bench FILE [--sample-hz N] [--boot-nonce N] "
                        "[--max-late-ms N] [--realtime]\n");
        good = false;
    }
    if (good && (options->sample_hz < 1000u || TICK_HZ % options->sample_hz)) {
        fprintf(stderr, "tg-frontend: --sample-hz %u: expected a divisor of 1e9 from 1000 to 1000000\n",
                (unsigned)options->sample_hz);
        good = false;
    }
    return good;
}
