/* One listening socket of one shard. Every inbound shard has its own socket for each configured address
 * (SO_REUSEPORT), so that the kernel deals connections out and no shard accepts for another; admission corrects an
 * uneven deal. */
#ifndef INBOUND_LISTENER_H
#define INBOUND_LISTENER_H

#include "inbound/inbound.h"
#include "inbound/peer.h"
#include "inbound/profile.h"

#define LISTENER_BACKLOG 4096                  /* the kernel's net.core.somaxconn bounds it too */
#define LISTENER_SEND_BUFFER_BYTES (32 * 1024) /* of a connection, in the kernel: enough for replies */
#define LISTENER_PAUSE_MS 100                  /* without descriptors or memory, before the next try to accept */
#define LISTENER_LOG_MS 10000                  /* at most one line about that in so long */

struct listener {
    struct inbound *inbound;
    struct profile *profile; /* for the connections to come */
    unsigned index;
    int fd; /* -1: closed */
    struct op accept;
    struct timer pause;
    uint64_t logged_ms;
};

/* An accepted connection on its way to a session, perhaps by mail to another shard. */
struct listener_connection {
    int fd;
    unsigned listener;
    struct peer peer;
    struct admission_ticket ticket;
};

/* Binds and listens; a unix socket only on the first shard, elsewhere the listener is closed from the start. Takes the
 * profile over. 0, or -errno with nothing to close. */
int listener_open(struct listener *listener, struct inbound *inbound, unsigned index, struct profile *profile,
                  const struct inbound_listener_settings *settings);

/* Starts to accept. */
void listener_start(struct listener *listener);

/* Stops accepting; the socket is closed, and listener_closed true, when the accept has ended. Harmless when closed. */
void listener_close(struct listener *listener);
bool listener_closed(const struct listener *listener);

/* The port it is bound to, for port 0. */
unsigned listener_port(const struct listener *listener);

#endif
