/* What a client has used up: rates and memory, asked at each step of the dialogue. Each function answers with the reply
 * that refuses, or NULL. */
#ifndef INBOUND_THROTTLE_H
#define INBOUND_THROTTLE_H

#include "inbound/peer.h"
#include "inbound/profile.h"
#include "smtp/reply.h"

struct throttle_client {
    const struct peer *peer; /* NULL: of a unix socket */
    struct bytes account;    /* of AUTH, or "" */
    unsigned listener;       /* its index */
};

/* A connection, before anything is said to it: 421. */
const struct reply *throttle_connection(const struct inbound *inbound, const struct profile *profile,
                                        const struct throttle_client *client);
/* MAIL: one more message, if the bytes of those before are paid for and there is memory; 450, 452. */
const struct reply *throttle_message(const struct inbound *inbound, const struct profile *profile,
                                     const struct throttle_client *client);
/* RCPT: 450. */
const struct reply *throttle_recipient(const struct inbound *inbound, const struct profile *profile,
                                       const struct throttle_client *client);

/* What a message had, known at its end, whether it was accepted or not. */
void throttle_bytes(const struct inbound *inbound, const struct profile *profile, const struct throttle_client *client,
                    uint64_t bytes);
/* A command was refused with 5yz. A 421 when that was one too many: to be said instead of going on. */
const struct reply *throttle_error(const struct inbound *inbound, const struct profile *profile,
                                   const struct throttle_client *client);

#endif
