/* The firmware as a program in real time: sleeps at most a millisecond, then takes every sample that is due. */
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#include "host.h"
#include "tg_port.h"

#ifndef TG_BUILD_ID
#define TG_BUILD_ID 0u
#endif
#define SLEEP_NS 1000000u
#define SAMPLES_PER_TURN 64u /* then the line has its turn */
#define LATE_NS 2000000u     /* two sleeps */
#define NONCE_STEP 2654435761u

static volatile sig_atomic_t told_to_end;
static volatile sig_atomic_t told_to_reset;

static void end(int signal)
{
    (void)signal;
    told_to_end = 1;
}

static void reset(int signal)
{
    (void)signal;
    told_to_reset = 1;
}

static void on(int signal, void (*handler)(int))
{
    struct sigaction action = {.sa_handler = handler};
    sigaction(signal, &action, NULL);
}

static void wait_for_line(const host_port *port, const sigset_t *unblocked)
{
    const tg_core *core = &port->core;
    uint64_t now = tg_port_ticks(NULL);
    uint64_t until = now + SLEEP_NS;
    /* The end of a lease is no time to sleep through. */
    if (core->state == TG_STATE_ARMED && core->lease_deadline < until) {
        until = core->lease_deadline;
    }
    struct timespec wait = {.tv_nsec = until > now ? (long)(until - now) : 0};
    struct pollfd line = {.fd = port->fd, .events = POLLIN};
    ppoll(&line, 1, &wait, unblocked);
}

static void boot(host_port *port, uint8_t cause)
{
    port->board.reset_cause = cause;
    tg_core_init(&port->core, &port->board, port);
}

static void run(host_port *port, const sigset_t *unblocked)
{
    uint8_t bytes[512];
    while (!told_to_end) {
        uint32_t taken;
        do {
            taken = tg_core_sample(&port->core, SAMPLES_PER_TURN);
            tg_core_receive(&port->core, bytes, host_line_read(port, bytes, sizeof bytes));
            tg_core_poll(&port->core);
        } while (taken == SAMPLES_PER_TURN && !told_to_end);
        wait_for_line(port, unblocked);
        if (told_to_reset) {
            told_to_reset = 0;
            port->board.boot_nonce = port->board.boot_nonce * NONCE_STEP + 1u;
            boot(port, TG_RESET_CAUSE_PIN);
        }
    }
}

static uint32_t random_nonce(void)
{
    uint32_t nonce = 0;
    return getrandom(&nonce, sizeof nonce, 0) == (ssize_t)sizeof nonce && nonce ? nonce : (uint32_t)getpid();
}

int main(int argc, char **argv)
{
    static host_port port;
    host_options options;
    sigset_t blocked, unblocked;

    if (!host_options_read(&options, argc, argv)) {
        return 2;
    }
    sigemptyset(&blocked);
    sigaddset(&blocked, SIGTERM);
    sigaddset(&blocked, SIGINT);
    sigaddset(&blocked, SIGUSR1);
    sigprocmask(SIG_BLOCK, &blocked, &unblocked);
    on(SIGTERM, end);
    on(SIGINT, end);
    on(SIGUSR1, reset);
    on(SIGPIPE, SIG_IGN);
    if (!host_bench_open(&port, options.bench) || !host_line_open(&port, &options)) {
        return 2;
    }
    prctl(PR_SET_TIMERSLACK, 1UL);
    struct sched_param priority = {.sched_priority = 1};
    bool realtime = options.realtime && !sched_setscheduler(0, SCHED_FIFO, &priority);
    bool locked = !mlockall(MCL_CURRENT | MCL_FUTURE);

    port.board = (tg_board){
        .name = "host",
        .build_id = TG_BUILD_ID,
        .boot_nonce = options.boot_nonce ? options.boot_nonce : random_nonce(),
        .tick_hz = 1000000000u,
        .sample_hz = options.sample_hz,
        .code_pa = 40000,
        .full_scale_code = 32767,
        .credit_window = 256,
        .switch_open_ns = 300,
        .late_ticks = LATE_NS,
        .max_late_ticks = options.max_late_ms * 1000000u,
    };
    boot(&port, TG_RESET_CAUSE_POWER);
    printf("{\"ready\": true, \"link\": \"%s\", \"pid\": %ld, \"board\": \"host\", \"sample_hz\": %u, "
           "\"boot_nonce\": %u, \"realtime\": %s, \"locked\": %s}\n",
           options.link ? options.link : "", (long)getpid(), (unsigned)options.sample_hz,
           (unsigned)port.board.boot_nonce, realtime ? "true" : "false", locked ? "true" : "false");
    fflush(stdout);
    run(&port, &unblocked);
    tg_port_switch(&port, false);
    host_line_close(&options);
    return 0;
}
