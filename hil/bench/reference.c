/*
 * The reference guard of the benches `reaction` and `wire`: what a guard in C needs from a reading's last byte to the
 * cut's first byte, and nothing else. It polls, reads, finds the end of the line, parses the current, compares it with
 * a threshold and writes the cut, the same bytes as tipguard's; otherwise it asks for the next reading.
 *
 * It keeps no state, no record and no second opinion, and proves nothing: it is a yardstick, not a guard.
 *
 *     reference PORT THRESHOLD_A FIFO_PRIORITY DELAY_NS
 *
 * FIFO_PRIORITY 0: ordinary scheduling. DELAY_NS: busy time before each cut, 0 but in the test that sees a slow guard.
 * Prints one line "ready fifo=0|1 mlock=0|1" when it serves; ends with its parent, or when the line hangs up.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

static const char CUT[] = ":SOUR:VOLT 0\n";
static const char ASK[] = ":READ?\n";

static long long now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static void send_all(int fd, const char *data, size_t length)
{
    if (write(fd, data, length) != (ssize_t)length) {
        perror("reference: write");
        exit(1);
    }
}

/* A reading is VOLT,CURR,STAT: level, current, status word. Whatever is none is as good a reason to cut. */
static int over(const char *line, double threshold_a)
{
    const char *comma = strchr(line, ',');
    char *end;
    double current_a;
    if (comma == NULL)
        return 1;
    current_a = strtod(comma + 1, &end);
    return end == comma + 1 || *end != ',' || !(fabs(current_a) < threshold_a);
}

int main(int argc, char **argv)
{
    char line[512];
    size_t held = 0;
    struct termios raw;
    struct sched_param priority;
    int fd, fifo = 0, locked;
    double threshold_a;
    long long delay_ns;

    if (argc != 5) {
        fprintf(stderr, "usage: reference PORT THRESHOLD_A FIFO_PRIORITY DELAY_NS\n");
        return 2;
    }
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    threshold_a = strtod(argv[2], NULL);
    delay_ns = strtoll(argv[4], NULL, 10);
    fd = open(argv[1], O_RDWR | O_NOCTTY | O_NONBLOCK);
    if (fd < 0 || tcgetattr(fd, &raw) != 0) {
        perror(argv[1]);
        return 1;
    }
    cfmakeraw(&raw);
    tcsetattr(fd, TCSANOW, &raw);
    priority.sched_priority = atoi(argv[3]);
    if (priority.sched_priority > 0)
        fifo = sched_setscheduler(0, SCHED_FIFO | SCHED_RESET_ON_FORK, &priority) == 0;
    locked = priority.sched_priority > 0 && mlockall(MCL_CURRENT | MCL_FUTURE) == 0;
    printf("ready fifo=%d mlock=%d\n", fifo, locked);
    fflush(stdout);
    send_all(fd, ASK, sizeof ASK - 1);
    for (;;) {
        struct pollfd waited = {fd, POLLIN, 0};
        ssize_t got;
        char *end;
        if (poll(&waited, 1, -1) < 0 && errno != EINTR)
            return 1;
        got = read(fd, line + held, sizeof line - 1 - held);
        if (got < 0 && (errno == EAGAIN || errno == EINTR))
            continue;
        if (got <= 0)
            return 0;
        held += (size_t)got;
        line[held] = '\0';
        while ((end = strpbrk(line, "\r\n")) != NULL) {
            *end = '\0';
            if (end != line) {
                if (over(line, threshold_a)) {
                    if (delay_ns > 0) {
                        long long until_ns = now_ns() + delay_ns;
                        while (now_ns() < until_ns)
                            ;
                    }
                    send_all(fd, CUT, sizeof CUT - 1);
                }
                send_all(fd, ASK, sizeof ASK - 1);
            }
            held -= (size_t)(end + 1 - line);
            memmove(line, end + 1, held + 1);
        }
        if (held == sizeof line - 1)
            held = 0;
    }
}
