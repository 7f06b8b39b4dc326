/* What this host is willing to do for a client. Each rule is asked at one place of the dialogue and answers with
 * the reply that refuses, or NULL. Further rules (recipient tables, rates, authentication) have their places here. */
#ifndef INBOUND_POLICY_H
#define INBOUND_POLICY_H

#include "inbound/peer.h"
#include "inbound/profile.h"
#include "smtp/reply.h"
#include "spool/spool.h"

/* What is known about a client once it is connected. */
struct policy_client {
    bool may_relay; /* from a configured network: may send to anywhere */
};

struct policy_client policy_connect(const struct profile *profile, const struct peer *peer);

/* MAIL: can this host take a message at all now? */
const struct reply *policy_mail(const struct inbound *inbound);

/* RCPT: may this client send to this recipient? Only <Postmaster> is ours (RFC 5321 4.5.1), everything else is
 * relayed. */
const struct reply *policy_recipient(const struct policy_client *client, const struct address *recipient);

/* The reply for a message that could not be stored. */
const struct reply *policy_storage_reply(enum err err);

#endif
