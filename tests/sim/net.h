/* The simulated network: connections between the server's descriptors and peers that the world plays.
 *
 * Bytes arrive late, in pieces of any size; connections break at any time. Whoever plays a peer gives a table of
 * functions; they are called from events only, never from inside a net_ call.
 */
#ifndef SIM_NET_H
#define SIM_NET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "sim/request.h"

#define NET_DESCRIPTORS 1000000 /* the first of ours; real ones are below */

struct party;

struct party_ops {
    void (*connected)(struct party *peer); /* the server has accepted, or its connect has succeeded */
    void (*data)(struct party *peer, const char *data, size_t length);
    void (*ended)(struct party *peer, bool reset); /* the server closed or vanished; nothing comes after it */
};

struct socket;

struct party {
    const struct party_ops *ops;
    struct socket *socket; /* NULL: not connected, or over */
    struct socket *last;   /* also when it is over */
    uint32_t ipv4;         /* host order: where the peer is */
    uint64_t latency_ns;   /* of the way to it */
    unsigned bytes_max;    /* that arrive in one piece; 0: any number */
    unsigned reads_max;    /* that it reads at once, and that wait for it in the network; 0: any number */
    bool deaf;             /* it reads nothing */
};

/* A client connects to the server's listeners at that port. False: nobody listens. */
bool net_connect(struct party *peer, unsigned port);
void net_send(struct party *peer, const void *data, size_t length);
void net_close(struct party *peer); /* when all that was sent has arrived */
void net_reset(struct party *peer); /* at once; what is on its way is lost */
/* How many bytes this peer has sent on its connection; how many of them the server's program has been given; and will
 * it never be given more? Also when the connection is over. */
uint64_t net_sent(const struct party *peer);
uint64_t net_taken(const struct party *peer);
bool net_over(const struct party *peer);

/* What happens to a connect of the server's: a peer, or -errno in *ret_error (0: nothing, for ever). Called by net.c;
 * defined by whoever plays the remote hosts. */
struct party *net_remote(uint32_t ipv4, unsigned port, int *ret_error);

/* For the ring. */
void net_submit(struct request *request);
void net_cancel(struct request *request);

/* The server is gone, its connections with it. */
void net_cut(void);
/* Descriptors of the server's that are open. */
unsigned net_open(void);

#endif
