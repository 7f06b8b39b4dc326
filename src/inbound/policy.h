/* What this host is willing to do for a client. Each rule is asked at one place of the dialogue and answers with
 * the reply that refuses, or NULL. Further rules (recipient tables, rates, authentication) have their places here. */
#ifndef INBOUND_POLICY_H
#define INBOUND_POLICY_H

#include "inbound/login.h"
#include "inbound/peer.h"
#include "inbound/profile.h"
#include "inbound/recipients.h"
#include "smtp/reply.h"
#include "spool/spool.h"

/* What is known about a client once it is connected, and again once a proxy has told who it really is. */
struct policy_client {
    bool may_relay;     /* from a configured network: may send to anywhere */
    bool may_speak_for; /* XCLIENT */
    bool may_forward;   /* XFORWARD */
};

struct policy_client policy_connect(const struct profile *profile, const struct peer *peer);

/* May a connection from there begin with a PROXY header? */
bool policy_proxy(const struct profile *profile, const struct peer *peer);

/* MAIL: can this host take a message at all now? */
const struct reply *policy_mail(const struct inbound *inbound);

/* MAIL: is the priority taken (RFC 6710 4.1), and so large a message with it? `bytes` is what SIZE says, 0 without. */
const struct reply *policy_priority(const struct inbound *inbound, const struct profile *profile, int priority,
                                    uint64_t bytes);
/* The end of data: RFC 6710 5. */
const struct reply *policy_priority_size(const struct profile *profile, int priority, uint64_t bytes);

/* MAIL on a submission listener, or by somebody who has authenticated: is it one of the account's addresses? */
const struct reply *policy_sender(const struct login_identity *identity, const struct address *sender);

/* RCPT: may this client send to this recipient? Own domains take mail for those who are there, others are relayed for
 * clients from configured networks and for those who have authenticated. With NULL *ret_answer says what the recipient
 * stands for; its targets are valid until the shard's next turn. */
const struct reply *policy_recipient(const struct inbound *inbound, const struct policy_client *client,
                                     bool authenticated, const struct address *recipient,
                                     struct recipients_answer *ret_answer);

/* The reply for a message that could not be stored. */
const struct reply *policy_storage_reply(enum err err);

#endif
