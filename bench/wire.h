/* What the load tools say and hear on a connection: as it is. bench/wire_tls.h is the same with TLS; a tool includes
 * this file unless that one stood before it. A wire begins with its link. */
#ifndef BENCH_WIRE_H
#define BENCH_WIRE_H

#include "link.h"

#define WIRE_OPTIONS

struct wire {
    struct link link;
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
    link_begin();
}

/* A connection is there. */
static inline void wire_open(struct wire *wire, int fd)
{
    link_open(&wire->link, fd);
}

/* STARTTLS is to be said or offered on it; and: it was agreed upon, and its agreement said. */
static inline bool wire_upgrades(const struct wire *wire)
{
    (void)wire;
    return false;
}

static inline void wire_secure(struct wire *wire)
{
    (void)wire;
}

static inline void wire_say(struct wire *wire, const void *data, size_t length)
{
    link_say(&wire->link, data, length);
}

/* What was said goes out with the next link_wait; inside TLS as one piece. */
static inline void wire_flush(struct wire *wire)
{
    (void)wire;
}

/* What was heard and not consumed, as far as it lies in one piece; NULL: nothing. */
static inline const char *wire_input(struct wire *wire, size_t *ret_length)
{
    return link_input(&wire->link, ret_length);
}

static inline void wire_consume(struct wire *wire, size_t length)
{
    link_consume(&wire->link, length);
}

/* Nothing more will be heard than wire_input has. */
static inline bool wire_ended(const struct wire *wire)
{
    return wire->link.ended;
}

static inline void wire_close(struct wire *wire)
{
    link_close(&wire->link);
}

/* Before its memory is freed, when links.released says so. */
static inline void wire_free(struct wire *wire)
{
    (void)wire;
}

#endif
