/* The line: a pseudo-terminal of our own, or a descriptor that somebody opened for us. Nothing here waits. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <termios.h>
#include <unistd.h>

#include "host.h"
#include "tg_port.h"

static bool open_pty(host_port *port, const char *link)
{
    struct termios raw;
    struct stat found;
    const char *name = NULL;
    port->fd = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
    if (port->fd < 0 || grantpt(port->fd) || unlockpt(port->fd) || !(name = ptsname(port->fd))) {
        return false;
    }
    port->held_fd = open(name, O_RDWR | O_NOCTTY | O_CLOEXEC);
    if (port->held_fd < 0 || tcgetattr(port->held_fd, &raw)) {
        return false;
    }
    cfmakeraw(&raw);
    if (tcsetattr(port->held_fd, TCSANOW, &raw)) {
        return false;
    }
    /* Only what can be one of ours is replaced. */
    if (!lstat(link, &found) && S_ISLNK(found.st_mode) && unlink(link)) {
        return false;
    }
    return !symlink(name, link);
}

bool host_line_open(host_port *port, const host_options *options)
{
    port->fd = options->fd;
    port->held_fd = -1;
    if (options->link && !open_pty(port, options->link)) {
        fprintf(stderr, "tg-frontend: link %s: %s\n", options->link, strerror(errno));
        return false;
    }
    int flags = fcntl(port->fd, F_GETFL);
    if (flags < 0 || fcntl(port->fd, F_SETFL, flags | O_NONBLOCK) < 0) {
        fprintf(stderr, "tg-frontend: line: %s\n", strerror(errno));
        return false;
    }
    return true;
}

void host_line_close(const host_options *options)
{
    if (options->link) {
        unlink(options->link);
    }
}

/* A line whose other end is gone is a cut cable: nothing comes, what is sent is lost, and the firmware goes on. */
static void lose(host_port *port)
{
    close(port->fd);
    port->fd = -1;
}

size_t host_line_read(host_port *port, uint8_t *to, size_t room)
{
    if (port->fd < 0) {
        return 0;
    }
    ssize_t n = read(port->fd, to, room);
    if (n > 0) {
        return (size_t)n;
    }
    if (!n || (errno != EAGAIN && errno != EINTR)) {
        lose(port);
    }
    return 0;
}

size_t tg_port_send(void *at, const uint8_t *bytes, size_t n)
{
    host_port *port = at;
    if (port->fd < 0) {
        return n;
    }
    ssize_t sent = write(port->fd, bytes, n);
    if (sent >= 0) {
        return (size_t)sent;
    }
    if (errno != EAGAIN && errno != EINTR) {
        lose(port);
    }
    return 0;
}
