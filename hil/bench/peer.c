/*
 * The measuring end of the benches `reaction` and `wire`, loaded into Python by ctypes so that no Python is in what is
 * measured. One call is one trial, the same for both sides: wait, send the reading, wait for the answer's first line.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

struct outcome {
    long long sent_ns;  /* just before the write of the reading's last byte */
    long long first_ns; /* the answer's first byte was there */
    long long line_ns;  /* the end of its first line was there */
    long long heard;    /* bytes of the answer so far, in `answer` */
};

enum { DONE = 0, SILENT = 1, FAILED = 2 };

static long long now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static void sleep_until(long long t_ns)
{
    struct timespec t = {t_ns / 1000000000LL, t_ns % 1000000000LL};
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL) == EINTR)
        ;
}

/*
 * Wait `gap_ns`; write the `length` bytes of `reading` to `fd`, at once if `byte_ns` is 0, else one every `byte_ns`, as
 * a line does; then wait up to `patience_ms` for the end of one line and leave what came in `answer` (`room` bytes).
 */
int trial(int fd, const char *reading, int length, long long gap_ns, long long byte_ns, int patience_ms, char *answer,
          int room, struct outcome *out)
{
    struct pollfd waited = {fd, POLLIN, 0};
    long long begin_ns = now_ns() + gap_ns;
    int at;

    memset(out, 0, sizeof *out);
    if (gap_ns > 0)
        sleep_until(begin_ns);
    if (byte_ns > 0) {
        for (at = 0; at < length; at++) {
            /* A byte is there when its stop bit has passed. */
            sleep_until(begin_ns + (at + 1) * byte_ns);
            out->sent_ns = now_ns();
            if (write(fd, reading + at, 1) != 1)
                return FAILED;
        }
    } else {
        out->sent_ns = now_ns();
        if (write(fd, reading, (size_t)length) != length)
            return FAILED;
    }
    for (;;) {
        ssize_t got;
        int ready = poll(&waited, 1, patience_ms);
        if (ready == 0)
            return SILENT;
        if (ready < 0) {
            if (errno == EINTR)
                continue;
            return FAILED;
        }
        got = read(fd, answer + out->heard, (size_t)(room - out->heard));
        if (got < 0 && (errno == EAGAIN || errno == EINTR))
            continue;
        if (got <= 0)
            return FAILED;
        if (out->heard == 0)
            out->first_ns = now_ns();
        out->heard += got;
        if (memchr(answer, '\n', (size_t)out->heard) != NULL) {
            out->line_ns = now_ns();
            return DONE;
        }
        if (out->heard == room)
            return FAILED;
    }
}
