/* How the load tools' octets travel: as they are. bench/wire_tls.h is the same with TLS; a tool includes this file
 * unless that one stood before it. */
#ifndef BENCH_WIRE_H
#define BENCH_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <unistd.h>

#define WIRE_OPTIONS

struct wire {
    int fd;
};

/* False: not an option of the wire. */
static inline bool wire_option(int letter, const char *argument)
{
    (void)letter;
    (void)argument;
    return false;
}

/* Once, after the options. */
static inline void wire_begin(bool server)
{
    (void)server;
}

/* A connection is there. */
static inline void wire_open(struct wire *wire, int fd)
{
    wire->fd = fd;
}

/* STARTTLS is to be said or offered on it; and: it was agreed upon. */
static inline bool wire_upgrades(const struct wire *wire)
{
    (void)wire;
    return false;
}

static inline void wire_secure(struct wire *wire)
{
    (void)wire;
}

/* As send and recv: -1 with EAGAIN when it does not go on now. */
static inline ssize_t wire_send(struct wire *wire, const void *data, size_t length)
{
    return send(wire->fd, data, length, MSG_NOSIGNAL);
}

static inline ssize_t wire_receive(struct wire *wire, void *data, size_t size)
{
    return recv(wire->fd, data, size, 0);
}

/* There may be more to receive that the socket does not announce. */
static inline bool wire_more(const struct wire *wire)
{
    (void)wire;
    return false;
}

/* wire_send gave up for want of input, not of room. */
static inline bool wire_wants_input(const struct wire *wire)
{
    (void)wire;
    return false;
}

static inline void wire_close(struct wire *wire)
{
    close(wire->fd);
}

#endif
